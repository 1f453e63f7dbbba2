//! From logits to text: choosing the next token, and knowing when to stop.
//!
//! Everything here works on plain slices and knows nothing of tensors. A generation loop is
//!
//! ```
//! # use bedrock_models::generate::{Context, Sampler, SamplingParams};
//! # fn forward(_: &[u32]) -> Vec<f32> { vec![0.0, 2.0, 1.0] }
//! let mut sampler = Sampler::new(SamplingParams { temperature: 0.7, top_p: Some(0.9), seed: Some(7), ..SamplingParams::default() })?;
//! let prompt = [0, 2];
//! let mut generated = Vec::new();
//! for _ in 0..4 {
//!     let logits = forward(&generated);
//!     generated.push(sampler.sample(&logits, Context { prompt: &prompt, generated: &generated })?);
//! }
//! # Ok::<(), bedrock_models::Error>(())
//! ```
//!
//! with a [`TextStream`] to turn the ids into text, cut at stop sequences, and [`token_log_prob`] for those who want to
//! know how sure the model was.

mod constraint;
mod exp;
mod filter;
mod logprob;
mod params;
mod sample;
mod speculate;
mod stop;
mod text;

pub use constraint::Constraint;
pub(crate) use constraint::{Constraints, Masking, STACK, set_white_space};
pub use logprob::{TokenLogProb, token_log_prob};
pub use params::SamplingParams;
pub use sample::{Candidate, Context, Sampler};
pub use speculate::{Drawn, lookup};
pub use stop::StopMatcher;
pub use text::{FinishReason, TextDelta, TextStream, TextStreamOptions};
