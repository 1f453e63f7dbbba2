//! What several benchmarks share.

pub mod npy;
