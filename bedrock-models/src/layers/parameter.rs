//! Values of layers that training changes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use burn::Tensor;
use burn::tensor::{Device, TensorData};

/// A tensor that training changes. Clones are the same parameter.
#[derive(Clone)]
pub(crate) struct Parameter(Arc<Inner>);

struct Inner {
    name: String,
    shape: Vec<usize>,
    /// Row-major: a leaf of the graph that gradients are computed on, where there is one.
    value: RwLock<Tensor<1>>,
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

    /// The present value.
    pub(crate) fn vector(&self) -> Tensor<1> {
        self.0.value.read().unwrap_or_else(PoisonError::into_inner).clone()
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
        self.vector().inner().into_data().try_into_vec::<f32>().expect("all devices compute in f32")
    }

    /// Replaces the values.
    ///
    /// # Panics
    /// If there are not as many.
    pub(crate) fn set(&self, values: Vec<f32>) {
        assert_eq!(values.len(), self.len());
        let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        let device = value.device();
        *value = Tensor::<1>::from_data(TensorData::new(values, [self.len()]), &device).require_grad();
    }
}

/// All parameters of a model that is being trained, in the order in which its layers were loaded.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Mutex<Vec<Parameter>>);

impl Parameters {
    /// A new parameter.
    ///
    /// # Panics
    /// If there are more or fewer values than the shape has.
    pub(crate) fn add(&self, name: String, shape: Vec<usize>, values: Vec<f32>, device: &Device) -> Parameter {
        let len: usize = shape.iter().product();
        assert_eq!(values.len(), len);
        let value = Tensor::<1>::from_data(TensorData::new(values, [len]), device).require_grad();
        let parameter = Parameter(Arc::new(Inner { name, shape, value: RwLock::new(value) }));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(parameter.clone());
        parameter
    }

    /// Those added so far.
    #[cfg(feature = "tune")]
    pub(crate) fn list(&self) -> Vec<Parameter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
