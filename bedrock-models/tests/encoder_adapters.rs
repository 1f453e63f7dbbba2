//! Adapters of encoders: beside their base alone, chosen by request, and merged, the answers are those of PyTorch with PEFT, whose first losses are
//! in `fixtures/encoder_training` (see `SOURCE.md` there).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bedrock_core::{EmbedPurpose, EmbedRequest, EmbeddingModel, RerankRequest, Reranker};
use bedrock_models::tune::{AdamW, ClassifierTrainer, Lora, Method, merge};
use bedrock_models::{CrossEncoder, Embedder, Error, LoadOptions, SequenceClassifier, TokenClassifier};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};

mod bench;

use bench::{base, fixtures, load as plain, without};

fn expected(kind: &str) -> Vec<Value> {
    let bytes = fs::read(fixtures().join("encoder_training/expected.json")).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()[kind].as_array().unwrap().clone()
}

fn with(adapter: &Path) -> LoadOptions {
    LoadOptions { adapter: Some(adapter.to_path_buf()), ..plain() }
}

/// Options with adapters to choose from: the first in the order of names is not the first that is meant.
fn choice<const N: usize>(adapters: [(&str, &Path); N]) -> LoadOptions {
    let adapters: BTreeMap<String, PathBuf> =
        adapters.into_iter().map(|(name, folder)| (name.to_string(), folder.to_path_buf())).collect();
    LoadOptions { adapters, ..plain() }
}

/// An adapter of all matrices of a model whose names end so, of rank 2.
fn adapter_of(model: &Path, ends: &[&str], salt: usize, folder: &Path) -> PathBuf {
    let whole = fs::read(model.join("model.safetensors")).unwrap();
    let mut factors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in SafeTensors::deserialize(&whole).unwrap().iter() {
        let Some(module) = name.strip_suffix(".weight").filter(|name| ends.iter().any(|end| name.ends_with(end)))
        else {
            continue;
        };
        for (factor, shape) in [("lora_A", [2, tensor.shape()[1]]), ("lora_B", [tensor.shape()[0], 2])] {
            let number = |i: usize| ((i * 37 + salt * 11 + factors.len() * 5) % 101) as f32 / 50.0 - 1.0;
            let values = (0..shape[0] * shape[1]).flat_map(|i| number(i).to_le_bytes()).collect();
            factors.push((format!("base_model.model.{module}.{factor}.weight"), shape.to_vec(), values));
        }
    }
    assert!(!factors.is_empty());
    let view = |(name, shape, values)| (name, TensorView::new(Dtype::F32, shape, values).unwrap());
    let views = factors.iter().map(|(name, shape, values)| view((name.clone(), shape.clone(), values.as_slice())));
    fs::write(folder.join("adapter_model.safetensors"), serialize(views, None).unwrap()).unwrap();
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 1.5, "target_modules": ends});
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    folder.to_path_buf()
}

fn folders<const N: usize>() -> [tempfile::TempDir; N] {
    std::array::from_fn(|_| tempfile::tempdir().unwrap())
}

fn close(got: &[Vec<f32>], want: &[Vec<f32>], by: f32, what: &str) {
    let top = want.iter().flatten().fold(1.0f32, |top, x| top.max(x.abs()));
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.len(), want.len(), "{what}");
        got.iter().zip(want).for_each(|(a, b)| assert!((a - b).abs() <= by * top, "{what}: {a}, not {b}"));
    }
}

/// Mean cross-entropy of the own among scores.
fn cross_entropy(rows: &[Vec<f64>], own: impl Fn(usize) -> usize) -> f64 {
    let loss = |(at, row): (usize, &Vec<f64>)| {
        let top = row.iter().fold(f64::NEG_INFINITY, |top, x| top.max(*x));
        top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln() - row[own(at)]
    };
    rows.iter().enumerate().map(loss).sum::<f64>() / rows.len() as f64
}

/// Vectors of all anchors, positives and negatives, and the loss that they have.
fn vectors(embedder: &Embedder, rows: &[Value]) -> (Vec<Vec<f32>>, f64) {
    let texts = |key: &str| rows.iter().filter_map(|row| Some(row.get(key)?.as_str()?.to_string())).collect::<Vec<_>>();
    let embed = |purpose, texts: Vec<String>| {
        let request = EmbedRequest { normalize: Some(true), ..EmbedRequest::new(purpose, texts) };
        embedder.embed_blocking(&request).unwrap().embeddings
    };
    let anchors = embed(EmbedPurpose::Query, texts("anchor"));
    let others = embed(EmbedPurpose::Document, [texts("positive"), texts("negative")].concat());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let scores = anchors.iter().map(|anchor| others.iter().map(|other| 20.0 * dot(anchor, other)).collect());
    let loss = cross_entropy(&scores.collect::<Vec<_>>(), |own| own);
    (anchors.into_iter().chain(others).collect(), loss)
}

#[test]
fn vectors_are_those_of_peft_alone_chosen_and_merged() {
    let cases = expected("adapters");
    assert_eq!(cases.len(), 6);
    for case in cases {
        let (name, rows) = (case["case"].as_str().unwrap(), case["rows"].as_array().unwrap());
        let [bare, other, merged] = folders();
        let model = match name {
            "deberta_v2_entities" => without(name, &["classifier."], bare.path()),
            _ => base(name),
        };
        let adapter = fixtures().join("encoder_training").join(name);
        let ends = ["query", "Wqkv", "attn.q", "query_proj", "key_proj"];
        let other = adapter_of(&model, &ends, 3, other.path());
        let alone = Embedder::load(&model, &with(&adapter)).unwrap();
        let served = Embedder::load(&model, &choice([("a", &other), ("tuned", &adapter)])).unwrap();
        let chosen = served.with_adapter("tuned").unwrap();
        let (want, loss) = vectors(&alone, rows);
        let peft = case["losses"][0].as_f64().unwrap();
        assert!((loss - peft).abs() < 2e-5 * peft, "{name}: {loss}, not {peft}");
        assert_eq!(vectors(&chosen, rows).0, want, "{name}: chosen by request");
        assert_eq!(chosen.info().identity, alone.info().identity);
        // The others are not disturbed.
        let bare = Embedder::load(&model, &plain()).unwrap();
        assert_eq!(vectors(&served, rows).0, vectors(&bare, rows).0, "{name}: without");
        assert_eq!(served.info().identity, bare.info().identity);
        assert_ne!(served.info().identity, chosen.info().identity);
        let of_other = served.with_adapter("a").unwrap();
        let alone = Embedder::load(&model, &with(&other)).unwrap();
        assert_eq!(vectors(&of_other, rows).0, vectors(&alone, rows).0, "{name}: the other");
        assert!(vectors(&of_other, rows).0 != want);
        merge(&model, &adapter, merged.path()).unwrap();
        let merged = Embedder::load(merged.path(), &plain()).unwrap();
        assert_eq!((merged.pooling(), merged.normalizes()), (bare.pooling(), bare.normalizes()));
        let (got, loss) = vectors(&merged, rows);
        close(&got, &want, 1e-4, name);
        assert!((loss - peft).abs() < 1e-4 * peft, "{name} merged: {loss}, not {peft}");
        assert!(matches!(served.with_adapter("b"), Err(Error::InvalidParameter { .. })));
    }
}

#[test]
fn labels_are_those_of_peft_alone_chosen_and_merged() {
    let cases = expected("classifier_adapters");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let (name, rows) = (case["case"].as_str().unwrap(), case["rows"].as_array().unwrap());
        let [merged] = folders();
        let (model, adapter) = (base(name), fixtures().join("encoder_training").join(name));
        let texts: Vec<_> = rows.iter().map(|row| (row["text"].as_str().unwrap().to_string(), None)).collect();
        let alone = SequenceClassifier::load(&model, &with(&adapter)).unwrap();
        let served = SequenceClassifier::load(&model, &choice([("tuned", &adapter)])).unwrap();
        let chosen = served.with_adapter("tuned").unwrap();
        let want = alone.logits(&texts).unwrap();
        let labels: Vec<usize> = rows
            .iter()
            .map(|row| alone.labels().iter().position(|label| row["label"] == *label.as_str()).unwrap())
            .collect();
        let loss = |logits: &[Vec<f32>]| {
            let rows: Vec<Vec<f64>> = logits.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
            cross_entropy(&rows, |at| labels[at])
        };
        let peft = case["losses"][0].as_f64().unwrap();
        assert!((loss(&want) - peft).abs() < 2e-5 * peft, "{name}: {}, not {peft}", loss(&want));
        assert_eq!(chosen.logits(&texts).unwrap(), want, "{name}: chosen by request");
        let bare = SequenceClassifier::load(&model, &plain()).unwrap();
        assert_eq!(served.logits(&texts).unwrap(), bare.logits(&texts).unwrap(), "{name}: without");
        merge(&model, &adapter, merged.path()).unwrap();
        let merged = SequenceClassifier::load(merged.path(), &plain()).unwrap();
        assert_eq!(merged.labels(), alone.labels());
        close(&merged.logits(&texts).unwrap(), &want, 1e-4, name);
    }
}

/// An encoder without a head serves several classifiers, whose heads and labels come with their adapters.
#[test]
fn one_encoder_has_many_heads() {
    let texts = [("the storm".to_string(), None), ("a calm day".to_string(), None)];
    for (name, prefixes) in
        [("bert_mean", &[] as &[&str]), ("xlm_roberta_mean", &[]), ("deberta_v2_nli", &["pooler.", "classifier."])]
    {
        let [bare, two, three, merged] = folders();
        let model = match prefixes {
            [] => base(name),
            _ => without(name, prefixes, bare.path()),
        };
        let train = |labels: &[&str], seed, folder: &Path| {
            let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
            let targets = ["query", "value", "query_proj", "value_proj"].map(String::from).to_vec();
            let method = Method::Lora(Lora { rank: 2, targets, seed, ..Lora::default() });
            let mut trainer = ClassifierTrainer::load_with(&model, &plain(), &labels, seed, method).unwrap();
            let items: Vec<_> = labels.iter().map(|label| trainer.encode(label, None, label).unwrap()).collect();
            for _ in 0..2 {
                trainer.step(&items, &AdamW { learning_rate: 1e-2, ..AdamW::default() }).unwrap();
            }
            trainer.save(folder).unwrap();
        };
        train(&["calm", "loud"], 1, two.path());
        train(&["rain", "storm", "wind"], 2, three.path());
        let served = SequenceClassifier::load(&model, &choice([("two", two.path()), ("three", three.path())])).unwrap();
        for (adapter, folder) in [("two", two.path()), ("three", three.path())] {
            let chosen = served.with_adapter(adapter).unwrap();
            let alone = SequenceClassifier::load(&model, &with(folder)).unwrap();
            assert_eq!(chosen.labels(), alone.labels(), "{name}");
            assert_eq!(chosen.logits(&texts).unwrap(), alone.logits(&texts).unwrap(), "{name} {adapter}");
        }
        match served.logits(&texts) {
            Err(Error::InvalidParameter { name: "adapter", expected, .. }) => assert!(expected.ends_with("three, two")),
            other => panic!("{other:?}"),
        }
        merge(&model, three.path(), merged.path()).unwrap();
        let merged = SequenceClassifier::load(merged.path(), &plain()).unwrap();
        let chosen = served.with_adapter("three").unwrap();
        assert_eq!(merged.labels(), ["rain", "storm", "wind"]);
        close(&merged.logits(&texts).unwrap(), &chosen.logits(&texts).unwrap(), 1e-4, name);
    }
}

#[test]
fn rerankers_and_classifiers_of_tokens_choose_too() {
    let [first, second, merged] = folders();
    let model = base("bert_cross_encoder");
    let [one, two] =
        [(1, &first), (2, &second)].map(|(salt, folder)| adapter_of(&model, &["query", "dense"], salt, folder.path()));
    let served = CrossEncoder::load(&model, &choice([("one", &one), ("two", &two)])).unwrap();
    let request = RerankRequest::new("a storm", ["the storm is here", "bread", "wind and rain"]);
    let scores = |model: &CrossEncoder| {
        let results = model.rerank_blocking(&request).unwrap().results;
        results.iter().map(|result| (result.index, result.relevance_score)).collect::<Vec<_>>()
    };
    for (name, folder) in [("one", &one), ("two", &two)] {
        let alone = CrossEncoder::load(&model, &with(folder)).unwrap();
        assert_eq!(scores(&served.with_adapter(name).unwrap()), scores(&alone), "{name}");
    }
    assert!(scores(&served.with_adapter("one").unwrap()) != scores(&served.with_adapter("two").unwrap()));
    assert!(served.with_adapter("three").is_err());

    let [first, second] = folders();
    let model = base("deberta_v2_entities");
    // What positions become depends on the adapter where it changes keys, and is the base's where it does not.
    let one = adapter_of(&model, &["key_proj", "value_proj"], 1, first.path());
    let two = adapter_of(&model, &["value_proj", "output.dense"], 2, second.path());
    let served = TokenClassifier::load(&model, &choice([("one", &one), ("two", &two)])).unwrap();
    let text = "Ole Hansen rowed out to Bergen.";
    for (name, folder) in [("one", &one), ("two", &two)] {
        let alone = TokenClassifier::load(&model, &with(folder)).unwrap().logits(text).unwrap().logits;
        assert_eq!(served.with_adapter(name).unwrap().logits(text).unwrap().logits, alone, "{name}");
    }
    merge(&model, &one, merged.path()).unwrap();
    let merged = TokenClassifier::load(merged.path(), &plain()).unwrap().logits(text).unwrap().logits;
    close(&merged, &served.with_adapter("one").unwrap().logits(text).unwrap().logits, 1e-4, "merged");
}
