//! `RetrieveAndGenerate`: an answer from a knowledge base, with citations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inference::PerformanceConfiguration;
use crate::media::S3Location;
use crate::retrieve::{
    KnowledgeBaseGuardrailAction, KnowledgeBaseGuardrailConfiguration, KnowledgeBaseRetrievalConfiguration,
    RetrievalResultContent, RetrievalResultLocation, UserContext,
};
use crate::wire::{Blob, label};

label! {
    /// Where the answer comes from.
    pub enum RetrieveAndGenerateType {
        /// A knowledge base.
        KnowledgeBase = "KNOWLEDGE_BASE",
        /// A document of the request.
        ExternalSources = "EXTERNAL_SOURCES",
    }

    /// Where a document of the request is.
    pub enum ExternalSourceType {
        /// In an object store.
        S3 = "S3",
        /// In the request.
        ByteContent = "BYTE_CONTENT",
    }

    /// What is done to the question before the search.
    pub enum QueryTransformationType {
        /// It is taken apart into several.
        QueryDecomposition = "QUERY_DECOMPOSITION",
    }
}

/// A request of `RetrieveAndGenerate` or `RetrieveAndGenerateStream`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrieveAndGenerateRequest {
    /// The question.
    pub input: RetrieveAndGenerateInput,
    /// Where and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieve_and_generate_configuration: Option<RetrieveAndGenerateConfiguration>,
    /// How the session is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_configuration: Option<RetrieveAndGenerateSessionConfiguration>,
    /// Continues a conversation: what an earlier answer gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_context: Option<UserContext>,
}

impl RetrieveAndGenerateRequest {
    /// Asks a knowledge base, with a model to answer.
    pub fn new(knowledge_base_id: impl Into<String>, model_arn: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            input: RetrieveAndGenerateInput { text: text.into() },
            retrieve_and_generate_configuration: Some(RetrieveAndGenerateConfiguration {
                kind: RetrieveAndGenerateType::KnowledgeBase,
                knowledge_base_configuration: Some(KnowledgeBaseRetrieveAndGenerateConfiguration {
                    knowledge_base_id: knowledge_base_id.into(),
                    model_arn: model_arn.into(),
                    ..Default::default()
                }),
                external_sources_configuration: None,
            }),
            ..Self::default()
        }
    }

    /// Continues a conversation.
    pub fn session(mut self, session_id: impl Into<String>) -> Self {
        self.session_id = Some(session_id.into());
        self
    }
}

/// The question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrieveAndGenerateInput {
    /// At most 1,000 characters.
    pub text: String,
}

/// Where and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrieveAndGenerateConfiguration {
    /// Which of the two is set.
    #[serde(rename = "type")]
    pub kind: RetrieveAndGenerateType,
    /// From a knowledge base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knowledge_base_configuration: Option<KnowledgeBaseRetrieveAndGenerateConfiguration>,
    /// From a document of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_sources_configuration: Option<ExternalSourcesRetrieveAndGenerateConfiguration>,
}

/// An answer from a knowledge base.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnowledgeBaseRetrieveAndGenerateConfiguration {
    /// The knowledge base.
    pub knowledge_base_id: String,
    /// The model that answers.
    pub model_arn: String,
    /// How to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval_configuration: Option<KnowledgeBaseRetrievalConfiguration>,
    /// How to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_configuration: Option<GenerationConfiguration>,
    /// What to do to the question before the search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestration_configuration: Option<OrchestrationConfiguration>,
}

/// An answer from a document of the request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalSourcesRetrieveAndGenerateConfiguration {
    /// The model that answers.
    pub model_arn: String,
    /// The document; exactly one.
    pub sources: Vec<ExternalSource>,
    /// How to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_configuration: Option<GenerationConfiguration>,
}

/// A document of the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalSource {
    /// Which of the two is set.
    pub source_type: ExternalSourceType,
    /// In an object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_location: Option<S3Location>,
    /// In the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_content: Option<ByteContentDoc>,
}

/// A document in the request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ByteContentDoc {
    /// Its name, 1–1,024 characters.
    pub identifier: String,
    /// Its media type.
    pub content_type: String,
    /// The encoded file, at most 10 MiB.
    pub data: Blob,
}

/// How to answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationConfiguration {
    /// What the model is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_template: Option<PromptTemplate>,
    /// Length and sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_config: Option<InferenceConfig>,
    /// The guardrail to apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_configuration: Option<KnowledgeBaseGuardrailConfiguration>,
    /// Parameters that only some models know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub additional_model_request_fields: BTreeMap<String, Value>,
    /// Speed or price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance_config: Option<PerformanceConfiguration>,
}

/// What is done to the question before the search.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrchestrationConfiguration {
    /// What the model is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_template: Option<PromptTemplate>,
    /// Length and sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_config: Option<InferenceConfig>,
    /// Parameters that only some models know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub additional_model_request_fields: BTreeMap<String, Value>,
    /// Speed or price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance_config: Option<PerformanceConfiguration>,
    /// What is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_transformation_configuration: Option<QueryTransformationConfiguration>,
}

/// What a model is told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptTemplate {
    /// 1–4,000 characters with the placeholders `$search_results$`, `$query$`, `$output_format_instructions$` and
    /// `$conversation_history$`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_prompt_template: Option<String>,
}

/// Length and sampling, one level down as the service has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceConfig {
    /// Of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_inference_config: Option<TextInferenceConfig>,
}

/// Length and sampling.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TextInferenceConfig {
    /// Most tokens, 0–65,536.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Texts at which the model stops, at most 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_sequences: Vec<String>,
    /// Randomness, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Samples among the likeliest tokens that together have this probability, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
}

/// What is done to a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryTransformationConfiguration {
    /// Which.
    #[serde(rename = "type")]
    pub kind: QueryTransformationType,
}

/// How a session is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrieveAndGenerateSessionConfiguration {
    /// Key that encrypts it.
    pub kms_key_arn: String,
}

/// The answer of `RetrieveAndGenerate`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrieveAndGenerateResponse {
    /// The answer.
    pub output: RetrieveAndGenerateOutput,
    /// Which part of it rests on which passages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub citations: Vec<Citation>,
    /// Whether a guardrail intervened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_action: Option<KnowledgeBaseGuardrailAction>,
    /// Continues the conversation.
    pub session_id: String,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrieveAndGenerateOutput {
    /// The text.
    pub text: String,
}

/// A part of an answer and what it rests on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Citation {
    /// The part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated_response_part: Option<GeneratedResponsePart>,
    /// The passages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retrieved_references: Vec<RetrievedReference>,
}

/// A part of an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GeneratedResponsePart {
    /// Of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_response_part: Option<TextResponsePart>,
}

/// A part of a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TextResponsePart {
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// The part, word for word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A range of characters of an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// First character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// Last character (inclusive, as the service has it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
}

/// A passage that a part of an answer rests on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievedReference {
    /// The passage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<RetrievalResultContent>,
    /// Where its document comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<RetrievalResultLocation>,
    /// The attributes of its document.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
}

/// One event of `RetrieveAndGenerateStream`. Exceptions are the `Err` items of the stream; the session's id is a header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RetrieveAndGenerateStreamEvent {
    /// More of the answer.
    Output(RetrieveAndGenerateOutput),
    /// What a part of the answer rests on.
    Citation(CitationEvent),
    /// What the guardrail did.
    Guardrail(GuardrailEvent),
}

/// What a part of an answer rests on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CitationEvent {
    /// The older form, with both in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citation: Option<Citation>,
    /// The part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated_response_part: Option<GeneratedResponsePart>,
    /// The passages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retrieved_references: Vec<RetrievedReference>,
}

/// What a guardrail did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailEvent {
    /// Whether it intervened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<KnowledgeBaseGuardrailAction>,
}
