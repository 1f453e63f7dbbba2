//! Training data: files of lines or text become sequences. All is read and checked before anything is trained.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::conversation::{self, Example};
use super::distillation::Prompt;
use super::loss::Sequence;
use crate::error::Error;
use crate::language_model::LanguageModel;

/// The longest line that is read, in bytes.
pub(super) const MAX_LINE: u64 = 4 << 20;
/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 30;
/// Text is split into tokens in blocks of at least so many bytes, which end with a line.
const BLOCK: usize = 1 << 20;

/// Why a conversation cannot be learnt from.
const REWRITTEN: &str = "the chat template writes this prompt differently once it is answered";

/// What is learnt from the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CustomizationType {
    /// Completions of prompts, and what the assistant says in conversations.
    FineTuning,
    /// Text as it is.
    ContinuedPreTraining,
    /// What a teacher says to prompts, and answers that some of them have already.
    Distillation,
    /// Which of two answers to prefer, by Direct Preference Optimization. The service has no such type.
    PreferenceTuning,
    /// Which texts should have vectors that are near each other. The service has no such type.
    EmbeddingTuning,
    /// Labels of texts. The service has no such type.
    ClassifierTuning,
}

/// What becomes of a prompt with its completion, a conversation, or a prompt with two answers, that has more tokens than are allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TooLong {
    /// The job does not start.
    Error,
    /// Its end is cut off; it is left out if nothing that is to be learnt remains.
    #[default]
    Truncate,
    /// It is left out.
    Skip,
}

/// A file, read.
#[derive(Debug)]
pub(super) struct DataSet<T = Vec<Sequence>> {
    /// What a batch is counted in: one example, the chosen and the rejected answer of one, or as many documents as fit into a sequence's
    /// length.
    pub(super) items: Vec<T>,
    pub(super) tokens: u64,
    pub(super) truncated: usize,
    pub(super) skipped: usize,
    /// Of the file, in hexadecimal digits.
    pub(super) sha256: String,
}

/// How files become sequences.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) model: &'a LanguageModel,
    pub(super) kind: CustomizationType,
    /// The most tokens of an item.
    pub(super) limit: usize,
    pub(super) too_long: TooLong,
}

impl Reader<'_> {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::TrainingData`] with the first line that is wrong; [`Error::Read`], [`Error::NotAFile`], [`Error::FileTooLarge`];
    /// those of the tokenizer and of the chat template.
    pub(super) fn read(&self, path: &Path) -> Result<DataSet, Error> {
        let mut file = Lines::open(path)?;
        let mut data = DataSet::default();
        match self.kind {
            CustomizationType::EmbeddingTuning | CustomizationType::ClassifierTuning => {
                unreachable!("encoders have readers of their own")
            }
            // What is validated with is answered already.
            CustomizationType::FineTuning | CustomizationType::Distillation => {
                while let Some(line) = file.next_line()? {
                    let wrong = |reason| wrong(path, line.number, reason);
                    let example = object(line.text).and_then(Example::read).map_err(wrong)?;
                    self.add(&mut data, &example, path, line.number)?;
                }
            }
            CustomizationType::PreferenceTuning => {
                while let Some(line) = file.next_line()? {
                    let wrong = |reason| wrong(path, line.number, reason);
                    let examples = object(line.text).and_then(Example::read_preference).map_err(wrong)?;
                    let mut pair = Vec::with_capacity(examples.len());
                    for example in &examples {
                        let answer = conversation::answer_alone(self.model, example)?;
                        pair.push(answer.ok_or_else(|| wrong(REWRITTEN.into()))?);
                    }
                    data.add(pair, self.limit, self.too_long).map_err(wrong)?;
                }
            }
            CustomizationType::ContinuedPreTraining => {
                let mut pack = Pack { limit: self.limit, items: Vec::new(), room: 0 };
                if path.extension().is_some_and(|end| end == "jsonl" || end == "json") {
                    while let Some(line) = file.next_line()? {
                        let input = object(line.text).and_then(|mut line| match line.remove("input") {
                            Some(Value::String(input)) if !input.trim().is_empty() => Ok(input),
                            Some(Value::String(_)) => Err("input is empty".into()),
                            Some(_) => Err("input is no text".into()),
                            None => Err("there is no input".into()),
                        });
                        pack.add(self.document(&input.map_err(|reason| wrong(path, line.number, reason))?)?);
                    }
                } else {
                    let text = file.rest()?;
                    if !text.trim().is_empty() {
                        pack.add(self.document(&text)?);
                    }
                }
                data.items = pack.items;
                data.tokens = tokens(&data.items);
            }
        }
        data.sha256 = file.sha256();
        data.not_empty(path)
    }

    fn add(&self, data: &mut DataSet, example: &Example, path: &Path, line: usize) -> Result<(), Error> {
        let sequences = conversation::sequences(self.model, example)?;
        for sequence in sequences.ok_or_else(|| wrong(path, line, REWRITTEN))? {
            data.add(vec![sequence], self.limit, self.too_long).map_err(|reason| wrong(path, line, reason))?;
        }
        Ok(())
    }

    /// Prompts with the answers to them. Those of which nothing is an answer are left out.
    ///
    /// # Errors
    /// As [`Reader::read`]: an item may be too long with its answer.
    pub(super) fn answered<'a>(
        &self,
        path: &Path,
        prompts: &[Prompt],
        answer: impl Fn(usize) -> Option<&'a str>,
    ) -> Result<DataSet, Error> {
        let mut data = DataSet::default();
        for (number, Prompt { example, line }) in prompts.iter().enumerate() {
            match answer(number).filter(|answer| !answer.trim().is_empty()) {
                _ if example.is_answered() => self.add(&mut data, example, path, *line)?,
                Some(answer) => self.add(&mut data, &example.answered(answer), path, *line)?,
                None => data.skipped += 1,
            }
        }
        data.not_empty(path)
    }

    /// The tokens of a document, with the end of text.
    fn document(&self, text: &str) -> Result<Vec<u32>, Error> {
        let tokenizer = self.model.tokenizer()?;
        let eos = tokenizer.special_tokens().eos;
        let mut tokens = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.as_bytes().get(BLOCK..).and_then(|later| later.iter().position(|byte| *byte == b'\n'));
            let (block, later) = rest.split_at(end.map_or(rest.len(), |end| BLOCK + end + 1));
            if tokens.last().copied() == eos {
                tokens.pop();
            }
            // What begins a text is put before the first block alone.
            tokens.extend(tokenizer.encode(block, tokens.is_empty())?);
            rest = later;
        }
        if tokens.last().copied() != eos {
            tokens.extend(eos);
        }
        Ok(tokens)
    }
}

/// Reads a file of prompts, and its hash.
///
/// # Errors
/// As [`Reader::read`].
pub(super) fn prompts(path: &Path) -> Result<(Vec<Prompt>, String), Error> {
    let mut file = Lines::open(path)?;
    let mut prompts = Vec::new();
    while let Some(line) = file.next_line()? {
        let example = object(line.text).and_then(Example::read_prompt);
        let example = example.map_err(|reason| wrong(path, line.number, reason))?;
        prompts.push(Prompt { example, line: line.number });
    }
    Ok((prompts, file.sha256()))
}

/// An item that was made of a line.
pub(super) struct Made<T> {
    pub(super) item: T,
    /// Of all its texts.
    pub(super) tokens: usize,
    /// How many were cut off the text that was the longest too long.
    pub(super) truncated: usize,
    /// Whether nothing can be learnt from it.
    pub(super) empty: bool,
}

/// Reads a file whose lines are items. `make` gives an item, or what is wrong with the line.
///
/// # Errors
/// As [`Reader::read`], and those of `make`.
pub(super) fn read_items<T>(
    path: &Path,
    too_long: TooLong,
    mut make: impl FnMut(Map<String, Value>) -> Result<Result<Made<T>, String>, Error>,
) -> Result<DataSet<T>, Error> {
    let mut file = Lines::open(path)?;
    let mut data = DataSet::default();
    while let Some(line) = file.next_line()? {
        let wrong = |reason: String| wrong(path, line.number, reason);
        let Made { item, tokens, truncated, empty } = make(object(line.text).map_err(wrong)?)?.map_err(wrong)?;
        if truncated > 0 && too_long == TooLong::Error {
            return Err(wrong(format!("{truncated} tokens more than maxSequenceLength allows (see tooLong)")));
        }
        if empty || (truncated > 0 && too_long == TooLong::Skip) {
            data.skipped += 1;
            continue;
        }
        data.truncated += usize::from(truncated > 0);
        data.tokens += tokens as u64;
        data.items.push(item);
    }
    data.sha256 = file.sha256();
    data.not_empty(path)
}

impl<T> Default for DataSet<T> {
    fn default() -> Self {
        Self { items: Vec::new(), tokens: 0, truncated: 0, skipped: 0, sha256: String::new() }
    }
}

impl<T> DataSet<T> {
    fn not_empty(self, path: &Path) -> Result<Self, Error> {
        if !self.items.is_empty() {
            return Ok(self);
        }
        Err(Error::TrainingData { path: path.to_path_buf(), line: None, reason: "nothing can be learnt".into() })
    }
}

impl DataSet {
    /// Adds an item, or leaves it out if that is what becomes of too long ones, or nothing remains of it.
    ///
    /// # Errors
    /// That it is too long, where this is one.
    fn add(&mut self, item: Vec<Sequence>, limit: usize, too_long: TooLong) -> Result<(), String> {
        let longest = item.iter().map(|sequence| sequence.tokens().len()).max().unwrap_or(0);
        if longest > limit && too_long == TooLong::Error {
            return Err(format!("{longest} tokens are more than the {limit} of maxSequenceLength (see tooLong)"));
        }
        let item: Vec<Sequence> = item.into_iter().map(|sequence| sequence.cut(limit)).collect();
        // Of a pair that differs where it was cut nothing can be learnt either.
        let alike = item.windows(2).any(|pair| pair[0] == pair[1]);
        let empty = alike || item.iter().any(|sequence| sequence.counted() == 0);
        if (longest > limit && too_long == TooLong::Skip) || empty {
            self.skipped += 1;
            return Ok(());
        }
        self.truncated += usize::from(longest > limit);
        self.tokens += item.iter().map(|sequence| sequence.tokens().len() as u64).sum::<u64>();
        self.items.push(item);
        Ok(())
    }
}

/// Tokens of several items.
fn tokens(items: &[Vec<Sequence>]) -> u64 {
    items.iter().flatten().map(|sequence| sequence.tokens().len() as u64).sum()
}

/// Puts documents into items: pieces of long ones, and short ones together, each a sequence that does not see the others.
struct Pack {
    limit: usize,
    items: Vec<Vec<Sequence>>,
    /// Tokens that the last item can still take.
    room: usize,
}

impl Pack {
    fn add(&mut self, document: Vec<u32>) {
        // A single token has nothing that could be learnt.
        for piece in document.chunks(self.limit.max(2)).filter(|piece| piece.len() > 1) {
            let sequence = Sequence::text(piece.to_vec());
            match self.items.last_mut().filter(|_| piece.len() <= self.room) {
                Some(item) => item.push(sequence),
                None => {
                    self.items.push(vec![sequence]);
                    self.room = self.limit;
                }
            }
            self.room = self.room.saturating_sub(piece.len());
        }
    }
}

fn wrong(path: &Path, line: usize, reason: impl Into<String>) -> Error {
    Error::TrainingData { path: path.to_path_buf(), line: Some(line), reason: reason.into() }
}

fn object(line: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(line).map_err(|error| {
        // The line of the error is that of the file, not of the text that was parsed.
        let text = error.to_string();
        let reason = text.rsplit_once(" at line ").map_or(&*text, |(reason, _)| reason);
        format!("no JSON object: {reason} at column {}", error.column())
    })
}

/// A file that is read line by line, none of them too long, and hashed meanwhile.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<Hashing>,
    number: usize,
    bytes: Vec<u8>,
}

pub(super) struct Line<'a> {
    /// From 1 on.
    pub(super) number: usize,
    pub(super) text: &'a str,
}

struct Hashing {
    file: io::Take<File>,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_path_buf(), source };
        let facts = std::fs::metadata(path).map_err(failed)?;
        if !facts.is_file() {
            return Err(Error::NotAFile { path: path.to_path_buf() });
        }
        if facts.len() > MAX_FILE {
            return Err(Error::FileTooLarge { path: path.to_path_buf(), bytes: facts.len(), limit: MAX_FILE });
        }
        let file = File::open(path).map_err(failed)?.take(MAX_FILE);
        let reader = BufReader::new(Hashing { file, hash: Sha256::new() });
        Ok(Self { path: path.to_path_buf(), reader, number: 0, bytes: Vec::new() })
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Read { path: self.path.clone(), source }
    }

    /// The next line that is not blank.
    pub(super) fn next_line(&mut self) -> Result<Option<Line<'_>>, Error> {
        loop {
            self.number += 1;
            self.bytes.clear();
            let read = self.reader.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut self.bytes);
            let length = read.map_err(|error| self.failed(error))?;
            if length as u64 > MAX_LINE {
                return Err(wrong(&self.path, self.number, format!("the line is longer than {MAX_LINE} bytes")));
            }
            if length == 0 {
                return Ok(None);
            }
            if self.number == 1 && self.bytes.starts_with("\u{feff}".as_bytes()) {
                self.bytes.drain(..3);
            }
            if std::str::from_utf8(&self.bytes).is_err() {
                return Err(wrong(&self.path, self.number, "the line is not UTF-8"));
            }
            if !self.bytes.trim_ascii().is_empty() {
                break;
            }
        }
        let text =
            std::str::from_utf8(&self.bytes).map_err(|_| wrong(&self.path, self.number, "the line is not UTF-8"))?;
        Ok(Some(Line { number: self.number, text }))
    }

    /// All that was not read yet, as it is.
    fn rest(&mut self) -> Result<String, Error> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).map_err(|error| self.failed(error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            wrong(&self.path, line, "the line is not UTF-8")
        })?;
        Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
    }

    /// Of the whole file, once all of it was read.
    fn sha256(self) -> String {
        self.reader.into_inner().hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_packed_and_never_mixed() {
        let mut pack = Pack { limit: 8, items: Vec::new(), room: 0 };
        for (document, length) in [3, 4, 2, 17, 5, 9].into_iter().enumerate() {
            pack.add(vec![document as u32; length]);
        }
        let lengths: Vec<Vec<usize>> =
            pack.items.iter().map(|item| item.iter().map(|sequence| sequence.tokens().len()).collect()).collect();
        // 17 is 8 + 8 + 1, of which the last has nothing to be learnt; so is the last token of the 9.
        assert_eq!(lengths, [vec![3, 4], vec![2], vec![8], vec![8], vec![5], vec![8]]);
        for sequence in pack.items.iter().flatten() {
            assert!(sequence.tokens().iter().all(|token| *token == sequence.tokens()[0]));
        }
    }

    #[test]
    fn json_errors_name_the_column() {
        assert!(object("{\"a\": 1,}").unwrap_err().contains("column 9"));
        assert!(object("[1]").unwrap_err().starts_with("no JSON object"));
    }
}
