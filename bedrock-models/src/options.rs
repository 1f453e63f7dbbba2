//! How a model is loaded and where it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bedrock_core::Sealer;
use burn::tensor::Device;

use crate::adapters;
use crate::error::Error;
use crate::kernels::{Activations, CacheType, Pool};
use crate::layers::Compute;
use crate::weights::Dtype;

/// The device that a model computes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceKind {
    /// This machine's processor, with the kernels of this crate on burn's flex tensors.
    #[default]
    Cpu,
    /// This machine's processor through burn's `ndarray` backend: slower; for comparison.
    #[cfg(feature = "ndarray")]
    NdArray,
    /// A GPU through wgpu. Weights are expanded to `f32` there.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

impl FromStr for DeviceKind {
    type Err = Error;

    /// `cpu` (or `flex`), and with the features of these names `ndarray` and `wgpu`.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "cpu" | "flex" => Ok(Self::Cpu),
            #[cfg(feature = "ndarray")]
            "ndarray" => Ok(Self::NdArray),
            #[cfg(feature = "wgpu")]
            "wgpu" => Ok(Self::Wgpu),
            other => Err(Error::InvalidParameter {
                name: "device",
                got: other.to_string(),
                expected: "cpu, or ndarray or wgpu where the crate was built with that feature".into(),
            }),
        }
    }
}

/// How a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Threads that compute; 0: one per core.
    pub threads: usize,
    /// Where the model runs.
    pub device: DeviceKind,
    /// How activations meet quantised weights. Only on the CPU.
    pub activations: Activations,
    /// The id by which the model is known; the folder's or file's name where none is given.
    pub model_id: Option<String>,
    /// The most tokens of an input, special ones included (for a language model: of prompt and answer), where that is
    /// less than the model's own limit.
    pub max_tokens: Option<usize>,
    /// Turns matrices of plain numbers (`F32`, `F16`, `BF16`) into this type while loading: see
    /// [`quantize`](crate::quantize::quantize) for which. Less memory and faster answers at some loss; quantised files stay as
    /// they are.
    pub quantize: Option<Dtype>,
    /// A LoRA adapter as PEFT writes it, a folder, or as llama.cpp has it, a GGUF file, of models of Llama's, Mistral's, Qwen's, Gemma's, Phi-3's and Command R's family: models answer with
    /// it beside their own weights. Of an encoder it may have a classifier's head, and its folder a `config.json` with the labels.
    pub adapter: Option<PathBuf>,
    /// LoRA adapters by name, as above, of which each request may choose one:
    /// [`LocalChatModel::with_adapter`](crate::LocalChatModel::with_adapter), [`GenerationRequest::adapter`](crate::GenerationRequest::adapter),
    /// and functions of this name of [`Embedder`](crate::Embedder), [`SequenceClassifier`](crate::SequenceClassifier),
    /// [`CrossEncoder`](crate::CrossEncoder) and [`TokenClassifier`](crate::TokenClassifier). They share the weights of the model, and requests of all of
    /// them to a language model are computed together. Each may have a head and labels of its own; the model itself need not have a head then.
    pub adapters: BTreeMap<String, PathBuf>,
    /// A smaller language model with the same vocabulary, which guesses for [`Speculation::Draft`]: a folder or a `.gguf` file.
    pub draft: Option<PathBuf>,
    /// Opens weights and adapters that were written sealed (`model.safetensors.sealed`), into memory; others are read as ever. What is
    /// trained with these options is written sealed.
    pub sealer: Option<Arc<dyn Sealer>>,
    /// Gives up loading, with [`Error::Cancelled`], before the next tensor once another thread has set it.
    pub cancel: Option<Arc<AtomicBool>>,
    /// Limits of the engine that serves a language model.
    pub engine: EngineOptions,
}

/// How an engine guesses tokens ahead, to check several in one pass. Answers are as without: the same tokens where the most likely
/// one is taken, and the same distribution where tokens are drawn (with [`Lookup`](Self::Lookup), the same tokens for the
/// same seed). Only on the CPU, and only for models whose positions do not depend on the length of the sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speculation {
    /// It does not.
    #[default]
    Off,
    /// What followed when prompt and answer last had their present end. Costs nothing but the rows that are checked in
    /// vain; good where answers repeat or quote.
    Lookup {
        /// The most tokens to guess at once.
        tokens: usize,
    },
    /// What [`LoadOptions::draft`] would say. Without one nothing is guessed.
    Draft {
        /// The most tokens to guess at once.
        tokens: usize,
    },
}

/// Limits of the engine that serves a language model. Each has a default, so that nothing grows without bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Requests that are generated at the same time.
    pub batch: usize,
    /// Requests that wait; one more is refused with a `ThrottlingException`.
    pub queue: usize,
    /// Tokens of a prompt that are computed before running generations get their next token.
    pub prefill_chunk: usize,
    /// Bytes that the keys and values of all running requests and of remembered prompts may take. A request that does not
    /// fit waits; one that never could is refused.
    pub cache_bytes: usize,
    /// How these keys and values are kept. Only on the CPU; elsewhere in single precision.
    pub cache_type: CacheType,
    /// Whether prompts are remembered, so that the beginning that a later one has in common with them is not computed again. Only on
    /// the CPU, and only for models whose positions do not depend on the length of the sequence.
    pub prefix_cache: bool,
    /// A request goes before all that come this much later and have the next higher
    /// [`Priority`](crate::Priority): the longest that it is passed over for their sake.
    pub aging: Duration,
    /// Whether and how tokens are guessed ahead.
    pub speculation: Speculation,
    /// The longest that a request may take, waiting included. It ends with a `ModelTimeoutException`. None: no limit.
    pub timeout: Option<Duration>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            batch: 32,
            queue: 256,
            prefill_chunk: 512,
            cache_bytes: 4 << 30,
            cache_type: CacheType::F32,
            prefix_cache: true,
            aging: Duration::from_secs(5),
            speculation: Speculation::Off,
            timeout: None,
        }
    }
}

impl LoadOptions {
    /// [`LoadOptions::compute`] with the adapters, read.
    ///
    /// # Errors
    /// As [`adapters::open`].
    pub(crate) fn compute_with_adapters(&self, base: &Path) -> Result<Compute, Error> {
        let open = |adapter: &PathBuf| adapters::open(base, adapter, self.sealer.as_deref());
        let adapter = self.adapter.as_ref().map(open).transpose()?.map(Arc::new);
        let adapters = self.adapters.values().map(open).collect::<Result<_, _>>()?;
        Ok(Compute { adapter, adapters, ..self.compute() })
    }

    pub(crate) fn compute(&self) -> Compute {
        let (device, pool) = match self.device {
            DeviceKind::Cpu => (Device::flex(), Some(Arc::new(Pool::new(self.threads)))),
            // burn names flex as its successor; it stays selectable to compare with.
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            DeviceKind::NdArray => (Device::ndarray(), None),
            #[cfg(feature = "wgpu")]
            DeviceKind::Wgpu => (Device::wgpu(burn::tensor::DeviceKind::DefaultDevice), None),
        };
        Compute {
            device,
            pool,
            activations: self.activations,
            cache_type: CacheType::F32,
            adapter: None,
            adapters: Arc::default(),
            chosen: None,
            parameters: None,
            cancel: self.cancel.clone(),
            #[cfg(feature = "tune")]
            tape: None,
        }
    }
}
