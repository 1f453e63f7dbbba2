//! A record of every intervention: what kind, how often, what was done; never the text, unless asked for.

use std::sync::Arc;
use std::time::Duration;

use bedrock_core::{
    GuardrailAssessment, GuardrailContentFilterType as Type, GuardrailContentSource, GuardrailPolicyAction,
};
use serde::Serialize;

use crate::guardrail::Judged;
use crate::policy::content::attack::AttackKind;

/// Called for each judgement that found something.
pub(crate) type Recorder = Arc<dyn Fn(&Intervention) + Send + Sync>;

/// One judgement that found something. Serialises to one flat JSON object, ready for a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Intervention {
    /// The guardrail.
    pub guardrail_id: String,
    /// Its version.
    pub guardrail_version: String,
    /// Whether the content went to a model or came from one.
    pub source: GuardrailContentSource,
    /// The strongest thing that was done: BLOCKED, ANONYMIZED or NONE (only reported).
    pub action: GuardrailPolicyAction,
    /// Findings, counted.
    pub findings: Vec<FindingCount>,
    /// Characters (Unicode code points) that were judged.
    pub characters: usize,
    /// Pictures that were judged.
    pub pictures: u32,
    /// How long that took, in microseconds.
    pub latency_us: u64,
    /// The matches themselves, in the order of the text; only if the guardrail was told to record them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<String>>,
}

/// How often something was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FindingCount {
    /// `topicPolicy`, `contentPolicy`, `contextualGroundingPolicy`, `sensitiveInformationPolicy` or `wordPolicy`.
    pub policy: &'static str,
    /// `EMAIL`, the name of a topic or pattern, `customWord`, `PROFANITY` or a content category. Custom words are not named: they may be confidential.
    pub kind: String,
    /// Which kind of prompt attack the worst piece of text is, if the finding is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<AttackKind>,
    /// What was done.
    pub action: GuardrailPolicyAction,
    /// How often. A word counts once however often it stands in the text.
    pub count: usize,
}

impl Intervention {
    pub(crate) fn new(
        id: &str,
        version: &str,
        source: &GuardrailContentSource,
        assessment: &GuardrailAssessment,
        attack: Option<AttackKind>,
        judged: Judged,
        latency: Duration,
    ) -> Self {
        let mut findings: Vec<FindingCount> = Vec::new();
        let mut count = |policy, kind: &str, action: &GuardrailPolicyAction| match findings
            .iter_mut()
            .find(|f| f.policy == policy && f.kind == kind && f.action == *action)
        {
            Some(found) => found.count += 1,
            None => {
                let attack = attack.filter(|_| kind == Type::PromptAttack.as_str() && policy == "contentPolicy");
                let action = action.clone();
                findings.push(FindingCount { policy, kind: kind.to_owned(), attack, action, count: 1 });
            }
        };
        let topics = assessment.topic_policy.iter().flat_map(|policy| &policy.topics);
        for topic in topics.filter(|topic| topic.detected == Some(true)) {
            count("topicPolicy", &topic.name, &topic.action);
        }
        for filter in assessment.content_policy.iter().flat_map(|policy| &policy.filters) {
            count("contentPolicy", filter.kind.as_str(), &filter.action);
        }
        let checks = assessment.contextual_grounding_policy.iter().flat_map(|policy| &policy.filters);
        for check in checks.filter(|check| check.detected == Some(true)) {
            count("contextualGroundingPolicy", check.kind.as_str(), &check.action);
        }
        if let Some(policy) = &assessment.sensitive_information_policy {
            for entity in &policy.pii_entities {
                count("sensitiveInformationPolicy", entity.kind.as_str(), &entity.action);
            }
            for regex in &policy.regexes {
                count("sensitiveInformationPolicy", regex.name.as_deref().unwrap_or_default(), &regex.action);
            }
        }
        if let Some(policy) = &assessment.word_policy {
            for word in &policy.custom_words {
                count("wordPolicy", "customWord", &word.action);
            }
            for word in &policy.managed_word_lists {
                count("wordPolicy", word.kind.as_str(), &word.action);
            }
        }
        let done = |wanted: GuardrailPolicyAction| findings.iter().any(|finding| finding.action == wanted);
        let action = if done(GuardrailPolicyAction::Blocked) {
            GuardrailPolicyAction::Blocked
        } else if done(GuardrailPolicyAction::Anonymized) {
            GuardrailPolicyAction::Anonymized
        } else {
            GuardrailPolicyAction::None
        };
        Self {
            guardrail_id: id.to_owned(),
            guardrail_version: version.to_owned(),
            source: source.clone(),
            action,
            findings,
            characters: judged.characters,
            pictures: judged.pictures,
            latency_us: u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
            matches: None,
        }
    }
}
