//! Guardrails: how a request names one, how one is applied alone, what it finds ([`assessment`]) and how it is
//! configured ([`config`]).

use serde::{Deserialize, Serialize};

use crate::wire::{Blob, label};

pub mod assessment;
pub mod config;

pub use assessment::*;
pub use config::*;

label! {
    /// How much of a guardrail's findings the response carries.
    pub enum GuardrailTrace {
        /// The findings.
        Enabled = "enabled",
        /// Nothing.
        Disabled = "disabled",
        /// The findings, and what was looked at without a finding.
        EnabledFull = "enabled_full",
    }

    /// Whether streamed text waits for the guardrail.
    pub enum GuardrailStreamProcessingMode {
        /// Text is held back until it is judged.
        Sync = "sync",
        /// Text is given out at once and judged later. Nothing can be masked in this mode.
        Async = "async",
    }

    /// What a piece of content is to the guardrail.
    pub enum GuardrailContentQualifier {
        /// What the answer must be grounded in.
        GroundingSource = "grounding_source",
        /// The question that the answer must be relevant to.
        Query = "query",
        /// What is judged.
        GuardContent = "guard_content",
    }

    /// Format of a picture that a guardrail looks at.
    pub enum GuardrailImageFormat {
        /// PNG.
        Png = "png",
        /// JPEG.
        Jpeg = "jpeg",
    }

    /// Which side of a conversation a content comes from; each has its own actions and strengths.
    pub enum GuardrailContentSource {
        /// What goes to the model.
        Input = "INPUT",
        /// What the model answered.
        Output = "OUTPUT",
    }

    /// How much of what was looked at is reported.
    pub enum GuardrailOutputScope {
        /// What was found.
        Interventions = "INTERVENTIONS",
        /// Also what was looked at and not found.
        Full = "FULL",
    }

    /// Whether a guardrail changed or blocked something.
    pub enum GuardrailAction {
        /// It did not.
        None = "NONE",
        /// It did.
        GuardrailIntervened = "GUARDRAIL_INTERVENED",
    }
}

/// The guardrail of a request (`GuardrailConfiguration` of `Converse`, `GuardrailStreamConfiguration` of
/// `ConverseStream`: one type here, since one request serves both).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailConfiguration {
    /// Id or ARN of the guardrail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_identifier: Option<String>,
    /// `DRAFT` or a number from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_version: Option<String>,
    /// Whether the response carries the findings. Default: disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<GuardrailTrace>,
    /// Whether streamed text waits. Default: [`GuardrailStreamProcessingMode::Sync`]. Only streams look at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_processing_mode: Option<GuardrailStreamProcessingMode>,
}

/// The service's name of [`GuardrailConfiguration`] in a `ConverseStream` request.
pub type GuardrailStreamConfiguration = GuardrailConfiguration;

impl GuardrailConfiguration {
    /// A version of a guardrail.
    pub fn new(identifier: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            guardrail_identifier: Some(identifier.into()),
            guardrail_version: Some(version.into()),
            ..Self::default()
        }
    }
}

/// Content for the guardrail inside a message (`GuardrailConverseContentBlock`) or alone (`GuardrailContentBlock`): one
/// shape on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum GuardrailContentBlock {
    /// Text.
    Text(GuardrailTextBlock),
    /// A picture.
    Image(GuardrailImageBlock),
}

/// The service's name of [`GuardrailContentBlock`] inside a message.
pub type GuardrailConverseContentBlock = GuardrailContentBlock;

impl GuardrailContentBlock {
    /// Text with what it is to the guardrail. Without qualifiers it is judged.
    pub fn text(text: impl Into<String>, qualifiers: impl IntoIterator<Item = GuardrailContentQualifier>) -> Self {
        Self::Text(GuardrailTextBlock { text: text.into(), qualifiers: qualifiers.into_iter().collect() })
    }
}

impl From<&str> for GuardrailContentBlock {
    fn from(text: &str) -> Self {
        Self::text(text, [])
    }
}

impl From<String> for GuardrailContentBlock {
    fn from(text: String) -> Self {
        Self::text(text, [])
    }
}

/// Text for a guardrail.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailTextBlock {
    /// The text.
    pub text: String,
    /// What it is to the guardrail; may be several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qualifiers: Vec<GuardrailContentQualifier>,
}

/// A picture for a guardrail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailImageBlock {
    /// How it is encoded.
    pub format: GuardrailImageFormat,
    /// The picture.
    pub source: GuardrailImageSource,
}

/// Where a picture for a guardrail is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum GuardrailImageSource {
    /// The encoded file itself.
    Bytes(Blob),
}

/// A request of `ApplyGuardrail`: judge content without a model.
///
/// In HTTP the identifier and the version stand in the path; elsewhere they are the first fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyGuardrailRequest {
    /// Id or ARN of the guardrail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub guardrail_identifier: String,
    /// `DRAFT` or a number from 1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub guardrail_version: String,
    /// Whether the content goes to a model or comes from one.
    pub source: GuardrailContentSource,
    /// What to judge.
    pub content: Vec<GuardrailContentBlock>,
    /// How much to report. Default: interventions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_scope: Option<GuardrailOutputScope>,
}

impl ApplyGuardrailRequest {
    /// Judges `content` with whatever guardrail it is given to.
    pub fn new(
        source: GuardrailContentSource,
        content: impl IntoIterator<Item = impl Into<GuardrailContentBlock>>,
    ) -> Self {
        Self {
            guardrail_identifier: String::new(),
            guardrail_version: String::new(),
            source,
            content: content.into_iter().map(Into::into).collect(),
            output_scope: None,
        }
    }

    /// Judges one text on its way to a model.
    pub fn input(text: impl Into<String>) -> Self {
        Self::new(GuardrailContentSource::Input, [text.into()])
    }

    /// Judges one text that a model wrote.
    pub fn output(text: impl Into<String>) -> Self {
        Self::new(GuardrailContentSource::Output, [text.into()])
    }
}

/// The verdict of `ApplyGuardrail`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyGuardrailResponse {
    /// What the judgement counts.
    pub usage: GuardrailUsage,
    /// Whether something was blocked or masked.
    pub action: GuardrailAction,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_reason: Option<String>,
    /// What to show instead: nothing if the guardrail did not intervene; the configured message if it blocked; the texts
    /// with masks, in the order of the content, if it masked.
    pub outputs: Vec<GuardrailOutputContent>,
    /// The findings.
    pub assessments: Vec<GuardrailAssessment>,
    /// How much was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_coverage: Option<GuardrailCoverage>,
}

impl ApplyGuardrailResponse {
    /// Whether something was blocked or masked.
    pub fn intervened(&self) -> bool {
        self.action == GuardrailAction::GuardrailIntervened
    }

    /// Whether something was blocked, so that nothing of the content may pass.
    pub fn blocked(&self) -> bool {
        self.assessments.iter().any(GuardrailAssessment::blocks)
    }
}

/// One text to show instead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailOutputContent {
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
