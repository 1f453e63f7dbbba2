//! What a step of decoding allocates does not grow with what came before: beyond weights, keys and values, it touches the same
//! memory after ten tokens and after thousands.

mod tiny;

use bedrock_models::kernels::CacheType;
use bedrock_models::weights::Dtype;
use bedrock_models::{EngineOptions, LanguageModel, LoadOptions};

/// Bytes that all allocations of one step have together, at a context of `length` tokens: what decoding one token more costs. One thread computes, the one
/// that is counted.
fn bytes_of_a_step(model: &LanguageModel, length: usize) -> i64 {
    let tokens: Vec<u32> = (0..length + 3).map(|i| (i * 7919 % 256) as u32).collect();
    let total = |steps: usize| {
        let used = allocation_counter::measure(|| {
            let logits = model.decode_logits(&tokens[..length + steps], length).unwrap();
            assert!(logits.iter().flatten().all(|logit| logit.is_finite()));
        });
        used.bytes_total as i64
    };
    // Results of the prompt are written over those of another of its length, once there was one.
    let [_, _, three, two] = [3, 2, 3, 2].map(total);
    // The second and the third token; the first has the prompt's end beside it.
    three - two
}

#[test]
fn a_step_allocates_the_same_whatever_the_context() {
    let folder = tempfile::tempdir().unwrap();
    tiny::write_with(folder.path(), &[], 4096);
    for (quantize, cache_type) in
        [(None, CacheType::F32), (Some(Dtype::Q8_0), CacheType::F32), (None, CacheType::F16), (None, CacheType::Q8)]
    {
        let engine = EngineOptions { cache_type, ..EngineOptions::default() };
        let options = LoadOptions { threads: 1, quantize, engine, ..LoadOptions::default() };
        let model = LanguageModel::load(folder.path(), &options).unwrap();
        // Nothing is allocated for the first time below.
        bytes_of_a_step(&model, 70);
        // None of them fills a page, which would allocate the next.
        let lengths = [10, 100, 500, 1000, 2000, 4000];
        let steps = lengths.map(|length| bytes_of_a_step(&model, length));
        assert!(steps[0] > 0, "{steps:?}");
        assert!(
            steps.iter().all(|bytes| *bytes == steps[0]),
            "{quantize:?} {cache_type:?}: {steps:?} bytes at {lengths:?} tokens"
        );
        // The vectors of a step: logits, and a few of the size of its layers. Far less than keys and values of 4,000 tokens, which are 2 MiB.
        assert!(steps[0] < 64 << 10, "{steps:?}");
    }
}
