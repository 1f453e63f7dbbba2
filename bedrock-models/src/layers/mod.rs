//! The mathematics that several architectures share, on burn tensors.
//!
//! A batch is never padded: activations are `[rows, features]`, where the rows of all sequences of a step lie one
//! after another, and only [attention](attention) knows where one sequence ends. On the flex device each layer
//! is one call of our [kernels](crate::kernels) on the tensor's own memory; on every other device it is composed of burn's operations.

pub(crate) mod activation;
pub(crate) mod adapter;
pub(crate) mod attention;
pub(crate) mod disentangled;
pub(crate) mod embedding;
pub(crate) mod experts;
pub(crate) mod linear;
pub(crate) mod loader;
pub(crate) mod mlp;
pub(crate) mod norm;
pub(crate) mod parameter;
mod pattern;
#[cfg(feature = "tune")]
pub(crate) mod product;
pub(crate) mod relative;
pub(crate) mod rope;
pub(crate) mod run;
#[cfg(feature = "tune")]
pub(crate) mod tape;

pub(crate) use activation::Activation;
#[cfg(feature = "tune")]
pub(crate) use adapter::inner_name;
pub(crate) use adapter::{Adapter, LoraConfig, number_of};
pub(crate) use attention::{Attention, LayerCache, Scratch, Sequence};
pub(crate) use embedding::Embedding;
pub(crate) use experts::Experts;
pub(crate) use linear::{Linear, project};
pub(crate) use loader::{Bias, Loader};
pub(crate) use mlp::GatedMlp;
pub(crate) use norm::{LayerNorm, RmsNorm};
pub(crate) use parameter::Parameter;
#[cfg(feature = "tune")]
pub(crate) use parameter::Parameters;
pub use rope::RopeProblem;
pub(crate) use rope::{RopeFields, RopeParameters, Rotary};
pub(crate) use run::{Compute, Phase, Run};
