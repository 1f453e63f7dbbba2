//! Where documents come from, and keeping a knowledge base in step with that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Error;
use crate::document::Folder;
use crate::knowledge_base::KnowledgeBase;
use crate::sync::{IngestOptions, IngestionReport, Source};

/// A place that holds documents. [`Folder`] is one; with the feature `s3` a bucket is another.
pub trait DataSource: Send + Sync {
    /// The documents that are there now. Their contents should be read later, each when its turn comes ([`Content`](crate::Content)).
    ///
    /// # Errors
    /// When the place can't be listed, whole: what is not listed would be taken for deleted.
    fn documents(&self) -> Result<Vec<Source>, Error>;

    /// The folder that changes when they do, if there is one.
    fn watched(&self) -> Option<&Path> {
        None
    }
}

impl DataSource for Folder {
    fn documents(&self) -> Result<Vec<Source>, Error> {
        let source =
            |file: crate::document::FolderFile| Source { sidecar: file.sidecar, ..Source::file(file.uri, file.path) };
        Ok(self.files()?.into_iter().map(source).collect())
    }

    fn watched(&self) -> Option<&Path> {
        Some(self.root())
    }
}

impl KnowledgeBase {
    /// Brings the documents of a data source in. With [`IngestOptions::delete_missing`] what it no longer has is removed.
    ///
    /// # Errors
    /// What the source can't be listed for, and those of [`KnowledgeBase::ingest`].
    pub async fn ingest_from(
        &self,
        source: &dyn DataSource,
        options: &IngestOptions,
    ) -> Result<IngestionReport, Error> {
        self.ingest(source.documents()?, options).await
    }

    /// [`KnowledgeBase::ingest_from`] for callers without an async runtime.
    ///
    /// # Errors
    /// As [`KnowledgeBase::ingest_from`].
    pub fn ingest_from_blocking(
        &self,
        source: &dyn DataSource,
        options: &IngestOptions,
    ) -> Result<IngestionReport, Error> {
        futures::executor::block_on(self.ingest_from(source, options))
    }
}

/// When to synchronise.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// So long after the last one ended. `None`: not by the clock.
    pub every: Option<Duration>,
    /// When a file below the source's folder changes. Needs the feature `watch`. Default false.
    pub on_change: bool,
    /// After a change, until there was none for so long (or for ten times as long, if they do not end). Default half a second.
    pub settle: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { every: None, on_change: false, settle: Duration::from_millis(500) }
    }
}

/// Is told how each synchronisation ended.
pub type Reported = Box<dyn Fn(Result<IngestionReport, Error>) + Send>;

enum Signal {
    Now,
    #[cfg_attr(not(feature = "watch"), allow(dead_code))]
    Changed,
    Stop,
}

/// Keeps a knowledge base in step with a data source, on a thread of its own, until it is stopped or dropped.
///
/// The first synchronisation begins at once. One that fails is reported, and the next one comes when it is due.
pub struct Synchroniser {
    signals: SyncSender<Signal>,
    cancel: crate::Cancellation,
    thread: Option<JoinHandle<()>>,
    #[cfg(feature = "watch")]
    _watcher: Option<notify::RecommendedWatcher>,
}

impl std::fmt::Debug for Synchroniser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Synchroniser").finish_non_exhaustive()
    }
}

impl Synchroniser {
    /// Starts. `options` should say [`delete_missing`](IngestOptions::delete_missing) if what the source no longer has is to go.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a schedule that this build, or this source, can't keep; [`Error::Watch`] if the folder can't be
    /// watched.
    pub fn start(
        knowledge_base: Arc<KnowledgeBase>,
        source: Arc<dyn DataSource>,
        schedule: Schedule,
        options: IngestOptions,
        reported: Reported,
    ) -> Result<Self, Error> {
        // One of each kind is enough to know; a full channel says nothing that is not known.
        let (signals, received) = sync_channel(16);
        let watched: Option<PathBuf> = source.watched().filter(|_| schedule.on_change).map(Path::to_owned);
        if schedule.on_change && (watched.is_none() || cfg!(not(feature = "watch"))) {
            return Err(Error::InvalidRequest(
                "on_change needs a data source with a folder, and bedrock-rag's feature `watch`".to_owned(),
            ));
        }
        #[cfg(feature = "watch")]
        let watcher = watched.map(|folder| watch(&folder, signals.clone())).transpose()?;
        let cancel = options.cancel.clone();
        let work = move || run(&knowledge_base, source.as_ref(), &schedule, &options, &reported, &received);
        let thread = std::thread::Builder::new().name("synchroniser".to_owned()).spawn(work);
        let thread = thread.map_err(|source| Error::OutOfMemory { what: "a thread", source })?;
        Ok(Self {
            signals,
            cancel,
            thread: Some(thread),
            #[cfg(feature = "watch")]
            _watcher: watcher,
        })
    }

    /// Synchronises now, or once more after the one that runs.
    pub fn now(&self) {
        let _ = self.signals.try_send(Signal::Now);
    }

    /// Stops: one that runs ends after the document at hand, and what it did is kept. Blocks until then.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.cancel.cancel();
        let _ = self.signals.try_send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Synchroniser {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(
    knowledge_base: &KnowledgeBase,
    source: &dyn DataSource,
    schedule: &Schedule,
    options: &IngestOptions,
    reported: &Reported,
    signals: &Receiver<Signal>,
) {
    loop {
        reported(knowledge_base.ingest_from_blocking(source, options));
        if options.cancel.is_cancelled() {
            return;
        }
        let signal = match schedule.every {
            Some(every) => signals.recv_timeout(every),
            None => signals.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match signal {
            Ok(Signal::Now) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Signal::Changed) => {
                let until = Instant::now() + schedule.settle * 10;
                while Instant::now() < until {
                    match signals.recv_timeout(schedule.settle) {
                        Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                        Ok(Signal::Changed) => {}
                        Ok(Signal::Now) | Err(RecvTimeoutError::Timeout) => break,
                    }
                }
            }
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
        // Every change until now is seen by the synchronisation that begins now. Stopping is known by the cancellation.
        while signals.try_recv().is_ok() {}
        if options.cancel.is_cancelled() {
            return;
        }
    }
}

#[cfg(feature = "watch")]
fn watch(folder: &Path, signals: SyncSender<Signal>) -> Result<notify::RecommendedWatcher, Error> {
    use std::sync::{Mutex, PoisonError};

    use notify::{Event, EventKind, RecursiveMode, Watcher};
    // Shared among the threads of the system's notifier.
    let signals = Mutex::new(signals);
    let told = move |event: notify::Result<Event>| {
        // Reading is no change. An error may be that events were lost: to look is the answer to that too.
        if !matches!(event, Ok(Event { kind: EventKind::Access(_), .. })) {
            let _ = signals.lock().unwrap_or_else(PoisonError::into_inner).try_send(Signal::Changed);
        }
    };
    let failed = |source: notify::Error| Error::Watch { path: folder.to_owned(), source: Box::new(source) };
    let mut watcher = notify::recommended_watcher(told).map_err(failed)?;
    watcher.watch(folder, RecursiveMode::Recursive).map_err(failed)?;
    Ok(watcher)
}
