//! Perplexity in windows against the plain way: all logits, then the logarithms of probabilities.

use std::path::Path;

use bedrock_models::{Error, LanguageModel, LoadOptions};

fn model(name: &str) -> LanguageModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance").join(name);
    LanguageModel::load(path, &LoadOptions { threads: 2, ..LoadOptions::default() }).unwrap()
}

/// Negative log-probability of `id`, computed in double precision.
fn surprise(logits: &[f32], id: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    sum.ln() - f64::from(logits[id as usize] - largest)
}

/// The loop of Hugging Face's guide, for strides below the context.
fn plain(model: &LanguageModel, tokens: &[u32], context: usize, stride: usize) -> f64 {
    let (mut sum, mut count, mut before) = (0.0, 0, 0);
    for begin in (0..tokens.len()).step_by(stride) {
        let end = tokens.len().min(begin + context);
        let logits = model.logits(&tokens[begin..end]).unwrap();
        for target in before.max(begin + 1)..end {
            sum += surprise(&logits[target - begin - 1], tokens[target]);
            count += 1;
        }
        before = end;
        if end == tokens.len() {
            break;
        }
    }
    assert_eq!(count, tokens.len() - 1);
    sum / f64::from(count as u32)
}

#[test]
fn windows_score_as_the_plain_way() {
    for name in ["llama_default", "gpt2", "gemma2"] {
        let model = model(name);
        let vocabulary = model.vocab_size() as u32;
        let tokens: Vec<u32> = (0..40u32).map(|n| (n * n * 7 + n * 3 + 1) % vocabulary).collect();
        for (context, stride) in [(40, 40), (16, 8), (16, 15), (16, 1), (7, 3)] {
            let got = model.perplexity(&tokens, context, stride).unwrap();
            let want = plain(&model, &tokens, context, stride.min(context - 1));
            assert!((got.loss - want).abs() < 1e-5, "{name} {context} {stride}: {got:?}, not {want}");
            assert_eq!((got.tokens, got.perplexity), (39, got.loss.exp()));
        }
        // A stride as long as the context scores each token with at least one before it.
        let (all, most) = (model.perplexity(&tokens, 16, 16).unwrap(), model.perplexity(&tokens, 16, 15).unwrap());
        assert_eq!(all, most);
    }
}

#[test]
fn impossible_windows_are_refused() {
    let llama = model("llama_default");
    let refused = |tokens: &[u32], context, stride| llama.perplexity(tokens, context, stride).unwrap_err();
    for (context, stride) in [(1, 1), (8, 0), (8, 9), (llama.max_tokens() + 1, 1)] {
        assert!(matches!(refused(&[1, 2, 3], context, stride), Error::InvalidParameter { .. }), "{context} {stride}");
    }
    assert!(matches!(refused(&[1], 8, 8), Error::NoTokens));
    assert!(matches!(refused(&[1, u32::MAX], 8, 8), Error::TokenOutOfRange { .. }));
    let t5 = model("t5_v11");
    assert!(matches!(t5.perplexity(&[1, 2], 8, 8), Err(Error::PromptWithoutLogits { .. })));
}
