//! What a guardrail found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::{
    GuardrailContentFilterType, GuardrailContextualGroundingFilterType, GuardrailManagedWordsType,
    GuardrailPiiEntityType, GuardrailStrength, GuardrailTopicType,
};
use crate::wire::label;

label! {
    /// What was done about a finding. The service has one enum a policy; only sensitive information can be
    /// [`Anonymized`](Self::Anonymized).
    pub enum GuardrailPolicyAction {
        /// The whole content was replaced by the configured message.
        Blocked = "BLOCKED",
        /// The match was replaced by a mask.
        Anonymized = "ANONYMIZED",
        /// It was only reported.
        None = "NONE",
    }

    /// What a contradiction in logic is.
    pub enum GuardrailAutomatedReasoningLogicWarningType {
        /// The statements can't hold together.
        AlwaysFalse = "ALWAYS_FALSE",
        /// The statements hold whatever the case is.
        AlwaysTrue = "ALWAYS_TRUE",
    }

    /// Who demanded a guardrail.
    pub enum GuardrailOrigin {
        /// The request.
        Request = "REQUEST",
        /// The account.
        AccountEnforced = "ACCOUNT_ENFORCED",
        /// The organisation.
        OrganizationEnforced = "ORGANIZATION_ENFORCED",
    }

    /// Whose a guardrail is.
    pub enum GuardrailOwnership {
        /// The caller's account.
        SelfOwned = "SELF",
        /// Another account.
        CrossAccount = "CROSS_ACCOUNT",
    }
}

/// The findings of one guardrail in one content, by policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAssessment {
    /// Denied topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_policy: Option<GuardrailTopicPolicyAssessment>,
    /// Harmful content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_policy: Option<GuardrailContentPolicyAssessment>,
    /// Words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word_policy: Option<GuardrailWordPolicyAssessment>,
    /// Sensitive information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitive_information_policy: Option<GuardrailSensitiveInformationPolicyAssessment>,
    /// Grounding and relevance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contextual_grounding_policy: Option<GuardrailContextualGroundingPolicyAssessment>,
    /// Formal logic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automated_reasoning_policy: Option<GuardrailAutomatedReasoningPolicyAssessment>,
    /// What the judgement took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation_metrics: Option<GuardrailInvocationMetrics>,
    /// Which guardrail judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_guardrail_details: Option<AppliedGuardrailDetails>,
}

impl GuardrailAssessment {
    /// The actions of all findings.
    pub fn actions(&self) -> impl Iterator<Item = &GuardrailPolicyAction> {
        let topics = self.topic_policy.iter().flat_map(|policy| &policy.topics).map(|finding| &finding.action);
        let filters = self.content_policy.iter().flat_map(|policy| &policy.filters).map(|finding| &finding.action);
        let words = self.word_policy.iter().flat_map(|policy| {
            let custom = policy.custom_words.iter().map(|finding| &finding.action);
            custom.chain(policy.managed_word_lists.iter().map(|finding| &finding.action))
        });
        let sensitive = self.sensitive_information_policy.iter().flat_map(|policy| {
            let entities = policy.pii_entities.iter().map(|finding| &finding.action);
            entities.chain(policy.regexes.iter().map(|finding| &finding.action))
        });
        let grounding =
            self.contextual_grounding_policy.iter().flat_map(|policy| &policy.filters).map(|finding| &finding.action);
        topics.chain(filters).chain(words).chain(sensitive).chain(grounding)
    }

    /// Whether a finding blocks.
    pub fn blocks(&self) -> bool {
        self.actions().any(|action| *action == GuardrailPolicyAction::Blocked)
    }

    /// Whether a finding blocks or masks.
    pub fn intervenes(&self) -> bool {
        self.actions().any(|action| *action != GuardrailPolicyAction::None)
    }
}

/// Denied topics that were found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailTopicPolicyAssessment {
    /// The topics.
    pub topics: Vec<GuardrailTopic>,
}

/// One denied topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailTopic {
    /// Its configured name.
    pub name: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: GuardrailTopicType,
    /// What was done.
    pub action: GuardrailPolicyAction,
    /// Whether the content is about it; false is reported in full scope only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected: Option<bool>,
}

/// Harmful content that was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailContentPolicyAssessment {
    /// One entry a category.
    pub filters: Vec<GuardrailContentFilter>,
}

/// One category of harmful content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailContentFilter {
    /// The category.
    #[serde(rename = "type")]
    pub kind: GuardrailContentFilterType,
    /// How sure the filter is.
    pub confidence: GuardrailStrength,
    /// The configured strength.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_strength: Option<GuardrailStrength>,
    /// What was done.
    pub action: GuardrailPolicyAction,
    /// Whether it was found; false is reported in full scope only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected: Option<bool>,
}

/// Words that were found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailWordPolicyAssessment {
    /// Of the guardrail's own words and phrases.
    pub custom_words: Vec<GuardrailCustomWord>,
    /// Of the lists that come with the service.
    pub managed_word_lists: Vec<GuardrailManagedWord>,
}

/// One of the guardrail's own words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailCustomWord {
    /// The match, as it stands in the content.
    #[serde(rename = "match")]
    pub matched: String,
    /// What was done.
    pub action: GuardrailPolicyAction,
    /// Whether it was found; false is reported in full scope only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected: Option<bool>,
}

/// One word of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailManagedWord {
    /// The match, as it stands in the content.
    #[serde(rename = "match")]
    pub matched: String,
    /// The list.
    #[serde(rename = "type")]
    pub kind: GuardrailManagedWordsType,
    /// What was done.
    pub action: GuardrailPolicyAction,
    /// Whether it was found; false is reported in full scope only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected: Option<bool>,
}

/// Sensitive information that was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailSensitiveInformationPolicyAssessment {
    /// Of the built-in kinds.
    pub pii_entities: Vec<GuardrailPiiEntityFilter>,
    /// By the guardrail's own patterns.
    pub regexes: Vec<GuardrailRegexFilter>,
}

/// One piece of personal data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailPiiEntityFilter {
    /// The match, as it stands in the content.
    #[serde(rename = "match")]
    pub matched: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: GuardrailPiiEntityType,
    /// What was done.
    pub action: GuardrailPolicyAction,
    /// Whether it was found; false is reported in full scope only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected: Option<bool>,
}

/// One match of a pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailRegexFilter {
    /// Name of the pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The match, as it stands in the content.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matched: Option<String>,
    /// The pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// What was done.
    pub action: GuardrailPolicyAction,
    /// Whether it was found; false is reported in full scope only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected: Option<bool>,
}

/// Grounding and relevance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailContextualGroundingPolicyAssessment {
    /// The scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<GuardrailContextualGroundingFilter>,
}

/// One score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailContextualGroundingFilter {
    /// What is scored.
    #[serde(rename = "type")]
    pub kind: GuardrailContextualGroundingFilterType,
    /// The configured threshold, 0–1.
    pub threshold: f64,
    /// The score, 0–1; higher is better grounded or more relevant.
    pub score: f64,
    /// What was done: a score below the threshold is acted on.
    pub action: GuardrailPolicyAction,
    /// Whether the score is below the threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected: Option<bool>,
}

/// What formal logic says of the content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningPolicyAssessment {
    /// The findings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<GuardrailAutomatedReasoningFinding>,
}

/// One finding of formal logic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum GuardrailAutomatedReasoningFinding {
    /// The claims follow from the rules.
    Valid(GuardrailAutomatedReasoningValidFinding),
    /// The claims contradict the rules.
    Invalid(GuardrailAutomatedReasoningInvalidFinding),
    /// The claims may be true or false.
    Satisfiable(GuardrailAutomatedReasoningSatisfiableFinding),
    /// The premises contradict the rules.
    Impossible(GuardrailAutomatedReasoningImpossibleFinding),
    /// The text can be read in several ways.
    TranslationAmbiguous(GuardrailAutomatedReasoningTranslationAmbiguousFinding),
    /// The text has too much in it.
    TooComplex {},
    /// Nothing in the text concerns the rules.
    NoTranslations {},
}

/// Claims that follow from the rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningValidFinding {
    /// The text as logic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translation: Option<GuardrailAutomatedReasoningTranslation>,
    /// A case in which the claims hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims_true_scenario: Option<GuardrailAutomatedReasoningScenario>,
    /// The rules that prove them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supporting_rules: Vec<GuardrailAutomatedReasoningRule>,
    /// A flaw of the statements themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logic_warning: Option<GuardrailAutomatedReasoningLogicWarning>,
}

/// Claims that contradict the rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningInvalidFinding {
    /// The text as logic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translation: Option<GuardrailAutomatedReasoningTranslation>,
    /// The rules that refute them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contradicting_rules: Vec<GuardrailAutomatedReasoningRule>,
    /// A flaw of the statements themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logic_warning: Option<GuardrailAutomatedReasoningLogicWarning>,
}

/// Claims that may be true or false.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningSatisfiableFinding {
    /// The text as logic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translation: Option<GuardrailAutomatedReasoningTranslation>,
    /// A case in which the claims hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims_true_scenario: Option<GuardrailAutomatedReasoningScenario>,
    /// A case in which they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims_false_scenario: Option<GuardrailAutomatedReasoningScenario>,
    /// A flaw of the statements themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logic_warning: Option<GuardrailAutomatedReasoningLogicWarning>,
}

/// Premises that contradict the rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningImpossibleFinding {
    /// The text as logic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translation: Option<GuardrailAutomatedReasoningTranslation>,
    /// The rules that refute them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contradicting_rules: Vec<GuardrailAutomatedReasoningRule>,
    /// A flaw of the statements themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logic_warning: Option<GuardrailAutomatedReasoningLogicWarning>,
}

/// A text that can be read in several ways.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningTranslationAmbiguousFinding {
    /// The ways.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<GuardrailAutomatedReasoningTranslationOption>,
    /// Cases in which they differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub difference_scenarios: Vec<GuardrailAutomatedReasoningScenario>,
}

/// One way to read a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningTranslationOption {
    /// The text as logic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub translations: Vec<GuardrailAutomatedReasoningTranslation>,
}

/// A text as logic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningTranslation {
    /// What the text presupposes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub premises: Vec<GuardrailAutomatedReasoningStatement>,
    /// What the text claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<GuardrailAutomatedReasoningStatement>,
    /// Parts of the premises that could not be put in logic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untranslated_premises: Vec<GuardrailAutomatedReasoningInputTextReference>,
    /// Parts of the claims that could not be put in logic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untranslated_claims: Vec<GuardrailAutomatedReasoningInputTextReference>,
    /// How sure the translation is, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// A case, as the statements that hold in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningScenario {
    /// The statements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<GuardrailAutomatedReasoningStatement>,
}

/// One statement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningStatement {
    /// In logic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logic: Option<String>,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub natural_language: Option<String>,
}

/// A part of the text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningInputTextReference {
    /// The part, word for word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningRule {
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// The policy it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_version_arn: Option<String>,
}

/// A flaw of statements that does not depend on the rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningLogicWarning {
    /// The flaw.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<GuardrailAutomatedReasoningLogicWarningType>,
    /// The premises concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub premises: Vec<GuardrailAutomatedReasoningStatement>,
    /// The claims concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<GuardrailAutomatedReasoningStatement>,
}

/// What a judgement took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailInvocationMetrics {
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_processing_latency: Option<u64>,
    /// What it counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<GuardrailUsage>,
    /// How much was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_coverage: Option<GuardrailCoverage>,
}

/// What a judgement counts, by policy. A text unit is up to 1,000 characters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailUsage {
    /// Text units of denied topics.
    pub topic_policy_units: u32,
    /// Text units of harmful content.
    pub content_policy_units: u32,
    /// Text units of words.
    pub word_policy_units: u32,
    /// Text units of sensitive information.
    pub sensitive_information_policy_units: u32,
    /// Text units of patterns, which the service does not charge.
    pub sensitive_information_policy_free_units: u32,
    /// Text units of grounding and relevance.
    pub contextual_grounding_policy_units: u32,
    /// Pictures looked at for harmful content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_policy_image_units: Option<u32>,
    /// Text units of formal logic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automated_reasoning_policy_units: Option<u32>,
    /// Policies of formal logic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automated_reasoning_policies: Option<u32>,
}

/// How much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailCoverage {
    /// Of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_characters: Option<GuardrailTextCharactersCoverage>,
    /// Of the pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<GuardrailImageCoverage>,
}

/// How much of the text was looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailTextCharactersCoverage {
    /// Characters looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guarded: Option<u32>,
    /// All characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u32>,
}

/// How many pictures were looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailImageCoverage {
    /// Pictures looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guarded: Option<u32>,
    /// All pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u32>,
}

/// Which guardrail judged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedGuardrailDetails {
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_id: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_version: Option<String>,
    /// Its ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_arn: Option<String>,
    /// Who demanded it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guardrail_origin: Vec<GuardrailOrigin>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_ownership: Option<GuardrailOwnership>,
}

/// The findings of a guardrail around one call of a model, in [`ConverseTrace::guardrail`](crate::ConverseTrace::guardrail).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailTraceAssessment {
    /// What the model said before the guardrail changed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model_output: Vec<String>,
    /// Findings in the request, by guardrail id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input_assessment: BTreeMap<String, GuardrailAssessment>,
    /// Findings in the answer, by guardrail id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub output_assessments: BTreeMap<String, Vec<GuardrailAssessment>>,
    /// Why the guardrail intervened, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_reason: Option<String>,
}
