//! Arguments about models, which nearly every example has.

use std::time::Instant;

use bedrock_models::weights::Dtype;
use bedrock_models::{DeviceKind, LoadOptions};
use clap::Args;

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
    /// Seed of all random choices
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl ModelArguments {
    /// The options that these arguments stand for.
    pub fn options(&self) -> LoadOptions {
        LoadOptions { threads: self.threads, device: self.device, quantize: self.quantize, ..LoadOptions::default() }
    }
}

/// Runs `work` and says how many seconds it took.
pub fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed().as_secs_f64()))
}
