//! Office Open XML packages: a ZIP archive, read in memory, part by part. No entry is ever written anywhere, so the
//! names in it are names and nothing else; nor are relationships to the outside followed.

use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::ExtractOptions;
use super::compose::{Composer, Fault};
use super::xml::{Xml, attribute, decode};

/// Entries that an archive may have.
const MAX_ENTRIES: usize = 20_000;

/// What a part has to do with another one of the package.
#[derive(Debug)]
pub(super) struct Relationship {
    #[cfg_attr(not(feature = "spreadsheet"), allow(dead_code, reason = "workbooks name their sheets by it"))]
    pub(super) id: String,
    /// The last word of its type.
    pub(super) kind: String,
    /// Name of the other part.
    pub(super) target: String,
}

pub(super) struct Package {
    archive: ZipArchive<Cursor<Vec<u8>>>,
    /// Bytes that may still be unpacked.
    left: u64,
    limit: u64,
}

impl Package {
    pub(super) fn open(bytes: Vec<u8>, options: &ExtractOptions) -> Result<Self, Fault> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(fault)?;
        if archive.len() > MAX_ENTRIES {
            return Err(Fault::TooLarge { what: "files in its archive", limit: MAX_ENTRIES as u64 });
        }
        Ok(Self { archive, left: options.max_expanded_bytes, limit: options.max_expanded_bytes })
    }

    /// A part's name as the archive has it; names of parts don't tell upper from lower case.
    fn find(&self, name: &str) -> Option<String> {
        let name = name.trim_start_matches('/');
        if self.archive.index_for_name(name).is_some() {
            return Some(name.to_owned());
        }
        let mut names = self.archive.file_names().flatten();
        names.find(|other| other.replace('\\', "/").eq_ignore_ascii_case(name)).map(|name| name.into_owned())
    }

    /// A part's bytes, whatever the archive says about their number; `None` if there is no such part.
    pub(super) fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let Some(name) = self.find(name) else { return Ok(None) };
        // A part alone may have half of all; the rest is for what is made of it.
        let limit = self.left.min(self.limit / 2);
        let file = self.archive.by_name(&name).map_err(fault)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Fault::Malformed(format!("{name}: {error}")))?;
        if bytes.len() as u64 > limit {
            return Err(Fault::TooLarge { what: "bytes unpacked", limit });
        }
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// The parts that a part names, inside the package.
    pub(super) fn relationships(&mut self, part: &str) -> Result<Vec<Relationship>, Fault> {
        let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let Some(bytes) = self.part(&format!("{prefix}_rels/{name}.rels"))? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        Xml::new(&decode(&bytes)).each(|_, name, element| {
            let external = attribute(element, "TargetMode").is_some_and(|mode| mode.eq_ignore_ascii_case("external"));
            if name == "Relationship" && !external {
                let kind = attribute(element, "Type").unwrap_or_default();
                let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
                let target = attribute(element, "Target").unwrap_or_default();
                let target = match target.strip_prefix('/') {
                    Some(absolute) => absolute.to_owned(),
                    None => format!("{prefix}{target}"),
                };
                let id = attribute(element, "Id").unwrap_or_default();
                found.push(Relationship { id, kind, target: without_dots(&target) });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Reads title, author, dates and so on, if the package has them.
    pub(super) fn properties(&mut self, top: &[Relationship], composer: &mut Composer) -> Result<(), Fault> {
        let Some(properties) = top.iter().find(|relationship| relationship.kind == "core-properties") else {
            return Ok(());
        };
        match self.part(&properties.target)? {
            Some(properties) => core_properties(&decode(&properties), composer),
            None => Ok(()),
        }
    }
}

/// `a/../b` as `b`.
fn without_dots(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

/// Title, author, dates and so on, of any Office Open XML package.
fn core_properties(text: &str, composer: &mut Composer) -> Result<(), Fault> {
    let mut properties = Vec::new();
    Xml::new(text).each(|xml, name, _| {
        let key = match name {
            "title" => "title",
            "creator" => "author",
            "subject" => "subject",
            "keywords" => "keywords",
            "description" => "description",
            "category" => "category",
            "language" => "language",
            "created" => "created",
            "modified" => "modified",
            _ => return Ok(()),
        };
        properties.push((key, xml.text()?));
        Ok(())
    })?;
    for (key, value) in properties {
        if key == "title" { composer.title(&value) } else { composer.remember(key, &value) }
    }
    Ok(())
}

fn fault(error: ZipError) -> Fault {
    match error {
        ZipError::UnsupportedArchive(message) if message == ZipError::PASSWORD_REQUIRED => Fault::Encrypted,
        other => Fault::malformed(other),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    pub(crate) fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn parts_are_found_and_bounded() {
        let bytes = archive(&[("Word/Document.xml", b"<x/>"), ("../../outside", b"y"), ("zeros", &[0; 100_000])]);
        let options = ExtractOptions { max_expanded_bytes: 100_000, ..ExtractOptions::default() };
        let mut package = Package::open(bytes, &options).unwrap();
        assert_eq!(package.part("/word/document.xml").unwrap().unwrap(), b"<x/>");
        assert!(package.part("missing").unwrap().is_none());
        assert!(matches!(package.part("zeros"), Err(Fault::TooLarge { .. })));
        assert!(matches!(Package::open(b"PK\x03\x04junk".to_vec(), &options), Err(Fault::Malformed(_))));
    }
}
