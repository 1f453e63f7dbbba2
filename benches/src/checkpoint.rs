//! Checkpoints with random weights, for what depends on the shape of a model alone.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

/// Writes a checkpoint in Hugging Face layout, without a tokenizer: vectors are ones, matrices small random numbers, the same in
/// every run.
///
/// # Errors
/// Those of writing.
pub fn write(folder: &Path, config: &Value, tensors: &[(String, Vec<usize>)]) -> io::Result<()> {
    fs::write(folder.join("config.json"), config.to_string())?;
    let (mut header, mut offset) = (Map::new(), 0);
    for (name, shape) in tensors {
        let end = offset + shape.iter().product::<usize>() * size_of::<f32>();
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let header = Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(folder.join("model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    // xorshift
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for (_, shape) in tensors {
        for _ in 0..shape.iter().product::<usize>() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.06;
            file.write_all(&if shape.len() == 1 { 1f32 } else { value }.to_le_bytes())?;
        }
    }
    file.flush()
}
