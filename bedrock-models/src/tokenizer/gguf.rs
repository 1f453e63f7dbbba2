//! Tokenizers rebuilt from the metadata of GGUF files.
//!
//! A GGUF file has the tokens, their kinds, scores or merges, and the name of the algorithm. What it lacks of a
//! `tokenizer.json` is filled in here as the conversion scripts took it out. The reference for all of it is llama.cpp
//! (`src/llama-vocab.cpp` @ 00ad355e), except where that is simpler than the model's own tokenizer: Unicode
//! composition for families trained on it (see [`super::pre`]) and the pieces of WordPiece words.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::precompiled::Precompiled;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence as NormalizerSequence;
use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer as Assembled};

use super::added;
use super::folder::{surround, template};
use super::pre::PreTokenizer;
use super::{SpecialTokens, Tokenizer, guarded};
use crate::error::Error;
use crate::weights::{Array, Metadata, Value};

pub(super) const MODEL: &str = "tokenizer.ggml.model";
pub(super) const PRE: &str = "tokenizer.ggml.pre";
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(super) const TYPES: &str = "tokenizer.ggml.token_type";
pub(super) const SCORES: &str = "tokenizer.ggml.scores";
pub(super) const MERGES: &str = "tokenizer.ggml.merges";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// SentencePiece's visible space.
pub(super) const SPACE: char = '\u{2581}';

/// Tokens that end a turn or a message whatever the file says, because many files say nothing.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
];

/// What kind of entry a token is: GGUF's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn of(number: i32) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    pub(super) fn number(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }
}

impl Tokenizer {
    /// Rebuilds the tokenizer that a GGUF file describes.
    ///
    /// Known models: `gpt2` (byte-level BPE, with the pre-tokenizer that `tokenizer.ggml.pre` names), `llama`
    /// (SentencePiece BPE with scores), `t5` (unigram) and `bert` (WordPiece). The end-of-generation set is the end tokens
    /// that the file names and tokens with well-known texts such as `<|im_end|>`.
    ///
    /// # Errors
    /// [`Error::UnknownTokenizer`] for other models and pre-tokenizers, [`Error::MissingMetadata`],
    /// [`Error::MetadataType`] and [`Error::MetadataValue`] for files that contradict themselves.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, Error> {
        let vocabulary = Vocabulary::read(metadata)?;
        let parts = match vocabulary.model {
            "gpt2" => vocabulary.byte_level()?,
            "llama" => vocabulary.sentencepiece()?,
            "t5" => vocabulary.unigram()?,
            "bert" => vocabulary.wordpiece()?,
            name => return Err(unknown(metadata, MODEL, name)),
        };
        let special = parts.special;
        let path = metadata.path();
        let mut assembled = Assembled::new(parts.model);
        assembled.with_normalizer(parts.normalizer);
        assembled.with_pre_tokenizer(parts.pre_tokenizer);
        assembled.with_decoder(Some(parts.decoder));
        assembled.with_post_processor(Some(parts.post));
        let added = vocabulary.added_tokens();
        added::check(added.iter().map(|token| token.content.as_str()), path)?;
        guarded(path, "prepare", || {
            assembled.add_tokens(&added);
            Ok(())
        })?;
        Self::assemble(assembled, special, path.to_path_buf())
    }
}

/// What an algorithm is made of.
struct Parts {
    model: ModelWrapper,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: DecoderWrapper,
    post: TemplateProcessing,
    special: SpecialTokens,
}

/// The checked lists of a file.
struct Vocabulary<'a> {
    metadata: &'a Metadata,
    model: &'a str,
    /// Texts as the tokenizer crate wants them; all different.
    texts: Vec<String>,
    kinds: Vec<Kind>,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &'a Metadata) -> Result<Self, Error> {
        let model: &str = metadata.required(MODEL)?;
        let tokens: &[String] = metadata.required(TOKENS)?;
        let kinds = match metadata.optional::<Vec<i32>>(TYPES)? {
            None => vec![Kind::Normal; tokens.len()],
            Some(types) if types.len() < tokens.len() => {
                let reason = format!("{} entries for {} tokens", types.len(), tokens.len());
                return Err(wrong(metadata, TYPES, reason));
            }
            Some(types) => types.into_iter().take(tokens.len()).map(Kind::of).collect(),
        };
        let texts = tokens.iter().zip(&kinds).enumerate().map(|(id, (token, &kind))| match token.as_str() {
            "" => format!("[EMPTY_{id}]"),
            token if model == "bert" => plain_wordpiece(token, kind),
            token => token.to_string(),
        });
        let vocabulary = Self { metadata, model, texts: texts.collect(), kinds };
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(vocabulary.texts.len());
        for (id, text) in vocabulary.texts.iter().enumerate() {
            if let Some(other) = seen.insert(text, id) {
                return Err(wrong(metadata, TOKENS, format!("tokens {other} and {id} are both {text:?}")));
            }
        }
        if vocabulary.texts.is_empty() {
            return Err(wrong(metadata, TOKENS, "no tokens".into()));
        }
        Ok(vocabulary)
    }

    fn ids(&self) -> Vocab {
        self.texts.iter().enumerate().map(|(id, text)| (text.clone(), id as u32)).collect()
    }

    /// The scores, one a token.
    fn scores(&self) -> Result<Vec<f32>, Error> {
        let scores = match self.metadata.get(SCORES) {
            Some(Value::Array(Array::I32(scores))) => scores.iter().map(|&score| score as f32).collect(),
            _ => self.metadata.required::<Vec<f32>>(SCORES)?,
        };
        if scores.len() < self.texts.len() {
            let reason = format!("{} entries for {} tokens", scores.len(), self.texts.len());
            return Err(wrong(self.metadata, SCORES, reason));
        }
        match scores.iter().position(|score| score.is_nan()) {
            Some(id) => Err(wrong(self.metadata, SCORES, format!("the score of token {id} is not a number"))),
            None => Ok(scores),
        }
    }

    /// Tokens that are recognised in a text as they are.
    fn added_tokens(&self) -> Vec<AddedToken> {
        // Phi-3's special tokens swallow the white space after them; its files have no word for that.
        let name = self.metadata.optional::<&str>("general.name").ok().flatten().unwrap_or_default().to_lowercase();
        let swallows = self.model == "llama" && (name.contains("phi-3") || name.contains("phi3"));
        let mut added = Vec::new();
        for (text, &kind) in self.texts.iter().zip(&self.kinds) {
            let special = match kind {
                Kind::Control | Kind::Unknown => true,
                Kind::UserDefined => END_TEXTS.contains(&text.as_str()),
                Kind::Normal | Kind::Unused | Kind::Byte => continue,
            };
            let rstrip = swallows && !matches!(text.as_str(), "<unk>" | "<s>" | "<|endoftext|>");
            added.push(AddedToken::from(text.as_str(), special).normalized(false).rstrip(rstrip));
        }
        added
    }

    /// The roles that the file names, with llama.cpp's defaults for what it does not name.
    fn special(&self, defaults: SpecialTokens) -> Result<SpecialTokens, Error> {
        let id = |role: &str, default: Option<u32>| -> Result<Option<u32>, Error> {
            let key = format!("tokenizer.ggml.{role}_token_id");
            let in_range = |&id: &u32| (id as usize) < self.texts.len();
            match self.metadata.optional::<i64>(&key)? {
                // Some writers have -1 for "none".
                Some(-1) => Ok(None),
                Some(id) => match u32::try_from(id).ok().filter(in_range) {
                    Some(id) => Ok(Some(id)),
                    None => Err(wrong(self.metadata, &key, format!("{id} of {} tokens", self.texts.len()))),
                },
                None => Ok(default.filter(in_range)),
            }
        };
        let flag = |name: &str, default: bool| -> Result<bool, Error> {
            let key = format!("tokenizer.ggml.add_{name}_token");
            Ok(self.metadata.optional::<bool>(&key)?.unwrap_or(default))
        };
        let mut special = SpecialTokens {
            bos: id("bos", defaults.bos)?,
            eos: id("eos", defaults.eos)?,
            unk: id("unknown", defaults.unk)?,
            pad: id("padding", defaults.pad)?,
            // The key is written like this.
            sep: id("seperator", defaults.sep)?,
            cls: id("cls", defaults.cls)?,
            mask: id("mask", defaults.mask)?,
            add_bos: flag("bos", defaults.add_bos)?,
            add_eos: flag("eos", defaults.add_eos)?,
            ends: Vec::new(),
        };
        for (add, token, role) in [(special.add_bos, special.bos, "bos"), (special.add_eos, special.eos, "eos")] {
            if add && token.is_none() {
                let key = format!("tokenizer.ggml.add_{role}_token");
                return Err(wrong(self.metadata, &key, format!("is true, but there is no {role}_token_id")));
            }
        }
        for id in [special.eos, id("eot", None)?, id("eom", None)?].into_iter().flatten() {
            special.insert_end(id);
        }
        for (id, text) in self.texts.iter().enumerate() {
            if self.kinds[id] != Kind::Normal && END_TEXTS.contains(&text.as_str()) {
                special.insert_end(id as u32);
            }
        }
        // In the harmony format `<|end|>` ends a message, after which the same generation goes on.
        let has = |text: &str| special.ends.iter().any(|&id| self.texts[id as usize] == text);
        if has("<|return|>") && has("<|call|>") {
            special.ends.retain(|&id| self.texts[id as usize] != "<|end|>");
        }
        Ok(special)
    }

    /// Byte-level BPE.
    fn byte_level(&self) -> Result<Parts, Error> {
        let name = self.metadata.optional::<&str>(PRE)?.unwrap_or("default");
        let pre = PreTokenizer::named(name).ok_or_else(|| unknown(self.metadata, PRE, name))?;
        let special = self.special(SpecialTokens {
            bos: Some(11),
            eos: Some(11),
            add_bos: pre.add_bos,
            ..SpecialTokens::default()
        })?;
        let lines: &[String] = self.metadata.required(MERGES)?;
        let mut merges = Vec::with_capacity(lines.len());
        for (rank, line) in lines.iter().enumerate() {
            // A token may begin with a space, so the first character is never the separator.
            let first = line.chars().next().map_or(0, char::len_utf8);
            match line[first..].split_once(' ') {
                Some((left, right)) => merges.push((line[..first + left.len()].to_string(), right.to_string())),
                None => return Err(wrong(self.metadata, MERGES, format!("merge {rank} is {line:?}, not two tokens"))),
            }
        }
        let builder = BPE::builder().vocab_and_merges(self.ids(), merges).ignore_merges(pre.ignore_merges);
        let model = builder.build().map_err(|error| wrong(self.metadata, MERGES, error.to_string()))?;
        let steps = pre.steps().map_err(|error| wrong(self.metadata, PRE, error.to_string()))?;
        let post = match (pre.add_sep, special.bos, special.sep.or(special.eos)) {
            (true, Some(bos), Some(sep)) => self.around_pairs(bos, sep, true)?,
            _ => self.around(&special)?,
        };
        Ok(Parts {
            model: model.into(),
            normalizer: pre.normalizer(),
            pre_tokenizer: Some(steps),
            decoder: ByteLevel::default().into(),
            post,
            special,
        })
    }

    /// SentencePiece BPE: merges are not stored, but follow from the scores.
    fn sentencepiece(&self) -> Result<Parts, Error> {
        let special = self.special(SpecialTokens {
            bos: Some(1),
            eos: Some(2),
            unk: Some(0),
            add_bos: true,
            ..SpecialTokens::default()
        })?;
        let prefix = self.metadata.optional::<bool>("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let merges = merges_by_score(&self.texts, &self.scores()?, &self.kinds);
        let mut builder = BPE::builder().vocab_and_merges(self.ids(), merges).byte_fallback(true).fuse_unk(true);
        if let Some(unk) = special.unk {
            builder = builder.unk_token(self.texts[unk as usize].clone());
        }
        let model = builder.build().map_err(|error| wrong(self.metadata, SCORES, error.to_string()))?;
        let visible = SPACE.to_string();
        let failed = |error: tokenizers::Error| wrong(self.metadata, MODEL, error.to_string());
        let to_visible: NormalizerWrapper = Replace::new(" ", visible.clone()).map_err(failed)?.into();
        let normalizer = match prefix {
            true => NormalizerSequence::new(vec![Prepend::new(visible.clone()).into(), to_visible]).into(),
            false => to_visible,
        };
        let mut decoders: Vec<DecoderWrapper> = vec![
            Replace::new(visible, " ").map_err(failed)?.into(),
            ByteFallback::default().into(),
            Fuse::default().into(),
        ];
        if prefix {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        let post = self.around(&special)?;
        Ok(Parts {
            model: model.into(),
            normalizer: Some(normalizer),
            pre_tokenizer: None,
            decoder: DecoderSequence::new(decoders).into(),
            post,
            special,
        })
    }

    /// SentencePiece unigram.
    fn unigram(&self) -> Result<Parts, Error> {
        let special = self.special(SpecialTokens {
            eos: Some(1),
            unk: Some(2),
            pad: Some(0),
            add_eos: true,
            ..SpecialTokens::default()
        })?;
        let scores = self.scores()?;
        let pieces = self.texts.iter().zip(scores).map(|(text, score)| (text.clone(), f64::from(score))).collect();
        let bytes = self.kinds.contains(&Kind::Byte);
        let unk = special.unk.map(|unk| unk as usize);
        let model = guarded(self.metadata.path(), "prepare", || {
            Unigram::from(pieces, unk, bytes).map_err(|error| error.to_string().into())
        })?;
        let normalizer = match self.metadata.get(CHARSMAP) {
            None => None,
            Some(Value::Array(Array::U8(map))) => Some(self.precompiled(map)?),
            Some(Value::Array(Array::I8(map))) => {
                Some(self.precompiled(&map.iter().map(|&byte| byte as u8).collect::<Vec<_>>())?)
            }
            Some(_) => return Err(wrong(self.metadata, CHARSMAP, "not an array of bytes".into())),
        };
        let prefix = self.metadata.optional::<bool>("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let collapse = self.metadata.optional::<bool>("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(true);
        let scheme = if prefix { PrependScheme::Always } else { PrependScheme::Never };
        let spaces = Metaspace::new(SPACE, scheme, true);
        let pre_tokenizer = match collapse {
            true => PreTokenizerSequence::new(vec![WhitespaceSplit.into(), spaces.clone().into()]).into(),
            false => spaces.clone().into(),
        };
        let post = match (special.add_bos, special.bos, special.eos) {
            // An encoder of RoBERTa's kind.
            (true, Some(bos), Some(eos)) if special.add_eos => self.around_pairs(bos, eos, true)?,
            _ => {
                let eos = special.eos.filter(|_| special.add_eos);
                let end = if eos.is_some() { " eos:0" } else { "" };
                self.template(&format!("$A:0{end}"), &format!("$A:0{end} $B:0{end}"), &[("eos", eos)])?
            }
        };
        Ok(Parts {
            model: model.into(),
            normalizer,
            pre_tokenizer: Some(pre_tokenizer),
            decoder: spaces.into(),
            post,
            special,
        })
    }

    fn precompiled(&self, map: &[u8]) -> Result<NormalizerWrapper, Error> {
        let precompiled = guarded(self.metadata.path(), "prepare", || {
            Precompiled::from(map).map_err(|error| error.to_string().into())
        });
        precompiled.map(Into::into).map_err(|error| {
            let reason = std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
            wrong(self.metadata, CHARSMAP, reason)
        })
    }

    /// WordPiece.
    fn wordpiece(&self) -> Result<Parts, Error> {
        let mut special = self.special(SpecialTokens {
            bos: Some(101),
            unk: Some(100),
            sep: Some(102),
            pad: Some(0),
            mask: Some(103),
            add_bos: true,
            ..SpecialTokens::default()
        })?;
        let lowercase = self.metadata.optional::<bool>("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let accents = self.metadata.optional::<bool>("tokenizer.ggml.normalizer.strip_accents")?;
        special.cls = special.cls.or(special.bos);
        let (Some(cls), Some(sep), Some(unk)) = (special.cls, special.sep, special.unk) else {
            return Err(wrong(self.metadata, TOKENS, "no tokens for begin, separator or unknown".into()));
        };
        let model = WordPiece::builder()
            .vocab(self.ids())
            .unk_token(self.texts[unk as usize].clone())
            .continuing_subword_prefix("##".into())
            .build()
            .map_err(|error| wrong(self.metadata, TOKENS, error.to_string()))?;
        Ok(Parts {
            model: model.into(),
            normalizer: Some(BertNormalizer::new(true, true, accents, lowercase).into()),
            pre_tokenizer: Some(BertPreTokenizer.into()),
            decoder: WordPieceDecoder::new("##".into(), true).into(),
            post: self.around_pairs(cls, sep, false)?,
            special,
        })
    }

    /// Begin- and end-of-text around each text, as the flags say.
    fn around(&self, special: &SpecialTokens) -> Result<TemplateProcessing, Error> {
        surround(special.bos.filter(|_| special.add_bos), special.eos.filter(|_| special.add_eos))
            .map_err(|reason| wrong(self.metadata, MODEL, reason))
    }

    /// BERT's `[CLS] A [SEP] B [SEP]` with segment 1 for the second text, or RoBERTa's `<s> A </s></s> B </s>` without.
    fn around_pairs(&self, cls: u32, sep: u32, roberta: bool) -> Result<TemplateProcessing, Error> {
        let pair = if roberta { "cls:0 $A:0 sep:0 sep:0 $B:0 sep:0" } else { "cls:0 $A:0 sep:0 $B:1 sep:1" };
        self.template("cls:0 $A:0 sep:0", pair, &[("cls", Some(cls)), ("sep", Some(sep))])
    }

    fn template(&self, single: &str, pair: &str, tokens: &[(&str, Option<u32>)]) -> Result<TemplateProcessing, Error> {
        template(single, pair, tokens).map_err(|reason| wrong(self.metadata, MODEL, reason))
    }
}

/// Undoes the change of WordPiece tokens to phantom spaces: `▁word` starts a word, `ing` continues one. Control tokens
/// and those in square brackets were left alone.
fn plain_wordpiece(token: &str, kind: Kind) -> String {
    match token.strip_prefix(SPACE) {
        Some(word) if !word.is_empty() => word.to_string(),
        _ if kind != Kind::Normal || token.starts_with('[') && token.ends_with(']') => token.to_string(),
        _ => format!("##{token}"),
    }
}

/// Merges for pieces with scores: every cut of a piece into two pieces, those of the best piece first.
///
/// Of equally good pieces, that with the longer left part goes first, then that with the longer right part, as in
/// transformers' conversion of SentencePiece files.
pub(super) fn merges_by_score(texts: &[String], scores: &[f32], kinds: &[Kind]) -> Vec<(String, String)> {
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(texts.len());
    for (id, text) in texts.iter().enumerate() {
        if matches!(kinds[id], Kind::Normal | Kind::UserDefined | Kind::Unused)
            && let Entry::Vacant(entry) = ids.entry(text)
        {
            entry.insert(id as u32);
        }
    }
    // Piece, and the byte at which it is cut.
    let mut cuts: Vec<(u32, usize)> = Vec::new();
    for (id, text) in texts.iter().enumerate() {
        if !matches!(kinds[id], Kind::Normal | Kind::Unused) {
            continue;
        }
        let places = text.char_indices().skip(1).map(|(place, _)| place);
        let mut here: Vec<(u32, u32, usize)> =
            places.filter_map(|place| Some((*ids.get(&text[..place])?, *ids.get(&text[place..])?, place))).collect();
        here.sort_unstable();
        cuts.extend(here.into_iter().map(|(_, _, place)| (id as u32, place)));
    }
    let chars = |text: &str| text.chars().count();
    cuts.sort_by_cached_key(|&(id, place)| {
        let text = &texts[id as usize];
        let score = Descending(scores[id as usize]);
        (score, std::cmp::Reverse(chars(&text[..place])), std::cmp::Reverse(chars(&text[place..])))
    });
    cuts.into_iter()
        .map(|(id, place)| {
            let (left, right) = texts[id as usize].split_at(place);
            (left.to_string(), right.to_string())
        })
        .collect()
}

/// A score that sorts from large to small.
#[derive(Debug, Clone, Copy)]
struct Descending(f32);

impl Ord for Descending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.total_cmp(&self.0)
    }
}

impl PartialOrd for Descending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Descending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Descending {}

fn wrong(metadata: &Metadata, key: &str, reason: String) -> Error {
    Error::MetadataValue { path: metadata.path().to_path_buf(), key: key.to_string(), reason }
}

fn unknown(metadata: &Metadata, key: &str, name: &str) -> Error {
    Error::UnknownTokenizer { path: metadata.path().to_path_buf(), key: key.to_string(), name: name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phantom_spaces_are_undone() {
        assert_eq!(plain_wordpiece("▁the", Kind::Normal), "the");
        assert_eq!(plain_wordpiece("ing", Kind::Normal), "##ing");
        assert_eq!(plain_wordpiece("▁[", Kind::Normal), "[");
        assert_eq!(plain_wordpiece("[unused7]", Kind::Normal), "[unused7]");
        assert_eq!(plain_wordpiece("<s>", Kind::Control), "<s>");
    }

    #[test]
    fn merges_follow_the_scores() {
        let texts: Vec<String> = ["a", "b", "c", "ab", "bc", "abc"].map(String::from).to_vec();
        let scores = [-4.0, -5.0, -6.0, -2.0, -1.0, -3.0];
        let merges = merges_by_score(&texts, &scores, &[Kind::Normal; 6]);
        let merges: Vec<(&str, &str)> = merges.iter().map(|(left, right)| (left.as_str(), right.as_str())).collect();
        assert_eq!(merges, [("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc")]);
    }

    fn metadata(model: &str) -> Metadata {
        let mut metadata = Metadata::new("m.gguf");
        metadata.insert(MODEL, Value::String(model.into()));
        let tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab"].map(String::from).to_vec();
        metadata.insert(TOKENS, Value::Array(Array::String(tokens)));
        metadata.insert(TYPES, Value::Array(Array::I32(vec![2, 3, 3, 1, 1, 1])));
        metadata.insert(SCORES, Value::Array(Array::F32(vec![0.0, 0.0, 0.0, -1.0, -2.0, -3.0])));
        metadata.insert(MERGES, Value::Array(Array::String(vec!["a b".into()])));
        metadata
    }

    fn error(metadata: &Metadata) -> String {
        Tokenizer::from_gguf(metadata).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        assert_eq!(error(&metadata("rwkv")), r#"m.gguf: tokenizer.ggml.model is "rwkv", which is not supported"#);
        let mut unknown = metadata("gpt2");
        unknown.insert(PRE, Value::String("future".into()));
        assert_eq!(error(&unknown), r#"m.gguf: tokenizer.ggml.pre is "future", which is not supported"#);
    }

    #[test]
    fn lies_are_errors() {
        let with = |model: &str, key: &str, value: Value| {
            let mut metadata = metadata(model);
            metadata.insert(key, value);
            error(&metadata)
        };
        let strings = |list: &[&str]| Value::Array(Array::String(list.iter().map(|text| text.to_string()).collect()));
        assert_eq!(error(&Metadata::new("m.gguf")), "m.gguf has no metadata key tokenizer.ggml.model");
        assert_eq!(
            with("llama", TYPES, Value::Array(Array::I32(vec![1]))),
            "m.gguf: metadata key tokenizer.ggml.token_type: 1 entries for 6 tokens"
        );
        assert_eq!(
            with("llama", TOKENS, strings(&["a", "a"])),
            "m.gguf: metadata key tokenizer.ggml.tokens: tokens 0 and 1 are both \"a\""
        );
        assert_eq!(
            with("llama", "tokenizer.ggml.bos_token_id", Value::U32(6)),
            "m.gguf: metadata key tokenizer.ggml.bos_token_id: 6 of 6 tokens"
        );
        assert_eq!(
            with("llama", SCORES, Value::Array(Array::F32(vec![f32::NAN; 6]))),
            "m.gguf: metadata key tokenizer.ggml.scores: the score of token 0 is not a number"
        );
        assert!(with("gpt2", MERGES, strings(&["ab"])).ends_with("merge 0 is \"ab\", not two tokens"));
        assert!(with("gpt2", MERGES, strings(&["", "é"])).contains("merge 0 is \"\""));
        assert!(with("gpt2", MERGES, strings(&["a c"])).contains("tokenizer.ggml.merges"));
        assert!(with("gpt2", "tokenizer.ggml.add_bos_token", Value::Bool(true)).contains("no bos_token_id"));
        for length in [0, 3, 4, 9, 40] {
            let map = Value::Array(Array::U8(vec![0xff; length]));
            let mut metadata = metadata("t5");
            metadata.insert(CHARSMAP, map);
            // A map that parses but leads nowhere may only fail when it is used.
            if let Ok(tokenizer) = Tokenizer::from_gguf(&metadata) {
                let _ = tokenizer.encode("aé", true);
            }
        }
    }

    #[test]
    fn ends_are_gathered_from_ids_and_texts() {
        let mut metadata = metadata("llama");
        let tokens = ["<unk>", "<s>", "</s>", "<|im_end|>", "<|eot_id|>", "<|end|>"].map(String::from).to_vec();
        metadata.insert(TOKENS, Value::Array(Array::String(tokens)));
        metadata.insert(TYPES, Value::Array(Array::I32(vec![2, 3, 3, 4, 3, 1])));
        metadata.insert("tokenizer.ggml.eos_token_id", Value::U32(2));
        let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
        assert_eq!(tokenizer.special_tokens().ends, [2, 3, 4], "a normal token is no end, whatever its text");
        assert!(tokenizer.is_special(3) && !tokenizer.is_special(5));
    }
}
