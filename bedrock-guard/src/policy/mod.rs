//! What a guardrail looks for: one module a policy.

pub(crate) mod content;
pub(crate) mod grounding;
pub(crate) mod pii;
pub(crate) mod regex;
pub(crate) mod topic;
pub(crate) mod topic_judge;
pub(crate) mod word;
