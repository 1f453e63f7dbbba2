//! Text to token ids and back.
//!
//! A [`Tokenizer`] comes from the `tokenizer.json` of a Hugging Face folder or is rebuilt from the metadata of a GGUF
//! file; both give the ids that the model was trained with. The `tokenizers` crate does the splitting and merging. What
//! is added here: special tokens gathered from all the files that may name them, truncation and offsets as
//! transformers has them, a [`StreamDecoder`] whose pieces always add up to the whole text, and a border that turns
//! hostile files and panics of the dependency into typed errors.

mod added;
mod bytes;
mod encoding;
mod folder;
mod gguf;
mod into_gguf;
mod pre;
mod special;
mod stream;

pub use encoding::{EncodeOptions, Encoding, TruncationStrategy};
pub(crate) use folder::{read_bounded, read_json};
pub(crate) use into_gguf::describe;
pub use special::SpecialTokens;
pub use stream::StreamDecoder;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::processors::PostProcessorWrapper;

use crate::error::Error;

/// Splits text into the tokens of one model and puts them together again.
///
/// Cloning is cheap, and one tokenizer may be used from many threads at once.
///
/// ```no_run
/// use bedrock_models::tokenizer::Tokenizer;
///
/// let tokenizer = Tokenizer::from_file("SmolLM2-135M-Instruct")?;
/// let ids = tokenizer.encode("The capital of France is", true)?;
/// assert_eq!(tokenizer.decode(&ids, true)?, "The capital of France is");
/// # Ok::<(), bedrock_models::Error>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    /// Has no post-processor, truncation or padding of its own: those are applied here, call by call.
    model: tokenizers::Tokenizer,
    post: Option<PostProcessorWrapper>,
    special: SpecialTokens,
    path: PathBuf,
    stream: stream::Strategy,
    id_limit: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("path", &self.inner.path)
            .field("vocab_size", &self.vocab_size())
            .field("special", &self.inner.special)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Wraps a loaded tokenizer: takes its post-processor out and drops its truncation and padding.
    fn assemble(mut model: tokenizers::Tokenizer, special: SpecialTokens, path: PathBuf) -> Result<Self, Error> {
        let post = model.get_post_processor().cloned();
        model.with_post_processor(None::<PostProcessorWrapper>);
        model.with_padding(None);
        let cleared = model.with_truncation(None).map(drop);
        cleared.map_err(|source| Error::TokenizerFile { path: path.clone(), source })?;
        let id_limit = model.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let stream = guarded(&path, "prepare", || Ok(stream::Strategy::of(&model)))?;
        Ok(Self { inner: Arc::new(Inner { model, post, special, path, stream, id_limit }) })
    }

    /// The file that the tokenizer was read from.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Token ids of a text.
    ///
    /// With `add_special`, the tokens that the model expects around a text (such as begin-of-text) are added. Texts of
    /// special tokens inside `text` become those tokens either way, as in transformers.
    ///
    /// # Errors
    /// [`Error::Tokenize`] if the vocabulary cannot express the text, [`Error::DependencyPanic`] if a damaged
    /// tokenizer file only shows now.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        self.guarded_encode(|| {
            let encoding = self.inner.model.encode_fast(text, false)?;
            Ok(self.process(encoding, None, add_special)?.get_ids().to_vec())
        })
    }

    /// Token ids of two texts that are given to the model together, such as a query and a document.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_pair(&self, first: &str, second: &str, add_special: bool) -> Result<Encoding, Error> {
        self.encode_with(first, Some(second), &EncodeOptions { add_special, ..EncodeOptions::default() })
    }

    /// Tokens with everything known about them: segment, offsets, whether they were added; optionally truncated.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and [`Error::InvalidParameter`] if `max_tokens` has no room for the special tokens.
    pub fn encode_with(&self, first: &str, second: Option<&str>, options: &EncodeOptions) -> Result<Encoding, Error> {
        let room = match options.max_tokens {
            None => None,
            Some(max) => {
                let added = if options.add_special { self.special_tokens_added(second.is_some()) } else { 0 };
                Some(max.checked_sub(added).ok_or_else(|| Error::InvalidParameter {
                    name: "max_tokens",
                    got: max.to_string(),
                    expected: format!("at least {added}, the number of special tokens"),
                })?)
            }
        };
        self.guarded_encode(|| {
            let mut left = self.inner.model.encode(first, false)?;
            let mut right = second.map(|text| self.inner.model.encode(text, false)).transpose()?;
            if let Some(right) = &mut right {
                right.set_type_ids(vec![1; right.len()]);
            }
            let mut removed = 0;
            if let Some(room) = room {
                let before = left.len() + right.as_ref().map_or(0, |right| right.len());
                encoding::truncate(&mut left, right.as_mut(), room, options.strategy);
                removed = before - left.len() - right.as_ref().map_or(0, |right| right.len());
            }
            let encoding = self.process(left, right, options.add_special)?;
            Ok(Encoding::new(&encoding, removed))
        })
    }

    /// Number of tokens of a text, special tokens not added.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn count(&self, text: &str) -> Result<usize, Error> {
        self.guarded_encode(|| Ok(self.inner.model.encode_fast(text, false)?.len()))
    }

    /// How many special tokens are added to a text, or to a pair of texts.
    pub fn special_tokens_added(&self, pair: bool) -> usize {
        use tokenizers::PostProcessor;
        self.inner.post.as_ref().map_or(0, |post| post.added_tokens(pair))
    }

    /// The text of token ids. Ids that no token has are skipped, as in transformers.
    ///
    /// # Errors
    /// [`Error::DependencyPanic`] if a damaged tokenizer file only shows now.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        guarded(&self.inner.path, "decode", || self.inner.model.decode(ids, skip_special))
    }

    /// The text of tokens given as the vocabulary writes them (see [`id_to_token`](Self::id_to_token)), or of words where the
    /// caller has put some in.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn join(&self, tokens: Vec<String>) -> Result<String, Error> {
        use tokenizers::Decoder;
        guarded(&self.inner.path, "join tokens with", || match self.inner.model.get_decoder() {
            Some(decoder) => decoder.decode(tokens),
            None => Ok(tokens.join(" ")),
        })
    }

    /// Turns ids into text as they come. The pieces it gives add up to exactly what [`decode`](Self::decode) gives.
    pub fn stream_decoder(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), skip_special)
    }

    /// Number of tokens, added ones included. A model's embedding table may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.model.get_vocab_size(true)
    }

    /// One more than the largest id. Differs from [`vocab_size`](Self::vocab_size) if the ids have holes.
    pub fn id_limit(&self) -> usize {
        self.inner.id_limit
    }

    /// The id of a token as it is written in the vocabulary (`Ġthe`, `▁the`, `##ing`).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.model.token_to_id(token)
    }

    /// The token of an id as it is written in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.model.id_to_token(id)
    }

    /// Whether [`decode`](Self::decode) leaves this id out when it skips special tokens.
    pub fn is_special(&self, id: u32) -> bool {
        self.id_to_token(id).is_some_and(|token| self.inner.model.get_added_vocabulary().is_special_token(&token))
    }

    /// The ids with a role: begin, end, padding, unknown …
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.inner.special
    }

    fn process(
        &self,
        first: tokenizers::Encoding,
        second: Option<tokenizers::Encoding>,
        add_special: bool,
    ) -> tokenizers::Result<tokenizers::Encoding> {
        use tokenizers::PostProcessor;
        match (&self.inner.post, second) {
            (Some(post), second) => post.process(first, second, add_special),
            (None, None) => Ok(first),
            (None, Some(mut second)) => {
                let mut first = first;
                first.set_sequence_id(0);
                second.set_sequence_id(1);
                first.merge_with(second, false);
                Ok(first)
            }
        }
    }

    fn guarded_encode<T>(&self, encode: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Error> {
        guarded(&self.inner.path, "encode", encode)
    }
}

/// Runs code of the dependency, which may panic on files that contradict themselves.
fn guarded<T>(path: &Path, action: &'static str, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Tokenize { path: path.to_path_buf(), action, source }),
        Err(panic) => {
            let message = panic_message(&*panic);
            Err(Error::DependencyPanic { path: path.to_path_buf(), action, message })
        }
    }
}

/// What a caught panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_string()
}
