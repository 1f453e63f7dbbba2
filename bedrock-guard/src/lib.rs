//! Guardrails in your own process: harmful content, prompt attacks, words, personal data and your own patterns are found, masked or blocked,
//! and answers are held against their source, in the input and the output of any chat model, in whole answers and in streams, and of tools and knowledge bases.
//!
//! A guardrail is the JSON body of the service's `CreateGuardrail`:
//!
//! ```
//! use bedrock_core::testing::{Reply, ScriptedModel};
//! use bedrock_core::{ChatModel, ConverseRequest};
//! use bedrock_guard::{Guarded, Guardrail};
//!
//! let guardrail = Guardrail::from_json(
//!     r#"{
//!         "name": "support",
//!         "blockedInputMessaging": "I can't help with that.",
//!         "blockedOutputsMessaging": "I can't say that.",
//!         "wordPolicyConfig": {"managedWordListsConfig": [{"type": "PROFANITY"}]},
//!         "sensitiveInformationPolicyConfig": {"piiEntitiesConfig": [{"type": "PHONE", "action": "ANONYMIZE"}]}
//!     }"#,
//! )?;
//! // Any chat model, local or remote; a scripted one here.
//! let model = Guarded::new(ScriptedModel::new([Reply::text("Call (415) 555-0132.")]), guardrail);
//! let answer = model.converse_blocking(&ConverseRequest::new("any").user("How do I reach you?"))?;
//! assert_eq!(answer.text(), "Call {PHONE}.");
//! # Ok::<(), bedrock_core::Error>(())
//! ```
//!
//! # The tour
//! - [`Guardrail`] is compiled from a configuration and judges texts: alone through [`bedrock_core::Guardrail`]
//!   (`ApplyGuardrail`), with positions and scores through [`Guardrail::find`].
//! - [`Guardrail::builder`] gives it models to ask: a sentence encoder for denied topics and tier `STANDARD`, classifiers
//!   in place of the built-in filters, a classifier of pictures, a judge of topics.
//! - [`Guarded`] puts one around a model, a tool or a retriever, and is one itself, so guardrails nest and compose with other middleware, and an agent of guarded
//!   parts is guarded.
//! - Prompt attacks are told apart: jailbreaks, direct and indirect injections, leakage of the instructions ([`AttackKind`], in [`TextFinding::attack`], in
//!   records and counters).
//! - [`Vault`] makes the masks of a conversation pseudonyms that can be taken back, before a tool is called or for the user.
//! - [`PiiRecognizer`] is the finder of personal data by itself: the 31 kinds of the service, with scores.
//! - [`suite`] runs cases against a guardrail, disguises them, and compares versions; [`GuardrailVersions`] keeps a draft and numbered versions.
//! - [`Intervention`] records say what was found how often, for logs and metrics ([`Guardrail::on_intervention`]).
//!
//! # What it can't do
//! - Automated reasoning is refused when a guardrail that has it is built, and so are content filters of tier `STANDARD` without an
//!   embedding model, denied topics without one or a [`TopicJudge`], and filters of pictures without an [`ImageClassifier`]; nothing is left out silently.
//! - No model that looks at pictures comes with the crate: [`GuardrailBuilder::image_classifier`] takes yours. Text in pictures is not read. Sound, video and
//!   documents that are no text (PDF, Word) are not judged.
//! - Content filters and grounding checks are small models for English: their figures, and where they are weak, are in
//!   `data/CONTENT_CARD.md`, `data/ATTACK_CARD.md` and `data/GROUNDING_CARD.md`.
//! - Names are found by a small tagger over capitalised words: those in small letters are mostly missed (`data/NAMES_CARD.md`). Addresses are found by
//!   word lists and grammar, which lean to the languages of Europe and North America.
//! - Words of the word filter are matched as they are written, unless [`GuardrailBuilder::word_inflections`] or
//!   [`GuardrailBuilder::word_disguises`] asks for more.
//! - A [`Vault`] takes back no masks of other vaults. It can't keep a model from writing a pseudonym that it was shown where somebody
//!   wants it.
//! - A match is looked for inside one text: a number that is spread over two blocks of content is not found.

mod assess;
mod classifier;
mod counters;
mod detect;
mod examine;
mod guarded;
mod guardrail;
mod hold;
mod json;
mod models;
mod pattern;
mod picture;
mod policy;
mod record;
mod relay;
mod runs;
mod scan;
pub mod suite;
#[cfg(feature = "train")]
pub mod train;
mod unmask;
mod vault;
mod versions;

pub use classifier::ContentClassifier;
pub use counters::{AttackCounts, GuardrailMetrics};
pub use guarded::{Guarded, OnFailure};
pub use guardrail::{FindingKind, Guardrail, TextFinding};
pub use models::GuardrailBuilder;
pub use picture::{ImageClassifier, ImageContentClassifier};
pub use policy::content::attack::{AttackKind, AttackScores};
pub use policy::pii::{KINDS, PiiFinding, PiiRecognizer, THRESHOLD};
pub use policy::topic_judge::TopicJudge;
pub use record::{FindingCount, Intervention};
pub use unmask::Unmasker;
pub use vault::Vault;
pub use versions::GuardrailVersions;
