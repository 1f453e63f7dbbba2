//! candle on a GGUF file of the `llama` architecture: the figures that ours are compared with.
//!
//! ```text
//! cd benches/peers/candle
//! RUSTFLAGS="-C target-cpu=native" RAYON_NUM_THREADS=2 cargo run --release -- FILE.gguf [prefill] [decode] [repeats]
//! ```
//!
//! Prints one line of JSON with the names of `llama_decode.py`: tokens a second of a prefill of pseudo-random tokens, of a decode from an empty
//! context and of one after the prefill, medians. Each token of a decode is evaluated by itself, none is sampled.

use std::error::Error;
use std::fs::File;
use std::time::Instant;

use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().ok_or("which file?")?;
    let number = |index: usize, default: usize| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let (prefill, decode, repeats) = (number(1, 512)?, number(2, 64)?, number(3, 3)?);
    let mut file = File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let tokens: Vec<u32> = (0..prefill + decode).map(|i| ((i * 7919 + 13) % 40_000) as u32).collect();
    // The cache begins anew at position 0.
    let mut evaluate = |tokens: &[u32], position: usize| -> candle_core::Result<()> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        // Read, so that all is computed.
        model.forward(&input, position)?.flatten_all()?.to_vec1::<f32>().map(|_| ())
    };
    evaluate(&tokens[..16.min(prefill)], 0)?;
    let (mut filling, mut empty, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeats {
        let start = Instant::now();
        for (position, token) in tokens[..decode].iter().enumerate() {
            evaluate(&[*token], position)?;
        }
        empty.push(decode as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        evaluate(&tokens[..prefill], 0)?;
        filling.push(prefill as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        for (offset, token) in tokens[prefill..].iter().enumerate() {
            evaluate(&[*token], prefill + offset)?;
        }
        after.push(decode as f64 / start.elapsed().as_secs_f64());
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    println!(
        "{{\"prefill_tok_s\": {:.1}, \"decode_tok_s\": {:.1}, \"decode_after_prefill_tok_s\": {:.1}}}",
        median(&mut filling),
        median(&mut empty),
        median(&mut after)
    );
    Ok(())
}
