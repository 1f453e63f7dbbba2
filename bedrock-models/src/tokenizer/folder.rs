//! Tokenizers of Hugging Face folders.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};

use super::added::AddedTokens;
use super::{SpecialTokens, Tokenizer, guarded};
use crate::error::Error;

/// No `tokenizer.json` of a published model is near this: the largest vocabularies make about 35 MB.
pub(super) const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// The small configuration files beside it; chat templates make some of them tens of kilobytes.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

impl Tokenizer {
    /// Reads `tokenizer.json`, given its path or that of its folder.
    ///
    /// The roles of special tokens come from the first of `tokenizer_config.json`, `special_tokens_map.json`,
    /// `generation_config.json` and `config.json` in the same folder that names them; the end-of-generation set is
    /// `eos_token` and every `eos_token_id` of `generation_config.json` (of `config.json` only if that file is absent).
    /// An explicit `add_bos_token` or `add_eos_token` that contradicts the post-processor in `tokenizer.json` wins, as
    /// in transformers. Truncation and padding settings of the file are ignored: they are arguments here.
    ///
    /// # Errors
    /// [`Error::Read`] if a file cannot be read, [`Error::FileTooLarge`], [`Error::TokenizerFile`] or
    /// [`Error::Malformed`] if it is damaged, each with the path of the file at fault.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
        let bytes = read_bounded(&file, MAX_TOKENIZER_BYTES)?;
        // The dependency panics on some of the files that are not JSON; there is no need to let it come to that.
        serde_json::from_slice::<AddedTokens>(&bytes)
            .map_err(|error| Error::TokenizerFile { path: file.clone(), source: error.into() })?
            .check(&file)?;
        let parsed = guarded(&file, "read", || tokenizers::Tokenizer::from_bytes(&bytes));
        let mut model = parsed.map_err(|error| match error {
            Error::Tokenize { path, source, .. } => Error::TokenizerFile { path, source },
            other => other,
        })?;
        drop(bytes);

        let configs = Configs::read(&folder)?;
        let special = configs.special_tokens(&model, &file)?;
        let special = reconcile_added_tokens(&mut model, &configs, special, &file)?;
        Self::assemble(model, special, file)
    }
}

/// The files that may say something about special tokens.
struct Configs {
    tokenizer: Option<Value>,
    special_map: Option<Value>,
    generation: Option<Value>,
    model: Option<Value>,
}

impl Configs {
    fn read(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            tokenizer: read_json(&folder.join("tokenizer_config.json"))?,
            special_map: read_json(&folder.join("special_tokens_map.json"))?,
            generation: read_json(&folder.join("generation_config.json"))?,
            model: read_json(&folder.join("config.json"))?,
        })
    }

    fn special_tokens(&self, model: &tokenizers::Tokenizer, path: &Path) -> Result<SpecialTokens, Error> {
        let role = |role: &str| -> Result<Option<u32>, Error> {
            let text_key = format!("{role}_token");
            for file in [&self.tokenizer, &self.special_map].into_iter().flatten() {
                if let Some(token) = token_text(&file[&text_key]) {
                    // A token that is named but not in the vocabulary is no token; transformers would add a row for it.
                    if let Some(id) = model.token_to_id(token) {
                        return Ok(Some(id));
                    }
                }
            }
            let id_key = format!("{role}_token_id");
            for file in [&self.generation, &self.model].into_iter().flatten() {
                if let Some(&id) = token_ids(&file[&id_key], &id_key, path)?.first() {
                    return Ok(Some(id));
                }
            }
            Ok(None)
        };
        let mut special = SpecialTokens {
            bos: role("bos")?,
            eos: role("eos")?,
            unk: role("unk")?,
            pad: role("pad")?,
            sep: role("sep")?,
            cls: role("cls")?,
            mask: role("mask")?,
            ..SpecialTokens::default()
        };
        if let Some(eos) = special.eos {
            special.insert_end(eos);
        }
        if let Some(file) = self.generation.as_ref().or(self.model.as_ref()) {
            for id in token_ids(&file["eos_token_id"], "eos_token_id", path)? {
                special.insert_end(id);
            }
        }
        Ok(special)
    }
}

/// Finds out what the post-processor adds, and replaces it if `tokenizer_config.json` says otherwise.
fn reconcile_added_tokens(
    model: &mut tokenizers::Tokenizer,
    configs: &Configs,
    mut special: SpecialTokens,
    path: &Path,
) -> Result<SpecialTokens, Error> {
    let around: Vec<u32> = guarded(path, "encode", || {
        Ok(model.post_process(tokenizers::Encoding::default(), None, true)?.get_ids().to_vec())
    })?;
    let adds_bos = special.bos.is_some() && around.first() == special.bos.as_ref();
    let adds_eos =
        special.eos.is_some() && around.len() > usize::from(adds_bos) && around.last() == special.eos.as_ref();
    let wanted = |key: &str, id: Option<u32>| {
        let flag = configs.tokenizer.as_ref().and_then(|file| file[key].as_bool());
        // Without such a token there is nothing to add.
        flag.map(|flag| flag && id.is_some())
    };
    let want_bos = wanted("add_bos_token", special.bos);
    let want_eos = wanted("add_eos_token", special.eos);
    special.add_bos = want_bos.unwrap_or(adds_bos);
    special.add_eos = want_eos.unwrap_or(adds_eos);
    if (special.add_bos, special.add_eos) != (adds_bos, adds_eos) {
        let bos = special.bos.filter(|_| special.add_bos);
        let eos = special.eos.filter(|_| special.add_eos);
        let template = surround(bos, eos).map_err(|reason| Error::Malformed { path: path.to_path_buf(), reason })?;
        model.with_post_processor(Some(template));
    }
    Ok(special)
}

/// The template that puts begin- and end-of-text around a text, and around each of a pair.
pub(super) fn surround(bos: Option<u32>, eos: Option<u32>) -> Result<TemplateProcessing, String> {
    let mut single = Vec::new();
    let mut pair = Vec::new();
    for (text, segment) in [("$A", 0), ("$B", 1)] {
        let pieces = [bos.map(|_| "bos"), Some(text), eos.map(|_| "eos")];
        pair.extend(pieces.into_iter().flatten().map(|piece| format!("{piece}:{segment}")));
        if segment == 0 {
            single.clone_from(&pair);
        }
    }
    template(&single.join(" "), &pair.join(" "), &[("bos", bos), ("eos", eos)])
}

/// A template from its notation, with names for tokens given by id (so that no text of a file is parsed as notation).
pub(super) fn template(single: &str, pair: &str, tokens: &[(&str, Option<u32>)]) -> Result<TemplateProcessing, String> {
    let mut names = Vec::new();
    for &(name, id) in tokens {
        if let Some(id) = id {
            let token = SpecialToken::new(name.into(), vec![id], vec![name.into()]);
            names.push(token.map_err(|error| error.to_string())?);
        }
    }
    TemplateProcessing::builder()
        .try_single(single)?
        .try_pair(pair)?
        .special_tokens(names)
        .build()
        .map_err(|error| error.to_string())
}

/// A token in a configuration file: its text, or an object with the text in `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// One id or a list of ids; `null`, absent and -1 (which some files use for "none") are no id.
fn token_ids(value: &Value, key: &str, path: &Path) -> Result<Vec<u32>, Error> {
    let one = |value: &Value| match value.as_i64() {
        Some(-1) => Ok(None),
        Some(id) if u32::try_from(id).is_ok() => Ok(Some(id as u32)),
        _ if value.is_null() => Ok(None),
        _ => Err(Error::Malformed {
            path: path.with_file_name("generation_config.json or config.json"),
            reason: format!("{key} is {value}, not a token id"),
        }),
    };
    match value {
        Value::Array(values) => values.iter().filter_map(|value| one(value).transpose()).collect(),
        value => Ok(one(value)?.into_iter().collect()),
    }
}

/// The JSON object in a file, or `None` if there is no such file.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>, Error> {
    let bytes = match read_bounded(path, MAX_CONFIG_BYTES) {
        Ok(bytes) => bytes,
        Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let malformed = |reason: String| Error::Malformed { path: path.to_path_buf(), reason };
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    if !value.is_object() {
        return Err(malformed("not a JSON object".into()));
    }
    Ok(Some(value))
}

/// A file's bytes, unless there are more than `limit`.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let read = |source: io::Error| Error::Read { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(read)?;
    let bytes = file.metadata().map_err(read)?.len();
    if bytes > limit {
        return Err(Error::FileTooLarge { path: path.to_path_buf(), bytes, limit });
    }
    // The file may grow meanwhile, or be a pipe that reports no length.
    let mut content = Vec::with_capacity(bytes as usize);
    file.take(limit + 1).read_to_end(&mut content).map_err(read)?;
    if content.len() as u64 > limit {
        return Err(Error::FileTooLarge { path: PathBuf::from(path), bytes: content.len() as u64, limit });
    }
    Ok(content)
}
