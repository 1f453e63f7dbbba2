//! Laws of the scheduler: remembered prompts change nothing but speed, memory is never lost, nobody starves or waits past a deadline.

mod tiny;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bedrock_core::{ChatModel, ContentBlock, ConverseRequest, ServiceTier, ServiceTierType, TokenUsage};
use bedrock_models::generate::SamplingParams;
use bedrock_models::weights::Dtype;
use bedrock_models::{
    Engine, EngineOptions, Error, Generation, GenerationEvent, GenerationRequest, GenerationUsage, LanguageModel,
    LoadOptions, LocalChatModel, Priority, Speculation,
};

/// Bytes of a page of the tiny model: 2 layers of 2 key heads of 16 features.
const PAGE_BYTES: usize = 2 * 2 * 2 * 16 * 64 * 4;

fn engine(options: EngineOptions) -> Engine {
    engine_of(options, None)
}

fn engine_of(options: EngineOptions, quantize: Option<Dtype>) -> Engine {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path());
    let load = LoadOptions { threads: 2, quantize, engine: options, ..LoadOptions::default() };
    Engine::start(Arc::new(LanguageModel::load(folder.path(), &load).unwrap()), &load.engine).unwrap()
}

/// A prompt of which the first `shared` tokens are the same for every `seed`.
fn prompt(seed: usize, shared: usize, length: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * 7919 + if i < shared { 0 } else { seed * 104_729 + 1 }) % 256) as u32).collect()
}

fn request(seed: usize, shared: usize, length: usize) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt(seed, shared, length),
        sampling: SamplingParams { temperature: 0.9, seed: Some(seed as u64), ..SamplingParams::default() },
        max_tokens: Some(12),
        ignore_end: true,
        log_probs: Some(1),
        ..GenerationRequest::default()
    }
}

type Answer = (Vec<(u32, u32)>, GenerationUsage);

/// Tokens and log-probabilities of a generation, to the bit.
fn collect(generation: Generation) -> Result<Answer, Error> {
    let (mut tokens, mut end) = (Vec::new(), None);
    for event in generation {
        match event? {
            GenerationEvent::Token { id, log_prob, .. } => tokens.push((id, log_prob.unwrap().log_prob.to_bits())),
            GenerationEvent::Finished { usage, .. } => end = Some(usage),
            _ => {}
        }
    }
    Ok((tokens, end.expect("a stream ends with its usage")))
}

fn run(engine: &Engine, request: GenerationRequest) -> Answer {
    collect(engine.generate(request).unwrap()).unwrap()
}

/// Requests that the engine takes up together.
fn together(engine: &Engine, requests: impl IntoIterator<Item = GenerationRequest>) -> Vec<Generation> {
    let _held = engine.hold();
    requests.into_iter().map(|request| engine.generate(request).unwrap()).collect()
}

/// Waits until the engine has noticed that it has nothing to do.
fn settle(engine: &Engine) -> bedrock_models::EngineMetrics {
    let since = Instant::now();
    loop {
        let held = engine.hold();
        let metrics = engine.metrics();
        drop(held);
        if metrics.running == 0 && metrics.queued == 0 {
            return metrics;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "{metrics:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_answer_is_the_same_with_a_remembered_prompt_and_without() {
    for quantize in [None, Some(Dtype::Q8_0)] {
        let plain = engine_of(EngineOptions { prefix_cache: false, ..EngineOptions::default() }, quantize);
        let remembers = engine_of(EngineOptions { prefill_chunk: 50, ..EngineOptions::default() }, quantize);
        let mut hits = Vec::new();
        for (seed, shared, length) in [
            (1, 0, 150),
            (1, 0, 150),
            (2, 100, 150),
            (3, 128, 129),
            (4, 30, 200),
            (4, 30, 200),
            (5, 64, 65),
            (6, 64, 64),
        ] {
            let request = request(seed, shared, length);
            let (expected, usage) = run(&plain, request.clone());
            assert_eq!((usage.cached_tokens, usage.stored_tokens), (0, 0));
            let (tokens, usage) = run(&remembers, request);
            assert_eq!(tokens, expected, "{seed} {shared} {length}");
            hits.push(usage.cached_tokens);
        }
        // All but the last token of a prompt that was there; of others the common beginning, not only whole blocks.
        assert_eq!(hits, [0, 149, 0, 100, 30, 199, 64, 63], "{quantize:?}");
        assert_eq!(plain.metrics().remembered_pages, 0);
    }
}

#[test]
fn prompts_that_come_together_compute_what_they_share_once() {
    let alone = engine(EngineOptions { prefix_cache: false, batch: 1, ..EngineOptions::default() });
    let engine = engine(EngineOptions { prefill_chunk: 128, ..EngineOptions::default() });
    let requests = || (0..8).map(|seed| request(seed, 200, 220));
    for (stream, request) in together(&engine, requests()).into_iter().zip(requests()) {
        assert_eq!(collect(stream).unwrap().0, run(&alone, request).0);
    }
    let metrics = settle(&engine);
    assert_eq!(metrics.prefill_tokens + metrics.cached_tokens, 8 * 220);
    // Three whole blocks of each but the first; of the fourth, what was remembered when its time came.
    assert!(metrics.cached_tokens >= 7 * 192, "{metrics:?}");
    assert_eq!(metrics.page_hits, 7 * 3);
}

#[test]
fn evicting_changes_nothing_but_speed() {
    let plain = engine(EngineOptions { prefix_cache: false, ..EngineOptions::default() });
    // A request of 150 tokens and 12 to generate takes three pages.
    let small = engine(EngineOptions { cache_bytes: 4 * PAGE_BYTES, ..EngineOptions::default() });
    for round in 0..3 {
        for seed in 0..5 {
            let request = request(seed, 70 * (seed % 2), 150);
            assert_eq!(run(&small, request.clone()).0, run(&plain, request).0, "{round} {seed}");
        }
    }
    let metrics = settle(&small);
    assert_eq!((metrics.pages, metrics.reserved_pages), (4, 0));
    assert!(metrics.evicted_pages > 0 && metrics.remembered_pages <= 4 && metrics.page_hits > 0, "{metrics:?}");
}

#[test]
fn two_hundred_requests_with_random_cancels_lose_no_page() {
    let mut state = 88172645463325252u64;
    let mut random = |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % most) as usize
    };
    let pages = 12;
    let options = EngineOptions {
        cache_bytes: pages * PAGE_BYTES + 5,
        prefill_chunk: 70,
        batch: 6,
        queue: 1000,
        ..EngineOptions::default()
    };
    let engine = engine(options);
    let mut streams: Vec<(Generation, usize)> = Vec::new();
    for i in 0..200 {
        let priority = [Priority::Low, Priority::Normal, Priority::High][random(3)];
        let length = 1 + random(230);
        let mut request = request(random(12), random(200), length);
        request.priority = priority;
        request.max_tokens = (random(4) > 0).then(|| 1 + random(30));
        // Some have no candidate for their first token.
        if random(20) == 0 {
            request.sampling.logit_bias = (0..tiny::VOCABULARY as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
        }
        request.deadline = (random(10) == 0).then(|| Instant::now() + Duration::from_millis(random(20) as u64));
        streams.push((engine.generate(request).unwrap(), if random(2) == 0 { random(20) } else { usize::MAX }));
        // Reads what is wanted of some stream, and drops it.
        if i % 3 == 0 {
            let (stream, read) = streams.swap_remove(random(streams.len() as u64));
            stream.take(read).for_each(drop);
        }
    }
    for (stream, read) in streams {
        stream.take(read).for_each(drop);
    }
    let metrics = settle(&engine);
    assert_eq!((metrics.pages, metrics.reserved_pages), (pages, 0));
    assert_eq!(metrics.free_pages() + metrics.remembered_pages, pages);
    assert_eq!(metrics.finished + metrics.cancelled + metrics.timed_out + metrics.failed, 200, "{metrics:?}");
    assert!(metrics.finished > 0 && metrics.cancelled > 0 && metrics.failed > 0 && metrics.longest_gap <= 2);
    // Three requests that need all pages together: they fit only if every page can be had, and is freed again.
    let large = |seed| GenerationRequest { max_tokens: None, ..request(seed, 0, 9) };
    together(&engine, (20..23).map(large))
        .into_iter()
        .for_each(|stream| assert_eq!(collect(stream).unwrap().0.len(), tiny::CONTEXT - 9 + 1));
    assert_eq!(settle(&engine).reserved_pages, 0);
}

#[test]
fn a_dropped_stream_frees_its_pages() {
    let engine = engine(EngineOptions { cache_bytes: 4 * PAGE_BYTES, ..EngineOptions::default() });
    // An answer may end before the engine is held, where this thread has to wait for its turn.
    for seed in (0..1000).take_while(|_| engine.metrics().cancelled < 10) {
        // Takes all memory, so the next one starts only when it is free again.
        let max_tokens = Some(tiny::CONTEXT);
        let mut stream = engine.generate(GenerationRequest { max_tokens, ..request(seed, 0, 100) }).unwrap();
        assert!(matches!(stream.next(), Some(Ok(GenerationEvent::Token { .. }))));
        let held = engine.hold();
        let metrics = engine.metrics();
        assert_eq!(metrics.running == 0, metrics.reserved_pages == 0, "{metrics:?}");
        assert!(metrics.running == 0 || metrics.reserved_pages + metrics.remembered_pages == 4, "{metrics:?}");
        drop(stream);
        drop(held);
        settle(&engine);
    }
    let metrics = settle(&engine);
    assert_eq!((metrics.cancelled, metrics.reserved_pages), (10, 0));
}

#[test]
fn answers_without_a_limit_run_side_by_side_and_are_the_same() {
    for (quantize, prefix_cache) in [(None, true), (Some(Dtype::Q8_0), true), (Some(Dtype::Q8_0), false)] {
        let open = |seed| GenerationRequest { max_tokens: None, ..request(seed, 0, 20) };
        let alone = engine_of(EngineOptions { prefix_cache: false, ..EngineOptions::default() }, quantize);
        // An answer of the whole context takes four pages: one and a half of them fit.
        let options =
            EngineOptions { cache_bytes: 6 * PAGE_BYTES, prefill_chunk: 30, prefix_cache, ..EngineOptions::default() };
        let engine = engine_of(options, quantize);
        let streams = together(&engine, (0..5).map(open));
        for (seed, stream) in streams.into_iter().enumerate() {
            let (tokens, usage) = collect(stream).unwrap();
            let (expected, _) = run(&alone, open(seed));
            assert_eq!(tokens, expected, "{quantize:?} {seed}");
            assert_eq!((usage.cached_tokens, usage.generated_tokens), (0, tiny::CONTEXT - 20 + 1));
        }
        let metrics = settle(&engine);
        assert!(metrics.set_back > 0 && metrics.replayed_tokens > 0 && metrics.longest_gap <= 2, "{metrics:?}");
        assert!(metrics.largest_batch > 1, "{metrics:?}");
        assert_eq!((metrics.finished, metrics.reserved_pages), (5, 0));
        assert_eq!(metrics.next_token.count(), metrics.generated_tokens - 5);
    }
}

#[test]
fn answers_are_the_same_whoever_is_set_back_for_whom() {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut random = |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % most) as usize
    };
    let alone = engine_of(EngineOptions { prefix_cache: false, ..EngineOptions::default() }, Some(Dtype::Q8_0));
    let speculation = Speculation::Lookup { tokens: 3 };
    let options = EngineOptions {
        cache_bytes: 7 * PAGE_BYTES,
        prefill_chunk: 70,
        batch: 6,
        aging: Duration::from_millis(20),
        speculation,
        ..EngineOptions::default()
    };
    let engine = engine_of(options, Some(Dtype::Q8_0));
    let requests: Vec<_> = (0..40)
        .map(|seed| {
            let most = if random(3) > 0 { 50 } else { 200 };
            let length = 1 + random(most);
            let mut request = request(seed, random(150), length);
            request.max_tokens = (random(3) == 0).then(|| 1 + random(60));
            request.priority = [Priority::Low, Priority::Normal, Priority::High][random(3)];
            request
        })
        .collect();
    let streams = together(&engine, requests.clone());
    for (seed, (stream, request)) in streams.into_iter().zip(requests).enumerate() {
        assert_eq!(collect(stream).unwrap().0, run(&alone, request).0, "{seed}");
    }
    let metrics = settle(&engine);
    assert!(metrics.set_back > 0 && metrics.largest_batch > 1, "{metrics:?}");
    assert_eq!((metrics.finished, metrics.reserved_pages), (40, 0));
    assert_eq!(metrics.free_pages() + metrics.remembered_pages, 7);
}

#[test]
fn answers_that_were_set_back_can_be_dropped_and_be_late() {
    let engine = engine(EngineOptions { cache_bytes: 6 * PAGE_BYTES, ..EngineOptions::default() });
    let open = |seed| GenerationRequest { max_tokens: None, ..request(seed, 0, 20) };
    for round in 0..10 {
        let before = engine.metrics().set_back;
        let held = engine.hold();
        let mut first = engine.generate(open(round)).unwrap();
        let second = engine.generate(open(round + 100)).unwrap();
        let deadline = Some(Instant::now() + Duration::from_secs(60));
        let third = engine.generate(GenerationRequest { deadline, ..open(round + 200) }).unwrap();
        drop(held);
        while engine.metrics().set_back == before {
            assert!(first.next().is_some(), "nobody was set back: {:?}", engine.metrics());
        }
        drop(second);
        drop(if round % 2 == 0 {
            Some(third)
        } else {
            collect(third).unwrap();
            None
        });
        assert!(first.all(|event| event.is_ok()));
        let metrics = settle(&engine);
        assert_eq!(metrics.reserved_pages, 0);
        assert_eq!(metrics.finished + metrics.cancelled, 3 * (round as u64 + 1), "{metrics:?}");
    }
}

#[test]
fn a_running_answer_waits_for_one_chunk_at_most() {
    let engine = engine(EngineOptions { prefill_chunk: 16, ..EngineOptions::default() });
    let short = |seed| GenerationRequest { max_tokens: Some(100), ..request(seed, 0, 20) };
    let requests = (0..3).map(short).chain((3..9).map(|seed| request(seed, 0, 240)));
    together(&engine, requests).into_iter().for_each(|stream| drop(collect(stream).unwrap()));
    let metrics = settle(&engine);
    assert_eq!(metrics.longest_gap, 2);
    assert!(metrics.largest_batch > 3, "{metrics:?}");
    assert_eq!(metrics.generated_tokens, 3 * 100 + 6 * 12);
    assert_eq!(metrics.first_token.count(), 9);
    assert_eq!(metrics.next_token.count(), metrics.generated_tokens - 9);
}

#[test]
fn short_prompts_share_a_chunk() {
    let engine = engine(EngineOptions { batch: 16, ..EngineOptions::default() });
    let streams = together(&engine, (0..12).map(|seed| request(seed, 0, 10)));
    streams.into_iter().for_each(|stream| drop(collect(stream).unwrap()));
    assert_eq!(settle(&engine).prefill_steps, 1);
}

/// Tokens that requests of low, normal and high priority, which come in this order, find computed by those that went before them. They
/// have 100, 150 and 200 tokens of the same prompt, and the engine takes up one at a time.
fn found(aging: Duration) -> [usize; 3] {
    let engine = engine(EngineOptions { batch: 1, aging, ..EngineOptions::default() });
    let requests = [(Priority::Low, 100), (Priority::Normal, 150), (Priority::High, 200)]
        .map(|(priority, length)| GenerationRequest { priority, ..request(1, 0, length) });
    let streams: [_; 3] = together(&engine, requests).try_into().unwrap();
    streams.map(|stream| collect(stream).unwrap().1.cached_tokens)
}

#[test]
fn more_important_requests_go_first_but_not_for_ever() {
    assert_eq!(found(Duration::from_secs(3600)), [99, 149, 0]);
    // Nobody is passed over by what comes later than this.
    assert_eq!(found(Duration::ZERO), [0, 100, 150]);
}

#[test]
fn deadlines_end_waiting_and_running_requests() {
    let late = |result: Result<Answer, Error>| matches!(result, Err(Error::DeadlineExceeded));
    let engine = engine(EngineOptions { batch: 1, ..EngineOptions::default() });
    let long = || GenerationRequest { max_tokens: None, ..request(1, 0, 9) };
    let requests = [long(), GenerationRequest { deadline: Some(Instant::now()), ..long() }];
    let [busy, waiting] = together(&engine, requests).try_into().unwrap();
    assert!(late(collect(waiting)));
    assert!(collect(busy).is_ok(), "others go on");
    let deadline = Some(Instant::now() + Duration::from_millis(1));
    assert!(late(collect(engine.generate(GenerationRequest { deadline, ..long() }).unwrap())));
    assert_eq!(settle(&engine).timed_out, 2);

    let hasty = self::engine(EngineOptions { timeout: Some(Duration::from_millis(1)), ..EngineOptions::default() });
    assert!(late(collect(hasty.generate(long()).unwrap())));
    let core: bedrock_core::Error = Error::DeadlineExceeded.into();
    assert_eq!((core.exception_name(), core.http_status()), ("ModelTimeoutException", 408));
}

#[test]
fn a_request_that_fails_fails_alone() {
    let engine = engine(EngineOptions::default());
    let expected = run(&engine, request(1, 0, 40)).0;
    let nothing = (0..tiny::VOCABULARY as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
    let mut broken = request(2, 0, 40);
    broken.sampling.logit_bias = nothing;
    // The bias of a token that does not exist is noticed with the first token, beside others.
    let mut unknown = request(3, 0, 40);
    unknown.sampling.logit_bias = vec![(70_000, 1.0)];
    let requests = [request(1, 0, 40), broken, unknown, request(1, 0, 40)];
    let streams: [_; 4] = together(&engine, requests).try_into().unwrap();
    let [first, broken, unknown, last] = streams.map(collect);
    assert_eq!((first.unwrap().0, last.unwrap().0), (expected.clone(), expected));
    assert!(matches!(broken, Err(Error::NoCandidates { .. })));
    assert!(matches!(unknown, Err(Error::TokenOutOfRange { .. })));
}

#[test]
fn a_full_queue_counts_what_it_refuses() {
    let engine = engine(EngineOptions { batch: 1, queue: 2, ..EngineOptions::default() });
    let held = engine.hold();
    let results: Vec<_> = (0..10).map(|seed| engine.generate(request(seed, 0, 9))).collect();
    assert_eq!(results.iter().filter(|result| matches!(result, Err(Error::Busy))).count(), 8);
    let metrics = engine.metrics();
    assert_eq!((metrics.queued, metrics.rejected), (2, 8));
    drop(held);
    results.into_iter().flatten().for_each(|stream| assert_eq!(collect(stream).unwrap().0.len(), 12));
}

#[test]
fn usage_names_what_came_from_the_cache_and_what_went_there() {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path());
    let model = LocalChatModel::load(folder.path(), &LoadOptions::default()).unwrap();
    let ask = |text: &str, cache_point: bool, tier: Option<ServiceTierType>| -> TokenUsage {
        let mut request = ConverseRequest::new("tiny").user("x".repeat(100) + text).max_tokens(3);
        if cache_point {
            request.messages[0].content.push(ContentBlock::CachePoint(Default::default()));
        }
        request.service_tier = tier.clone().map(|kind| ServiceTier { kind });
        let response = model.converse_blocking(&request).unwrap();
        assert_eq!(response.service_tier.map(|tier| tier.kind), tier);
        let usage = response.usage;
        let cached = usage.cache_read_input_tokens.unwrap_or(0) + usage.cache_write_input_tokens.unwrap_or(0);
        assert_eq!(usage.input_tokens + cached, futures::executor::block_on(model.count_tokens(&request)).unwrap());
        assert_eq!(usage.input_tokens + cached + usage.output_tokens, usage.total_tokens);
        usage
    };
    let first = ask("one", false, Some(ServiceTierType::Priority));
    assert_eq!((first.cache_read_input_tokens, first.cache_write_input_tokens), (None, None));
    let second = ask("two", false, Some(ServiceTierType::Flex));
    assert!(second.cache_read_input_tokens >= Some(100), "{second:?}");
    let third = ask(&"y".repeat(64), true, None);
    assert!(third.cache_read_input_tokens >= Some(100) && third.cache_write_input_tokens >= Some(64), "{third:?}");
    let reserved = ServiceTier { kind: ServiceTierType::Reserved };
    let request = ConverseRequest { service_tier: Some(reserved), ..ConverseRequest::new("tiny").user("Hello") };
    assert!(matches!(model.converse_blocking(&request), Err(bedrock_core::Error::Validation { .. })));
}
