//! The instructions of matrix tiles, and of what goes into them.

use std::arch::asm;
use std::arch::x86_64::*;
use std::cmp::Ordering;
use std::mem::transmute;

use super::super::split::{round, round_pairs, split, split_pairs, store};
use super::{COLUMNS, DEPTH, LINES, Line, Precision, tile};

/// `ARCH_REQ_XCOMP_PERM` of `arch_prctl`, and the number of the tiles' data among what it may allow.
const REQUEST: usize = 0x1023;
const TILE_DATA: usize = 18;
const ARCH_PRCTL: usize = 158;

pub(super) fn is_here() -> bool {
    // Leaf 7: `bf16` products, and tiles.
    let features = __cpuid_count(7, 0).edx;
    let splits = std::arch::is_x86_feature_detected!("avx512bw") && std::arch::is_x86_feature_detected!("avx512bf16");
    if features >> 22 & 1 == 0 || features >> 24 & 1 == 0 || !splits || !std::arch::is_x86_feature_detected!("xsave") {
        return false;
    }
    // SAFETY: `xsave` was detected, and AVX-512, for which the operating system has to have enabled it.
    let enabled = unsafe { enabled() };
    if enabled >> 17 & 3 != 3 {
        return false;
    }
    let refused: isize;
    // SAFETY: the system call allows this process to use tiles or refuses it; it touches no memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL as isize => refused,
            in("rdi") REQUEST,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    refused == 0
}

#[target_feature(enable = "xsave")]
unsafe fn enabled() -> u64 {
    // SAFETY: by the target feature.
    unsafe { _xgetbv(0) }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Layout {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of 16 rows of 64 bytes.
static LAYOUT: Layout = Layout {
    palette: 1,
    start: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Four products of tiles a step, whatever they hold.
///
/// # Safety
/// The registers must be laid out.
#[cfg(feature = "bench")]
pub(super) unsafe fn multiply_registers(steps: usize) {
    // SAFETY: by the contract; there is no memory in it.
    unsafe {
        asm!(
            "tilezero tmm4",
            "tilezero tmm5",
            "tilezero tmm6",
            "tilezero tmm7",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {steps}",
            "jnz 2b",
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem),
        );
    }
}

/// # Safety
/// Tiles must be there, and the process must be allowed to use them.
pub(super) unsafe fn lay_out() {
    // SAFETY: by the contract; reads 64 bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const LAYOUT, options(nostack, readonly, preserves_flags)) };
}

/// # Safety
/// As [`lay_out`].
pub(super) unsafe fn release() {
    // SAFETY: by the contract.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
}

fn load(values: &[f32; COLUMNS]) -> __m512 {
    // SAFETY: 64 bytes, of which any are valid.
    unsafe { transmute(*values) }
}

/// # Safety
/// `is_here`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack_left(
    x: &[f32],
    stride: usize,
    count: usize,
    depth: usize,
    precision: Precision,
    out: &mut [Line],
) {
    for (r, begin) in (0..count).map(|r| (r, r * stride)) {
        let (whole, rest) = x[begin..][..depth].as_chunks::<COLUMNS>();
        let mut part = [0.0; COLUMNS];
        part[..rest.len()].copy_from_slice(rest);
        let at = |index: usize| match index.cmp(&whole.len()) {
            Ordering::Less => load(&whole[index]),
            Ordering::Equal => load(&part),
            Ordering::Greater => load(&[0.0; COLUMNS]),
        };
        for (tile, out) in out.chunks_exact_mut(tile(precision)).enumerate() {
            let (first, second) = (at(2 * tile), at(2 * tile + 1));
            let (high, low) = out.split_at_mut(LINES);
            match precision {
                Precision::F32 => store(split(first, second), [&mut high[r], &mut low[r]]),
                Precision::Bf16 => store([round(first, second)], [&mut high[r]]),
            }
        }
    }
    for out in out.chunks_exact_mut(LINES) {
        out[count..].fill(Line([0.0; COLUMNS]));
    }
}

/// # Safety
/// `is_here`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack_right(values: &[f32], stride: usize, count: usize, precision: Precision, out: &mut [Line]) {
    for (tile, out) in out.chunks_exact_mut(tile(precision)).enumerate() {
        let (high, low) = out.split_at_mut(LINES);
        for (pair, high) in high.iter_mut().enumerate() {
            let row = tile * DEPTH + 2 * pair;
            let at = |row: usize| match row < count {
                true => load(values[row * stride..].first_chunk().expect("16 values")),
                false => load(&[0.0; COLUMNS]),
            };
            match precision {
                Precision::F32 => store(split_pairs(at(row), at(row + 1)), [high, &mut low[pair]]),
                Precision::Bf16 => store([round_pairs(at(row), at(row + 1))], [high]),
            }
        }
    }
}

/// Asks for the 32 lines of an operand's next tiles, high and low parts.
macro_rules! ask_for_next {
    ($operand:literal) => {
        ask_for_next!($operand, 0 256 512 768 1024 1280 1536 1792)
    };
    ($operand:literal, $($at:literal)*) => {
        concat!($(
            "prefetcht0 [{", $operand, "} + 2048 + ", $at, "]\n",
            "prefetcht0 [{", $operand, "} + 2112 + ", $at, "]\n",
            "prefetcht0 [{", $operand, "} + 2176 + ", $at, "]\n",
            "prefetcht0 [{", $operand, "} + 2240 + ", $at, "]\n",
        )*)
    };
}

/// The sums begin from zeros, or from 32 rows of 32 floats, as many apart as is said.
///
/// # Safety
/// The registers must be laid out, and the floats be there.
pub(super) unsafe fn begin(from: Option<(*const f32, usize)>) {
    // SAFETY: what `from` points to is read, by the contract; it changes the tiles alone.
    unsafe {
        match from {
            Some((from, stride)) => asm!(
                "tileloadd tmm0, [{from} + {stride}]",
                "tileloadd tmm1, [{from} + {stride} + 64]",
                "tileloadd tmm2, [{under} + {stride}]",
                "tileloadd tmm3, [{under} + {stride} + 64]",
                from = in(reg) from,
                under = in(reg) from.wrapping_add(16 * stride),
                stride = in(reg) 4 * stride,
                options(nostack, readonly, preserves_flags),
            ),
            None => asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem, preserves_flags)
            ),
        }
    }
}

/// Adds products to the sums. Nothing but the functions here uses the registers of tiles, so that the sums are still where [`begin`] put them.
///
/// # Safety
/// The registers must be laid out; each operand must have `count` tiles of both parts.
pub(super) unsafe fn multiply(count: usize, [a, below, b, beside]: [*const u8; 4]) {
    // SAFETY: the loop goes through `count` tiles of 2 KiB of each operand, and asks for what follows, which need not be there.
    unsafe {
        asm!(
            "test {count}, {count}",
            "jz 5f",
            "2:",
            // High parts of the left, low of the right.
            "tileloadd tmm4, [{a} + {line}]",
            "tileloadd tmm5, [{below} + {line}]",
            "tileloadd tmm6, [{b} + {line} + 1024]",
            "tileloadd tmm7, [{beside} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            ask_for_next!("a"),
            "tileloadd tmm6, [{b} + {line}]",
            "tileloadd tmm7, [{beside} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            ask_for_next!("below"),
            "tileloadd tmm4, [{a} + {line} + 1024]",
            "tileloadd tmm5, [{below} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            ask_for_next!("b"),
            ask_for_next!("beside"),
            "add {a}, 2048",
            "add {below}, 2048",
            "add {b}, 2048",
            "add {beside}, 2048",
            "dec {count}",
            "jnz 2b",
            "5:",
            line = in(reg) 64usize,
            count = inout(reg) count => _,
            a = inout(reg) a => _,
            below = inout(reg) below => _,
            b = inout(reg) b => _,
            beside = inout(reg) beside => _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly),
        );
    }
}

/// As [`multiply`], of tiles of high parts alone. What is near is met often enough that nothing is asked for.
///
/// # Safety
/// The registers must be laid out; each operand must have `count` tiles of one part.
pub(super) unsafe fn multiply_rounded(count: usize, [a, below, b, beside]: [*const u8; 4]) {
    // SAFETY: the loop goes through `count` tiles of 1 KiB of each operand.
    unsafe {
        asm!(
            "test {count}, {count}",
            "jz 5f",
            "2:",
            "tileloadd tmm4, [{a} + {line}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{beside} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{below} + {line}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 1024",
            "add {below}, 1024",
            "add {b}, 1024",
            "add {beside}, 1024",
            "dec {count}",
            "jnz 2b",
            "5:",
            line = in(reg) 64usize,
            count = inout(reg) count => _,
            a = inout(reg) a => _,
            below = inout(reg) below => _,
            b = inout(reg) b => _,
            beside = inout(reg) beside => _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly),
        );
    }
}

/// One part of what [`multiply`] does to one tile of each operand. Parts 0 to 15, in this order, do all of it, so that something else can be done between them: it
/// is then done at the same time, which longer runs of either are not.
///
/// # Safety
/// The registers must be laid out; each operand must have a tile of both parts.
#[inline(always)]
pub(super) unsafe fn multiply_part(part: usize, [a, below, b, beside]: [*const u8; 4]) {
    macro_rules! tiles {
        ($($instruction:literal)*) => {
            // SAFETY: reads at most 16 lines of 64 bytes from one of the halves of a tile of 2 KiB of an operand; changes the tiles alone.
            unsafe {
                asm!(
                    $($instruction,)*
                    "/* {a} {below} {b} {beside} {line} */",
                    a = in(reg) a,
                    below = in(reg) below,
                    b = in(reg) b,
                    beside = in(reg) beside,
                    line = in(reg) 64usize,
                    options(nostack, readonly, preserves_flags),
                )
            }
        };
    }
    match part {
        0 => {
            tiles!("tileloadd tmm4, [{a} + {line}]" "tileloadd tmm6, [{b} + {line} + 1024]" "tdpbf16ps tmm0, tmm4, tmm6")
        }
        1 => tiles!("tileloadd tmm7, [{beside} + {line} + 1024]" "tdpbf16ps tmm1, tmm4, tmm7"),
        2 => tiles!("tileloadd tmm5, [{below} + {line}]" "tdpbf16ps tmm2, tmm5, tmm6"),
        4 => tiles!("tdpbf16ps tmm3, tmm5, tmm7"),
        5 => tiles!("tileloadd tmm6, [{b} + {line}]" "tdpbf16ps tmm0, tmm4, tmm6"),
        6 => tiles!("tileloadd tmm7, [{beside} + {line}]" "tdpbf16ps tmm1, tmm4, tmm7"),
        8 => tiles!("tdpbf16ps tmm2, tmm5, tmm6"),
        9 => tiles!("tdpbf16ps tmm3, tmm5, tmm7"),
        10 => tiles!("tileloadd tmm4, [{a} + {line} + 1024]" "tdpbf16ps tmm0, tmm4, tmm6"),
        12 => tiles!("tdpbf16ps tmm1, tmm4, tmm7"),
        13 => tiles!("tileloadd tmm5, [{below} + {line} + 1024]" "tdpbf16ps tmm2, tmm5, tmm6"),
        14 => tiles!("tdpbf16ps tmm3, tmm5, tmm7"),
        _ => {}
    }
}

/// Stores the sums: 32 rows of 32 floats, `stride` floats apart.
///
/// # Safety
/// The registers must be laid out, and the floats be there.
pub(super) unsafe fn end(out: *mut f32, stride: usize) {
    // SAFETY: writes what `out` points to, by the contract.
    unsafe {
        asm!(
            "tilestored [{out} + {stride}], tmm0",
            "tilestored [{out} + {stride} + 64], tmm1",
            "tilestored [{under} + {stride}], tmm2",
            "tilestored [{under} + {stride} + 64], tmm3",
            out = in(reg) out,
            under = in(reg) out.wrapping_add(16 * stride),
            stride = in(reg) 4 * stride,
            options(nostack, preserves_flags),
        );
    }
}
