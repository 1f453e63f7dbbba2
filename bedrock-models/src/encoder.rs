//! An encoder, loaded, and the batches that run through it: what embeddings, reranking and classification share.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::Tensor;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::arch::text_encoder::{ConfigFile, EncoderInput, FAMILIES, Head, Loaded, Purpose, TextEncoder};
use crate::error::Error;
use crate::import;
use crate::language_model::{model_type, name_of, read_json};
use crate::layers::{Adapter, Compute, Loader, Phase, Run};
use crate::options::LoadOptions;
use crate::tokenizer::{EncodeOptions, Encoding, Tokenizer};
use crate::weights::{Checkpoint, Survey};

/// Values of `model_type` of encoders.
pub const ENCODERS: &[&str] = &{
    let mut names = [""; FAMILIES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = FAMILIES[index].model_type;
        index += 1;
    }
    names
};

/// Tokens that go through the layers at once: enough to fill the tiles, few enough to stay in the caches.
const BATCH_TOKENS: usize = 512;

/// Weights, tokenizer and limits of an encoder.
pub(crate) struct Encoder {
    pub(crate) path: PathBuf,
    pub(crate) id: String,
    pub(crate) network: Box<dyn TextEncoder>,
    /// What its purpose adds.
    head: Option<Head>,
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
    /// Loads a folder, with the head that the purpose needs.
    pub(crate) fn load(path: &Path, options: &LoadOptions, purpose: Purpose) -> Result<Self, Error> {
        let quantize = options.quantize.or(import::quantization_of(path)?);
        let options = &LoadOptions { quantize, ..options.clone() };
        let mut compute = options.compute();
        let sealer = options.sealer.as_deref();
        if let Some(folder) = &options.adapter {
            compute.adapter = Some(Arc::new(Adapter::open(folder, sealer)?));
        }
        Self::load_for(path, options, purpose, compute, Checkpoint::open_with(path, sealer)?)
    }

    /// [`Encoder::load`] on a device of the caller's choice, from a checkpoint that is open already.
    pub(crate) fn load_for(
        path: &Path,
        options: &LoadOptions,
        purpose: Purpose,
        compute: Compute,
        mut checkpoint: Checkpoint,
    ) -> Result<Self, Error> {
        let file = path.join("config.json");
        let found = model_type(&file)?;
        let Some(family) = FAMILIES.iter().find(|family| family.model_type == found) else {
            return Err(Error::UnsupportedArchitecture { path: file, found, supported: ENCODERS });
        };
        let config = ConfigFile { path: &file, json: read_json(&file)? };
        let tokenizer = Tokenizer::from_file(path)?;
        if let Some(adapter) = &compute.adapter {
            adapter.put_wholes(&mut checkpoint);
        }
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
        let mut loader = Loader::new(checkpoint, compute.clone(), |name| name.to_string())
            .in_panels()
            .quantized(options.quantize)?;
        let Loaded { network, head, ignorable } = (family.load)(&mut loader, &config, purpose)?;
        loader.finish(ignorable)?;
        if let Some(adapter) = &compute.adapter {
            adapter.finish()?;
            adapter.identify(&mut identity);
        }
        if tokenizer.id_limit() > network.vocab_size() {
            return Err(config.wrong(format!(
                "vocab_size is {}, but the tokenizer has ids up to {}",
                network.vocab_size(),
                tokenizer.id_limit()
            )));
        }
        // Some tokenizers say a number so large that it means nothing, and is no integer.
        let tokenizer_config = path.join("tokenizer_config.json");
        let tokenizer_limit = match tokenizer_config.exists() {
            true => read_json::<Value>(&tokenizer_config)?.get("model_max_length").and_then(Value::as_u64),
            false => None,
        };
        Ok(Self {
            path: path.to_path_buf(),
            id: options.model_id.clone().unwrap_or_else(|| name_of(path)),
            max_tokens: network.max_tokens().min(options.max_tokens.unwrap_or(usize::MAX)),
            network,
            head,
            tokenizer,
            compute,
            tokenizer_limit,
            identity,
        })
    }

    /// Compares the tensors of a folder with what its configuration asks for, and loads none of them. Gives the names of the matrices.
    ///
    /// # Errors
    /// [`Error::Tensors`], or what is wrong with the configuration.
    pub(crate) fn survey(path: &Path, compute: &Compute, purpose: Purpose) -> Result<BTreeSet<String>, Error> {
        let file = path.join("config.json");
        let found = model_type(&file)?;
        let Some(family) = FAMILIES.iter().find(|family| family.model_type == found) else {
            return Err(Error::UnsupportedArchitecture { path: file, found, supported: ENCODERS });
        };
        let config = ConfigFile { path: &file, json: read_json(&file)? };
        let survey = Survey::default();
        let mut loader =
            Loader::new(Checkpoint::open(path)?.surveyed(&survey), compute.clone(), |name| name.to_string());
        let loaded = (family.load)(&mut loader, &config, purpose).and_then(|loaded| loader.finish(loaded.ignorable));
        let matrices = survey.matrices();
        survey.end(path, loaded.map(|()| matrices))
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
            let hidden = self.network.forward(self.run(), &input);
            each(batch, hidden, &input);
            order = rest;
        }
    }

    /// What the head makes of a batch: see [`Head::forward`].
    ///
    /// # Panics
    /// If the encoder was loaded without.
    pub(crate) fn logits(&self, hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
        self.head.as_ref().expect("loaded for labels").forward(self.run(), hidden, input)
    }
}

/// The values of a float tensor on the host, row-major.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("all devices compute in f32")
}
