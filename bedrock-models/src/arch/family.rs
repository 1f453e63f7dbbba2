//! The table of language models: by which names a checkpoint calls its architecture, and which file here knows it.

use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::gguf::Gguf;
use super::{CausalLm, cohere, gemma2, gemma3, gpt2, llama, mistral, mixtral, phi3, qwen2, qwen3, t5};
use crate::error::Error;
use crate::language_model::read_json;
use crate::layers::{Compute, Loader};
use crate::weights::{Checkpoint, Dtype, Metadata};

/// All language models. A new one is a row here, a file beside this one, and its fixtures.
const FAMILIES: &[Family] = &[
    family::<llama::LlamaConfig>("llama", Some("llama")),
    family::<mistral::MistralConfig>("mistral", None),
    family::<mixtral::MixtralConfig>("mixtral", Some("llama")),
    family::<qwen2::Qwen2Config>("qwen2", Some("qwen2")),
    family::<qwen3::Qwen3Config>("qwen3", Some("qwen3")),
    family::<gemma2::Gemma2Config>("gemma2", Some("gemma2")),
    family::<gemma3::Gemma3Config>("gemma3_text", Some("gemma3")),
    family::<phi3::Phi3Config>("phi3", Some("phi3")),
    family::<cohere::CohereConfig>("cohere", Some("command-r")),
    family::<gpt2::Gpt2Config>("gpt2", Some("gpt2")),
    family::<t5::T5Config>("t5", Some("t5")),
    family::<t5::T5Config>("mt5", None),
];

/// Architectures of language models, as `model_type` in `config.json` names them.
pub const LANGUAGE_MODELS: &[&str] = &{
    let mut names = [""; FAMILIES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = FAMILIES[i].model_type;
        i += 1;
    }
    names
};

/// What an architecture must be able to say and do. Deserialising reads `config.json`; what is absent there has the value
/// that Hugging Face's class gives it.
pub(crate) trait Configuration: DeserializeOwned {
    /// From the module's names to those of GGUF, each replaced once.
    const GGUF_NAMES: &'static [(&'static str, &'static str)];

    /// Whether Hugging Face's class gives the embedding of `pad_token_id` no gradient.
    const LEAVES_PADDING: bool = true;

    /// GGUF's name of a tensor of the module.
    fn gguf_name(name: &str) -> String {
        Self::GGUF_NAMES.iter().fold(name.to_string(), |name, (from, to)| name.replacen(from, to, 1))
    }

    /// Whether a GGUF file that calls its architecture as this family's does is of this family: some share a name.
    fn is_in(_file: &Gguf<'_>) -> Result<bool, Error> {
        Ok(true)
    }

    /// Reads the metadata of a GGUF file.
    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error>;

    fn vocab_size(&self) -> usize;

    /// The most tokens of prompt and answer together.
    fn context(&self) -> usize;

    /// Checks the values and takes all weights; `path` is what errors call the configuration.
    fn load(&self, loader: Loader, path: &Path) -> Result<Box<dyn CausalLm>, Error>;
}

/// A network and what its configuration says about it.
pub(crate) struct Loaded {
    pub(crate) network: Box<dyn CausalLm>,
    pub(crate) vocab_size: usize,
    pub(crate) context: usize,
}

/// One row of the table.
pub(crate) struct Family {
    model_type: &'static str,
    /// `general.architecture`; none where llama.cpp's files go by another family's name.
    gguf: Option<&'static str>,
    gguf_name: fn(&str) -> String,
    is_in: fn(&Gguf<'_>) -> Result<bool, Error>,
    folder: fn(&Path, Loader) -> Result<Loaded, Error>,
    file: fn(&Metadata, Checkpoint, Compute, Option<Dtype>) -> Result<Loaded, Error>,
}

const fn family<C: Configuration>(model_type: &'static str, gguf: Option<&'static str>) -> Family {
    Family {
        model_type,
        gguf,
        gguf_name: C::gguf_name,
        is_in: C::is_in,
        folder: from_folder::<C>,
        file: from_file::<C>,
    }
}

/// What all families have in `config.json`. Some name the padding token -1 where there is none.
#[derive(Deserialize)]
struct Padding {
    pad_token_id: Option<i64>,
}

fn from_folder<C: Configuration>(config: &Path, loader: Loader) -> Result<Loaded, Error> {
    let padding = match C::LEAVES_PADDING && loader.compute().trained().is_some() {
        true => read_json::<Padding>(config)?.pad_token_id.and_then(|token| usize::try_from(token).ok()),
        false => None,
    };
    finish(read_json::<C>(config)?, loader.padded_with(padding), config)
}

fn from_file<C: Configuration>(
    metadata: &Metadata,
    checkpoint: Checkpoint,
    compute: Compute,
    quantize: Option<Dtype>,
) -> Result<Loaded, Error> {
    let config = C::from_gguf(&Gguf::new(metadata, &checkpoint)?)?;
    finish(config, Loader::new(checkpoint, compute, C::gguf_name).quantized(quantize)?, metadata.path())
}

fn finish<C: Configuration>(config: C, loader: Loader, path: &Path) -> Result<Loaded, Error> {
    let network = config.load(loader, path)?;
    Ok(Loaded { network, vocab_size: config.vocab_size(), context: config.context() })
}

/// Architectures of GGUF files, as these name them, whose modules are those of Hugging Face's layout, row by row; of `llama` they are put into its order.
pub(crate) const ADAPTED: &[&str] = &["llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "command-r", "gpt2"];

/// What GGUF files call the architecture of a `model_type`.
pub(crate) fn in_gguf(model_type: &str) -> Option<&'static str> {
    FAMILIES.iter().find(|family| family.model_type == model_type)?.gguf
}

/// What GGUF files of an architecture call its tensors.
pub(crate) fn names_of(architecture: &str) -> Option<fn(&str) -> String> {
    FAMILIES.iter().find(|family| family.gguf == Some(architecture)).map(|family| family.gguf_name)
}

/// Loads a folder in Hugging Face layout with the tensors of `checkpoint`, whose `config.json` is of that `model_type`.
///
/// # Errors
/// [`Error::UnsupportedArchitecture`], and whatever is wrong with configuration and weights.
pub(crate) fn load_folder(
    path: &Path,
    checkpoint: Checkpoint,
    model_type: &str,
    compute: Compute,
    quantize: Option<Dtype>,
) -> Result<Loaded, Error> {
    let config = path.join("config.json");
    let Some(family) = FAMILIES.iter().find(|family| family.model_type == model_type) else {
        let found = model_type.to_string();
        return Err(Error::UnsupportedArchitecture { path: config, found, supported: LANGUAGE_MODELS });
    };
    let loader = Loader::new(checkpoint, compute, |name| name.to_string()).quantized(quantize)?;
    (family.folder)(&config, loader)
}

/// Loads what a GGUF file holds.
///
/// # Errors
/// As [`load_folder`].
pub(crate) fn load_file(
    metadata: &Metadata,
    checkpoint: Checkpoint,
    compute: Compute,
    quantize: Option<Dtype>,
) -> Result<Loaded, Error> {
    let file = Gguf::new(metadata, &checkpoint)?;
    for family in FAMILIES.iter().filter(|family| family.gguf == Some(file.architecture())) {
        if (family.is_in)(&file)? {
            return (family.file)(metadata, checkpoint, compute, quantize);
        }
    }
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    let supported = NAMES.get_or_init(|| {
        let mut names: Vec<_> = FAMILIES.iter().filter_map(|family| family.gguf).collect();
        names.dedup();
        names
    });
    let (path, found) = (metadata.path().to_path_buf(), file.description()?);
    Err(Error::UnsupportedArchitecture { path, found, supported })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names = LANGUAGE_MODELS.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LANGUAGE_MODELS.len());
    }
}
