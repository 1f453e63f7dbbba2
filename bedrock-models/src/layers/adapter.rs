//! Low-rank adapters beside fully connected layers (Hu et al. 2021), in the layout of PEFT.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bedrock_core::Sealer;
use burn::Tensor;
use burn::tensor::TensorData;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::parameter::{Parameter, Parameters};
use super::pattern::Patterns;
use super::run::{self, Chosen, Compute, Run};
use crate::error::Error;
use crate::kernels::gemm::{self, Product};
use crate::kernels::{Matrix, elementwise};
use crate::language_model::read_json;
use crate::weights::{Checkpoint, Dtype, StoredTensor};

/// The part of `adapter_config.json` that matters to the result.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct LoraConfig {
    pub(crate) peft_type: String,
    pub(crate) r: usize,
    pub(crate) lora_alpha: f64,
    #[serde(default)]
    pub(crate) use_rslora: bool,
    #[serde(default)]
    pub(crate) lora_dropout: f32,
    #[serde(default)]
    pub(crate) alpha_pattern: Patterns,
    #[serde(default)]
    use_dora: bool,
    /// Ends of the names of modules that are trained whole.
    modules_to_save: Option<Vec<String>>,
    /// Whether biases are trained: `none`, `all` or `lora_only`.
    bias: Option<String>,
}

/// The adapter of a model: read from a folder, or new.
#[derive(Debug)]
pub(crate) struct Adapter {
    path: PathBuf,
    config: LoraConfig,
    /// Factors by PEFT's names, or by those of a GGUF file.
    tensors: Option<Checkpoint>,
    /// From the module's names to those of the base's GGUF file, if factors go by them.
    gguf_name: Option<fn(&str) -> String>,
    /// Of a new adapter: the last names of the modules that get one, and where its numbers come from.
    targets: Vec<String>,
    seed: u64,
    /// Modules, or tensors of modules, that are trained whole, beside the factors of others: heads, norms, biases.
    whole: Vec<String>,
    /// Modules met so far, with their trained factors.
    used: Mutex<BTreeSet<String>>,
    trained: Mutex<BTreeMap<String, [Parameter; 2]>>,
}

/// Which rows of a module a layer has, where a checkpoint stores several layers as one.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) module: String,
    pub(crate) rows: Range<usize>,
    pub(crate) total: usize,
}

/// `A` `[r, in]`, `B` `[out, r]`, and `r`.
pub(crate) type Factors = (Vec<f32>, Vec<f32>, usize);

/// What is added to a layer's result: `scale · (x · Aᵀ) · Bᵀ`.
#[derive(Debug)]
// One a layer: its size is nothing beside the weights.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Lora {
    /// For our kernels, `B` scaled.
    Stored(Matrix, Matrix),
    /// `[in, r]` and `[r, out]` on the device, the latter scaled.
    Dense(Tensor<2>, Tensor<2>),
    Trained(Trained),
}

/// Factors that are trained: those of the module, of which the layer has some rows.
#[derive(Debug, Clone)]
pub(crate) struct Trained {
    pub(crate) factors: [Parameter; 2],
    pub(crate) rows: Range<usize>,
    pub(crate) scale: f32,
    pub(crate) dropout: Dropout,
}

/// What an adapter does not get to see of its input in training (Srivastava et al. 2014). The choice is a function of module, batch and
/// place, so that the way back, and a pass that is run again, make the same.
#[derive(Debug, Clone)]
pub(crate) struct Dropout {
    share: f32,
    salt: u64,
    batch: Arc<AtomicU64>,
}

impl Dropout {
    fn new(share: f32, module: &str, batch: Arc<AtomicU64>) -> Self {
        // FNV-1a.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self { share, salt: module.bytes().fold(0xcbf2_9ce4_8422_2325, hash), batch }
    }

    /// `x` with a share of zeros, the others scaled to make up for them; `None` if it is `x` itself.
    pub(crate) fn of(&self, x: &[f32]) -> Option<Vec<f32>> {
        let batch = self.batch.load(Relaxed);
        if self.share == 0.0 || batch == 0 {
            return None;
        }
        let start = self.salt ^ batch.wrapping_mul(0xd134_2543_de82_ef95);
        let (limit, scale) = ((f64::from(self.share) * 2f64.powi(32)) as u64, 1.0 / (1.0 - self.share));
        let value = |(at, x): (usize, &f32)| if mix(start, at as u64) >> 32 < limit { 0.0 } else { x * scale };
        Some(x.iter().enumerate().map(value).collect())
    }
}

/// Number `at` of the sequence of SplitMix64 (Steele et al. 2014) from `start` on.
fn mix(start: u64, at: u64) -> u64 {
    let z = start.wrapping_add((at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl LoraConfig {
    /// `alpha / r` times, but for modules with an alpha of their own.
    pub(crate) fn stored(r: usize, alpha: f64, alphas: BTreeMap<String, f64>) -> Self {
        let (peft_type, alpha_pattern) = ("LORA".into(), Patterns::names(alphas));
        Self { peft_type, r, lora_alpha: alpha, use_rslora: false, lora_dropout: 0.0, alpha_pattern, ..Self::default() }
    }

    #[cfg(feature = "tune")]
    pub(crate) fn new(r: usize, alpha: f64, dropout: f32, use_rslora: bool) -> Self {
        Self { use_rslora, lora_dropout: dropout, ..Self::stored(r, alpha, BTreeMap::new()) }
    }

    /// Whether a tensor that is stored whole is trained, and not only there because it belongs to what is.
    fn trains(&self, tensor: &str) -> bool {
        let (module, kind) = kind_of(tensor);
        let outer = module.match_indices('.').map(|(at, _)| &module[..at]).chain([module]);
        let is_saved = |name: &String| outer.clone().any(|outer| outer.ends_with(name.as_str()));
        (kind == ".bias" && self.bias.as_deref().is_some_and(|bias| bias != "none"))
            // As PEFT compares them, `norm` is `input_layernorm` too.
            || self.modules_to_save.iter().flatten().any(is_saved)
    }
}

impl Adapter {
    /// Reads a folder as PEFT writes it: `adapter_config.json` and `adapter_model.safetensors`, which may be sealed.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] for what is not a plain LoRA; unreadable files.
    pub(crate) fn open(folder: &Path, sealer: Option<&dyn Sealer>) -> Result<Self, Error> {
        let path = folder.join("adapter_config.json");
        let config: LoraConfig = read_json(&path)?;
        let wrong = |what: String| Error::ConfigValue { path: path.clone(), what };
        if config.peft_type != "LORA" {
            return Err(wrong(format!("peft_type is {:?}, only LORA is supported", config.peft_type)));
        }
        if config.use_dora {
            return Err(wrong("use_dora is true, which is not supported".into()));
        }
        let finite = config.alpha_pattern.values().chain([config.lora_alpha]).all(f64::is_finite);
        if !(0.0..1.0).contains(&config.lora_dropout) {
            return Err(wrong(format!("lora_dropout is {}", config.lora_dropout)));
        }
        if config.r == 0 || !finite {
            return Err(wrong(format!("r is {} and lora_alpha {}", config.r, config.lora_alpha)));
        }
        let tensors = Checkpoint::open_with(folder.join("adapter_model.safetensors"), sealer)?;
        Ok(Self::of(folder, config, tensors))
    }

    /// An adapter of factors by PEFT's names.
    pub(crate) fn of(path: &Path, config: LoraConfig, tensors: Checkpoint) -> Self {
        Self::with(path, config, Some(tensors), Vec::new(), 0)
    }

    /// A new adapter of the modules whose last name is one of `targets`: `A` uniform in `±1/√in`, `B` zero.
    #[cfg(feature = "tune")]
    pub(crate) fn new(config: LoraConfig, targets: Vec<String>, seed: u64) -> Self {
        Self::with(Path::new("adapter"), config, None, targets, seed)
    }

    fn with(path: &Path, config: LoraConfig, tensors: Option<Checkpoint>, targets: Vec<String>, seed: u64) -> Self {
        let (used, trained) = Default::default();
        let stored = tensors.iter().flat_map(Checkpoint::iter);
        let whole = stored.filter_map(|tensor| saved_name(&tensor.name)).filter(|name| config.trains(name)).collect();
        Self { path: path.to_path_buf(), config, tensors, gguf_name: None, targets, seed, whole, used, trained }
    }

    /// The same with factors that go by a GGUF file's names.
    pub(crate) fn named_by(self, gguf_name: fn(&str) -> String) -> Self {
        Self { gguf_name: Some(gguf_name), ..self }
    }

    /// The same with modules that are trained whole.
    #[cfg(feature = "tune")]
    pub(crate) fn with_whole(self, whole: Vec<String>) -> Self {
        Self { whole, ..self }
    }

    /// Whether the tensor of this name is trained whole.
    pub(crate) fn trains(&self, tensor: &str) -> bool {
        let (module, kind) = kind_of(tensor);
        self.whole.iter().any(|whole| {
            let (whole, own) = kind_of(whole);
            let rest = bare_name(module).strip_prefix(bare_name(whole));
            (own.is_empty() || own == kind) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// The tensors that a stored adapter has whole, by their names in the model.
    fn wholes(&self) -> impl Iterator<Item = (String, &StoredTensor)> {
        let stored = self.tensors.iter().flat_map(Checkpoint::iter);
        stored.filter_map(|tensor| Some((saved_name(&tensor.name)?, tensor)))
    }

    /// Whether it has modules or tensors whole.
    pub(crate) fn has_wholes(&self) -> bool {
        self.wholes().next().is_some()
    }

    /// Puts the tensors that a stored adapter has whole into a checkpoint, in the place of the base's.
    pub(crate) fn put_wholes(&self, checkpoint: &mut Checkpoint) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // What was in the place of a module that is stored whole: PEFT writes its bias where it writes all.
        let replaced = self.tensors.iter().flat_map(Checkpoint::iter).map(|tensor| &tensor.name);
        used.extend(replaced.filter(|name| name.contains(".original_module.")).cloned());
        for (name, tensor) in self.wholes() {
            used.insert(tensor.name.clone());
            let names = [&*name, inner_name(&name), bare_name(&name)];
            // A base without a head has not the outer name that a model with one has.
            let outer = name.strip_suffix(inner_name(&name)).unwrap_or_default();
            let is_bare = !checkpoint.iter().any(|stored| stored.name.starts_with(outer));
            let stored = names.into_iter().find(|name| checkpoint.contains(name));
            let name = stored.unwrap_or(if is_bare { names[1] } else { names[0] }).to_string();
            if TABLES.contains(&&*name)
                && !checkpoint.contains(HEAD)
                && let Some(table) = checkpoint.get(&name)
            {
                // An output layer that shares the table goes on with that of the base, as in PEFT.
                checkpoint.insert(StoredTensor { name: HEAD.into(), ..table.clone() });
            }
            checkpoint.insert(StoredTensor { name, ..tensor.clone() });
        }
    }

    /// Whether an output layer that shares the table of the embedding in the base does not with this adapter.
    pub(crate) fn unties(&self) -> bool {
        self.wholes().any(|(name, _)| name == HEAD || TABLES.contains(&&*name))
    }

    /// `lora_alpha / r`, or `lora_alpha / √r`; a module may have an `alpha` of its own.
    pub(crate) fn scale(&self, module: &str, r: usize) -> f32 {
        let alpha = self.config.alpha_pattern.of(module).unwrap_or(self.config.lora_alpha);
        let r = r as f64;
        (alpha / if self.config.use_rslora { r.sqrt() } else { r }) as f32
    }

    /// The factors of a module of `rows` × `columns`, if it has an adapter.
    pub(crate) fn factors(&self, module: &str, rows: usize, columns: usize) -> Result<Option<Factors>, Error> {
        let Some(tensors) = &self.tensors else {
            if !self.targets.iter().any(|target| is_named(module, target)) {
                return Ok(None);
            }
            let r = self.config.r;
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(self.used.lock().unwrap_or_else(PoisonError::into_inner).len() as u64);
            let bound = 1.0 / (columns as f32).sqrt();
            let mut next = || (random.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
            let a = (0..r * columns).map(|_| next() * bound).collect();
            self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(module.to_string());
            return Ok(Some((a, vec![0.0; rows * r], r)));
        };
        // Some checkpoints leave out the name of the outer module, and some adapters.
        let named = |factor: &str| {
            if let Some(gguf_name) = self.gguf_name {
                let tensor = gguf_name(&format!("{module}.weight"));
                return tensors.get(&format!("{tensor}.{}", factor.to_lowercase()));
            }
            let outer = ["", "transformer."].iter().chain(OUTER).map(|outer| (*outer, module));
            let mut modules = outer.chain([("", inner_name(module))]);
            modules
                .find_map(|(outer, module)| tensors.get(&format!("base_model.model.{outer}{module}.{factor}.weight")))
        };
        let Some(a) = named("lora_A") else { return Ok(None) };
        let r = a.shape.first().copied().unwrap_or(0);
        a.expect_shape(&[r, columns])?;
        let missing = || Error::MissingTensor {
            path: self.path.clone(),
            name: a.name.replace("lora_A", "lora_B").replace("lora_a", "lora_b"),
        };
        let b = named("lora_B").ok_or_else(missing)?;
        b.expect_shape(&[rows, r])?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.extend([a.name.clone(), b.name.clone()]);
        Ok(Some((a.to_f32()?, b.to_f32()?, r)))
    }

    /// What the adapter adds to the layer that is `part` of a module; nothing if the module has none.
    ///
    /// # Errors
    /// [`Error::TensorShape`] for factors that do not fit the layer; [`Error::MissingTensor`] if one is missing.
    pub(crate) fn layer(&self, compute: &Compute, part: &Part, columns: usize) -> Result<Option<Lora>, Error> {
        let Part { module, rows, total } = part;
        let mut trained = self.trained.lock().unwrap_or_else(PoisonError::into_inner);
        let parameters = compute.parameters.as_deref();
        let as_trained = |factors: &[Parameter; 2], scale, parameters: &Parameters| {
            let dropout = Dropout::new(self.config.lora_dropout, module, parameters.batch().clone());
            Lora::Trained(Trained { factors: factors.clone(), rows: rows.clone(), scale, dropout })
        };
        if let (Some(factors), Some(parameters)) = (trained.get(module), parameters) {
            return Ok(Some(as_trained(factors, self.scale(module, factors[0].shape()[0]), parameters)));
        }
        let Some((a, mut b, r)) = self.factors(module, *total, columns)? else { return Ok(None) };
        let scale = self.scale(module, r);
        if let Some(parameters) = parameters {
            let add = |factor: &str, shape: [usize; 2], values| {
                parameters.add(format!("{module}.{factor}"), shape.to_vec(), values, &compute.device)
            };
            let factors = [add("lora_A", [r, columns], a), add("lora_B", [*total, r], b)];
            let lora = as_trained(&factors, scale, parameters);
            trained.insert(module.clone(), factors);
            return Ok(Some(lora));
        }
        b.iter_mut().for_each(|value| *value *= scale);
        let b = b[rows.start * r..rows.end * r].to_vec();
        let shapes = [[r, columns], [rows.len(), r]];
        if compute.pool.is_some() {
            let matrix = |values: Vec<f32>, shape: [usize; 2]| {
                let data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
                Matrix::new(StoredTensor { name: module.clone(), dtype: Dtype::F32, shape: shape.to_vec(), data })
            };
            return Ok(Some(Lora::Stored(matrix(a, shapes[0])?, matrix(b, shapes[1])?)));
        }
        let dense = |values, shape| Tensor::<2>::from_data(TensorData::new(values, shape), &compute.device).transpose();
        Ok(Some(Lora::Dense(dense(a, shapes[0]), dense(b, shapes[1]))))
    }

    /// What is wrong with an adapter of a layer that not every row of a request goes through.
    pub(crate) fn not_by_request(&self, module: &str) -> Error {
        let what = format!("adapters that requests choose from cannot change {module}");
        Error::ConfigValue { path: self.path.clone(), what }
    }

    /// Adds what makes this adapter another than others to a hash.
    pub(crate) fn identify(&self, hash: &mut Sha256) {
        let LoraConfig { r, lora_alpha, use_rslora, alpha_pattern, .. } = &self.config;
        hash.update(format!("adapter {r} {lora_alpha} {use_rslora} {alpha_pattern:?}"));
        for tensor in self.tensors.iter().flat_map(Checkpoint::iter) {
            hash.update(format!("{} {:?} {:?}", tensor.name, tensor.dtype, tensor.shape));
            hash.update(&tensor.data);
        }
    }

    /// Ends loading.
    ///
    /// # Errors
    /// [`Error::UnusedTensors`] if a factor belongs to no layer of the model, and if no layer has a factor at all.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<String> = match &self.tensors {
            Some(tensors) => tensors.iter().map(|t| t.name.clone()).filter(|name| !used.contains(name)).collect(),
            None if used.is_empty() => self.targets.clone(),
            None => Vec::new(),
        };
        if names.is_empty() { Ok(()) } else { Err(Error::UnusedTensors { path: self.path.clone(), names }) }
    }
}

/// The number of an adapter, in the order of their names.
///
/// # Errors
/// [`Error::InvalidParameter`] for a name that none has.
pub(crate) fn number_of(name: &str, adapters: &[String]) -> Result<usize, Error> {
    adapters.iter().position(|adapter| adapter == name).ok_or_else(|| Error::InvalidParameter {
        name: "adapter",
        got: name.to_string(),
        expected: if adapters.is_empty() { "none".into() } else { adapters.join(", ") },
    })
}

/// What Hugging Face's models with a head call the one without.
const OUTER: &[&str] = &["bert.", "roberta.", "mpnet.", "nomic_bert.", "deberta.", "model."];

/// The name of a module in the model without a head, as Hugging Face's `AutoModel` has it.
pub(crate) fn inner_name(module: &str) -> &str {
    OUTER.iter().find_map(|outer| module.strip_prefix(outer)).unwrap_or(module)
}

/// The output layer of a decoder, and what the tables that it may share are called.
const HEAD: &str = "lm_head.weight";
const TABLES: [&str; 3] = ["model.embed_tokens.weight", "transformer.wte.weight", "wte.weight"];

/// [`inner_name`], also of GPT-2's modules.
fn bare_name(module: &str) -> &str {
    let inner = inner_name(module);
    inner.strip_prefix("transformer.").unwrap_or(inner)
}

/// The name of a tensor's module, and which of its tensors it is; of a module nothing.
pub(super) fn kind_of(name: &str) -> (&str, &str) {
    let end = [".weight", ".bias"].into_iter().find(|end| name.ends_with(end)).unwrap_or_default();
    (&name[..name.len() - end.len()], end)
}

/// The name in the model of a tensor of an adapter that is no factor. A layer with factors, or with another in its place, has a name more.
fn saved_name(tensor: &str) -> Option<String> {
    let name = tensor.strip_prefix("base_model.model.")?;
    let is_factor = ["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"];
    let is_other = |part| is_factor.contains(&part) || part == "original_module";
    (!name.split('.').any(is_other)).then(|| name.replace(".base_layer.", ".").replace(".modules_to_save.", "."))
}

/// Whether the last names of a module are `name`.
pub(super) fn is_named(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl Lora {
    /// The layer's result with the adapter's added.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`, `y`: `[rows, out]`; returns `[rows, out]`
    pub(crate) fn add(&self, run: Run<'_>, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Stored(a, b) => {
                let pool = run.pool().expect("stored factors are kept only where there are kernels");
                let ([rows, _], [_, width]) = (x.dims(), y.dims());
                let product = |weights| Product { weights, bias: None, then: None };
                let [inner] = gemm::products(pool, run::values(&run::flex(x)), rows, &[product(a)]);
                let [more] = gemm::products(pool, &inner, rows, &[product(b)]);
                let mut y = run::flex(y);
                elementwise::add(pool, run::values_mut(&mut y), &more, width);
                run::from_flex(y)
            }
            Self::Dense(a, b) => y + x.matmul(a.clone()).matmul(b.clone()),
            Self::Trained(Trained { factors: [a, b], rows, scale, dropout }) => {
                let b = b.matrix().narrow(0, rows.start, rows.len());
                let keep = (dropout.share > 0.0).then(|| vec![1.0; x.dims().iter().product()]);
                let x = match keep.and_then(|ones| dropout.of(&ones)) {
                    Some(keep) => x.clone() * Tensor::<2>::from_data(TensorData::new(keep, x.dims()), &x.device()),
                    None => x,
                };
                y + x.matmul(a.matrix().transpose()).matmul(b.transpose()) * *scale
            }
        }
    }
}

impl Lora {
    /// As [`Lora::add`], to those rows alone whose place in `chosen` has this number.
    pub(crate) fn add_chosen(
        &self,
        run: Run<'_>,
        x: &Tensor<2>,
        y: Tensor<2>,
        chosen: &Chosen,
        number: usize,
    ) -> Tensor<2> {
        let ([rows, columns], [_, width]) = (x.dims(), y.dims());
        if let Chosen::Each(chosen) = chosen {
            assert_eq!(chosen.len(), rows, "an adapter for each row");
        }
        let is_its = |row: &usize| chosen.of(*row) == Some(number);
        let its: Vec<usize> = (0..rows).filter(is_its).collect();
        if its.is_empty() {
            return y;
        }
        if its.len() == rows {
            return self.add(run, x.clone(), y);
        }
        let Some(pool) = run.pool() else {
            let mask: Vec<f32> = (0..rows).map(|row| f32::from(is_its(&row))).collect();
            let mask = Tensor::<2>::from_data(TensorData::new(mask, [rows, 1]), &y.device());
            return y + self.add(run, x.clone(), Tensor::zeros([rows, width], &x.device())) * mask;
        };
        let x = run::flex(x.clone());
        let x: Vec<f32> = its.iter().flat_map(|row| &run::values(&x)[row * columns..][..columns]).copied().collect();
        let mut y = run::flex(y);
        let values = run::values_mut(&mut y);
        let own: Vec<f32> = its.iter().flat_map(|row| &values[row * width..][..width]).copied().collect();
        let [x, own] = [(x, columns), (own, width)].map(|(part, width)| run::from_vec(pool, part, [its.len(), width]));
        let own = self.add(run, x, own);
        let own = run::flex(own);
        for (row, own) in its.iter().zip(run::values(&own).chunks_exact(width)) {
            values[row * width..][..width].copy_from_slice(own);
        }
        run::from_flex(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_named_by_their_last_names() {
        assert!(is_named("model.layers.0.self_attn.q_proj", "q_proj"));
        assert!(is_named("model.layers.0.self_attn.q_proj", "self_attn.q_proj"));
        assert!(is_named("q_proj", "q_proj"));
        assert!(!is_named("model.layers.0.self_attn.xq_proj", "q_proj"));
        assert_eq!(inner_name("bert.encoder.layer.0.output.dense"), "encoder.layer.0.output.dense");
        assert_eq!(inner_name("encoder.layer.0.output.dense"), "encoder.layer.0.output.dense");
    }
}
