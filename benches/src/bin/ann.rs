//! Approximate nearest neighbours: how many queries a second at which recall, on one thread.
//!
//! ```text
//! cargo run --release -p bedrock-benches --bin ann -- --base base.npy --queries queries.npy --truth truth.npy
//! ```
//!
//! Vectors are `f32`, compared by cosine; the truth holds the row numbers of the nearest base vectors, nearest first. The
//! limit to compare with: a query must at least read the vectors it compares. `load_s` is the time until the file is read and checked,
//! `resident_mib` what the process grows by with it (on Linux), searches included.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use bedrock_benches::npy;
use bedrock_rag::index::{GraphBuilder, Hnsw, HnswSettings, Precision};
use clap::Parser;
use serde_json::json;

/// Measures the vector graph of bedrock-rag.
#[derive(Parser)]
struct Arguments {
    /// Base vectors
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Query vectors
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Row numbers of the nearest base vectors of each query
    #[arg(long, value_name = "FILE")]
    truth: PathBuf,
    /// Links of a vector
    #[arg(long, default_value_t = HnswSettings::default().m)]
    m: usize,
    /// Candidates while building
    #[arg(long, value_name = "N", default_value_t = HnswSettings::default().ef_construction)]
    ef_construction: usize,
    /// Candidates while searching, several with commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [16, 32, 64, 96, 128, 192, 256, 384])]
    ef: Vec<usize>,
    /// Neighbours asked for
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// A saved graph to search instead of building one; written there if it is missing
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// Keep vectors in 8 bits a value instead of 16
    #[arg(long)]
    bytes: bool,
    /// Have hnsw_rs make the links
    #[arg(long)]
    hnsw_rs: bool,
    /// Accepted for symmetry: there is always a JSON object
    #[arg(long, hide = true)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let queries = npy::read_f32(&arguments.queries)?;
    let truth = npy::read_i64(&arguments.truth)?;
    if truth.rows != queries.rows || truth.columns < arguments.k || queries.rows == 0 {
        return Err(format!(
            "the files don't belong together: queries {}×{}, truth {}×{}, k {}",
            queries.rows, queries.columns, truth.rows, truth.columns, arguments.k
        )
        .into());
    }
    let folder = tempfile::tempdir()?;
    let path = arguments.graph.clone().unwrap_or_else(|| folder.path().join("vectors.hnsw"));
    let (build_s, save_s) = if path.exists() {
        (None, None)
    } else {
        build(arguments, queries.columns, &path).map(|(b, s)| (Some(b), Some(s)))?
    };
    let bytes_on_disk = std::fs::metadata(&path)?.len();
    let before = resident_mib();
    let started = Instant::now();
    let (graph, _) = Hnsw::load(&path)?;
    let load_s = started.elapsed().as_secs_f64();

    let mut points = Vec::new();
    for &ef in &arguments.ef {
        // Once for the caches, once for the clock.
        for query in queries.rows().take(100) {
            graph.search(query, arguments.k, ef, None)?;
        }
        let mut times = Vec::with_capacity(queries.rows);
        let mut hits = 0;
        let started = Instant::now();
        for (query, truth) in queries.rows().zip(truth.rows()) {
            let one = Instant::now();
            let found = graph.search(query, arguments.k, ef, None)?;
            times.push(one.elapsed().as_secs_f64() * 1e6);
            let truth = &truth[..arguments.k];
            hits += found.iter().filter(|neighbor| truth.contains(&(neighbor.id as i64))).count();
        }
        let elapsed = started.elapsed().as_secs_f64();
        times.sort_by(f64::total_cmp);
        let percentile = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        let recall = hits as f64 / (queries.rows * arguments.k) as f64;
        let qps = queries.rows as f64 / elapsed;
        eprintln!("ef {ef}: recall {recall:.4}, {qps:.0} queries/s");
        points.push(json!({
            "ef": ef,
            "recall": recall,
            "qps": qps,
            "p50_us": percentile(50),
            "p95_us": percentile(95),
        }));
    }
    let resident_mib = before.zip(resident_mib()).map(|(before, after)| after - before);
    eprintln!("{bytes_on_disk} bytes, loaded in {load_s:.3} s");
    let result = json!({
        "build_s": build_s,
        "bytes_on_disk": bytes_on_disk,
        "save_s": save_s,
        "load_s": load_s,
        "resident_mib": resident_mib,
        "points": points,
    });
    println!("{result}");
    Ok(())
}

/// Builds a graph into a file. Seconds that building took, and saving.
fn build(arguments: &Arguments, dimensions: usize, path: &Path) -> Result<(f64, f64), Box<dyn Error>> {
    let base = npy::read_f32(&arguments.base)?;
    if base.columns != dimensions {
        return Err(
            format!("the files don't belong together: base of {}, queries of {dimensions}", base.columns).into()
        );
    }
    let settings = HnswSettings {
        m: arguments.m,
        ef_construction: arguments.ef_construction,
        precision: if arguments.bytes { Precision::Eight } else { Precision::Sixteen },
        builder: if arguments.hnsw_rs { GraphBuilder::HnswRs } else { GraphBuilder::Own },
        ..HnswSettings::default()
    };
    eprintln!("building a graph of {} × {}", base.rows, base.columns);
    let started = Instant::now();
    let graph = Hnsw::build(settings, base.columns, (0..base.rows as u64).collect(), base.values)?;
    let build_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    graph.save(path, 0)?;
    let save_s = started.elapsed().as_secs_f64();
    eprintln!("built in {build_s:.1} s, saved in {save_s:.2} s");
    Ok((build_s, save_s))
}

/// What the process has in memory.
fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
