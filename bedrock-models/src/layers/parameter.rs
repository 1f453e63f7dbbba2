//! Values of layers that training changes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
#[cfg(feature = "tune")]
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use burn::Tensor;
use burn::tensor::{Device, TensorData};
#[cfg(feature = "tune")]
use burn_flex::{Flex, FlexTensor};

#[cfg(feature = "tune")]
use super::run;

/// A tensor that training changes. Clones are the same parameter.
#[derive(Clone)]
pub(crate) struct Parameter(Arc<Inner>);

struct Inner {
    name: String,
    shape: Vec<usize>,
    /// Row-major: a leaf of the graph that gradients are computed on, where there is one.
    value: RwLock<Tensor<1>>,
    /// See [`Parameters::track`].
    #[cfg(feature = "tune")]
    untracked: Arc<AtomicBool>,
    /// Sums of its gradients; empty while there are none.
    #[cfg(feature = "tune")]
    gradient: Mutex<Vec<f32>>,
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parameter({} {:?})", self.0.name, self.0.shape)
    }
}

impl Parameter {
    /// The shape, outermost first.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// The present value, a leaf of the graph while it is tracked.
    pub(crate) fn vector(&self) -> Tensor<1> {
        let value = self.0.value.read().unwrap_or_else(PoisonError::into_inner).clone();
        #[cfg(feature = "tune")]
        if self.0.untracked.load(Relaxed) {
            // Not `detach`, which leaves a leaf a leaf.
            return value.inner().autodiff();
        }
        value
    }

    /// [`Parameter::vector`] in the parameter's shape.
    ///
    /// # Panics
    /// If it is no matrix.
    pub(crate) fn matrix(&self) -> Tensor<2> {
        let [rows, columns] = *self.0.shape.as_slice() else { panic!("{self:?} is no matrix") };
        self.vector().reshape([rows, columns])
    }
}

/// What a trainer asks and changes.
#[cfg(feature = "tune")]
impl Parameter {
    /// The leaf of the graph that the value is, tracked or not.
    pub(crate) fn leaf(&self) -> Tensor<1> {
        self.0.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The name in the checkpoint, or in the adapter.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.0.shape.iter().product()
    }

    /// The values on the host.
    pub(crate) fn values(&self) -> Vec<f32> {
        self.leaf().inner().into_data().try_into_vec::<f32>().expect("all devices compute in f32")
    }

    /// Its values, on the CPU.
    pub(crate) fn memory(&self) -> FlexTensor {
        run::flex(self.leaf().inner())
    }

    /// Adds to the sums of its gradients.
    pub(crate) fn accumulate<R>(&self, add: impl FnOnce(&mut [f32]) -> R) -> R {
        let mut sums = self.0.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        sums.resize(self.len(), 0.0);
        add(&mut sums)
    }

    /// Forgets the gradients.
    pub(crate) fn clear(&self) {
        self.0.gradient.lock().unwrap_or_else(PoisonError::into_inner).fill(0.0);
    }

    /// Changes the values, given the sums of the gradients, in place where it can be. What is left of the sums is what the next gradients are
    /// added to.
    pub(crate) fn update(&self, change: impl FnOnce(&mut [f32], &mut [f32])) {
        let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        let device = value.device();
        let old = std::mem::replace(&mut *value, Tensor::zeros([1], &device)).inner();
        let new = match old.clone().try_into_primitive::<Flex>() {
            Ok(mut memory) => {
                // Nobody else holds the memory now, so that it is changed where it lies.
                drop(old);
                self.accumulate(|sums| change(run::values_mut(&mut memory), sums));
                run::from_flex(memory)
            }
            Err(_) => {
                let mut data = old.into_data();
                self.accumulate(|sums| change(data.as_mut_slice::<f32>().expect("all devices compute in f32"), sums));
                Tensor::<1>::from_data(data, &device.inner())
            }
        };
        *value = new.autodiff().require_grad();
    }

    /// Replaces the values.
    ///
    /// # Panics
    /// If there are not as many.
    #[allow(dead_code)]
    pub(crate) fn set(&self, values: Vec<f32>) {
        assert_eq!(values.len(), self.len());
        let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        let device = value.device();
        *value = Tensor::<1>::from_data(TensorData::new(values, [self.len()]), &device).require_grad();
    }
}

/// All parameters of a model that is being trained, in the order in which its layers were loaded.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    list: Mutex<Vec<Parameter>>,
    /// Names of tensors of the checkpoint that several parameters are parts of, and the names of these, in order.
    wholes: Mutex<BTreeMap<String, Vec<String>>>,
    batch: Arc<AtomicU64>,
    #[cfg(feature = "tune")]
    untracked: Arc<AtomicBool>,
}

impl Parameters {
    /// A new parameter.
    ///
    /// # Panics
    /// If there are more or fewer values than the shape has.
    pub(crate) fn add(&self, name: String, shape: Vec<usize>, values: Vec<f32>, device: &Device) -> Parameter {
        let len: usize = shape.iter().product();
        assert_eq!(values.len(), len);
        let value = Tensor::<1>::from_data(TensorData::new(values, [len]), device).require_grad();
        let parameter = Parameter(Arc::new(Inner {
            name,
            shape,
            value: RwLock::new(value),
            #[cfg(feature = "tune")]
            untracked: self.untracked.clone(),
            #[cfg(feature = "tune")]
            gradient: Mutex::default(),
        }));
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(parameter.clone());
        parameter
    }

    /// Notes that a tensor of the checkpoint was cut along its rows.
    pub(crate) fn cut(&self, whole: &str, parts: impl Iterator<Item = String>) {
        self.wholes.lock().unwrap_or_else(PoisonError::into_inner).insert(whole.to_string(), parts.collect());
    }

    /// What was cut, by name, and the parts.
    #[cfg(feature = "tune")]
    pub(crate) fn wholes(&self) -> BTreeMap<String, Vec<String>> {
        self.wholes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of the batch that is learnt from, counted from 1 on, by which dropout differs; 0: nothing is dropped.
    pub(crate) fn batch(&self) -> &Arc<AtomicU64> {
        &self.batch
    }

    /// Whether what is computed with them from now on is for gradients. Burn forgets a graph when another goes back, so one that never does
    /// must not be made.
    #[cfg(feature = "tune")]
    pub(crate) fn track(&self, tracked: bool) {
        self.untracked.store(!tracked, Relaxed);
    }

    /// Those added so far.
    #[cfg(feature = "tune")]
    pub(crate) fn list(&self) -> Vec<Parameter> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(all(test, feature = "tune"))]
mod tests {
    use super::*;
    use crate::options::LoadOptions;

    #[test]
    fn what_is_not_tracked_is_no_leaf() {
        let device = LoadOptions::default().compute().device.autodiff();
        let parameters = Parameters::default();
        let parameter = parameters.add("a".into(), vec![2], vec![1.0, 2.0], &device);
        for tracked in [true, false, true] {
            parameters.track(tracked);
            assert_eq!(parameter.vector().is_require_grad(), tracked);
            assert!(parameter.leaf().is_require_grad());
            assert_eq!(parameter.vector().inner().into_data().try_into_vec::<f32>().unwrap(), [1.0, 2.0]);
        }
    }
}
