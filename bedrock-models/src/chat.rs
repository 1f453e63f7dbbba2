//! A local language model behind the Converse API.

mod answer;
mod tools;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bedrock_core::{
    BoxFuture, ChatModel, ContentBlock, ConverseRequest, EventStream, OutputFormatStructure, PerformanceConfigLatency,
    Role, ServiceTierType, SystemContentBlock, ToolConfiguration, ToolDefinition,
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;

use crate::engine::{Engine, Generation, GenerationRequest, Priority};
use crate::error::Error;
use crate::generate::{Constraint, SamplingParams};
use crate::language_model::{LanguageModel, read_json};
use crate::options::LoadOptions;
use crate::tool_use::CallSyntax;

use answer::{Answer, CallIds};
use tools::Tools;

/// The most likely tokens that can be reported for each position.
const MOST_LOG_PROBS: usize = 20;

/// A local language model: one loaded model on its own threads, shared by any number of callers.
///
/// What a request does not set is taken from the model's `generation_config.json` if that samples (`do_sample`), otherwise the most
/// likely token is taken. `additionalModelRequestFields` may have: `top_k`, `min_p`, `typical_p`,
/// `repetition_penalty`, `frequency_penalty`, `presence_penalty`, `no_repeat_ngram_size`, `seed`, `logit_bias` (pairs of token
/// id and bias), `logprobs` (true), `top_logprobs` (0–20), `ignore_eos` (true), `raw_prompt` (true: the only text of the only message
/// is the prompt, word for word, without a chat template; special tokens written in it are these). Everything else there, and every parameter that a local
/// model cannot honour (guardrail), is a `ValidationException`. The service tiers `priority` and `flex` go
/// before and after the others.
///
/// The JSON schema of `outputConfig.textFormat` constrains the answer (see [`Constraint::JsonSchema`]); the prompt does not
/// mention it, so say there what is wanted.
///
/// Tools are told to the model as its chat template does, or in words in the system prompt if the template knows none, and calls are read
/// in the model's own syntax. Calls of tools that are `strict`, and all calls where `toolChoice` is `any` or `tool`, are
/// constrained to the tools' schemas, so they cannot be malformed (but for a number beyond all bounds, where a schema has none); where a
/// schema of a tool that is not strict cannot be honoured, to any object. Every other call may be malformed, which is the stop reason then.
/// With both tools and an output format, an answer is either calls or text in that format.
///
/// Prompts are remembered, with and without cache points: `cacheReadInputTokens` says how much of a prompt was not computed again.
/// `cacheWriteInputTokens` is reported where a request has a cache point, whose lifetime is not kept: the
/// least recently used prompts go when their memory is needed.
///
/// With `logprobs`, `additionalModelResponseFields.logprobs` has one entry a token.
#[derive(Debug, Clone)]
pub struct LocalChatModel {
    engine: Engine,
    defaults: Arc<SamplingParams>,
    /// What it answers with.
    adapter: Option<Arc<str>>,
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
    #[expect(dead_code, reason = "the function of this name reads it, before the others are")]
    raw_prompt: Option<bool>,
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
        let model = Arc::new(model);
        let engine = match &options.draft {
            None => Engine::start(model, &options.engine)?,
            Some(path) => {
                let draft = LoadOptions {
                    draft: None,
                    adapter: None,
                    adapters: BTreeMap::new(),
                    model_id: None,
                    ..options.clone()
                };
                Engine::start_with_draft(model, Arc::new(LanguageModel::load(path, &draft)?), &options.engine)?
            }
        };
        Ok(Self { engine, defaults: Arc::new(defaults), adapter: None })
    }

    /// The same model, answering with one of [`LoadOptions::adapters`]. It is loaded once: requests with and without adapters share its
    /// weights, its threads and its queue.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name that none has.
    pub fn with_adapter(&self, name: &str) -> Result<Self, Error> {
        self.model().adapter_number(name)?;
        Ok(Self { adapter: Some(name.into()), ..self.clone() })
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
        Ok(self.render(request)?.0)
    }

    /// The prompt, and how the model will write calls if there are tools.
    fn render(&self, request: &ConverseRequest) -> Result<(Vec<u32>, Option<CallSyntax>), Error> {
        let model = self.model();
        if let Some(text) = raw_prompt(request)? {
            let tokenizer = model.tokenizer()?;
            let mut tokens = tokenizer.encode(text, false)?;
            let special = tokenizer.special_tokens();
            // The text may have written it itself.
            if let Some(bos) = special.bos.filter(|bos| special.add_bos && tokens.first() != Some(bos)) {
                tokens.insert(0, bos);
            }
            if let Some(eos) = special.eos.filter(|eos| special.add_eos && tokens.last() != Some(eos)) {
                tokens.push(eos);
            }
            return Ok((tokens, None));
        }
        if model.has_encoder() && model.template().is_err() {
            return Ok((model.tokenizer()?.encode(&texts(request)?, true)?, None));
        }
        let (text, syntax) = model.template()?.render_turns(request)?;
        // The template writes the special tokens itself.
        Ok((model.tokenizer()?.encode(&text, false)?, syntax))
    }

    /// The engine's request for a Converse request, and its tools.
    fn generation(&self, request: &ConverseRequest) -> Result<(GenerationRequest, Option<Tools>), bedrock_core::Error> {
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
        let (prompt, syntax) = self.render(request)?;
        let is_tool = |tool: &ToolDefinition| !matches!(tool, ToolDefinition::CachePoint(_));
        if syntax.is_none() && request.tool_config.as_ref().is_some_and(|config| config.tools.iter().any(is_tool)) {
            return Err(bedrock_core::Error::validation("toolConfig: this model does not support tool use"));
        }
        let output = output_schema(request)?;
        let tools = Tools::of(request, syntax, output.clone());
        let tokenizer = self.model().tokenizer()?;
        let constraint = match &tools {
            Some(tools) => tools.constraint(tokenizer),
            None => output.map(Constraint::JsonSchema),
        };
        let generation = GenerationRequest {
            prompt,
            sampling,
            max_tokens: config.max_tokens.map(|tokens| tokens as usize),
            stop_sequences: config.stop_sequences,
            ignore_end: fields.ignore_eos.unwrap_or(false),
            shown_special: tools.as_ref().map(|tools| tools.marks(tokenizer)).unwrap_or_default(),
            constraint,
            log_probs: (fields.logprobs.unwrap_or(false) || fields.top_logprobs.is_some()).then_some(top),
            adapter: self.adapter.as_deref().map(String::from),
            priority: priority(request)?,
            deadline: None,
        };
        Ok((generation, tools))
    }

    /// Queues a generation. Where tools that need not be strict have schemas that no grammar expresses, once more without these.
    async fn start(
        &self,
        generation: GenerationRequest,
        tools: Option<&Tools>,
    ) -> Result<Generation, bedrock_core::Error> {
        let Some(looser) = tools.filter(|_| generation.constraint.is_some()).and_then(Tools::looser) else {
            return Ok(self.engine.queue(generation).await?);
        };
        match self.engine.queue(generation.clone()).await {
            Err(Error::Constraint { .. }) => {}
            other => return Ok(other?),
        }
        let constraint = looser.constraint(self.model().tokenizer()?);
        Ok(self.engine.queue(GenerationRequest { constraint, ..generation }).await?)
    }
}

/// The JSON schema that `outputConfig` asks for.
fn output_schema(request: &ConverseRequest) -> Result<Option<Value>, bedrock_core::Error> {
    let Some(format) = request.output_config.as_ref().and_then(|config| config.text_format.as_ref()) else {
        return Ok(None);
    };
    let refuse = |what: String| bedrock_core::Error::validation(format!("outputConfig.textFormat.structure{what}"));
    match &format.structure {
        OutputFormatStructure::JsonSchema(definition) => match serde_json::from_str(&definition.schema) {
            Ok(schema) => Ok(Some(schema)),
            Err(error) => Err(refuse(format!(".jsonSchema.schema: not JSON: {error}"))),
        },
        _ => Err(refuse(": only JSON schemas are supported".into())),
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

/// The prompt of a request that asks for it to be taken word for word.
fn raw_prompt(request: &ConverseRequest) -> Result<Option<&str>, Error> {
    let flag = request.additional_model_request_fields.as_ref().and_then(|fields| fields.get("raw_prompt"));
    if flag.and_then(Value::as_bool) != Some(true) {
        return Ok(None);
    }
    let alone = request.system.is_empty() && request.tool_config.is_none();
    if let [message] = request.messages.as_slice()
        && let [ContentBlock::Text(text)] = message.content.as_slice()
        && alone
        && message.role == Role::User
    {
        return Ok(Some(text));
    }
    let reason = "takes one message of the user with one text, and nothing besides";
    Err(Error::UnsupportedContent { field: "additionalModelRequestFields.raw_prompt".into(), reason: reason.into() })
}

/// Refuses what no local model honours, rather than leaving it out.
fn refuse_unsupported(request: &ConverseRequest) -> Result<(), bedrock_core::Error> {
    let refuse = |field: &str, why: &str| Err(bedrock_core::Error::validation(format!("{field}: {why}")));
    if request.output_config.as_ref().is_some_and(|config| config.effort.is_some()) {
        return refuse("outputConfig.effort", "this model has no levels of effort");
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
    Ok(())
}

/// The queue that a request names.
fn priority(request: &ConverseRequest) -> Result<Priority, bedrock_core::Error> {
    match request.service_tier.as_ref().map(|tier| &tier.kind) {
        None | Some(ServiceTierType::Default) => Ok(Priority::Normal),
        Some(ServiceTierType::Priority) => Ok(Priority::High),
        Some(ServiceTierType::Flex) => Ok(Priority::Low),
        Some(other) => Err(bedrock_core::Error::validation(format!(
            "serviceTier.type: this model has no tier {:?}",
            other.as_str()
        ))),
    }
}

/// Whether a request asks for its prompt to be cached.
fn has_cache_point(request: &ConverseRequest) -> bool {
    let in_tools = |config: &ToolConfiguration| config.tools.iter().any(|t| matches!(t, ToolDefinition::CachePoint(_)));
    request.system.iter().any(|block| matches!(block, SystemContentBlock::CachePoint(_)))
        || request.messages.iter().flat_map(|m| &m.content).any(|block| matches!(block, ContentBlock::CachePoint(_)))
        || request.tool_config.as_ref().is_some_and(in_tools)
}

impl ChatModel for LocalChatModel {
    fn converse_stream<'a>(
        &'a self,
        request: &'a ConverseRequest,
    ) -> BoxFuture<'a, Result<EventStream<'a>, bedrock_core::Error>> {
        Box::pin(async move {
            let since = Instant::now();
            request.validate()?;
            let (generation, tools) = self.generation(request)?;
            let ids = CallIds::new(&generation.prompt);
            let generation = self.start(generation, tools.as_ref()).await?;
            let answer =
                Answer::new(self.model(), request, generation, tools.map(|tools| (tools.parser(), ids)), since);
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
