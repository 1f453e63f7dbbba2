//! The request and the response of `Converse` and `ConverseStream`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::guardrail::{GuardrailConfiguration, GuardrailTraceAssessment};
use crate::message::{ContentBlock, Message, Role, SystemContentBlock};
use crate::tool::{ToolConfiguration, ToolDefinition};
use crate::usage::{ConverseMetrics, TokenUsage};
use crate::wire::label;

label! {
    /// Why the model stopped.
    pub enum StopReason {
        /// It was done.
        EndTurn = "end_turn",
        /// It waits for the result of a tool.
        ToolUse = "tool_use",
        /// `maxTokens` was reached.
        MaxTokens = "max_tokens",
        /// One of `stopSequences` was written.
        StopSequence = "stop_sequence",
        /// A guardrail blocked or masked.
        GuardrailIntervened = "guardrail_intervened",
        /// The provider's own filter cut the answer.
        ContentFiltered = "content_filtered",
        /// The answer does not have the form that was asked for.
        MalformedModelOutput = "malformed_model_output",
        /// The call of a tool can't be parsed.
        MalformedToolUse = "malformed_tool_use",
        /// The context window is full.
        ModelContextWindowExceeded = "model_context_window_exceeded",
    }

    /// Whether speed matters more than price.
    pub enum PerformanceConfigLatency {
        /// As usual.
        Standard = "standard",
        /// Fast.
        Optimized = "optimized",
    }

    /// In which queue a request waits.
    pub enum ServiceTierType {
        /// Before all others.
        Priority = "priority",
        /// As usual.
        Default = "default",
        /// After all others, for less.
        Flex = "flex",
        /// On capacity that is reserved.
        Reserved = "reserved",
    }

    /// What the answer's text must conform to.
    pub enum OutputFormatType {
        /// A JSON schema.
        JsonSchema = "json_schema",
    }
}

/// A request of `Converse` or `ConverseStream`.
///
/// ```
/// use bedrock_core::ConverseRequest;
///
/// let request = ConverseRequest::new("smollm2-135m-instruct")
///     .system("You answer in one word.")
///     .user("What is the capital of France?")
///     .max_tokens(8)
///     .temperature(0.0);
/// request.validate()?;
/// assert_eq!(
///     serde_json::to_string(&request).unwrap(),
///     r#"{"modelId":"smollm2-135m-instruct","messages":[{"role":"user","content":[{"text":"What is the capital of France?"}]}],"system":[{"text":"You answer in one word."}],"inferenceConfig":{"maxTokens":8,"temperature":0.0}}"#
/// );
/// # Ok::<(), bedrock_core::Error>(())
/// ```
///
/// In HTTP the model's id stands in the path and the body is the rest: [`ConverseRequest::to_body`]. Everywhere else (files, logs,
/// batches) the id is the first field, `modelId`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConverseRequest {
    /// The model. Empty when the request was read from an HTTP body, whose path names the model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model_id: String,
    /// The conversation so far. The last turn is usually the user's; if it is the model's, the model continues it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// Instructions above the conversation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<SystemContentBlock>,
    /// Length and sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_config: Option<InferenceConfiguration>,
    /// Tools that the model may call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_config: Option<ToolConfiguration>,
    /// The guardrail to apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_config: Option<GuardrailConfiguration>,
    /// Parameters that only some models know, such as `top_k`, `seed` or `min_p`. A model refuses what it does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_model_request_fields: Option<Value>,
    /// Values for the placeholders of a stored prompt.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prompt_variables: BTreeMap<String, PromptVariableValues>,
    /// JSON pointers into the model's own answer; what they find is returned in `additionalModelResponseFields`. At
    /// most 10, each 1–256 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_model_response_field_paths: Vec<String>,
    /// Pairs for the invocation log, at most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub request_metadata: BTreeMap<String, String>,
    /// Speed or price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance_config: Option<PerformanceConfiguration>,
    /// Which queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
    /// What the answer must look like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_config: Option<OutputConfig>,
}

impl ConverseRequest {
    /// An empty conversation with a model.
    pub fn new(model_id: impl Into<String>) -> Self {
        Self { model_id: model_id.into(), ..Self::default() }
    }

    /// Appends a turn.
    pub fn message(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// Appends a user's turn.
    pub fn user(self, content: impl Into<ContentBlock>) -> Self {
        self.message(Message::user(content))
    }

    /// Appends a turn of the model.
    pub fn assistant(self, content: impl Into<ContentBlock>) -> Self {
        self.message(Message::assistant(content))
    }

    /// Appends instructions above the conversation.
    pub fn system(mut self, content: impl Into<SystemContentBlock>) -> Self {
        self.system.push(content.into());
        self
    }

    fn inference(&mut self) -> &mut InferenceConfiguration {
        self.inference_config.get_or_insert_with(InferenceConfiguration::default)
    }

    /// Most tokens of the answer.
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.inference().max_tokens = Some(tokens);
        self
    }

    /// Randomness: 0 takes the likeliest token each time.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.inference().temperature = Some(temperature);
        self
    }

    /// Samples among the likeliest tokens that together have this probability.
    pub fn top_p(mut self, top_p: f64) -> Self {
        self.inference().top_p = Some(top_p);
        self
    }

    /// Adds a text at which the model stops; the text is not part of the answer.
    pub fn stop_sequence(mut self, sequence: impl Into<String>) -> Self {
        self.inference().stop_sequences.push(sequence.into());
        self
    }

    /// Adds a tool.
    pub fn tool(mut self, tool: impl Into<ToolDefinition>) -> Self {
        self.tool_config.get_or_insert_with(ToolConfiguration::default).tools.push(tool.into());
        self
    }

    /// Applies a guardrail.
    pub fn guardrail(mut self, guardrail: GuardrailConfiguration) -> Self {
        self.guardrail_config = Some(guardrail);
        self
    }

    /// Sets one of the parameters that only some models know. What was there, if not an object, is replaced by one.
    pub fn additional_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let fields = self.additional_model_request_fields.get_or_insert_with(|| Value::Object(Default::default()));
        if !fields.is_object() {
            *fields = Value::Object(Default::default());
        }
        if let Value::Object(fields) = fields {
            fields.insert(name.into(), value.into());
        }
        self
    }

    /// The HTTP body: all but the model's id.
    ///
    /// # Errors
    /// [`Error::Backend`] if serialising fails, which no value of these types does.
    pub fn to_body(&self) -> Result<Value, Error> {
        let mut body = serde_json::to_value(self).map_err(Error::backend)?;
        if let Value::Object(fields) = &mut body {
            fields.remove("modelId");
        }
        Ok(body)
    }

    /// Reads the HTTP body of a request to `model_id`. What the body says of the model is overruled.
    ///
    /// # Errors
    /// [`Error::Validation`] if `body` is not JSON of this shape (nesting is bounded at 128 levels) or breaks a rule of
    /// [`ConverseRequest::validate`].
    pub fn from_body(model_id: impl Into<String>, body: &[u8]) -> Result<Self, Error> {
        let mut request: Self = serde_json::from_slice(body)
            .map_err(|error| Error::validation(format!("the request body can't be read: {error}")))?;
        request.model_id = model_id.into();
        request.validate()?;
        Ok(request)
    }
}

/// Length and sampling of an answer. What is absent is the model's own default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceConfiguration {
    /// Most tokens of the answer, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Randomness, 0–1. At 0 the likeliest token is taken each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Samples among the likeliest tokens that together have this probability, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Texts at which the model stops, at most 2,500; they are not part of the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_sequences: Vec<String>,
}

/// The value of a placeholder of a stored prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum PromptVariableValues {
    /// The text to put in.
    Text(String),
}

/// Speed or price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerformanceConfiguration {
    /// Which. Default: standard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<PerformanceConfigLatency>,
}

/// Which queue a request waits in, or waited in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTier {
    /// The queue.
    #[serde(rename = "type")]
    pub kind: ServiceTierType,
}

/// What the answer must look like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputConfig {
    /// The form of its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_format: Option<OutputFormat>,
    /// How much the model shall think, at most 16 characters; the words differ by model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
}

/// The form of an answer's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputFormat {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: OutputFormatType,
    /// The description it must conform to.
    pub structure: OutputFormatStructure,
}

/// The description of the form of an answer's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum OutputFormatStructure {
    /// A JSON schema.
    JsonSchema(JsonSchemaDefinition),
}

/// A JSON schema that the answer must conform to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JsonSchemaDefinition {
    /// The schema, as JSON inside a string.
    pub schema: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The answer of `Converse`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConverseResponse {
    /// What the model said.
    pub output: ConverseOutput,
    /// Why it stopped.
    pub stop_reason: StopReason,
    /// Tokens.
    pub usage: TokenUsage,
    /// Time.
    pub metrics: ConverseMetrics,
    /// What `additionalModelResponseFieldPaths` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_model_response_fields: Option<Value>,
    /// What guardrails and routers did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<ConverseTrace>,
    /// Speed or price that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance_config: Option<PerformanceConfiguration>,
    /// Queue that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
}

impl ConverseResponse {
    /// An answer of the model with nothing optional in it.
    pub fn new(
        content: impl IntoIterator<Item = impl Into<ContentBlock>>,
        stop_reason: StopReason,
        usage: TokenUsage,
    ) -> Self {
        Self {
            output: ConverseOutput::Message(Message::new(Role::Assistant, content)),
            stop_reason,
            usage,
            metrics: ConverseMetrics::default(),
            additional_model_response_fields: None,
            trace: None,
            performance_config: None,
            service_tier: None,
        }
    }

    /// What the model said.
    pub fn message(&self) -> &Message {
        let ConverseOutput::Message(message) = &self.output;
        message
    }

    /// What the model said, to change it.
    pub fn message_mut(&mut self) -> &mut Message {
        let ConverseOutput::Message(message) = &mut self.output;
        message
    }

    /// The text of the answer: see [`Message::text`].
    pub fn text(&self) -> String {
        self.message().text()
    }
}

/// What a model gave back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ConverseOutput {
    /// A turn of the conversation.
    Message(Message),
}

/// What guardrails and routers did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConverseTrace {
    /// The guardrail's findings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail: Option<GuardrailTraceAssessment>,
    /// The router's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_router: Option<PromptRouterTrace>,
}

/// A router's choice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptRouterTrace {
    /// The model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoked_model_id: Option<String>,
}
