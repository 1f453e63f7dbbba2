//! What does a step of training cost?
//!
//! ```text
//! cargo run --release -p bedrock-benches --bin train -- --method lora --steps 5
//! ```
//!
//! Trains a checkpoint of random weights in the shape of SmolLM2-135M on one sequence of random tokens a step, after one step that is not
//! counted. A line of JSON:
//!
//! - `tokens_s`: tokens a second, by the median step.
//! - `peak_rss_mib`: of the whole process.
//!
//! `benches/peers/torch_train.py` does the same with PyTorch and PEFT, on the checkpoint that `--write` leaves behind.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use bedrock_benches::checkpoint;
use bedrock_examples::{Failure, ModelArguments, failure, peak_rss_mib, print_json, run};
use bedrock_models::tune::{AdamW, Lora, Method, Precision, Sequence, Trainer};
use clap::{Parser, ValueEnum};
use serde_json::json;

const HIDDEN: usize = 576;
const INNER: usize = 1536;
const LAYERS: usize = 30;
const HEADS: usize = 9;
const KEY_HEADS: usize = 3;
const VOCABULARY: usize = 49_152;

/// Measures steps of training
#[derive(Parser)]
struct Arguments {
    /// What is trained
    #[arg(long, value_enum, default_value = "lora")]
    method: What,
    /// Tokens of the sequence of a step
    #[arg(long, value_name = "N", default_value_t = 512)]
    tokens: usize,
    /// Steps that are measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    steps: usize,
    /// Compute the layers' activations again on the way back instead of keeping them
    #[arg(long)]
    checkpointing: bool,
    /// Keep the optimizer's moments in eight bits a value
    #[arg(long)]
    compact_moments: bool,
    /// What numbers the layers multiply: f32 or bf16
    #[arg(long, value_name = "P", default_value = "f32")]
    precision: Precision,
    /// Write the checkpoint into this folder, and do nothing else
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Use the checkpoint of this folder instead of writing one
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    models: ModelArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Full,
    Lora,
}

fn main() -> ExitCode {
    run(measure)
}

fn measure(arguments: Arguments) -> Result<(), Failure> {
    if arguments.steps == 0 || arguments.tokens < 2 {
        return Err(failure("steps must be at least 1 and tokens 2"));
    }
    if let Some(folder) = &arguments.write {
        std::fs::create_dir_all(folder)?;
        return write(folder);
    }
    let temporary = tempfile::tempdir()?;
    let folder = match &arguments.checkpoint {
        Some(folder) => folder.as_path(),
        None => {
            write(temporary.path())?;
            temporary.path()
        }
    };
    let (name, method) = match arguments.method {
        What::Full => ("full", Method::Full),
        What::Lora => ("lora", Method::Lora(Lora::default())),
    };
    let mut trainer = Trainer::load(folder, &arguments.models.options(), method)?;
    trainer.set_checkpointing(arguments.checkpointing);
    trainer.set_compact_moments(arguments.compact_moments);
    trainer.set_precision(arguments.precision)?;
    let tokens = |step: usize| (0..arguments.tokens).map(move |i| ((i * 7919 + step * 104_729) % VOCABULARY) as u32);
    let mut times = Vec::new();
    let mut loss = 0.0;
    for step in 0..=arguments.steps {
        let start = Instant::now();
        let made = trainer.step(&[Sequence::text(tokens(step).collect())], &AdamW::default())?;
        times.push(start.elapsed().as_secs_f64());
        loss = made.loss;
    }
    // The first step touches the memory.
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    print_json(&json!({
        "method": name,
        "checkpointing": arguments.checkpointing,
        "compact_moments": arguments.compact_moments,
        "precision": arguments.precision,
        "tokens": arguments.tokens,
        "tokens_s": arguments.tokens as f64 / median,
        "step_s": median,
        "loss": loss,
        "peak_rss_mib": peak_rss_mib(),
    }))?;
    Ok(())
}

/// Writes the checkpoint.
fn write(folder: &Path) -> Result<(), Failure> {
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS,
        "vocab_size": VOCABULARY, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_string(), vec![VOCABULARY, HIDDEN]),
        ("model.norm.weight".to_string(), vec![HIDDEN]),
    ];
    let keys = HIDDEN / HEADS * KEY_HEADS;
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape| tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        add("input_layernorm", vec![HIDDEN]);
        add("post_attention_layernorm", vec![HIDDEN]);
        for (name, rows) in [("q_proj", HIDDEN), ("k_proj", keys), ("v_proj", keys), ("o_proj", HIDDEN)] {
            add(&format!("self_attn.{name}"), vec![rows, HIDDEN]);
        }
        for (name, shape) in
            [("gate_proj", [INNER, HIDDEN]), ("up_proj", [INNER, HIDDEN]), ("down_proj", [HIDDEN, INNER])]
        {
            add(&format!("mlp.{name}"), shape.to_vec());
        }
    }
    Ok(checkpoint::write(folder, &config, &tensors)?)
}
