//! The file of a graph, read and checked on all threads.
//!
//! Everything is little-endian:
//!
//! ```text
//! magic 8 · version u32 · tag u64 · dimensions, rows, m, ef_construction, ef_search, precision, builder, entry, layers u32
//!   · places of each upper layer u32
//! sections: ids u64 · scales f32 · lowest links u32 · per upper layer rows, below, links u32 · high bytes · low bytes
//! BLAKE3 of each block (a mebibyte of a section, or what is left of it) · BLAKE3 of the head and all these hashes
//! ```
//!
//! The file is not trusted: its length must be what its head says before memory is taken, the hashes must fit, and every link must
//! lead to a place, since a search that trusts the links would panic on one that doesn't.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::build::{Links, MAX_UPPER_LAYERS};
use super::codes::{Codes, Precision, stride_of};
use super::layers::{Layer, Lowest, NONE, Upper};
use super::walk::MAX_ROWS;
use super::{GraphBuilder, Hnsw, HnswSettings, MAX_DIMENSIONS, Workspace, no_memory};
use crate::Error;

const MAGIC: &[u8; 8] = b"bedrHNSW";
const VERSION: u32 = 2;
const HEAD_BYTES: usize = 8 + 4 + 8 + 9 * 4;
const HASH_BYTES: usize = 32;
const BLOCK_BYTES: usize = 1 << 20;

impl Hnsw {
    /// Writes the graph with its vectors into a file, whole or not at all: into a file beside it that then takes its
    /// name. `tag` is kept with it, for the caller to know what it belongs to.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, path: &Path, tag: u64) -> Result<(), Error> {
        replace_file(path, |file| self.write(file, tag))
    }

    /// Writes what [`Hnsw::save`] writes.
    pub(crate) fn write(&self, out: &mut impl Write, tag: u64) -> io::Result<()> {
        let head = self.head(tag);
        out.write_all(&head)?;
        let mut root = blake3::Hasher::new();
        root.update(&head);
        let mut hashes = Vec::new();
        for section in self.sections() {
            let section = section.bytes();
            out.write_all(&section)?;
            hashes.extend(section.par_chunks(BLOCK_BYTES).map(blake3::hash).collect::<Vec<_>>());
        }
        for hash in hashes {
            out.write_all(hash.as_bytes())?;
            root.update(hash.as_bytes());
        }
        out.write_all(root.finalize().as_bytes())
    }

    fn head(&self, tag: u64) -> Vec<u8> {
        let settings = &self.settings;
        let numbers = [
            self.dimensions,
            self.ids.len(),
            settings.m,
            settings.ef_construction,
            settings.ef_search,
            usize::from(settings.precision == Precision::Eight),
            usize::from(settings.builder == GraphBuilder::HnswRs),
            self.links.entry as usize,
            self.links.upper.len(),
        ];
        let places = self.links.upper.iter().map(|layer| layer.rows.len());
        let mut head = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &tag.to_le_bytes()].concat();
        // All of them are bounded far below 2³².
        head.extend(numbers.into_iter().chain(places).flat_map(|number| (number as u32).to_le_bytes()));
        head
    }

    pub(super) fn sections(&self) -> Vec<Section<'_>> {
        let Codes { high, low, scales, .. } = &self.codes;
        let mut sections =
            vec![Section::U64(&self.ids), Section::F32(scales), Section::U32(self.links.lowest.links.as_ref())];
        for layer in &self.links.upper {
            sections.extend([&layer.rows, &layer.below, &layer.links].map(|numbers| Section::U32(numbers)));
        }
        sections.push(Section::Bytes(high.as_ref()));
        sections.extend(low.as_ref().map(|low| Section::Bytes(low.as_ref())));
        sections
    }

    /// Reads a file of [`Hnsw::save`] and its tag.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Damaged`], [`Error::UnknownVersion`] for a file of another version, [`Error::OutOfMemory`].
    pub fn load(path: &Path) -> Result<(Self, u64), Error> {
        let file = File::open(path).map_err(|source| Error::read(path, source))?;
        let length = file.metadata().map_err(|source| Error::read(path, source))?.len();
        Self::read(path, &file, length)
    }

    /// Reads what [`Hnsw::write`] has written. `path` is for errors.
    pub(crate) fn read(path: &Path, file: &impl ReadAt, length: u64) -> Result<(Self, u64), Error> {
        let damaged = |reason: &str| Error::damaged(path, reason);
        let read =
            |at: u64, bytes: &mut [u8]| file.read_exact_at(bytes, at).map_err(|source| Error::read(path, source));
        if length < (HEAD_BYTES + HASH_BYTES) as u64 {
            return Err(damaged("it is shorter than its head"));
        }
        let mut head = vec![0; HEAD_BYTES];
        read(0, &mut head)?;
        let (magic, numbers) = head.split_at(8);
        if magic != MAGIC {
            return Err(damaged("it is no vector graph"));
        }
        let version = u32_at(numbers, 0);
        if version != VERSION {
            return Err(Error::UnknownVersion { path: path.to_owned(), found: version, supported: VERSION });
        }
        let tag = u64::from_le_bytes(std::array::from_fn(|byte| numbers[4 + byte]));
        let [dimensions, rows, m, ef_construction, ef_search, precision, builder, entry, uppers]: [usize; 9] =
            std::array::from_fn(|index| u32_at(numbers, 12 + 4 * index) as usize);
        let settings = HnswSettings {
            m,
            ef_construction,
            ef_search,
            precision: if precision == 0 { Precision::Sixteen } else { Precision::Eight },
            builder: if builder == 0 { GraphBuilder::Own } else { GraphBuilder::HnswRs },
        };
        if settings.validate().is_err()
            || dimensions == 0
            || dimensions > MAX_DIMENSIONS
            || precision > 1
            || builder > 1
        {
            return Err(damaged("its settings are out of range"));
        }
        if uppers > MAX_UPPER_LAYERS || rows > MAX_ROWS || length < (HEAD_BYTES + 4 * uppers + HASH_BYTES) as u64 {
            return Err(damaged("it has more layers or vectors than a graph can have"));
        }
        let mut places = vec![0; 4 * uppers];
        read(HEAD_BYTES as u64, &mut places)?;
        head.extend_from_slice(&places);
        let places: Vec<usize> = (0..uppers).map(|layer| u32_at(&places, 4 * layer) as usize).collect();
        // Bytes of the sections, in their order.
        let mut sizes = vec![rows as u128 * 8, rows as u128 * 4, rows as u128 * 4 * Lowest::stride_of(m) as u128];
        for &places in &places {
            sizes.extend([places as u128 * 4, places as u128 * 4, places as u128 * 4 * m as u128]);
        }
        let codes = rows as u128 * stride_of(dimensions) as u128;
        sizes.extend(std::iter::repeat_n(codes, 2 - precision));
        let blocks: u128 = sizes.iter().map(|size| size.div_ceil(BLOCK_BYTES as u128)).sum();
        let hashes = blocks * HASH_BYTES as u128;
        let expected = head.len() as u128 + sizes.iter().sum::<u128>() + hashes + HASH_BYTES as u128;
        if u128::from(length) != expected {
            return Err(damaged(&format!("it has {length} bytes where its head says {expected}")));
        }
        // Now the head's sizes are no larger than the file, and memory may be taken by them.
        let mut trailer = vec![0; hashes as usize + HASH_BYTES];
        read(length - trailer.len() as u64, &mut trailer)?;
        let (hashes, root) = trailer.split_at(hashes as usize);
        if !fits(&blake3::Hasher::new().update(&head).update(hashes).finalize(), root) {
            return Err(damaged("its checksum does not fit"));
        }
        let mut ids = vec![0u64; rows];
        let mut codes = Codes::zeroed(settings.precision, dimensions, rows).map_err(no_memory)?;
        let lowest = Lowest::unlinked(m, rows).map_err(no_memory)?;
        let mut links = Links { lowest, upper: Vec::new(), entry: entry as u32 };
        for &places in &places {
            let (rows, below, links_of) = (vec![0; places], vec![0; places], vec![NONE; places * m]);
            links.upper.push(Upper { width: m, rows, below, links: links_of });
        }
        let mut sections: Vec<&mut [u8]> = vec![
            cast_slice_mut(&mut ids),
            cast_slice_mut(&mut codes.scales),
            cast_slice_mut(links.lowest.links.as_mut()),
        ];
        for layer in &mut links.upper {
            sections
                .extend([&mut layer.rows, &mut layer.below, &mut layer.links].map(|numbers| cast_slice_mut(numbers)));
        }
        sections.push(cast_slice_mut(codes.high.as_mut()));
        sections.extend(codes.low.as_mut().map(|low| cast_slice_mut(low.as_mut())));
        let mut at = head.len() as u64;
        let mut blocks = Vec::new();
        for section in sections {
            for block in section.chunks_mut(BLOCK_BYTES) {
                let bytes = block.len() as u64;
                blocks.push((at, block));
                at += bytes;
            }
        }
        blocks.into_par_iter().zip(hashes.par_chunks_exact(HASH_BYTES)).try_for_each(|((at, block), hash)| {
            read(at, block)?;
            if fits(&blake3::hash(block), hash) { Ok(()) } else { Err(damaged("the checksum of a block does not fit")) }
        })?;
        if cfg!(target_endian = "big") {
            turn(&mut ids, &mut codes.scales, &mut links);
        }
        let graph = Self { dimensions, settings, ids, codes, links, workspace: Workspace::default() };
        graph.check().map_err(damaged)?;
        Ok((graph, tag))
    }

    fn check(&self) -> Result<(), &'static str> {
        let (rows, links) = (self.ids.len(), &self.links);
        if rows == 0 {
            return if links.upper.is_empty() { Ok(()) } else { Err("it has links without vectors") };
        }
        if links.entry as usize >= links.upper.last().map_or(rows, |layer| layer.rows.len()) {
            return Err("its entry is missing");
        }
        if self.codes.scales.iter().any(|scale| !scale.is_finite() || *scale < 0.0) {
            return Err("a vector has a length that is not a number");
        }
        let within = |numbers: &[u32], limit: usize| {
            numbers.par_chunks(1 << 16).all(|numbers| numbers.iter().all(|&number| (number as usize) < limit))
        };
        let linked = |links: &[u32], limit: usize| {
            let valid = |&link: &u32| (link as usize) < limit || link == NONE;
            links.par_chunks(1 << 16).all(|links| links.iter().all(valid))
        };
        let mut below = rows;
        for layer in &links.upper {
            let places = layer.places();
            if !within(&layer.rows, rows) || !within(&layer.below, below) || !linked(&layer.links, places) {
                return Err("a link leads nowhere");
            }
            below = places;
        }
        if linked(links.lowest.links.as_ref(), rows) { Ok(()) } else { Err("a link leads nowhere") }
    }
}

/// Numbers as the file has them.
pub(super) enum Section<'a> {
    Bytes(&'a [i8]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    F32(&'a [f32]),
}

impl Section<'_> {
    pub(super) fn bytes(&self) -> std::borrow::Cow<'_, [u8]> {
        let little = cfg!(target_endian = "little");
        match self {
            Self::Bytes(bytes) => cast_slice(bytes).into(),
            Self::U32(numbers) if little => cast_slice(numbers).into(),
            Self::U64(numbers) if little => cast_slice(numbers).into(),
            Self::F32(numbers) if little => cast_slice(numbers).into(),
            Self::U32(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into(),
            Self::U64(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into(),
            Self::F32(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into(),
        }
    }
}

/// From the file's order of bytes to that of a big-endian processor.
fn turn(ids: &mut [u64], scales: &mut [f32], links: &mut Links) {
    ids.iter_mut().for_each(|id| *id = u64::from_le(*id));
    scales.iter_mut().for_each(|scale| *scale = f32::from_bits(u32::from_le(scale.to_bits())));
    let turn = |numbers: &mut [u32]| numbers.iter_mut().for_each(|number| *number = u32::from_le(*number));
    turn(links.lowest.links.as_mut());
    for layer in &mut links.upper {
        [&mut layer.rows, &mut layer.below, &mut layer.links].into_iter().for_each(|numbers| turn(numbers));
    }
}

/// Whether bytes have the hash that the file says. To the fuzz target every hash fits: what lies behind them shall be reached.
fn fits(hash: &blake3::Hash, said: &[u8]) -> bool {
    cfg!(fuzzing) || hash.as_bytes() == said
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

/// Something of which several threads can read different parts.
pub(crate) trait ReadAt: Sync {
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
}

impl ReadAt for File {
    #[cfg(unix)]
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, bytes, at)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(self, bytes, at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => (bytes, at) = (&mut bytes[read..], at + read as u64),
            }
        }
        Ok(())
    }
}

impl ReadAt for &[u8] {
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)?.get(..bytes.len()));
        bytes.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Writes a file beside the one of this name, synchronises it, and gives it the name.
pub(crate) fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>,
) -> Result<(), Error> {
    let fail = |source| Error::write(path, source);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = io::BufWriter::with_capacity(1 << 20, File::create(&beside).map_err(fail)?);
    let written = write(&mut file)
        .and_then(|()| file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if let Err(source) = written {
        let _ = fs::remove_file(&beside);
        return Err(fail(source));
    }
    // Makes the rename last. A folder can't be synchronised on every system, and where it can't the rename is as lasting as it gets.
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        let _ = folder.sync_all();
    }
    Ok(())
}
