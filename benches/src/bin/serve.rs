//! How fast does one loaded language model serve several requests at once?
//!
//! ```text
//! cargo run --release -p bedrock-benches --bin serve -- \
//!     --model smollm2-135m-instruct --prompt-tokens 512 --decode-tokens 128 --concurrency 4
//! ```
//!
//! Prompts are pseudo-random tokens, so nothing is shared between requests but what `--shared-prefix` says. The last line
//! of standard output is a JSON object.
//!
//! - `prefill_tok_s`: prompt tokens a second that were computed, over the time in which some prompt was being computed.
//! - `decode_tok_s_total`: tokens a second of all requests together, over the time in which no prompt was; the limit is
//!   the speed at which the weights can be read from memory, times the number of requests.
//! - `decode_tok_s_per_request`: tokens a second that one request sees from its first token on; the mean.
//! - `ttft_ms_p50`, `ttft_ms_p95`: from sending a request to its first token, waiting included; `ttft_ms_first`: that of the
//!   first request, which finds nothing in the prefix cache.
//! - `cached_tokens`: prompt tokens that were not computed, because another request had computed them.
//! - `longest_gap_steps`: most steps of the engine between two tokens of one answer.
//! - `guessed_tokens`, `accepted_tokens`: with `--lookup` or `--draft`, tokens guessed ahead and those that were right.

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use bedrock_examples::{Failure, ModelArguments, failure, find_model, peak_rss_mib, print_json, run};
use bedrock_models::generate::SamplingParams;
use bedrock_models::{
    Engine, EngineOptions, GenerationEvent, GenerationRequest, LanguageModel, LoadOptions, Speculation,
};
use clap::Parser;
use serde_json::json;

/// Measures how fast a language model serves several requests at once
#[derive(Parser)]
struct Arguments {
    /// Language model: a folder, a .gguf file, or a name of the catalogue
    #[arg(long, value_name = "M")]
    model: String,
    /// Tokens of each prompt
    #[arg(long, value_name = "P")]
    prompt_tokens: usize,
    /// Tokens to generate for each
    #[arg(long, value_name = "D")]
    decode_tokens: usize,
    /// Requests at the same time
    #[arg(long, value_name = "C")]
    concurrency: usize,
    /// Requests in all; default: C
    #[arg(long, value_name = "R")]
    requests: Option<usize>,
    /// First tokens that all prompts have in common
    #[arg(long, value_name = "N", default_value_t = 0)]
    shared_prefix: usize,
    /// Guess up to N tokens ahead from prompt and answer
    #[arg(long, value_name = "N", conflicts_with = "draft")]
    lookup: Option<usize>,
    /// Guess ahead with this smaller model of the same vocabulary
    #[arg(long, value_name = "M")]
    draft: Option<String>,
    /// The most tokens that the smaller model guesses at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    draft_tokens: usize,
    /// Accepted for symmetry: there is always a JSON object
    #[arg(long, hide = true)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(serve)
}

fn serve(arguments: Arguments) -> Result<(), Failure> {
    let requests = arguments.requests.unwrap_or(arguments.concurrency);
    if arguments.concurrency == 0 || requests == 0 || arguments.prompt_tokens == 0 || arguments.decode_tokens == 0 {
        return Err(failure("tokens, requests and concurrency must be at least 1"));
    }
    let options = arguments.models.options();
    let options = LoadOptions {
        engine: EngineOptions {
            batch: arguments.concurrency,
            queue: arguments.concurrency,
            speculation: match (arguments.lookup, &arguments.draft) {
                (Some(tokens), _) => Speculation::Lookup { tokens },
                (None, Some(_)) => Speculation::Draft { tokens: arguments.draft_tokens },
                (None, None) => Speculation::Off,
            },
            ..options.engine
        },
        ..options
    };
    let model = Arc::new(LanguageModel::load(find_model(&arguments.model)?, &options)?);
    let prompts = prompts(&model, &arguments, requests)?;
    let engine = match &arguments.draft {
        None => Engine::start(model, &options.engine)?,
        Some(draft) => {
            let draft = LanguageModel::load(find_model(draft)?, &options)?;
            Engine::start_with_draft(model, Arc::new(draft), &options.engine)?
        }
    };
    // Memory that is touched once is not part of what is measured. Backwards, so that no prompt begins like it.
    run_one(&engine, &prompts[0].iter().rev().take(16).copied().collect::<Vec<_>>(), 2)?;
    let before = engine.metrics();

    let next = AtomicUsize::new(0);
    let start = Barrier::new(arguments.concurrency);
    let runs = std::thread::scope(|scope| {
        let client = || -> Result<Vec<Run>, bedrock_models::Error> {
            start.wait();
            let mut runs = Vec::new();
            while let Some(prompt) = prompts.get(next.fetch_add(1, Ordering::Relaxed)) {
                runs.push(run_one(&engine, prompt, arguments.decode_tokens)?);
            }
            Ok(runs)
        };
        let clients: Vec<_> = (0..arguments.concurrency).map(|_| scope.spawn(client)).collect();
        let results = clients.into_iter().map(|client| client.join().map_err(|_| failure("a client panicked")));
        results.map(|runs| Ok::<_, Failure>(runs??)).collect::<Result<Vec<_>, _>>()
    })?;
    let runs = runs.concat();

    let after = engine.metrics();
    let prefill_tokens = after.prefill_tokens - before.prefill_tokens;
    let prefill = union(runs.iter().map(|run| (run.sent, run.tokens[0])));
    let (decoded, decode_s) = pure_decode(&runs, &prefill);
    let per_request: Vec<f64> = runs.iter().filter_map(Run::decode_rate).collect();
    let mut ttft: Vec<f64> = runs.iter().map(|run| (run.tokens[0] - run.sent).as_secs_f64() * 1e3).collect();
    let first = runs.iter().min_by_key(|run| run.tokens[0]).map(|run| (run.tokens[0] - run.sent).as_secs_f64() * 1e3);
    ttft.sort_by(f64::total_cmp);
    Ok(print_json(&json!({
        "requests": requests,
        "concurrency": arguments.concurrency,
        "prompt_tokens": arguments.prompt_tokens,
        "decode_tokens": arguments.decode_tokens,
        "prefill_tok_s": rate(prefill_tokens as usize, seconds(&prefill)),
        "decode_tok_s_total": rate(decoded, decode_s),
        "decode_tok_s_per_request": per_request.iter().sum::<f64>() / per_request.len().max(1) as f64,
        "ttft_ms_p50": percentile(&ttft, 50),
        "ttft_ms_p95": percentile(&ttft, 95),
        "ttft_ms_first": first,
        "shared_prefix": arguments.shared_prefix,
        "cached_tokens": after.cached_tokens - before.cached_tokens,
        "longest_gap_steps": after.longest_gap,
        "largest_batch": after.largest_batch,
        "guessed_tokens": after.guessed_tokens - before.guessed_tokens,
        "accepted_tokens": after.accepted_tokens - before.accepted_tokens,
        "peak_rss_mib": peak_rss_mib(),
    }))?)
}

/// When a request was sent, and when each of its tokens came: at least one.
#[derive(Clone)]
struct Run {
    sent: Instant,
    tokens: Vec<Instant>,
}

impl Run {
    fn decode_rate(&self) -> Option<f64> {
        let seconds = (*self.tokens.last()? - *self.tokens.first()?).as_secs_f64();
        (self.tokens.len() > 1).then(|| rate(self.tokens.len() - 1, seconds))
    }
}

fn run_one(engine: &Engine, prompt: &[u32], decode_tokens: usize) -> Result<Run, bedrock_models::Error> {
    let sent = Instant::now();
    let generation = engine.generate(GenerationRequest {
        prompt: prompt.to_vec(),
        sampling: SamplingParams::greedy(),
        max_tokens: Some(decode_tokens),
        ignore_end: true,
        ..GenerationRequest::default()
    })?;
    let mut tokens = Vec::with_capacity(decode_tokens);
    for event in generation {
        if let GenerationEvent::Token { .. } = event? {
            tokens.push(Instant::now());
        }
    }
    if tokens.is_empty() {
        return Err(bedrock_models::Error::EngineStopped);
    }
    Ok(Run { sent, tokens })
}

/// Distinct pseudo-random tokens for each request, after those that all have in common.
fn prompts(model: &LanguageModel, arguments: &Arguments, requests: usize) -> Result<Vec<Vec<u32>>, Failure> {
    let (vocabulary, length) = (model.vocab_size(), arguments.prompt_tokens);
    let special: HashSet<u32> = match model.tokenizer() {
        Ok(tokenizer) => (0..vocabulary as u32).filter(|id| tokenizer.is_special(*id)).collect(),
        Err(_) => HashSet::new(),
    };
    let plain: Vec<u32> = (0..vocabulary as u32).filter(|id| !special.contains(id)).collect();
    if length > plain.len() {
        return Err(failure(format!("the vocabulary has only {} tokens for prompts of {length}", plain.len())));
    }
    let mut random = SplitMix64(arguments.models.seed);
    let shared = random.distinct(&plain, arguments.shared_prefix.min(length));
    let prompt = |_| {
        let mut prompt = shared.clone();
        let seen: HashSet<u32> = shared.iter().copied().collect();
        let rest: Vec<u32> = plain.iter().copied().filter(|id| !seen.contains(id)).collect();
        prompt.extend(random.distinct(&rest, length - shared.len()));
        prompt
    };
    Ok((0..requests).map(prompt).collect())
}

/// Steele et al. 2014; good enough to shuffle with.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `count` different items of `from`, which has as many: the beginning of a shuffle.
    fn distinct(&mut self, from: &[u32], count: usize) -> Vec<u32> {
        let mut moved: HashMap<usize, u32> = HashMap::new();
        let mut chosen = Vec::with_capacity(count);
        for place in 0..count {
            let other = place + (self.next() % (from.len() - place) as u64) as usize;
            let at = |index: usize, moved: &HashMap<usize, u32>| moved.get(&index).copied().unwrap_or(from[index]);
            chosen.push(at(other, &moved));
            let here = at(place, &moved);
            moved.insert(other, here);
        }
        chosen
    }
}

/// Overlapping spans of time joined, in order.
fn union(spans: impl Iterator<Item = (Instant, Instant)>) -> Vec<(Instant, Instant)> {
    let mut spans: Vec<_> = spans.collect();
    spans.sort();
    let mut joined: Vec<(Instant, Instant)> = Vec::new();
    for (start, end) in spans {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

fn seconds(spans: &[(Instant, Instant)]) -> f64 {
    spans.iter().map(|(start, end)| (*end - *start).as_secs_f64()).sum()
}

/// Tokens generated while no prompt was being computed, and how long that was.
fn pure_decode(runs: &[Run], prefill: &[(Instant, Instant)]) -> (usize, f64) {
    let in_prefill = |time: &Instant| prefill.iter().any(|(start, end)| start <= time && time <= end);
    let tokens = runs.iter().flat_map(|run| &run.tokens).filter(|time| !in_prefill(time)).count();
    let whole = union(runs.iter().flat_map(|run| Some((run.sent, *run.tokens.last()?))));
    (tokens, seconds(&whole) - seconds(prefill))
}

fn rate(count: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// The value below which `percent` of the sorted values lie, by the nearest rank.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}
