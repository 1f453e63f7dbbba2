//! A customization job as the service's `CreateModelCustomizationJob` describes it, with paths where the service has buckets.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::data::{CustomizationType, TooLong};
use super::hyper_parameters::HyperParameters;
use super::trainer::{Lora, Method};
use crate::error::Error;
use crate::language_model::model_type;
use crate::weights::GgufFile;

/// The largest file of a job that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The service's limit of validators.
const MAX_VALIDATORS: usize = 10;

/// A job: what is learnt from what, by which model, how, and where the result is written.
///
/// | `customizationType` | a line of data |
/// | --- | --- |
/// | `FINE_TUNING` | `{prompt, completion}`, or `{system?, messages}` in Converse's form |
/// | `CONTINUED_PRE_TRAINING` | `{input}`; a file of another ending is text |
/// | `DISTILLATION` | as `FINE_TUNING`, where the last answer may be missing: the teacher gives it |
/// | `PREFERENCE_TUNING` | `{prompt, chosen, rejected}`, or `{system?, messages, chosen, rejected}` |
/// | `EMBEDDING_TUNING` | `{query, positive, negative?}`, or `anchor` for `query` |
/// | `CLASSIFIER_TUNING` | `{text, pair?, label}` |
///
/// Data and output are paths; the service's objects around them (`trainingDataConfig: {s3Uri}` and so on) are read too, with a path or a
/// `file://` address. `roleArn`, `vpcConfig` and `clientRequestToken` are accepted and mean nothing here.
///
/// ```
/// use bedrock_models::tune::{CustomizationType, Job, JobMethod};
///
/// let job: Job = serde_json::from_str(r#"{
///     "customizationType": "FINE_TUNING", "baseModel": "smollm2-135m-instruct", "outputDir": "tuned",
///     "trainingData": "train.jsonl", "method": {"lora": {"r": 8, "alpha": 16}},
///     "hyperParameters": {"epochCount": "2", "learningRate": 2e-4}
/// }"#)?;
/// assert_eq!(job.customization_type, CustomizationType::FineTuning);
/// assert!(matches!(job.method, JobMethod::Lora(lora) if lora.r == 8));
/// assert_eq!(job.hyper_parameters.epoch_count, 2);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Job {
    /// The job's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// The name that the result shall have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_model_name: Option<String>,
    /// What is learnt. Default: completions.
    #[serde(default = "fine_tuning")]
    pub customization_type: CustomizationType,
    /// The model that is the base: a path, once it is run.
    #[serde(alias = "baseModelIdentifier")]
    pub base_model: String,
    /// The folder that the results are written into.
    #[serde(alias = "outputDataConfig", deserialize_with = "place")]
    pub output_dir: PathBuf,
    /// The file that is learnt from.
    #[serde(alias = "trainingDataConfig", deserialize_with = "place")]
    pub training_data: PathBuf,
    /// Files whose loss is computed, together, before the first and after each epoch: a path, or a list of at most ten.
    #[serde(default, alias = "validationDataConfig", deserialize_with = "places")]
    pub validation_data: Vec<PathBuf>,
    /// What is trained. Default: an adapter.
    #[serde(default)]
    pub method: JobMethod,
    /// Settings.
    #[serde(default)]
    pub hyper_parameters: HyperParameters,
    /// What becomes of items with too many tokens.
    #[serde(default)]
    pub too_long: TooLong,
    /// Steps from one checkpoint to the next; 0: there are none. Default: a tenth of all steps, at most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_steps: Option<u64>,
    /// Whether an adapter is also written merged into its base, as a model of its own: the folder `merged`, or beside a GGUF file
    /// `merged.gguf`.
    #[serde(default)]
    pub merge: bool,
    /// Of a distillation: the teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customization_config: Option<CustomizationConfig>,
    /// Labels of the job: objects with `key` and `value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub job_tags: Vec<Tag>,
    /// Labels of the result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_model_tags: Vec<Tag>,
    /// Who may read the data, on the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The service's guard against doing things twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    /// The network that the job runs in, on the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_config: Option<Value>,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// What it says something about.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// What some types of customization need besides data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomizationConfig {
    /// Of a distillation.
    pub distillation_config: DistillationConfig,
}

/// What a distillation needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DistillationConfig {
    /// The model that answers the prompts.
    pub teacher_model_config: TeacherModelConfig,
}

/// Which model is the teacher of a distillation, and how much it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherModelConfig {
    /// Its name, which it is asked by: see [`JobOptions::teacher`](super::JobOptions::teacher).
    pub teacher_model_identifier: String,
    /// The most tokens of an answer, in the teacher's tokens. 1 to 65,536; default 1,000.
    #[serde(default = "response_length")]
    pub max_response_length_for_inference: u32,
}

fn response_length() -> u32 {
    1000
}

/// What a job trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobMethod {
    /// A low-rank adapter.
    Lora(JobLora),
    /// All weights.
    Full,
}

impl Default for JobMethod {
    fn default() -> Self {
        Self::Lora(JobLora::default())
    }
}

/// An adapter of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct JobLora {
    /// Rank. Default 8.
    pub r: usize,
    /// The adapter's result is multiplied by `alpha / r`. Default 16.
    pub alpha: f64,
    /// See [`Lora::dropout`]. Default 0.
    pub dropout: f32,
    /// Last names of the modules that get an adapter. None: those that PEFT chooses for the family.
    pub targets: Option<Vec<String>>,
    /// Whether it is multiplied by `alpha / √r` instead.
    pub rs_lora: bool,
}

impl Default for JobLora {
    fn default() -> Self {
        Self { r: 8, alpha: 16.0, dropout: 0.0, targets: None, rs_lora: false }
    }
}

fn fine_tuning() -> CustomizationType {
    CustomizationType::FineTuning
}

/// A path, or an object that has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Place {
    Path(String),
    Uri {
        #[serde(rename = "s3Uri")]
        uri: String,
    },
    Validators {
        validators: Vec<Place>,
    },
    List(Vec<Place>),
}

impl Place {
    fn paths(self, into: &mut Vec<PathBuf>) -> Result<(), String> {
        match self {
            Self::Path(path) | Self::Uri { uri: path } => match path.split_once("://") {
                Some(("file", path)) => into.push(path.into()),
                Some((scheme, _)) => return Err(format!("{scheme}:// cannot be read or written here, only paths")),
                None if path.is_empty() => return Err("a path is empty".into()),
                None => into.push(path.into()),
            },
            Self::Validators { validators: places } | Self::List(places) => {
                places.into_iter().try_for_each(|place| place.paths(into))?;
            }
        }
        Ok(())
    }
}

fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let mut paths = Vec::new();
    if let Some(place) = Option::<Place>::deserialize(deserializer)? {
        place.paths(&mut paths).map_err(serde::de::Error::custom)?;
    }
    if paths.len() > MAX_VALIDATORS {
        return Err(serde::de::Error::custom(format!("there are more than {MAX_VALIDATORS} files")));
    }
    Ok(paths)
}

fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let mut paths = places(deserializer)?;
    match (paths.pop(), paths.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err(serde::de::Error::custom("one path is needed")),
    }
}

impl Job {
    /// A job with default settings: completions of a file, by an adapter.
    pub fn new(
        base_model: impl Into<String>,
        training_data: impl Into<PathBuf>,
        output_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            job_name: None,
            custom_model_name: None,
            customization_type: CustomizationType::FineTuning,
            base_model: base_model.into(),
            output_dir: output_dir.into(),
            training_data: training_data.into(),
            validation_data: Vec::new(),
            method: JobMethod::default(),
            hyper_parameters: HyperParameters::default(),
            too_long: TooLong::default(),
            checkpoint_steps: None,
            merge: false,
            customization_config: None,
            job_tags: Vec::new(),
            custom_model_tags: Vec::new(),
            role_arn: None,
            client_request_token: None,
            vpc_config: None,
        }
    }

    /// Reads a job from a JSON file. Its paths are those of the process, not of the file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::FileTooLarge`]; [`Error::Config`] with the field that is wrong.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = crate::tokenizer::read_bounded(path, MAX_FILE)?;
        serde_json::from_slice(&text).map_err(|source| Error::Config { path: path.to_path_buf(), source })
    }

    /// Checks what can be checked without reading any other file.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for settings, [`Error::Job`] for names and labels that the service does not have either.
    pub fn validate(&self) -> Result<(), Error> {
        self.hyper_parameters.check()?;
        let wrong = |what: &str, reason: &str| Error::Job { what: what.into(), reason: reason.into() };
        for (what, name) in [("jobName", &self.job_name), ("customModelName", &self.custom_model_name)] {
            let plain = |name: &String| {
                let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
                let more = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_+.".contains(c));
                begins && more && name.len() <= 63
            };
            if !name.as_ref().is_none_or(plain) {
                return Err(wrong(what, "1 to 63 letters, digits, hyphens and dots, a letter or digit first"));
            }
        }
        for (what, tags) in [("jobTags", &self.job_tags), ("customModelTags", &self.custom_model_tags)] {
            let sizes = |tag: &Tag| (1..=128).contains(&tag.key.chars().count()) && tag.value.chars().count() <= 256;
            if tags.len() > 200 || !tags.iter().all(sizes) {
                return Err(wrong(what, "at most 200, keys of 1 to 128 characters and values of at most 256"));
            }
        }
        match (self.customization_type, &self.customization_config) {
            (CustomizationType::Distillation, None) => {
                return Err(wrong("customizationConfig", "a distillation has a teacher: distillationConfig"));
            }
            (CustomizationType::Distillation, Some(config)) => {
                let config = &config.distillation_config.teacher_model_config;
                let (name, length) = (&config.teacher_model_identifier, config.max_response_length_for_inference);
                if name.trim().is_empty() {
                    return Err(wrong("teacherModelIdentifier", "not empty"));
                }
                if !(1..=65_536).contains(&length) {
                    return Err(wrong("maxResponseLengthForInference", "1 to 65536"));
                }
            }
            (_, Some(_)) => return Err(wrong("customizationConfig", "only a distillation has one")),
            (_, None) => {}
        }
        let of_encoder =
            matches!(self.customization_type, CustomizationType::EmbeddingTuning | CustomizationType::ClassifierTuning);
        if of_encoder && self.hyper_parameters.activation_checkpointing {
            let reason = "of language models alone: an encoder's batch is run in parts";
            return Err(wrong("activationCheckpointing", reason));
        }
        if self.merge && self.method == JobMethod::Full {
            return Err(wrong("merge", "only an adapter can be merged"));
        }
        Ok(())
    }

    /// What the trainer is told.
    pub(super) fn trained(&self) -> Result<Method, Error> {
        let JobLora { r, alpha, dropout, targets, rs_lora } = match &self.method {
            JobMethod::Full => return Ok(Method::Full),
            JobMethod::Lora(lora) => lora.clone(),
        };
        let targets = match targets {
            Some(targets) => targets,
            None => default_targets(Path::new(&self.base_model))?,
        };
        let seed = self.hyper_parameters.seed;
        Ok(Method::Lora(Lora { rank: r, alpha, dropout, targets, rank_stabilised: rs_lora, seed }))
    }

    /// Everything that the result depends on besides the data and the base, to compare with.
    pub(super) fn settings(&self) -> Map<String, Value> {
        let settings = serde_json::json!({
            "customizationType": self.customization_type,
            "method": self.method,
            "hyperParameters": self.hyper_parameters,
            "tooLong": self.too_long,
        });
        let Value::Object(mut settings) = settings else { return Map::new() };
        if let Some(config) = &self.customization_config {
            settings.insert("customizationConfig".into(), serde_json::json!(config));
        }
        settings
    }
}

/// The modules that PEFT gives an adapter where nothing else is said. Of families that it has no choice for, those that make queries
/// and values.
fn default_targets(base: &Path) -> Result<Vec<String>, Error> {
    let family = match base.is_dir() {
        true => model_type(&base.join("config.json"))?,
        false => GgufFile::open(base)?.metadata.required::<&str>("general.architecture")?.to_string(),
    };
    let targets: &[&str] = match &*family {
        "gpt2" => &["c_attn"],
        "phi3" => &["qkv_proj"],
        "t5" | "mt5" | "mpnet" => &["q", "v"],
        "bert" | "roberta" | "xlm-roberta" => &["query", "value"],
        "modernbert" | "nomic_bert" => &["Wqkv"],
        "deberta-v2" => &["query_proj", "value_proj"],
        _ => &["q_proj", "v_proj"],
    };
    Ok(targets.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_form_is_read_too() {
        let text = r#"{"jobName": "j", "customModelName": "m", "roleArn": "arn:aws:iam::1:role/r", "baseModelIdentifier": "b",
            "trainingDataConfig": {"s3Uri": "file:///data/a.jsonl"}, "outputDataConfig": {"s3Uri": "out"},
            "validationDataConfig": {"validators": [{"s3Uri": "v.jsonl"}, {"s3Uri": "w.jsonl"}]},
            "hyperParameters": {"epochCount": "2"}, "jobTags": [{"key": "a", "value": "b"}], "method": "full"}"#;
        let job: Job = serde_json::from_str(text).unwrap();
        job.validate().unwrap();
        assert_eq!((job.training_data.to_str(), job.output_dir.to_str()), (Some("/data/a.jsonl"), Some("out")));
        assert_eq!(job.validation_data, [PathBuf::from("v.jsonl"), PathBuf::from("w.jsonl")]);
        assert_eq!((job.method.clone(), job.hyper_parameters.epoch_count), (JobMethod::Full, 2));
        // What is written is read again.
        assert_eq!(serde_json::from_str::<Job>(&serde_json::to_string(&job).unwrap()).unwrap(), job);
    }

    #[test]
    fn wrong_jobs_say_what_is_wrong() {
        let job = |more: &str| {
            let text = format!(r#"{{"baseModel": "b", "outputDir": "o", "trainingData": "t"{more}}}"#);
            serde_json::from_str::<Job>(&text).map_err(|error| error.to_string())
        };
        job("").unwrap().validate().unwrap();
        for (more, reason) in [
            (r#", "epochs": 3"#, "unknown field `epochs`"),
            (r#", "method": "half""#, "unknown variant `half`"),
            (r#", "method": {"lora": {"rank": 8}}"#, "unknown field `rank`"),
            (r#", "hyperParameters": {"learning_rate": 1}"#, "unknown hyper-parameter learning_rate"),
            (r#", "validationData": "s3://bucket/file""#, "s3:// cannot be read"),
            (r#", "customizationType": "IMPORTED""#, "unknown variant `IMPORTED`"),
            (r#", "customizationConfig": {}"#, "missing field `distillationConfig`"),
        ] {
            let error = job(more).unwrap_err();
            assert!(error.contains(reason), "{more}: {error}");
        }
        for more in [
            r#", "jobName": "-a""#,
            r#", "jobTags": [{"key": "", "value": ""}]"#,
            r#", "merge": true, "method": "full""#,
            r#", "customizationType": "DISTILLATION""#,
            r#", "customizationType": "CLASSIFIER_TUNING", "hyperParameters": {"activationCheckpointing": true}"#,
            r#", "customizationConfig": {"distillationConfig": {"teacherModelConfig": {"teacherModelIdentifier": "t"}}}"#,
            r#", "customizationType": "DISTILLATION", "customizationConfig": {"distillationConfig": {"teacherModelConfig":
                {"teacherModelIdentifier": "t", "maxResponseLengthForInference": 0}}}"#,
        ] {
            assert!(matches!(job(more).unwrap().validate(), Err(Error::Job { .. })), "{more}");
        }
    }
}
