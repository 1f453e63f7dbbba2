//! What several benchmarks share.

pub mod checkpoint;
pub mod npy;
