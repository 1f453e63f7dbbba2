//! Links, in one piece a layer, every place with room for the most it may have.
//!
//! On the lowest layer a place is a row. On those above, whose vectors are few, places are numbered layer by layer, and links and
//! the way down are places too: a search never looks anything up by row.

use std::io;

use rayon::prelude::*;

use super::memory::Memory;

/// Stands behind the last link of a place.
pub(super) const NONE: u32 = u32::MAX;

/// Numbers in a line of the cache.
const LINE: usize = 16;

pub(super) trait Layer: Sync {
    /// The links of a place. [`NONE`] ends them early.
    fn links(&self, place: u32) -> &[u32];

    /// The row at a place.
    fn row(&self, place: u32) -> u32;

    /// Numbers places to tell which were seen: no place is this large.
    fn places(&self) -> usize;

    /// Most links of a place.
    fn width(&self) -> usize;

    /// Replaces the links of a place by at most [`Layer::width`] others.
    fn set(&mut self, place: u32, links: &[u32]);
}

/// Links of all rows.
#[derive(Debug)]
pub(super) struct Lowest {
    width: usize,
    /// Numbers a row: its links, filled up to whole lines.
    pub(super) stride: usize,
    pub(super) links: Memory<u32>,
}

impl Lowest {
    pub(super) fn stride_of(m: usize) -> usize {
        (2 * m).next_multiple_of(LINE)
    }

    pub(super) fn unlinked(m: usize, rows: usize) -> io::Result<Self> {
        let stride = Self::stride_of(m);
        let mut links = Memory::zeroed(rows.checked_mul(stride).ok_or(io::ErrorKind::OutOfMemory)?)?;
        links.as_mut().par_chunks_mut(1 << 18).for_each(|links| links.fill(NONE));
        Ok(Self { width: 2 * m, stride, links })
    }
}

impl Lowest {
    /// A copy with room for `rows`.
    pub(super) fn grown(&self, rows: usize) -> io::Result<Self> {
        let mut links =
            Memory::grown(self.links.as_ref(), rows.checked_mul(self.stride).ok_or(io::ErrorKind::OutOfMemory)?)?;
        links.as_mut()[self.links.as_ref().len()..].fill(NONE);
        Ok(Self { links, ..*self })
    }
}

impl Layer for Lowest {
    #[inline(always)]
    fn links(&self, place: u32) -> &[u32] {
        let start = place as usize * self.stride;
        &self.links.as_ref()[start..start + self.stride]
    }

    #[inline(always)]
    fn row(&self, place: u32) -> u32 {
        place
    }

    fn places(&self) -> usize {
        self.links.as_ref().len() / self.stride
    }

    fn width(&self) -> usize {
        self.width
    }

    fn set(&mut self, place: u32, links: &[u32]) {
        let start = place as usize * self.stride;
        replace(&mut self.links.as_mut()[start..start + self.stride], links);
    }
}

/// Links of the rows of one higher layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Upper {
    pub(super) width: usize,
    /// The row at each place.
    pub(super) rows: Vec<u32>,
    /// Its place one layer below.
    pub(super) below: Vec<u32>,
    pub(super) links: Vec<u32>,
}

impl Upper {
    pub(super) fn new(m: usize) -> Self {
        Self { width: m, ..Self::default() }
    }

    /// Adds a place without links; returns it.
    pub(super) fn push(&mut self, row: u32, below: u32) -> u32 {
        let place = self.rows.len() as u32;
        self.rows.push(row);
        self.below.push(below);
        self.links.resize(self.rows.len() * self.width, NONE);
        place
    }
}

impl Layer for Upper {
    #[inline(always)]
    fn links(&self, place: u32) -> &[u32] {
        let start = place as usize * self.width;
        &self.links[start..start + self.width]
    }

    #[inline(always)]
    fn row(&self, place: u32) -> u32 {
        self.rows[place as usize]
    }

    fn places(&self) -> usize {
        self.rows.len()
    }

    fn width(&self) -> usize {
        self.width
    }

    fn set(&mut self, place: u32, links: &[u32]) {
        let start = place as usize * self.width;
        replace(&mut self.links[start..start + self.width], links);
    }
}

fn replace(all: &mut [u32], links: &[u32]) {
    all[..links.len()].copy_from_slice(links);
    all[links.len()..].fill(NONE);
}

/// The links before [`NONE`].
pub(super) fn linked(links: &[u32]) -> &[u32] {
    &links[..links.iter().position(|&link| link == NONE).unwrap_or(links.len())]
}
