//! An encoder, loaded, and the batches that run through it: what embeddings, reranking and classification share.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use burn::Tensor;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::arch::text_encoder::{ConfigFile, EncoderInput, FAMILIES, Family, Head, Loaded, Purpose, TextEncoder};
use crate::error::Error;
use crate::import;
use crate::language_model::{model_type, name_of, read_json};
use crate::layers::{Adapter, Compute, Loader, Phase, Run, number_of};
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
    /// What its purpose adds, for requests without an adapter.
    head: Option<Head>,
    /// Of which each request may choose one.
    choices: Vec<Choice>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) compute: Compute,
    /// The most tokens of one input, special ones included.
    pub(crate) max_tokens: usize,
    /// `model_max_length` of the tokenizer, which counts where nothing else says how long an input may be.
    tokenizer_limit: Option<u64>,
    /// SHA-256 of weights, configuration and tokenizer.
    pub(crate) identity: Sha256,
}

/// An adapter that requests can choose.
struct Choice {
    name: String,
    /// All of whose rows have it.
    compute: Compute,
    head: Option<Head>,
    identity: Sha256,
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
    /// Loads a folder, with the head that the purpose needs; `of_choices` are the purposes with each of [`LoadOptions::adapters`].
    pub(crate) fn load(
        path: &Path,
        options: &LoadOptions,
        purpose: Purpose,
        of_choices: &[Purpose],
    ) -> Result<Self, Error> {
        let quantize = options.quantize.or(import::quantization_of(path)?);
        let options = &LoadOptions { quantize, ..options.clone() };
        let compute = options.compute_with_adapters(path)?;
        let checkpoint = Checkpoint::open_with(path, options.sealer.as_deref())?;
        let (config, family) = family_of(path)?;
        let mut heads = Vec::with_capacity(of_choices.len());
        for (adapter, purpose) in compute.adapters.iter().zip(of_choices) {
            let mut own = checkpoint.clone();
            if *purpose != Purpose::Vectors {
                compute.adapter.iter().for_each(|adapter| adapter.put_wholes(&mut own));
                adapter.put_wholes(&mut own);
            }
            heads.push((family.head)(&mut loader(own, &compute, options)?, &config, *purpose)?);
        }
        let mut encoder = Self::load_for(path, options, purpose, compute, checkpoint)?;
        let choices = options.adapters.keys().zip(heads).enumerate().map(|(number, (name, head))| {
            let mut identity = encoder.identity.clone();
            encoder.compute.adapters[number].identify(&mut identity);
            Choice { name: name.clone(), compute: encoder.compute.with_adapter(number), head, identity }
        });
        encoder.choices = choices.collect();
        Ok(encoder)
    }

    /// [`Encoder::load`] on a device of the caller's choice, from a checkpoint that is open already.
    pub(crate) fn load_for(
        path: &Path,
        options: &LoadOptions,
        purpose: Purpose,
        compute: Compute,
        mut checkpoint: Checkpoint,
    ) -> Result<Self, Error> {
        let (config, family) = family_of(path)?;
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
        let mut loader = loader(checkpoint, &compute, options)?;
        let head = match (family.head)(&mut loader, &config, purpose) {
            // The adapters have their own.
            Err(Error::MissingTensor { .. }) if !compute.adapters.is_empty() => None,
            head => head?,
        };
        let Loaded { network, ignorable } = (family.load)(&mut loader, &config)?;
        loader.finish(ignorable)?;
        compute.all_adapters().try_for_each(Adapter::finish)?;
        if let Some(adapter) = &compute.adapter {
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
            choices: Vec::new(),
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
        let (config, family) = family_of(path)?;
        let survey = Survey::default();
        let mut loader =
            Loader::new(Checkpoint::open(path)?.surveyed(&survey), compute.clone(), |name| name.to_string());
        let loaded = (family.head)(&mut loader, &config, purpose)
            .and_then(|_| (family.load)(&mut loader, &config))
            .and_then(|loaded| loader.finish(loaded.ignorable));
        let matrices = survey.matrices();
        survey.end(path, loaded.map(|()| matrices))
    }

    /// Lowers the limit of tokens to what `sentence-transformers` files say or, if they say nothing, to what the tokenizer
    /// was made for.
    pub(crate) fn limit_tokens(&mut self, stated: Option<usize>) {
        let limit = stated.or_else(|| self.tokenizer_limit.and_then(|limit| usize::try_from(limit).ok()));
        self.max_tokens = self.max_tokens.min(limit.unwrap_or(usize::MAX));
    }

    /// A forward pass of a request with the adapter of this number, or without.
    pub(crate) fn run(&self, adapter: Option<usize>) -> Run<'_> {
        let compute = adapter.map_or(&self.compute, |number| &self.choices[number].compute);
        Run { compute, phase: Phase::Prompt }
    }

    /// The number of an adapter that requests choose from.
    ///
    /// # Errors
    /// As [`number_of`].
    pub(crate) fn adapter_number(&self, name: &str) -> Result<usize, Error> {
        number_of(name, &self.adapters())
    }

    /// Names of the adapters that requests choose from, in the order of their numbers.
    pub(crate) fn adapters(&self) -> Vec<String> {
        self.choices.iter().map(|choice| choice.name.clone()).collect()
    }

    /// [`Encoder::identity`] without an adapter, and with each that requests choose from.
    pub(crate) fn identities(&mut self) -> impl Iterator<Item = &mut Sha256> {
        std::iter::once(&mut self.identity).chain(self.choices.iter_mut().map(|choice| &mut choice.identity))
    }

    /// Tokens of a text or pair, cut to the model's limit.
    pub(crate) fn encode(&self, text: &str, pair: Option<&str>) -> Result<Encoding, Error> {
        let options = EncodeOptions { max_tokens: Some(self.max_tokens), ..EncodeOptions::default() };
        self.tokenizer.encode_with(text, pair, &options)
    }

    /// Runs all inputs of a request through the layers in batches of similar length, and calls `each` with the indices of a batch, its last hidden state
    /// `[rows, hidden]` and the first row and length of each input. Stops early if `cancelled`.
    pub(crate) fn for_each_batch(
        &self,
        inputs: &[Encoding],
        adapter: Option<usize>,
        cancelled: &dyn Fn() -> bool,
        mut each: impl FnMut(&[usize], Tensor<2>, &EncoderInput),
    ) {
        Self::batches(inputs, cancelled, |batch, input| {
            each(batch, self.network.forward(self.run(adapter), input), input);
        });
    }

    /// The same with the hidden state behind each layer: see [`TextEncoder::forward_layers`].
    pub(crate) fn for_each_batch_of_layers(
        &self,
        inputs: &[Encoding],
        adapter: Option<usize>,
        cancelled: &dyn Fn() -> bool,
        mut each: impl FnMut(&[usize], Vec<Tensor<2>>, &EncoderInput),
    ) {
        Self::batches(inputs, cancelled, |batch, input| {
            each(batch, self.network.forward_layers(self.run(adapter), input), input);
        });
    }

    fn batches(inputs: &[Encoding], cancelled: &dyn Fn() -> bool, mut each: impl FnMut(&[usize], &EncoderInput)) {
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
            each(batch, &input);
            order = rest;
        }
    }

    /// What the head makes of a batch: see [`Head::forward`].
    ///
    /// # Panics
    /// If there is none: see [`Encoder::check_head`].
    pub(crate) fn logits(&self, adapter: Option<usize>, hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
        self.head(adapter).expect("checked before").forward(self.run(adapter), hidden, input)
    }

    fn head(&self, adapter: Option<usize>) -> Option<&Head> {
        adapter.map_or(&self.head, |number| &self.choices[number].head).as_ref()
    }

    /// Whether there is a head with the adapter, or without.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if adapters alone have heads, and none was chosen.
    pub(crate) fn check_head(&self, adapter: Option<usize>) -> Result<(), Error> {
        match self.head(adapter) {
            Some(_) => Ok(()),
            None => {
                let expected = format!("one that has a head: {}", self.adapters().join(", "));
                Err(Error::InvalidParameter { name: "adapter", got: "none".into(), expected })
            }
        }
    }
}

/// The configuration of a folder, and the kind of encoder that it is.
///
/// # Errors
/// [`Error::UnsupportedArchitecture`]; those of reading the file.
fn family_of(path: &Path) -> Result<(ConfigFile, &'static Family), Error> {
    let file = path.join("config.json");
    let found = model_type(&file)?;
    match FAMILIES.iter().find(|family| family.model_type == found) {
        Some(family) => Ok((ConfigFile { json: read_json(&file)?, path: file }, family)),
        None => Err(Error::UnsupportedArchitecture { path: file, found, supported: ENCODERS }),
    }
}

/// A loader of layers that read prompts alone.
fn loader(checkpoint: Checkpoint, compute: &Compute, options: &LoadOptions) -> Result<Loader, Error> {
    Loader::new(checkpoint, compute.clone(), |name| name.to_string()).in_panels().quantized(options.quantize)
}

/// The values of a float tensor on the host, row-major.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("all devices compute in f32")
}
