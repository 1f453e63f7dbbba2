//! Text embeddings: an encoder, a pooling, and what the `sentence-transformers` files of its folder say about both.

use std::path::Path;
use std::sync::Arc;

use bedrock_core::{
    BoxFuture, EmbedPurpose, EmbedRequest, EmbedResponse, EmbeddingModel, EmbeddingModelInfo, TokenStates,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::arch::text_encoder::Purpose;
use crate::encoder::{Encoder, host};
use crate::error::Error;
use crate::language_model::read_json;
use crate::layers::loader::Bias;
use crate::layers::{Activation, Linear, Loader};
use crate::options::LoadOptions;
use crate::tokenizer::Encoding;
use crate::weights::Checkpoint;
use crate::worker::Worker;

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// The mean over all tokens, special ones included.
    Mean,
    /// The first token's.
    Cls,
    /// The largest value of each dimension.
    Max,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrtLen,
    /// The last token's.
    LastToken,
}

/// An embedding model on its own thread.
///
/// Pooling, prompts, normalisation and the input limit are read from the `sentence-transformers` files in the
/// folder (`modules.json`, `1_Pooling/config.json`, `config_sentence_transformers.json`, `sentence_bert_config.json`); a folder without them is pooled by
/// the mean and not normalised, as `sentence-transformers` does.
#[derive(Debug, Clone)]
pub struct Embedder {
    inner: Arc<Inner>,
    worker: Worker,
    /// Number of the adapter that it answers with.
    adapter: Option<usize>,
}

#[derive(Debug)]
struct Inner {
    encoder: Encoder,
    settings: Settings,
    dense: Vec<(Linear, Option<Activation>)>,
    dimensions: usize,
    /// Without an adapter, and with each that requests choose from.
    identities: Vec<String>,
}

/// What the `sentence-transformers` files say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) pooling: Option<Pooling>,
    normalize: bool,
    pub(crate) max_seq_length: Option<usize>,
    lower_case: bool,
    prompts: Prompts,
    /// Folders of dense layers after the pooling, in order.
    pub(crate) dense: Vec<String>,
    /// Folder of the pooling.
    pub(crate) pooling_folder: Option<String>,
}

/// `prompts` of `config_sentence_transformers.json`.
#[derive(Debug, Clone, Default, Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: std::collections::BTreeMap<String, String>,
    default_prompt_name: Option<String>,
}

impl Prompts {
    fn of(&self, purpose: EmbedPurpose) -> &str {
        let names: &[&str] = match purpose {
            EmbedPurpose::Query => &["query"],
            EmbedPurpose::Document => &["document", "passage", "corpus"],
            _ => &[],
        };
        let named = names.iter().find_map(|name| self.prompts.get(*name));
        let default = || self.default_prompt_name.as_ref().and_then(|name| self.prompts.get(name));
        named.or_else(default).map_or("", String::as_str)
    }
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode: Option<String>,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
    include_prompt: Option<bool>,
}

#[derive(Deserialize)]
struct LengthConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default)]
    bias: bool,
    activation_function: Option<String>,
}

impl Settings {
    pub(crate) fn read(folder: &Path) -> Result<Self, Error> {
        let mut settings = Self::default();
        let modules = folder.join("modules.json");
        if modules.exists() {
            for module in read_json::<Vec<Module>>(&modules)? {
                let unsupported = |what: String| Error::ConfigValue { path: modules.clone(), what };
                // A path that leaves the folder is a trick, not a module.
                if Path::new(&module.path).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
                    return Err(unsupported(format!("module path {:?} is no folder inside the model's", module.path)));
                }
                match module.kind.rsplit('.').next().unwrap_or_default() {
                    "Transformer" => {}
                    "Pooling" => {
                        settings.pooling = Some(Pooling::read(&folder.join(&module.path).join("config.json"))?);
                        settings.pooling_folder = Some(module.path);
                    }
                    "Normalize" => settings.normalize = true,
                    "Dense" => settings.dense.push(module.path),
                    other => return Err(unsupported(format!("module {other:?} is not supported"))),
                }
            }
        }
        let length = folder.join("sentence_bert_config.json");
        if length.exists() {
            let length: LengthConfig = read_json(&length)?;
            (settings.max_seq_length, settings.lower_case) = (length.max_seq_length, length.do_lower_case);
        }
        let prompts = folder.join("config_sentence_transformers.json");
        if prompts.exists() {
            settings.prompts = read_json(&prompts)?;
        }
        Ok(settings)
    }
}

impl Settings {
    /// What vectors depend on besides weights.
    fn identity(&self) -> String {
        let Self { pooling, normalize, max_seq_length, lower_case, prompts, dense, pooling_folder: _ } = self;
        // As it was always written, so that stored vectors stay known.
        format!(
            "Settings {{ pooling: {pooling:?}, normalize: {normalize:?}, max_seq_length: {max_seq_length:?}, \
             lower_case: {lower_case:?}, prompts: {prompts:?}, dense: {dense:?} }}"
        )
    }

    /// Tokens of a text with the prompt of its purpose, cut to the encoder's limit.
    pub(crate) fn encode(&self, encoder: &Encoder, text: &str, purpose: EmbedPurpose) -> Result<Encoding, Error> {
        let prompt = self.prompts.of(purpose);
        let text = if prompt.is_empty() { text.to_string() } else { format!("{prompt}{text}") };
        let text = if self.lower_case { text.to_lowercase() } else { text };
        encoder.encode(&text, None)
    }
}

impl Pooling {
    fn read(path: &Path) -> Result<Self, Error> {
        let config: PoolingConfig = read_json(path)?;
        let wrong = |what: String| Err(Error::ConfigValue { path: path.to_path_buf(), what });
        if config.include_prompt == Some(false) {
            return wrong("include_prompt is false, which is not supported".into());
        }
        if let Some(mode) = config.pooling_mode {
            return match mode.as_str() {
                "mean" => Ok(Self::Mean),
                "cls" => Ok(Self::Cls),
                "max" => Ok(Self::Max),
                "mean_sqrt_len_tokens" => Ok(Self::MeanSqrtLen),
                "lasttoken" => Ok(Self::LastToken),
                other => wrong(format!("pooling_mode {other:?} is not supported")),
            };
        }
        let modes: Vec<Self> = [
            (config.pooling_mode_cls_token, Self::Cls),
            (config.pooling_mode_mean_tokens, Self::Mean),
            (config.pooling_mode_max_tokens, Self::Max),
            (config.pooling_mode_mean_sqrt_len_tokens, Self::MeanSqrtLen),
            (config.pooling_mode_lasttoken, Self::LastToken),
        ]
        .into_iter()
        .filter_map(|(on, mode)| on.then_some(mode))
        .collect();
        match modes.as_slice() {
            [mode] => Ok(*mode),
            other => wrong(format!("{} pooling modes are on, one is supported", other.len())),
        }
    }

    /// Pools `tokens` (`[n, width]`, n at least 1) into `out`.
    pub(crate) fn pool(self, tokens: &[f32], out: &mut [f32]) {
        let width = out.len();
        let count = (tokens.len() / width) as f32;
        match self {
            Self::Cls => out.copy_from_slice(&tokens[..width]),
            Self::LastToken => out.copy_from_slice(&tokens[tokens.len() - width..]),
            Self::Max => {
                out.fill(f32::NEG_INFINITY);
                for token in tokens.chunks_exact(width) {
                    out.iter_mut().zip(token).for_each(|(out, x)| *out = out.max(*x));
                }
            }
            Self::Mean | Self::MeanSqrtLen => {
                out.fill(0.0);
                for token in tokens.chunks_exact(width) {
                    out.iter_mut().zip(token).for_each(|(out, x)| *out += x);
                }
                let by = if self == Self::Mean { count } else { count.sqrt() };
                out.iter_mut().for_each(|out| *out /= by);
            }
        }
    }
}

/// Scales to length 1; a zero vector stays.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

impl Embedder {
    /// Loads a folder in Hugging Face layout, with the `sentence-transformers` files if it has them.
    ///
    /// # Errors
    /// What is missing, malformed or not supported, by file and field.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let settings = Settings::read(path)?;
        let of_choices = vec![Purpose::Vectors; options.adapters.len()];
        let mut encoder = Encoder::load(path, options, Purpose::Vectors, &of_choices)?;
        encoder.limit_tokens(settings.max_seq_length);
        if encoder.max_tokens <= encoder.tokenizer.special_tokens_added(false) {
            return Err(Error::ConfigValue {
                path: path.to_path_buf(),
                what: format!("an input of {} tokens has no room for text", encoder.max_tokens),
            });
        }
        let mut dimensions = encoder.network.hidden_size();
        let mut dense = Vec::new();
        for folder in &settings.dense {
            let folder = path.join(folder);
            let file = folder.join("config.json");
            let config: DenseConfig = read_json(&file)?;
            let wrong = |what: String| Error::ConfigValue { path: file.clone(), what };
            if config.in_features != dimensions {
                return Err(wrong(format!("in_features is {}, but {dimensions} come in", config.in_features)));
            }
            let activation = match config.activation_function.as_deref().and_then(|name| name.rsplit('.').next()) {
                None | Some("Identity") => None,
                Some("Tanh") => Some(Activation::Tanh),
                Some("ReLU") => Some(Activation::Relu),
                Some("GELU") => Some(Activation::Gelu),
                Some(other) => return Err(wrong(format!("activation_function {other:?} is not supported"))),
            };
            let checkpoint = Checkpoint::open_with(&folder, options.sealer.as_deref())?;
            for tensor in checkpoint.iter() {
                encoder.identities().for_each(|identity| identity.update(&tensor.data));
            }
            let mut loader = Loader::new(checkpoint, encoder.compute.clone(), |name| name.to_string());
            let bias = if config.bias { Bias::Present } else { Bias::Absent };
            dense.push((loader.linear("linear", config.out_features, config.in_features, bias)?, activation));
            loader.finish(&[])?;
            dimensions = config.out_features;
        }
        let finished = |identity: &mut Sha256| {
            identity.update(settings.identity());
            identity.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let identities = encoder.identities().map(finished).collect();
        let worker = Worker::start("bedrock-embedder")?;
        let inner = Arc::new(Inner { encoder, settings, dense, dimensions, identities });
        Ok(Self { inner, worker, adapter: None })
    }

    /// The same model, answering with one of [`LoadOptions::adapters`]. It is loaded once, and has one thread.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name that none has.
    pub fn with_adapter(&self, name: &str) -> Result<Self, Error> {
        Ok(Self { adapter: Some(self.inner.encoder.adapter_number(name)?), ..self.clone() })
    }

    /// [`EmbeddingModel::embed`] on the caller's thread.
    pub(crate) fn embed_here(&self, request: &EmbedRequest) -> Result<EmbedResponse, Error> {
        self.inner.embed(request, self.adapter, &|| false)
    }

    /// How token vectors become one.
    pub fn pooling(&self) -> Pooling {
        self.inner.settings.pooling.unwrap_or(Pooling::Mean)
    }

    /// Whether vectors are normalised unless a request says otherwise.
    pub fn normalizes(&self) -> bool {
        self.inner.settings.normalize
    }

    /// The most tokens of one input, special ones included.
    pub fn max_tokens(&self) -> usize {
        self.inner.encoder.max_tokens
    }

    /// Tokens of a text as the model gets it, prompt of the purpose included, cut to the limit.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode).
    pub fn encode(&self, text: &str, purpose: EmbedPurpose) -> Result<Encoding, Error> {
        self.inner.encode(text, purpose)
    }

    /// The last hidden state of one text, `[tokens][hidden size]`: before pooling. Computes on the caller's thread.
    ///
    /// # Errors
    /// As [`Embedder::encode`].
    pub fn hidden_state(&self, text: &str, purpose: EmbedPurpose) -> Result<Vec<Vec<f32>>, Error> {
        let encoder = &self.inner.encoder;
        let mut rows = Vec::new();
        encoder.for_each_batch(&[self.encode(text, purpose)?], self.adapter, &|| false, |_, hidden, _| {
            rows = crate::language_model::rows_of(hidden, encoder.network.hidden_size());
        });
        Ok(rows)
    }

    /// The output of BERT's pooler for each text, if the checkpoint has one. Computes on the caller's thread.
    ///
    /// # Errors
    /// As [`Embedder::encode`].
    pub fn pooler_output(&self, texts: &[String], purpose: EmbedPurpose) -> Result<Option<Vec<Vec<f32>>>, Error> {
        let encoder = &self.inner.encoder;
        let Some(pooler) = encoder.network.pooler() else { return Ok(None) };
        let inputs: Vec<Encoding> = texts.iter().map(|text| self.encode(text, purpose)).collect::<Result<_, _>>()?;
        let mut out = vec![Vec::new(); texts.len()];
        encoder.for_each_batch(&inputs, self.adapter, &|| false, |batch, hidden, input| {
            let pooled = pooler.forward(encoder.run(self.adapter), input.first_rows(hidden));
            let rows = crate::language_model::rows_of(pooled, encoder.network.hidden_size());
            batch.iter().zip(rows).for_each(|(index, row)| out[*index] = row);
        });
        Ok(Some(out))
    }
}

impl Inner {
    fn encode(&self, text: &str, purpose: EmbedPurpose) -> Result<Encoding, Error> {
        self.settings.encode(&self.encoder, text, purpose)
    }

    fn embed(
        &self,
        request: &EmbedRequest,
        adapter: Option<usize>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<EmbedResponse, Error> {
        let dimensions = request.dimensions.unwrap_or(self.dimensions);
        if dimensions == 0 || dimensions > self.dimensions {
            return Err(Error::InvalidParameter {
                name: "dimensions",
                got: dimensions.to_string(),
                expected: format!("1 to {}", self.dimensions),
            });
        }
        let mut inputs = Vec::with_capacity(request.inputs.len());
        for text in &request.inputs {
            inputs.push(self.encode(text, request.purpose)?);
        }
        let truncated: Vec<usize> =
            inputs.iter().enumerate().filter(|(_, input)| input.truncated > 0).map(|(index, _)| index).collect();
        if let Some(index) = truncated.first().filter(|_| !request.truncate) {
            let got = inputs[*index].len() + inputs[*index].truncated;
            return Err(Error::TooManyTokens { got, limit: self.encoder.max_tokens });
        }
        let pooling = self.settings.pooling.unwrap_or(Pooling::Mean);
        let width = self.encoder.network.hidden_size();
        // A shortened vector is no unit vector any more, so it is normalised again unless that was refused.
        let unit = request.normalize.unwrap_or(self.settings.normalize || dimensions < self.dimensions);
        let mut embeddings = vec![Vec::new(); inputs.len()];
        self.encoder.for_each_batch(&inputs, adapter, cancelled, |batch, hidden, input| {
            let hidden = host(hidden);
            let mut pooled = vec![0.0; batch.len() * width];
            for (sequence, out) in input.sequences.iter().zip(pooled.chunks_exact_mut(width)) {
                // A tokenizer without special tokens gives an empty text no token at all: its vector is zero.
                if sequence.tokens > 0 {
                    pooling.pool(&hidden[sequence.first_row * width..][..sequence.tokens * width], out);
                }
            }
            for (index, row) in batch.iter().zip(self.dense(pooled, batch.len(), adapter)) {
                embeddings[*index] = row;
            }
        });
        if cancelled() {
            return Err(Error::Cancelled);
        }
        for vector in &mut embeddings {
            vector.truncate(dimensions);
            if unit {
                normalize(vector);
            }
        }
        let input_tokens = inputs.iter().map(|input| input.len() as u64).sum();
        Ok(EmbedResponse { embeddings, input_tokens, truncated })
    }

    /// See [`EmbeddingModel::token_states`].
    fn token_states(
        &self,
        texts: &[String],
        adapter: Option<usize>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<TokenStates>>, Error> {
        // Lower case has other bytes than the text that the spans are of.
        if self.settings.lower_case {
            return Ok(None);
        }
        let inputs: Vec<Encoding> =
            texts.iter().map(|text| self.encoder.encode(text, None)).collect::<Result<_, _>>()?;
        let width = self.encoder.network.hidden_size();
        let mut all = vec![TokenStates::default(); texts.len()];
        let mut told_apart = true;
        self.encoder.for_each_batch_of_layers(&inputs, adapter, cancelled, |batch, layers, input| {
            told_apart &= !layers.is_empty();
            let layers: Vec<Vec<f32>> = layers.into_iter().map(host).collect();
            for (index, sequence) in batch.iter().zip(&input.sequences) {
                let encoding = &inputs[*index];
                let own: Vec<usize> = (0..sequence.tokens).filter(|token| !encoding.added[*token]).collect();
                let rows = |layer: &Vec<f32>| {
                    let row = |token: &usize| &layer[(sequence.first_row + token) * width..][..width];
                    own.iter().flat_map(row).copied().collect()
                };
                all[*index] = TokenStates {
                    spans: own.iter().map(|token| encoding.offsets[*token].clone()).collect(),
                    layers: layers.iter().map(rows).collect(),
                };
            }
        });
        if cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(told_apart.then_some(all))
    }

    fn dense(&self, pooled: Vec<f32>, rows: usize, adapter: Option<usize>) -> Vec<Vec<f32>> {
        let width = pooled.len() / rows.max(1);
        if self.dense.is_empty() {
            return pooled.chunks_exact(width).map(<[f32]>::to_vec).collect();
        }
        let run = self.encoder.run(adapter);
        let data = burn::tensor::TensorData::new(pooled, [rows, width]);
        let mut x = burn::Tensor::<2>::from_data(data, &self.encoder.compute.device);
        for (linear, activation) in &self.dense {
            x = linear.forward(run, x);
            if let Some(activation) = activation {
                x = activation.forward(x);
            }
        }
        crate::language_model::rows_of(x, self.dimensions)
    }
}

impl EmbeddingModel for Embedder {
    fn embed<'a>(&'a self, request: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, bedrock_core::Error>> {
        let (inner, request, adapter) = (self.inner.clone(), request.clone(), self.adapter);
        self.worker.run(move |cancelled| inner.embed(&request, adapter, cancelled))
    }

    fn info(&self) -> EmbeddingModelInfo {
        EmbeddingModelInfo {
            model_id: self.inner.encoder.id.clone(),
            dimensions: self.inner.dimensions,
            max_input_tokens: self.inner.encoder.max_tokens,
            identity: self.inner.identities[self.adapter.map_or(0, |number| number + 1)].clone(),
        }
    }

    fn count_tokens(&self, text: &str) -> Result<usize, bedrock_core::Error> {
        Ok(self.inner.encoder.tokenizer.count(text)?)
    }

    fn token_states<'a>(
        &'a self,
        texts: &'a [String],
    ) -> BoxFuture<'a, Result<Option<Vec<TokenStates>>, bedrock_core::Error>> {
        let (inner, texts, adapter) = (self.inner.clone(), texts.to_vec(), self.adapter);
        self.worker.run(move |cancelled| inner.token_states(&texts, adapter, cancelled))
    }
}
