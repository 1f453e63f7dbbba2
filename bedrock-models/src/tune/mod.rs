//! Training language models in one's own process: losses, gradients and AdamW, for all weights or for a LoRA adapter beside them.
//!
//! The forward pass is the one that answers: on the CPU its kernels, with gradients by kernels, and what has no kernel, like every layer on other
//! devices, composed of burn's operations, which record themselves. The base model's files are never changed. Every family of
//! [`LANGUAGE_MODELS`](crate::LANGUAGE_MODELS) is trained this way, from a folder in Hugging Face layout; adapters also
//! beside a GGUF file (see [`Trainer::load`]), whose weights stay in their blocks (QLoRA, Dettmers et al. 2023).
//!
//! ```
//! use bedrock_models::LoadOptions;
//! use bedrock_models::tune::{AdamW, Lora, Method, Sequence, Trainer};
//!
//! # let folder = std::env::temp_dir().join(format!("bedrock-adapter-{}", std::process::id()));
//! let model = concat!(env!("CARGO_MANIFEST_DIR"), "/data/tiny");
//! let lora = Lora { rank: 8, alpha: 16.0, ..Lora::default() };
//! let mut trainer = Trainer::load(model, &LoadOptions::default(), Method::Lora(lora))?;
//! let text = Sequence::text(trainer.model().tokenizer()?.encode("Second Citizen:\nGood morrow.", false)?);
//! let settings = AdamW { learning_rate: 1e-3, ..AdamW::default() };
//! let first = trainer.step(std::slice::from_ref(&text), &settings)?;
//! let second = trainer.step(&[text], &settings)?;
//! assert!(second.loss < first.loss);
//! trainer.save_adapter(&folder)?;
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Instead of text, a trainer can learn which of two answers to prefer ([`Trainer::preference_step`]); and what it learns a [`Teacher`] may say.
//! [`EmbeddingTrainer`] and [`ClassifierTrainer`] train encoders.
//!
//! A [`Job`] is the whole of it, in the form of the service: files of data, settings, validation, checkpoints, events.
//!
//! ```no_run
//! use bedrock_models::tune::{Job, JobEvent, JobOptions};
//!
//! let job = Job::new("model", "train.jsonl", "tuned");
//! let trained = job.run(&JobOptions::default(), |event| {
//!     if let JobEvent::Step { step, loss, eta_s, .. } = event {
//!         println!("{step}: {loss}, {eta_s:.0} s to go");
//!     }
//! })?;
//! println!("{:?}", trained.train_loss);
//! # Ok::<(), bedrock_models::Error>(())
//! ```
//!
//! With [`LoadOptions::sealer`](crate::LoadOptions::sealer) all that holds texts or what was learnt of them is written sealed: see [`Job::run`].
//! [`reseal`] moves what was written to another key.

mod adapter;
mod adapter_file;
mod card;
mod checkpoint;
mod compact;
mod contrast;
mod conversation;
mod data;
mod distillation;
mod encoders;
mod event;
mod head;
mod hyper_parameters;
mod job;
mod labels;
mod learner;
mod loss;
mod merge;
mod metrics;
mod model;
mod optimizer;
mod preference;
mod preferences;
mod record;
mod reference;
mod run;
mod stored;
mod task;
mod texts;
mod trainer;

pub use adapter_file::adapter_to_gguf;
pub use contrast::{Contrast, EmbeddingTrainer};
pub use data::{CustomizationType, TooLong};
pub use distillation::Teacher;
pub use event::{JobEvent, JobStatus, Stop, Trained};
pub use hyper_parameters::{HyperParameters, Schedule};
pub use job::{CustomizationConfig, DistillationConfig, Job, JobLora, JobMethod, Tag, TeacherModelConfig};
pub use labels::{ClassifierTrainer, Labelled};
pub use loss::Sequence;
pub use merge::{merge, merge_with};
pub use metrics::Metrics;
#[cfg(feature = "conformance")]
pub(crate) use model::{Layout, transpose};
pub use optimizer::AdamW;
pub use preference::Preference;
pub use run::JobOptions;
pub use trainer::{Lora, Method, Step, Trainer};

pub use crate::kernels::Precision;
pub use crate::sealed::reseal;
