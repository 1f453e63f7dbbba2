//! Makes a small language model from nothing but a play: its own tokenizer, random weights, then continued pre-training of all of them. The
//! model that the crate's documentation talks to was made so.
//!
//! ```text
//! cargo run --release --example pretrain -- --text tinyshakespeare.txt --output tiny
//! cargo run --release --example import -- import tiny/model --name tiny --quantize q8_0
//! cargo run --release --example generate -- --model tiny --chat "Where is my sword?"
//! ```
//!
//! Speeches of the text are parted by blank lines and begin with their speaker. The model answers a speech with the next one; its chat
//! template calls the user First Citizen and the assistant Second Citizen. Every line of standard output is a JSON object: events as
//! example `finetune` prints them, the last of type `completed`. The model is then in the folder `model`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bedrock_examples::{Failure, ModelArguments, failure, print_json, run};
use bedrock_models::tune::{CustomizationType, Job, JobOptions};
use clap::Parser;
use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
};

/// What ends a speech.
const END: &str = "<|end|>";

/// Answers a speech with a speech.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{% if message.role == 'user' %}{{ 'First Citizen:\n' }}\
    {% elif message.role == 'assistant' %}{{ 'Second Citizen:\n' }}{% endif %}{{ message.content + '<|end|>' }}{% endfor %}\
    {% if add_generation_prompt %}{{ 'Second Citizen:\n' }}{% endif %}";

/// The largest text, in bytes.
const MAX_TEXT: u64 = 64 << 20;

/// Standard deviation of the first weights.
const DEVIATION: f32 = 0.02;

/// Makes a small language model from nothing but a play
#[derive(Parser)]
struct Arguments {
    /// The text: speeches parted by blank lines
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// The folder to write into
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Tokens of the vocabulary
    #[arg(long, default_value_t = 1024)]
    vocabulary: usize,
    /// Features of a token
    #[arg(long, default_value_t = 192)]
    hidden: usize,
    /// Blocks of the model
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Times that the text is gone through
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    /// Largest step size
    #[arg(long, default_value_t = 2e-3)]
    learning_rate: f64,
    /// Go on from the last checkpoint
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(pretrain)
}

fn pretrain(arguments: Arguments) -> Result<(), Failure> {
    let base = arguments.output.join("random");
    let (training, validation) = (arguments.output.join("training.txt"), arguments.output.join("validation.txt"));
    if !arguments.resume {
        let read = |error| failure(format!("cannot read {}: {error}", arguments.text.display()));
        if fs::metadata(&arguments.text).map_err(read)?.len() > MAX_TEXT {
            return Err(failure(format!("{} has more than {MAX_TEXT} bytes", arguments.text.display())));
        }
        let text = fs::read_to_string(&arguments.text).map_err(read)?;
        let speeches: Vec<&str> = text.split("\n\n").map(str::trim).filter(|speech| !speech.is_empty()).collect();
        // The last twentieth is never learnt from.
        let (learnt, held_out) = speeches.split_at(speeches.len() - speeches.len() / 20);
        fs::create_dir_all(&base)?;
        let joined = |speeches: &[&str]| speeches.iter().map(|speech| format!("{speech}{END}")).collect::<String>();
        fs::write(&training, joined(learnt))?;
        fs::write(&validation, joined(held_out))?;
        write_tokenizer(&base, learnt, arguments.vocabulary)?;
        write_model(&base, &arguments)?;
    }
    let job: Job = serde_json::from_value(json!({
        "customizationType": CustomizationType::ContinuedPreTraining,
        "baseModel": base,
        "outputDir": arguments.output.join("model"),
        "trainingData": training,
        "validationData": validation,
        "method": "full",
        "hyperParameters": {
            "epochCount": arguments.epochs, "batchSize": 16, "maxSequenceLength": 256, "learningRate": arguments.learning_rate,
            "learningRateWarmupSteps": 50, "schedule": "cosine", "weightDecay": 0.1, "seed": arguments.models.seed,
        },
    }))?;
    let options = JobOptions { load: arguments.models.options(), resume: arguments.resume, ..JobOptions::default() };
    let mut printed = Ok(());
    job.run(&options, |event| {
        if printed.is_ok() {
            printed = print_json(event).map_err(Failure::from);
        }
    })?;
    printed
}

/// Byte-level BPE of the speeches, with the end of a speech as the one special token.
fn write_tokenizer(folder: &Path, speeches: &[&str], vocabulary: usize) -> Result<(), Failure> {
    type Tokenizer = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;
    let end = || AddedToken::from(END, true);
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![end()])
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.train(&mut trainer, speeches.iter()).map_err(|error| failure(error.to_string()))?;
    tokenizer.add_special_tokens(&[end()]);
    tokenizer.save(folder.join("tokenizer.json"), false).map_err(|error| failure(error.to_string()))?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false, "model_max_length": 512,
    });
    fs::write(folder.join("tokenizer_config.json"), format!("{config:#}\n"))?;
    // What a small model likes best, it says for ever.
    let answers = json!({ "do_sample": true, "temperature": 0.7, "top_k": 40, "repetition_penalty": 1.15 });
    Ok(fs::write(folder.join("generation_config.json"), format!("{answers}\n"))?)
}

/// A Llama with random weights.
fn write_model(folder: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { vocabulary, hidden, layers, .. } = *arguments;
    let inner = (hidden * 8 / 3).next_multiple_of(32);
    let (head, heads, key_heads) = (32, hidden / 32, 2);
    if !hidden.is_multiple_of(64) {
        return Err(failure("hidden should be a multiple of 64"));
    }
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": key_heads,
        "head_dim": head, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512,
        "tie_word_embeddings": true, "initializer_range": DEVIATION, "eos_token_id": 0, "torch_dtype": "float32",
    });
    fs::write(folder.join("config.json"), format!("{config:#}\n"))?;
    // What adds to the stream of a token is the smaller, the more does.
    let adds = DEVIATION / (2.0 * layers as f32).sqrt();
    let mut weights = Weights::new(arguments.models.seed);
    weights.matrix("model.embed_tokens", [vocabulary, hidden], DEVIATION);
    for layer in 0..layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        weights.matrix(&name("self_attn.q_proj"), [heads * head, hidden], DEVIATION);
        weights.matrix(&name("self_attn.k_proj"), [key_heads * head, hidden], DEVIATION);
        weights.matrix(&name("self_attn.v_proj"), [key_heads * head, hidden], DEVIATION);
        weights.matrix(&name("self_attn.o_proj"), [hidden, heads * head], adds);
        weights.matrix(&name("mlp.gate_proj"), [inner, hidden], DEVIATION);
        weights.matrix(&name("mlp.up_proj"), [inner, hidden], DEVIATION);
        weights.matrix(&name("mlp.down_proj"), [hidden, inner], adds);
        weights.norm(&name("input_layernorm"), hidden);
        weights.norm(&name("post_attention_layernorm"), hidden);
    }
    weights.norm("model.norm", hidden);
    Ok(weights.write(&folder.join("model.safetensors"))?)
}

/// Tensors of a file, with random numbers from a seed (SplitMix64).
struct Weights {
    state: u64,
    header: serde_json::Map<String, serde_json::Value>,
    bytes: Vec<u8>,
}

impl Weights {
    fn new(seed: u64) -> Self {
        Self { state: seed, header: serde_json::Map::new(), bytes: Vec::new() }
    }

    /// Uniform between 0 and 1.
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Uniform with that standard deviation.
    fn matrix(&mut self, name: &str, shape: [usize; 2], deviation: f32) {
        let values: Vec<f32> =
            (0..shape[0] * shape[1]).map(|_| (self.uniform() * 2.0 - 1.0) * 3f32.sqrt() * deviation).collect();
        self.push(name, &shape, &values);
    }

    fn norm(&mut self, name: &str, len: usize) {
        self.push(name, &[len], &vec![1.0; len]);
    }

    fn push(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let begin = self.bytes.len();
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let facts = json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, self.bytes.len()] });
        self.header.insert(format!("{name}.weight"), facts);
    }

    /// A safetensors file.
    fn write(self, path: &Path) -> io::Result<()> {
        let header = serde_json::Value::Object(self.header).to_string();
        let length = (header.len() as u64).to_le_bytes();
        fs::write(path, [&length[..], header.as_bytes(), &self.bytes].concat())
    }
}
