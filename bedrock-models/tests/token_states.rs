//! States of tokens behind each layer of an encoder.

use std::path::PathBuf;

use bedrock_core::{EmbedPurpose, EmbeddingModel as _, TokenStates};
use bedrock_models::{Embedder, LoadOptions};
use futures::executor::block_on;

fn embedder(name: &str) -> Embedder {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance").join(name);
    Embedder::load(folder, &LoadOptions { threads: 1, ..LoadOptions::default() }).unwrap()
}

fn states(embedder: &Embedder, texts: &[&str]) -> Option<Vec<TokenStates>> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    block_on(embedder.token_states(&texts)).unwrap()
}

const TEXTS: [&str; 3] = ["Anna Berg lives in Tromsø.", "", "The lighthouse keeper wound the clock at dusk."];

#[test]
fn the_last_layer_is_the_hidden_state_without_special_tokens() {
    let embedder = embedder("bert_mean");
    let all = states(&embedder, &TEXTS).unwrap();
    for (text, states) in TEXTS.iter().zip(&all) {
        let hidden = embedder.hidden_state(text, EmbedPurpose::Other).unwrap();
        let tokens = embedder.encode(text, EmbedPurpose::Other).unwrap();
        let own: Vec<usize> = (0..tokens.len()).filter(|token| !tokens.added[*token]).collect();
        assert_eq!(states.spans.len(), own.len());
        assert!(states.spans.iter().all(|span| text.get(span.clone()).is_some()));
        let last = states.layers.last().unwrap();
        let wanted: Vec<f32> = own.iter().flat_map(|token| &hidden[*token]).copied().collect();
        assert_eq!(last.len(), wanted.len());
        assert!(last.iter().zip(&wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-5), "{text}");
    }
    // The input of the first layer and the output of each differ.
    let [first, .., last] = all[0].layers.as_slice() else { panic!("one layer") };
    assert!(first.len() == last.len() && first != last);
}

#[test]
fn a_text_has_the_same_states_whatever_is_asked_with_it() {
    let embedder = embedder("bert_mean");
    let together = states(&embedder, &TEXTS).unwrap();
    for (text, together) in TEXTS.iter().zip(together) {
        let alone = states(&embedder, &[text]).unwrap().remove(0);
        assert_eq!(alone.spans, together.spans);
        for (alone, together) in alone.layers.iter().flatten().zip(together.layers.iter().flatten()) {
            assert!((alone - together).abs() < 1e-5, "{text}");
        }
    }
    assert!(states(&embedder, &[]).unwrap().is_empty());
}

#[test]
fn an_encoder_whose_layers_are_not_told_apart_says_so() {
    assert!(states(&embedder("modernbert_embed"), &TEXTS).is_none());
}
