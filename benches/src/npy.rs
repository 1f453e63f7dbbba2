//! Arrays in NumPy's `.npy` format, as far as benchmarks need them: two dimensions, C order, `f32` or `i64`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Rows of equal length in one piece.
#[derive(Debug, PartialEq)]
pub struct Table<T> {
    /// Rows.
    pub rows: usize,
    /// Values of a row.
    pub columns: usize,
    /// The values, row after row.
    pub values: Vec<T>,
}

impl<T> Table<T> {
    /// The rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = &[T]> {
        self.values.chunks_exact(self.columns.max(1))
    }
}

/// Longest head that is read, in bytes.
const MAX_HEAD: usize = 65_536;

/// Reads a table of 32-bit floating point numbers.
///
/// # Errors
/// `InvalidData` for a file of another kind, or whose length is not what its head says; what reading gives.
pub fn read_f32(path: &Path) -> io::Result<Table<f32>> {
    read(path, "<f4", f32::from_le_bytes)
}

/// Reads a table of 64-bit integers.
///
/// # Errors
/// As [`read_f32`].
pub fn read_i64(path: &Path) -> io::Result<Table<i64>> {
    read(path, "<i8", i64::from_le_bytes)
}

fn read<T, const BYTES: usize>(path: &Path, descr: &str, from: fn([u8; BYTES]) -> T) -> io::Result<Table<T>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    let mut file = File::open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot open {}: {error}", path.display())))?;
    let length = file.metadata()?.len();
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(|_| bad("too short for a .npy file"))?;
    if &start[..6] != b"\x93NUMPY" {
        return Err(bad("not a .npy file"));
    }
    let size_bytes = if start[6] == 1 { 2 } else { 4 };
    let mut size = [0; 4];
    file.read_exact(&mut size[..size_bytes])?;
    let size = u32::from_le_bytes(size) as usize;
    if size > MAX_HEAD {
        return Err(bad("its head is too long"));
    }
    let mut head = vec![0; size];
    file.read_exact(&mut head).map_err(|_| bad("its head is cut short"))?;
    let head = String::from_utf8_lossy(&head);
    let (found, order, shape) = parse_head(&head).ok_or_else(|| bad("its head can't be read"))?;
    if found != descr {
        return Err(bad(&format!("its values are {found}, not {descr}")));
    }
    let &[rows, columns] = shape.as_slice() else { return Err(bad("it does not have two dimensions")) };
    if order && rows > 1 && columns > 1 {
        return Err(bad("it is in Fortran order"));
    }
    let body = rows.checked_mul(columns).and_then(|values| values.checked_mul(BYTES));
    let body = body.filter(|&body| (8 + size_bytes + size) as u64 + body as u64 == length);
    let body = body.ok_or_else(|| bad("its length is not what its head says"))?;
    let mut bytes = vec![0; body];
    file.read_exact(&mut bytes)?;
    let values = bytes.as_chunks::<BYTES>().0.iter().map(|&bytes| from(bytes)).collect();
    Ok(Table { rows, columns, values })
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`
fn parse_head(head: &str) -> Option<(&str, bool, Vec<usize>)> {
    let after = |key: &str| head.split_once(key)?.1.split_once(':').map(|(_, value)| value.trim_start());
    let descr = after("'descr'")?.strip_prefix('\'')?.split_once('\'')?.0;
    let order = after("'fortran_order'")?.starts_with("True");
    let shape = after("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
    let shape = shape.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.parse().ok());
    Some((descr, order, shape.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(head: &str, body: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((head.len() as u16).to_le_bytes());
        bytes.extend(head.as_bytes());
        bytes.extend(body);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn tables_are_read_and_lies_are_not() {
        let head = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n";
        let body: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let (_folder, path) = file(head, &body);
        assert_eq!(read_f32(&path).unwrap(), Table { rows: 2, columns: 1, values: vec![1.5, -2.0] });
        assert!(read_i64(&path).is_err());
        for head in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 9999999999), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
            "{'descr': '<f4'}",
            "",
        ] {
            let (_folder, path) = file(head, &body);
            assert!(read_f32(&path).is_err(), "{head}");
        }
    }
}
