//! The documents that `apply` is pointed at.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use protocol::admin::SourceFile;

use crate::Usage;

/// As much as the bridge takes in one request.
const TOTAL: usize = protocol::limits::MESSAGE / 8 * 5;
const DEPTH: usize = 32;

/// The files, and those in the folders, in the order of their names.
///
/// # Errors
/// [`Usage`] when there is nothing to read, too much, or something cannot be read.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>, Usage> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        collect(path, DEPTH, &mut found)?;
        if found.len() == before {
            return Err(Usage(format!("no *.yaml, *.yml or *.json files in {}", path.display())));
        }
    }
    found.sort();
    found.dedup();
    let mut files = Vec::with_capacity(found.len());
    let (count, mut total) = (found.len(), 0);
    for path in &found {
        let text = read_text(path, TOTAL - total + 1).map_err(|error| failed(path, &error))?;
        total += text.len();
        if total > TOTAL {
            return Err(Usage(format!(
                "more than {TOTAL} bytes of documents, reached at {} (file {} of {count}): apply them in parts of at most \
                 so many bytes; a server holds at most {} documents, so what differs from host to host is better told by \
                 `variants`, `overrides` and variables of one Check",
                path.display(),
                files.len() + 1,
                documents::DOCUMENTS
            )));
        }
        files.push(SourceFile { path: path.display().to_string(), text });
    }
    Ok(files)
}

/// No more than `limit` bytes, since a path may lead to anything, even to what never ends.
fn read_text(path: &Path, limit: usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    // What was cut off may have left half a character; such a file is too large, and refused for that.
    if bytes.len() == limit {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

fn collect(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Usage> {
    let info = fs::metadata(path).map_err(|error| failed(path, &error))?;
    if !info.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    if depth == 0 {
        return Err(Usage(format!("{} is nested too deep: do links lead back into it?", path.display())));
    }
    for entry in fs::read_dir(path).map_err(|error| failed(path, &error))? {
        let entry = entry.map_err(|error| failed(path, &error))?;
        let (inner, name) = (entry.path(), entry.file_name());
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let is_document = inner
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|e| extension == *e));
        if is_document || inner.is_dir() {
            collect(&inner, depth - 1, found)?;
        }
    }
    Ok(())
}

fn failed(path: &Path, error: &std::io::Error) -> Usage {
    Usage(format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_through_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("sub/.hidden")).unwrap();
        for name in ["b.yaml", "a.yml", "sub/c.json", "note.txt", ".d.yaml", "sub/.hidden/e.yaml"] {
            fs::write(at(name), name).unwrap();
        }
        let names = |paths: &[PathBuf]| {
            read(paths).unwrap().into_iter().map(|file| file.text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&[folder.path().to_owned()]), "a.yml b.yaml sub/c.json");
        assert_eq!(names(&[at("note.txt"), at("b.yaml"), at("b.yaml")]), "b.yaml note.txt");
        for (path, expected) in [("sub/.hidden/none", "cannot read"), ("empty", "no *.yaml")] {
            fs::create_dir_all(at("empty")).unwrap();
            let error = read(&[at(path)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let endless = read(&["/dev/zero".into()]).unwrap_err().to_string();
        assert!(endless.contains("more than 2621440 bytes of documents, reached at /dev/zero"), "{endless}");
        fs::write(at("bad.yaml"), [0xff]).unwrap();
        assert!(read(&[at("bad.yaml")]).unwrap_err().to_string().contains("bad.yaml: stream did not"));
        std::os::unix::fs::symlink(folder.path(), at("sub/loop")).unwrap();
        assert!(read(&[folder.path().to_owned()]).unwrap_err().to_string().contains("nested too deep"));
    }
}
