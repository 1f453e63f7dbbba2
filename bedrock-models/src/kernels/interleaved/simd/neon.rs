//! Registers of aarch64: NEON with products of bytes (`sdot`), whose operands are both signed, which quants of at most 6 bits are as well.

use std::arch::aarch64::*;
use std::arch::asm;

use super::*;

type Bytes = uint8x16_t;
type Floats = float32x4_t;

/// Quants of Q8 stay signed.
const Q8_IS_SIGNED: bool = true;

macro_rules! on_registers {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty { $body:expr })*) => {
        $(
            /// # Safety
            /// The features, and what is read or written is there.
            #[inline]
            #[target_feature(enable = "neon,dotprod")]
            #[allow(unused_unsafe)]
            unsafe fn $name($($arg: $type),*) -> $ret {
                // SAFETY: by the contract.
                unsafe { $body }
            }
        )*
    };
}

on_registers! {
    fn zero() -> Bytes { vdupq_n_u8(0) }
    fn splat(byte: i8) -> Bytes { vdupq_n_u8(byte.cast_unsigned()) }
    fn splat_float(value: f32) -> Floats { vdupq_n_f32(value) }
    fn and(a: Bytes, b: Bytes) -> Bytes { vandq_u8(a, b) }
    fn or(a: Bytes, b: Bytes) -> Bytes { vorrq_u8(a, b) }
    fn mul(a: Floats, b: Floats) -> Floats { vmulq_f32(a, b) }
    fn add_float(a: Floats, b: Floats) -> Floats { vaddq_f32(a, b) }
    fn fma(a: Floats, b: Floats, c: Floats) -> Floats { vfmaq_f32(c, a, b) }
    fn to_float(a: Bytes) -> Floats { vcvtq_f32_s32(vreinterpretq_s32_u8(a)) }
    fn load(at: *const u8) -> Bytes { vld1q_u8(at) }
    fn less(a: Bytes, b: Bytes) -> Bytes { vreinterpretq_u8_s32(vsubq_s32(vreinterpretq_s32_u8(a), vreinterpretq_s32_u8(b))) }
    fn plus(a: Bytes, b: Bytes) -> Bytes { vreinterpretq_u8_s32(vaddq_s32(vreinterpretq_s32_u8(a), vreinterpretq_s32_u8(b))) }
    fn four(at: *const i8) -> Bytes { vreinterpretq_u8_s32(vdupq_n_s32(at.cast::<i32>().read_unaligned())) }
    fn broadcast_float(at: *const f32) -> Floats { vdupq_n_f32(*at) }
    fn load_float(at: *const f32) -> Floats { vld1q_f32(at) }
    fn unsigned(at: *const u8) -> Floats {
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(u64::from(at.cast::<u32>().read_unaligned()))))))
    }
    fn signed(at: *const u8) -> Floats {
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(u64::from(at.cast::<u32>().read_unaligned()))))))
    }
    fn store(at: *mut f32, value: Floats) -> () { vst1q_f32(at, value) }
}

/// Four halves as floats.
///
/// # Safety
/// The features; eight bytes are there.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn halves(at: *const u8) -> Floats {
    // SAFETY: by the contract.
    let halves = unsafe { vld1_u8(at) };
    let floats: Floats;
    // SAFETY: an instruction of every processor with NEON.
    unsafe {
        asm!(
            "fcvtl {floats:v}.4s, {halves:v}.4h",
            floats = out(vreg) floats,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    floats
}

/// `sums` and the products of four bytes each.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot4(sums: int32x4_t, a: Bytes, b: Bytes) -> int32x4_t {
    let mut sums = sums;
    // SAFETY: by the target feature.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn left<const N: i32>(a: Bytes) -> Bytes {
    vreinterpretq_u8_u16(vshlq_n_u16::<N>(vreinterpretq_u16_u8(a)))
}

/// Integers of 32 bits over `1 << N`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn part<const N: i32>(a: Bytes) -> Bytes {
    vreinterpretq_u8_s32(vshrq_n_s32::<N>(vreinterpretq_s32_u8(a)))
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn right<const N: i32>(a: Bytes) -> Bytes {
    vreinterpretq_u8_u16(vshrq_n_u16::<N>(vreinterpretq_u16_u8(a)))
}

fn quant8(w: Bytes) -> Bytes {
    w
}

/// Byte `J` of each lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn column<const J: i32, const F: u8>(w: Bytes) -> Floats {
    if F == Q8 {
        let w = vreinterpretq_s32_u8(w);
        let top = match J {
            0 => vshlq_n_s32::<24>(w),
            1 => vshlq_n_s32::<16>(w),
            2 => vshlq_n_s32::<8>(w),
            _ => w,
        };
        return vcvtq_f32_s32(vshrq_n_s32::<24>(top));
    }
    let w = vreinterpretq_u32_u8(w);
    let bottom = match J {
        0 => w,
        1 => vshrq_n_u32::<8>(w),
        2 => vshrq_n_u32::<16>(w),
        _ => vshrq_n_u32::<24>(w),
    };
    vcvtq_f32_u32(vandq_u32(bottom, vdupq_n_u32(255)))
}

/// The products of `N` registers of quants with the activations from `from` on of each of `R` rows, which lie `width` blocks apart.
///
/// # Safety
/// The features; the rows have such a block, and that `4 N` activations from there on.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn dots<const F: u8, const P: usize, const N: usize, const R: usize>(
    w: [Bytes; N],
    x: At<P>,
    width: usize,
    from: usize,
) -> [Bytes; R] {
    let mut all = [vdupq_n_u8(0); R];
    for (r, all) in all.iter_mut().enumerate() {
        let mut sums = [vdupq_n_s32(0); 2];
        for (g, w) in w.into_iter().enumerate() {
            // SAFETY: by the contract; the sums of 32 products of at most 128 · 32,640 fit.
            unsafe {
                let x = x.add(r * width);
                sums[0] = dot4(sums[0], w, four(x.block().q.as_ptr().add(from + 4 * g)));
                if P == 2 {
                    sums[1] = dot4(sums[1], w, four(x.low(from + 4 * g)));
                }
            }
        }
        let [high, low] = sums;
        *all = vreinterpretq_u8_s32(if P == 2 { vaddq_s32(vshlq_n_s32::<8>(high), low) } else { high });
    }
    all
}

kernels!("neon,dotprod", 4, [4, 2, 1]);
