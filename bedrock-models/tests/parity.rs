//! Every model of this crate against what transformers computes from the same files: see `fixtures/conformance/SOURCE.md`.
//!
//! On the CPU all cases run. With the features `ndarray` and `wgpu` those that compute run on those devices too.

use std::path::{Path, PathBuf};

#[cfg(any(feature = "ndarray", feature = "wgpu"))]
use bedrock_models::DeviceKind;
use bedrock_models::LoadOptions;
use bedrock_models::conformance::{self, Verdict};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance")
}

/// Checks all cases whose name begins with one of `prefixes`; there must be `count` of them.
fn all_pass(prefixes: &[&str], count: usize, options: &LoadOptions) {
    let cases = conformance::cases(&fixtures()).unwrap();
    let name = |case: &Path| case.file_name().unwrap().to_string_lossy().into_owned();
    let chosen: Vec<_> = cases.iter().filter(|case| prefixes.iter().any(|p| name(case).starts_with(p))).collect();
    assert_eq!(chosen.len(), count, "cases that begin with {prefixes:?}");
    let failed: Vec<_> = chosen
        .into_iter()
        .map(|case| conformance::check(case, options))
        .filter(|outcome| outcome.verdict != Verdict::Pass)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn cpu() -> LoadOptions {
    LoadOptions { threads: 2, ..LoadOptions::default() }
}

#[test]
fn language_models() {
    all_pass(&["llama_", "mistral_"], 11, &cpu());
}

/// Every other family of language models, see `bedrock-models/src/arch/family.rs`.
const FAMILIES: &[&str] = &["qwen", "gemma", "phi3", "cohere", "gpt2", "mixtral"];

#[test]
fn families_of_language_models() {
    all_pass(FAMILIES, 11, &cpu());
}

#[test]
fn encoder_decoders() {
    all_pass(&["t5_", "mt5_"], 3, &cpu());
}

#[test]
fn encoders() {
    all_pass(&["bert_", "xlm_roberta_"], 8, &cpu());
}

#[test]
fn encoder_families() {
    all_pass(&["roberta_", "mpnet_", "modernbert_", "nomic_", "deberta_v2_"], 11, &cpu());
}

#[test]
fn quantised_files() {
    all_pass(&["gguf"], 1, &cpu());
}

#[test]
fn text_and_choice() {
    all_pass(&["tokenizers", "chat_templates", "sampling"], 3, &cpu());
}

#[test]
fn every_case_belongs_to_a_test() {
    all_pass(&["tokenizers"], 1, &cpu());
    assert_eq!(conformance::cases(&fixtures()).unwrap().len(), 11 + 11 + 3 + 8 + 11 + 1 + 3);
}

/// Results do not depend on the number of threads.
#[test]
fn one_thread() {
    let one = LoadOptions { threads: 1, ..LoadOptions::default() };
    all_pass(&["llama_llama3", "mistral_sliding", "bert_mean", "gguf"], 4, &one);
    all_pass(FAMILIES, 11, &one);
    all_pass(&["mpnet_embed", "modernbert_labels", "nomic_embed", "deberta_v2_conv", "t5_v11"], 5, &one);
}

#[cfg(feature = "ndarray")]
#[test]
fn on_ndarray() {
    let options = LoadOptions { device: DeviceKind::NdArray, ..LoadOptions::default() };
    all_pass(FAMILIES, 11, &options);
    all_pass(&["llama_", "mistral_", "bert_", "xlm_roberta_"], 19, &options);
    all_pass(&["roberta_", "mpnet_", "modernbert_", "nomic_", "deberta_v2_", "t5_", "mt5_"], 14, &options);
}

#[cfg(feature = "wgpu")]
#[test]
fn on_wgpu() {
    let options = LoadOptions { device: DeviceKind::Wgpu, ..LoadOptions::default() };
    all_pass(FAMILIES, 11, &options);
    all_pass(&["llama_", "mistral_", "bert_", "xlm_roberta_"], 19, &options);
    all_pass(&["roberta_", "mpnet_", "modernbert_", "nomic_", "deberta_v2_", "t5_", "mt5_"], 14, &options);
}

/// A copy of a case with one file changed must not pass, and must not panic.
mod changed_cases {
    use super::*;

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    /// Checks a copy of `case` after `change`, and returns why it failed.
    fn reasons(case: &str, change: impl FnOnce(&Path)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(case);
        copy(&fixtures().join(case), &path);
        change(&path);
        match conformance::check(&path, &cpu()).verdict {
            Verdict::Fail { reasons } => reasons.join("; "),
            other => panic!("{case} with a changed file gives {other:?}"),
        }
    }

    fn edit(file: &Path, from: &str, to: &str) {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(from), "{from} in {}", file.display());
        std::fs::write(file, text.replacen(from, to, 1)).unwrap();
    }

    #[test]
    fn another_rotation_is_noticed() {
        for (case, from, to) in [
            ("llama_linear", "\"factor\": 2.5", "\"factor\": 2.0"),
            ("llama_yarn", "\"beta_fast\": 2.0", "\"beta_fast\": 32.0"),
            ("llama_yarn", "\"beta_slow\": 0.5", "\"beta_slow\": 0.1"),
            ("llama_yarn_mscale", "\"mscale\": 0.8", "\"mscale\": 1.0"),
            ("llama_yarn_mscale", "\"truncate\": false", "\"truncate\": true"),
            ("llama_dynamic", "\"factor\": 3.0", "\"factor\": 2.0"),
            ("llama_llama3", "\"high_freq_factor\": 3.0", "\"high_freq_factor\": 4.0"),
            ("llama_longrope", "\"short_factor\": [1.0", "\"short_factor\": [1.05"),
            ("mistral_sliding", "\"sliding_window\": 7", "\"sliding_window\": 8"),
            ("qwen2_yarn", "\"factor\": 2.0", "\"factor\": 2.5"),
            ("gemma2", "\"sliding_window\": 8", "\"sliding_window\": 9"),
            ("gemma2", "\"attn_logit_softcapping\": 20.0", "\"attn_logit_softcapping\": null"),
            ("gemma3_text", "\"sliding_window_pattern\": 2", "\"sliding_window_pattern\": 3"),
            ("gemma3_text", "\"rope_local_base_freq\": 7000.0", "\"rope_local_base_freq\": 7100.0"),
            ("phi3_longrope", "\"original_max_position_embeddings\": 20", "\"original_max_position_embeddings\": 21"),
            ("mixtral", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 3"),
        ] {
            let reasons = reasons(case, |path| edit(&path.join("config.json"), from, to));
            assert!(reasons.contains("logits of"), "{case}: {reasons}");
        }
    }

    #[test]
    fn another_setting_is_noticed() {
        for (case, from, to) in [
            ("modernbert_entities", "\"local_attention\": 4", "\"local_attention\": 6"),
            ("modernbert_entities", "\"local_rope_theta\": 100.0", "\"local_rope_theta\": 120.0"),
            ("modernbert_labels", "\"classifier_pooling\": \"mean\"", "\"classifier_pooling\": \"cls\""),
            ("nomic_labels", "\"rotary_emb_base\": 300", "\"rotary_emb_base\": 1000"),
            ("nomic_labels", "\"rotary_emb_fraction\": 1.0", "\"rotary_emb_fraction\": 0.5"),
            ("deberta_v2_entities", "\"max_relative_positions\": 20", "\"max_relative_positions\": 40"),
            ("deberta_v2_entities", "\"norm_rel_ebd\": \"layer_norm\"", "\"norm_rel_ebd\": \"none\""),
            ("deberta_v2_conv", "\"conv_act\": \"gelu\"", "\"conv_act\": \"tanh\""),
            ("mpnet_labels", "\"hidden_act\": \"gelu_new\"", "\"hidden_act\": \"relu\""),
            ("t5_original", "\"relative_attention_max_distance\": 14", "\"relative_attention_max_distance\": 28"),
            ("t5_original", "\"feed_forward_proj\": \"relu\"", "\"feed_forward_proj\": \"gelu\""),
            ("t5_v11", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"),
            ("t5_v11", "\"decoder_start_token_id\": 0", "\"decoder_start_token_id\": 7"),
        ] {
            let reasons = reasons(case, |path| edit(&path.join("config.json"), from, to));
            assert!(reasons.contains("logits") || reasons.contains("does not use"), "{case}: {reasons}");
        }
    }

    #[test]
    fn what_an_encoder_cannot_do_is_refused_by_name() {
        for (case, from, to, named) in [
            ("nomic_labels", "\"prenorm\": false", "\"prenorm\": true", "prenorm"),
            (
                "nomic_labels",
                "\"rotary_emb_scale_base\": null",
                "\"rotary_emb_scale_base\": 512",
                "rotary_emb_scale_base",
            ),
            ("deberta_v2_conv", "\"conv_kernel_size\": 5", "\"conv_kernel_size\": 4", "conv_kernel_size"),
            ("deberta_v2_entities", "\"position_buckets\": 8", "\"position_buckets\": 4096", "relative positions"),
            (
                "modernbert_entities",
                "\"global_attn_every_n_layers\": 2",
                "\"global_attn_every_n_layers\": 0",
                "global_attn",
            ),
            (
                "t5_original",
                "\"relative_attention_max_distance\": 14",
                "\"relative_attention_max_distance\": 2",
                "distance",
            ),
            (
                "mpnet_labels",
                "\"relative_attention_num_buckets\": 36",
                "\"relative_attention_num_buckets\": 8",
                "num_buckets",
            ),
        ] {
            let reasons = reasons(case, |path| edit(&path.join("config.json"), from, to));
            assert!(reasons.contains("config.json") && reasons.contains(named), "{case}: {reasons}");
        }
    }

    #[test]
    fn another_choice_of_words_is_noticed() {
        let reasons = reasons("bert_mean", |path| {
            edit(&path.join("1_Pooling/config.json"), "true", "false");
            edit(
                &path.join("1_Pooling/config.json"),
                "\"pooling_mode_cls_token\": false",
                "\"pooling_mode_cls_token\": true",
            );
        });
        assert!(reasons.contains("pooling is"), "{reasons}");
        assert!(reasons.contains("embeddings is off by"), "{reasons}");
    }

    #[test]
    fn damaged_files_are_named() {
        let truncate = |file: &Path| {
            let bytes = std::fs::read(file).unwrap();
            std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        };
        for file in ["config.json", "model.safetensors", "tokenizer.json", "expected.json", "expected.safetensors"] {
            let reasons = reasons("llama_linear", |path| truncate(&path.join(file)));
            assert!(reasons.contains(file), "{file}: {reasons}");
        }
        let reasons = reasons("gguf", |path| truncate(&path.join("mixed.gguf")));
        assert!(reasons.contains("mixed.gguf"), "{reasons}");
    }

    #[test]
    fn a_folder_without_a_case_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        assert!(conformance::cases(folder.path()).unwrap().is_empty());
        assert!(matches!(conformance::check(folder.path(), &cpu()).verdict, Verdict::Fail { .. }));
        std::fs::write(folder.path().join("expected.json"), r#"{"kind": "paintings"}"#).unwrap();
        assert!(matches!(conformance::check(folder.path(), &cpu()).verdict, Verdict::Unsupported { .. }));
        std::fs::write(folder.path().join("expected.json"), r#"{"kind": "sampling", "logits": [], "tests": []}"#)
            .unwrap();
        assert!(matches!(conformance::check(folder.path(), &cpu()).verdict, Verdict::Fail { .. }));
    }
}
