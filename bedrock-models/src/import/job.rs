//! Records of imports, as the service's `GetModelImportJob` has them: one small file a job, the last thousand.

use std::fs;
use std::path::{Path, PathBuf};

use bedrock_core::{GetModelImportJobResponse, ModelImportJobStatus};

use crate::error::Error;
use crate::tokenizer::read_bounded;

/// Jobs that are remembered.
const MOST_JOBS: usize = 1000;
const MOST_BYTES: u64 = 64 << 10;
/// The service's limit of a failure message, in characters.
const MOST_MESSAGE: usize = 2048;

/// Writes what is known of a job, at once. `order` sorts files by age.
pub(super) fn write(folder: &Path, order: &str, job: &GetModelImportJobResponse) -> Result<(), Error> {
    let path = folder.join(format!("{order}.json"));
    let part = folder.join(format!(".{order}.part"));
    let failed = |source| Error::Write { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut job = job.clone();
    if let Some(message) = &mut job.failure_message {
        *message = message.chars().take(MOST_MESSAGE).collect();
    }
    let text = serde_json::to_vec_pretty(&job).map_err(|error| failed(error.into()))?;
    fs::write(&part, text).and_then(|()| fs::rename(&part, &path)).map_err(failed)?;
    let files = files(folder);
    for old in files.iter().take(files.len().saturating_sub(MOST_JOBS)) {
        // If it stays, the next job tries again.
        let _ = fs::remove_file(old);
    }
    Ok(())
}

/// All jobs, the oldest first. A job that says it is in progress is reported as failed if `is_running` knows better.
pub(super) fn read(folder: &Path, is_running: impl Fn(&str) -> bool) -> Vec<GetModelImportJobResponse> {
    let read = |path: PathBuf| serde_json::from_slice(&read_bounded(&path, MOST_BYTES).ok()?).ok();
    let mut jobs: Vec<GetModelImportJobResponse> = files(folder).into_iter().filter_map(read).collect();
    for job in &mut jobs {
        let name = job.imported_model_name.as_deref().unwrap_or_default();
        if job.status == Some(ModelImportJobStatus::InProgress) && !is_running(name) {
            job.status = Some(ModelImportJobStatus::Failed);
            job.failure_message = Some("the process ended before the import did".into());
        }
    }
    jobs
}

/// Files of jobs, the oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "json")).take(MOST_JOBS * 2).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_are_kept_and_dead_ones_have_failed() {
        let folder = tempfile::tempdir().unwrap();
        let job = |name: &str| GetModelImportJobResponse {
            imported_model_name: Some(name.into()),
            status: Some(ModelImportJobStatus::InProgress),
            failure_message: Some("x".repeat(MOST_MESSAGE + 1)),
            ..GetModelImportJobResponse::default()
        };
        for number in 0..MOST_JOBS + 3 {
            write(folder.path(), &format!("{number:06}"), &job(if number % 2 == 0 { "even" } else { "odd" })).unwrap();
        }
        let jobs = read(folder.path(), |name| name == "even");
        assert_eq!(jobs.len(), MOST_JOBS);
        assert_eq!(jobs[0].imported_model_name.as_deref(), Some("odd"), "the oldest three are gone");
        assert_eq!(jobs[0].status, Some(ModelImportJobStatus::Failed));
        assert_eq!(jobs[1].status, Some(ModelImportJobStatus::InProgress));
        assert_eq!(jobs[1].failure_message.as_ref().unwrap().len(), MOST_MESSAGE);
    }
}
