//! T5, its v1.1, Flan-T5, and mT5: an encoder reads the prompt, a decoder writes the answer and looks at what the encoder made of it.
//!
//! Papers: Raffel et al. 2019 (<https://arxiv.org/abs/1910.10683>), Xue et al. 2020 (<https://arxiv.org/abs/2010.11934>).
//! Reference: HF `modeling_t5.py`, `modeling_mt5.py` (transformers 4.48 and 5), and llama.cpp's `t5` GGUF layout. Checked against:
//! tiny random checkpoints.
//!
//! A sequence's first tokens are the prompt, all in one step: they go through the encoder, whose keys and values for the decoder stay in
//! the sequence's cache, and the decoder's start token gives the first logits. Later tokens are the answer's, and go through the decoder.
//!
//! Deliberate differences: no dropout, no padding. The output layer is `lm_head` where the file has it, else the table of tokens.

use std::path::Path;

use burn::Tensor;
use burn::tensor::{Int, TensorData};
use serde::Deserialize;
use serde_json::Value;

use super::family::Configuration;
use super::gguf::Gguf;
use super::text_encoder::ConfigFile;
use super::{CausalLm, Outputs, Step};
use crate::error::Error;
use crate::kernels::attention::{Adjust, Heads, Mask};
use crate::layers::loader::Bias;
use crate::layers::relative::{Buckets, RelativeBias};
use crate::layers::{
    Activation, Attention, Compute, Embedding, LayerCache, Linear, Loader, Phase, RmsNorm, Run, Scratch, Sequence,
    activation::project_gated, norm::add, project,
};

/// Prompt and answer together: positions are relative, so the model has no limit of its own.
const CONTEXT: usize = 1 << 13;

/// `config.json` of `T5ForConditionalGeneration` and `MT5ForConditionalGeneration`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct T5Config {
    model_type: String,
    vocab_size: Option<usize>,
    #[serde(default = "default_model")]
    d_model: usize,
    #[serde(default = "default_head")]
    d_kv: usize,
    d_ff: Option<usize>,
    num_layers: Option<usize>,
    num_decoder_layers: Option<usize>,
    num_heads: Option<usize>,
    #[serde(default = "default_buckets")]
    relative_attention_num_buckets: usize,
    #[serde(default = "default_distance")]
    relative_attention_max_distance: usize,
    #[serde(default = "default_eps")]
    layer_norm_epsilon: f64,
    feed_forward_proj: Option<String>,
    tie_word_embeddings: Option<bool>,
    decoder_start_token_id: Option<u32>,
    pad_token_id: Option<u32>,
}

fn default_model() -> usize {
    512
}
fn default_head() -> usize {
    64
}
fn default_buckets() -> usize {
    32
}
fn default_distance() -> usize {
    128
}
fn default_eps() -> f64 {
    1e-6
}

impl T5Config {
    /// What the file says, else the default of T5 or that of mT5.
    fn or<T>(&self, stated: Option<T>, t5: T, mt5: T) -> T {
        stated.unwrap_or(if self.model_type == "mt5" { mt5 } else { t5 })
    }

    fn vocabulary(&self) -> usize {
        self.or(self.vocab_size, 32_128, 250_112)
    }

    fn inner(&self) -> usize {
        self.or(self.d_ff, 2048, 1024)
    }

    fn layers(&self) -> usize {
        self.or(self.num_layers, 6, 8)
    }

    fn decoder_layers(&self) -> usize {
        self.num_decoder_layers.unwrap_or(self.layers())
    }

    fn heads(&self) -> Heads {
        let heads = self.or(self.num_heads, 8, 6);
        Heads { queries: heads, keys: heads, dim: self.d_kv, scale: 1.0 }
    }

    fn start(&self) -> u32 {
        self.decoder_start_token_id.or(self.pad_token_id).unwrap_or(0)
    }

    /// T5 multiplies by `d_model^-0.5` before the output layer, unless the file says that the tables are not shared; mT5 never.
    fn output_scale(&self) -> f32 {
        let scales = self.model_type != "mt5" && self.tie_word_embeddings != Some(false);
        if scales { 1.0 / (self.d_model as f32).sqrt() } else { 1.0 }
    }

    /// The activation function, and whether it gates: `gated-gelu`, `relu` …
    fn feed_forward(&self, file: &ConfigFile) -> Result<(Activation, bool), Error> {
        let stated = self.or(self.feed_forward_proj.as_deref(), "relu", "gated-gelu");
        let (name, is_gated) = match stated {
            // A historical name: it is the other form of the function.
            "gated-gelu" => ("gelu_new", true),
            other => other.strip_prefix("gated-").map_or((other, false), |name| (name, true)),
        };
        let activation = serde_json::from_value(name.into());
        let activation = activation.map_err(|_| file.wrong(format!("feed_forward_proj is {stated:?}")))?;
        Ok((activation, is_gated))
    }

    fn buckets(&self, both_sides: bool) -> Buckets {
        let (count, max_distance) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        Buckets { count, max_distance, both_sides }
    }

    fn validate(&self, file: &ConfigFile) -> Result<(), Error> {
        file.check_sizes(&[
            ("d_model", self.d_model, 1 << 17),
            ("d_kv", self.d_kv, 1 << 12),
            ("d_ff", self.inner(), 1 << 20),
            ("num_layers", self.layers(), 1 << 10),
            ("num_decoder_layers", self.decoder_layers(), 1 << 10),
            ("num_heads", self.heads().queries, 1 << 12),
            ("vocab_size", self.vocabulary(), 1 << 24),
        ])?;
        file.check_eps("layer_norm_epsilon", self.layer_norm_epsilon)?;
        if let Some(problem) = self.buckets(true).problem().or(self.buckets(false).problem()) {
            return Err(file.wrong(problem));
        }
        if self.start() as usize >= self.vocabulary() {
            return Err(file.wrong(format!("decoder_start_token_id is {}, outside the vocabulary", self.start())));
        }
        Ok(())
    }
}

impl Configuration for T5Config {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = &[
        ("shared.", "token_embd."),
        ("lm_head.", "output."),
        ("encoder.block.", "enc.blk."),
        ("decoder.block.", "dec.blk."),
        ("encoder.final_layer_norm", "enc.output_norm"),
        ("decoder.final_layer_norm", "dec.output_norm"),
        ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
        ("layer.0.SelfAttention.", "attn_"),
        ("layer.0.layer_norm", "attn_norm"),
        ("layer.1.EncDecAttention.", "cross_attn_"),
        ("layer.2.layer_norm", "ffn_norm"),
    ];
    const LEAVES_PADDING: bool = false;

    fn gguf_name(name: &str) -> String {
        let mut name = Self::GGUF_NAMES.iter().fold(name.to_string(), |name, (from, to)| name.replacen(from, to, 1));
        // The second layer of a block is one thing in the encoder and another in the decoder.
        let norm = if name.starts_with("dec.") { "cross_attn_norm" } else { "ffn_norm" };
        name = name.replacen("layer.1.layer_norm", norm, 1);
        for layer in ["layer.1.DenseReluDense.", "layer.2.DenseReluDense."] {
            for (from, to) in [("wi_0", "ffn_gate"), ("wi_1", "ffn_up"), ("wi", "ffn_up"), ("wo", "ffn_down")] {
                name = name.replacen(&format!("{layer}{from}"), to, 1);
            }
        }
        name
    }

    /// What the file has no key for is as T5 has it: positions up to 128, GELU where the feed-forward gates, else ReLU; the
    /// output is scaled where the tables are shared.
    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        let layers = file.size("block_count")?;
        let gates = file.contains("enc.blk.0.ffn_gate.weight");
        Ok(Self {
            model_type: "t5".into(),
            vocab_size: Some(file.vocab_size()),
            d_model: file.size("embedding_length")?,
            d_kv: file.head_dim()?,
            d_ff: Some(file.size("feed_forward_length")?),
            num_layers: Some(layers),
            num_decoder_layers: file.optional_size("decoder_block_count")?,
            num_heads: Some(file.size("attention.head_count")?),
            relative_attention_num_buckets: file.size("attention.relative_buckets_count")?,
            relative_attention_max_distance: default_distance(),
            layer_norm_epsilon: file.float("attention.layer_norm_rms_epsilon")?.unwrap_or(default_eps()),
            feed_forward_proj: Some(if gates { "gated-gelu" } else { "relu" }.into()),
            tie_word_embeddings: Some(file.is_tied()),
            decoder_start_token_id: file.optional_size("decoder_start_token_id")?.and_then(|id| u32::try_from(id).ok()),
            pad_token_id: None,
        })
    }

    fn vocab_size(&self) -> usize {
        self.vocabulary()
    }

    fn context(&self) -> usize {
        CONTEXT
    }

    fn load(&self, loader: Loader, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
        Ok(Box::new(T5::load(loader, self, path)?))
    }
}

/// `T5Attention`.
struct T5Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    layer_norm: RmsNorm,
    attention: Attention,
}

impl T5Attention {
    /// `name` is that of the layer, `part` that of the attention in it.
    fn load(loader: &mut Loader, (name, part): (&str, &str), config: &T5Config, mask: Mask) -> Result<Self, Error> {
        let (model, heads) = (config.d_model, config.heads());
        let width = heads.queries * heads.dim;
        let mut linear =
            |what: &str, rows, columns| loader.linear(&format!("{name}.{part}.{what}"), rows, columns, Bias::Absent);
        Ok(Self {
            q: linear("q", width, model)?,
            k: linear("k", width, model)?,
            v: linear("v", width, model)?,
            o: linear("o", model, width)?,
            layer_norm: loader.rms_norm(&format!("{name}.layer_norm"), model, config.layer_norm_epsilon)?,
            attention: Attention { heads, mask },
        })
    }

    /// Tokens attend to those of their own sequence.
    ///
    /// # Shapes
    /// - `x`: `[rows, d_model]`; returns the same
    fn to_itself(
        &self,
        run: Run<'_>,
        x: Tensor<2>,
        bias: &RelativeBias,
        sequences: &[Sequence],
        caches: &mut [&mut LayerCache],
    ) -> Tensor<2> {
        let h = self.layer_norm.forward(run, x.clone());
        let qkv = project(run, [&self.q, &self.k, &self.v], h);
        let h = self.attention.forward_biased(run, qkv, bias, sequences, caches);
        add(run, self.o.forward(run, h), x)
    }

    /// Stores keys and values of what the encoder made of the prompts.
    ///
    /// # Shapes
    /// - `encoded`: `[rows, d_model]`
    fn remember(&self, run: Run<'_>, encoded: Tensor<2>, prompts: &[Sequence], caches: &mut [&mut LayerCache]) {
        let [k, v] = project(run, [&self.k, &self.v], encoded);
        self.attention.store(run, k, v, prompts, caches);
    }

    /// Tokens of the answer attend to all of the prompt, of `lens[i]` tokens.
    ///
    /// # Shapes
    /// - `x`: `[rows, d_model]`; returns the same
    fn to_prompt(
        &self,
        run: Run<'_>,
        x: Tensor<2>,
        sequences: &[Sequence],
        lens: &[usize],
        caches: &[&mut LayerCache],
    ) -> Tensor<2> {
        let h = self.layer_norm.forward(run, x.clone());
        let q = self.q.forward(run, h);
        let h = self.attention.attend(run, q, Adjust::Nothing, sequences, lens, caches);
        add(run, self.o.forward(run, h), x)
    }
}

/// `T5LayerFF`.
struct T5FeedForward {
    gate: Option<Linear>,
    input: Linear,
    output: Linear,
    layer_norm: RmsNorm,
    activation: Activation,
}

impl T5FeedForward {
    fn load(
        loader: &mut Loader,
        name: &str,
        config: &T5Config,
        (activation, is_gated): (Activation, bool),
    ) -> Result<Self, Error> {
        let (model, inner) = (config.d_model, config.inner());
        let mut linear = |what: &str, rows, columns| {
            loader.linear(&format!("{name}.DenseReluDense.{what}"), rows, columns, Bias::Absent)
        };
        let (gate, input) = match is_gated {
            true => (Some(linear("wi_0", inner, model)?), linear("wi_1", inner, model)?),
            false => (None, linear("wi", inner, model)?),
        };
        Ok(Self {
            gate,
            input,
            output: linear("wo", model, inner)?,
            layer_norm: loader.rms_norm(&format!("{name}.layer_norm"), model, config.layer_norm_epsilon)?,
            activation,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, d_model]`; returns the same
    fn forward(&self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        let h = self.layer_norm.forward(run, x.clone());
        let h = match &self.gate {
            Some(gate) => project_gated(run, [gate, &self.input], h, self.activation),
            None => self.input.forward_activated(run, h, self.activation),
        };
        add(run, self.output.forward(run, h), x)
    }
}

/// A `T5Block` of the encoder.
struct EncoderBlock {
    attention: T5Attention,
    feed_forward: T5FeedForward,
}

/// A `T5Block` of the decoder.
struct DecoderBlock {
    attention: T5Attention,
    cross_attention: T5Attention,
    feed_forward: T5FeedForward,
}

/// `T5ForConditionalGeneration`.
struct T5 {
    shared: Embedding,
    encoder: Vec<EncoderBlock>,
    encoder_bias: RelativeBias,
    encoder_norm: RmsNorm,
    decoder: Vec<DecoderBlock>,
    decoder_bias: RelativeBias,
    decoder_norm: RmsNorm,
    lm_head: Linear,
    output_scale: f32,
    start: u32,
    page_bytes: usize,
}

impl T5 {
    /// `path` is what errors call the configuration.
    fn load(mut owned: Loader, config: &T5Config, path: &Path) -> Result<Self, Error> {
        let file = &ConfigFile { path: path.to_path_buf(), json: Value::Null };
        config.validate(file)?;
        let (model, heads, vocabulary) = (config.d_model, config.heads(), config.vocabulary());
        let feed_forward = config.feed_forward(file)?;
        let loader = &mut owned;
        let table = ["shared", "encoder.embed_tokens", "decoder.embed_tokens"];
        let table = table.into_iter().find(|name| loader.contains(&format!("{name}.weight"))).unwrap_or("shared");
        let shared = loader.embedding(table, vocabulary, model)?;
        let rows = config.relative_attention_num_buckets;
        let mut bias = |part: &str, both_sides| {
            let name = format!("{part}.block.0.layer.0.SelfAttention.relative_attention_bias");
            config.buckets(both_sides).bias(loader, &name, rows, heads.queries)
        };
        let (encoder_bias, decoder_bias) = (bias("encoder", true)?, bias("decoder", false)?);
        let mut encoder = Vec::with_capacity(config.layers());
        for i in 0..config.layers() {
            let name = |layer: usize| format!("encoder.block.{i}.layer.{layer}");
            encoder.push(EncoderBlock {
                attention: T5Attention::load(loader, (&name(0), "SelfAttention"), config, Mask::Full)?,
                feed_forward: T5FeedForward::load(loader, &name(1), config, feed_forward)?,
            });
        }
        let mut decoder = Vec::with_capacity(config.decoder_layers());
        for i in 0..config.decoder_layers() {
            let name = |layer: usize| format!("decoder.block.{i}.layer.{layer}");
            let causal = Mask::Causal { window: None };
            decoder.push(DecoderBlock {
                attention: T5Attention::load(loader, (&name(0), "SelfAttention"), config, causal)?,
                cross_attention: T5Attention::load(loader, (&name(1), "EncDecAttention"), config, Mask::Full)?,
                feed_forward: T5FeedForward::load(loader, &name(2), config, feed_forward)?,
            });
        }
        let mut norm =
            |part: &str| loader.rms_norm(&format!("{part}.final_layer_norm"), model, config.layer_norm_epsilon);
        let (encoder_norm, decoder_norm) = (norm("encoder")?, norm("decoder")?);
        let lm_head = match loader.contains("lm_head.weight") {
            true => loader.linear("lm_head", vocabulary, model, Bias::Absent)?,
            false => loader.tied("lm_head", &shared, [vocabulary, model])?,
        };
        let page_bytes = loader.page_bytes(config.decoder_layers(), heads);
        owned.finish(&[
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
        ])?;
        let (output_scale, start) = (config.output_scale(), config.start());
        Ok(Self {
            shared,
            encoder,
            encoder_bias,
            encoder_norm,
            decoder,
            decoder_bias,
            decoder_norm,
            lm_head,
            output_scale,
            start,
            page_bytes,
        })
    }

    /// The encoder's last hidden state of several prompts; `None` if cancelled.
    ///
    /// # Shapes
    /// - returns `[rows, d_model]`
    fn encode(
        &self,
        run: Run<'_>,
        tokens: &[u32],
        prompts: &[Sequence],
        cancelled: &dyn Fn() -> bool,
    ) -> Option<Tensor<2>> {
        let mut scratch = Scratch::new(prompts);
        let mut x = self.shared.forward(run, tokens.iter().map(|token| *token as usize));
        for block in &self.encoder {
            if cancelled() {
                return None;
            }
            x = block.attention.to_itself(run, x, &self.encoder_bias, prompts, &mut scratch.next());
            x = block.feed_forward.forward(run, x);
        }
        Some(self.encoder_norm.forward(run, x))
    }

    /// Encodes the prompts of the sequences that begin with this step; `false` if cancelled.
    fn read_prompts(&self, run: Run<'_>, step: &mut Step<'_>) -> bool {
        let (mut tokens, mut prompts, mut begun) = (Vec::new(), Vec::new(), Vec::new());
        for (index, sequence) in step.sequences.iter().enumerate().filter(|(_, sequence)| sequence.position == 0) {
            begun.push(index);
            prompts.push(Sequence { first_row: tokens.len(), ..*sequence });
            tokens.extend_from_slice(&step.tokens[sequence.first_row..][..sequence.tokens]);
        }
        if begun.is_empty() {
            return true;
        }
        let Some(encoded) = self.encode(run, &tokens, &prompts, step.cancelled) else { return false };
        for (index, block) in self.decoder.iter().enumerate() {
            let caches = step.caches.iter_mut().enumerate().filter(|(i, _)| begun.contains(i));
            let mut caches: Vec<&mut LayerCache> = caches.map(|(_, cache)| &mut cache.layers[2 * index + 1]).collect();
            block.cross_attention.remember(run, encoded.clone(), &prompts, &mut caches);
        }
        for (index, prompt) in begun.into_iter().zip(prompts) {
            step.caches[index].prompt = prompt.tokens;
        }
        true
    }
}

impl CausalLm for T5 {
    fn hidden(&self, compute: &Compute, step: &mut Step<'_>) -> Option<Tensor<2>> {
        let run = step.run(compute);
        if !self.read_prompts(run, step) {
            return None;
        }
        // Rows of the decoder: the start token after a prompt, and the tokens of answers under way.
        let (mut tokens, mut sequences, mut lens) = (Vec::new(), Vec::new(), Vec::new());
        for (sequence, cache) in step.sequences.iter().zip(&step.caches) {
            let first_row = tokens.len();
            let position = match sequence.position {
                0 => {
                    tokens.push(self.start);
                    0
                }
                position => {
                    tokens.extend_from_slice(&step.tokens[sequence.first_row..][..sequence.tokens]);
                    position + 1 - cache.prompt
                }
            };
            sequences.push(Sequence { first_row, tokens: tokens.len() - first_row, position });
            lens.push(cache.prompt);
        }
        let mut x = self.shared.forward(run, tokens.iter().map(|token| *token as usize));
        for (index, block) in self.decoder.iter().enumerate() {
            if (step.cancelled)() {
                return None;
            }
            let mut caches: Vec<_> = step.caches.iter_mut().map(|cache| &mut cache.layers[2 * index]).collect();
            x = block.attention.to_itself(run, x, &self.decoder_bias, &sequences, &mut caches);
            let caches: Vec<_> = step.caches.iter_mut().map(|cache| &mut cache.layers[2 * index + 1]).collect();
            x = block.cross_attention.to_prompt(run, x, &sequences, &lens, &caches);
            x = block.feed_forward.forward(run, x);
        }
        for (cache, sequence) in step.caches.iter_mut().zip(&step.sequences) {
            cache.len += sequence.tokens;
        }
        let x = match step.outputs {
            Outputs::Nothing => return None,
            Outputs::All => x,
            Outputs::Last => {
                let last: Vec<i64> = sequences.iter().map(|s| (s.first_row + s.tokens) as i64 - 1).collect();
                let count = last.len();
                let last = Tensor::<1, Int>::from_data(TensorData::new(last, [count]), &x.device());
                x.select(0, last)
            }
        };
        Some(self.decoder_norm.forward(run, x))
    }

    fn logits(&self, run: Run<'_>, hidden: Tensor<2>) -> Tensor<2> {
        self.lm_head.forward(run, if self.output_scale == 1.0 { hidden } else { hidden * self.output_scale })
    }

    /// Two a layer of the decoder: of the answer, and of the prompt.
    fn layers(&self) -> usize {
        2 * self.decoder.len()
    }

    fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn encoder_state(&self, compute: &Compute, tokens: &[u32]) -> Option<Tensor<2>> {
        let prompt = Sequence { first_row: 0, tokens: tokens.len(), position: 0 };
        self.encode(Run { compute, phase: Phase::Prompt }, tokens, &[prompt], &|| false)
    }

    fn has_encoder(&self) -> bool {
        true
    }
}
