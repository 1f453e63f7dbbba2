//! Does a decoded token of a model of experts cost what it uses, or what there is?
//!
//! ```text
//! cargo run --release -p bedrock-benches --bin experts -- --tokens 64
//! ```
//!
//! Writes Mixtral checkpoints with random weights to a temporary folder, with several numbers of experts and of those that a token
//! uses, and decodes with each. A line of JSON a checkpoint:
//!
//! - `ms_per_token`: one decoded token, the median.
//! - `experts_active_m`, `experts_total_m`: parameters of the experts that a token uses, and of all, in millions.
//!
//! The time should grow with the former and hardly with the latter.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use bedrock_benches::checkpoint;
use bedrock_examples::{Failure, ModelArguments, failure, print_json, run};
use bedrock_models::LanguageModel;
use clap::Parser;
use serde_json::json;

const HIDDEN: usize = 512;
const INNER: usize = 1024;
const LAYERS: usize = 4;
const HEADS: usize = 8;
const VOCABULARY: usize = 1024;

/// Measures how the time of a decoded token grows with the experts of a model
#[derive(Parser)]
struct Arguments {
    /// Tokens to decode with each checkpoint
    #[arg(long, value_name = "N", default_value_t = 64)]
    tokens: usize,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(measure)
}

fn measure(arguments: Arguments) -> Result<(), Failure> {
    if arguments.tokens == 0 {
        return Err(failure("tokens must be at least 1"));
    }
    for (experts, chosen) in [(2, 2), (4, 2), (8, 2), (16, 2), (8, 1), (8, 4), (8, 8)] {
        let folder = tempfile::tempdir()?;
        write(folder.path(), experts, chosen)?;
        let model = LanguageModel::load(folder.path(), &arguments.models.options())?;
        let ms_per_token = decode(&model, arguments.tokens)?;
        let millions = |experts: usize| (experts * LAYERS * 3 * HIDDEN * INNER) as f64 / 1e6;
        print_json(&json!({
            "experts": experts,
            "experts_per_token": chosen,
            "experts_active_m": millions(chosen),
            "experts_total_m": millions(experts),
            "ms_per_token": ms_per_token,
        }))?;
    }
    Ok(())
}

/// Milliseconds a decoded token: the median of five times a run of `tokens`.
fn decode(model: &LanguageModel, tokens: usize) -> Result<f64, Failure> {
    let ids: Vec<u32> = (0..=tokens).map(|i| (i * 7919 % VOCABULARY) as u32).collect();
    let mut times = Vec::new();
    for _ in 0..6 {
        let start = Instant::now();
        model.decode_logits(&ids, 1)?;
        times.push(start.elapsed().as_secs_f64() * 1e3 / tokens as f64);
    }
    // The first run touches the memory.
    times.remove(0);
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Writes a checkpoint in Hugging Face layout, without a tokenizer.
fn write(folder: &Path, experts: usize, chosen: usize) -> Result<(), Failure> {
    let config = json!({
        "model_type": "mixtral", "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": HEADS / 2, "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096, "num_local_experts": experts, "num_experts_per_tok": chosen,
    });
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_string(), vec![VOCABULARY, HIDDEN]),
        ("lm_head.weight".to_string(), vec![VOCABULARY, HIDDEN]),
        ("model.norm.weight".to_string(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape| tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        add("input_layernorm", vec![HIDDEN]);
        add("post_attention_layernorm", vec![HIDDEN]);
        add("self_attn.q_proj", vec![HIDDEN, HIDDEN]);
        add("self_attn.k_proj", vec![HIDDEN / 2, HIDDEN]);
        add("self_attn.v_proj", vec![HIDDEN / 2, HIDDEN]);
        add("self_attn.o_proj", vec![HIDDEN, HIDDEN]);
        add("block_sparse_moe.gate", vec![experts, HIDDEN]);
        for expert in 0..experts {
            for (part, shape) in [("w1", [INNER, HIDDEN]), ("w2", [HIDDEN, INNER]), ("w3", [INNER, HIDDEN])] {
                add(&format!("block_sparse_moe.experts.{expert}.{part}"), shape.to_vec());
            }
        }
    }
    Ok(checkpoint::write(folder, &config, &tensors)?)
}
