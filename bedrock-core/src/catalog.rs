//! Which models there are: foundation models and imported ones, and the jobs that import them.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::wire::label;

label! {
    /// What goes into a model, or comes out of it.
    pub enum ModelModality {
        /// Text.
        Text = "TEXT",
        /// Pictures.
        Image = "IMAGE",
        /// Vectors.
        Embedding = "EMBEDDING",
    }

    /// How a model may be changed.
    pub enum ModelCustomization {
        /// With prompts and their answers.
        FineTuning = "FINE_TUNING",
        /// With text.
        ContinuedPreTraining = "CONTINUED_PRE_TRAINING",
        /// With the answers of a larger model.
        Distillation = "DISTILLATION",
    }

    /// How a model is paid for on the service.
    pub enum InferenceType {
        /// By use.
        OnDemand = "ON_DEMAND",
        /// By reserved capacity.
        Provisioned = "PROVISIONED",
    }

    /// Whether a model has a future.
    pub enum FoundationModelLifecycleStatus {
        /// It has.
        Active = "ACTIVE",
        /// There is a better one.
        Legacy = "LEGACY",
    }

    /// How far an import is.
    pub enum ModelImportJobStatus {
        /// Not done.
        InProgress = "InProgress",
        /// Done.
        Completed = "Completed",
        /// Given up: see the failure message.
        Failed = "Failed",
    }
}

/// Which foundation models to list: those that pass every filter that is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListFoundationModelsRequest {
    /// Those of this provider, whatever the case of its letters. 1–63 letters, digits, hyphens and spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_provider: Option<String>,
    /// Those that may be changed so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_customization_type: Option<ModelCustomization>,
    /// Those that give this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_output_modality: Option<ModelModality>,
    /// Those that are paid for so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_inference_type: Option<InferenceType>,
}

impl ListFoundationModelsRequest {
    /// Checks the filters.
    ///
    /// # Errors
    /// [`Error::Validation`] for a label that is not known or a provider that no name of one can be.
    pub fn validate(&self) -> Result<(), Error> {
        let unknown =
            |field: &str, label: &str| Err(Error::validation(format!("{field}: {label:?} is not a value of it")));
        if let Some(provider) = &self.by_provider {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ' ');
            if provider.is_empty() || provider.len() > 63 || !provider.chars().all(allowed) {
                return Err(Error::validation("byProvider: must be 1 to 63 letters, digits, hyphens and spaces"));
            }
        }
        match (&self.by_customization_type, &self.by_output_modality, &self.by_inference_type) {
            (Some(label), ..) if !label.is_known() => unknown("byCustomizationType", label.as_str()),
            (_, Some(label), _) if !label.is_known() => unknown("byOutputModality", label.as_str()),
            (.., Some(label)) if !label.is_known() => unknown("byInferenceType", label.as_str()),
            _ => Ok(()),
        }
    }

    /// Whether a model passes.
    pub fn matches(&self, model: &FoundationModelSummary) -> bool {
        let provider = model.provider_name.as_deref().unwrap_or_default();
        self.by_provider.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(provider))
            && self.by_customization_type.as_ref().is_none_or(|wanted| model.customizations_supported.contains(wanted))
            && self.by_output_modality.as_ref().is_none_or(|wanted| model.output_modalities.contains(wanted))
            && self.by_inference_type.as_ref().is_none_or(|wanted| model.inference_types_supported.contains(wanted))
    }
}

/// The foundation models that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListFoundationModelsResponse {
    /// The models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model_summaries: Vec<FoundationModelSummary>,
}

/// The foundation model that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetFoundationModelResponse {
    /// The model. The service calls the shape `FoundationModelDetails`; it has the same members as the summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_details: Option<FoundationModelSummary>,
}

/// What a foundation model is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundationModelSummary {
    /// Its name in the world.
    pub model_arn: String,
    /// Its id, for requests.
    pub model_id: String,
    /// Its name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_name: Option<String>,
    /// What goes in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_modalities: Vec<ModelModality>,
    /// What comes out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_modalities: Vec<ModelModality>,
    /// Whether answers come as streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_streaming_supported: Option<bool>,
    /// How it may be changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub customizations_supported: Vec<ModelCustomization>,
    /// How it is paid for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inference_types_supported: Vec<InferenceType>,
    /// Whether it has a future.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_lifecycle: Option<FoundationModelLifecycle>,
}

/// Whether a model has a future, and the dates of its life in ISO 8601.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundationModelLifecycle {
    /// Whether it has.
    pub status: FoundationModelLifecycleStatus,
    /// Since when it is offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_of_life_time: Option<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_of_life_time: Option<String>,
    /// Since when there is a better one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy_time: Option<String>,
    /// Until when it costs more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_extended_access_time: Option<String>,
}

/// Where a model's files come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ModelDataSource {
    /// A folder.
    S3DataSource(S3DataSource),
}

/// A folder of files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3DataSource {
    /// Its address: on the service one of `s3:`, of what is on this machine one of `file:`.
    pub s3_uri: String,
}

impl ModelDataSource {
    /// A folder or file.
    pub fn uri(uri: impl Into<String>) -> Self {
        Self::S3DataSource(S3DataSource { s3_uri: uri.into() })
    }
}

/// An imported model in a list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedModelSummary {
    /// Its name in the world.
    pub model_arn: String,
    /// Its name.
    pub model_name: String,
    /// When it was imported, in ISO 8601.
    pub creation_time: String,
    /// Whether it has been taught to answer instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruct_supported: Option<bool>,
    /// Its family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_architecture: Option<String>,
}

/// The imported models that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListImportedModelsResponse {
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    /// The models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model_summaries: Vec<ImportedModelSummary>,
}

/// What is known of an imported model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetImportedModelResponse {
    /// Its name in the world.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_arn: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// The job that imported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// That job's name in the world.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_arn: Option<String>,
    /// Where its files came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_data_source: Option<ModelDataSource>,
    /// When it was imported, in ISO 8601.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<String>,
    /// Its family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_architecture: Option<String>,
    /// The key that it is encrypted with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_kms_key_arn: Option<String>,
    /// Whether it has been taught to answer instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruct_supported: Option<bool>,
    /// What a copy of it costs on the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_model_units: Option<CustomModelUnits>,
}

/// What a copy of a model costs on the service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomModelUnits {
    /// Units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_model_units_per_model_copy: Option<u32>,
    /// How they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_model_units_version: Option<String>,
}

/// What is known of a job that imports a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetModelImportJobResponse {
    /// Its name in the world.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_arn: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// The model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported_model_name: Option<String>,
    /// The model's name in the world.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported_model_arn: Option<String>,
    /// Who may read the source, on the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// Where the files come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_data_source: Option<ModelDataSource>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ModelImportJobStatus>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
    /// When it began, in ISO 8601.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<String>,
    /// When it was last heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified_time: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    /// The network that it runs in, on the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_config: Option<VpcConfig>,
    /// The key that the model is encrypted with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported_model_kms_key_arn: Option<String>,
}

/// A network on the service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcConfig {
    /// Its subnets.
    #[serde(default)]
    pub subnet_ids: Vec<String>,
    /// Its security groups.
    #[serde(default)]
    pub security_group_ids: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> FoundationModelSummary {
        FoundationModelSummary {
            provider_name: Some("Meta".into()),
            output_modalities: vec![ModelModality::Text],
            customizations_supported: vec![ModelCustomization::FineTuning],
            inference_types_supported: vec![InferenceType::OnDemand],
            ..FoundationModelSummary::default()
        }
    }

    #[test]
    fn a_model_passes_every_filter_or_is_left_out() {
        let all = ListFoundationModelsRequest {
            by_provider: Some("meta".into()),
            by_customization_type: Some(ModelCustomization::FineTuning),
            by_output_modality: Some(ModelModality::Text),
            by_inference_type: Some(InferenceType::OnDemand),
        };
        assert!(all.matches(&model()) && ListFoundationModelsRequest::default().matches(&model()));
        all.validate().unwrap();
        for wrong in [
            ListFoundationModelsRequest { by_provider: Some("Met".into()), ..all.clone() },
            ListFoundationModelsRequest {
                by_customization_type: Some(ModelCustomization::Distillation),
                ..all.clone()
            },
            ListFoundationModelsRequest { by_output_modality: Some(ModelModality::Image), ..all.clone() },
            ListFoundationModelsRequest { by_inference_type: Some(InferenceType::Provisioned), ..all.clone() },
        ] {
            assert!(!wrong.matches(&model()), "{wrong:?}");
        }
    }

    #[test]
    fn filters_that_mean_nothing_are_refused() {
        let none = ListFoundationModelsRequest::default();
        for (field, wrong) in [
            ("byProvider", ListFoundationModelsRequest { by_provider: Some("a/b".into()), ..none.clone() }),
            (
                "byCustomizationType",
                ListFoundationModelsRequest { by_customization_type: Some("X".into()), ..none.clone() },
            ),
            (
                "byOutputModality",
                ListFoundationModelsRequest { by_output_modality: Some("text".into()), ..none.clone() },
            ),
            ("byInferenceType", ListFoundationModelsRequest { by_inference_type: Some("".into()), ..none.clone() }),
        ] {
            let error = wrong.validate().unwrap_err();
            assert!(matches!(&error, Error::Validation { message } if message.starts_with(field)), "{error}");
        }
    }
}
