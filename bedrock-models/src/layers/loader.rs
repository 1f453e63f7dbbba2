//! From a checkpoint's tensors to layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::adapter::{Part, kind_of};
use super::parameter::{Parameter, Parameters};
use super::{Embedding, LayerNorm, Linear, RmsNorm, run::Compute};
use crate::error::Error;
use crate::kernels::Matrix;
use crate::kernels::attention::Heads;
use crate::kernels::page::Page;
use crate::quantize;
use crate::weights::{Checkpoint, Dtype, StoredTensor};

/// Most values that stand in for a tensor that a survey did not find.
const STAND_IN: usize = 1 << 20;

/// Takes tensors out of a checkpoint by the names of the Hugging Face module, checks their shapes, and makes layers of them.
pub(crate) struct Loader {
    checkpoint: Checkpoint,
    compute: Compute,
    /// From the module's name to the checkpoint's, e.g. GGUF's.
    rename: fn(&str) -> String,
    panels: bool,
    quantize: Option<Dtype>,
    /// The token whose embedding is not trained.
    padding: Option<usize>,
    /// Modules that are a part of another in the checkpoint.
    parts: BTreeMap<String, Part>,
}

impl Loader {
    pub(crate) fn new(checkpoint: Checkpoint, compute: Compute, rename: fn(&str) -> String) -> Self {
        Self { checkpoint, compute, rename, panels: false, quantize: None, padding: None, parts: BTreeMap::new() }
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

    /// In training, the embedding of this token gets no gradient from where the token stands, as with PyTorch's `padding_idx`.
    pub(crate) fn padded_with(mut self, token: Option<usize>) -> Self {
        self.padding = token;
        self
    }

    /// Whether tensors are only looked at: see [`Survey`](crate::weights::Survey). Layers compute nothing then.
    pub(crate) fn surveys(&self) -> bool {
        self.checkpoint.survey().is_some()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.checkpoint.contains(&(self.rename)(name))
    }

    /// The first of `prefixes` with which the checkpoint has a tensor `name`: its module may be a part of another.
    pub(crate) fn prefix(&self, prefixes: &[&'static str], name: &str) -> &'static str {
        prefixes.iter().find(|prefix| self.contains(&format!("{prefix}{name}"))).copied().unwrap_or_default()
    }

    /// Bytes that 64 positions take in the caches of `layers` layers of such heads.
    pub(crate) fn page_bytes(&self, layers: usize, heads: Heads) -> usize {
        layers.saturating_mul(Page::bytes(heads, self.compute.cache_type))
    }

    pub(crate) fn compute(&self) -> &Compute {
        &self.compute
    }

    /// A vector of `len` values.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        self.values(name, &[len])
    }

    /// The values of a tensor of that shape, row-major.
    pub(crate) fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let tensor = self.take(name, shape)?;
        if self.checkpoint.survey().is_some() {
            // Of what is not there, no more than a layer's vectors: matrices are not asked for by their values.
            let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
            let stand_in = |tensor: &StoredTensor| match elements {
                Some(elements) if elements <= STAND_IN => Ok(vec![0.0; elements]),
                _ => {
                    Err(Error::MissingTensor { path: self.checkpoint.path().to_path_buf(), name: tensor.name.clone() })
                }
            };
            return tensor.to_f32().or_else(|_| stand_in(&tensor));
        }
        tensor.to_f32()
    }

    /// [`Loader::values`], and the parameter that they are in training of all weights.
    pub(crate) fn table(&mut self, name: &str, shape: &[usize]) -> Result<(Vec<f32>, Option<Parameter>), Error> {
        let values = self.values(name, shape)?;
        let trained = self.train(name.to_string(), shape.to_vec(), values.clone());
        Ok((values, trained))
    }

    /// Takes a tensor of that shape. A survey notes what is wrong and gets one without data.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<StoredTensor, Error> {
        if self.compute.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let name = (self.rename)(name);
        let Some(survey) = self.checkpoint.survey().cloned() else {
            let tensor = self.checkpoint.take(&name)?;
            tensor.expect_shape(shape)?;
            return Ok(tensor);
        };
        let path = self.checkpoint.path().to_path_buf();
        let stand_in = |name| StoredTensor { name, dtype: Dtype::F32, shape: shape.to_vec(), data: Bytes::new() };
        let Some(tensor) = self.checkpoint.take_optional(&name) else {
            survey.missing(&path, &name)?;
            return Ok(stand_in(name));
        };
        if tensor.shape == shape && tensor.dtype.is_weight() {
            return Ok(tensor);
        }
        survey.wrong(&path, &tensor, format!("{shape:?} of numbers with a fraction or of blocks"))?;
        Ok(stand_in(name))
    }

    /// A parameter of that value, if weights are trained.
    fn train(&self, name: String, shape: Vec<usize>, values: Vec<f32>) -> Option<Parameter> {
        let parameters = self.trained(&name)?;
        Some(parameters.add(name, shape, values, &self.compute.device))
    }

    /// Where the weights of this name are put if they are trained: all are, or those that are beside an adapter.
    fn trained(&self, name: &str) -> Option<&Parameters> {
        let (module, kind) = kind_of(name);
        let part = self.parts.get(module).map(|part| format!("{}{kind}", part.module));
        let whole = part.as_deref().unwrap_or(name);
        let beside = || self.compute.adapter.as_ref().is_some_and(|adapter| adapter.trains(whole));
        self.compute.parameters.as_deref().filter(|_| self.compute.trained().is_some() || beside())
    }

    /// A matrix of `rows` × `columns`.
    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, Error> {
        let tensor = self.take(name, &[rows, columns])?;
        if let Some(survey) = self.checkpoint.survey() {
            survey.matrix(&tensor.name);
            if rows == 0 || columns == 0 || !columns.is_multiple_of(tensor.dtype.block_len()) {
                survey.wrong(self.checkpoint.path(), &tensor, "rows of whole blocks".into())?;
            }
        }
        self.read(tensor)
    }

    fn read(&self, tensor: StoredTensor) -> Result<Matrix, Error> {
        if self.checkpoint.survey().is_some() {
            let (name, data) = (tensor.name, Bytes::from_static(&[0; 4]));
            return Matrix::new(StoredTensor { name, dtype: Dtype::F32, shape: vec![1, 1], data });
        }
        Matrix::new(match self.quantize {
            Some(to) => quantize::on_load(tensor, to)?,
            None => tensor,
        })
    }

    /// Cuts a tensor along its rows into parts of their own, by name and rows, which are then there to be taken. For layers
    /// that a checkpoint has as one and we as several; a third, outermost dimension counts as rows. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::TensorShape`] unless the parts are the whole tensor.
    pub(crate) fn split(&mut self, name: &str, parts: &[(String, usize)], columns: usize) -> Result<(), Error> {
        let total: usize = parts.iter().map(|(_, rows)| rows).sum();
        let (rows, whole) = (total, name);
        if let Some(parameters) = self.compute.trained() {
            parameters.cut(whole, parts.iter().map(|(part, _)| part.clone()));
        }
        let name = (self.rename)(name);
        let tensor = match (self.checkpoint.take_optional(&name), self.checkpoint.survey()) {
            (Some(tensor), _) => tensor,
            (None, None) => return Err(Error::MissingTensor { path: self.checkpoint.path().to_path_buf(), name }),
            (None, Some(survey)) => {
                survey.missing(self.checkpoint.path(), &name)?;
                self.stand_in_for(parts, columns);
                return Ok(());
            }
        };
        let is_vector = columns == 1 && tensor.shape.len() == 1;
        let same = tensor.elements() == rows * columns && (is_vector || tensor.shape.last() == Some(&columns));
        let row = tensor.dtype.bytes_for(columns).filter(|_| same);
        let Some(row) = row else {
            let expected = vec![rows, columns];
            if let Some(survey) = self.checkpoint.survey() {
                survey.wrong(self.checkpoint.path(), &tensor, format!("{expected:?}"))?;
                self.stand_in_for(parts, columns);
                return Ok(());
            }
            return Err(Error::TensorShape { name: tensor.name, expected, got: tensor.shape });
        };
        let mut start = 0;
        for (part, rows) in parts {
            if let (Some(module), Some(part)) = (whole.strip_suffix(".weight"), part.strip_suffix(".weight")) {
                let (module, range) = (module.to_string(), start..start + rows);
                self.parts.insert(part.to_string(), Part { module, rows: range, total });
            }
            start += rows;
        }
        let mut start = 0;
        for (name, rows) in parts {
            let name = (self.rename)(name);
            if let Some(survey) = self.checkpoint.survey() {
                survey.part(&name, &tensor.name);
            }
            self.checkpoint.insert(StoredTensor {
                name,
                dtype: tensor.dtype,
                shape: if is_vector { vec![*rows] } else { vec![*rows, columns] },
                data: tensor.data.slice(start * row..(start + rows) * row),
            });
            start += rows;
        }
        Ok(())
    }

    /// The parts of a tensor that a survey found wrong, so that they are not missed as well.
    fn stand_in_for(&mut self, parts: &[(String, usize)], columns: usize) {
        for (name, rows) in parts {
            let (name, data) = ((self.rename)(name), Bytes::new());
            let shape = if name.ends_with(".bias") { vec![*rows] } else { vec![*rows, columns] };
            self.checkpoint.insert(StoredTensor { name, dtype: Dtype::F32, shape, data });
        }
    }

    /// Turns a stored `[in, out]` matrix of plain numbers into `[out, in]`, in place of the former.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`]; [`Error::NotAMatrix`] for blocks, which cannot be turned.
    pub(crate) fn transpose(&mut self, name: &str, from: [usize; 2]) -> Result<(), Error> {
        let mut tensor = self.take(name, &from)?;
        let [rows, columns] = from;
        if let Some(survey) = self.checkpoint.survey() {
            survey.turned(&tensor.name);
            tensor.shape = vec![columns, rows];
            self.checkpoint.insert(tensor);
            return Ok(());
        }
        if tensor.dtype.is_block() {
            return Err(Error::NotAMatrix { name: tensor.name, shape: tensor.shape, dtype: tensor.dtype });
        }
        let size = tensor.dtype.block_bytes();
        let mut data = Vec::with_capacity(tensor.data.len());
        for column in 0..columns {
            for row in 0..rows {
                data.extend_from_slice(&tensor.data[(row * columns + column) * size..][..size]);
            }
        }
        self.checkpoint.insert(StoredTensor { shape: vec![columns, rows], data: data.into(), ..tensor });
        Ok(())
    }

    /// Puts the rows of a matrix, or the values of a vector, whose heads are rotated by neighbours (`2i`, `2i + 1`: GGUF's order) into the order in which they are
    /// rotated by halves (`i`, `i + dim / 2`: Hugging Face's), which adapters know. Rows are whole blocks, so that nothing is rounded.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`].
    pub(crate) fn unpair(&mut self, name: &str, shape: &[usize], dim: usize) -> Result<(), Error> {
        let tensor = self.take(name, shape)?;
        let (rows, columns) = (shape[0], shape[1..].iter().product());
        let Some(bytes) = tensor.dtype.bytes_for(columns).filter(|bytes| tensor.data.len() == rows * bytes) else {
            self.checkpoint.insert(tensor);
            return Ok(());
        };
        let mut data = Vec::with_capacity(tensor.data.len());
        for row in 0..rows {
            let (head, at) = (row / dim, row % dim);
            let from = head * dim + 2 * (at % (dim / 2)) + at / (dim / 2);
            data.extend_from_slice(&tensor.data[from * bytes..][..bytes]);
        }
        self.checkpoint.insert(StoredTensor { data: data.into(), ..tensor });
        Ok(())
    }

    /// `{name}.weight` and, where `bias` says so or leaves it open and the file has one, `{name}.bias`.
    pub(crate) fn linear(&mut self, name: &str, rows: usize, columns: usize, bias: Bias) -> Result<Linear, Error> {
        let matrix = self.matrix(&format!("{name}.weight"), rows, columns)?;
        let (module, name) = (name, format!("{name}.bias"));
        let bias = match bias {
            Bias::Absent => None,
            Bias::IfPresent if !self.contains(&name) => None,
            Bias::Present | Bias::IfPresent => Some(self.vector(&name, rows)?),
        };
        let bias = bias.filter(|_| self.checkpoint.survey().is_none());
        let weight = format!("{module}.weight");
        let trained = self.trained(&weight).is_some();
        let trained = if trained { self.train(weight, vec![rows, columns], matrix.to_f32()) } else { None };
        let trained_bias = bias.as_ref().and_then(|bias| self.train(name, vec![rows], bias.clone()));
        let layer = match trained {
            Some(weight) => return Ok(Linear::trained(weight, bias).with_trained_bias(trained_bias)),
            None => {
                let matrix = Arc::new(if self.panels { matrix.into_panels() } else { matrix });
                Linear::new(&self.compute, matrix, bias).with_trained_bias(trained_bias)
            }
        };
        self.adapted(layer, module, [rows, columns])
    }

    /// A layer with what adapters add to it.
    fn adapted(&self, layer: Linear, module: &str, [rows, columns]: [usize; 2]) -> Result<Linear, Error> {
        let whole = Part { module: module.to_string(), rows: 0..rows, total: rows };
        let part = self.parts.get(module).unwrap_or(&whole);
        let lora = match &self.compute.adapter {
            Some(adapter) => adapter.layer(&self.compute, part, columns)?,
            None => None,
        };
        let mut choices = Vec::new();
        for (number, adapter) in self.compute.adapters.iter().enumerate() {
            if let Some(lora) = adapter.layer(&self.compute, part, columns)? {
                // Their rows are not those of the step: some rows are left out, or come in another order.
                if module == "lm_head" || module.contains(".experts.") {
                    return Err(adapter.not_by_request(module));
                }
                choices.push((number, lora));
            }
        }
        Ok(layer.with_lora(lora).with_choices(choices))
    }

    /// Several layers whose matrices (and biases) lie one after another in one tensor, of `rows` each: see [`Loader::split`].
    pub(crate) fn linears<const N: usize>(
        &mut self,
        name: &str,
        rows: [usize; N],
        columns: usize,
        bias: Bias,
    ) -> Result<[Linear; N], Error> {
        let part = |index: usize, what: &str| format!("{name}.{index}{what}");
        let parts = |what: &str| rows.iter().enumerate().map(|(i, rows)| (part(i, what), *rows)).collect::<Vec<_>>();
        self.split(&format!("{name}.weight"), &parts(".weight"), columns)?;
        if bias == Bias::Present || (bias == Bias::IfPresent && self.contains(&format!("{name}.bias"))) {
            self.split(&format!("{name}.bias"), &parts(".bias"), 1)?;
        }
        let layers = rows.iter().enumerate().map(|(i, rows)| self.linear(&part(i, ""), *rows, columns, bias));
        let layers: Vec<Linear> = layers.collect::<Result<_, _>>()?;
        Ok(layers.try_into().expect("one layer for each number of rows"))
    }

    /// A layer of computed values, row-major; `bias` says how many rows.
    pub(crate) fn linear_of(&self, name: &str, weight: Vec<f32>, bias: Vec<f32>) -> Result<Linear, Error> {
        let (rows, columns) = (bias.len(), weight.len() / bias.len().max(1));
        let data = weight.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
        let tensor = StoredTensor { name: name.to_string(), dtype: Dtype::F32, shape: vec![rows, columns], data };
        let matrix = self.read(tensor)?;
        let matrix = if self.panels { matrix.into_panels() } else { matrix };
        let bias = Some(bias).filter(|_| self.checkpoint.survey().is_none());
        Ok(Linear::new(&self.compute, Arc::new(matrix), bias))
    }

    /// An output layer that shares the table of an embedding, unless an adapter has one of the two whole.
    pub(crate) fn tied(
        &mut self,
        name: &str,
        embedding: &Embedding,
        [rows, columns]: [usize; 2],
    ) -> Result<Linear, Error> {
        if self.compute.adapter.as_ref().is_some_and(|adapter| adapter.unties()) {
            return self.linear(name, rows, columns, Bias::Absent);
        }
        let layer = match embedding {
            Embedding::Trained(table, _) => Linear::trained(table.clone(), None),
            Embedding::Stored(table) => Linear::new(&self.compute, table.clone(), None),
        };
        self.adapted(layer, name, [rows, columns])
    }

    pub(crate) fn embedding(&mut self, name: &str, rows: usize, columns: usize) -> Result<Embedding, Error> {
        let name = format!("{name}.weight");
        let table = Arc::new(self.matrix(&name, rows, columns)?);
        let trained = self.trained(&name).is_some().then(|| table.to_f32());
        Ok(match trained.and_then(|values| self.train(name, vec![rows, columns], values)) {
            Some(parameter) => Embedding::Trained(parameter, self.padding),
            None => Embedding::Stored(table),
        })
    }

    pub(crate) fn rms_norm(&mut self, name: &str, len: usize, eps: f64) -> Result<RmsNorm, Error> {
        self.rms_norm_from(name, len, eps, 0.0)
    }

    /// A norm whose weights are stored as differences from `offset`.
    pub(crate) fn rms_norm_from(&mut self, name: &str, len: usize, eps: f64, offset: f32) -> Result<RmsNorm, Error> {
        let name = format!("{name}.weight");
        let mut weight = self.vector(&name, len)?;
        let trained = self.train(name, vec![len], weight.clone());
        if offset != 0.0 {
            weight.iter_mut().for_each(|weight| *weight += offset);
        }
        let norm = RmsNorm::new(&self.compute, weight, eps);
        Ok(match trained {
            Some(weight) => norm.trained(weight, offset),
            None => norm,
        })
    }

    /// Layer normalisation without a bias.
    pub(crate) fn layer_norm_unbiased(&mut self, name: &str, len: usize, eps: f64) -> Result<LayerNorm, Error> {
        let weight = self.vector(&format!("{name}.weight"), len)?;
        let trained = self.train(format!("{name}.weight"), vec![len], weight.clone());
        Ok(LayerNorm::new(&self.compute, weight, vec![0.0; len], eps).trained(trained, None))
    }

    /// Layer normalisation of each head with weights of its own, `[heads, dim]`, without a bias.
    pub(crate) fn head_norm(&mut self, name: &str, heads: usize, dim: usize, eps: f64) -> Result<LayerNorm, Error> {
        let weight = self.values(&format!("{name}.weight"), &[heads, dim])?;
        let trained = self.train(format!("{name}.weight"), vec![heads * dim], weight.clone());
        Ok(LayerNorm::heads(&self.compute, dim, weight, vec![0.0; heads * dim], eps).trained(trained, None))
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
        let names = [weight, bias];
        let (weight, bias) = (self.vector(&names[0], len)?, self.vector(&names[1], len)?);
        let [weight_name, bias_name] = names;
        let trained = self.train(weight_name, vec![len], weight.clone());
        let trained_bias = self.train(bias_name, vec![len], bias.clone());
        Ok(LayerNorm::new(&self.compute, weight, bias, eps).trained(trained, trained_bias))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::LoadOptions;

    /// `w`: `[6, 2]`, `b`: `[6]`, `e`: `[2, 3, 2]`, all counting up from 0.
    fn loader() -> Loader {
        let numbers = |n: usize| (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<u8>>();
        let header = r#"{"w":{"dtype":"F32","shape":[6,2],"data_offsets":[0,48]},
            "b":{"dtype":"F32","shape":[6],"data_offsets":[48,72]},
            "e":{"dtype":"F32","shape":[2,3,2],"data_offsets":[72,120]}}"#;
        let file =
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &numbers(12), &numbers(6), &numbers(12)];
        let checkpoint = Checkpoint::from_safetensors(Bytes::from(file.concat()), "tiny").unwrap();
        Loader::new(checkpoint, LoadOptions { threads: 1, ..LoadOptions::default() }.compute(), |name| name.to_string())
    }

    fn parts(rows: [usize; 2]) -> Vec<(String, usize)> {
        vec![("first".into(), rows[0]), ("second".into(), rows[1])]
    }

    #[test]
    fn parts_are_the_rows_of_the_whole() {
        for (name, rows, columns, second) in [
            ("w", [4, 2], 2, vec![8.0, 9.0, 10.0, 11.0]),
            ("b", [4, 2], 1, vec![4.0, 5.0]),
            ("e", [3, 3], 2, vec![6.0, 7.0, 8.0, 9.0, 10.0, 11.0]),
        ] {
            let mut loader = loader();
            loader.split(name, &parts(rows), columns).unwrap();
            assert!(!loader.contains(name));
            let tensor = loader.checkpoint.take("second").unwrap();
            assert_eq!(tensor.to_f32().unwrap(), second, "{name}");
            assert_eq!(tensor.shape[0], rows[1]);
        }
    }

    #[test]
    fn parts_that_are_not_the_whole_are_refused() {
        for (rows, columns) in [([4, 3], 2), ([2, 1], 4), ([4, 1], 2)] {
            assert!(matches!(loader().split("w", &parts(rows), columns), Err(Error::TensorShape { .. })));
        }
        assert!(matches!(loader().split("x", &parts([1, 1]), 1), Err(Error::MissingTensor { .. })));
    }

    #[test]
    fn rows_become_columns() {
        let mut loader = loader();
        loader.transpose("w", [6, 2]).unwrap();
        let tensor = loader.checkpoint.take("w").unwrap();
        assert_eq!(tensor.shape, [2, 6]);
        assert_eq!(tensor.to_f32().unwrap(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0]);
        assert!(matches!(loader.transpose("b", [6, 1]), Err(Error::TensorShape { .. })));
    }
}
