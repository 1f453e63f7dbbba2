//! A synchronisation that is killed, or that the disk has no room for: what was committed is there, whole, and the next one completes it.
//!
//! The tests start themselves as other processes. `BEDROCK_RAG_KILLS=50` kills at so many moments instead of at eight.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bedrock_core::testing::HashEmbedder;
use bedrock_rag::{Error, IngestOptions, IngestionStatistics, KnowledgeBase, Search, Source};

const FOLDER: &str = "BEDROCK_RAG_KILL_TEST_FOLDER";
const DOCUMENTS: usize = 2000;

/// The first version, and the one that is synchronised to: a tenth of it changed, a tenth gone, a tenth new, a tenth of other attributes.
fn sources(version: usize) -> impl Iterator<Item = Source> + Send {
    (0..DOCUMENTS).filter(move |n| n % 10 != 1 + version).map(move |n| {
        let edition = if n % 10 == 5 { version } else { 0 };
        let text = format!("Document {n} is about subject{n}, in edition {edition}. It says little else.");
        Source::text(format!("d{n:04}"), text).attribute("n", if n % 10 == 6 { n + version } else { n })
    })
}

fn open(folder: &Path) -> Result<KnowledgeBase, Error> {
    KnowledgeBase::builder(folder, Arc::new(HashEmbedder::new(64))).open_or_create()
}

fn synchronise(folder: &Path, version: usize, slowly: bool) -> Result<IngestionStatistics, Error> {
    // Slowed down, so that there is a middle to be killed in.
    let pause = |_: &IngestionStatistics| std::thread::sleep(Duration::from_micros(300));
    let progress: Option<bedrock_rag::Progress> = if slowly { Some(Arc::new(pause)) } else { None };
    let options = IngestOptions { delete_missing: true, progress, ..IngestOptions::default() };
    Ok(open(folder)?.ingest_blocking(sources(version), &options)?.statistics)
}

/// Does nothing unless it is the other process; then it ends with 0 if it is done, with 1 if the store could not be written.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    match synchronise(folder.as_ref(), 2, true) {
        Ok(_) => {}
        Err(error @ (Error::Store { .. } | Error::Write { .. })) => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            // The cause is the system's own word for it.
            assert!(cause.to_string().contains("too large"), "{error:?}");
            std::process::exit(1);
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Starts the other process, through `sh` if it may not write larger files than so many KiB.
fn start(folder: &Path, limit: Option<u64>) -> std::process::Child {
    let own = std::env::current_exe().unwrap();
    let mut command = match limit {
        None => Command::new(own),
        Some(kib) => {
            let mut shell = Command::new("sh");
            // The signal is ignored, so that the write fails as it does on a full disk.
            let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
            shell.arg("-c").arg(script).arg(own);
            shell
        }
    };
    command.args(["--exact", "child"]).env(FOLDER, folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait(mut child: std::process::Child) -> ExitStatus {
    child.wait().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// It is consistent, holds each document in one of its two versions, and the next synchronisation brings it to the undisturbed one.
fn assert_recovers(disturbed: &Path, undisturbed: &Path) -> usize {
    let knowledge_base = open(disturbed).unwrap();
    knowledge_base.verify().unwrap();
    let old: Vec<String> = sources(1).map(|source| source.uri).collect();
    let new: Vec<String> = sources(2).map(|source| source.uri).collect();
    let there: Vec<String> = knowledge_base.documents().into_iter().map(|document| document.uri).collect();
    assert!(there.iter().all(|uri| old.contains(uri) || new.contains(uri)));
    assert!(old.iter().filter(|uri| new.contains(uri)).all(|uri| there.contains(uri)), "nothing that stays is lost");
    for n in [0, 777, 1999] {
        assert_eq!(knowledge_base.search_blocking(&Search::new(format!("subject{n}")).results(1)).unwrap().len(), 1);
    }
    drop(knowledge_base);
    let statistics = synchronise(disturbed, 2, false).unwrap();
    let knowledge_base = open(disturbed).unwrap();
    knowledge_base.verify().unwrap();
    let other = open(undisturbed).unwrap();
    assert_eq!(knowledge_base.documents(), other.documents());
    assert_eq!(knowledge_base.chunk_count(), other.chunk_count());
    let texts = |knowledge_base: &KnowledgeBase| {
        let found = knowledge_base.search_blocking(&Search::new("subject document").results(10_000)).unwrap();
        let mut texts: Vec<_> = found.into_iter().map(|passage| (passage.uri, passage.text, passage.start)).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&knowledge_base), texts(&other));
    statistics.number_of_documents_skipped as usize
}

#[test]
fn killed_synchronisations_leave_what_was_committed() {
    let kills: u32 = std::env::var("BEDROCK_RAG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    let folder = tempfile::tempdir().unwrap();
    let (before, undisturbed) = (folder.path().join("before"), folder.path().join("undisturbed"));
    synchronise(&before, 1, false).unwrap();
    copy(&before, &undisturbed);
    let began = Instant::now();
    assert!(wait(start(&undisturbed, None)).success());
    let whole = began.elapsed();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let (mut killed, mut partial) = (0, 0);
    for attempt in 0..kills {
        let disturbed = folder.path().join(format!("disturbed{attempt}"));
        copy(&before, &disturbed);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // One moment out of each of so many parts.
        let moment = (f64::from(attempt) + (state >> 40) as f64 / (1u64 << 24) as f64) / f64::from(kills);
        let mut child = start(&disturbed, None);
        std::thread::sleep(whole.mul_f64(moment));
        let _ = child.kill();
        killed += usize::from(!wait(child).success());
        let skipped = assert_recovers(&disturbed, &undisturbed);
        // What only the old version has, or has otherwise, is a quarter; untouched there are seven tenths of all.
        partial += usize::from(skipped > DOCUMENTS * 7 / 10 && skipped < DOCUMENTS * 9 / 10 - 1);
        std::fs::remove_dir_all(disturbed).unwrap();
    }
    assert!(killed > 0 && partial > 0, "{killed} were killed, {partial} in the middle of their work: nothing is shown");
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (before, undisturbed) = (folder.path().join("before"), folder.path().join("undisturbed"));
    synchronise(&before, 1, false).unwrap();
    copy(&before, &undisturbed);
    synchronise(&undisturbed, 2, false).unwrap();
    let length = |folder: &Path| std::fs::metadata(folder.join("store.redb")).unwrap().len();
    let (least, most) = (length(&before) / 1024, length(&undisturbed) / 1024);
    assert!(most > least, "the store does not grow, so nothing can be shown");
    let mut refused = 0;
    for part in 0..4 {
        let limited = folder.path().join(format!("limited{part}"));
        copy(&before, &limited);
        // Before, there was room.
        let status = wait(start(&limited, Some(least + (most - least) * part / 4)));
        assert!(matches!(status.code(), Some(0 | 1)), "neither done nor refused clearly: {status}");
        refused += usize::from(status.code() == Some(1));
        assert_recovers(&limited, &undisturbed);
    }
    assert!(refused > 0, "there was room every time");
}
