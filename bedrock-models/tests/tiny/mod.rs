//! A tiny language model with random weights and a byte-level tokenizer, written to a temporary folder.

#![allow(dead_code)] // no test that includes this module needs all of it

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bedrock_models::weights::{Dtype, block};
use serde_json::{Value, json};

/// Sizes of the model. The vocabulary is 256 bytes and four special tokens.
pub(crate) const VOCABULARY: usize = 260;
const HIDDEN: usize = 64;
const INNER: usize = 96;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KEY_HEADS: usize = 2;
const DIM: usize = 16;

/// Positions of the context.
pub(crate) const CONTEXT: usize = 256;

/// Ids of the special tokens.
#[allow(dead_code)] // not every test that includes this module needs it
pub(crate) const END: u32 = 257;

/// The same stream of numbers in every run (xorshift), in -1..1.
fn random(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }
}

fn tensors(vocabulary: usize) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut next = random(0x9E37_79B9_7F4A_7C15);
    let mut list = Vec::new();
    let mut matrix = |name: String, rows: usize, columns: usize, scale: f32| {
        let values = (0..rows * columns).map(|_| next() * scale).collect();
        list.push((name, vec![rows, columns], values));
    };
    matrix("model.embed_tokens.weight".into(), vocabulary, HIDDEN, 1.0);
    matrix("lm_head.weight".into(), vocabulary, HIDDEN, 0.6);
    for i in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{i}.{part}.weight");
        matrix(name("self_attn.q_proj"), HEADS * DIM, HIDDEN, 0.4);
        matrix(name("self_attn.k_proj"), KEY_HEADS * DIM, HIDDEN, 0.4);
        matrix(name("self_attn.v_proj"), KEY_HEADS * DIM, HIDDEN, 0.4);
        matrix(name("self_attn.o_proj"), HIDDEN, HEADS * DIM, 0.4);
        matrix(name("mlp.gate_proj"), INNER, HIDDEN, 0.3);
        matrix(name("mlp.up_proj"), INNER, HIDDEN, 0.3);
        matrix(name("mlp.down_proj"), HIDDEN, INNER, 0.3);
    }
    let norms = (0..LAYERS)
        .flat_map(|i| ["input_layernorm", "post_attention_layernorm"].map(|n| format!("model.layers.{i}.{n}.weight")))
        .chain(["model.norm.weight".to_string()]);
    list.extend(norms.map(|name| (name, vec![HIDDEN], vec![1.0; HIDDEN])));
    list
}

fn safetensors(vocabulary: usize) -> Vec<u8> {
    let (mut header, mut data) = (BTreeMap::new(), Vec::new());
    for (name, shape, values) in tensors(vocabulary) {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }));
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// The characters by which byte-level tokenizers write bytes.
fn byte_characters() -> Vec<char> {
    let plain = |byte: u32| (33..=126).contains(&byte) || (161..=172).contains(&byte) || (174..=255).contains(&byte);
    let mut others = 256..;
    (0..256).map(|byte| char::from_u32(if plain(byte) { byte } else { others.next().unwrap() }).unwrap()).collect()
}

fn tokenizer(tokens: &[&str]) -> Value {
    let characters = byte_characters();
    let written = |text: &str| text.bytes().map(|byte| characters[byte as usize]).collect::<String>();
    let bytes = characters.iter().map(char::to_string).enumerate().map(|(id, token)| (token, id));
    let longer = tokens.iter().enumerate().map(|(i, text)| (written(text), VOCABULARY + i));
    // Added tokens that the vocabulary does not have would get ids behind it.
    let special = ["<s>", "</s>", "<|user|>", "<|assistant|>"];
    let named = special.iter().enumerate().map(|(i, content)| (content.to_string(), 256 + i));
    let vocab: BTreeMap<String, usize> = bytes.chain(longer).chain(named).collect();
    let special = special.iter().enumerate().map(|(i, content)| {
        json!({ "id": 256 + i, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true })
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": special.collect::<Vec<_>>(),
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [] }
    })
}

/// Writes the model in Hugging Face layout.
pub(crate) fn write(folder: &Path) {
    write_with(folder, &[], CONTEXT);
}

/// Writes the model with further tokens, from id [`VOCABULARY`] on, and another context. Text is cut into single bytes all the
/// same: it is the model that may choose them.
pub(crate) fn write_with(folder: &Path, tokens: &[&str], context: usize) {
    let vocabulary = VOCABULARY + tokens.len();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS, "head_dim": DIM, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "max_position_embeddings": context, "vocab_size": vocabulary,
        "tie_word_embeddings": false
    });
    let template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    let tokenizer_config = json!({
        "bos_token": "<s>", "eos_token": "</s>", "chat_template": template, "tokenizer_class": "PreTrainedTokenizerFast"
    });
    fs::write(folder.join("model.safetensors"), safetensors(vocabulary)).unwrap();
    for (name, value) in
        [("config.json", config), ("tokenizer.json", tokenizer(tokens)), ("tokenizer_config.json", tokenizer_config)]
    {
        fs::write(folder.join(name), serde_json::to_vec(&value).unwrap()).unwrap();
    }
}

/// Writes the model as a GGUF file of Q8_0 matrices, without a tokenizer.
pub(crate) fn write_gguf(path: &Path) {
    let text = |value: &str| [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat();
    let number =
        |key: &str, value: u32| [text(key), 4u32.to_le_bytes().to_vec(), value.to_le_bytes().to_vec()].concat();
    let metadata = [
        [text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat(),
        number("llama.embedding_length", HIDDEN as u32),
        number("llama.feed_forward_length", INNER as u32),
        number("llama.block_count", LAYERS as u32),
        number("llama.attention.head_count", HEADS as u32),
        number("llama.attention.head_count_kv", KEY_HEADS as u32),
        number("llama.context_length", CONTEXT as u32),
    ];
    let names = [
        ("model.embed_tokens", "token_embd"),
        ("model.layers", "blk"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let (mut infos, mut data) = (Vec::new(), Vec::new());
    let tensors = tensors(VOCABULARY);
    for (name, shape, values) in &tensors {
        let name = names.iter().fold(name.clone(), |name, (from, to)| name.replacen(from, to, 1));
        let (kind, bytes) = if shape.len() == 2 {
            (8u32, block::quantize(Dtype::Q8_0, values).unwrap())
        } else {
            (0u32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        };
        infos.extend(text(&name));
        infos.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|size| infos.extend((*size as u64).to_le_bytes()));
        infos.extend(kind.to_le_bytes());
        infos.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    file.extend(metadata.concat());
    file.extend(infos);
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    fs::write(path, file).unwrap();
}

/// A GGUF file with a tokenizer (the same bytes and special tokens) and a chat template more. Weights stay where their
/// alignment has them, since what is put in is a multiple of it.
pub(crate) fn with_tokenizer(file: &[u8]) -> Vec<u8> {
    let text = |value: &str| [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat();
    let string = |key: &str, value: &str| [text(key), 8u32.to_le_bytes().to_vec(), text(value)].concat();
    let number =
        |key: &str, value: u32| [text(key), 4u32.to_le_bytes().to_vec(), value.to_le_bytes().to_vec()].concat();
    let array = |key: &str, kind: u32, length: usize, items: Vec<u8>| {
        let head = [9u32.to_le_bytes(), kind.to_le_bytes()].concat();
        [text(key), head, (length as u64).to_le_bytes().to_vec(), items].concat()
    };
    let mut tokens: Vec<String> = byte_characters().iter().map(char::to_string).collect();
    tokens.extend(["<s>", "</s>", "<|user|>", "<|assistant|>"].map(str::to_string));
    let kinds: Vec<u8> = (0..tokens.len()).flat_map(|id| if id < 256 { 1i32 } else { 3 }.to_le_bytes()).collect();
    let template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    let mut keys = [
        string("tokenizer.ggml.model", "gpt2"),
        string("tokenizer.ggml.pre", "gpt-2"),
        array("tokenizer.ggml.tokens", 8, tokens.len(), tokens.iter().flat_map(|token| text(token)).collect()),
        array("tokenizer.ggml.token_type", 5, tokens.len(), kinds),
        array("tokenizer.ggml.merges", 8, 0, Vec::new()),
        number("tokenizer.ggml.bos_token_id", 256),
        number("tokenizer.ggml.eos_token_id", 257),
        string("tokenizer.chat_template", template),
    ]
    .concat();
    let empty = string("padding", "").len();
    let padding = (keys.len() + empty).next_multiple_of(32) - keys.len() - empty;
    keys.extend(string("padding", &" ".repeat(padding)));
    let count = u64::from_le_bytes(file[16..24].try_into().unwrap()) + 9;
    [&file[..16], &count.to_le_bytes(), &keys, &file[24..]].concat()
}
