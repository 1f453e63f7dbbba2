//! What the arithmetic of a model costs, down to the instruction: thread pool, matrix products on stored weights,
//! attention over a paged cache, and the element-wise functions between them.
//!
//! This is the only module of the workspace with `unsafe` code. Every kernel has a plain version in safe Rust
//! which defines what it computes; the version for AVX2, AVX-VNNI, AVX-512, AMX or NEON is chosen at run time, and tests hold each that the
//! processor can run against the plain one.
//!
//! # Laws
//! - A row of a result depends on that row of the input alone, bit for bit: not on how many other rows were in
//!   the call, nor on the number of threads. Batching and chunking therefore never change an answer.
//! - Nothing here allocates in proportion to anything but its own output.
#![allow(unsafe_code)]

pub(crate) mod activation;
mod amx;
pub(crate) mod attention;
#[cfg(feature = "tune")]
pub(crate) mod attention_gradient;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
#[cfg(target_arch = "x86_64")]
pub(crate) mod bytewise;
#[cfg(feature = "tune")]
pub(crate) mod dense;
pub(crate) mod disentangled;
#[cfg(feature = "tune")]
pub(crate) mod disentangled_gradient;
pub(crate) mod elementwise;
pub(crate) mod gemm;
#[cfg(feature = "tune")]
pub(crate) mod gradient;
pub(crate) mod interleaved;
pub(crate) mod isa;
#[cfg(feature = "bench")]
mod limit;
pub(crate) mod map;
pub(crate) mod matrix;
pub(crate) mod memory;
#[cfg(feature = "tune")]
pub(crate) mod moments;
pub(crate) mod page;
pub(crate) mod panels;
mod plain;
pub(crate) mod pool;
pub(crate) mod precision;
mod prefetch;
#[cfg(target_arch = "x86_64")]
mod quarters;
pub(crate) mod scratch;
mod slab;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod split;
pub(crate) mod tile;

pub use matrix::{Activations, Matrix};
pub use page::CacheType;
pub use pool::Pool;
pub use precision::Precision;
