//! An embedding model without a neural network.

use crate::embed::{EmbedRequest, EmbedResponse, EmbeddingModel, EmbeddingModelInfo};
use crate::error::Error;
use crate::model::BoxFuture;

use super::words;

/// A deterministic embedder: each word, and with less weight each run of three letters in it, adds ±1 to one hashed
/// dimension. Texts that share words are near each other, so tests of retrieval mean something without a model.
///
/// Short words say little and weigh little. A token is a word; one special token, which every text has, keeps the vector
/// of an empty text from being zero.
#[derive(Debug, Clone)]
pub struct HashEmbedder {
    dimensions: usize,
    max_input_tokens: usize,
}

impl HashEmbedder {
    /// An embedder with vectors of this length (at least 1) and inputs of up to 512 tokens.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions: dimensions.max(1), max_input_tokens: 512 }
    }

    /// The same with another limit of tokens an input, the special one included.
    pub fn max_input_tokens(mut self, tokens: usize) -> Self {
        self.max_input_tokens = tokens.max(1);
        self
    }

    fn vector(&self, words: &[String], normalize: bool, dimensions: usize) -> Vec<f32> {
        let mut vector = vec![0.0; self.dimensions];
        let mut add = |feature: &str, weight: f32| {
            let hash = fnv1a(feature);
            let sign = if hash >> 63 == 0 { weight } else { -weight };
            vector[(hash % self.dimensions as u64) as usize] += sign;
        };
        add("", 0.05);
        for word in words {
            let letters: Vec<char> = word.chars().collect();
            let weight = letters.len().min(8) as f32 / 8.0;
            add(word, weight * weight);
            for run in letters.windows(3) {
                add(&run.iter().chain(&['*']).collect::<String>(), 0.3 * weight * weight / letters.len() as f32);
            }
        }
        vector.truncate(dimensions);
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if normalize {
            if norm > 0.0 {
                vector.iter_mut().for_each(|x| *x /= norm);
            } else {
                vector[0] = 1.0;
            }
        }
        vector
    }
}

impl Default for HashEmbedder {
    /// 256 dimensions.
    fn default() -> Self {
        Self::new(256)
    }
}

/// FNV-1a, 64 bits: the same on every machine and in every version.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl EmbeddingModel for HashEmbedder {
    fn embed<'a>(&'a self, request: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, Error>> {
        Box::pin(async move {
            let dimensions = request.dimensions.unwrap_or(self.dimensions);
            if dimensions == 0 || dimensions > self.dimensions {
                return Err(Error::validation(format!(
                    "dimensions is {dimensions}; it must be from 1 to {}",
                    self.dimensions
                )));
            }
            let mut response = EmbedResponse::default();
            for (index, input) in request.inputs.iter().enumerate() {
                let mut words: Vec<String> = words(input).collect();
                if words.len() + 1 > self.max_input_tokens {
                    if !request.truncate {
                        return Err(Error::validation(format!(
                            "inputs.{index} has {} tokens; at most {} fit",
                            words.len() + 1,
                            self.max_input_tokens
                        )));
                    }
                    words.truncate(self.max_input_tokens - 1);
                    response.truncated.push(index);
                }
                response.input_tokens += words.len() as u64 + 1;
                response.embeddings.push(self.vector(&words, request.normalize.unwrap_or(true), dimensions));
            }
            Ok(response)
        })
    }

    fn info(&self) -> EmbeddingModelInfo {
        EmbeddingModelInfo {
            model_id: "hash-embedder".into(),
            dimensions: self.dimensions,
            max_input_tokens: self.max_input_tokens,
            identity: format!("hash-embedder-1-{}", self.dimensions),
        }
    }

    fn count_tokens(&self, text: &str) -> Result<usize, Error> {
        Ok(words(text).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn shared_words_are_near() {
        let model = HashEmbedder::default();
        let request = EmbedRequest::documents([
            "How do I brew espresso at home?",
            "Brewing espresso at home takes a good grinder.",
            "The tax return is due in April.",
        ]);
        let vectors = model.embed_blocking(&request).unwrap().embeddings;
        let (near, far) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
        assert!(near > 0.4 && far < 0.25, "near {near}, far {far}");
    }

    #[test]
    fn vectors_do_not_change_between_versions() {
        let model = HashEmbedder::new(4);
        let vectors = model.embed_blocking(&EmbedRequest::query("stable")).unwrap().embeddings;
        let rounded: Vec<i32> = vectors[0].iter().map(|x| (x * 1000.0).round() as i32).collect();
        assert_eq!(rounded, EXPECTED);
    }
    const EXPECTED: [i32; 4] = [-104, -144, 984, 0];
}
