//! Arguments about models, which nearly every example has.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use bedrock_core::{AesGcmSealer, KeyRing, Sealer, SecretKey};
use bedrock_models::kernels::{Activations, CacheType};
use bedrock_models::weights::Dtype;
use bedrock_models::{DeviceKind, EngineOptions, LoadOptions};
use clap::Args;

use crate::Failure;

/// How models are loaded and run.
#[derive(Debug, Clone, Args)]
pub struct ModelArguments {
    /// Threads that compute; default: one per core
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
    /// Where to compute: cpu, or ndarray or wgpu if built with that feature
    #[arg(long, default_value = "cpu")]
    pub device: DeviceKind,
    /// Turn plain weights into blocks while loading: q8_0, q4_0, q4_1, f16, bf16 or f32
    #[arg(long, value_name = "TYPE")]
    pub quantize: Option<Dtype>,
    /// How keys and values of what was read are kept: f32, f16 for half of the memory, or q8 for a quarter
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub cache_type: CacheType,
    /// How activations meet quantised weights: quantized to 16 bits where that is fast, int8 for faster prompts, or float
    #[arg(long, value_name = "KIND", default_value = "quantized")]
    pub activations: Activations,
    /// Seed of all random choices
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// A file with a key, 32 bytes in base64: opens weights and adapters that are sealed; what is trained is written sealed
    #[arg(long, value_name = "FILE", value_parser = sealer)]
    pub key_file: Option<Arc<dyn Sealer>>,
}

/// What seals with the key in a file. The key is called as the file is.
fn sealer(path: &str) -> Result<Arc<dyn Sealer>, Failure> {
    let name = std::path::Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
    let key = SecretKey::from_base64(&fs::read_to_string(path)?)?;
    Ok(Arc::new(AesGcmSealer::new(KeyRing::new(name, key)?)))
}

impl ModelArguments {
    /// The options that these arguments stand for.
    pub fn options(&self) -> LoadOptions {
        let Self { threads, device, quantize, cache_type, activations, .. } = *self;
        let engine = EngineOptions { cache_type, ..EngineOptions::default() };
        let sealer = self.key_file.clone();
        LoadOptions { threads, device, quantize, activations, engine, sealer, ..LoadOptions::default() }
    }
}

/// Runs `work` and says how many seconds it took.
pub fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed().as_secs_f64()))
}
