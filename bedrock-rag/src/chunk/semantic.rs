//! Semantic chunking: cuts where neighbouring sentences are least alike.

use bedrock_core::{EmbedPurpose, EmbedRequest, EmbeddingModel};

use super::pack::{Unit, pack, to_chunk, units};
use super::{Chunk, CountTokens};
use crate::Error;
use crate::document::Document;

/// Windows embedded in one call.
const BATCH: usize = 64;

pub(super) async fn chunk(
    document: &Document,
    counter: &dyn CountTokens,
    embedder: &dyn EmbeddingModel,
    max_tokens: usize,
    buffer: usize,
    percentile: usize,
) -> Result<Vec<Chunk>, Error> {
    let units = units(document, counter, max_tokens)?;
    let distances = distances(document, &units, embedder, buffer).await?;
    let threshold = percentile_of(&distances, percentile);
    let mut chunks = Vec::new();
    let mut start = 0;
    for end in 1..=units.len() {
        let cut = end == units.len() || distances[end - 1] > threshold;
        if !cut {
            continue;
        }
        for part in pack(&units[start..end], max_tokens, 0) {
            let part = start + part.start..start + part.end;
            chunks.push(to_chunk(&units, part, max_tokens, chunks.len(), None));
        }
        start = end;
    }
    Ok(chunks)
}

/// Cosine distance of each unit's window to the next one's.
async fn distances(
    document: &Document,
    units: &[Unit],
    embedder: &dyn EmbeddingModel,
    buffer: usize,
) -> Result<Vec<f32>, Error> {
    let mut distances = Vec::with_capacity(units.len().saturating_sub(1));
    let mut previous: Option<Vec<f32>> = None;
    let mut start = 0;
    while start < units.len() {
        let end = units.len().min(start + BATCH);
        let inputs = (start..end)
            .map(|index| {
                let first = &units[index.saturating_sub(buffer)];
                let last = &units[(index + buffer).min(units.len() - 1)];
                document.text[first.range.start..last.range.end].to_owned()
            })
            .collect();
        let request = EmbedRequest {
            inputs,
            purpose: EmbedPurpose::Document,
            dimensions: None,
            normalize: Some(true),
            truncate: true,
        };
        let response = embedder.embed(&request).await.map_err(|source| Error::Model { role: "embedding", source })?;
        if response.embeddings.len() != end - start {
            return Err(Error::DimensionMismatch { expected: end - start, got: response.embeddings.len() });
        }
        for embedding in response.embeddings {
            if let Some(previous) = &previous {
                if previous.len() != embedding.len() {
                    return Err(Error::DimensionMismatch { expected: previous.len(), got: embedding.len() });
                }
                let cosine: f32 = previous.iter().zip(&embedding).map(|(a, b)| a * b).sum();
                distances.push(1.0 - cosine);
            }
            previous = Some(embedding);
        }
        start = end;
    }
    Ok(distances)
}

/// The percentile by linear interpolation between the closest ranks; infinity of nothing.
fn percentile_of(values: &[f32], percentile: usize) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f32::INFINITY };
    let rank = percentile as f32 / 100.0 * last as f32;
    let below = rank.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f32)
}

#[cfg(test)]
mod tests {
    use bedrock_core::testing::HashEmbedder;

    use super::super::{Chunking, WordCounter};
    use super::*;

    #[test]
    fn percentile_as_in_the_guide() {
        // 101 sentences give 100 distances; with percentile 90 the ten largest are cuts.
        let values: Vec<f32> = (0..100).map(|n| n as f32).collect();
        let threshold = percentile_of(&values, 90);
        assert_eq!(values.iter().filter(|&&value| value > threshold).count(), 10);
        assert_eq!(percentile_of(&[], 90), f32::INFINITY);
        assert_eq!(percentile_of(&[3.0], 50), 3.0);
    }

    #[test]
    fn cuts_where_the_words_change() {
        let text = "Cats purr and cats sleep. Cats purr when cats sleep. Cats sleep and purr. \
                    Rockets burn fuel to fly. Rockets fly when fuel burns. Fuel burns and rockets fly.";
        let document = Document::from_text(text);
        let chunking: Chunking = "semantic:100:0:80".parse().unwrap();
        let embedder = HashEmbedder::new(64);
        let chunks = futures::executor::block_on(chunking.chunk(&document, &WordCounter, Some(&embedder))).unwrap();
        assert_eq!(chunks.len(), 2);
        assert!(chunks[1].text(&document).starts_with("Rockets burn"));
        assert!(chunking.chunk_blocking(&document, &WordCounter).is_err());
    }
}
