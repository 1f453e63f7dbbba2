//! Classification of texts, of pairs of texts, and of the tokens of a text; reranking by a cross-encoder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bedrock_core::{
    BoxFuture, ClassifyRequest, ClassifyResponse, LabelScore, RerankRequest, RerankResponse, Reranker, TextClassifier,
};
use serde_json::Value;

use crate::arch::text_encoder::Purpose;
use crate::encoder::Encoder;
use crate::error::Error;
use crate::language_model::{read_json, rows_of};
use crate::options::LoadOptions;
use crate::tokenizer::Encoding;
use crate::worker::Worker;

/// Labels by index, from `id2label`, else `num_labels`, else the two that transformers assumes.
pub(crate) fn labels(config: &Value, path: &Path) -> Result<Vec<String>, Error> {
    const MOST: usize = 1 << 16;
    let wrong = |what: String| Error::ConfigValue { path: path.join("config.json"), what };
    let Some(map) = config.get("id2label").and_then(Value::as_object) else {
        let count = config.get("num_labels").and_then(Value::as_u64).unwrap_or(2) as usize;
        if count == 0 || count > MOST {
            return Err(wrong(format!("num_labels is {count}, outside 1..={MOST}")));
        }
        return Ok((0..count).map(|i| format!("LABEL_{i}")).collect());
    };
    if map.is_empty() || map.len() > MOST {
        return Err(wrong(format!("id2label has {} labels, outside 1..={MOST}", map.len())));
    }
    (0..map.len())
        .map(|index| {
            let label = map.get(&index.to_string()).and_then(Value::as_str);
            label.map(str::to_string).ok_or_else(|| wrong(format!("id2label has no name for label {index}")))
        })
        .collect()
}

/// What a folder's configuration says about labels.
#[derive(Debug, Clone)]
struct Labels {
    names: Vec<String>,
    /// Whether a text can have several.
    multi_label: bool,
}

impl Labels {
    fn read(folder: &Path) -> Result<Self, Error> {
        let config: Value = read_json(&folder.join("config.json"))?;
        let multi_label = config.get("problem_type").and_then(Value::as_str) == Some("multi_label_classification");
        Ok(Self { names: labels(&config, folder)?, multi_label })
    }

    /// The model's, and those with each of [`LoadOptions::adapters`]: an adapter may come with labels of its own.
    fn all(path: &Path, options: &LoadOptions) -> Result<Vec<Self>, Error> {
        let has_own = |adapter: &&PathBuf| adapter.join("config.json").is_file();
        let own = options.adapter.as_ref().filter(has_own).map_or(path, PathBuf::as_path);
        let of_choices = options.adapters.values().map(|adapter| if has_own(&adapter) { adapter } else { own });
        std::iter::once(own).chain(of_choices).map(Self::read).collect()
    }
}

/// Loads an encoder for labels, with a purpose for each number of them.
fn load_for(
    path: &Path,
    options: &LoadOptions,
    purpose: fn(usize) -> Purpose,
) -> Result<(Encoder, Vec<Labels>), Error> {
    let labels = Labels::all(path, options)?;
    let purposes: Vec<Purpose> = labels.iter().map(|labels| purpose(labels.names.len())).collect();
    let mut encoder = Encoder::load(path, options, purposes[0], &purposes[1..])?;
    encoder.limit_tokens(None);
    Ok((encoder, labels))
}

/// The place of what belongs to an adapter, after what belongs to requests without.
fn place(adapter: Option<usize>) -> usize {
    adapter.map_or(0, |number| number + 1)
}

/// A text or pair classifier on its own thread (`BertForSequenceClassification` and those of the other families).
#[derive(Debug, Clone)]
pub struct SequenceClassifier {
    inner: Arc<Sequence>,
    worker: Worker,
    /// Number of the adapter that it answers with.
    adapter: Option<usize>,
}

#[derive(Debug)]
struct Sequence {
    encoder: Encoder,
    labels: Vec<Labels>,
}

impl SequenceClassifier {
    /// Loads a folder in Hugging Face layout.
    ///
    /// # Errors
    /// What is missing, malformed or not supported, by file and field.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        let (encoder, labels) = load_for(path.as_ref(), options, |labels| Purpose::Sequence { labels })?;
        let inner = Arc::new(Sequence { encoder, labels });
        Ok(Self { inner, worker: Worker::start("bedrock-classifier")?, adapter: None })
    }

    /// The same model, answering with one of [`LoadOptions::adapters`], by its head and its labels if it has some. It is loaded once, and has one
    /// thread.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name that none has.
    pub fn with_adapter(&self, name: &str) -> Result<Self, Error> {
        Ok(Self { adapter: Some(self.inner.encoder.adapter_number(name)?), ..self.clone() })
    }

    /// The most tokens of one input.
    pub(crate) fn max_tokens(&self) -> usize {
        self.inner.encoder.max_tokens
    }

    /// Names of the labels, in the order of the logits.
    pub fn labels(&self) -> &[String] {
        &self.inner.labels[place(self.adapter)].names
    }

    /// Tokens of a text or pair as the model gets it, the longest cut first to the model's limit or that of
    /// [`LoadOptions::max_tokens`].
    ///
    /// # Errors
    /// As [`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode).
    pub fn encode(&self, text: &str, pair: Option<&str>) -> Result<Encoding, Error> {
        self.inner.encoder.encode(text, pair)
    }

    /// The logits of each input, `[inputs][labels]`. Computes on the caller's thread.
    ///
    /// # Errors
    /// As [`SequenceClassifier::encode`]; [`Error::InvalidParameter`] if only adapters have a head, and none was chosen.
    pub fn logits(&self, inputs: &[(String, Option<String>)]) -> Result<Vec<Vec<f32>>, Error> {
        let inputs = inputs.iter().map(|(text, pair)| (text.as_str(), pair.as_deref()));
        Ok(self.inner.logits(self.adapter, inputs, &|| false)?.0)
    }
}

impl Sequence {
    /// Logits, and the number of tokens that went in.
    fn logits<'t>(
        &self,
        adapter: Option<usize>,
        inputs: impl Iterator<Item = (&'t str, Option<&'t str>)>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Vec<Vec<f32>>, u64), Error> {
        let (encoder, count) = (&self.encoder, self.labels[place(adapter)].names.len());
        encoder.check_head(adapter)?;
        let inputs = inputs.map(|(text, pair)| encoder.encode(text, pair)).collect::<Result<Vec<_>, _>>()?;
        if inputs.iter().any(Encoding::is_empty) {
            return Err(Error::NoTokens);
        }
        let mut out = vec![Vec::new(); inputs.len()];
        encoder.for_each_batch(&inputs, adapter, cancelled, |batch, hidden, input| {
            let rows = rows_of(encoder.logits(adapter, hidden, input), count);
            batch.iter().zip(rows).for_each(|(index, row)| out[*index] = row);
        });
        if cancelled() {
            return Err(Error::Cancelled);
        }
        Ok((out, inputs.iter().map(|input| input.len() as u64).sum()))
    }

    /// Sigmoid for a single label or independent labels, else softmax: as transformers' pipeline does.
    fn scores(&self, adapter: Option<usize>, logits: &[f32]) -> Vec<f32> {
        if logits.len() == 1 || self.labels[place(adapter)].multi_label {
            logits.iter().map(|x| sigmoid(*x)).collect()
        } else {
            softmax(logits)
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let exp: Vec<f32> = logits.iter().map(|x| (x - largest).exp()).collect();
    let sum: f32 = exp.iter().sum();
    exp.into_iter().map(|x| x / sum).collect()
}

impl TextClassifier for SequenceClassifier {
    fn classify<'a>(
        &'a self,
        request: &'a ClassifyRequest,
    ) -> BoxFuture<'a, Result<ClassifyResponse, bedrock_core::Error>> {
        let (inner, request, adapter) = (self.inner.clone(), request.clone(), self.adapter);
        self.worker.run(move |cancelled| {
            let inputs = request.inputs.iter().map(|input| (input.text.as_str(), input.pair.as_deref()));
            let (logits, input_tokens) = inner.logits(adapter, inputs, cancelled)?;
            let results = logits.iter().map(|logits| {
                let scores = inner.scores(adapter, logits).into_iter();
                inner.labels[place(adapter)]
                    .names
                    .iter()
                    .zip(scores)
                    .map(|(label, score)| LabelScore { label: label.clone(), score })
                    .collect()
            });
            Ok(ClassifyResponse { results: results.collect(), input_tokens })
        })
    }
}

/// A cross-encoder: reads query and document together and scores how well the one answers the other.
///
/// The score is the sigmoid of the model's one logit, as `sentence-transformers` gives it.
#[derive(Debug, Clone)]
pub struct CrossEncoder {
    classifier: SequenceClassifier,
}

impl CrossEncoder {
    /// Loads a folder in Hugging Face layout; the model must have exactly one label, and with each of [`LoadOptions::adapters`] too.
    ///
    /// # Errors
    /// What is missing, malformed or not supported, by file and field.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let classifier = SequenceClassifier::load(path, options)?;
        for (place, labels) in classifier.inner.labels.iter().enumerate() {
            let has_head = classifier.inner.encoder.check_head(place.checked_sub(1)).is_ok();
            if has_head && labels.names.len() != 1 {
                let what = format!("{} labels; a cross-encoder has one", labels.names.len());
                return Err(Error::ConfigValue { path: path.join("config.json"), what });
            }
        }
        Ok(Self { classifier })
    }

    /// The same model, answering with one of [`LoadOptions::adapters`]. It is loaded once, and has one thread.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name that none has.
    pub fn with_adapter(&self, name: &str) -> Result<Self, Error> {
        Ok(Self { classifier: self.classifier.with_adapter(name)? })
    }
}

impl Reranker for CrossEncoder {
    fn rerank<'a>(&'a self, request: &'a RerankRequest) -> BoxFuture<'a, Result<RerankResponse, bedrock_core::Error>> {
        let (inner, request, adapter) = (self.classifier.inner.clone(), request.clone(), self.classifier.adapter);
        self.classifier.worker.run(move |cancelled| {
            let pairs = request.documents.iter().map(|document| (request.query.as_str(), Some(document.as_str())));
            let (logits, tokens) = inner.logits(adapter, pairs, cancelled)?;
            Ok(RerankResponse::from_scores(logits.iter().map(|logits| sigmoid(logits[0])), request.top_n, tokens))
        })
    }
}

/// A classifier of tokens: named entities (`BertForTokenClassification` and those of the other families). Computes on the
/// caller's thread.
#[derive(Debug, Clone)]
pub struct TokenClassifier {
    encoder: Arc<Encoder>,
    labels: Vec<Labels>,
    /// Number of the adapter that it answers with.
    adapter: Option<usize>,
}

/// Logits of the tokens of a text.
#[derive(Debug, Clone)]
pub struct TokenLogits {
    /// The tokens, with their places in the text.
    pub encoding: Encoding,
    /// `[tokens][labels]`
    pub logits: Vec<Vec<f32>>,
}

/// How the labels of a word's tokens become one: transformers' aggregation strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Every token that is not `O` is an entity of its own.
    None,
    /// Neighbouring tokens of one label form an entity.
    Simple,
    /// As `Simple`, by words; a word has the label of its first token.
    First,
    /// As `Simple`, by words; scores of a word's tokens are averaged before the label is chosen.
    Average,
    /// As `Simple`, by words; a word has the label of its surest token.
    Max,
}

/// A named entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// Label, without the `B-` or `I-` unless not aggregated.
    pub label: String,
    /// Mean score of its tokens, 0 to 1.
    pub score: f32,
    /// Its place in the text, in bytes.
    pub span: std::ops::Range<usize>,
    /// Its tokens' text as the tokenizer shows it.
    pub word: String,
    /// Index of the token, for entities that are not aggregated.
    pub token: Option<usize>,
}

impl TokenClassifier {
    /// Loads a folder in Hugging Face layout.
    ///
    /// # Errors
    /// What is missing, malformed or not supported, by file and field.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        let (encoder, labels) = load_for(path.as_ref(), options, |labels| Purpose::Tokens { labels })?;
        Ok(Self { encoder: Arc::new(encoder), labels, adapter: None })
    }

    /// The same model, answering with one of [`LoadOptions::adapters`], by its head and its labels if it has some. It is loaded once.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name that none has.
    pub fn with_adapter(&self, name: &str) -> Result<Self, Error> {
        Ok(Self { adapter: Some(self.encoder.adapter_number(name)?), ..self.clone() })
    }

    /// The most tokens of one input.
    pub(crate) fn max_tokens(&self) -> usize {
        self.encoder.max_tokens
    }

    /// Names of the labels, in the order of the logits.
    pub fn labels(&self) -> &[String] {
        &self.labels[place(self.adapter)].names
    }

    /// Logits of every token, special ones included. A text that is too long is cut.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode); [`Error::InvalidParameter`] if only adapters have a head, and none was chosen.
    pub fn logits(&self, text: &str) -> Result<TokenLogits, Error> {
        self.encoder.check_head(self.adapter)?;
        let encoding = self.encoder.encode(text, None)?;
        let mut logits = Vec::new();
        self.encoder.for_each_batch(std::slice::from_ref(&encoding), self.adapter, &|| false, |_, hidden, input| {
            logits = rows_of(self.encoder.logits(self.adapter, hidden, input), self.labels().len());
        });
        Ok(TokenLogits { encoding, logits })
    }

    /// The entities of a text, as transformers' token-classification pipeline finds them.
    ///
    /// # Errors
    /// As [`TokenClassifier::logits`].
    pub fn entities(&self, text: &str, aggregation: Aggregation) -> Result<Vec<Entity>, Error> {
        let TokenLogits { encoding, logits } = self.logits(text)?;
        let mut tokens = Vec::new();
        for (index, logits) in logits.iter().enumerate() {
            if encoding.added[index] {
                continue;
            }
            let span = encoding.offsets[index].clone();
            let word = self.encoder.tokenizer.id_to_token(encoding.ids[index]).unwrap_or_default();
            // A piece inside a word is shorter as text than as the tokenizer shows it (`##ing`).
            let inside = word.chars().count() != text.get(span.clone()).map_or(0, |part| part.chars().count());
            let unknown = Some(encoding.ids[index]) == self.encoder.tokenizer.special_tokens().unk;
            let word = if unknown { text.get(span.clone()).unwrap_or_default().to_string() } else { word };
            tokens.push(Piece { scores: softmax(logits), span, word, inside: inside && !unknown, index });
        }
        Ok(match aggregation {
            Aggregation::None => self.single(tokens),
            Aggregation::Simple => self.group(tokens.into_iter().map(|piece| self.labelled(piece)).collect()),
            _ => self.group(self.words(tokens, aggregation)),
        })
    }

    fn single(&self, tokens: Vec<Piece>) -> Vec<Entity> {
        let tokens = tokens.into_iter().map(|piece| (piece.index, self.labelled(piece)));
        let entities = tokens.filter(|(_, token)| token.label != "O").map(|(index, token)| Entity {
            label: token.label,
            score: token.score,
            span: token.span,
            word: token.word,
            token: Some(index),
        });
        entities.collect()
    }

    fn labelled(&self, piece: Piece) -> Labelled {
        let best = largest(&piece.scores);
        Labelled { label: self.labels()[best].clone(), score: piece.scores[best], span: piece.span, word: piece.word }
    }

    /// Joins the pieces of each word.
    fn words(&self, tokens: Vec<Piece>, aggregation: Aggregation) -> Vec<Labelled> {
        let mut words: Vec<Vec<Piece>> = Vec::new();
        for piece in tokens {
            match words.last_mut() {
                Some(word) if piece.inside => word.push(piece),
                _ => words.push(vec![piece]),
            }
        }
        let words = words.into_iter().map(|pieces| {
            let scores = match aggregation {
                Aggregation::First => pieces[0].scores.clone(),
                Aggregation::Max => {
                    // The first of equally sure pieces, as the original's argmax over tokens.
                    let sure = |piece: &Piece| piece.scores[largest(&piece.scores)];
                    let best = pieces
                        .iter()
                        .fold(&pieces[0], |best, piece| if sure(piece) > sure(best) { piece } else { best });
                    best.scores.clone()
                }
                _ => (0..self.labels().len())
                    .map(|label| pieces.iter().map(|piece| piece.scores[label]).sum::<f32>() / pieces.len() as f32)
                    .collect(),
            };
            let best = largest(&scores);
            Labelled {
                label: self.labels()[best].clone(),
                score: scores[best],
                span: pieces[0].span.start..pieces[pieces.len() - 1].span.end,
                word: self.join(pieces.into_iter().map(|piece| piece.word)),
            }
        });
        words.collect()
    }

    fn join(&self, words: impl Iterator<Item = String>) -> String {
        self.encoder.tokenizer.join(words.collect()).unwrap_or_default()
    }

    /// Joins neighbours of one label; `B-` begins a new entity.
    fn group(&self, tokens: Vec<Labelled>) -> Vec<Entity> {
        let mut groups: Vec<(String, Vec<Labelled>)> = Vec::new();
        for token in tokens {
            let (begins, tag) = match token.label.split_once('-') {
                Some(("B", tag)) => (true, tag.to_string()),
                Some(("I", tag)) => (false, tag.to_string()),
                _ => (false, token.label.clone()),
            };
            match groups.last_mut() {
                Some((last, group)) if *last == tag && !begins => group.push(token),
                _ => groups.push((tag, vec![token])),
            }
        }
        let entities = groups.into_iter().filter(|(tag, _)| tag != "O").map(|(label, group)| Entity {
            label,
            score: group.iter().map(|token| token.score).sum::<f32>() / group.len() as f32,
            span: group[0].span.start..group[group.len() - 1].span.end,
            word: self.join(group.into_iter().map(|token| token.word)),
            token: None,
        });
        entities.collect()
    }
}

/// One token with the scores of all labels.
struct Piece {
    scores: Vec<f32>,
    span: std::ops::Range<usize>,
    word: String,
    inside: bool,
    index: usize,
}

/// A token or word with the label chosen for it.
struct Labelled {
    label: String,
    score: f32,
    span: std::ops::Range<usize>,
    word: String,
}

/// Index of the largest value, the first among equals.
fn largest(values: &[f32]) -> usize {
    values.iter().enumerate().fold(0, |best, (index, value)| if *value > values[best] { index } else { best })
}
