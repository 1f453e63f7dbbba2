//! A larger model as a teacher: it answers the prompts, and what it says is learnt.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bedrock_core::{ChatModel, Retried, Sealer};
use futures::executor::block_on;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::conversation::Example;
use super::data::{Lines, MAX_LINE};
use super::event::{JobEvent, Stop};
use super::stored;
use crate::error::Error;
use crate::sealed::{Log, sealed_form};

/// The file of answers in a job's folder.
pub(super) const FILE: &str = "responses.jsonl";
/// How often a teacher is asked that fails in a way that may pass, and the longest wait in between.
const ATTEMPTS: u32 = 4;
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The model that answers the prompts of a distillation, local or remote.
#[derive(Clone)]
pub struct Teacher {
    model: Arc<dyn ChatModel>,
    at_once: usize,
}

impl fmt::Debug for Teacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teacher").field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

impl Teacher {
    /// A teacher that is asked four prompts at once.
    pub fn new(model: Arc<dyn ChatModel>) -> Self {
        Self { model, at_once: 4 }
    }

    /// How many prompts it is asked at once, at least one.
    pub fn at_once(mut self, prompts: usize) -> Self {
        self.at_once = prompts.max(1);
        self
    }
}

/// A prompt, or, with an answer already, what is learnt as it is.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) example: Example,
    /// Where it is in the file.
    pub(super) line: usize,
}

/// What the answers are of: what has to be the same for them to be used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Questions {
    /// Hash of the file of prompts.
    pub(super) prompts: String,
    pub(super) teacher: String,
    pub(super) max_response_length: u32,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// Number of the prompt, from 0 on.
    prompt: usize,
    response: String,
}

/// The answers to prompts, kept in a file as they come.
pub(super) struct Answers {
    path: PathBuf,
    file: Kept,
    known: BTreeMap<usize, String>,
}

/// The file of answers: lines, or sealed, each line an entry.
#[derive(Debug)]
enum Kept {
    Lines(File),
    Sealed(Log),
}

impl Answers {
    /// Opens the file of a job's folder, sealed if there is a sealer, made anew unless `resume`.
    ///
    /// # Errors
    /// [`Error::OtherJob`] for answers to other questions, [`Error::Malformed`] for what is no such file; [`Error::SealMismatch`] for one that is sealed, without
    /// a sealer, or the other way round; [`Error::Seal`], [`Error::Read`], [`Error::Write`].
    pub(super) fn open(
        (folder, sealer): (&Path, Option<&Arc<dyn Sealer>>),
        questions: &Questions,
        prompts: usize,
        resume: bool,
    ) -> Result<Self, Error> {
        let plain = folder.join(FILE);
        let sealed = sealed_form(&plain);
        let (path, other) = if sealer.is_some() { (sealed, plain) } else { (plain, sealed) };
        let failed = |source| Error::Write { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        if resume && other.exists() {
            return Err(Error::SealMismatch { path: other, sealed: sealer.is_none() });
        }
        stored::remove(&other)?;
        let mut read = Reading { path: &path, questions, prompts, is_begun: false, known: BTreeMap::new() };
        let file = match sealer {
            Some(sealer) => {
                let mut number = 0;
                Kept::Sealed(Log::open(&path, sealer.clone(), !resume, |line| {
                    number += 1;
                    read.line(number, line)
                })?)
            }
            None => {
                let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
                let length = if resume { whole_lines(&mut file).map_err(failed)? } else { 0 };
                file.set_len(length).map_err(failed)?;
                let mut lines = Lines::open(&path)?;
                while let Some(line) = lines.next_line()? {
                    read.line(line.number, line.text.as_bytes())?;
                }
                Kept::Lines(file)
            }
        };
        let Reading { is_begun, known, .. } = read;
        let mut answers = Self { path, file, known };
        if !is_begun {
            answers.line(questions)?;
        }
        Ok(answers)
    }

    /// Adds a line, as one piece.
    fn line(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let failed = |source| Error::Write { path: self.path.clone(), source };
        let mut text = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        if text.len() as u64 >= MAX_LINE {
            let reason = format!("an answer is longer than {MAX_LINE} bytes");
            return Err(Error::Malformed { path: self.path.clone(), reason });
        }
        match &mut self.file {
            Kept::Lines(file) => {
                text.push(b'\n');
                file.write_all(&text).and_then(|()| file.sync_data()).map_err(failed)
            }
            Kept::Sealed(log) => log.add(&text),
        }
    }

    /// Asks the teacher all prompts that have no answer yet; `false` if it was stopped before the last. `of` is their file.
    ///
    /// # Errors
    /// [`Error::Teacher`] with the line whose prompt it did not answer; [`Error::Write`]. What it said before is kept.
    pub(super) fn ask(
        &mut self,
        (of, prompts): (&Path, &[Prompt]),
        teacher: &Teacher,
        questions: &Questions,
        stop: &Stop,
        event: &mut dyn FnMut(&JobEvent),
    ) -> Result<bool, Error> {
        let sleep = Arc::new(|time| -> bedrock_core::BoxFuture<'static, ()> {
            // The thread is this job's own, and answers on their way wait elsewhere.
            thread::sleep(time);
            Box::pin(std::future::ready(()))
        });
        let model = Retried::new(teacher.model.clone(), sleep)
            .attempts(ATTEMPTS)
            .backoff(Duration::from_millis(200), LONGEST_WAIT);
        let wanted = |(_, prompt): &(usize, &Prompt)| !prompt.example.is_answered();
        let items = prompts.iter().enumerate().filter(wanted).count();
        let missing: Vec<(usize, &Prompt)> =
            prompts.iter().enumerate().filter(wanted).filter(|(number, _)| !self.known.contains_key(number)).collect();
        block_on(async {
            let model = &model;
            let ask = |(number, prompt): (usize, &Prompt)| {
                let line = prompt.line;
                let request = prompt.example.request(&questions.teacher, questions.max_response_length);
                async move { (number, line, model.converse(&request).await) }
            };
            let mut answers = stream::iter(missing).map(ask).buffer_unordered(teacher.at_once);
            loop {
                if stop.is_stopped() {
                    return Ok(self.known.len() == items);
                }
                let Some((prompt, line, answer)) = answers.next().await else { return Ok(true) };
                let answer = answer.map_err(|source| Error::Teacher { path: of.to_path_buf(), line, source })?;
                let response = answer.text();
                self.line(&Answer { prompt, response: response.clone() })?;
                self.known.insert(prompt, response);
                event(&JobEvent::Answered { answered: self.known.len(), items });
            }
        })
    }

    /// The answer to a prompt.
    pub(super) fn get(&self, prompt: usize) -> Option<&str> {
        self.known.get(&prompt).map(String::as_str)
    }

    /// A hash of the questions and all answers, in the order of the prompts.
    pub(super) fn sha256(&self, questions: &Questions) -> String {
        let mut hash = Sha256::new();
        hash.update(&questions.prompts);
        for (prompt, response) in &self.known {
            hash.update(prompt.to_le_bytes());
            hash.update(response.len().to_le_bytes());
            hash.update(response);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is read of a file of answers, line by line.
struct Reading<'a> {
    path: &'a Path,
    questions: &'a Questions,
    /// How many there are.
    prompts: usize,
    /// Whether the first line was read, which says what was asked.
    is_begun: bool,
    known: BTreeMap<usize, String>,
}

impl Reading<'_> {
    fn line(&mut self, number: usize, line: &[u8]) -> Result<(), Error> {
        let malformed = |reason: String| Error::Malformed {
            path: self.path.to_path_buf(),
            reason: format!("line {number}: {reason}"),
        };
        if !self.is_begun {
            let written: Questions = serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
            if written != *self.questions {
                return Err(Error::OtherJob { path: self.path.to_path_buf(), what: "prompts or teacher".into() });
            }
            self.is_begun = true;
            return Ok(());
        }
        let Answer { prompt, response } = serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
        if prompt >= self.prompts || self.known.contains_key(&prompt) {
            return Err(malformed(format!("there is no prompt {prompt} without an answer")));
        }
        self.known.insert(prompt, response);
        Ok(())
    }
}

/// The length of a file up to the end of its last whole line: a process that was killed may have left a part of one.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    // No line is longer, so there is an end in what is read.
    let start = length.saturating_sub(MAX_LINE);
    file.seek(SeekFrom::Start(start))?;
    let mut end = Vec::new();
    (&*file).take(MAX_LINE).read_to_end(&mut end)?;
    Ok(end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| start + at as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_line_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let questions = Questions { prompts: "p".into(), teacher: "t".into(), max_response_length: 9 };
        let open = |resume| Answers::open((folder.path(), None), &questions, 3, resume);
        let mut answers = open(true).unwrap();
        answers.line(&Answer { prompt: 2, response: "two".into() }).unwrap();
        let Kept::Lines(file) = &mut answers.file else { panic!("there is no sealer") };
        file.write_all("{\"prompt\": 1, \"response\": \"h\u{e4}".as_bytes().split_last().unwrap().1).unwrap();
        let mut again = open(true).unwrap();
        assert_eq!((again.known.len(), again.get(2)), (1, Some("two")));
        again.line(&Answer { prompt: 0, response: "zero".into() }).unwrap();
        assert_eq!(open(true).unwrap().known.len(), 2);
        let other = Questions { teacher: "u".into(), ..questions.clone() };
        assert!(matches!(Answers::open((folder.path(), None), &other, 3, true), Err(Error::OtherJob { .. })));
        for wrong in [3, 0] {
            open(true).unwrap().line(&Answer { prompt: wrong, response: String::new() }).unwrap();
            assert!(matches!(open(true), Err(Error::Malformed { .. })), "{wrong}");
            let mut anew = open(false).unwrap();
            assert!(anew.known.is_empty());
            anew.line(&Answer { prompt: 0, response: String::new() }).unwrap();
        }
    }
}
