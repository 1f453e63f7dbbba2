//! The element-wise and row-wise functions between two matrix products.
//!
//! Each is written once, as a plain loop, and compiled for any processor, for AVX2 with FMA, and for AVX-512, where the compiler
//! vectorises it. The first differs from the others in rounding (two roundings instead of one per multiply-add).

use super::isa::{Isa, isa};
use super::pool::{Disjoint, Pool};

/// `a · b + c`, fused where `FMA` says that the hardware does it.
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `eˣ` to about 2 units in the last place, without branches; 0 below -87.3, infinity above 88.7, NaN for NaN.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    let (value, n) = exp_parts::<FMA>(if x > 88.8 { 88.8 } else { x });
    // Two factors: 2ⁿ itself may not be a float at the ends of the range.
    let half = n >> 1;
    let value = value * power(half) * power(n.wrapping_sub(half));
    if x < -87.3 { 0.0 } else { value }
}

/// [`exp`] of what is not positive, bit for bit, in three quarters of the steps: what softmax needs most of its time for.
#[inline(always)]
pub(super) fn exp_negative<const FMA: bool>(x: f32) -> f32 {
    let (value, n) = exp_parts::<FMA>(x);
    if x < -87.3 { 0.0 } else { value * power(n) }
}

/// `v` and `n` of `eˣ = v · 2ⁿ`, for `x` up to 88.8; what is below -87.4 counts as that.
///
/// Cody–Waite reduction to `[-ln 2 / 2, ln 2 / 2]` and the Taylor polynomial of degree 7.
#[inline(always)]
fn exp_parts<const FMA: bool>(x: f32) -> (f32, i32) {
    let clamped = if x < -87.4 { -87.4 } else { x };
    // Rounds to the nearest integer by adding and taking away 1.5 · 2²³.
    const ROUND: f32 = 12_582_912.0;
    let shifted = mul_add::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -0.693_359_4, clamped);
    let r = mul_add::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = mul_add::<FMA>(p, r, c);
    }
    // The integer is in the last bits of the sum: a conversion, which saturates, would be done lane by lane.
    (p, shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
}

/// `2ⁿ`, for `n` from -126 to 127.
#[inline(always)]
fn power(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// Folds lanes by halves: four steps for 16, where one lane after another would be 15 that wait for each other.
#[inline(always)]
pub(super) fn halve(lanes: [f32; 16], fold: impl Fn(f32, f32) -> f32) -> f32 {
    // Spelled out, so that the halves are registers: a loop over widths keeps its lanes in memory.
    let lanes: [f32; 8] = std::array::from_fn(|lane| fold(lanes[lane], lanes[lane + 8]));
    let lanes: [f32; 4] = std::array::from_fn(|lane| fold(lanes[lane], lanes[lane + 4]));
    let lanes: [f32; 2] = std::array::from_fn(|lane| fold(lanes[lane], lanes[lane + 2]));
    fold(lanes[0], lanes[1])
}

/// Defines a function that runs `$body` compiled for the processor at hand; `$fma` is a constant inside.
macro_rules! compiled {
    ($(#[$doc:meta])* $vis:vis fn $name:ident<$fma:ident>($isa:ident $(, $arg:ident: $type:ty)* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        #[inline]
        $vis fn $name($isa: Isa $(, $arg: $type)*) $(-> $ret)? {
            #[inline(always)]
            fn body<const $fma: bool>($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            unsafe fn avx512($($arg: $type),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            match $isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as below, for AVX-512.
                Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: such an `Isa` is only made where AVX2 and FMA were detected; the body is safe code.
                isa if isa.avx2() => unsafe { avx2($($arg),*) },
                // Every aarch64 has the fused instruction.
                _ => body::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
            }
        }
    };
}

compiled! {
    /// `x[i] = e^(x[i] - largest)`; returns the sum.
    pub(crate) fn exp_sum<FMA>(isa, x: &mut [f32], largest: f32) -> f32 {
        let mut sums = [0.0f32; 16];
        let (whole, rest) = x.as_chunks_mut::<16>();
        for x in whole {
            for (x, sum) in x.iter_mut().zip(&mut sums) {
                *x = exp::<FMA>(*x - largest);
                *sum += *x;
            }
        }
        if !rest.is_empty() {
            // What is left fills 16 lanes too, the others with `e^-∞`: one by one it would cost as much as ten times 16.
            let mut last = [f32::NEG_INFINITY; 16];
            last[..rest.len()].copy_from_slice(rest);
            for (x, sum) in last.iter_mut().zip(&mut sums) {
                *x = exp::<FMA>(*x - largest);
                *sum += *x;
            }
            rest.copy_from_slice(&last[..rest.len()]);
        }
        halve(sums, |a, b| a + b)
    }
}

compiled! {
    /// The largest value, or `-∞` of none; NaN is passed over.
    pub(crate) fn highest<FMA>(isa, x: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let (whole, rest) = x.as_chunks::<16>();
        let wider = |a: f32, b: f32| if b > a { b } else { a };
        for x in whole {
            lanes.iter_mut().zip(x).for_each(|(lane, x)| *lane = wider(*lane, *x));
        }
        rest.iter().fold(halve(lanes, wider), |a, b| wider(a, *b))
    }
}

compiled! {
    /// SwiGLU: `gate[i] = silu(gate[i]) · up[i]` (Shazeer 2020), `silu(x) = x / (1 + e^-x)`.
    fn silu_mul_rows<FMA>(isa, gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + exp::<FMA>(-*gate)) * up;
        }
    }
}

compiled! {
    /// GELU with the error function: `x · Φ(x)` (Hendrycks and Gimpel 2016), in place.
    ///
    /// `erf(z) = z · P(z²) / Q(z²)` for `|z| ≤ 4`, beyond which it is 1 in `f32`: a minimax fit of ours, absolute error 4e-7.
    pub(crate) fn gelu<FMA>(isa, x: &mut [f32]) {
        for x in x.iter_mut() {
            let z = *x * std::f32::consts::FRAC_1_SQRT_2;
            let z = if z > 4.0 { 4.0 } else { z };
            let z = if z < -4.0 { -4.0 } else { z };
            let square = z * z;
            let (mut p, mut q) = (1.986_686_1e-6, 3.741_789e-5);
            for c in [2.845_416_6e-4, 3.882_862_6e-3, 5.310_023_6e-2, 0.193_535_8, std::f32::consts::FRAC_2_SQRT_PI] {
                p = mul_add::<FMA>(p, square, c);
            }
            for c in [1.185_428_7e-3, 1.520_630_5e-2, 0.115_345_92, 0.504_849_2, 1.0] {
                q = mul_add::<FMA>(q, square, c);
            }
            let half = 0.5 * *x;
            *x = mul_add::<FMA>(half, z * p / q, half);
        }
    }
}

compiled! {
    /// GELU, `tanh` form: `x / (1 + e^(-2 √(2/π) (x + 0.044715 x³)))`.
    pub(crate) fn gelu_tanh<FMA>(isa, x: &mut [f32]) {
        for x in x.iter_mut() {
            let inner = 1.595_769_2 * mul_add::<FMA>(0.044_715 * *x * *x, *x, *x);
            *x /= 1.0 + exp::<FMA>(-inner);
        }
    }
}

compiled! {
    /// `gate[i] = gelu(gate[i]) · up[i]` (Shazeer 2020) with the `tanh` form of GELU.
    fn gelu_tanh_mul_rows<FMA>(isa, gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            let inner = 1.595_769_2 * mul_add::<FMA>(0.044_715 * *gate * *gate, *gate, *gate);
            *gate = *gate / (1.0 + exp::<FMA>(-inner)) * up;
        }
    }
}

compiled! {
    /// Keeps values inside `±cap` smoothly: `cap · tanh(x / cap)` (Bello et al. 2016), in place.
    pub(crate) fn soft_cap<FMA>(isa, x: &mut [f32], cap: f32) {
        for x in x.iter_mut() {
            // tanh(z) = 1 - 2 / (1 + e^2z)
            *x = cap - 2.0 * cap / (1.0 + exp::<FMA>(2.0 * *x / cap));
        }
    }
}

compiled! {
    /// One row of root-mean-square normalisation (Zhang and Sennrich 2019).
    fn rms_norm_row<FMA>(isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let mut sums = [0.0f32; 8];
        let (whole, rest) = x.as_chunks::<8>();
        for x in whole {
            for (x, sum) in x.iter().zip(&mut sums) {
                *sum = mul_add::<FMA>(*x, *x, *sum);
            }
        }
        let square = sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
        let scale = 1.0 / (square / x.len() as f32 + eps).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}

compiled! {
    /// One row of layer normalisation (Ba et al. 2016), in place.
    fn layer_norm_row<FMA>(isa, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        let n = x.len() as f32;
        let mean = {
            let (whole, rest) = x.as_chunks::<8>();
            let mut sums = [0.0f32; 8];
            for x in whole {
                x.iter().zip(&mut sums).for_each(|(x, sum)| *sum += x);
            }
            (sums.iter().sum::<f32>() + rest.iter().sum::<f32>()) / n
        };
        let variance = {
            let (whole, rest) = x.as_chunks::<8>();
            let mut sums = [0.0f32; 8];
            for x in whole {
                x.iter().zip(&mut sums).for_each(|(x, sum)| *sum = mul_add::<FMA>(x - mean, x - mean, *sum));
            }
            (sums.iter().sum::<f32>() + rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>()) / n
        };
        let scale = 1.0 / (variance + eps).sqrt();
        for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
            *x = mul_add::<FMA>((*x - mean) * scale, *weight, *bias);
        }
    }
}

compiled! {
    /// `x[i] += y[i]`.
    fn add_rows<FMA>(isa, x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
}

compiled! {
    /// `x[i] *= y[i]`.
    fn mul_rows<FMA>(isa, x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x *= y;
        }
    }
}

pub(super) use compiled;

/// Values below which a function stays on the calling thread: handing out costs more.
const ALONE: usize = 16 * 1024;

/// Calls `row(first, part)` for parts of whole rows of `x` on the threads of the pool.
pub(super) fn by_rows(pool: &Pool, x: &mut [f32], width: usize, row: impl Fn(usize, &mut [f32]) + Sync) {
    assert!(width > 0 && x.len().is_multiple_of(width));
    let rows = x.len() / width;
    if x.len() < ALONE {
        return row(0, x);
    }
    let size = rows.div_ceil(pool.threads() * 4);
    let x = Disjoint::new(x);
    pool.run(rows.div_ceil(size), &|chunk| {
        let first = chunk * size;
        let count = size.min(rows - first);
        // SAFETY: the chunks' rows do not overlap.
        row(first, unsafe { x.slice(first * width, count * width) });
    });
}

/// Root-mean-square normalisation of each row.
pub(crate) fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let (isa, width) = (isa(), weight.len());
    assert_eq!(x.len(), out.len());
    by_rows(pool, out, width, |first, out| {
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            rms_norm_row(isa, &x[(first + i) * width..][..width], weight, eps, out);
        }
    });
}

/// Layer normalisation of every `dim` values of each row, in place; weight and bias are as long as a row.
pub(crate) fn layer_norm(pool: &Pool, x: &mut [f32], dim: usize, weight: &[f32], bias: &[f32], eps: f32) {
    let (isa, width) = (isa(), weight.len());
    assert!(bias.len() == width && dim > 0 && width.is_multiple_of(dim));
    by_rows(pool, x, width, |_, x| {
        for row in x.chunks_exact_mut(width) {
            let parts = weight.chunks_exact(dim).zip(bias.chunks_exact(dim));
            row.chunks_exact_mut(dim).zip(parts).for_each(|(x, (w, b))| layer_norm_row(isa, x, w, b, eps));
        }
    });
}

/// SwiGLU in place of `gate`.
pub(crate) fn silu_mul(pool: &Pool, gate: &mut [f32], up: &[f32], width: usize) {
    let isa = isa();
    assert_eq!(gate.len(), up.len());
    by_rows(pool, gate, width, |first, gate| silu_mul_rows(isa, gate, &up[first * width..][..gate.len()]));
}

/// `gelu(gate) · up` in place of `gate`, with the `tanh` form of GELU.
pub(crate) fn gelu_tanh_mul(pool: &Pool, gate: &mut [f32], up: &[f32], width: usize) {
    let isa = isa();
    assert_eq!(gate.len(), up.len());
    by_rows(pool, gate, width, |first, gate| gelu_tanh_mul_rows(isa, gate, &up[first * width..][..gate.len()]));
}

/// [`soft_cap`] on the threads of the pool.
pub(crate) fn soft_cap_rows(pool: &Pool, x: &mut [f32], width: usize, cap: f32) {
    let isa = isa();
    by_rows(pool, x, width, |_, x| soft_cap(isa, x, cap));
}

/// A function of single values, on the threads of the pool.
pub(crate) fn apply(pool: &Pool, x: &mut [f32], width: usize, function: fn(Isa, &mut [f32])) {
    let isa = isa();
    by_rows(pool, x, width, |_, x| function(isa, x));
}

/// `x += y`.
pub(crate) fn add(pool: &Pool, x: &mut [f32], y: &[f32], width: usize) {
    let isa = isa();
    assert_eq!(x.len(), y.len());
    by_rows(pool, x, width, |first, x| add_rows(isa, x, &y[first * width..][..x.len()]));
}

/// `x *= y`.
pub(crate) fn mul(pool: &Pool, x: &mut [f32], y: &[f32], width: usize) {
    let isa = isa();
    assert_eq!(x.len(), y.len());
    by_rows(pool, x, width, |first, x| mul_rows(isa, x, &y[first * width..][..x.len()]));
}

/// Rotary position embedding (Su et al. 2021) of each head of each row, in place.
///
/// `x` is `[rows, heads · head_dim]`; `angles[row]` holds `rotary_dim / 2` cosines, then as many sines, already scaled.
/// `pairs` rotates neighbours (`x[2i]`, `x[2i+1]`: GGUF's order), otherwise halves (`x[i]`, `x[i + n/2]`: Hugging Face's).
pub(crate) fn rotate(pool: &Pool, x: &mut [f32], head_dim: usize, width: usize, angles: &[&[f32]], pairs: bool) {
    assert!(head_dim > 0 && width.is_multiple_of(head_dim) && angles.len() * width == x.len());
    by_rows(pool, x, width, |first, x| {
        for (i, row) in x.chunks_exact_mut(width).enumerate() {
            let half = angles[first + i].len() / 2;
            assert!(2 * half <= head_dim);
            let (cos, sin) = angles[first + i].split_at(half);
            for head in row.chunks_exact_mut(head_dim) {
                if pairs {
                    for (pair, (cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin)) {
                        *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
                    }
                } else {
                    let (low, high) = head[..2 * half].split_at_mut(half);
                    for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
                        (*low, *high) = (*low * cos - *high * sin, *low * sin + *high * cos);
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f32, want: f64, relative: f64) {
        assert!((f64::from(got) - want).abs() <= relative * want.abs().max(1e-6), "{got} {want}");
    }

    #[test]
    fn exponential_over_its_whole_range() {
        for isa in [isa(), Isa::Portable] {
            let mut x: Vec<f32> = (-8700..=8860).map(|i| i as f32 / 100.0).collect();
            let want: Vec<f64> = x.iter().map(|x| f64::from(*x).exp()).collect();
            exp_sum(isa, &mut x, 0.0);
            x.iter().zip(want).for_each(|(got, want)| close(*got, want, 5e-7));
            let mut edge = [f32::NEG_INFINITY, -1e30, -100.0, 0.0, 100.0, f32::INFINITY, f32::NAN];
            exp_sum(isa, &mut edge, 0.0);
            assert_eq!(edge[..6], [0.0, 0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]);
            assert!(edge[6].is_nan());
        }
    }

    #[test]
    fn exp_of_what_is_not_positive_is_exp() {
        let numbers = (0..200_000).map(|i| -(i as f32) * 4.7e-4);
        let edges = [f32::NEG_INFINITY, -1e30, -87.4, -87.35, -87.3, -87.29, -1e-30, -0.0, 0.0, f32::NAN];
        for x in numbers.chain(edges) {
            assert_eq!(exp_negative::<true>(x).to_bits(), exp::<true>(x).to_bits(), "{x}");
            assert_eq!(exp_negative::<false>(x).to_bits(), exp::<false>(x).to_bits(), "{x}");
        }
    }

    #[test]
    fn sums_and_maxima_of_any_length() {
        for isa in [isa(), Isa::Portable] {
            for len in 0..70 {
                let x: Vec<f32> = (0..len).map(|i| ((i * 29 % 41) as f32 - 20.0) / 7.0).collect();
                let top = x.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
                assert_eq!(highest(isa, &x), top);
                let (mut got, top) = (x.clone(), if len == 0 { 0.0 } else { top });
                let sum = exp_sum(isa, &mut got, top);
                close(sum, x.iter().map(|x| f64::from(x - top).exp()).sum(), 1e-6);
                got.iter().zip(&x).for_each(|(got, x)| close(*got, f64::from(x - top).exp(), 5e-7));
            }
            assert_eq!(highest(isa, &[f32::NAN, 1.0, f32::NAN]), 1.0);
        }
    }

    #[test]
    fn activations_against_their_definitions() {
        let x: Vec<f32> = (-400..400).map(|i| i as f32 / 40.0).collect();
        let up: Vec<f32> = x.iter().map(|x| x * 0.3 + 1.0).collect();
        let tanh = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
        // erf by its series, exact enough for |x| < 5.
        let erf = |x: f64| {
            let (mut term, mut sum, mut n) = (x, x, 0.0);
            while term.abs() > 1e-17 {
                n += 1.0;
                term *= -x * x / n;
                sum += term / (2.0 * n + 1.0);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        };
        for isa in [isa(), Isa::Portable] {
            let (mut a, mut b, mut c, mut d, mut e) = (x.clone(), x.clone(), x.clone(), x.clone(), x.clone());
            silu_mul_rows(isa, &mut a, &up);
            gelu_tanh(isa, &mut b);
            gelu(isa, &mut c);
            gelu_tanh_mul_rows(isa, &mut d, &up);
            soft_cap(isa, &mut e, 3.0);
            for (i, x) in x.iter().map(|x| f64::from(*x)).enumerate() {
                assert!((f64::from(a[i]) - x / (1.0 + (-x).exp()) * f64::from(up[i])).abs() < 1e-5);
                assert!((f64::from(b[i]) - tanh(x)).abs() < 2e-6);
                assert!((f64::from(d[i]) - tanh(x) * f64::from(up[i])).abs() < 1e-5);
                assert!((f64::from(e[i]) - 3.0 * (x / 3.0).tanh()).abs() < 1e-6);
                if x.abs() < 5.0 {
                    assert!((f64::from(c[i]) - 0.5 * x * (1.0 + erf(x / 2f64.sqrt()))).abs() < 2e-6, "{x}");
                }
            }
        }
    }

    #[test]
    fn a_cap_holds_at_the_ends() {
        for isa in [isa(), Isa::Portable] {
            let mut x = [-1e30, f32::NEG_INFINITY, 0.0, 1e30, f32::INFINITY, f32::NAN];
            soft_cap(isa, &mut x, 50.0);
            assert_eq!(x[..5], [-50.0, -50.0, 0.0, 50.0, 50.0]);
            assert!(x[5].is_nan());
        }
    }

    #[test]
    fn heads_are_normalised_each_by_itself() {
        let pool = Pool::new(2);
        let (heads, dim) = (3, 5);
        let x: Vec<f32> = (0..heads * dim * 7).map(|i| ((i * 17 % 23) as f32 - 11.0) / 4.0).collect();
        let weight: Vec<f32> = (0..heads * dim).map(|i| 0.5 + i as f32 / 9.0).collect();
        let mut together = x.clone();
        layer_norm(&pool, &mut together, dim, &weight, &vec![0.25; heads * dim], 1e-5);
        for (i, (x, got)) in x.chunks_exact(dim).zip(together.chunks_exact(dim)).enumerate() {
            let mut alone = x.to_vec();
            layer_norm(&pool, &mut alone, dim, &weight[i % heads * dim..][..dim], &[0.25; 5], 1e-5);
            assert_eq!(alone, got);
        }
    }

    #[test]
    fn norms_and_rotation() {
        let pool = Pool::new(2);
        let width = 37;
        let x: Vec<f32> = (0..width * 600).map(|i| ((i * 31 % 101) as f32 - 50.0) / 20.0).collect();
        let weight: Vec<f32> = (0..width).map(|i| 0.5 + i as f32 / 37.0).collect();
        let mut out = vec![0.0; x.len()];
        rms_norm(&pool, &x, &weight, 1e-5, &mut out);
        let mut normal = x.clone();
        layer_norm(&pool, &mut normal, width, &weight, &weight, 1e-5);
        for row in [0, 299, 599] {
            let r = &x[row * width..][..width];
            let mean = r.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
            let square = r.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
            for i in 0..width {
                let (x, w) = (f64::from(r[i]), f64::from(weight[i]));
                close(out[row * width + i], x / (square + 1e-5).sqrt() * w, 1e-5);
                let want = (x - mean) / (square - mean * mean + 1e-5).sqrt() * w + w;
                assert!((f64::from(normal[row * width + i]) - want).abs() < 1e-5);
            }
        }
        // One head of four, angle 90° for the first pair, 0° for the second.
        let angles = [0.0, 1.0, 1.0, 0.0];
        let mut halves = [1.0, 2.0, 3.0, 4.0];
        rotate(&pool, &mut halves, 4, 4, &[&angles], false);
        assert_eq!(halves, [-3.0, 2.0, 1.0, 4.0]);
        let mut pairs = [1.0, 2.0, 3.0, 4.0];
        rotate(&pool, &mut pairs, 4, 4, &[&angles], true);
        assert_eq!(pairs, [-2.0, 1.0, 3.0, 4.0]);
    }
}
