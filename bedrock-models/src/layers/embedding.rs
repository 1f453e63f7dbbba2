//! Tables of vectors looked up by index: tokens, positions, segments.

use std::sync::Arc;

use burn::Tensor;
use burn::tensor::{Int, TensorData};

use super::parameter::Parameter;
use super::run::Run;
use crate::kernels::Matrix;

/// One vector an index, decoded from the stored table when looked up.
#[derive(Debug)]
pub(crate) struct Embedding {
    table: Arc<Matrix>,
    trained: Option<Parameter>,
}

impl Embedding {
    pub(crate) fn new(table: Arc<Matrix>) -> Self {
        Self { table, trained: None }
    }

    /// A table that is trained; `table` is what it starts from.
    pub(crate) fn trained(table: Arc<Matrix>, trained: Parameter) -> Self {
        Self { table, trained: Some(trained) }
    }

    /// The parameter of a table that is trained.
    pub(crate) fn parameter(&self) -> Option<&Parameter> {
        self.trained.as_ref()
    }

    /// The stored table, for output layers tied to it.
    pub(crate) fn table(&self) -> &Arc<Matrix> {
        &self.table
    }

    /// # Shapes
    /// - `indices`: one per row, each less than the table's rows
    /// - returns `[indices.len(), features]`
    ///
    /// # Panics
    /// If an index is outside the table: callers check token ids at the API.
    pub(crate) fn forward(&self, run: Run<'_>, indices: impl ExactSizeIterator<Item = usize>) -> Tensor<2> {
        let (rows, width) = (indices.len(), self.table.columns());
        if let Some(table) = &self.trained {
            let indices: Vec<i64> = indices.map(|index| index as i64).collect();
            let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [rows]), &run.compute.device);
            return table.matrix().select(0, indices);
        }
        let mut values = vec![0.0; rows * width];
        for (index, out) in indices.zip(values.chunks_exact_mut(width)) {
            self.table.row(index, out);
        }
        Tensor::from_data(TensorData::new(values, [rows, width]), &run.compute.device)
    }
}
