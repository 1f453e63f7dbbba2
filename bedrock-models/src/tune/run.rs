//! A job from its first line of data to its last file.

use std::error::Error as _;
use std::path::Path;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::card::Card;
use super::checkpoint::{self, Fingerprint, Progress};
use super::contrast;
use super::data::{self, CustomizationType, DataSet, Reader};
use super::distillation::{Answers, Questions, Teacher};
use super::event::{JobEvent, JobStatus, Stop, Trained};
use super::job::{DistillationConfig, Job, JobMethod};
use super::labels;
use super::learner::check_precision;
use super::merge::{is_gguf, merge_with};
use super::metrics::Measure;
use super::model;
use super::preferences::Preferences;
use super::record::{Losses, Record};
use super::task::{Ready, Task};
use super::texts::Texts;
use super::trainer::Trainer;
use crate::error::Error;
use crate::options::{DeviceKind, LoadOptions};

/// How a job is run.
#[derive(Debug, Clone, Default)]
pub struct JobOptions {
    /// Device and threads, and with [`LoadOptions::sealer`] what is written sealed, and the base if it is.
    pub load: LoadOptions,
    /// Go on from the newest checkpoint in the job's folder, if there is one.
    pub resume: bool,
    /// Stops the job.
    pub stop: Stop,
    /// The model that answers the prompts of a distillation. It is asked by the name in the job's
    /// [`TeacherModelConfig`](super::TeacherModelConfig).
    pub teacher: Option<Teacher>,
}

/// What a running job needs at each step.
struct Running<'a> {
    job: &'a Job,
    stop: &'a Stop,
    task: Box<dyn Task>,
    /// Items to learn from, and those of the validation files.
    items: usize,
    validation: usize,
    /// Steps of an epoch, and of the job.
    epoch: u64,
    steps: u64,
    fingerprint: Fingerprint,
    progress: Progress,
    record: Record<'a>,
    started: JobEvent,
    event: &'a mut dyn FnMut(&JobEvent),
}

impl Job {
    /// Runs the job to its end, on the calling thread. The base model's files are only read; the same job gives the same result.
    ///
    /// The folder [`Job::output_dir`] gets `step_wise_training_metrics.csv`, `validation_metrics.csv` and `job.json`, as the service has
    /// them, while the job runs, and `checkpoints`; at the end the adapter in PEFT's layout, or all weights in Hugging Face's, a model card
    /// (`README.md` with `loss.svg`), and nothing more to go on from. If the data are wrong, nothing is written. A distillation begins with
    /// `responses.jsonl`, which stays: what the teacher said so far, of which nothing is asked again when the job is resumed.
    ///
    /// With [`LoadOptions::sealer`] everything that holds texts or what was learnt of them is written sealed alone, under its name with `.sealed` behind it:
    /// adapter or weights, the merged ones too, checkpoints, the teacher's answers. Readable stay losses and other measures, settings, names,
    /// hashes and sizes of the files, counts of items and tokens, the base's configuration and tokenizer, the names of a classifier's labels, and what an
    /// error says in `job.json`. Whoever can write into the folder can put an older or another sealed file of the same name there, or one that is not sealed, but
    /// for a checkpoint, which has to be this job's.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] and [`Error::Job`] for impossible settings; [`Error::TrainingData`] with the line that is wrong;
    /// those of [`Trainer::load`]; [`Error::Teacher`]; [`Error::Diverged`]; [`Error::OtherJob`] for a checkpoint of another job; [`Error::SealMismatch`] for one that
    /// is sealed, without a sealer, or the other way round; [`Error::Seal`] for one of another key or that was changed; [`Error::Write`]. The last event is [`JobEvent::Failed`] then.
    pub fn run(&self, options: &JobOptions, mut event: impl FnMut(&JobEvent)) -> Result<Trained, Error> {
        let result = match self.prepared(options, &mut event) {
            Ok(Prepared::Running(running)) => running.run(),
            Ok(Prepared::Stopped(trained)) => Ok(trained),
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            event(&JobEvent::Failed { message: message(error) });
        }
        result
    }

    fn prepared<'a>(
        &'a self,
        options: &'a JobOptions,
        event: &'a mut dyn FnMut(&JobEvent),
    ) -> Result<Prepared<'a>, Error> {
        self.validate()?;
        if self.merge && options.load.sealer.is_some() && is_gguf(Path::new(&self.base_model)) {
            let reason = "what is merged with a GGUF file cannot be sealed".into();
            return Err(Error::Job { what: "merge".into(), reason });
        }
        let settings = &self.hyper_parameters;
        check_precision(settings.precision, options.load.device == DeviceKind::Cpu)?;
        let ready = match self.customization_type {
            CustomizationType::EmbeddingTuning => contrast::ready(self, options)?,
            CustomizationType::ClassifierTuning => labels::ready(self, options)?,
            _ => match self.language_model(options, event)? {
                Read::Ready(ready) => ready,
                Read::Stopped(trained) => return Ok(Prepared::Stopped(trained)),
            },
        };
        let Ready { mut task, data, validation_data, validation: validation_items, limit } = ready;
        task.learner_mut().set_compact_moments(settings.compact_moments);
        task.learner_mut().set_precision(settings.precision)?;
        let fingerprint = Fingerprint {
            training_data: data.sha256,
            validation_data,
            base: checkpoint::files(Path::new(&self.base_model))?,
            settings: self.settings(),
        };
        let items = data.items;
        let parameters = task.learner().parameters().iter().map(|parameter| parameter.len() as u64).sum();
        let epoch = items.div_ceil(settings.step_items()) as u64;
        let steps = epoch * settings.epoch_count as u64;
        let progress = match options.resume {
            true => checkpoint::read(&self.output_dir, task.learner_mut(), &fingerprint, self.customization_type)?,
            false => None,
        };
        if progress.is_none() {
            checkpoint::remove(&self.output_dir);
        }
        let resumed = progress.is_some();
        let progress = progress.unwrap_or_default();
        let record = Record::begin(self, epoch, &progress.losses)?;
        let started = JobEvent::Started {
            items,
            tokens: data.tokens,
            truncated: data.truncated,
            skipped: data.skipped,
            validation_items,
            max_sequence_length: limit,
            parameters,
            steps,
        };
        event(&started);
        if resumed {
            event(&JobEvent::Resumed { step: task.learner().steps() });
        }
        Ok(Prepared::Running(Box::new(Running {
            job: self,
            stop: &options.stop,
            task,
            items,
            validation: validation_items,
            epoch,
            steps,
            fingerprint,
            progress,
            record,
            started,
            event,
        })))
    }

    /// A language model, and its data as tokens.
    fn language_model(&self, options: &JobOptions, event: &mut dyn FnMut(&JobEvent)) -> Result<Read<Ready>, Error> {
        let settings = &self.hyper_parameters;
        let mut trainer = Trainer::load(&self.base_model, &options.load, self.trained()?)?;
        trainer.set_checkpointing(settings.activation_checkpointing);
        if self.method == JobMethod::Full {
            model::check(Path::new(&self.base_model))?;
        }
        if trainer.model().has_encoder() {
            let wrong = |what: &str, reason: &str| Err(Error::Job { what: what.into(), reason: reason.into() });
            if self.customization_type == CustomizationType::ContinuedPreTraining {
                return wrong("customizationType", "a model with an encoder learns answers to prompts, not text alone");
            }
            if settings.activation_checkpointing {
                return wrong("activationCheckpointing", "not of a model with an encoder");
            }
        }
        let limit = settings.max_sequence_length.min(trainer.model().max_tokens());
        let reader = Reader { model: trainer.model(), kind: self.customization_type, limit, too_long: self.too_long };
        let validation: Vec<DataSet> =
            self.validation_data.iter().map(|path| reader.read(path)).collect::<Result<_, _>>()?;
        let data = match &self.customization_config {
            Some(config) => match self.distilled(&config.distillation_config, &reader, options, event)? {
                Read::Ready(data) => data,
                Read::Stopped(trained) => return Ok(Read::Stopped(trained)),
            },
            None => reader.read(&self.training_data)?,
        };
        Ok(Read::Ready(Ready::new(data, validation, limit, |items, validation| match self.customization_type {
            CustomizationType::PreferenceTuning => {
                let (beta, reference) = (settings.beta, Vec::new());
                Box::new(Preferences { trainer, items, validation, beta, reference })
            }
            _ => Box::new(Texts { trainer, items, validation }),
        })))
    }

    /// Has a teacher answer the prompts.
    fn distilled(
        &self,
        config: &DistillationConfig,
        reader: &Reader<'_>,
        options: &JobOptions,
        event: &mut dyn FnMut(&JobEvent),
    ) -> Result<Read<DataSet>, Error> {
        let config = &config.teacher_model_config;
        let Some(teacher) = &options.teacher else {
            return Err(Error::Job { what: "teacher".into(), reason: "given with the options of the run".into() });
        };
        let (prompts, hash) = data::prompts(&self.training_data)?;
        let questions = Questions {
            prompts: hash,
            teacher: config.teacher_model_identifier.clone(),
            max_response_length: config.max_response_length_for_inference,
        };
        let kept = (&*self.output_dir, options.load.sealer.as_ref());
        let mut answers = Answers::open(kept, &questions, prompts.len(), options.resume)?;
        let losses = Losses::default();
        let record = Record::begin(self, 1, &losses)?;
        let asked = (&*self.training_data, &*prompts);
        let done = answers.ask(asked, teacher, &questions, &options.stop, event).and_then(|done| {
            if !done {
                return Ok(None);
            }
            let mut data = reader.answered(&self.training_data, &prompts, |prompt| answers.get(prompt))?;
            data.sha256 = answers.sha256(&questions);
            Ok(Some(data))
        });
        match done {
            Ok(Some(data)) => Ok(Read::Ready(data)),
            Ok(None) => {
                record.status(JobStatus::Stopping, &losses, None)?;
                event(&JobEvent::Stopping);
                record.status(JobStatus::Stopped, &losses, None)?;
                let trained = Trained {
                    status: JobStatus::Stopped,
                    output_dir: self.output_dir.clone(),
                    train_loss: None,
                    validation_loss: None,
                    base_validation_loss: None,
                    steps: 0,
                    tokens_s: 0.0,
                };
                event(&JobEvent::Stopped(trained.clone()));
                Ok(Read::Stopped(trained))
            }
            Err(error) => {
                // What went wrong first is what is reported.
                let _ = record.status(JobStatus::Failed, &losses, Some(&message(&error)));
                Err(error)
            }
        }
    }
}

/// A job before its first step.
enum Prepared<'a> {
    Running(Box<Running<'a>>),
    /// It was stopped while its data were made.
    Stopped(Trained),
}

/// What was read, unless the job was stopped meanwhile.
enum Read<T> {
    Ready(T),
    Stopped(Trained),
}

/// An error with its causes, in one line.
fn message(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The order in which an epoch, counted from 0 on, goes through the items.
fn order(seed: u64, epoch: u64, items: usize) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    let mut order: Vec<usize> = (0..items).collect();
    for last in (1..items).rev() {
        order.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
    }
    order
}

impl Running<'_> {
    fn run(mut self) -> Result<Trained, Error> {
        let result = self.train();
        if let Err(error) = &result {
            // What went wrong first is what is reported.
            let _ = self.record.status(JobStatus::Failed, &self.progress.losses, Some(&message(error)));
        }
        result
    }

    fn train(&mut self) -> Result<Trained, Error> {
        let every = self.job.checkpoint_steps.unwrap_or((self.steps / 10).clamp(1, 100));
        let mut current = (u64::MAX, Vec::new());
        if !self.task.prepare(&self.job.output_dir, &self.fingerprint, self.stop)? {
            return self.stopped();
        }
        if let Some(items) = self.task.referenced() {
            (self.event)(&JobEvent::Referenced { items });
        }
        loop {
            let done = self.steps_made();
            if self.stop.is_stopped() && done < self.steps {
                return self.stopped();
            }
            if self.is_validation_due(done) {
                match self.validated()? {
                    Some(measure) => self.note_validation(done, measure)?,
                    None => return self.stopped(),
                }
            }
            if done == self.steps {
                return self.completed();
            }
            let epoch = done / self.epoch;
            if current.0 != epoch {
                current = (epoch, order(self.job.hyper_parameters.seed, epoch, self.items));
            }
            let size = self.job.hyper_parameters.step_items();
            let place = (done % self.epoch) as usize * size;
            self.step(&current.1[place..current.1.len().min(place + size)])?;
            let done = done + 1;
            if done.is_multiple_of(every) && done < self.steps {
                self.checkpoint()?;
            }
        }
    }

    fn steps_made(&self) -> u64 {
        self.task.learner().steps()
    }

    fn step(&mut self, items: &[usize]) -> Result<(), Error> {
        let tokens = self.task.tokens(items);
        let done = self.steps_made();
        let settings = self.job.hyper_parameters.adamw(done, self.steps);
        let start = Instant::now();
        let (made, metrics) = self.task.step(items, &settings)?;
        self.progress.seconds += start.elapsed().as_secs_f64();
        self.progress.tokens += tokens;
        let measure = Measure { loss: made.loss, metrics };
        self.progress.losses.steps.push(measure);
        self.record.step(done, &measure)?;
        let step = done + 1;
        let eta_s = self.progress.seconds / step as f64 * (self.steps - step) as f64;
        (self.event)(&JobEvent::Step {
            step,
            epoch: done / self.epoch + 1,
            loss: made.loss,
            gradient_norm: made.gradient_norm,
            learning_rate: settings.learning_rate,
            tokens,
            eta_s,
            metrics,
        });
        Ok(())
    }

    /// Before the first epoch and after each, unless it was done before the job was resumed.
    fn is_validation_due(&self, done: u64) -> bool {
        let known = self.progress.losses.validation.iter().any(|(step, _)| *step == done);
        self.validation > 0 && done.is_multiple_of(self.epoch) && !known
    }

    /// The mean of the validation files; none if the job was stopped meanwhile.
    fn validated(&self) -> Result<Option<Measure>, Error> {
        let mut parts = Vec::new();
        let at_once = self.task.measured_at_once();
        for first in (0..self.validation).step_by(at_once) {
            if self.stop.is_stopped() {
                return Ok(None);
            }
            parts.push(self.task.validate(first..self.validation.min(first + at_once))?);
        }
        Ok(Measure::mean(self.job.customization_type, &parts))
    }

    fn note_validation(&mut self, step: u64, measure: Measure) -> Result<(), Error> {
        self.progress.losses.validation.push((step, measure));
        self.record.validation(step, &measure)?;
        let Measure { loss, metrics } = measure;
        let (epoch, perplexity) = (step / self.epoch, measure.perplexity());
        (self.event)(&JobEvent::Validation { step, epoch, loss, perplexity, metrics });
        self.record.status(JobStatus::InProgress, &self.progress.losses, None)
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        let path = checkpoint::write(&self.job.output_dir, self.task.learner(), &self.fingerprint, &self.progress)?;
        let step = self.steps_made();
        (self.event)(&JobEvent::Checkpoint { step, path });
        Ok(())
    }

    fn stopped(&mut self) -> Result<Trained, Error> {
        self.record.status(JobStatus::Stopping, &self.progress.losses, None)?;
        (self.event)(&JobEvent::Stopping);
        if self.job.checkpoint_steps != Some(0) {
            self.checkpoint()?;
        }
        self.record.status(JobStatus::Stopped, &self.progress.losses, None)?;
        let trained = self.trained(JobStatus::Stopped);
        (self.event)(&JobEvent::Stopped(trained.clone()));
        Ok(trained)
    }

    fn completed(&mut self) -> Result<Trained, Error> {
        let folder = &self.job.output_dir;
        self.task.save(folder)?;
        if self.job.merge {
            let base = Path::new(&self.job.base_model);
            let name = if is_gguf(base) { "merged.gguf" } else { "merged" };
            merge_with(base, folder, folder.join(name), self.task.learner().sealer())?;
        }
        let trained = self.trained(JobStatus::Completed);
        let card = Card {
            job: self.job,
            started: &self.started,
            trained: &trained,
            losses: &self.progress.losses,
            training_data: &self.fingerprint.training_data,
            validation_data: &self.fingerprint.validation_data,
        };
        card.write()?;
        self.record.status(JobStatus::Completed, &self.progress.losses, None)?;
        checkpoint::remove(folder);
        (self.event)(&JobEvent::Completed(trained.clone()));
        Ok(trained)
    }

    fn trained(&self, status: JobStatus) -> Trained {
        let Progress { losses, tokens, seconds } = &self.progress;
        let validation = |found: Option<&(u64, Measure)>| found.map(|(_, measure)| measure.loss);
        Trained {
            status,
            output_dir: self.job.output_dir.clone(),
            train_loss: losses.training(self.epoch),
            validation_loss: validation(losses.validation.last()),
            base_validation_loss: validation(losses.validation.first()),
            steps: self.steps_made(),
            tokens_s: if *seconds > 0.0 { *tokens as f64 / seconds } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_an_order_of_its_own() {
        let (first, second) = (order(7, 0, 50), order(7, 1, 50));
        assert_eq!(first, order(7, 0, 50));
        assert_ne!(first, second);
        assert_ne!(first, order(8, 0, 50));
        for mut order in [first, second] {
            assert!(order.windows(2).any(|pair| pair[0] > pair[1]));
            order.sort_unstable();
            assert_eq!(order, (0..50).collect::<Vec<_>>());
        }
    }
}
