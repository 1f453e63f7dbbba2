//! Encryption at rest: nothing of a document stands readable in the folder, and what was changed is an error.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bedrock_core::testing::HashEmbedder;
use bedrock_core::{AesGcmSealer, KeyRing, Sealer, SecretKey};
use bedrock_rag::{Error, IngestOptions, KnowledgeBase, KnowledgeBaseBuilder, Search, Source};

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes([byte; 32])
}

fn sealer(ring: KeyRing) -> Arc<dyn Sealer> {
    Arc::new(AesGcmSealer::new(ring))
}

/// With a vector graph, so that every file there can be is there.
fn builder(folder: &Path) -> KnowledgeBaseBuilder {
    KnowledgeBase::builder(folder, Arc::new(HashEmbedder::new(64))).graph_from(16)
}

fn words() -> Vec<String> {
    (0..40).map(|n| format!("zebrafish{n}")).collect()
}

fn fill(folder: &Path, sealer: Option<Arc<dyn Sealer>>) -> KnowledgeBase {
    let builder = builder(folder);
    let knowledge_base = match sealer {
        Some(sealer) => builder.sealer(sealer).create(),
        None => builder.create(),
    };
    let knowledge_base = knowledge_base.unwrap();
    let sources = words().into_iter().map(|word| {
        let text = format!("The {word} swims in brackish water.");
        Source::text(format!("{word}.txt"), text).attribute("keeper", "Wilhelmina")
    });
    knowledge_base.ingest_blocking(sources, &IngestOptions::default()).unwrap();
    knowledge_base
}

/// Files of the folder in which a word of the documents stands, in whatever case.
fn readable(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap().to_ascii_lowercase();
        for word in ["zebrafish", "brackish", "swims", "wilhelmina", "keeper"] {
            if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                names.push(format!("{}: {word}", entry.file_name().to_string_lossy()));
            }
        }
    }
    names
}

#[test]
fn nothing_of_a_document_stands_readable_in_the_folder() {
    let (plain, secret) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(fill(plain.path(), None));
    assert!(!readable(plain.path()).is_empty(), "without a key it does");
    let vectors = fs::read(plain.path().join("vectors.hnsw")).unwrap();

    drop(fill(secret.path(), Some(sealer(KeyRing::new("one", key(1)).unwrap()))));
    assert_eq!(readable(secret.path()), [""; 0]);
    // The vectors, in the graph and out of it: no 16 bytes of the plain file's codes are there. (They end before the hashes.)
    let sealed = fs::read(secret.path().join("vectors.hnsw")).unwrap();
    for piece in vectors[vectors.len() / 2..].chunks(16).take(50).filter(|piece| piece.iter().any(|&byte| byte != 0)) {
        assert!(!sealed.windows(piece.len()).any(|window| window == piece));
    }

    let open = builder(secret.path()).sealer(sealer(KeyRing::new("one", key(1)).unwrap())).open().unwrap();
    assert_eq!(open.recovered(), None);
    assert_eq!(open.search_blocking(&Search::new("zebrafish7")).unwrap()[0].uri, "zebrafish7.txt");
    open.verify().unwrap();
}

#[test]
fn other_keys_and_none_open_nothing() {
    let folder = tempfile::tempdir().unwrap();
    drop(fill(folder.path(), Some(sealer(KeyRing::new("one", key(1)).unwrap()))));
    assert!(matches!(builder(folder.path()).open(), Err(Error::SealMismatch { sealed: true, .. })));
    for ring in [KeyRing::new("one", key(2)), KeyRing::new("two", key(1))] {
        let error = builder(folder.path()).sealer(sealer(ring.unwrap())).open().unwrap_err();
        assert!(matches!(error, Error::Seal { .. }), "{error}");
    }
    let plain = tempfile::tempdir().unwrap();
    drop(fill(plain.path(), None));
    let error = builder(plain.path()).sealer(sealer(KeyRing::new("one", key(1)).unwrap())).open().unwrap_err();
    assert!(matches!(error, Error::SealMismatch { sealed: false, .. }), "{error}");
}

#[test]
fn keys_are_changed_and_the_old_one_is_needed_no_more() {
    let folder = tempfile::tempdir().unwrap();
    drop(fill(folder.path(), Some(sealer(KeyRing::new("old", key(1)).unwrap()))));
    let both = KeyRing::new("new", key(2)).unwrap().retired("old", key(1)).unwrap();
    let knowledge_base = builder(folder.path()).sealer(sealer(both)).open().unwrap();
    assert!(knowledge_base.reseal().unwrap() >= 120, "documents, chunks and vectors");
    drop(knowledge_base);
    let renewed = builder(folder.path()).sealer(sealer(KeyRing::new("new", key(2)).unwrap())).open().unwrap();
    assert_eq!(renewed.recovered(), None, "the graph too");
    renewed.verify().unwrap();
    assert_eq!(renewed.search_blocking(&Search::new("zebrafish30")).unwrap()[0].uri, "zebrafish30.txt");
    drop(renewed);
    let old = builder(folder.path()).sealer(sealer(KeyRing::new("old", key(1)).unwrap())).open();
    assert!(matches!(old, Err(Error::Seal { .. })));
    assert_eq!(readable(folder.path()), [""; 0]);
}

/// A byte is changed anywhere: that is an error, or everything is as it was (the byte was in unused space, or in the graph, which
/// then is made again).
#[test]
fn changed_bytes_are_errors_never_garbage() {
    let folder = tempfile::tempdir().unwrap();
    let ring = || sealer(KeyRing::new("one", key(1)).unwrap());
    let right = fill(folder.path(), Some(ring())).search_blocking(&Search::new("zebrafish7")).unwrap();
    for file in ["store.redb", "vectors.hnsw"] {
        let path = folder.path().join(file);
        let whole = fs::read(&path).unwrap();
        for step in 0..60 {
            let mut changed = whole.clone();
            let at = (step * whole.len()) / 60 + step % 7;
            changed[at] ^= 1 << (step % 8);
            fs::write(&path, &changed).unwrap();
            let verify = step % 2 == 0;
            let outcome = builder(folder.path()).sealer(ring()).verify(verify).open().and_then(|knowledge_base| {
                knowledge_base.verify()?;
                Ok((knowledge_base.document_count(), knowledge_base.search_blocking(&Search::new("zebrafish7"))?))
            });
            match outcome {
                Ok((documents, found)) => {
                    assert_eq!(documents, 40, "{file} {at}");
                    assert_eq!(found, right, "{file} {at}");
                }
                Err(error) => assert_eq!(file, "store.redb", "{error}"),
            }
        }
        fs::write(&path, &whole).unwrap();
    }
}
