//! Segment files of the spool: their names, and reading them through when the spool is opened.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use service_kit::files::write_private;

use super::record::{self, Parsed};

#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) first: u64,
    /// Index behind its last record.
    pub(super) end: u64,
    pub(super) bytes: u64,
    pub(super) newest_ms: u64,
}

pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

pub(super) fn open(folder: &Path, first: u64) -> io::Result<File> {
    let path = path(folder, first);
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// First indexes of the segments, in order.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
        firsts.extend(first.filter(|first| (1..u64::MAX / 2).contains(first)));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

pub(super) struct Scan {
    pub(super) torn_bytes: u64,
    /// The damaged end may have been a whole record once, whose number must not be given again.
    pub(super) uncertain: bool,
}

/// Read a segment through, and cut out what is damaged. Records before the index `from` do not belong here.
pub(super) fn scan(folder: &Path, first: u64, from: u64) -> io::Result<(Segment, Scan)> {
    let path = path(folder, first);
    let bytes = fs::read(&path)?;
    let mut segment = Segment { first, end: first.max(from), bytes: 0, newest_ms: 0 };
    let mut good = Vec::with_capacity(bytes.len());
    let (mut offset, mut cut_inside) = (0, false);
    let (mut damaged, mut uncertain) = (false, false);
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        match record::parse(rest) {
            Parsed::Record(record, length) if record.index >= segment.end && record.index < u64::MAX / 2 => {
                cut_inside |= good.len() < offset;
                good.extend_from_slice(rest.get(..length).unwrap_or_default());
                segment.end = record.index + 1;
                segment.newest_ms = segment.newest_ms.max(record.at_ms);
                (damaged, uncertain) = (false, false);
                offset += length;
            }
            // Look for the next whole record behind the damage. Zeros, and the front of a record, are what a write
            // leaves that never came to its end.
            parsed => {
                let zeros = rest.iter().take(4).all(|byte| *byte == 0);
                uncertain |= !damaged && matches!(parsed, Parsed::Damaged) && !zeros;
                damaged = true;
                offset += 1;
            }
        }
    }
    segment.bytes = good.len() as u64;
    let torn_bytes = (bytes.len() - good.len()) as u64;
    if cut_inside {
        write_private(&path, &good)?;
    } else if torn_bytes > 0 {
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(segment.bytes)?;
        file.sync_all()?;
    }
    Ok((segment, Scan { torn_bytes, uncertain }))
}
