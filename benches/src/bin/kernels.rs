//! What does each kernel do of what the machine can?
//!
//! ```text
//! cargo run --release -p bedrock-benches --bin kernels
//! ```
//!
//! Each kernel is measured in turn with the limits that it is compared with, round by round, because other tenants of the machine and the
//! clock of its processor change what is possible by the second; the medians of the rounds are reported. This is a program and not a
//! suite of criterion's, which measures each function alone, and so could print no limit of the same seconds beside it.
//!
//! The matrices are those of a language model of 1B (2048 features, 8192 within, 32 heads on 8 of 64 features), in as many layers as make `--mib` of weights, so
//! that each pass reads them from memory. Four limits:
//!
//! - `read_gb_s`: memory read by all threads, the same amount, the better of with and without asking for lines early.
//! - `float_gflop_s`: `f32` multiplied and added in registers.
//! - `byte_gop_s`: bytes multiplied and summed in registers, by the instructions that kernels of block formats use.
//! - `tile_gflop_s`: products of floats by matrix tiles in registers, three of tiles each.
//!
//! The last line of standard output is a JSON object with the limits, and for each kernel `gb_s` (bytes of weights or of the cache, or of what is read
//! and written) and `gflop_s` (two operations a product), and their shares of the limits: `of_read`, `of_float`, `of_byte`, `of_tile`. Those of
//! kernels whose data fits in a cache have no share of what memory gives.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bedrock_examples::{Failure, failure, peak_rss_mib, print_json, print_line, run};
use bedrock_models::kernels::bench::{self, Attention, Memory};
use bedrock_models::kernels::{Activations, CacheType, Matrix, Pool};
use bedrock_models::weights::{Dtype, StoredTensor};
use clap::Parser;
use serde_json::{Value, json};

/// Measures each kernel beside the limits of the machine
#[derive(Parser)]
struct Arguments {
    /// Threads that compute; default: one per core
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Weights, and memory, that one pass reads
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    mib: usize,
    /// Rounds
    #[arg(long, value_name = "R", default_value_t = 7)]
    rounds: usize,
    /// How long each measurement of a round takes at least
    #[arg(long, value_name = "MS", default_value_t = 50)]
    ms: u64,
    /// Only kernels whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Accepted for symmetry: there is always a JSON object
    #[arg(long, hide = true)]
    json: bool,
}

fn main() -> ExitCode {
    run(kernels)
}

const HIDDEN: usize = 2048;
const INNER: usize = 8192;
const HEADS: [usize; 3] = [32, 8, 64];

/// Rows and columns of the matrices of a layer.
const LAYER: [(usize, usize); 7] = [
    (HIDDEN, HIDDEN),
    (512, HIDDEN),
    (512, HIDDEN),
    (HIDDEN, HIDDEN),
    (INNER, HIDDEN),
    (INNER, HIDDEN),
    (HIDDEN, INNER),
];

/// What a kernel's name says of its activations.
fn of(activations: Activations) -> &'static str {
    if activations == Activations::Int8 { " int8" } else { "" }
}

/// Tokens of a prompt.
const PROMPT: usize = 512;

/// Formats, those of decoding in the order of their bits.
const FORMATS: [Dtype; 11] = [
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::Q8_0,
    Dtype::Q6K,
    Dtype::Q5_1,
    Dtype::Q5_0,
    Dtype::Q5K,
    Dtype::Q4_1,
    Dtype::Q4_0,
    Dtype::Q4K,
];

fn kernels(arguments: Arguments) -> Result<(), Failure> {
    if arguments.rounds == 0 || arguments.mib == 0 {
        return Err(failure("rounds and MiB must be at least 1"));
    }
    let pool = Pool::new(arguments.threads);
    let mut bench = Bench {
        memory: Memory::new(arguments.mib << 20),
        pool,
        rounds: arguments.rounds,
        least: Duration::from_millis(arguments.ms),
        only: arguments.only,
        limits: Vec::new(),
        kernels: Vec::new(),
    };
    bench.decoding(arguments.mib << 20)?;
    bench.prompts()?;
    bench.attention(arguments.mib << 20)?;
    bench.rows()?;
    let limits = bench.all_limits();
    Ok(print_json(&json!({
        "instructions": bench::instructions(),
        "threads": bench.pool.threads(),
        "limits": limits.json(),
        "kernels": bench.kernels,
        "peak_rss_mib": peak_rss_mib(),
    }))?)
}

/// Limits of one round, each a second.
#[derive(Clone, Copy)]
struct Limits {
    read: f64,
    float: f64,
    byte: Option<f64>,
    tile: Option<f64>,
}

impl Limits {
    fn json(self) -> Value {
        json!({
            "read_gb_s": self.read / 1e9,
            "float_gflop_s": self.float / 1e9,
            "byte_gop_s": self.byte.map(|byte| byte / 1e9),
            "tile_gflop_s": self.tile.map(|tile| tile / 1e9),
        })
    }
}

/// One of the limits that not every machine has.
type Limit = fn(&Limits) -> Option<f64>;

/// What one call of a kernel does.
#[derive(Clone, Copy)]
struct Work {
    bytes: usize,
    /// Two a product.
    operations: f64,
    /// Whether the bytes come from memory, so that reading is a limit.
    streams: bool,
}

struct Bench {
    pool: Pool,
    memory: Memory,
    rounds: usize,
    least: Duration,
    only: String,
    limits: Vec<Limits>,
    kernels: Vec<Value>,
}

impl Bench {
    /// Seconds of one call.
    fn time(&self, mut call: impl FnMut()) -> f64 {
        let (start, mut calls) = (Instant::now(), 0);
        while start.elapsed() < self.least || calls == 0 {
            call();
            calls += 1;
        }
        start.elapsed().as_secs_f64() / f64::from(calls)
    }

    fn limits(&self) -> Limits {
        let read = |ahead| self.memory.bytes() as f64 / self.time(|| self.memory.read(&self.pool, ahead));
        let mut operations = 0.0;
        let seconds = self.time(|| operations = bench::float_operations(&self.pool));
        let float = operations / seconds;
        let rate = |operations: fn(&Pool) -> Option<f64>| {
            let mut done = None;
            let seconds = self.time(|| done = operations(&self.pool));
            done.map(|operations| operations / seconds)
        };
        let (byte, tile) = (rate(bench::byte_operations), rate(bench::tile_operations));
        Limits { read: read(true).max(read(false)), float, byte, tile }
    }

    /// Medians over all that was measured.
    fn all_limits(&self) -> Limits {
        let of = |figure: fn(&Limits) -> f64| median(self.limits.iter().map(figure).collect());
        let if_all = |figure: Limit| {
            let rates: Option<Vec<f64>> = self.limits.iter().map(figure).collect();
            rates.filter(|rates| !rates.is_empty()).map(median)
        };
        Limits {
            read: of(|limits| limits.read),
            float: of(|limits| limits.float),
            byte: if_all(|limits| limits.byte),
            tile: if_all(|limits| limits.tile),
        }
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    fn measure(&mut self, name: &str, work: Work, mut call: impl FnMut(&Pool)) -> Result<(), Failure> {
        if !self.wants(name) {
            return Ok(());
        }
        call(&self.pool);
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            let limits = self.limits();
            rounds.push((limits, self.time(|| call(&self.pool))));
            self.limits.push(limits);
        }
        let of = |figure: &dyn Fn(Limits, f64) -> f64| {
            median(rounds.iter().map(|(limits, seconds)| figure(*limits, *seconds)).collect())
        };
        let (bytes, operations) = (work.bytes as f64, work.operations);
        let mut kernel = json!({ "kernel": name, "us": of(&|_, seconds| seconds * 1e6) });
        let mut line = format!("{name:<36} {:>10.1} µs", of(&|_, seconds| seconds * 1e6));
        if bytes > 0.0 {
            kernel["gb_s"] = json!(of(&|_, seconds| bytes / seconds / 1e9));
            line += &format!("  {:>7.1} GB/s", of(&|_, seconds| bytes / seconds / 1e9));
            if work.streams {
                kernel["of_read"] = json!(of(&|limits, seconds| bytes / seconds / limits.read));
                line += &format!(" {:>4.0}% of reading", 100.0 * of(&|limits, seconds| bytes / seconds / limits.read));
            }
        }
        if operations > 0.0 {
            kernel["gflop_s"] = json!(of(&|_, seconds| operations / seconds / 1e9));
            kernel["of_float"] = json!(of(&|limits, seconds| operations / seconds / limits.float));
            line += &format!("  {:>7.1} GFLOP/s", of(&|_, seconds| operations / seconds / 1e9));
            line += &format!(" {:>4.0}% of f32", 100.0 * of(&|limits, seconds| operations / seconds / limits.float));
            let others: [(_, _, Limit); 2] =
                [("of_byte", "bytes", |limits| limits.byte), ("of_tile", "tiles", |limits| limits.tile)];
            for (key, what, limit) in others {
                let shares = rounds.iter().map(|(limits, seconds)| Some(operations / seconds / limit(limits)?));
                if let Some(shares) = shares.collect::<Option<Vec<f64>>>() {
                    let share = median(shares);
                    kernel[key] = json!(share);
                    line += &format!(" {:>4.0}% of {what}", 100.0 * share);
                }
            }
        }
        self.kernels.push(kernel);
        Ok(print_line(&line)?)
    }

    /// Matrix times vector, and times a few, over as many layers as fill the memory.
    fn decoding(&mut self, bytes: usize) -> Result<(), Failure> {
        for dtype in FORMATS {
            // Plain numbers and block formats without integers know one kind of activations.
            let modes: &[_] = if dtype.block_len() > 1 {
                &[(Activations::Quantized, 1), (Activations::Quantized, 16), (Activations::Int8, 16)]
            } else {
                &[(Activations::Float, 1)]
            };
            let name = |activations, rows| format!("decode {dtype}{} × {rows}", of(activations));
            let modes: Vec<_> =
                modes.iter().map(|(activations, rows)| (*activations, *rows, name(*activations, *rows))).collect();
            if !modes.iter().any(|(.., name)| self.wants(name)) {
                continue;
            }
            let tensors = LAYER.map(|(rows, columns)| random_bytes(dtype, rows * columns));
            let size: usize = tensors.iter().map(Vec::len).sum();
            let mut layers = Vec::new();
            for _ in 0..bytes.div_ceil(size) {
                for ((rows, columns), data) in LAYER.into_iter().zip(&tensors) {
                    layers.push(matrix(dtype, rows, columns, data.clone())?);
                }
            }
            drop(tensors);
            for (activations, rows, name) in modes {
                let x = random_floats(rows * INNER);
                let weights: usize = layers.iter().map(Matrix::bytes).sum();
                let products: usize = layers.iter().map(|matrix| matrix.rows() * matrix.columns()).sum();
                let work = Work { bytes: weights, operations: (2 * rows * products) as f64, streams: rows == 1 };
                self.measure(&name, work, |pool| {
                    for matrix in &layers {
                        let x = &x[..rows * matrix.columns()];
                        black_box(bench::decode(pool, x, rows, activations, matrix));
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Matrix times the rows of a prompt: both shapes of a feed-forward layer.
    fn prompts(&mut self) -> Result<(), Failure> {
        let x = random_floats(PROMPT * INNER);
        let bytes = FORMATS.into_iter().filter(|dtype| dtype.block_len() > 1);
        let kinds = FORMATS.into_iter().map(|dtype| (false, dtype, Activations::Quantized));
        let kinds = kinds.chain(bytes.map(|dtype| (false, dtype, Activations::Int8)));
        for (panels, dtype, activations) in kinds.chain([(true, Dtype::F32, Activations::Quantized)]) {
            let name = format!("prompt {dtype}{}{} × {PROMPT}", if panels { " panels" } else { "" }, of(activations));
            if !self.wants(&name) {
                continue;
            }
            let mut layers = Vec::new();
            for (rows, columns) in [(INNER, HIDDEN), (HIDDEN, INNER)] {
                let weights = matrix(dtype, rows, columns, random_bytes(dtype, rows * columns))?;
                layers.push(if panels { bench::in_panels(weights) } else { weights });
            }
            let operations = (2 * PROMPT * 2 * INNER * HIDDEN) as f64;
            self.measure(&name, Work { bytes: 0, operations, streams: false }, |pool| {
                for matrix in &layers {
                    let x = &x[..PROMPT * matrix.columns()];
                    black_box(bench::prompt(pool, x, PROMPT, activations, matrix));
                }
            })?;
        }
        Ok(())
    }

    fn attention(&mut self, bytes: usize) -> Result<(), Failure> {
        let [queries, keys, dim] = HEADS;
        let width = queries * dim;
        for (cache_type, of) in [(CacheType::F32, ""), (CacheType::F16, " f16"), (CacheType::Q8, " q8")] {
            for positions in [512, 4096] {
                let name = format!("attention decode{of}, {positions} positions");
                if self.wants(&name) {
                    let size = Attention::new(HEADS, positions, cache_type).bytes();
                    let layers: Vec<Attention> =
                        (0..bytes.div_ceil(size)).map(|_| Attention::new(HEADS, positions, cache_type)).collect();
                    let (x, mut out) = (random_floats(width), vec![0.0; width]);
                    let operations = (4 * width * positions * layers.len()) as f64;
                    let work = Work { bytes: size * layers.len(), operations, streams: true };
                    self.measure(&name, work, |pool| {
                        layers.iter().for_each(|layer| layer.attend(pool, &x, 1, &mut out));
                    })?;
                }
            }
            for before in [0, 3584] {
                let name = format!("attention prompt{of}, {PROMPT} after {before}");
                let layer = Attention::new(HEADS, before + PROMPT, cache_type);
                let (x, mut out) = (random_floats(PROMPT * width), vec![0.0; PROMPT * width]);
                let visible: usize = (before + 1..=before + PROMPT).sum();
                let work = Work { bytes: 0, operations: (4 * width * visible) as f64, streams: false };
                self.measure(&name, work, |pool| layer.attend(pool, &x, PROMPT, &mut out))?;
            }
            let mut layer = Attention::new(HEADS, PROMPT, cache_type);
            let new = random_floats(PROMPT * keys * dim);
            let work = Work { bytes: 4 * size_of_val(&*new), operations: 0.0, streams: false };
            let name = format!("cache write{of}, {PROMPT} positions");
            self.measure(&name, work, |pool| layer.write(pool, &new, &new))?;
        }
        Ok(())
    }

    /// What lies between products, for a prompt: the rows stay in a cache.
    fn rows(&mut self) -> Result<(), Failure> {
        let (x, y) = (random_floats(PROMPT * HIDDEN), random_floats(PROMPT * HIDDEN));
        let (weight, mut out) = (random_floats(HIDDEN), x.clone());
        let bytes = size_of_val(&*x);
        let work = |passes: usize| Work { bytes: passes * bytes, operations: 0.0, streams: false };
        let fork = Work { bytes: 0, operations: 0.0, streams: false };
        self.measure("fork and join", fork, bench::fork)?;
        self.measure("rms norm", work(2), |pool| bench::rms_norm(pool, &x, &weight, &mut out))?;
        self.measure("layer norm", work(2), |pool| bench::layer_norm(pool, &mut out, &weight, &weight))?;
        // In place, from a copy each time: applied again and again, values leave the range of what is usual.
        let passes = |kernel: usize| work(2 + kernel);
        self.measure("silu · up, of a copy", passes(3), |pool| {
            out.copy_from_slice(&x);
            bench::silu_mul(pool, &mut out, &y, HIDDEN);
        })?;
        self.measure("residual add, to a copy", passes(3), |pool| {
            out.copy_from_slice(&x);
            bench::add(pool, &mut out, &y, HIDDEN);
        })?;
        self.measure("softmax, of a copy", passes(2), |pool| {
            out.copy_from_slice(&x);
            bench::softmax(pool, &mut out, HIDDEN);
        })?;
        let (cosines, sines): (Vec<f32>, Vec<f32>) =
            (0..HEADS[2] / 2).map(|i| ((i as f32).cos(), (i as f32).sin())).unzip();
        let angles = [cosines, sines].concat();
        self.measure("rotation, of a copy", passes(2), |pool| {
            out.copy_from_slice(&x);
            bench::rotate(pool, &mut out, HEADS[2], HIDDEN, &angles);
        })?;
        self.measure("copy", work(2), |_| out.copy_from_slice(&x))?;
        self.measure("quantise activations", work(1), |pool| {
            black_box(bench::quantize(pool, &x, HIDDEN));
        })
    }
}

fn matrix(dtype: Dtype, rows: usize, columns: usize, data: Vec<u8>) -> Result<Matrix, Failure> {
    Ok(Matrix::new(StoredTensor { name: "weights".into(), dtype, shape: vec![rows, columns], data: data.into() })?)
}

/// Steele et al. 2014.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Between -1 and 1.
fn random_floats(count: usize) -> Vec<f32> {
    let mut state = count as u64;
    (0..count).map(|_| (split_mix(&mut state) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Weights of random quants, whose scales are finite.
fn random_bytes(dtype: Dtype, elements: usize) -> Vec<u8> {
    if dtype.block_len() == 1 {
        let floats = random_floats(elements);
        return match dtype {
            // The upper half of an `f32`, and ±1 to ±1.999 in half precision.
            Dtype::BF16 => floats.iter().flat_map(|float| [float.to_le_bytes()[2], float.to_le_bytes()[3]]).collect(),
            Dtype::F16 => floats.iter().flat_map(|float| [float.to_le_bytes()[1], 0x3c]).collect(),
            _ => floats.iter().flat_map(|float| float.to_le_bytes()).collect(),
        };
    }
    let (mut state, size) = (elements as u64, dtype.block_bytes());
    let words = (elements / dtype.block_len() * size).div_ceil(8);
    let mut bytes: Vec<u8> = (0..words).flat_map(|_| split_mix(&mut state).to_le_bytes()).collect();
    bytes.truncate(elements / dtype.block_len() * size);
    // A scale and, where there is one, a minimum of 1/256 each.
    const SMALL: [u8; 2] = [0, 0x1c];
    let scales = match dtype {
        Dtype::Q6K => 208..210,
        Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4K | Dtype::Q5K => 0..4,
        _ => 0..2,
    };
    for block in bytes.chunks_exact_mut(size) {
        block[scales.clone()].as_chunks_mut::<2>().0.fill(SMALL);
    }
    bytes
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
