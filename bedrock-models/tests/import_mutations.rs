//! Damaged models, imported: an error or a model, never a panic of ours, never long, never much memory.
//!
//! Some hundred on every run; `BEDROCK_MUTATIONS=10000 cargo test --release --test import_mutations -- --nocapture` for as many as
//! that. The numbers of a mutation are its seed, so one that fails can be run alone: `BEDROCK_MUTATION=4711`.
#![cfg(unix)]
#![allow(clippy::print_stderr)] // its figures are what it is run for

mod tiny;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bedrock_models::Error;
use bedrock_models::import::{ImportOptions, ModelStore};
use bedrock_models::weights::Dtype;
use peak_alloc::PeakAlloc;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};

/// Counts what all threads allocate: a trial has one of its own.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The longest that an import may take.
const LONGEST: Duration = Duration::from_secs(5);
/// What an import may need besides twice its files: what is parsed and what is kept of a template's sandbox, a thread's
/// stacks, pages of keys and values.
const CONSTANT: u64 = 96 << 20;

/// The files of a model.
type Files = Vec<(String, Vec<u8>)>;

fn files_of(folder: &Path) -> Files {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap().to_string();
        if entry.is_dir() {
            files.extend(files_of(&entry).into_iter().map(|(inner, content)| (format!("{name}/{inner}"), content)));
        } else if !name.starts_with("expected") {
            files.push((name, fs::read(entry).unwrap()));
        }
    }
    files.sort();
    files
}

fn subjects() -> Vec<(String, Files)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path());
    let mut subjects = vec![("tiny".to_string(), files_of(folder.path()))];
    let home = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(home.path())).unwrap();
    let mut smaller = ImportOptions::default();
    (smaller.threads, smaller.quantize) = (1, Some(Dtype::Q8_0));
    store.import(folder.path(), "model", &smaller, |_| true).unwrap();
    let mut files = files_of(&store.path("model", false).unwrap());
    files.retain(|(name, _)| !name.starts_with("bedrock"));
    subjects.push(("tiny_quantised".to_string(), files));
    for name in [
        "llama_yarn",
        "llama_biases_sharded",
        "mistral_sliding",
        "mixtral",
        "qwen2",
        "qwen3",
        "gemma2",
        "gemma3_text",
        "phi3_longrope",
        "cohere_qknorm",
        "gpt2",
        "t5_v11",
        "bert_max",
        "bert_labels",
        "bert_entities",
        "deberta_v2_conv",
        "modernbert_embed",
        "nomic_embed",
        "mpnet_embed",
        "xlm_roberta_mean",
    ] {
        subjects.push((name.to_string(), files_of(&fixtures.join("conformance").join(name))));
    }
    for entry in fs::read_dir(fixtures.join("gguf_families")).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|end| end == "gguf") {
            let name = entry.file_name().unwrap().to_str().unwrap().to_string();
            subjects.push((name.clone(), vec![(name, tiny::with_tokenizer(&fs::read(entry).unwrap()))]));
        }
    }
    subjects.sort();
    subjects
}

struct Mutator(ChaCha8Rng);

impl Mutator {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit.max(1) as u64) as usize
    }

    /// A number as files lie with.
    fn lie(&mut self, length: u64) -> u64 {
        let lies = [
            0,
            1,
            2,
            7,
            33,
            255,
            length,
            length.wrapping_sub(1),
            length + 1,
            1 << 16,
            1 << 28,
            1 << 31,
            u64::from(u32::MAX),
            1 << 32,
            1 << 53,
            1 << 62,
            1 << 63,
            u64::MAX,
        ];
        lies[self.below(lies.len())]
    }

    fn value(&mut self) -> Value {
        match self.below(16) {
            0 => Value::Null,
            1 => json!(self.below(2) == 1),
            2 => json!(-1),
            3 => json!(self.lie(1000)),
            4 => json!(1e308),
            5 => json!(-1e-308),
            6 => json!(0.5),
            7 => json!(""),
            8 => json!("x".repeat(1 << self.below(17))),
            9 => json!([]),
            10 => json!({}),
            11 => json!(vec![self.lie(4); self.below(300)]),
            12 => (0..self.below(100)).fold(json!(1), |value, _| json!([value])),
            13 => json!("{% for i in range(100000000) %}{{ i }}{% endfor %}"),
            14 => json!("[^a]*(a+)+$"),
            _ => json!(self.below(64)),
        }
    }

    /// Changes one place of a JSON value.
    fn change(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) if !fields.is_empty() && self.below(8) > 0 => {
                let index = self.below(fields.len());
                let key = fields.keys().nth(index).unwrap().clone();
                match self.below(10) {
                    0 => drop(fields.remove(&key)),
                    1 => {
                        let value = self.value();
                        fields.insert(format!("{key}x"), value);
                    }
                    2 => {
                        let other = fields.keys().nth(self.below(fields.len())).unwrap().clone();
                        fields[&key] = fields[&other].clone();
                    }
                    _ => self.change(fields.get_mut(&key).unwrap()),
                }
            }
            Value::Array(items) if !items.is_empty() && self.below(8) > 0 => {
                let index = self.below(items.len());
                match self.below(8) {
                    0 => drop(items.remove(index)),
                    1 => {
                        let item = items[index].clone();
                        items.resize(items.len() + self.below(2000), item);
                    }
                    2 => items.reverse(),
                    _ => self.change(&mut items[index]),
                }
            }
            value => *value = self.value(),
        }
    }

    fn bytes(&mut self, content: &mut Vec<u8>, within: usize) {
        for _ in 0..1 + self.below(8) {
            let limit = content.len().min(within);
            if limit < 9 {
                return;
            }
            let position = self.below(limit - 8);
            match self.below(6) {
                0 => content[position] ^= 1 << self.below(8),
                1 => content[position] = self.below(256) as u8,
                2 => {
                    let lie = self.lie(content.len() as u64);
                    content[position..][..8].copy_from_slice(&lie.to_le_bytes());
                }
                3 => {
                    let lie = self.lie(content.len() as u64) as u32;
                    content[position..][..4].copy_from_slice(&lie.to_le_bytes());
                }
                4 => {
                    let from = self.below(limit - 8);
                    let piece = content[from..from + 1 + self.below(8)].to_vec();
                    content.splice(position..position, piece);
                }
                _ => {
                    let end = (position + 1 + self.below(64)).min(content.len());
                    content.drain(position..end);
                }
            }
        }
    }

    /// Damages one file of a model and says how.
    fn damage(&mut self, files: &mut Files) -> String {
        let index = self.below(files.len());
        let (name, content) = &mut files[index];
        let kind = self.below(12);
        if kind == 0 {
            let length = self.below(content.len() + 1);
            content.truncate(length);
            return format!("{name} cut to {length} bytes");
        }
        if kind == 1 && self.below(4) == 0 {
            return format!("{} taken away", files.remove(index).0);
        }
        if name.ends_with(".json") && kind > 3 {
            let mut value: Value = serde_json::from_slice(content).unwrap();
            for _ in 0..1 + self.below(3) {
                self.change(&mut value);
            }
            *content = serde_json::to_vec(&value).unwrap();
            return format!("{name} with other values");
        }
        if name.ends_with(".safetensors") && kind > 3 {
            let length = u64::from_le_bytes(content[..8].try_into().unwrap()) as usize;
            if kind > 8 {
                // The data: numbers that are none, or enormous.
                let position = 8 + length + self.below((content.len() - length - 8) / 4) * 4;
                let odd = [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX, f32::MIN_POSITIVE][self.below(5)];
                if position + 4 <= content.len() {
                    content[position..][..4].copy_from_slice(&odd.to_le_bytes());
                }
                return format!("{name} with odd numbers");
            }
            let mut header: Value = serde_json::from_slice(&content[8..8 + length]).unwrap();
            self.change(&mut header);
            let header = serde_json::to_vec(&header).unwrap();
            let data = content.split_off(8 + length);
            *content = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
            return format!("{name} with another header");
        }
        let within = if kind > 6 { usize::MAX } else { 4096 };
        self.bytes(content, within);
        format!("{name} with other bytes")
    }
}

/// What a process has resident at most since this was last asked, in bytes, and what it has now; 0 where the system does not say.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let read = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
    };
    let found = (read("VmHWM:"), read("VmRSS:"));
    let _ = fs::write("/proc/self/clear_refs", "5");
    found
}

#[test]
fn damaged_models_cost_an_error_at_most() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("BEDROCK_MUTATION") {
        Some(one) => one..one + 1,
        None => 0..number("BEDROCK_MUTATIONS").unwrap_or(300),
    };
    // Where panics happen, whoever catches them.
    let panics: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
        seen.lock().unwrap().push(format!("{place}: {}", panic.payload_as_str().unwrap_or_default()));
    }));
    let subjects = subjects();
    let home = tempfile::tempdir().unwrap();
    let store = ModelStore::open(Some(home.path())).unwrap();
    let source = tempfile::tempdir().unwrap();
    let (jobs, inbox) = channel::<(PathBuf, Option<Dtype>)>();
    let (outbox, outcomes) = sync_channel::<(Result<(), Error>, u64)>(1);
    let worker = std::thread::spawn(move || {
        let mut options = ImportOptions::default();
        (options.threads, options.replace, options.without_template) = (1, true, true);
        for (path, quantize) in inbox {
            options.quantize = quantize;
            let before = ALLOCATED.current_usage();
            ALLOCATED.reset_peak_usage();
            let outcome = store.import(&path, "model", &options, |_| true).map(drop);
            let used = ALLOCATED.peak_usage().saturating_sub(before) as u64;
            outbox.send((outcome, used)).unwrap();
        }
    });

    let mut failures = Vec::new();
    let mut check = |good: bool, what: String| {
        if !good {
            eprintln!("{what}");
            failures.push(what);
        }
    };
    let (mut imported, mut refused, mut dependencies) = (0, 0, 0);
    let (mut longest, mut most, mut most_resident) = ((Duration::ZERO, 0), (0, 0), (0, 0));
    for seed in seeds {
        let mut mutator = Mutator(ChaCha8Rng::seed_from_u64(seed));
        let (subject, files) = &subjects[mutator.below(subjects.len())];
        let mut files = files.clone();
        let how = mutator.damage(&mut files);
        let folder = source.path().join(seed.to_string());
        for (name, content) in &files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let bytes: u64 = files.iter().map(|(_, content)| content.len() as u64).sum();
        if files.is_empty() {
            continue;
        }
        let (_, before) = memory();
        let begin = Instant::now();
        // Every fourth is put into fewer bits on the way.
        jobs.send((folder.clone(), (seed % 4 == 3).then_some(Dtype::Q4_0))).unwrap();
        let Ok((outcome, used)) = outcomes.recv_timeout(LONGEST * 12) else {
            eprintln!("mutation {seed} ({subject}, {how}) does not end");
            std::process::abort();
        };
        let took = begin.elapsed();
        let resident = memory().0.saturating_sub(before);
        let what = format!("mutation {seed} ({subject}, {how}): {outcome:?}");
        let panics = std::mem::take(&mut *panics.lock().unwrap());
        let ours: Vec<&String> =
            panics.iter().filter(|panic| panic.contains("bedrock-models") || panic.contains("burn")).collect();
        check(ours.is_empty(), format!("{what} panicked: {ours:?}"));
        dependencies += panics.len();
        check(took < LONGEST, format!("{what} took {took:?}"));
        check(used <= 2 * bytes + CONSTANT, format!("{what} allocated {used} bytes for {bytes}"));
        check(resident <= 2 * bytes + CONSTANT, format!("{what} made {resident} bytes resident for {bytes}"));
        longest = longest.max((took, seed));
        most = most.max((used.saturating_sub(2 * bytes), seed));
        most_resident = most_resident.max((resident.saturating_sub(2 * bytes), seed));
        match outcome {
            Ok(()) => imported += 1,
            Err(_) => refused += 1,
        }
        fs::remove_dir_all(folder).unwrap();
    }
    drop(jobs);
    worker.join().unwrap();
    let _ = std::panic::take_hook();
    eprintln!(
        "{imported} imported, {refused} refused; longest {longest:?}; beyond twice the file: {most:?} bytes allocated at once by \
         all threads, {most_resident:?} resident; {dependencies} panics of dependencies became errors"
    );
    assert!(failures.is_empty(), "{} failures, the first: {:?}", failures.len(), failures.first());
    assert!(
        imported + refused == 1 || (imported > 0 && refused > imported),
        "damage that does no harm: {imported}, {refused}"
    );
}
