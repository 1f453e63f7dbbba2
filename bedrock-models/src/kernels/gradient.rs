//! Gradients of the row-wise functions, and the step of the optimiser: what training computes between two products.

use std::sync::{Mutex, PoisonError};

use super::elementwise::{by_rows, compiled, exp, exp_sum, highest, mul_add};
use super::isa::{Isa, isa};
use super::pool::{Disjoint, Pool};

/// Rows whose part of a weight's gradient is summed by one thread. Fixed, so that the sum does not depend on the number of threads.
const BLOCK: usize = 32;

compiled! {
    /// Of one row of root-mean-square normalisation: `out += dx`, `sums[i] += dy[i] · x[i] · scale`.
    fn rms_norm_row<FMA>(isa, x: &[f32], weight: &[f32], eps: f32, dy: &[f32], out: &mut [f32], sums: &mut [f32]) {
        let mut squares = [0.0f32; 16];
        let mut products = [0.0f32; 16];
        let n = x.len();
        let (x, weight, dy) = (&x[..n], &weight[..n], &dy[..n]);
        let whole = n / 16 * 16;
        for i in (0..whole).step_by(16) {
            for lane in 0..16 {
                let (x, dy) = (x[i + lane], dy[i + lane] * weight[i + lane]);
                squares[lane] = mul_add::<FMA>(x, x, squares[lane]);
                products[lane] = mul_add::<FMA>(x, dy, products[lane]);
            }
        }
        let (mut square, mut product) = (squares.iter().sum::<f32>(), products.iter().sum::<f32>());
        for i in whole..n {
            square += x[i] * x[i];
            product += x[i] * dy[i] * weight[i];
        }
        let scale = 1.0 / (square / n as f32 + eps).sqrt();
        let pull = product * scale * scale * scale / n as f32;
        for (((out, sum), x), (dy, weight)) in out.iter_mut().zip(sums).zip(x).zip(dy.iter().zip(weight)) {
            *out = mul_add::<FMA>(dy * weight, scale, -pull * x);
            *sum = mul_add::<FMA>(dy * scale, *x, *sum);
        }
    }
}

compiled! {
    /// Of SwiGLU: `gate` becomes its gradient, `up` its own, given `dy`.
    fn silu_mul_rows<FMA>(isa, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
        for ((gate, up), dy) in gate.iter_mut().zip(up).zip(dy) {
            let sigmoid = 1.0 / (1.0 + exp::<FMA>(-*gate));
            let silu = *gate * sigmoid;
            let slope = mul_add::<FMA>(silu, 1.0 - sigmoid, sigmoid);
            (*gate, *up) = (dy * *up * slope, dy * silu);
        }
    }
}

compiled! {
    /// `x[i] = e^(x[i] - top) · scale`.
    pub(super) fn shares<FMA>(isa, x: &mut [f32], top: f32, scale: f32) {
        for x in x.iter_mut() {
            *x = exp::<FMA>(*x - top) * scale;
        }
    }
}

/// A step of Adam with decoupled weight decay for one value: the value and its moments, mean and mean square, as they are then, and the root of
/// the latter.
#[inline(always)]
pub(super) fn adam<const FMA: bool>(
    step: AdamStep,
    value: f32,
    gradient: f32,
    [mean, square]: [f32; 2],
) -> (f32, [f32; 2], f32) {
    let AdamStep { size, keep, root, betas: [beta1, beta2], eps, scale } = step;
    let gradient = gradient * scale;
    let mean = mul_add::<FMA>(beta1, mean, (1.0 - beta1) * gradient);
    let square = mul_add::<FMA>(beta2, square, (1.0 - beta2) * gradient * gradient);
    let length = square.sqrt();
    (value * keep - size * mean / mul_add::<FMA>(length, 1.0 / root, eps), [mean, square], length)
}

compiled! {
    /// See [`adamw`].
    fn adamw_part<FMA>(isa, step: AdamStep, values: &mut [f32], gradients: &mut [f32], mean: &mut [f32], square: &mut [f32]) {
        let moments = mean.iter_mut().zip(square);
        for ((value, gradient), (mean, square)) in values.iter_mut().zip(gradients).zip(moments) {
            (*value, [*mean, *square], _) = adam::<FMA>(step, *value, std::mem::take(gradient), [*mean, *square]);
        }
    }
}

/// The numbers of one step of Adam.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    /// Step size over the first moment's correction.
    pub(crate) size: f32,
    /// What is left of a value after its decay.
    pub(crate) keep: f32,
    /// Root of the second moment's correction.
    pub(crate) root: f32,
    pub(crate) betas: [f32; 2],
    pub(crate) eps: f32,
    /// What gradients are multiplied by first.
    pub(crate) scale: f32,
}

/// Values that the optimiser hands out at a time.
const CHUNK: usize = 64 * 1024;

/// A step of Adam with decoupled weight decay (Loshchilov and Hutter 2017), in place. The gradients are zeros afterwards.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn adamw(
    pool: &Pool,
    step: AdamStep,
    values: &mut [f32],
    gradients: &mut [f32],
    mean: &mut [f32],
    square: &mut [f32],
) {
    let (isa, len) = (isa(), values.len());
    assert!(gradients.len() == len && mean.len() == len && square.len() == len);
    let parts = [values, gradients, mean, square].map(Disjoint::new);
    pool.run(len.div_ceil(CHUNK), &|chunk| {
        let (start, count) = (chunk * CHUNK, CHUNK.min(len - chunk * CHUNK));
        // SAFETY: the chunks do not overlap.
        let [values, gradients, mean, square] = parts.each_ref().map(|part| unsafe { part.slice(start, count) });
        adamw_part(isa, step, values, gradients, mean, square);
    });
}

/// The sum of squares, in an order that does not depend on the threads.
pub(crate) fn square_sum(pool: &Pool, values: &[f32]) -> f64 {
    let sums: Vec<Mutex<f64>> = values.chunks(CHUNK).map(|_| Mutex::new(0.0)).collect();
    pool.run(sums.len(), &|chunk| {
        let mut lanes = [0.0f64; 8];
        let part = &values[chunk * CHUNK..][..CHUNK.min(values.len() - chunk * CHUNK)];
        let (whole, rest) = part.as_chunks::<8>();
        for part in whole {
            lanes.iter_mut().zip(part).for_each(|(lane, value)| *lane += f64::from(*value) * f64::from(*value));
        }
        rest.iter().zip(&mut lanes).for_each(|(value, lane)| *lane += f64::from(*value) * f64::from(*value));
        *sums[chunk].lock().unwrap_or_else(PoisonError::into_inner) = lanes.iter().sum();
    });
    sums.into_iter().map(|sum| sum.into_inner().unwrap_or_else(PoisonError::into_inner)).sum()
}

/// Gradients of [`rms_norm`](super::elementwise::rms_norm) for its input and, added to `sums`, for its weight.
pub(crate) fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], eps: f32, dy: &[f32], sums: &mut [f32]) -> Vec<f32> {
    let (isa, width) = (isa(), weight.len());
    assert!(x.len() == dy.len() && sums.len() == width && x.len().is_multiple_of(width));
    let mut out = pool.memory.take(x.len());
    out.fill(0.0);
    let blocks = x.len().div_ceil(BLOCK * width);
    let mut partial = vec![0.0; blocks * width];
    let (to, parts) = (Disjoint::new(&mut out), Disjoint::new(&mut partial));
    pool.run(blocks, &|block| {
        let start = block * BLOCK * width;
        let len = (BLOCK * width).min(x.len() - start);
        // SAFETY: the blocks' rows and their sums do not overlap.
        let (out, sums) = unsafe { (to.slice(start, len), parts.slice(block * width, width)) };
        let rows = x[start..][..len].chunks_exact(width).zip(dy[start..][..len].chunks_exact(width));
        for ((x, dy), out) in rows.zip(out.chunks_exact_mut(width)) {
            rms_norm_row(isa, x, weight, eps, dy, out, sums);
        }
    });
    for part in partial.chunks_exact(width) {
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    out
}

/// Gradients of [`silu_mul`](super::elementwise::silu_mul) for gate and up, in their place.
pub(crate) fn silu_mul(pool: &Pool, gate: &mut [f32], up: &mut [f32], dy: &[f32], width: usize) {
    let isa = isa();
    assert!(gate.len() == up.len() && gate.len() == dy.len());
    let up = Disjoint::new(up);
    by_rows(pool, gate, width, |first, gate| {
        let start = first * width;
        // SAFETY: as the rows of `gate`, those of `up` are handed out once.
        let up = unsafe { up.slice(start, gate.len()) };
        silu_mul_rows(isa, gate, up, &dy[start..][..gate.len()]);
    });
}

/// Cross-entropy of each row of logits with its label, natural logarithm, and the logarithm of the sum of `eˣ` of the row.
pub(crate) fn cross_entropy(pool: &Pool, logits: &[f32], labels: &[u32]) -> Vec<[f32; 2]> {
    let (isa, width) = (isa(), logits.len() / labels.len().max(1));
    assert_eq!(logits.len(), width * labels.len());
    let out: Vec<Mutex<[f32; 2]>> = labels.iter().map(|_| Mutex::new([0.0; 2])).collect();
    pool.run(labels.len(), &|row| {
        const PART: usize = 4096;
        let (logits, label) = (&logits[row * width..][..width], labels[row] as usize);
        let top = highest(isa, logits);
        let mut part = [0.0; PART];
        let sum: f64 = logits
            .chunks(PART)
            .map(|logits| {
                let part = &mut part[..logits.len()];
                part.copy_from_slice(logits);
                f64::from(exp_sum(isa, part, top))
            })
            .sum();
        let log = f64::from(top) + sum.ln();
        *out[row].lock().unwrap_or_else(PoisonError::into_inner) =
            [(log - f64::from(logits[label])) as f32, log as f32];
    });
    out.into_iter().map(|out| out.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// The gradient of the rows' cross-entropies, each times its weight, for the logits, in their place. `logs` is what [`cross_entropy`] says
/// second.
pub(crate) fn cross_entropy_gradient(pool: &Pool, logits: &mut [f32], labels: &[u32], logs: &[f32], weights: &[f32]) {
    let (isa, width) = (isa(), logits.len() / labels.len().max(1));
    assert!(logits.len() == width * labels.len() && logs.len() == labels.len() && weights.len() == labels.len());
    by_rows(pool, logits, width, |first, logits| {
        for (i, logits) in logits.chunks_exact_mut(width).enumerate() {
            shares(isa, logits, logs[first + i], weights[first + i]);
            logits[labels[first + i] as usize] -= weights[first + i];
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::elementwise;
    use super::*;

    fn numbers(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + salt * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// The slope of `loss` in each direction of `x`, by differences on both sides.
    fn slopes(x: &[f32], loss: impl Fn(&[f32]) -> f64) -> Vec<f64> {
        const STEP: f32 = 1.0 / 64.0;
        let at = |i: usize, by: f32| {
            let mut moved = x.to_vec();
            moved[i] += by;
            loss(&moved)
        };
        (0..x.len()).map(|i| (at(i, STEP) - at(i, -STEP)) / (2.0 * f64::from(STEP))).collect()
    }

    fn close(got: &[f32], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() <= 2e-3 * want.abs().max(1.0), "{got} {want}");
        }
    }

    fn weighed(out: &[f32], dy: &[f32]) -> f64 {
        out.iter().zip(dy).map(|(out, dy)| f64::from(*out) * f64::from(*dy)).sum()
    }

    #[test]
    fn gradients_of_a_norm_are_slopes() {
        let pool = Pool::new(2);
        for (rows, width) in [(1, 5), (70, 3), (2, 35)] {
            let (x, weight, dy) = (numbers(rows * width, 1), numbers(width, 2), numbers(rows * width, 3));
            let forward = |x: &[f32], weight: &[f32]| {
                let mut out = vec![0.0; x.len()];
                elementwise::rms_norm(&pool, x, weight, 0.5, &mut out);
                weighed(&out, &dy)
            };
            let mut sums = vec![0.0; width];
            let got = rms_norm(&pool, &x, &weight, 0.5, &dy, &mut sums);
            close(&got, &slopes(&x, |x| forward(x, &weight)));
            close(&sums, &slopes(&weight, |weight| forward(&x, weight)));
        }
    }

    #[test]
    fn gradients_of_a_gate_are_slopes() {
        let pool = Pool::new(2);
        let (gate, up, dy) = (numbers(60, 1), numbers(60, 2), numbers(60, 3));
        let forward = |gate: &[f32], up: &[f32]| {
            let mut out = gate.to_vec();
            elementwise::silu_mul(&pool, &mut out, up, 20);
            weighed(&out, &dy)
        };
        let (mut for_gate, mut for_up) = (gate.clone(), up.clone());
        silu_mul(&pool, &mut for_gate, &mut for_up, &dy, 20);
        close(&for_gate, &slopes(&gate, |gate| forward(gate, &up)));
        close(&for_up, &slopes(&up, |up| forward(&gate, up)));
    }

    #[test]
    fn gradients_of_cross_entropy_are_slopes() {
        let pool = Pool::new(2);
        let (logits, labels, weights) = (numbers(3 * 40, 1), [7, 0, 39], [0.5, -1.5, 0.25]);
        let loss = |logits: &[f32]| -> f64 {
            let rows = cross_entropy(&pool, logits, &labels);
            rows.iter().zip(weights).map(|([loss, _], weight)| f64::from(weight) * f64::from(*loss)).sum()
        };
        let logs: Vec<f32> = cross_entropy(&pool, &logits, &labels).iter().map(|[_, log]| *log).collect();
        let mut got = logits.clone();
        cross_entropy_gradient(&pool, &mut got, &labels, &logs, &weights);
        close(&got, &slopes(&logits, loss));
        // By hand: two equal logits.
        let [[loss, log]] = cross_entropy(&pool, &[1.0, 1.0], &[0])[..] else { panic!() };
        assert!((loss - 2f32.ln()).abs() < 1e-6 && (log - 1.0 - 2f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn the_sum_of_squares_does_not_depend_on_the_threads() {
        let values = numbers(3 * CHUNK + 5, 4);
        let want: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        let [one, three] = [1, 3].map(|threads| square_sum(&Pool::new(threads), &values));
        assert_eq!(one, three);
        assert!((one - want).abs() < 1e-9 * want);
    }
}
