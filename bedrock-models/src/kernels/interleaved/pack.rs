//! From blocks as they lie in a file to strips.

use super::Format;
use crate::kernels::activation::BLOCK;
use crate::weights::block::scale_and_minimum;

/// What a file says about one unit: 32 or 256 columns of a row.
struct Unit {
    /// `d` and, where the format has one, `m` or `dmin`: two bytes of `f16` each.
    floats: [[u8; 2]; 2],
    /// Scale and minimum of 32 columns, or the scales of its two halves.
    scales: [[u8; 2]; 8],
    quants: [u8; 256],
}

/// Stores the units of one row, `from` bytes each in the file, as lane `lane` of a strip.
pub(super) fn row(
    format: Format,
    file: &[u8],
    from: usize,
    lane: usize,
    lanes: usize,
    quants: &mut [u8],
    heads: &mut [u8],
) {
    let (blocks, floats) = (format.blocks(), format.floats());
    let (block_bytes, head_bytes) = (format.registers() * 4 * lanes, format.head() * lanes);
    let mut unit = Unit { floats: [[0; 2]; 2], scales: [[0; 2]; 8], quants: [0; 256] };
    let units = quants.chunks_exact_mut(blocks * block_bytes).zip(heads.chunks_exact_mut(head_bytes));
    for ((quants, head), file) in units.zip(file.chunks_exact(from)) {
        unit.read(format, file);
        for (array, float) in unit.floats[..floats].iter().enumerate() {
            head[2 * (array * lanes + lane)..][..2].copy_from_slice(float);
        }
        if blocks == 8 {
            for (array, scale) in unit.scales.as_flattened().iter().enumerate() {
                head[(2 * floats + array) * lanes + lane] = *scale;
            }
        }
        for (block, q) in quants.chunks_exact_mut(block_bytes).zip(unit.quants.as_chunks::<BLOCK>().0) {
            pack(format, q, lane, lanes, block);
        }
    }
}

/// Distributes the 32 quants of a lane's block over the registers.
fn pack(format: Format, q: &[u8; BLOCK], lane: usize, lanes: usize, block: &mut [u8]) {
    let at = |register: usize, k: usize| (register * lanes + lane) * 4 + k % 4;
    for (k, q) in q.iter().enumerate() {
        let (group, half) = (k % 16 / 4, k / 16);
        if format == Format::Q8 {
            block[at(k / 4, k)] = *q;
            continue;
        }
        block[at(group, k)] |= (q & 15) << (4 * half);
        match format {
            Format::Q5 | Format::Q5Min | Format::Q5K => block[at(4, k)] |= (q >> 4) << (group + 4 * half),
            Format::Q6K => block[at(4 + half, k)] |= (q >> 4) << (2 * group),
            _ => {}
        }
    }
}

impl Unit {
    /// Reads a block of the file; the layouts are described at [`block`](crate::weights::block)'s decoders.
    fn read(&mut self, format: Format, file: &[u8]) {
        let pair = |at: usize| [file[at], file[at + 1]];
        // Bytes of which the low halves are 16 (or `run`) columns and the high halves the next.
        let nibbles = |quants: &mut [u8], bytes: &[u8], run: usize| {
            for (quants, bytes) in quants.chunks_exact_mut(2 * run).zip(bytes.chunks_exact(run)) {
                let (low, high) = quants.split_at_mut(run);
                for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
                    (*low, *high) = (byte & 15, byte >> 4);
                }
            }
        };
        let fifth = |quants: &mut [u8], bits: &[u8]| {
            let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
            quants.iter_mut().enumerate().for_each(|(k, q)| *q |= (bits >> k & 1) as u8 * 16);
        };
        let minima = |scales: &mut [[u8; 2]; 8], packed: &[u8]| {
            for (s, to) in scales.iter_mut().enumerate() {
                let (scale, minimum) = scale_and_minimum(packed, s);
                *to = [scale, minimum];
            }
        };
        self.floats = if format == Format::Q6K { [pair(208), [0; 2]] } else { [pair(0), pair(2)] };
        let quants = &mut self.quants;
        match format {
            Format::Q8 => quants[..32].copy_from_slice(&file[2..34]),
            Format::Q4 => nibbles(&mut quants[..32], &file[2..], 16),
            Format::Q4Min => nibbles(&mut quants[..32], &file[4..], 16),
            Format::Q5 => {
                nibbles(&mut quants[..32], &file[6..], 16);
                fifth(&mut quants[..32], &file[2..6]);
            }
            Format::Q5Min => {
                nibbles(&mut quants[..32], &file[8..], 16);
                fifth(&mut quants[..32], &file[4..8]);
            }
            Format::Q4K => {
                minima(&mut self.scales, &file[4..16]);
                nibbles(quants, &file[16..144], 32);
            }
            Format::Q5K => {
                minima(&mut self.scales, &file[4..16]);
                nibbles(quants, &file[48..176], 32);
                for (i, q) in quants.iter_mut().enumerate() {
                    *q |= (file[16 + i % 32] >> (i / 32) & 1) << 4;
                }
            }
            Format::Q6K => {
                nibbles(quants, &file[..128], 64);
                for (i, q) in quants.iter_mut().enumerate() {
                    *q |= (file[128 + i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3) << 4;
                }
                self.scales.as_flattened_mut().copy_from_slice(&file[192..208]);
            }
        }
    }
}
