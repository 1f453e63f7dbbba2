//! Denied topics: is a text about what a sentence defines?
//!
//! A piece of text is as near to a topic as the nearest of its definition and examples, by the cosine of their embeddings. What a cosine means
//! differs from encoder to encoder and from topic to topic, so each topic is calibrated when the guardrail is built: against harmless
//! requests and sentences about everything and nothing (`data/background.txt`), which say how near to it texts are that have
//! nothing to do with it.

use std::sync::Arc;

use bedrock_core::{EmbeddingModel, Error, GuardrailTopicConfig};

use crate::examine::embed;

const BACKGROUND: &str = include_str!("../../data/background.txt");
/// Score from which a text is about a topic.
pub(crate) const DENIED: f32 = 0.5;
/// Standard deviations above the background at which the score is [`DENIED`]. With all-MiniLM-L6-v2, of six topics, 0.7% to 1.8% of 500 texts
/// about other things came this near; of four of them, 64% to 91% of texts about the topic. Chosen on the same texts, those of
/// `examples/topic_quality.rs`.
const MARGIN: f32 = 2.2;
/// How fast the score rises there.
const STEEP: f32 = 1.5;
/// Least standard deviation of the background: an encoder that sees no difference at all decides nothing.
const LEAST_DEVIATION: f32 = 0.01;

struct Topic {
    /// Embeddings of the definition with the name, and of the examples.
    anchors: Vec<Vec<f32>>,
    mean: f32,
    deviation: f32,
}

/// Topics and the encoder that knows them.
pub(crate) struct Topics {
    embedder: Arc<dyn EmbeddingModel>,
    topics: Vec<Topic>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("topics", &self.topics.len()).finish_non_exhaustive()
    }
}

impl Topics {
    /// Bytes of the longest piece that is compared.
    pub(crate) const PIECE: usize = 300;

    /// Embeds and calibrates.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) async fn new(
        configs: &[GuardrailTopicConfig],
        embedder: Arc<dyn EmbeddingModel>,
    ) -> Result<Self, Error> {
        let background: Vec<String> =
            BACKGROUND.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        let background = embed(embedder.as_ref(), background).await?;
        let mut topics = Vec::with_capacity(configs.len());
        for config in configs {
            let definition = format!("{}: {}", config.name, config.definition);
            let texts = [config.definition.clone(), definition].into_iter().chain(config.examples.iter().cloned());
            let anchors = embed(embedder.as_ref(), texts.collect()).await?;
            let mut topic = Topic { anchors, mean: 0.0, deviation: 1.0 };
            let near: Vec<f32> = background.iter().map(|vector| topic.nearness(vector)).collect();
            topic.mean = near.iter().sum::<f32>() / near.len() as f32;
            let variance = near.iter().map(|near| (near - topic.mean).powi(2)).sum::<f32>() / near.len() as f32;
            topic.deviation = variance.sqrt().max(LEAST_DEVIATION);
            topics.push(topic);
        }
        Ok(Self { embedder, topics })
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// For each piece the score of each topic, 0..=1.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) async fn scores(&self, pieces: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let vectors = embed(self.embedder.as_ref(), pieces.iter().map(|piece| (*piece).to_owned()).collect()).await?;
        let scores = |vector: &Vec<f32>| self.topics.iter().map(|topic| topic.score(vector)).collect();
        Ok(vectors.iter().map(scores).collect())
    }
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
