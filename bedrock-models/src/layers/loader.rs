//! From a checkpoint's tensors to layers.

use std::sync::Arc;

use super::{Embedding, LayerNorm, Linear, RmsNorm, run::Compute};
use crate::error::Error;
use crate::kernels::Matrix;
use crate::quantize;
use crate::weights::{Checkpoint, Dtype};

/// Takes tensors out of a checkpoint by the names of the Hugging Face module, checks their shapes, and makes layers of them.
pub(crate) struct Loader {
    checkpoint: Checkpoint,
    compute: Compute,
    /// From the module's name to the checkpoint's, e.g. GGUF's.
    rename: fn(&str) -> String,
    panels: bool,
    quantize: Option<Dtype>,
}

impl Loader {
    pub(crate) fn new(checkpoint: Checkpoint, compute: Compute, rename: fn(&str) -> String) -> Self {
        Self { checkpoint, compute, rename, panels: false, quantize: None }
    }

    /// For models without a decode step: layers hold their weights in the order of [`Matrix::into_panels`].
    pub(crate) fn in_panels(mut self) -> Self {
        self.panels = self.compute.pool.is_some();
        self
    }

    /// Matrices of plain numbers become blocks: see [`LoadOptions::quantize`](crate::LoadOptions::quantize).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a type that nothing can be turned into.
    pub(crate) fn quantized(mut self, to: Option<Dtype>) -> Result<Self, Error> {
        to.map_or(Ok(()), quantize::check_target)?;
        self.quantize = to;
        Ok(self)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.checkpoint.contains(&(self.rename)(name))
    }

    /// A vector of `len` values.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let tensor = self.checkpoint.take(&(self.rename)(name))?;
        tensor.expect_shape(&[len])?;
        tensor.to_f32()
    }

    /// A matrix of `rows` × `columns`.
    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, Error> {
        let tensor = self.checkpoint.take(&(self.rename)(name))?;
        tensor.expect_shape(&[rows, columns])?;
        Matrix::new(match self.quantize {
            Some(to) => quantize::on_load(tensor, to)?,
            None => tensor,
        })
    }

    /// `{name}.weight` and, where `bias` says so or leaves it open and the file has one, `{name}.bias`.
    pub(crate) fn linear(&mut self, name: &str, rows: usize, columns: usize, bias: Bias) -> Result<Linear, Error> {
        let matrix = self.matrix(&format!("{name}.weight"), rows, columns)?;
        let matrix = Arc::new(if self.panels { matrix.into_panels() } else { matrix });
        let name = format!("{name}.bias");
        let bias = match bias {
            Bias::Absent => None,
            Bias::IfPresent if !self.contains(&name) => None,
            Bias::Present | Bias::IfPresent => Some(self.vector(&name, rows)?),
        };
        Ok(Linear::new(&self.compute, matrix, bias))
    }

    /// An output layer that shares the table of an embedding.
    pub(crate) fn tied(&self, embedding: &Embedding) -> Linear {
        Linear::new(&self.compute, embedding.table().clone(), None)
    }

    pub(crate) fn embedding(&mut self, name: &str, rows: usize, columns: usize) -> Result<Embedding, Error> {
        Ok(Embedding::new(Arc::new(self.matrix(&format!("{name}.weight"), rows, columns)?)))
    }

    pub(crate) fn rms_norm(&mut self, name: &str, len: usize, eps: f64) -> Result<RmsNorm, Error> {
        let weight = self.vector(&format!("{name}.weight"), len)?;
        Ok(RmsNorm::new(&self.compute, weight, eps))
    }

    pub(crate) fn layer_norm(&mut self, name: &str, len: usize, eps: f64) -> Result<LayerNorm, Error> {
        // Checkpoints converted from TensorFlow call the two gamma and beta.
        let [weight, bias] = [("weight", "gamma"), ("bias", "beta")].map(|(new, old)| {
            let name_of = |suffix: &str| format!("{name}.{suffix}");
            if self.contains(&name_of(new)) {
                name_of(new)
            } else if self.contains(&name_of(old)) {
                name_of(old)
            } else {
                name_of(new)
            }
        });
        let (weight, bias) = (self.vector(&weight, len)?, self.vector(&bias, len)?);
        Ok(LayerNorm::new(&self.compute, weight, bias, eps))
    }

    /// Ends loading: an error if a tensor was not used, except those whose name ends in one of `ignorable`.
    pub(crate) fn finish(self, ignorable: &[&str]) -> Result<(), Error> {
        self.checkpoint.finish(ignorable)
    }
}

/// Whether a fully connected layer has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    Present,
    Absent,
    /// The configuration does not say: as the checkpoint has it.
    IfPresent,
}
