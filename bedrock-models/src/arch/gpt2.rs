//! GPT-2: learned positions, layer normalisation with biases, GELU, and no rotation.
//!
//! Paper: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". Reference: HF `modeling_gpt2.py` (transformers
//! 4.44 and 5), llama.cpp's `gpt2` GGUF layout. Checked against: tiny random checkpoints.
//!
//! Deliberate differences: no dropout; matrices that Hugging Face's files have as `[in, out]` (`Conv1D`) are turned while
//! loading; `reorder_and_upcast_attn` is ignored (it orders the same product for half precision).

use std::path::Path;

use burn::Tensor;
use serde::Deserialize;

use super::decoder::{Sizes, wrong};
use super::family::Configuration;
use super::gguf::Gguf;
use super::{CausalLm, Step};
use crate::error::Error;
use crate::kernels::attention::{Heads, Mask};
use crate::layers::{
    Activation, Attention, Bias, Compute, Embedding, LayerCache, LayerNorm, Linear, Loader, Run, Sequence, norm::add,
    project,
};

/// `config.json` of `GPT2LMHeadModel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Gpt2Config {
    vocab_size: usize,
    #[serde(alias = "max_position_embeddings")]
    n_positions: usize,
    #[serde(alias = "hidden_size")]
    n_embd: usize,
    #[serde(alias = "num_hidden_layers")]
    n_layer: usize,
    #[serde(alias = "num_attention_heads")]
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: Activation,
    layer_norm_epsilon: f64,
    /// Whether scores are divided by the root of a head's size.
    scale_attn_weights: bool,
    /// Whether they are divided by the number of the layer as well, counted from 1.
    scale_attn_by_inverse_layer_idx: bool,
    add_cross_attention: bool,
    tie_word_embeddings: bool,
    /// GGUF's matrices are `[out, in]` already.
    #[serde(skip)]
    is_turned: bool,
}

impl Default for Gpt2Config {
    fn default() -> Self {
        Self {
            vocab_size: 50_257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            activation_function: Activation::GeluTanh,
            layer_norm_epsilon: 1e-5,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            add_cross_attention: false,
            tie_word_embeddings: true,
            is_turned: false,
        }
    }
}

impl Gpt2Config {
    fn inner(&self) -> usize {
        self.n_inner.unwrap_or(self.n_embd.saturating_mul(4))
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.n_embd,
            inner: self.inner(),
            layers: self.n_layer,
            heads: self.n_head,
            key_heads: self.n_head,
            head_dim: self.n_embd / self.n_head.max(1),
            vocabulary: self.vocab_size,
            positions: self.n_positions,
            window: None,
            eps: self.layer_norm_epsilon,
        }
    }

    fn heads(&self, layer: usize) -> Heads {
        let heads = self.sizes().attention_heads();
        let scale = if self.scale_attn_weights { heads.scale } else { 1.0 };
        let scale = if self.scale_attn_by_inverse_layer_idx { scale / (layer + 1) as f32 } else { scale };
        Heads { scale, ..heads }
    }

    fn validate(&self, path: &Path) -> Result<(), Error> {
        self.sizes().check(path)?;
        if !self.n_embd.is_multiple_of(self.n_head) {
            return wrong(path, format!("n_embd ({}) is no multiple of n_head ({})", self.n_embd, self.n_head));
        }
        if self.add_cross_attention {
            return wrong(path, "add_cross_attention is true: half of an encoder-decoder, no language model".into());
        }
        Ok(())
    }

    /// Makes a stored matrix `[out, in]`.
    fn turn(&self, loader: &mut Loader, name: &str, [rows, columns]: [usize; 2]) -> Result<(), Error> {
        if self.is_turned { Ok(()) } else { loader.transpose(&format!("{name}.weight"), [columns, rows]) }
    }

    /// `Conv1D`: a fully connected layer.
    fn conv1d(&self, loader: &mut Loader, name: &str, sizes: [usize; 2]) -> Result<Linear, Error> {
        self.turn(loader, name, sizes)?;
        loader.linear(name, sizes[0], sizes[1], Bias::Present)
    }
}

impl Configuration for Gpt2Config {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = &[
        ("lm_head", "output"),
        ("wte", "token_embd"),
        ("wpe", "position_embd"),
        ("ln_f", "output_norm"),
        ("h.", "blk."),
        ("ln_1", "attn_norm"),
        ("ln_2", "ffn_norm"),
        ("attn.c_attn", "attn_qkv"),
        ("attn.c_proj", "attn_output"),
        ("mlp.c_fc", "ffn_up"),
        ("mlp.c_proj", "ffn_down"),
    ];
    const LEAVES_PADDING: bool = false;

    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        Ok(Self {
            vocab_size: file.vocab_size(),
            n_positions: file.size("context_length")?,
            n_embd: file.size("embedding_length")?,
            n_layer: file.size("block_count")?,
            n_head: file.size("attention.head_count")?,
            n_inner: Some(file.size("feed_forward_length")?),
            layer_norm_epsilon: file.float("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
            tie_word_embeddings: file.is_tied(),
            is_turned: true,
            ..Self::default()
        })
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        self.n_positions
    }

    fn load(&self, mut loader: Loader, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
        let model = Gpt2::take(&mut loader, self, path)?;
        let twice: &[&str] = if self.tie_word_embeddings { &["lm_head.weight"] } else { &[] };
        // Buffers of the causal mask that old files hold.
        loader.finish(&[&["*.attn.bias", "*.attn.masked_bias"], twice].concat())?;
        Ok(Box::new(model))
    }
}

/// `GPT2Attention`.
struct Gpt2Attention {
    /// Queries, keys and values, one matrix in the file.
    c_attn: [Linear; 3],
    c_proj: Linear,
    attention: Attention,
}

impl Gpt2Attention {
    fn load(loader: &mut Loader, name: &str, config: &Gpt2Config, layer: usize) -> Result<Self, Error> {
        let hidden = config.n_embd;
        let c_attn = format!("{name}.c_attn");
        config.turn(loader, &c_attn, [3 * hidden, hidden])?;
        for (part, columns) in [("weight", hidden), ("bias", 1)] {
            let parts = ["q", "k", "v"].map(|third| (format!("{c_attn}.{third}.{part}"), hidden));
            loader.split(&format!("{c_attn}.{part}"), &parts, columns)?;
        }
        let mut third = |third| loader.linear(&format!("{c_attn}.{third}"), hidden, hidden, Bias::Present);
        Ok(Self {
            c_attn: [third("q")?, third("k")?, third("v")?],
            c_proj: config.conv1d(loader, &format!("{name}.c_proj"), [hidden, hidden])?,
            attention: Attention { heads: config.heads(layer), mask: Mask::Causal { window: None } },
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(&self, run: Run<'_>, x: Tensor<2>, sequences: &[Sequence], caches: &mut [&mut LayerCache]) -> Tensor<2> {
        let [q, k, v] = project(run, self.c_attn.each_ref(), x);
        let x = self.attention.forward(run, q, k, v, sequences, caches);
        self.c_proj.forward(run, x)
    }
}

/// `GPT2Block`.
struct Gpt2Block {
    ln_1: LayerNorm,
    attn: Gpt2Attention,
    ln_2: LayerNorm,
    c_fc: Linear,
    c_proj: Linear,
    activation: Activation,
}

impl Gpt2Block {
    fn load(loader: &mut Loader, name: &str, config: &Gpt2Config, layer: usize) -> Result<Self, Error> {
        let (hidden, inner, eps) = (config.n_embd, config.inner(), config.layer_norm_epsilon);
        Ok(Self {
            ln_1: loader.layer_norm(&format!("{name}.ln_1"), hidden, eps)?,
            attn: Gpt2Attention::load(loader, &format!("{name}.attn"), config, layer)?,
            ln_2: loader.layer_norm(&format!("{name}.ln_2"), hidden, eps)?,
            c_fc: config.conv1d(loader, &format!("{name}.mlp.c_fc"), [inner, hidden])?,
            c_proj: config.conv1d(loader, &format!("{name}.mlp.c_proj"), [hidden, inner])?,
            activation: config.activation_function,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(&self, run: Run<'_>, x: Tensor<2>, sequences: &[Sequence], caches: &mut [&mut LayerCache]) -> Tensor<2> {
        let h = self.ln_1.forward(run, x.clone());
        let x = add(run, self.attn.forward(run, h, sequences, caches), x);
        let h = self.ln_2.forward(run, x.clone());
        let h = self.c_fc.forward_activated(run, h, self.activation);
        add(run, self.c_proj.forward(run, h), x)
    }
}

/// `GPT2LMHeadModel`.
struct Gpt2 {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<Gpt2Block>,
    ln_f: LayerNorm,
    lm_head: Linear,
    page_bytes: usize,
}

impl Gpt2 {
    fn take(loader: &mut Loader, config: &Gpt2Config, path: &Path) -> Result<Self, Error> {
        config.validate(path)?;
        let hidden = config.n_embd;
        // The first checkpoints have the names of the inner module.
        let base = if loader.contains("transformer.wte.weight") { "transformer." } else { "" };
        let wte = loader.embedding(&format!("{base}wte"), config.vocab_size, hidden)?;
        let wpe = loader.embedding(&format!("{base}wpe"), config.n_positions, hidden)?;
        let h = (0..config.n_layer)
            .map(|i| Gpt2Block::load(loader, &format!("{base}h.{i}"), config, i))
            .collect::<Result<Vec<_>, _>>()?;
        let ln_f = loader.layer_norm(&format!("{base}ln_f"), hidden, config.layer_norm_epsilon)?;
        let lm_head = if config.tie_word_embeddings {
            loader.tied("lm_head", &wte, [config.vocab_size, hidden])?
        } else {
            loader.linear("lm_head", config.vocab_size, hidden, Bias::Absent)?
        };
        let page_bytes = loader.page_bytes(h.len(), config.heads(0));
        Ok(Self { wte, wpe, h, ln_f, lm_head, page_bytes })
    }
}

impl CausalLm for Gpt2 {
    fn hidden(&self, compute: &Compute, step: &mut Step<'_>) -> Option<Tensor<2>> {
        let run = step.run(compute);
        let positions = self.wpe.forward(run, step.positions().into_iter());
        let x = add(run, self.wte.forward(run, step.indices()), positions);
        let x = step.through(&self.h, x, |block, x, sequences, caches| block.forward(run, x, sequences, caches))?;
        Some(self.ln_f.forward(run, x))
    }

    fn logits(&self, run: Run<'_>, hidden: Tensor<2>) -> Tensor<2> {
        self.lm_head.forward(run, hidden)
    }

    fn layers(&self) -> usize {
        self.h.len()
    }

    fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn is_causal_by_token(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Gpt2Config {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn scores_are_scaled_as_the_file_says() {
        let scales = |json: &str| [0, 2].map(|layer| read(json).heads(layer).scale);
        assert_eq!(scales(r#"{"n_embd": 64, "n_head": 4}"#), [0.25, 0.25]);
        assert_eq!(scales(r#"{"n_embd": 64, "n_head": 4, "scale_attn_weights": false}"#), [1.0, 1.0]);
        let by_layer = r#"{"hidden_size": 64, "num_attention_heads": 4, "scale_attn_by_inverse_layer_idx": true}"#;
        assert_eq!(scales(by_layer), [0.25, 0.25 / 3.0]);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for json in [r#"{"add_cross_attention": true}"#, r#"{"n_embd": 65}"#, r#"{"n_layer": 0}"#] {
            assert!(read(json).validate(Path::new("")).is_err(), "{json}");
        }
        read("{}").validate(Path::new("")).unwrap();
        assert_eq!((read("{}").inner(), read(r#"{"n_inner": 5}"#).inner()), (3072, 5));
    }
}
