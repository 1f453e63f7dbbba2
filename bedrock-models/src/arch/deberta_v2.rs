//! DeBERTa v2 and v3: attention that keeps content and relative position apart, and, in v2, a convolution after the first layer.
//!
//! Papers: He et al. 2020 (<https://arxiv.org/abs/2006.03654>), 2021 (<https://arxiv.org/abs/2111.09543>).
//! Reference: HF `modeling_deberta_v2.py` (transformers 4.48 and 5). Checked against: tiny random checkpoints.
//!
//! Deliberate differences: no dropout, no padding; what relative positions become in each layer is computed once, when loading, but in training
//! each time.

use std::collections::BTreeSet;

use burn::Tensor;
use burn::tensor::{Int, TensorData};
use serde::Deserialize;

use super::text_encoder::{ConfigFile, EncoderInput, Head, Loaded, Purpose, TextEncoder, Transform};
use crate::encoder::host;
use crate::error::Error;
use crate::layers::disentangled::{DisentangledAttention, Met, PositionBuckets};
use crate::layers::loader::Bias;
use crate::layers::{
    Activation, Embedding, LayerNorm, Linear, Loader, Parameter, Phase, Run, Sequence, norm::add, project,
};

/// `config.json` of `DebertaV2Model`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct DebertaV2Config {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    attention_head_size: Option<usize>,
    intermediate_size: usize,
    hidden_act: Activation,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    relative_attention: bool,
    /// Less than 1: `max_position_embeddings`.
    max_relative_positions: i64,
    /// Less than 1: a bucket for each distance.
    position_buckets: i64,
    position_biased_input: bool,
    pos_att_type: Option<PosAttType>,
    share_att_key: bool,
    norm_rel_ebd: String,
    embedding_size: Option<usize>,
    conv_kernel_size: usize,
    conv_groups: usize,
    conv_act: Activation,
    pooler_hidden_size: Option<usize>,
    pooler_hidden_act: Activation,
}

/// `"c2p|p2c"` or `["c2p", "p2c"]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum PosAttType {
    Text(String),
    List(Vec<String>),
}

impl Default for DebertaV2Config {
    fn default() -> Self {
        Self {
            vocab_size: 128_100,
            hidden_size: 1536,
            num_hidden_layers: 24,
            num_attention_heads: 24,
            attention_head_size: None,
            intermediate_size: 6144,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 512,
            type_vocab_size: 0,
            layer_norm_eps: 1e-7,
            relative_attention: false,
            max_relative_positions: -1,
            position_buckets: -1,
            position_biased_input: true,
            pos_att_type: None,
            share_att_key: false,
            norm_rel_ebd: "none".into(),
            embedding_size: None,
            conv_kernel_size: 0,
            conv_groups: 1,
            conv_act: Activation::Tanh,
            pooler_hidden_size: None,
            pooler_hidden_act: Activation::Gelu,
        }
    }
}

impl DebertaV2Config {
    /// Whether scores have that part: `c2p` or `p2c`.
    fn attends(&self, part: &str) -> bool {
        match &self.pos_att_type {
            None => false,
            Some(PosAttType::Text(text)) => text.to_lowercase().split('|').any(|name| name.trim() == part),
            Some(PosAttType::List(list)) => list.iter().any(|name| name == part),
        }
    }

    fn max_relative(&self) -> usize {
        usize::try_from(self.max_relative_positions).ok().filter(|n| *n > 0).unwrap_or(self.max_position_embeddings)
    }

    fn buckets(&self) -> PositionBuckets {
        match usize::try_from(self.position_buckets).ok().filter(|n| *n > 0) {
            Some(buckets) => PositionBuckets { span: buckets, limited: Some((buckets, self.max_relative())) },
            None => PositionBuckets { span: self.max_relative(), limited: None },
        }
    }

    fn normalizes_positions(&self) -> bool {
        self.norm_rel_ebd.to_lowercase().split('|').any(|name| name.trim() == "layer_norm")
    }

    fn validate(&self, file: &ConfigFile) -> Result<(), Error> {
        // Each key of a sequence meets all positions at once.
        const MOST_POSITIONS: usize = 1 << 11;
        file.check_sizes(&[
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("embedding_size", self.embedding_size.unwrap_or(1), 1 << 16),
            ("conv_groups", self.conv_groups, self.hidden_size),
        ])?;
        file.check_heads(self.hidden_size, self.num_attention_heads)?;
        file.check_eps("layer_norm_eps", self.layer_norm_eps)?;
        if self.type_vocab_size > 1 << 10 {
            return Err(file.wrong(format!("type_vocab_size is {}", self.type_vocab_size)));
        }
        let dim = self.hidden_size / self.num_attention_heads;
        if let Some(size) = self.attention_head_size.filter(|size| *size != dim) {
            return Err(file.wrong(format!("attention_head_size is {size}, only {dim} is supported")));
        }
        if let Some(size) = self.pooler_hidden_size.filter(|size| *size != self.hidden_size) {
            return Err(
                file.wrong(format!("pooler_hidden_size is {size}, but the hidden state has {}", self.hidden_size))
            );
        }
        if self.conv_kernel_size > 0 {
            let (kernel, groups) = (self.conv_kernel_size, self.conv_groups);
            if kernel.is_multiple_of(2) || kernel > 63 {
                return Err(file.wrong(format!("conv_kernel_size is {kernel}, not an odd number up to 63")));
            }
            if !self.hidden_size.is_multiple_of(groups) {
                return Err(file.wrong(format!("hidden_size ({}) has no {groups} equal groups", self.hidden_size)));
            }
        }
        if self.relative_attention {
            let PositionBuckets { span, limited } = self.buckets();
            if span > MOST_POSITIONS {
                return Err(file.wrong(format!("{span} relative positions, at most {MOST_POSITIONS} are supported")));
            }
            if let Some((buckets, max)) = limited.filter(|(buckets, max)| *buckets < 2 || max - 1 <= buckets / 2) {
                return Err(file.wrong(format!("position_buckets is {buckets} with max_relative_positions {max}")));
            }
        }
        Ok(())
    }
}

/// `DebertaV2Embeddings`.
struct DebertaV2Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Option<Embedding>,
    token_type_embeddings: Option<Embedding>,
    embed_proj: Option<Linear>,
    layer_norm: LayerNorm,
    types: usize,
}

impl DebertaV2Embeddings {
    fn load(loader: &mut Loader, name: &str, config: &DebertaV2Config) -> Result<Self, Error> {
        let hidden = config.hidden_size;
        let size = config.embedding_size.unwrap_or(hidden);
        let mut table = |what: &str, rows| loader.embedding(&format!("{name}.{what}_embeddings"), rows, size);
        Ok(Self {
            word_embeddings: table("word", config.vocab_size)?,
            position_embeddings: match config.position_biased_input {
                true => Some(table("position", config.max_position_embeddings)?),
                false => None,
            },
            token_type_embeddings: match config.type_vocab_size {
                0 => None,
                rows => Some(table("token_type", rows)?),
            },
            embed_proj: match size == hidden {
                true => None,
                false => Some(loader.linear(&format!("{name}.embed_proj"), hidden, size, Bias::Absent)?),
            },
            layer_norm: loader.layer_norm(&format!("{name}.LayerNorm"), hidden, config.layer_norm_eps)?,
            types: config.type_vocab_size,
        })
    }

    /// # Shapes
    /// - returns `[rows, hidden]`
    fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2> {
        let mut x = self.word_embeddings.forward(run, input.tokens.iter().map(|token| *token as usize));
        if let Some(table) = &self.position_embeddings {
            x = add(run, x, table.forward(run, input.positions().collect::<Vec<_>>().into_iter()));
        }
        if let Some(table) = &self.token_type_embeddings {
            x = add(run, x, table.forward(run, input.types.iter().map(|t| (*t as usize).min(self.types - 1))));
        }
        if let Some(linear) = &self.embed_proj {
            x = linear.forward(run, x);
        }
        self.layer_norm.forward(run, x)
    }
}

/// Vectors for relative positions, before a layer makes its own of them.
struct RelativePositions {
    rel_embeddings: Embedding,
    layer_norm: Option<LayerNorm>,
    buckets: PositionBuckets,
}

impl RelativePositions {
    /// Those of some buckets.
    ///
    /// # Shapes
    /// - returns `[count, hidden]`
    fn forward(&self, run: Run<'_>, first: usize, count: usize) -> Tensor<2> {
        let x = self.rel_embeddings.forward(run, first..first + count);
        match &self.layer_norm {
            Some(norm) => norm.forward(run, x),
            None => x,
        }
    }
}

/// `DebertaV2Layer`: self-attention and feed-forward, each followed by a residual and a normalisation.
struct DebertaV2Layer {
    query_proj: Linear,
    key_proj: Linear,
    value_proj: Linear,
    /// What makes vectors for positions that queries and keys meet, where it is not what makes the other keys and queries.
    pos_key_proj: Option<Linear>,
    pos_query_proj: Option<Linear>,
    c2p: bool,
    p2c: bool,
    attention: DisentangledAttention,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    activation: Activation,
}

impl DebertaV2Layer {
    fn load(loader: &mut Loader, name: &str, config: &DebertaV2Config) -> Result<Self, Error> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let mut linear =
            |part: &str, rows, columns| loader.linear(&format!("{name}.{part}"), rows, columns, Bias::Present);
        let query_proj = linear("attention.self.query_proj", hidden, hidden)?;
        let key_proj = linear("attention.self.key_proj", hidden, hidden)?;
        let value_proj = linear("attention.self.value_proj", hidden, hidden)?;
        let [c2p, p2c] = ["c2p", "p2c"].map(|part| config.relative_attention && config.attends(part));
        let mut own = |is_there: bool, part: &str| match is_there && !config.share_att_key {
            true => linear(part, hidden, hidden).map(Some),
            false => Ok(None),
        };
        let pos_key_proj = own(c2p, "attention.self.pos_key_proj")?;
        let pos_query_proj = own(p2c, "attention.self.pos_query_proj")?;
        let attention_output = linear("attention.output.dense", hidden, hidden)?;
        let intermediate = linear("intermediate.dense", inner, hidden)?;
        let output = linear("output.dense", hidden, inner)?;
        let dim = hidden / config.num_attention_heads;
        // Without relative attention the parts count all the same.
        let parts = 1 + ["c2p", "p2c"].iter().filter(|part| config.attends(part)).count();
        let heads = (config.num_attention_heads, dim, 1.0 / ((dim * parts) as f32).sqrt());
        Ok(Self {
            query_proj,
            key_proj,
            value_proj,
            pos_key_proj,
            pos_query_proj,
            c2p,
            p2c,
            attention: DisentangledAttention::new(heads, config.buckets()),
            attention_output,
            attention_norm: loader.layer_norm(&format!("{name}.attention.output.LayerNorm"), hidden, eps)?,
            intermediate,
            output,
            output_norm: loader.layer_norm(&format!("{name}.output.LayerNorm"), hidden, eps)?,
            activation: config.hidden_act,
        })
    }

    /// What the layer makes of vectors for positions, `[buckets, hidden]`.
    fn met(&self, run: Run<'_>, positions: &Tensor<2>) -> Met {
        let of = |is_there: bool, own: &Option<Linear>, shared: &Linear| {
            is_there.then(|| own.as_ref().unwrap_or(shared).forward(run, positions.clone()))
        };
        [of(self.c2p, &self.pos_key_proj, &self.key_proj), of(self.p2c, &self.pos_query_proj, &self.query_proj)]
    }

    /// The same layer that keeps what it makes of all positions, with each adapter that changes it too.
    fn knowing(mut self, run: Run<'_>, positions: &Tensor<2>) -> Self {
        let met = self.met(run, positions);
        self.attention = self.attention.knowing(run, None, met);
        let makers =
            [Some(&self.key_proj), Some(&self.query_proj), self.pos_key_proj.as_ref(), self.pos_query_proj.as_ref()];
        let numbers: BTreeSet<usize> = makers.into_iter().flatten().flat_map(Linear::chosen_by).collect();
        for number in numbers {
            let compute = run.compute.with_adapter(number);
            let met = self.met(Run { compute: &compute, ..run }, positions);
            self.attention = self.attention.knowing(run, Some(number), met);
        }
        Self { pos_key_proj: None, pos_query_proj: None, ..self }
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    /// - `positions`: in training the first bucket and the vectors of those that there are, `[buckets, hidden]`
    fn forward(
        &self,
        run: Run<'_>,
        x: Tensor<2>,
        positions: Option<&(usize, Tensor<2>)>,
        sequences: &[Sequence],
    ) -> Tensor<2> {
        let qkv = project(run, [&self.query_proj, &self.key_proj, &self.value_proj], x.clone());
        let h = match positions {
            Some((first, positions)) => {
                self.attention.forward_with(run, qkv, (*first, self.met(run, positions)), sequences)
            }
            None => self.attention.forward(run, qkv, sequences),
        };
        let x = self.attention_norm.forward(run, add(run, self.attention_output.forward(run, h), x));
        let h = self.intermediate.forward_activated(run, x.clone(), self.activation);
        self.output_norm.forward(run, add(run, self.output.forward(run, h), x))
    }
}

/// `ConvLayer`: each token meets its neighbours.
struct ConvLayer {
    conv: Conv,
    layer_norm: LayerNorm,
    kernel: usize,
    groups: usize,
    activation: Activation,
}

// One a model.
#[allow(clippy::large_enum_variant)]
enum Conv {
    /// One product of all neighbours and features, `[hidden, kernel · hidden]`, zeros between groups.
    Product(Linear),
    /// In training: `[hidden, hidden / groups, kernel]` and the bias.
    Trained(Parameter, Parameter),
}

impl ConvLayer {
    fn load(loader: &mut Loader, name: &str, config: &DebertaV2Config) -> Result<Self, Error> {
        let (hidden, kernel, groups) = (config.hidden_size, config.conv_kernel_size, config.conv_groups);
        let group = hidden / groups;
        let (stored, trained) = loader.table(&format!("{name}.conv.weight"), &[hidden, group, kernel])?;
        let (bias, trained_bias) = loader.table(&format!("{name}.conv.bias"), &[hidden])?;
        let conv = match (trained, trained_bias) {
            (Some(weight), Some(bias)) => Conv::Trained(weight, bias),
            _ => {
                let mut weight = vec![0.0; hidden * kernel * hidden];
                for (row, stored) in stored.chunks_exact(group * kernel).enumerate() {
                    let first = row / group * group;
                    for (index, value) in stored.iter().enumerate() {
                        let (column, tap) = (first + index / kernel, index % kernel);
                        weight[(row * kernel + tap) * hidden + column] = *value;
                    }
                }
                Conv::Product(loader.linear_of(&format!("{name}.conv"), weight, bias)?)
            }
        };
        let layer_norm = loader.layer_norm(&format!("{name}.LayerNorm"), hidden, config.layer_norm_eps)?;
        Ok(Self { conv, layer_norm, kernel, groups, activation: config.conv_act })
    }

    /// Each row with those before and after it in its text; outside there is nothing.
    ///
    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns `[rows, kernel · hidden]`
    fn neighbours(&self, run: Run<'_>, x: Tensor<2>, sequences: &[Sequence]) -> Tensor<2> {
        let [rows, hidden] = x.dims();
        let (kernel, before) = (self.kernel, self.kernel / 2);
        let places = sequences.iter().flat_map(|sequence| {
            let places = (0..sequence.tokens).flat_map(move |row| (0..kernel).map(move |tap| (row, tap)));
            places.filter_map(move |(row, tap)| {
                let from = (row + tap).checked_sub(before).filter(|from| *from < sequence.tokens)?;
                Some(((sequence.first_row + row) * kernel + tap, sequence.first_row + from))
            })
        });
        if run.pool().is_some() {
            let x = host(x);
            let mut neighbours = vec![0.0; rows * kernel * hidden];
            for (to, from) in places {
                neighbours[to * hidden..][..hidden].copy_from_slice(&x[from * hidden..][..hidden]);
            }
            let data = TensorData::new(neighbours, [rows, kernel * hidden]);
            return Tensor::<2>::from_data(data, &run.compute.device);
        }
        let device = x.device();
        let x = Tensor::cat(vec![x, Tensor::zeros([1, hidden], &device)], 0);
        let mut from = vec![rows as i64; rows * kernel];
        places.for_each(|(to, row)| from[to] = row as i64);
        let from = Tensor::<1, Int>::from_data(TensorData::new(from, [rows * kernel]), &device);
        x.select(0, from).reshape([rows, kernel * hidden])
    }

    /// # Shapes
    /// - `x`: what went into the first layer, `residual`: what came out, `[rows, hidden]` each; returns the same
    fn forward(&self, run: Run<'_>, x: Tensor<2>, residual: Tensor<2>, sequences: &[Sequence]) -> Tensor<2> {
        let [rows, hidden] = x.dims();
        let (kernel, groups, group) = (self.kernel, self.groups, hidden / self.groups);
        let x = self.neighbours(run, x, sequences);
        let x = match &self.conv {
            Conv::Product(linear) => linear.forward_activated(run, x, self.activation),
            Conv::Trained(weight, bias) => {
                let x = x.reshape([rows, kernel, groups, group]).permute([2, 0, 3, 1]);
                let weight = weight.vector().reshape([groups, group, group * kernel]).swap_dims(1, 2);
                let y = x.reshape([groups, rows, group * kernel]).matmul(weight);
                let y = y.swap_dims(0, 1).reshape([rows, hidden]) + bias.vector().unsqueeze();
                self.activation.forward(y)
            }
        };
        self.layer_norm.forward(run, add(run, x, residual))
    }
}

/// `DebertaV2Model`.
struct DebertaV2 {
    embeddings: DebertaV2Embeddings,
    layers: Vec<DebertaV2Layer>,
    conv: Option<ConvLayer>,
    /// In training: what layers otherwise know.
    positions: Option<RelativePositions>,
    config: DebertaV2Config,
}

/// Takes the head of `DebertaV2ForSequenceClassification` or `DebertaV2ForTokenClassification`.
pub(crate) fn head(loader: &mut Loader, file: &ConfigFile, purpose: Purpose) -> Result<Option<Head>, Error> {
    let config: DebertaV2Config = file.parse()?;
    config.validate(file)?;
    let hidden = config.hidden_size;
    Ok(match purpose {
        Purpose::Vectors => None,
        Purpose::Tokens { labels } => Some(Head::tokens(loader, labels, hidden)?),
        Purpose::Sequence { labels } => {
            let pooler = Transform::load(loader, "pooler.dense", hidden, config.pooler_hidden_act)?;
            Some(Head::first(pooler, loader.linear("classifier", labels, hidden, Bias::Present)?))
        }
    })
}

/// Takes the model.
pub(crate) fn load(loader: &mut Loader, file: &ConfigFile) -> Result<Loaded, Error> {
    let config: DebertaV2Config = file.parse()?;
    config.validate(file)?;
    let hidden = config.hidden_size;
    let prefix = loader.prefix(&["deberta.", ""], "embeddings.word_embeddings.weight");
    let embeddings = DebertaV2Embeddings::load(loader, &format!("{prefix}embeddings"), &config)?;
    let encoder = format!("{prefix}encoder");
    let norm = match config.normalizes_positions() {
        true => Some(loader.layer_norm(&format!("{encoder}.LayerNorm"), hidden, config.layer_norm_eps)?),
        false => None,
    };
    let compute = loader.compute().clone();
    let run = Run { compute: &compute, phase: Phase::Prompt };
    let (rows, table) = (2 * config.buckets().span, format!("{encoder}.rel_embeddings"));
    let mut positions = None;
    if config.relative_attention && loader.surveys() {
        // No matrix that is multiplied as it lies there.
        loader.values(&format!("{table}.weight"), &[rows, hidden])?;
    } else if config.relative_attention {
        let rel_embeddings = loader.embedding(&table, rows, hidden)?;
        positions = Some(RelativePositions { rel_embeddings, layer_norm: norm, buckets: config.buckets() });
    }
    let is_trained = compute.parameters.is_some();
    let all = positions.as_ref().filter(|_| !is_trained).map(|positions| positions.forward(run, 0, rows));
    let layers = (0..config.num_hidden_layers)
        .map(|i| {
            let layer = DebertaV2Layer::load(loader, &format!("{encoder}.layer.{i}"), &config)?;
            Ok(match &all {
                Some(positions) => layer.knowing(run, positions),
                None => layer,
            })
        })
        .collect::<Result<_, _>>()?;
    let conv = match config.conv_kernel_size {
        0 => None,
        _ => Some(ConvLayer::load(loader, &format!("{encoder}.conv"), &config)?),
    };
    let positions = positions.filter(|_| is_trained);
    let network = Box::new(DebertaV2 { embeddings, layers, conv, positions, config });
    // Positions are in the files of models that do not add them to their input.
    let ignorable =
        &["*position_ids", "*embeddings.position_embeddings.weight", "lm_predictions.*", "mask_predictions.*", "cls.*"];
    Ok(Loaded { network, ignorable })
}

impl TextEncoder for DebertaV2 {
    fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2> {
        let embedded = self.embeddings.forward(run, input);
        let positions = self.positions.as_ref().map(|positions| {
            let (first, count) = positions.buckets.range(&input.sequences);
            (first, positions.forward(run, first, count))
        });
        let mut x = embedded.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(run, x, positions.as_ref(), &input.sequences);
            if let (0, Some(conv)) = (index, &self.conv) {
                x = conv.forward(run, embedded.clone(), x, &input.sequences);
            }
        }
        x
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings
    }
}
