//! Reading and writing tables, forgiving of what tables from elsewhere look like.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

/// Larger files are refused: the programs hold one at a time in memory.
const MAX_BYTES: u64 = 2 << 30;
/// Folders below folders: a loop of links must end.
const MAX_DEPTH: usize = 16;

/// A file as text, unpacked when its name ends in `.gz`. Bytes that are no UTF-8 become replacement characters.
pub fn text(path: &Path) -> anyhow::Result<String> {
    let file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let packed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let mut bytes = Vec::new();
    let read = if packed {
        flate2::read::MultiGzDecoder::new(file).take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.len() as u64 <= MAX_BYTES, "{} holds more than {MAX_BYTES} bytes", path.display());
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

/// The fields of a line. Quotes may surround a field; `""` within them is one quote.
#[must_use]
pub fn fields(line: &str) -> Vec<String> {
    let (mut all, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    all.push(field);
    all
}

/// A field that may be written as it is, or in quotes.
#[must_use]
pub fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// A number, NaN where there is none.
#[must_use]
pub fn number(field: &str) -> f64 {
    field.trim().parse().unwrap_or(f64::NAN)
}

/// Every file below `folder` with this ending, sorted, as paths relative to it.
pub fn below(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((here, depth)) = folders.pop() {
        for entry in fs::read_dir(&here).with_context(|| format!("cannot list {}", here.display()))? {
            let path = entry?.path();
            if path.is_dir() && depth < MAX_DEPTH {
                folders.push((path, depth + 1));
            } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
                && path.is_file()
            {
                found.push(path.strip_prefix(folder).unwrap_or(&path).to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a file and the folders it stands in.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let written = fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// The name of a file without its ending.
#[must_use]
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas() {
        assert_eq!(fields(r#"a,"b,""c""",d"#), ["a", "b,\"c\"", "d"]);
        assert_eq!(fields(""), [""]);
        assert_eq!(fields(&quoted("x,\"y\"")), ["x,\"y\""]);
    }

    #[test]
    fn what_is_no_number_is_nan() {
        assert!(number("n/a").is_nan() && number("").is_nan());
        assert_eq!(number(" 1e3 "), 1000.0);
    }
}
