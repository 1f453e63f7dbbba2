//! Denied topics: is a text about what a sentence defines?
//!
//! A piece of text is as near to a topic as the nearest of its definition and examples, by the cosine of their embeddings. What a cosine means
//! differs from encoder to encoder and from topic to topic, so each topic is calibrated when the guardrail is built: against harmless
//! requests and sentences about everything and nothing (`data/background.txt`), which say how near to it texts are that have
//! nothing to do with it. Where that leaves doubt, a judge ([`TopicJudge`]) may be asked.

use std::sync::Arc;

use bedrock_core::{EmbeddingModel, Error, GuardrailTopicConfig};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::examine::embed;
use crate::policy::topic_judge::TopicJudge;

const BACKGROUND: &str = include_str!("../../data/background.txt");
/// Score from which a text is about a topic.
pub(crate) const DENIED: f32 = 0.5;
/// Standard deviations above the background at which the score is [`DENIED`]. With all-MiniLM-L6-v2, of six topics, 0.7% to 1.8% of 500 texts
/// about other things came this near; of four of them, 64% to 91% of texts about the topic. Chosen on the same texts, those of
/// `examples/topic_quality.rs`.
const MARGIN: f32 = 2.2;
/// How fast the score rises there.
const STEEP: f32 = 1.5;
/// Questions that a judge has before it at once: a local engine computes them together, a server side by side.
const TOGETHER: usize = 8;
/// Least standard deviation of the background: an encoder that sees no difference at all decides nothing.
const LEAST_DEVIATION: f32 = 0.01;

struct Topic {
    /// Embeddings of the definition with the name, and of the examples.
    anchors: Vec<Vec<f32>>,
    mean: f32,
    deviation: f32,
}

/// Topics, and who knows them: an encoder, a judge, or both.
pub(crate) struct Topics {
    configs: Vec<GuardrailTopicConfig>,
    encoder: Option<(Arc<dyn EmbeddingModel>, Vec<Topic>)>,
    judge: Option<TopicJudge>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("topics", &self.configs.len()).finish_non_exhaustive()
    }
}

impl Topics {
    /// Embeds and calibrates, if there is an encoder.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) async fn new(
        configs: &[GuardrailTopicConfig],
        embedder: Option<Arc<dyn EmbeddingModel>>,
        judge: Option<TopicJudge>,
    ) -> Result<Self, Error> {
        let encoder = match embedder {
            Some(embedder) => {
                let topics = calibrate(configs, embedder.as_ref()).await?;
                Some((embedder, topics))
            }
            None => None,
        };
        Ok(Self { configs: configs.to_vec(), encoder, judge })
    }

    pub(crate) fn len(&self) -> usize {
        self.configs.len()
    }

    /// Bytes of the longest piece that is judged: an encoder sees what a sentence or two are about; who reads needs fewer questions for longer ones.
    pub(crate) fn piece(&self) -> usize {
        if self.encoder.is_some() { 300 } else { 1200 }
    }

    /// For each piece the score of each topic, 0..=1; of those that are not `wanted` it may be any. `spent` counts the questions to the judge about the text that the
    /// pieces are of, from step to step of a stream, so that a stream and a whole text ask the same.
    ///
    /// # Errors
    /// Those of the models; [`Error::Validation`] if there is no encoder and the text needs more questions than may be asked.
    pub(crate) async fn scores(
        &self,
        pieces: &[&str],
        wanted: &(dyn Fn(usize) -> bool + Sync),
        spent: &mut usize,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let mut all = match &self.encoder {
            Some((embedder, topics)) => {
                let texts = pieces.iter().map(|piece| (*piece).to_owned()).collect();
                let vectors = embed(embedder.as_ref(), texts).await?;
                let scores = |vector: &Vec<f32>| topics.iter().map(|topic| topic.score(vector)).collect();
                vectors.iter().map(scores).collect()
            }
            None => vec![vec![0.0; self.configs.len()]; pieces.len()],
        };
        let Some(judge) = &self.judge else { return Ok(all) };
        let mut questions = Vec::new();
        for (piece, scores) in all.iter().enumerate() {
            for (topic, score) in scores.iter().enumerate() {
                if !wanted(topic) || (self.encoder.is_some() && !judge.doubts(*score)) {
                    continue;
                }
                if *spent >= judge.most_questions() {
                    if self.encoder.is_some() {
                        continue;
                    }
                    let most = judge.most_questions();
                    return Err(Error::validation(format!(
                        "the text needs more than the {most} questions that a topic judge is asked about one"
                    )));
                }
                *spent += 1;
                questions.push((piece, topic));
            }
        }
        let answers = questions.iter().map(|&(piece, topic)| judge.score(&self.configs[topic], pieces[piece]));
        let answers: Vec<f32> = stream::iter(answers.collect::<Vec<_>>()).buffered(TOGETHER).try_collect().await?;
        for ((piece, topic), answer) in questions.into_iter().zip(answers) {
            all[piece][topic] = answer;
        }
        Ok(all)
    }
}

/// Embeds topics and measures how near the background is to each.
///
/// # Errors
/// Those of the model.
async fn calibrate(configs: &[GuardrailTopicConfig], embedder: &dyn EmbeddingModel) -> Result<Vec<Topic>, Error> {
    let background: Vec<String> = BACKGROUND.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let background = embed(embedder, background).await?;
    let mut topics = Vec::with_capacity(configs.len());
    for config in configs {
        let definition = format!("{}: {}", config.name, config.definition);
        let texts = [config.definition.clone(), definition].into_iter().chain(config.examples.iter().cloned());
        let anchors = embed(embedder, texts.collect()).await?;
        let mut topic = Topic { anchors, mean: 0.0, deviation: 1.0 };
        let near: Vec<f32> = background.iter().map(|vector| topic.nearness(vector)).collect();
        topic.mean = near.iter().sum::<f32>() / near.len() as f32;
        let variance = near.iter().map(|near| (near - topic.mean).powi(2)).sum::<f32>() / near.len() as f32;
        topic.deviation = variance.sqrt().max(LEAST_DEVIATION);
        topics.push(topic);
    }
    Ok(topics)
}

impl Topic {
    /// The cosine with the nearest anchor.
    fn nearness(&self, vector: &[f32]) -> f32 {
        let cosine = |anchor: &Vec<f32>| anchor.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
        self.anchors.iter().map(cosine).fold(-1.0, f32::max)
    }

    fn score(&self, vector: &[f32]) -> f32 {
        let above = (self.nearness(vector) - self.mean) / self.deviation;
        1.0 / (1.0 + (STEEP * (MARGIN - above)).exp())
    }
}
