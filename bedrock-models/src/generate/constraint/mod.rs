//! What generated text must conform to.
//!
//! The `llguidance` crate turns a [`Constraint`] into a parser over the vocabulary; before each token it says which tokens may come
//! next, and the logits of all others become `-inf` ahead of every other step of sampling. The end token is among the
//! allowed ones exactly where the text so far is complete, so an answer that ends by itself conforms.
//!
//! It also ends in time: a way to complete the text is known at each token, and where `max_tokens` or the context leave no more than
//! that, the constraint chooses in the model's place ([`closing`]). Such an answer ends with the end token like any other;
//! [`closing_tokens`](crate::GenerationUsage::closing_tokens) says how much of it was not the model's choice. What is still cut, and then is
//! the beginning of a text that conforms: an answer with fewer tokens than the shortest text found from its start, or than what must follow one
//! of its tokens if that is over 512; and any answer at a stop sequence of the caller's.
//!
//! Constraints come from callers and are not trusted: their size, nesting and the parser's work are bounded, and they are compiled
//! on a thread with a stack of its own.

mod closing;
mod masking;
mod vocabulary;
mod ways;

use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;

use llguidance::api::{ParserLimits, StopReason, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::tokenizer::Tokenizer;
use crate::worker::Worker;

use closing::Closer;
pub(crate) use masking::Masking;
use vocabulary::Vocabulary;

/// Bytes of a constraint.
const MAX_BYTES: usize = 256 << 10;

/// Characters that offer a choice (`?`, `*`, `|`, `{`) in a regular expression or grammar, and in a schema, whose compiler is less
/// sensitive to them: the time that a chain of optional parts takes grows with the square of its length, to half a second here.
const MAX_CHOICES: usize = 4_000;
const MAX_SCHEMA_CHOICES: usize = 20_000;

/// Levels of arrays and objects in a schema, or of brackets in a grammar.
const MAX_DEPTH: usize = 100;

/// Stack of the threads that compile grammars and compute masks: enough for [`MAX_DEPTH`], reserved and not touched.
pub(crate) const STACK: usize = 64 << 20;

/// White space between the parts of a JSON text: what printers write, and no more, since a model that may write white space without end
/// sometimes does.
const WHITE_SPACE: &str = r"[ \t]{1,4}|\r?\n[ \t]{0,40}";

/// What generated text must conform to.
///
/// The whole text must match, from its first character to the end token. What a vocabulary writes before a text and its decoder
/// takes away again (a space, in vocabularies of the SentencePiece kind) is part of neither.
///
/// ```
/// use bedrock_models::generate::Constraint;
/// use serde_json::json;
///
/// let person = Constraint::JsonSchema(json!({
///     "type": "object",
///     "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
///     "required": ["name", "age"],
///     "additionalProperties": false,
/// }));
/// let date = Constraint::Regex(r"\d{4}-\d{2}-\d{2}".into());
/// let sum = Constraint::Grammar("start: NUMBER (\"+\" NUMBER)*\nNUMBER: /[0-9]+/".into());
/// # let _ = (person, date, sum);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Constraint {
    /// A JSON text that is valid under this schema. Properties come in the order of the schema; white space between parts is limited to
    /// what printers write. References must point into the schema itself. A number may have any size that JSON
    /// allows, also one that no `f64` holds, unless the schema limits it.
    JsonSchema(Value),
    /// A text that this regular expression matches whole, in the syntax of the `regex` crate without look-around or anchors.
    Regex(String),
    /// A text of this context-free grammar, in the variant of Lark's syntax that llguidance reads; the first rule is `start`.
    /// `<name>` stands for the special token of that text.
    Grammar(String),
}

impl Constraint {
    fn kind(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Grammar(_) => "grammar",
        }
    }

    fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Constraint { kind: self.kind(), reason: reason.into() }
    }

    /// The grammar as llguidance takes it.
    fn grammar(&self) -> Result<TopLevelGrammar, Error> {
        let written;
        let (text, depth, most_choices) = match self {
            // The depth first: writing a value is recursive too.
            Self::JsonSchema(schema) if depth(schema, MAX_DEPTH) > MAX_DEPTH => ("", MAX_DEPTH + 1, 0),
            Self::JsonSchema(schema) => {
                written = schema.to_string();
                (written.as_str(), 0, MAX_SCHEMA_CHOICES)
            }
            Self::Regex(text) | Self::Grammar(text) => (text.as_str(), bracket_depth(text), MAX_CHOICES),
        };
        let bytes = text.len();
        let choices = text.bytes().filter(|byte| matches!(byte, b'?' | b'*' | b'|' | b'{')).count();
        if bytes > MAX_BYTES {
            return Err(self.refuse(format!("it has {bytes} bytes, at most {MAX_BYTES} are supported")));
        }
        if depth > MAX_DEPTH {
            return Err(self.refuse(format!("it is nested more than {MAX_DEPTH} levels deep")));
        }
        if choices > most_choices {
            return Err(self.refuse(format!("it has {choices} choices, at most {most_choices} are supported")));
        }
        match self {
            Self::JsonSchema(schema) => {
                let mut schema = match schema {
                    Value::Object(fields) => fields.clone(),
                    Value::Bool(true) => Default::default(),
                    Value::Bool(false) => return Err(self.refuse("nothing is valid under it")),
                    _ => return Err(self.refuse("it is neither an object nor a boolean")),
                };
                set_white_space(&mut schema);
                Ok(TopLevelGrammar::from_json_schema(schema.into()))
            }
            Self::Regex(regex) => Ok(TopLevelGrammar::from_regex(regex)),
            Self::Grammar(grammar) => Ok(TopLevelGrammar::from_lark(grammar.clone())),
        }
    }
}

/// Sets the compiler's own options, which travel in a key of the schema. A schema that has this key means something else by it.
pub(crate) fn set_white_space(schema: &mut Map<String, Value>) {
    schema.insert("x-guidance".into(), json!({ "whitespace_pattern": WHITE_SPACE }));
}

/// Levels of a JSON value, counted up to one more than `limit`.
fn depth(value: &Value, limit: usize) -> usize {
    let inner = |values: &mut dyn Iterator<Item = &Value>| match limit {
        0 => 1,
        _ => values.map(|value| depth(value, limit - 1)).max().map_or(1, |inner| inner + 1),
    };
    match value {
        Value::Array(items) => inner(&mut items.iter()),
        Value::Object(fields) => inner(&mut fields.values()),
        _ => 0,
    }
}

/// The most brackets that are open at once, wherever they stand: also those in strings count, so this may be too much, never
/// too little.
fn bracket_depth(text: &str) -> usize {
    let (mut open, mut most) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Compiles the constraints of one engine's requests. The vocabulary's trie and the thread that computes masks are
/// made with the first of them.
#[derive(Default)]
pub(crate) struct Constraints {
    compiler: Mutex<Option<Arc<Compiler>>>,
    /// Compiles for async callers, one constraint after another.
    worker: Mutex<Option<Worker>>,
}

struct Compiler {
    factory: ParserFactory,
    jobs: Sender<masking::Job>,
}

impl fmt::Debug for Constraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraints").finish_non_exhaustive()
    }
}

impl Constraints {
    /// The masks of a generation of at most `most` tokens that conforms to `constraint`, with the one for its first token.
    ///
    /// # Errors
    /// [`Error::Constraint`] if the constraint is malformed, unsupported, too large or cannot be fulfilled, or if the vocabulary
    /// cannot be constrained; those of reading the vocabulary.
    pub(crate) fn compile(
        &self,
        constraint: &Constraint,
        tokenizer: &Tokenizer,
        most: usize,
    ) -> Result<Masking, Error> {
        let grammar = constraint.grammar()?;
        let (matcher, mask, jobs, closer) = on_a_large_stack(constraint, || {
            let compiler = self.compiler(constraint, tokenizer)?;
            let refuse = |error: &dyn fmt::Display| constraint.refuse(first_line(error));
            let parser = compiler.factory.create_parser(grammar).map_err(|error| refuse(&error))?;
            let mut closer = Closer::new(parser.deep_clone());
            let mut matcher = Matcher::new(Ok(parser));
            let mask = match matcher.compute_mask_or_eos() {
                Err(error) if first_line(&error) == StopReason::NoExtensionBias.to_string() => {
                    return Err(constraint.refuse("nothing conforms to it"));
                }
                mask => mask.map_err(|error| refuse(&error))?,
            };
            closer.begin(most);
            Ok((matcher, mask, compiler.jobs.clone(), closer))
        })?;
        Ok(Masking::new(matcher, mask, jobs, closer))
    }

    /// [`compile`](Self::compile) on another thread.
    ///
    /// # Errors
    /// As [`compile`](Self::compile); [`Error::Busy`] if too many wait already.
    pub(crate) async fn compile_beside(
        self: &Arc<Self>,
        constraint: Constraint,
        tokenizer: Tokenizer,
        most: usize,
    ) -> Result<Masking, Error> {
        let worker = {
            let mut worker = self.worker.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match &*worker {
                Some(worker) => worker.clone(),
                None => worker.insert(Worker::start("bedrock-grammars")?).clone(),
            }
        };
        let this = self.clone();
        worker.result(move |_| this.compile(&constraint, &tokenizer, most)).await
    }

    fn compiler(&self, constraint: &Constraint, tokenizer: &Tokenizer) -> Result<Arc<Compiler>, Error> {
        let mut compiler = self.compiler.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(compiler) = &*compiler {
            return Ok(compiler.clone());
        }
        let vocabulary = Vocabulary::new(tokenizer)?.ok_or_else(|| {
            constraint.refuse("the tokenizer of this model has no end token, or its tokens do not stand for bytes")
        })?;
        let vocabulary: TokEnv = Arc::new(vocabulary);
        let slices = SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&vocabulary, InferenceCapabilities::default(), &slices)
            .map_err(|error| constraint.refuse(first_line(&error)))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_items_in_row: 2_000,
            // 20 ms to build a lexer.
            initial_lexer_fuel: 1_000_000,
            // 15 ms for a mask, and as much again for its parser items.
            step_lexer_fuel: 200_000,
            step_max_items: 50_000,
            // At 1–2 kB each: 50 MB.
            max_lexer_states: 25_000,
            max_grammar_size: 250_000,
            precompute_large_lexemes: true,
            verbose_errors: false,
        };
        let jobs = masking::start()?;
        Ok(compiler.insert(Arc::new(Compiler { factory, jobs })).clone())
    }
}

/// Runs `work` where recursion has room. A panic of the compiler is an error of the constraint.
fn on_a_large_stack<T: Send>(
    constraint: &Constraint,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("bedrock-grammar".into()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|source| Error::Thread { source })?;
        thread.join().unwrap_or_else(|_| Err(constraint.refuse("it cannot be compiled")))
    })
}

/// The first line of an error, of at most 400 characters: the compiler adds its own state below it.
fn first_line(error: &dyn fmt::Display) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().chars().take(400).collect()
}
