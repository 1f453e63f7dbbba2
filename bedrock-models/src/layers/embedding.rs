//! Tables of vectors looked up by index: tokens, positions, segments.

use std::sync::Arc;

use burn::Tensor;
use burn::tensor::{Int, TensorData};

use super::parameter::Parameter;
use super::run::Run;
#[cfg(feature = "tune")]
use super::run::values;
use crate::kernels::Matrix;

/// One vector an index, decoded from the stored table when looked up.
#[derive(Debug)]
pub(crate) enum Embedding {
    Stored(Arc<Matrix>),
    /// With the index whose row gets no gradient when it is looked up, as PyTorch's `padding_idx`.
    Trained(Parameter, Option<usize>),
}

impl Embedding {
    /// # Shapes
    /// - `indices`: one per row, each less than the table's rows
    /// - returns `[indices.len(), features]`
    ///
    /// # Panics
    /// If an index is outside the table: callers check token ids at the API.
    pub(crate) fn forward(&self, run: Run<'_>, indices: impl ExactSizeIterator<Item = usize>) -> Tensor<2> {
        let (rows, device) = (indices.len(), &run.compute.device);
        #[cfg(feature = "tune")]
        if let Some(tape) = run.tape() {
            let indices: Vec<usize> = indices.collect();
            return match self {
                Self::Stored(table) => tape.embedding(device, rows_of(table, indices.iter().copied()), indices, None),
                Self::Trained(table, padding) => {
                    let (memory, width) = (table.memory(), table.shape()[1]);
                    let row = |index: &usize| &values(&memory)[index * width..][..width];
                    let out = indices.iter().flat_map(row).copied().collect();
                    tape.embedding(device, out, indices, Some((table, *padding)))
                }
            };
        }
        match self {
            Self::Stored(table) => {
                let values = rows_of(table, indices);
                Tensor::from_data(TensorData::new(values, [rows, table.columns()]), device)
            }
            Self::Trained(table, padding) => {
                let indices: Vec<i64> = indices.map(|index| index as i64).collect();
                let padding = padding.map(|padding| padding as i64).filter(|padding| indices.contains(padding));
                let mask = padding.map(|padding| indices.iter().map(|index| f32::from(*index == padding)).collect());
                let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [rows]), device);
                let x = table.matrix().select(0, indices);
                match mask {
                    Some(mask) => {
                        let mask = Tensor::from_data(TensorData::new::<f32, _>(mask, [rows, 1]), device);
                        x.clone().detach() * mask.clone() + x * (mask.neg() + 1.0)
                    }
                    None => x,
                }
            }
        }
    }
}

/// The rows of a table, one after another.
fn rows_of(table: &Matrix, indices: impl ExactSizeIterator<Item = usize>) -> Vec<f32> {
    let mut values = vec![0.0; indices.len() * table.columns()];
    for (index, out) in indices.zip(values.chunks_exact_mut(table.columns())) {
        table.row(index, out);
    }
    values
}
