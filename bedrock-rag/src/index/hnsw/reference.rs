//! hnsw_rs as the maker of the links: another implementation of the same paper, to compare ours with.
//!
//! It keeps `f32` vectors and each list of links in an allocation of its own behind locks while it builds. It never touches the disk.

use hnsw_rs::prelude::{Distance, Hnsw as Builder};

use super::HnswSettings;
use super::build::{MAX_UPPER_LAYERS, from_lists};
use super::layers::Lowest;
use super::{Links, layers};
use crate::index::distance::dot;

/// hnsw_rs's view of our distance.
struct CosineDistance;

impl Distance<f32> for CosineDistance {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

/// Has hnsw_rs link normalised vectors and copies its links out, row by row.
pub(super) fn link(settings: &HnswSettings, dimensions: usize, vectors: &[f32]) -> std::io::Result<Links> {
    let rows = vectors.len() / dimensions;
    if rows == 0 {
        return Ok(Links { lowest: Lowest::unlinked(settings.m, 0)?, upper: Vec::new(), entry: 0 });
    }
    let builder = Builder::<f32, CosineDistance>::new(settings.m, rows, 16, settings.ef_construction, CosineDistance);
    let items: Vec<(&[f32], usize)> = vectors.chunks_exact(dimensions).zip(0..rows).collect();
    // The first ones alone: threads that all start from an empty graph don't see each other.
    let (seed, rest) = items.split_at(items.len().min(256));
    for &item in seed {
        builder.insert_slice(item);
    }
    builder.parallel_insert_slice(&rest.to_vec());
    let points = builder.get_point_indexation();
    let top = usize::from(points.get_max_level_observed()).min(MAX_UPPER_LAYERS);
    let mut entry = 0;
    // (row, links) of each layer, to be sorted by row.
    let mut lists: Vec<Vec<(u32, Vec<u32>)>> = vec![Vec::new(); top + 1];
    for point in points {
        let row = point.get_origin_id() as u32;
        let place = point.get_point_id();
        if usize::from(place.0) == top && place.1 == 0 {
            entry = row;
        }
        for (layer, links) in point.get_neighborhood_id().into_iter().enumerate().take(lists.len()) {
            if layer <= usize::from(place.0) {
                let mut links: Vec<u32> = links.into_iter().map(|link| link.d_id as u32).collect();
                links.retain(|&link| link != row && link != layers::NONE);
                lists[layer].push((row, links));
            }
        }
    }
    for lists in &mut lists {
        lists.sort_by_key(|&(row, _)| row);
    }
    from_lists(settings.m, rows, &lists, entry)
}
