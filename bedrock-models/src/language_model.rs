//! A language model, loaded: weights, tokenizer, chat template and limits.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::arch::family::{self, Loaded};
use crate::arch::{Cache, CausalLm, Outputs, Step};
use crate::chat_template::ChatTemplate;
use crate::error::Error;
use crate::generate::TokenLogProb;
use crate::import;
use crate::layers::{Adapter, Compute, Phase, number_of};
use crate::options::LoadOptions;
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, GgufFile};

pub use crate::arch::family::LANGUAGE_MODELS;

/// A language model in memory, without a thread of its own: every call computes on the caller's thread.
///
/// [`LocalChatModel`](crate::LocalChatModel) serves one to many callers at once; this is for evaluating logits.
pub struct LanguageModel {
    pub(crate) path: PathBuf,
    pub(crate) id: String,
    pub(crate) network: Box<dyn CausalLm>,
    pub(crate) compute: Compute,
    /// Names of [`Compute::adapters`].
    adapters: Vec<String>,
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    architecture: String,
    pub(crate) vocab_size: usize,
    pub(crate) max_tokens: usize,
}

impl fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanguageModel")
            .field("path", &self.path)
            .field("architecture", &self.architecture)
            .field("vocab_size", &self.vocab_size)
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

/// The one field of `config.json` that says how to read the others.
#[derive(Deserialize)]
struct AnyConfig {
    model_type: Option<String>,
}

/// Reads a JSON file of at most 16 MiB, of which a model folder has several.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    const LIMIT: u64 = 16 << 20;
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    let bytes = std::fs::metadata(path).map_err(read)?.len();
    if bytes > LIMIT {
        return Err(Error::FileTooLarge { path: path.to_path_buf(), bytes, limit: LIMIT });
    }
    let text = std::fs::read(path).map_err(read)?;
    serde_json::from_slice(&text).map_err(|source| Error::Config { path: path.to_path_buf(), source })
}

/// A base model has no chat template, which matters only to those who want to chat with it.
pub(crate) fn optional(template: Result<ChatTemplate, Error>) -> Result<Option<ChatTemplate>, Error> {
    match template {
        Ok(template) => Ok(Some(template)),
        Err(Error::NoChatTemplate { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of a folder or file, without its suffix.
pub(crate) fn name_of(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// `model_type` of a folder's `config.json`.
pub(crate) fn model_type(config: &Path) -> Result<String, Error> {
    Ok(read_json::<AnyConfig>(config)?.model_type.unwrap_or_default())
}

impl LanguageModel {
    /// Loads a folder in Hugging Face layout or a `.gguf` file.
    ///
    /// # Errors
    /// What is missing, malformed or not supported, by file and field.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let quantize = options.quantize.or(import::quantization_of(path)?);
        let options = &LoadOptions { quantize, ..options.clone() };
        let mut compute = options.compute_with_adapters(path)?;
        // Without kernels they are tensors of floats, and counted as such.
        if compute.pool.is_some() {
            compute.cache_type = options.engine.cache_type;
        }
        let mut model = Self::load_for(path, options, compute)?;
        if model.has_encoder() && !options.adapters.is_empty() {
            let what = "adapters that requests choose from need a model without an encoder".into();
            return Err(Error::ConfigValue { path: path.to_path_buf(), what });
        }
        model.adapters = options.adapters.keys().cloned().collect();
        Ok(model)
    }

    /// [`LanguageModel::load`] on a device of the caller's choice.
    pub(crate) fn load_for(path: &Path, options: &LoadOptions, compute: Compute) -> Result<Self, Error> {
        let mut model = match path.is_dir() {
            true => Self::load_folder(path, options, compute),
            false => Self::load_gguf(path, options, compute),
        }?;
        model.compute.all_adapters().try_for_each(Adapter::finish)?;
        if let Some(id) = &options.model_id {
            model.id.clone_from(id);
        }
        if let Some(max) = options.max_tokens {
            model.max_tokens = model.max_tokens.min(max);
        }
        if let Some(tokenizer) = &model.tokenizer
            && tokenizer.id_limit() > model.vocab_size
        {
            return Err(Error::ConfigValue {
                path: path.to_path_buf(),
                what: format!(
                    "the tokenizer has ids up to {}, the model only {} embeddings",
                    tokenizer.id_limit(),
                    model.vocab_size
                ),
            });
        }
        Ok(model)
    }

    fn load_folder(path: &Path, options: &LoadOptions, compute: Compute) -> Result<Self, Error> {
        let architecture = model_type(&path.join("config.json"))?;
        let mut checkpoint = Checkpoint::open_with(path, options.sealer.as_deref())?;
        compute.adapter.iter().for_each(|adapter| adapter.put_wholes(&mut checkpoint));
        let loaded = family::load_folder(path, checkpoint, &architecture, compute.clone(), options.quantize)?;
        // Some tests and tools use weights without text: a missing tokenizer is an error only when text is asked for.
        let tokenizer = if path.join("tokenizer.json").exists() { Some(Tokenizer::from_file(path)?) } else { None };
        let template = optional(ChatTemplate::from_folder(path))?;
        Ok(Self::assemble(path, architecture, loaded, compute, tokenizer, template))
    }

    fn load_gguf(path: &Path, options: &LoadOptions, compute: Compute) -> Result<Self, Error> {
        let GgufFile { metadata, checkpoint } = GgufFile::open(path)?;
        let architecture = metadata.required::<&str>("general.architecture")?.to_string();
        // Of others nobody has looked whether their modules are those that an adapter knows, and there is no layout to save all weights in.
        let adapts = family::ADAPTED.contains(&&*architecture)
            && metadata.optional::<u32>("llama.expert_count")?.unwrap_or(0) == 0;
        // What an adapter has whole would have to be put into the file's order first.
        let wholes = compute.adapter.as_ref().is_some_and(|adapter| adapter.has_wholes());
        if (compute.adapts() && !adapts) || wholes || compute.trained().is_some() {
            let what = "this adapter or training needs a folder in Hugging Face layout".into();
            return Err(Error::ConfigValue { path: path.to_path_buf(), what });
        }
        let loaded = family::load_file(&metadata, checkpoint, compute.clone(), options.quantize)?;
        let tokenizer = match metadata.get("tokenizer.ggml.model") {
            Some(_) => Some(Tokenizer::from_gguf(&metadata)?),
            None => None,
        };
        let template = optional(ChatTemplate::from_gguf(&metadata))?;
        Ok(Self::assemble(path, architecture, loaded, compute, tokenizer, template))
    }

    fn assemble(
        path: &Path,
        architecture: String,
        Loaded { network, vocab_size, context }: Loaded,
        compute: Compute,
        tokenizer: Option<Tokenizer>,
        template: Option<ChatTemplate>,
    ) -> Self {
        let (path, id, max_tokens) = (path.to_path_buf(), name_of(path), context);
        Self {
            path,
            id,
            network,
            compute,
            adapters: Vec::new(),
            tokenizer,
            template,
            architecture,
            vocab_size,
            max_tokens,
        }
    }

    /// Names of the adapters that requests choose from.
    pub fn adapters(&self) -> &[String] {
        &self.adapters
    }

    /// The number of an adapter in [`Compute::adapters`].
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name that none has.
    pub(crate) fn adapter_number(&self, name: &str) -> Result<usize, Error> {
        number_of(name, &self.adapters)
    }

    /// The id by which the model is known.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `model_type` or `general.architecture` of the checkpoint.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Number of logits.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The context: the most tokens that prompt and answer may have together.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the checkpoint came without.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer.as_ref().ok_or_else(|| Error::NoTokenizer { path: self.path.clone() })
    }

    /// The chat template.
    ///
    /// # Errors
    /// [`Error::NoChatTemplate`] if the checkpoint came without: a base model, which continues text.
    pub fn template(&self) -> Result<&ChatTemplate, Error> {
        self.template.as_ref().ok_or_else(|| Error::NoChatTemplate { path: self.path.clone(), name: None })
    }

    /// Checks that the tokens are in the vocabulary, and that there are some, but not more than the context holds.
    ///
    /// # Errors
    /// [`Error::NoTokens`], [`Error::TooManyTokens`], [`Error::TokenOutOfRange`].
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<(), Error> {
        if tokens.is_empty() {
            return Err(Error::NoTokens);
        }
        if tokens.len() > self.max_tokens {
            return Err(Error::TooManyTokens { got: tokens.len(), limit: self.max_tokens });
        }
        match tokens.iter().find(|token| **token as usize >= self.vocab_size) {
            Some(token) => Err(Error::TokenOutOfRange { id: *token, vocabulary: self.vocab_size }),
            None => Ok(()),
        }
    }

    /// Whether an encoder reads the prompt (T5). Then there are logits of answers only.
    pub fn has_encoder(&self) -> bool {
        self.network.has_encoder()
    }

    /// The encoder's last hidden state of a prompt, `[tokens.len()][features]`; none if the model has no encoder.
    ///
    /// # Errors
    /// As [`LanguageModel::check_tokens`].
    pub fn encoder_state(&self, tokens: &[u32]) -> Result<Option<Vec<Vec<f32>>>, Error> {
        self.check_tokens(tokens)?;
        let state = self.network.encoder_state(&self.compute, tokens);
        Ok(state.map(|state| {
            let [_, width] = state.dims();
            rows_of(state, width)
        }))
    }

    /// Logits after each token, `[tokens.len()][vocab_size]`, computed at once and in full precision.
    ///
    /// # Errors
    /// As [`LanguageModel::check_tokens`]; [`Error::PromptWithoutLogits`] if the model has an encoder: see
    /// [`LanguageModel::answer_logits`].
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, Error> {
        self.check_tokens(tokens)?;
        if self.has_encoder() {
            return Err(Error::PromptWithoutLogits { path: self.path.clone() });
        }
        let mut cache = Cache::new(self.network.layers());
        Ok(self.forward(Phase::Prompt, Outputs::All, &mut [(tokens, &mut cache)]))
    }

    /// Logits after the last token of each sequence, computed as one batch.
    ///
    /// # Errors
    /// As [`LanguageModel::check_tokens`].
    pub fn last_logits(&self, batch: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> {
        batch.iter().try_for_each(|tokens| self.check_tokens(tokens))?;
        let mut caches: Vec<Cache> = batch.iter().map(|_| Cache::new(self.network.layers())).collect();
        let mut rows: Vec<_> = batch.iter().map(Vec::as_slice).zip(&mut caches).collect();
        Ok(self.forward(Phase::Prompt, Outputs::Last, &mut rows))
    }

    /// Logits after the prompt and after each token of the answer, `[answer.len() + 1][vocab_size]`, in full precision.
    ///
    /// # Errors
    /// As [`LanguageModel::check_tokens`]; the prompt may not be empty.
    pub fn answer_logits(&self, prompt: &[u32], answer: &[u32]) -> Result<Vec<Vec<f32>>, Error> {
        Ok(self.answers_logits(&[(prompt, answer)])?.remove(0))
    }

    /// [`LanguageModel::answer_logits`] of several, computed as one batch.
    pub(crate) fn answers_logits(&self, rows: &[(&[u32], &[u32])]) -> Result<Vec<Vec<Vec<f32>>>, Error> {
        for (prompt, answer) in rows {
            self.check_tokens(prompt)?;
            self.check_tokens(&[*prompt, *answer].concat())?;
        }
        let mut caches: Vec<Cache> = rows.iter().map(|_| Cache::new(self.network.layers())).collect();
        let mut step: Vec<_> = rows.iter().map(|(prompt, _)| *prompt).zip(&mut caches).collect();
        let first = self.forward(Phase::Prompt, Outputs::Last, &mut step);
        let mut step: Vec<_> = rows.iter().map(|(_, answer)| *answer).zip(&mut caches).collect();
        step.retain(|(answer, _)| !answer.is_empty());
        let mut rest = match step.is_empty() {
            true => Vec::new(),
            false => self.forward(Phase::Prompt, Outputs::All, &mut step),
        }
        .into_iter();
        let logits = first.into_iter().zip(rows);
        Ok(logits
            .map(|(first, (_, answer))| [first].into_iter().chain(rest.by_ref().take(answer.len())).collect())
            .collect())
    }

    /// Logits after each token as decoding computes them: the first `prompt` tokens at once, the others one by one with
    /// cached keys and values and [`Activations`](crate::kernels::Activations) as loaded. `prompt` is at least 1; the
    /// result has `tokens.len() - prompt + 1` rows, the first after token `prompt - 1`.
    ///
    /// # Errors
    /// As [`LanguageModel::check_tokens`].
    pub fn decode_logits(&self, tokens: &[u32], prompt: usize) -> Result<Vec<Vec<f32>>, Error> {
        self.check_tokens(tokens)?;
        let prompt = prompt.clamp(1, tokens.len());
        let mut cache = Cache::new(self.network.layers());
        let mut out = self.forward(Phase::Prompt, Outputs::Last, &mut [(&tokens[..prompt], &mut cache)]);
        for token in prompt..tokens.len() {
            out.extend(self.forward(Phase::Decode, Outputs::Last, &mut [(&tokens[token..=token], &mut cache)]));
        }
        Ok(out)
    }

    /// Natural log-probability of each token of `continuation` after `context`, with the `top` most likely tokens
    /// there.
    ///
    /// # Errors
    /// As [`LanguageModel::check_tokens`]; the context may not be empty.
    pub fn score(&self, context: &[u32], continuation: &[u32], top: usize) -> Result<Vec<TokenLogProb>, Error> {
        if context.is_empty() {
            return Err(Error::NoTokens);
        }
        let logits = if self.has_encoder() {
            self.answer_logits(context, continuation)?
        } else {
            self.logits(&[context, continuation].concat())?.split_off(context.len() - 1)
        };
        logits.iter().zip(continuation).map(|(row, id)| crate::generate::token_log_prob(row, *id, top)).collect()
    }

    fn forward(&self, phase: Phase, outputs: Outputs, rows: &mut [(&[u32], &mut Cache)]) -> Vec<Vec<f32>> {
        let mut step = Step::new(phase, outputs, &|| false);
        for (tokens, cache) in rows {
            step.push(tokens, cache);
        }
        let logits = self.network.forward(&self.compute, &mut step).expect("wants logits and is not cancelled");
        rows_of(logits, self.vocab_size)
    }
}

/// The rows of a `[rows, width]` tensor on the host.
pub(crate) fn rows_of(tensor: burn::Tensor<2>, width: usize) -> Vec<Vec<f32>> {
    let values = tensor.into_data().try_into_vec::<f32>().expect("all devices compute in f32");
    values.chunks_exact(width).map(<[f32]>::to_vec).collect()
}
