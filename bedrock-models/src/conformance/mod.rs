//! Checks models of this crate against reference outputs that other software computed.
//!
//! A *case* is a folder with what a downloaded model folder holds, and two files more: `expected.json` (structure, token
//! ids, texts, tolerances) and `expected.safetensors` (the reference tensors, all `f32`). In the first, a tensor stands
//! as `{"tensor": NAME, "shape": [...]}`, NAME being its key in the second. [`check`] loads the model as anybody would,
//! through the public types of this crate, and compares; it never panics, whatever the folder holds.
//!
//! | `kind` | what is compared |
//! | --- | --- |
//! | `causal_lm` | tokens, logits at all positions, greedy continuations (engine, cached, uncached), end of text, batches, log-probabilities |
//! | `causal_lm_train`, `causal_lm_lora` | the same; logits with adapters; losses and gradients over steps of AdamW (feature `tune`) |
//! | `seq2seq_lm` | tokens, the encoder's hidden state, logits, greedy answers (engine, cached), end of text, batches, log-probabilities |
//! | `text_embedding` | tokens, last hidden states, pooled and normalised vectors, the pooler |
//! | `sequence_classification` | tokens of texts and pairs, logits, scores |
//! | `token_classification` | tokens, offsets, logits, entities by all aggregation strategies |
//! | `tokenizers` | ids, offsets, decoding, pairs, truncation |
//! | `chat_templates` | rendered conversations, refusals |
//! | `sampling` | which tokens may be chosen, and how probable each is |
//! | `gguf` | decoded blocks, storage types, logits with full and with 8-bit activations |
//!
//! Other kinds, and architectures that the loader refuses, are [`Verdict::Unsupported`].
//!
//! [`check_llama_cpp`] and [`check_sentence_transformers`] compare a whole published model with what other software made
//! of the same file.

mod case;
mod causal_lm;
mod chat_templates;
mod findings;
mod gguf;
mod published;
mod sampling;
mod seq2seq_lm;
mod sequence_classification;
mod text_embedding;
mod token_classification;
mod tokenizers;
mod training;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::options::LoadOptions;
use case::Case;
use findings::{Findings, Stop};

pub use published::{check_llama_cpp, check_sentence_transformers};

/// What came out of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The name of the case's folder or file.
    pub name: String,
    /// The largest error of all tensors compared, each relative to the largest absolute value of its reference.
    /// Infinite if a value is no number or lengths differ.
    pub worst: f64,
    /// Whether everything agrees.
    pub verdict: Verdict,
}

/// Whether a case agrees with its reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is within its tolerance.
    Pass,
    /// Something differs, or the case cannot be read.
    Fail {
        /// What, one sentence each; the first few if there are many.
        reasons: Vec<String>,
    },
    /// The case asks for something that this version does not have.
    Unsupported {
        /// What it asks for.
        reason: String,
    },
}

impl fmt::Display for Outcome {
    /// `PASS name error`, `FAIL name error` or `UNSUPPORTED name reason`: one line, without the reasons of a failure.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, worst, verdict } = self;
        match verdict {
            Verdict::Pass => write!(formatter, "PASS {name} {worst:.1e}"),
            Verdict::Fail { .. } => write!(formatter, "FAIL {name} {worst:.1e}"),
            Verdict::Unsupported { reason } => {
                write!(formatter, "UNSUPPORTED {name} {}", reason.lines().collect::<Vec<_>>().join(" "))
            }
        }
    }
}

/// The cases in a folder: its sub-folders with an `expected.json`, by name; the folder itself if it has one.
///
/// # Errors
/// [`Error::Read`] if the folder cannot be listed.
pub fn cases(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let is_case = |path: &Path| path.join(case::EXPECTED).is_file();
    if is_case(folder) {
        return Ok(vec![folder.to_path_buf()]);
    }
    let read = |source| Error::Read { path: folder.to_path_buf(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if is_case(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Checks one case on the device and with the threads of `options`.
pub fn check(folder: &Path, options: &LoadOptions) -> Outcome {
    outcome(crate::language_model::name_of(folder), |findings| {
        let case = Case::open(folder)?;
        match case.kind() {
            "causal_lm" => causal_lm::check(&case, options, findings),
            "causal_lm_train" | "causal_lm_lora" => {
                causal_lm::check(&case, options, findings)?;
                training::check(&case, options, findings)
            }
            "seq2seq_lm" => seq2seq_lm::check(&case, options, findings),
            "text_embedding" => text_embedding::check(&case, options, findings),
            "sequence_classification" => sequence_classification::check(&case, options, findings),
            "token_classification" => token_classification::check(&case, options, findings),
            "tokenizers" => tokenizers::check(&case, findings),
            "chat_templates" => chat_templates::check(&case, findings),
            "sampling" => sampling::check(&case, findings),
            "gguf" => gguf::check(&case, options, findings),
            other => Err(Stop::Unsupported(format!("cases of kind {other:?}"))),
        }
    })
}

/// Runs a check and sums up. A panic is a bug of this crate; it fails this case and not the run.
fn outcome(name: String, check: impl FnOnce(&mut Findings) -> Result<(), Stop>) -> Outcome {
    let mut findings = Findings::default();
    let result = catch_unwind(AssertUnwindSafe(|| check(&mut findings)));
    let verdict = match result {
        Ok(Ok(())) => findings.verdict(),
        Ok(Err(stop)) => Err(stop),
        Err(_) => Err(Stop::Differs(vec!["the check panicked".into()])),
    };
    let verdict = match verdict {
        Ok(()) => Verdict::Pass,
        Err(Stop::Unsupported(reason)) => Verdict::Unsupported { reason },
        Err(Stop::Differs(reasons)) => Verdict::Fail { reasons },
        Err(Stop::Failed(error)) => {
            let mut reasons = findings.differences();
            reasons.push(findings::chain(&*error));
            Verdict::Fail { reasons }
        }
    };
    Outcome { name, worst: findings.worst(), verdict }
}
