//! Walking a folder of documents: the same order every time, never out of the folder, never without end.

use std::fs;
use std::path::{Path, PathBuf};

use super::SIDECAR_SUFFIX;
use crate::Error;

/// Bounds of a folder walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderLimits {
    /// Most files visited. Default 1,000,000.
    pub max_files: usize,
    /// Deepest level of folders below the root. Default 64.
    pub max_depth: usize,
}

impl Default for FolderLimits {
    fn default() -> Self {
        Self { max_files: 1_000_000, max_depth: 64 }
    }
}

/// One file of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the folder with `/` between names: the document's identity. Names that are not Unicode have
    /// U+FFFD in place of what can't be said.
    pub uri: String,
    /// Its metadata sidecar, if there is one.
    pub sidecar: Option<PathBuf>,
}

/// A folder of documents.
///
/// Symbolic links are not followed, neither to files nor to folders, so the walk never leaves the folder or goes in
/// circles. Files and folders whose name starts with a dot are passed over. Metadata sidecars are not documents.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    limits: FolderLimits,
}

impl Folder {
    /// A folder with the default limits.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), limits: FolderLimits::default() }
    }

    /// Replaces the limits.
    pub fn with_limits(mut self, limits: FolderLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The folder's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Lists the files, sorted by [`FolderFile::uri`] folder by folder.
    ///
    /// # Errors
    /// [`Error::Read`] when the folder, or one below it, can't be listed; [`Error::FolderTooLarge`].
    pub fn files(&self) -> Result<Vec<FolderFile>, Error> {
        let mut files = Vec::new();
        // Own stack rather than recursion: the depth is the folder's choice, not ours.
        let mut pending = vec![(self.root.clone(), String::new(), 0)];
        while let Some((folder, prefix, depth)) = pending.pop() {
            let mut entries = Vec::new();
            let mut sidecars = std::collections::BTreeSet::new();
            for entry in fs::read_dir(&folder).map_err(|source| Error::read(&folder, source))? {
                let entry = entry.map_err(|source| Error::read(&folder, source))?;
                let kind = entry.file_type().map_err(|source| Error::read(entry.path(), source))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if kind.is_symlink() || name.starts_with('.') {
                    continue;
                }
                if kind.is_file() && name.ends_with(SIDECAR_SUFFIX) {
                    sidecars.insert(name);
                } else if kind.is_file() || kind.is_dir() {
                    entries.push((name, kind.is_dir(), entry.path()));
                }
                if files.len() + entries.len() + sidecars.len() + pending.len() > self.limits.max_files {
                    return Err(self.too_large("files", self.limits.max_files));
                }
            }
            entries.sort();
            let mut folders = Vec::new();
            for (name, is_folder, path) in entries {
                let uri = format!("{prefix}{name}");
                if is_folder {
                    if depth >= self.limits.max_depth {
                        return Err(self.too_large("levels of folders", self.limits.max_depth));
                    }
                    folders.push((path, format!("{uri}/"), depth + 1));
                } else {
                    let sidecar = format!("{name}{SIDECAR_SUFFIX}");
                    let sidecar = sidecars.contains(&sidecar).then(|| folder.join(sidecar));
                    files.push(FolderFile { path, uri, sidecar });
                }
            }
            pending.extend(folders.into_iter().rev());
        }
        Ok(files)
    }

    fn too_large(&self, what: &'static str, limit: usize) -> Error {
        Error::FolderTooLarge { path: self.root.clone(), what, limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        root
    }

    #[test]
    fn order_is_fixed_and_sidecars_are_paired() {
        let root = folder(&["b.md", "a/z.txt", "a/y.txt", "c/d/e.html", "b.md.metadata.json", ".git/x", "a.txt"]);
        let files = Folder::new(root.path()).files().unwrap();
        let uris: Vec<_> = files.iter().map(|file| file.uri.as_str()).collect();
        assert_eq!(uris, ["a.txt", "b.md", "a/y.txt", "a/z.txt", "c/d/e.html"]);
        assert!(files[1].sidecar.is_some() && files[0].sidecar.is_none());
    }

    #[test]
    fn limits_and_missing_folders_are_errors() {
        let root = folder(&["a/b/c/d.txt", "e.txt"]);
        let limited =
            |max_files, max_depth| Folder::new(root.path()).with_limits(FolderLimits { max_files, max_depth }).files();
        assert!(matches!(limited(1, 64), Err(Error::FolderTooLarge { what: "files", .. })));
        assert!(matches!(limited(100, 2), Err(Error::FolderTooLarge { what: "levels of folders", .. })));
        assert_eq!(limited(100, 3).unwrap().len(), 2);
        assert!(matches!(Folder::new(root.path().join("none")).files(), Err(Error::Read { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_links_are_not_followed() {
        let root = folder(&["a.txt"]);
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", root.path().join("secret.txt")).unwrap();
        assert_eq!(Folder::new(root.path()).files().unwrap().len(), 1);
    }
}
