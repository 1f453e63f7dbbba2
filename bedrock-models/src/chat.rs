//! A local language model behind the Converse API.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bedrock_core::{
    BoxFuture, ChatModel, ContentBlock, ConverseRequest, EventStream, PerformanceConfigLatency, ServiceTierType,
    StopReason, StreamEvent, SystemContentBlock, TokenUsage,
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::{Engine, Generation, GenerationEvent, GenerationRequest, GenerationUsage};
use crate::error::Error;
use crate::generate::{FinishReason, SamplingParams, TokenLogProb};
use crate::language_model::{LanguageModel, read_json};
use crate::options::LoadOptions;

/// The most likely tokens that can be reported for each position.
const MOST_LOG_PROBS: usize = 20;

/// A local language model: one loaded model on its own threads, shared by any number of callers.
///
/// What a request does not set is taken from the model's `generation_config.json` if that samples (`do_sample`), otherwise the most
/// likely token is taken. `additionalModelRequestFields` may have: `top_k`, `min_p`, `typical_p`,
/// `repetition_penalty`, `frequency_penalty`, `presence_penalty`, `no_repeat_ngram_size`, `seed`, `logit_bias` (pairs of token
/// id and bias), `logprobs` (true), `top_logprobs` (0–20), `ignore_eos` (true). Everything else there, and every parameter that a local
/// model cannot honour (tools, output format, guardrail, priority), is a `ValidationException`.
///
/// With `logprobs`, `additionalModelResponseFields.logprobs` has one entry a token.
#[derive(Debug, Clone)]
pub struct LocalChatModel {
    engine: Engine,
    defaults: Arc<SamplingParams>,
}

/// `generation_config.json`, as far as it is not [`SamplingParams`].
#[derive(Deserialize)]
struct DoSample {
    #[serde(default)]
    do_sample: bool,
}

/// `additionalModelRequestFields`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdditionalFields {
    top_k: Option<usize>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    no_repeat_ngram_size: Option<usize>,
    seed: Option<u64>,
    logit_bias: Option<Vec<(u32, f32)>>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    ignore_eos: Option<bool>,
}

impl LocalChatModel {
    /// Loads a folder in Hugging Face layout or a `.gguf` file, and starts serving it.
    ///
    /// # Errors
    /// What is missing, malformed or not supported, by file and field.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        Self::serve(LanguageModel::load(path, options)?, options)
    }

    /// Serves a model that is loaded already.
    ///
    /// # Errors
    /// [`Error::Thread`] if the system refuses a thread; those of reading `generation_config.json`.
    pub fn serve(model: LanguageModel, options: &LoadOptions) -> Result<Self, Error> {
        let file = model.path.join("generation_config.json");
        let mut defaults = SamplingParams::greedy();
        if file.exists() && read_json::<DoSample>(&file)?.do_sample {
            defaults = read_json(&file)?;
            defaults.validate()?;
        }
        let engine = Engine::start(Arc::new(model), &options.engine)?;
        Ok(Self { engine, defaults: Arc::new(defaults) })
    }

    /// The engine, for prompts that are tokens already.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The loaded model.
    pub fn model(&self) -> &LanguageModel {
        self.engine.model()
    }

    /// The prompt of a request: its conversation through the chat template, as tokens; its texts, one after another, if the
    /// model answers prompts and not conversations (T5).
    ///
    /// # Errors
    /// [`Error::NoChatTemplate`], [`Error::TemplateRefused`] and the like; [`Error::UnsupportedContent`] for what a text
    /// model cannot take.
    pub fn prompt(&self, request: &ConverseRequest) -> Result<Vec<u32>, Error> {
        let model = self.model();
        if model.has_encoder() && model.template().is_err() {
            return model.tokenizer()?.encode(&texts(request)?, true);
        }
        let text = model.template()?.render_request(request)?;
        // The template writes the special tokens itself.
        model.tokenizer()?.encode(&text, false)
    }

    /// The engine's request for a Converse request.
    fn generation(&self, request: &ConverseRequest) -> Result<GenerationRequest, bedrock_core::Error> {
        refuse_unsupported(request)?;
        let fields = match &request.additional_model_request_fields {
            None => AdditionalFields::default(),
            Some(fields) => AdditionalFields::deserialize(fields)
                .map_err(|error| bedrock_core::Error::validation(format!("additionalModelRequestFields: {error}")))?,
        };
        let top = fields.top_logprobs.unwrap_or(0);
        if top > MOST_LOG_PROBS {
            let message = format!("additionalModelRequestFields: top_logprobs is {top}, at most {MOST_LOG_PROBS}");
            return Err(bedrock_core::Error::validation(message));
        }
        let config = request.inference_config.clone().unwrap_or_default();
        let mut sampling = (*self.defaults).clone();
        if let Some(temperature) = config.temperature {
            sampling.temperature = temperature as f32;
        }
        sampling.top_p = config.top_p.map(|p| p as f32).or(sampling.top_p);
        sampling.top_k = fields.top_k.or(sampling.top_k);
        sampling.min_p = fields.min_p.or(sampling.min_p);
        sampling.typical_p = fields.typical_p.or(sampling.typical_p);
        sampling.repetition_penalty = fields.repetition_penalty.unwrap_or(sampling.repetition_penalty);
        sampling.frequency_penalty = fields.frequency_penalty.unwrap_or(sampling.frequency_penalty);
        sampling.presence_penalty = fields.presence_penalty.unwrap_or(sampling.presence_penalty);
        sampling.no_repeat_ngram_size = fields.no_repeat_ngram_size.unwrap_or(sampling.no_repeat_ngram_size);
        sampling.seed = fields.seed.or(sampling.seed);
        sampling.logit_bias = fields.logit_bias.unwrap_or(sampling.logit_bias);
        Ok(GenerationRequest {
            prompt: self.prompt(request)?,
            sampling,
            max_tokens: config.max_tokens.map(|tokens| tokens as usize),
            stop_sequences: config.stop_sequences,
            ignore_end: fields.ignore_eos.unwrap_or(false),
            log_probs: (fields.logprobs.unwrap_or(false) || fields.top_logprobs.is_some()).then_some(top),
        })
    }
}

/// The texts of a request, a line each.
fn texts(request: &ConverseRequest) -> Result<String, Error> {
    let system = request.system.iter().map(|block| match block {
        SystemContentBlock::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let messages = request.messages.iter().flat_map(|message| &message.content).map(|block| match block {
        ContentBlock::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let texts: Option<Vec<&str>> = system.chain(messages).collect();
    let refused =
        || Error::UnsupportedContent { field: "messages".into(), reason: "this model reads text only".into() };
    texts.map(|texts| texts.join("\n")).ok_or_else(refused)
}

/// Refuses what no local model honours, rather than leaving it out.
fn refuse_unsupported(request: &ConverseRequest) -> Result<(), bedrock_core::Error> {
    let refuse = |field: &str, why: &str| Err(bedrock_core::Error::validation(format!("{field}: {why}")));
    if request.tool_config.is_some() {
        return refuse("toolConfig", "this model does not support tool use");
    }
    if request.output_config.is_some() {
        return refuse("outputConfig", "this model does not support output formats");
    }
    if request.guardrail_config.is_some() {
        return refuse("guardrailConfig", "this model has no guardrails of its own: wrap it in one");
    }
    if !request.prompt_variables.is_empty() {
        return refuse("promptVariables", "this model has no stored prompts");
    }
    if request.performance_config.as_ref().and_then(|config| config.latency.clone())
        == Some(PerformanceConfigLatency::Optimized)
    {
        return refuse("performanceConfig.latency", "this model has no optimized mode");
    }
    if request.service_tier.as_ref().is_some_and(|tier| tier.kind != ServiceTierType::Default) {
        return refuse("serviceTier.type", "this model has only the default tier");
    }
    Ok(())
}

impl ChatModel for LocalChatModel {
    fn converse_stream<'a>(
        &'a self,
        request: &'a ConverseRequest,
    ) -> BoxFuture<'a, Result<EventStream<'a>, bedrock_core::Error>> {
        Box::pin(async move {
            let since = Instant::now();
            request.validate()?;
            let generation = self.engine.generate(self.generation(request)?)?;
            let answer = Answer {
                model: self.model(),
                paths: &request.additional_model_response_field_paths,
                generation,
                ready: VecDeque::from([StreamEvent::message_start()]),
                log_probs: Vec::new(),
                wrote: false,
                ended: false,
                since,
            };
            Ok(stream::unfold(answer, |mut answer| async move {
                let event = answer.next().await?;
                Some((event, answer))
            })
            .fuse()
            .boxed())
        })
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, bedrock_core::Error>> {
        Box::pin(async move { Ok(u32::try_from(self.prompt(request)?.len()).unwrap_or(u32::MAX)) })
    }
}

/// The answer as it is generated.
struct Answer<'a> {
    model: &'a LanguageModel,
    paths: &'a [String],
    generation: Generation,
    ready: VecDeque<StreamEvent>,
    log_probs: Vec<Value>,
    wrote: bool,
    ended: bool,
    since: Instant,
}

impl Answer<'_> {
    async fn next(&mut self) -> Option<Result<StreamEvent, bedrock_core::Error>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            match StreamExt::next(&mut self.generation).await {
                Some(Ok(GenerationEvent::Token { text, log_prob, .. })) => {
                    if let Some(log_prob) = log_prob {
                        self.log_probs.push(self.log_prob(&log_prob));
                    }
                    self.write(text);
                }
                Some(Ok(GenerationEvent::Finished { reason, text, usage })) => {
                    self.write(text);
                    self.finish(reason, usage);
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error.into()));
                }
                None => {
                    self.ended = true;
                    return Some(Err(Error::EngineStopped.into()));
                }
            }
        }
    }

    fn write(&mut self, text: String) {
        if !text.is_empty() {
            self.wrote = true;
            self.ready.push_back(StreamEvent::text(0, text));
        }
    }

    fn finish(&mut self, reason: Option<FinishReason>, usage: GenerationUsage) {
        self.ended = true;
        if self.wrote {
            self.ready.push_back(StreamEvent::block_stop(0));
        }
        let (stop, sequence) = match reason {
            Some(FinishReason::EndOfText(_)) => (StopReason::EndTurn, None),
            Some(FinishReason::MaxTokens) => (StopReason::MaxTokens, None),
            Some(FinishReason::StopSequence(sequence)) => (StopReason::StopSequence, Some(sequence)),
            None => (StopReason::ModelContextWindowExceeded, None),
        };
        let mut event = StreamEvent::message_stop(stop);
        if let StreamEvent::MessageStop(event) = &mut event {
            event.additional_model_response_fields = self.additional(sequence);
        }
        self.ready.push_back(event);
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        let tokens = TokenUsage::new(count(usage.prompt_tokens), count(usage.generated_tokens));
        let latency = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ready.push_back(StreamEvent::metadata(tokens, latency));
    }

    /// Log-probabilities if they were asked for, and what the request's JSON pointers find.
    fn additional(&mut self, sequence: Option<String>) -> Option<Value> {
        let mut fields = Map::new();
        let log_probs = std::mem::take(&mut self.log_probs);
        if !log_probs.is_empty() {
            fields.insert("logprobs".into(), log_probs.into());
        }
        let all = json!({ "stop_sequence": sequence });
        for path in self.paths {
            let name = path.trim_start_matches('/');
            if let Some(found) = all.pointer(path).filter(|_| !name.contains('/')) {
                fields.insert(name.to_string(), found.clone());
            }
        }
        (!fields.is_empty()).then_some(fields.into())
    }

    fn log_prob(&self, log_prob: &TokenLogProb) -> Value {
        let text = |id: u32| self.model.tokenizer().ok().and_then(|tokenizer| tokenizer.decode(&[id], false).ok());
        let entry = |id: u32, value: f32| json!({ "token": text(id), "id": id, "logprob": value });
        let mut value = entry(log_prob.id, log_prob.log_prob);
        value["top_logprobs"] = log_prob.top.iter().map(|(id, value)| entry(*id, *value)).collect();
        value
    }
}
