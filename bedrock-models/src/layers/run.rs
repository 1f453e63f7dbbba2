//! Where and how a forward pass runs, and the border between burn's tensors and our kernels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::Tensor;
use burn::tensor::{DType, Device, TensorData};
use burn_flex::{Flex, FlexTensor};

use super::adapter::Adapter;
use super::parameter::Parameters;
#[cfg(feature = "tune")]
use super::tape::Tape;
use crate::kernels::{Activations, CacheType, Pool};

/// What all layers of a loaded model share.
#[derive(Debug, Clone)]
pub(crate) struct Compute {
    pub(crate) device: Device,
    /// The kernels' threads; `None` where the device has no kernels of ours and burn's own operations run.
    pub(crate) pool: Option<Arc<Pool>>,
    pub(crate) activations: Activations,
    /// How keys and values are kept, where there are kernels.
    pub(crate) cache_type: CacheType,
    /// What is added to layers while they are loaded.
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// Those of which each request chooses one or none, by their numbers.
    pub(crate) adapters: Arc<[Adapter]>,
    /// Which each row of a forward pass has; none: no row has any.
    pub(crate) chosen: Option<Chosen>,
    /// Where layers put the parameters that are trained: those of the adapter, or all.
    pub(crate) parameters: Option<Arc<Parameters>>,
    /// Ends loading between two tensors once it is set.
    pub(crate) cancel: Option<Arc<AtomicBool>>,
    /// Kernels that record, in training on the CPU. [`Compute::pool`] is `None` then.
    #[cfg(feature = "tune")]
    pub(crate) tape: Option<Tape>,
}

/// Which adapters, by their numbers, the rows of a forward pass have.
#[derive(Debug, Clone)]
pub(crate) enum Chosen {
    /// All the same, however many they are.
    All(usize),
    /// Each its own, or none.
    Each(Arc<[Option<usize>]>),
}

impl Chosen {
    /// That of a row.
    pub(crate) fn of(&self, row: usize) -> Option<usize> {
        match self {
            Self::All(number) => Some(*number),
            Self::Each(numbers) => numbers[row],
        }
    }
}

impl Compute {
    /// Whether what follows is for gradients.
    #[cfg(feature = "tune")]
    pub(crate) fn record(&self, recording: bool) {
        if let Some(tape) = &self.tape {
            tape.record(recording);
        }
        self.track(recording);
    }

    /// [`Compute::record`] of parameters alone: what goes into the first layer is not recorded.
    #[cfg(feature = "tune")]
    pub(crate) fn track(&self, tracked: bool) {
        if let Some(parameters) = &self.parameters {
            parameters.track(tracked);
        }
    }

    /// Whether loading is to end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    /// Whether weights are kept as stored, because kernels read them.
    pub(crate) fn has_kernels(&self) -> bool {
        #[cfg(feature = "tune")]
        if self.tape.is_some() {
            return true;
        }
        self.pool.is_some()
    }

    /// The adapter of all requests, and those that they choose from.
    pub(crate) fn all_adapters(&self) -> impl Iterator<Item = &Adapter> {
        self.adapter.as_deref().into_iter().chain(&*self.adapters)
    }

    /// Whether modules have to be those of the Hugging Face checkpoint, because an adapter knows them so.
    pub(crate) fn adapts(&self) -> bool {
        self.adapter.is_some() || !self.adapters.is_empty()
    }

    /// The same for a forward pass whose rows have these adapters.
    pub(crate) fn with_chosen(&self, chosen: Vec<Option<usize>>) -> Self {
        Self { chosen: Some(Chosen::Each(chosen.into())), ..self.clone() }
    }

    /// The same for forward passes all of whose rows have this adapter.
    pub(crate) fn with_adapter(&self, number: usize) -> Self {
        Self { chosen: Some(Chosen::All(number)), ..self.clone() }
    }

    /// Whether the weights themselves are trained.
    pub(crate) fn trained(&self) -> Option<&Parameters> {
        self.parameters.as_deref().filter(|_| self.adapter.is_none())
    }
}

/// Which product suits the rows of a forward pass. A property of what the rows are, not of how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Prompts, encoders and logits to be evaluated: exact products, or those of activations of 16 bits.
    Prompt,
    /// The next token of each sequence: weights are streamed, activations as [`Compute::activations`] says.
    Decode,
}

/// One forward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) compute: &'a Compute,
    pub(crate) phase: Phase,
}

impl Run<'_> {
    /// Kernels that record, in training on the CPU.
    #[cfg(feature = "tune")]
    pub(crate) fn tape(&self) -> Option<&Tape> {
        self.compute.tape.as_ref()
    }

    /// The kernels' threads, on devices that have kernels.
    pub(crate) fn pool(&self) -> Option<&Pool> {
        self.compute.pool.as_deref()
    }
}

/// The memory of a tensor on the flex device, row-major; copies only views that are not.
///
/// # Panics
/// If the tensor lives elsewhere: layers call this only where [`Compute::pool`] is set.
pub(crate) fn flex<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    let tensor = tensor.try_into_primitive::<Flex>().expect("kernels run on flex tensors");
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// The values of [`flex`]'s result.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("float, made contiguous by `flex`")
}

/// The values of a contiguous tensor for writing; copies if somebody else holds it.
pub(crate) fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    let (start, end) = tensor.layout().contiguous_offsets().expect("made contiguous by `flex`");
    &mut tensor.storage_mut::<f32>()[start..end]
}

/// A tensor on the flex device that takes over `values`, whose memory the pool gets back.
pub(crate) fn from_vec<const D: usize>(pool: &Pool, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(memory(pool, values, shape))
}

/// The memory of a tensor on the flex device: `values`, which the pool gets back.
pub(crate) fn memory<const D: usize>(pool: &Pool, values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    assert_eq!(values.len(), shape.iter().product::<usize>());
    FlexTensor::from_data(TensorData::from_bytes(pool.memory.bytes(values), shape, DType::F32))
}

/// Wraps a flex tensor again.
pub(crate) fn from_flex<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(tensor)
}
