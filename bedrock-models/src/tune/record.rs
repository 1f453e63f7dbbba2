//! What a job writes about itself into its folder: how far it is, and its losses, in the service's files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bedrock_core::iso_8601;
use serde_json::{Map, Value, json};

use super::data::CustomizationType;
use super::event::JobStatus;
use super::job::Job;
use super::metrics::Measure;
use super::stored::replace;
use crate::error::Error;

/// The service's limit of a failure message, in characters.
const MOST_MESSAGE: usize = 2048;

/// Measures of a job so far: all that its files say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Losses {
    /// Of each step.
    pub(super) steps: Vec<Measure>,
    /// Of the validation files, with the steps made before.
    pub(super) validation: Vec<(u64, Measure)>,
}

/// The files of a job.
pub(super) struct Record<'a> {
    job: &'a Job,
    begin: SystemTime,
    steps: Table,
    validation: Table,
    /// Steps of an epoch.
    epoch: u64,
}

/// A file of rows, written one by one.
struct Table {
    path: PathBuf,
    file: File,
}

impl Table {
    fn create(path: PathBuf, loss: &str, kind: CustomizationType) -> Result<Self, Error> {
        let file = File::create(&path).map_err(|source| Error::Write { path: path.clone(), source })?;
        let mut table = Self { path, file };
        table.write(&format!("step_number,epoch_number,{loss},{}\n", Measure::columns(kind).join(",")))?;
        Ok(table)
    }

    fn row(&mut self, step: u64, epoch: u64, measure: &Measure) -> Result<(), Error> {
        let mut row = format!("{step},{epoch},{}", measure.loss);
        measure.row().iter().for_each(|number| row.push_str(&format!(",{number}")));
        self.write(&(row + "\n"))
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        self.file.write_all(text.as_bytes()).map_err(|source| Error::Write { path: self.path.clone(), source })
    }
}

impl<'a> Record<'a> {
    /// Begins the files anew, with what is known already.
    pub(super) fn begin(job: &'a Job, epoch: u64, losses: &Losses) -> Result<Self, Error> {
        let (folder, kind) = (&job.output_dir, job.customization_type);
        fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
        let steps = Table::create(folder.join("step_wise_training_metrics.csv"), "training_loss", kind)?;
        let validation = Table::create(folder.join("validation_metrics.csv"), "validation_loss", kind)?;
        let mut record = Self { job, begin: SystemTime::now(), steps, validation, epoch };
        for (step, measure) in losses.steps.iter().enumerate() {
            record.step(step as u64, measure)?;
        }
        for (step, measure) in &losses.validation {
            record.validation(*step, measure)?;
        }
        record.status(JobStatus::InProgress, losses, None)?;
        Ok(record)
    }

    /// What was measured in a step, counted from 0 on as the service does.
    pub(super) fn step(&mut self, step: u64, measure: &Measure) -> Result<(), Error> {
        self.steps.row(step, step / self.epoch, measure)
    }

    /// What the validation files gave after so many steps.
    pub(super) fn validation(&mut self, steps: u64, measure: &Measure) -> Result<(), Error> {
        self.validation.row(steps, steps / self.epoch, measure)
    }

    /// Writes `job.json`: the service's answer to `GetModelCustomizationJob`.
    pub(super) fn status(&self, status: JobStatus, losses: &Losses, failure: Option<&str>) -> Result<(), Error> {
        let job = self.job;
        let now = iso_8601(SystemTime::now());
        let uri = |path: &Path| json!({ "s3Uri": path.display().to_string() });
        let mut settings = Map::new();
        if let Value::Object(all) = json!(job.hyper_parameters) {
            let text = |value: Value| if let Value::String(text) = value { text } else { value.to_string() };
            settings = all.into_iter().map(|(name, value)| (name, text(value).into())).collect();
        }
        let mut answer = json!({
            "jobName": job.job_name,
            "outputModelName": job.custom_model_name,
            "clientRequestToken": job.client_request_token,
            "roleArn": job.role_arn,
            "status": status,
            "failureMessage": failure.map(|text| text.chars().take(MOST_MESSAGE).collect::<String>()),
            "creationTime": iso_8601(self.begin),
            "lastModifiedTime": now,
            "endTime": (!matches!(status, JobStatus::InProgress | JobStatus::Stopping)).then_some(now.clone()),
            "baseModelIdentifier": job.base_model,
            "customizationType": job.customization_type,
            "hyperParameters": settings,
            "trainingDataConfig": uri(&job.training_data),
            "validationDataConfig": {
                "validators": job.validation_data.iter().map(|path| uri(path)).collect::<Vec<_>>(),
            },
            "outputDataConfig": uri(&job.output_dir),
            "trainingMetrics": losses.training(self.epoch).map(|loss| json!({ "trainingLoss": loss })),
            "validationMetrics": losses.validation.last().map(|(_, measure)| json!([{ "validationLoss": measure.loss }])),
            "customizationConfig": job.customization_config,
            "jobTags": job.job_tags,
            "customModelTags": job.custom_model_tags,
        });
        if let Some(answer) = answer.as_object_mut() {
            answer.retain(|_, value| !value.is_null());
        }
        replace(&job.output_dir.join("job.json"), format!("{answer:#}\n").as_bytes())
    }
}

impl Losses {
    /// The mean of the steps of the last epoch that was begun.
    pub(super) fn training(&self, epoch: u64) -> Option<f64> {
        let begin = (self.steps.len() as u64).checked_sub(1)? / epoch * epoch;
        let last = &self.steps[begin as usize..];
        Some(last.iter().map(|measure| measure.loss).sum::<f64>() / last.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_training_loss_is_that_of_the_last_epoch() {
        let mut losses = Losses::default();
        assert_eq!(losses.training(2), None);
        let measure = |loss| Measure { loss, metrics: None };
        losses.steps = [5.0, 4.0, 3.0].map(measure).to_vec();
        assert_eq!(losses.training(2), Some(3.0));
        losses.steps.push(measure(2.0));
        assert_eq!(losses.training(2), Some(2.5));
    }
}
