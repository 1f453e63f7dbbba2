//! A BERT-class encoder, loaded, and the batches that run through it: what embeddings, reranking and classification share.

use std::fmt;
use std::path::{Path, PathBuf};

use burn::Tensor;
use burn::tensor::{Int, TensorData};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::arch::bert::{Bert, BertConfig, EncoderInput};
use crate::error::Error;
use crate::language_model::{model_type, name_of, read_json};
use crate::layers::{Compute, Loader, Phase, Run};
use crate::options::LoadOptions;
use crate::tokenizer::{EncodeOptions, Encoding, Tokenizer};
use crate::weights::Checkpoint;

/// Values of `model_type` of encoders.
pub const ENCODERS: &[&str] = &["bert", "roberta", "xlm-roberta"];

/// Tokens that go through the layers at once: enough to fill the tiles, few enough to stay in the caches.
const BATCH_TOKENS: usize = 512;

/// Weights, tokenizer and limits of an encoder.
pub(crate) struct Encoder {
    pub(crate) path: PathBuf,
    pub(crate) id: String,
    pub(crate) bert: Bert,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) compute: Compute,
    /// The most tokens of one input, special ones included.
    pub(crate) max_tokens: usize,
    /// `model_max_length` of the tokenizer, which counts where nothing else says how long an input may be.
    tokenizer_limit: Option<u64>,
    /// SHA-256 of weights, configuration and tokenizer.
    pub(crate) identity: Sha256,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("path", &self.path)
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// Loads a folder; `heads` takes the tensors of the heads, whose names and sizes the folder's `config.json`, given as JSON, says.
    pub(crate) fn load<T>(
        path: &Path,
        options: &LoadOptions,
        heads: impl FnOnce(&mut Loader, &BertConfig, &Value) -> Result<T, Error>,
    ) -> Result<(Self, T), Error> {
        let file = path.join("config.json");
        let found = model_type(&file)?;
        if !ENCODERS.contains(&found.as_str()) {
            return Err(Error::UnsupportedArchitecture { path: file, found, supported: ENCODERS });
        }
        let config: BertConfig = read_json(&file)?;
        let compute = options.compute();
        let checkpoint = Checkpoint::open(path)?;
        let tokenizer = Tokenizer::from_file(path)?;
        let mut identity = Sha256::new();
        if let Some(to) = options.quantize {
            identity.update(format!("quantised to {to}"));
        }
        for tensor in checkpoint.iter() {
            identity.update(format!("{} {:?} {:?}", tensor.name, tensor.dtype, tensor.shape));
            identity.update(&tensor.data);
        }
        for name in ["config.json", "tokenizer.json"] {
            let path = path.join(name);
            identity.update(std::fs::read(&path).map_err(|source| Error::Read { path, source })?);
        }
        if tokenizer.id_limit() > config.vocab_size {
            return Err(Error::ConfigValue {
                path: file,
                what: format!(
                    "vocab_size is {}, but the tokenizer has ids up to {}",
                    config.vocab_size,
                    tokenizer.id_limit()
                ),
            });
        }
        let json: Value = read_json(&file)?;
        let mut loader = Loader::new(checkpoint, compute.clone(), |name| name.to_string())
            .in_panels()
            .quantized(options.quantize)?;
        let max_tokens = config.max_tokens().min(options.max_tokens.unwrap_or(usize::MAX));
        // Some tokenizers say a number so large that it means nothing, and is no integer.
        let tokenizer_config = path.join("tokenizer_config.json");
        let tokenizer_limit = match tokenizer_config.exists() {
            true => read_json::<Value>(&tokenizer_config)?.get("model_max_length").and_then(Value::as_u64),
            false => None,
        };
        let taken = heads(&mut loader, &config, &json)?;
        let bert = Bert::load(&mut loader, config, &file)?;
        // Buffers that old exports hold beside the weights, and the language-model heads of pre-training.
        loader.finish(&["*position_ids", "cls.*", "lm_head.*"])?;
        let id = options.model_id.clone().unwrap_or_else(|| name_of(path));
        Ok((
            Self { path: path.to_path_buf(), id, bert, tokenizer, compute, max_tokens, tokenizer_limit, identity },
            taken,
        ))
    }

    /// Lowers the limit of tokens to what `sentence-transformers` files say or, if they say nothing, to what the tokenizer
    /// was made for.
    pub(crate) fn limit_tokens(&mut self, stated: Option<usize>) {
        let limit = stated.or_else(|| self.tokenizer_limit.and_then(|limit| usize::try_from(limit).ok()));
        self.max_tokens = self.max_tokens.min(limit.unwrap_or(usize::MAX));
    }

    pub(crate) fn run(&self) -> Run<'_> {
        Run { compute: &self.compute, phase: Phase::Prompt }
    }

    /// Tokens of a text or pair, cut to the model's limit.
    pub(crate) fn encode(&self, text: &str, pair: Option<&str>) -> Result<Encoding, Error> {
        let options = EncodeOptions { max_tokens: Some(self.max_tokens), ..EncodeOptions::default() };
        self.tokenizer.encode_with(text, pair, &options)
    }

    /// Runs all inputs through the layers in batches of similar length, and calls `each` with the indices of a batch, its last hidden state
    /// `[rows, hidden]` and the first row and length of each input. Stops early if `cancelled`.
    pub(crate) fn for_each_batch(
        &self,
        inputs: &[Encoding],
        cancelled: &dyn Fn() -> bool,
        mut each: impl FnMut(&[usize], Tensor<2>, &EncoderInput),
    ) {
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(inputs[*index].len()));
        let mut order = order.as_slice();
        while !order.is_empty() && !cancelled() {
            let mut input = EncoderInput::default();
            let mut count = 0;
            while count < order.len() && (count == 0 || input.tokens.len() + inputs[order[count]].len() <= BATCH_TOKENS)
            {
                let encoding = &inputs[order[count]];
                input.push(&encoding.ids, &encoding.type_ids);
                count += 1;
            }
            let (batch, rest) = order.split_at(count);
            let hidden = self.bert.forward(self.run(), &input);
            each(batch, hidden, &input);
            order = rest;
        }
    }

    /// The rows of the first token of each input.
    ///
    /// # Shapes
    /// - `hidden`: `[rows, hidden]`; returns `[inputs, hidden]`
    pub(crate) fn first_rows(&self, hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
        let rows: Vec<i64> = input.sequences.iter().map(|sequence| sequence.first_row as i64).collect();
        let count = rows.len();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &self.compute.device);
        hidden.select(0, rows)
    }
}

/// The values of a float tensor on the host, row-major.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("all devices compute in f32")
}
