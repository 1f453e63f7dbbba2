//! How byte-level vocabularies cut text before merging, by the name that GGUF files give in `tokenizer.ggml.pre`.
//!
//! The expressions are facts of the published `tokenizer.json` files; names and groups are those of llama.cpp
//! (`src/llama-vocab.cpp` @ 00ad355e). What matters is that they are applied one after the other, each to the pieces that the
//! ones before left, and that what an expression does not match is a piece too.

use tokenizers::normalizers::{NFC, NormalizerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PreTokenizer {
    /// Expressions in order.
    pub(super) splits: &'static [&'static str],
    /// A piece that is a token is not put together from merges.
    pub(super) ignore_merges: bool,
    /// Whether begin-of-text is added if the file does not say.
    pub(super) add_bos: bool,
    /// A separator follows the text, and two stand between a pair (RoBERTa).
    pub(super) add_sep: bool,
    /// The model was trained on composed Unicode. llama.cpp leaves this step out; transformers has it.
    nfc: bool,
}

pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub(super) const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// Cased letters of Unicode 11, as a list. Escaped: some of them are canonically equal to others.
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]+";
const CJK: &str = r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

const PLAIN: PreTokenizer =
    PreTokenizer { splits: &[GPT2], ignore_merges: false, add_bos: false, add_sep: false, nfc: false };

impl PreTokenizer {
    /// The pre-tokenizer of a name, `None` if there is no such name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let splits = |splits| Self { splits, ..PLAIN };
        Some(match name {
            "default" => splits(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
            "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "jina-v2-es" | "jina-v2-de" | "gigachat" | "a.x-4.0"
            | "mellum" | "modern-bert" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" | "exaone4" => PLAIN,
            "jina-v1-en" | "jina-v2-code" | "roberta-bpe" => Self { add_sep: true, ..PLAIN },
            "smollm" | "starcoder" | "refact" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
                splits(&[DIGIT, GPT2])
            }
            "command-r" => Self { nfc: true, ..splits(&[DIGIT, GPT2]) },
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" => {
                Self { ignore_merges: true, add_bos: true, ..splits(&[LLAMA3]) }
            }
            "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => splits(&[LLAMA3]),
            "qwen2" | "deepseek-r1-qwen" | "megrez" => Self { nfc: true, ..splits(&[QWEN2]) },
            "stablelm2" | "hunyuan" | "grok-2" | "solar-open" | "kormo" => splits(&[QWEN2]),
            "qwen35" => Self { nfc: true, ..splits(&[QWEN35]) },
            "gpt-4o" | "llama4" | "minimax-m2" => splits(&[GPT4O]),
            "tekken" => Self { ignore_merges: true, add_bos: true, ..splits(&[TEKKEN]) },
            "deepseek-llm" => splits(&[
                r"[\r\n]",
                DEEPSEEK_LETTERS,
                r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+",
                r"\s+$",
                CJK,
                r"\p{N}+",
            ]),
            "deepseek-coder" => splits(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, DIGIT]),
            "deepseek-v3" | "hunyuan-dense" => {
                splits(&[r"\p{N}{1,3}", r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+", DEEPSEEK3])
            }
            "falcon" => splits(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
            "poro-chat" | "bloom" | "gpt3-finnish" => splits(&[BLOOM]),
            "viking" => splits(&[BLOOM, DIGIT]),
            "bailingmoe" | "bailingmoe2" | "llada-moe" => splits(&[
                r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
            ]),
            "seed-coder" => splits(&[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
            ]),
            _ => return None,
        })
    }

    /// A name, known to llama.cpp too, of the pre-tokenizer with these expressions.
    pub(super) fn like(splits: &[&str], ignore_merges: bool, nfc: bool) -> Option<&'static str> {
        const NAMES: [&str; 14] = [
            "gpt-2",
            "smollm",
            "llama-bpe",
            "smaug-bpe",
            "qwen2",
            "stablelm2",
            "gpt-4o",
            "tekken",
            "command-r",
            "deepseek-llm",
            "deepseek-coder",
            "deepseek-v3",
            "falcon",
            "viking",
        ];
        let is_like = |name: &&str| {
            let is_it = |pre: Self| pre.splits == splits && pre.ignore_merges == ignore_merges && pre.nfc == nfc;
            Self::named(name).is_some_and(is_it)
        };
        NAMES.into_iter().find(|name| is_like(name))
    }

    pub(super) fn normalizer(&self) -> Option<NormalizerWrapper> {
        self.nfc.then(|| NFC.into())
    }

    /// The steps, ending with the change of bytes into the vocabulary's characters.
    pub(super) fn steps(&self) -> tokenizers::Result<PreTokenizerWrapper> {
        let mut steps = Vec::with_capacity(self.splits.len() + 1);
        for &expression in self.splits {
            let pattern = SplitPattern::Regex(expression.into());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(steps).into())
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::PreTokenizerWrapper;
    use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    fn pieces(name: &str, text: &str) -> Vec<String> {
        let steps: PreTokenizerWrapper = PreTokenizer::named(name).unwrap().steps().unwrap();
        let mut pieces = PreTokenizedString::from(text);
        steps.pre_tokenize(&mut pieces).unwrap();
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (start, end), _)| text[start..end].to_string()).collect()
    }

    #[test]
    fn every_expression_compiles() {
        for name in [
            "default",
            "gpt-2",
            "roberta-bpe",
            "smollm",
            "command-r",
            "llama-bpe",
            "glm4",
            "qwen2",
            "stablelm2",
            "qwen35",
            "gpt-4o",
            "tekken",
            "deepseek-llm",
            "deepseek-coder",
            "deepseek-v3",
            "falcon",
            "bloom",
            "viking",
            "bailingmoe",
            "seed-coder",
        ] {
            assert_eq!(pieces(name, " Ab1 \n天é").concat(), " Ab1 \n天é", "{name}");
        }
        assert!(PreTokenizer::named("llama-5").is_none());
    }

    #[test]
    fn a_name_is_found_by_what_it_does() {
        assert_eq!(PreTokenizer::like(&[GPT2], false, false), Some("gpt-2"));
        assert_eq!(PreTokenizer::like(&[DIGIT, GPT2], false, false), Some("smollm"));
        assert_eq!(PreTokenizer::like(&[DIGIT, GPT2], false, true), Some("command-r"));
        assert_eq!(PreTokenizer::like(&[LLAMA3], true, false), Some("llama-bpe"));
        assert_eq!(PreTokenizer::like(&[LLAMA3], false, false), Some("smaug-bpe"));
        assert_eq!(PreTokenizer::like(&[GPT2, DIGIT], false, false), None);
    }

    #[test]
    fn digits_are_grouped_as_each_family_does() {
        let text = "a 12345";
        assert_eq!(pieces("gpt-2", text), ["a", " 12345"]);
        assert_eq!(pieces("smollm", text), ["a", " ", "1", "2", "3", "4", "5"]);
        assert_eq!(pieces("llama-bpe", text), ["a", " ", "123", "45"]);
        assert_eq!(pieces("qwen2", text), ["a", " ", "1", "2", "3", "4", "5"]);
        assert_eq!(pieces("deepseek-v3", text), ["a", " ", "123", "45"]);
        assert_eq!(pieces("falcon", text), ["a", " ", "123", "45"]);
    }

    #[test]
    fn contractions_and_cases_are_cut_as_each_family_does() {
        assert_eq!(pieces("gpt-2", "I'LL he'll"), ["I", "'", "LL", " he", "'ll"]);
        assert_eq!(pieces("llama-bpe", "I'LL he'll"), ["I", "'LL", " he", "'ll"]);
        assert_eq!(pieces("tekken", "fooBar"), ["foo", "Bar"]);
        assert_eq!(pieces("gpt-4o", "fooBar's"), ["foo", "Bar's"]);
    }
}
