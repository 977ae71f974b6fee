//! The archive of `dogwatch backup`: a whole installation as lines of JSON.
//!
//! The first line says what it is, the last one how many lines and which SHA-256 the ones before it have. Between them
//! stand the accepted changes by their revisions, the inventory, the audit log, and what the alerter remembers. What only
//! the service that wrote it understands is kept as it was given. No line holds a key, a token or a seed; documents stand
//! there as operators wrote them, receivers too.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{AgentId, audit::AuditEvent, log::LogRecord, timestamp};

/// The form of archives that is written here; a newer one is refused.
pub const FORMAT: u32 = 1;
/// Longest line, in bytes: a change stands on one line, however many messages it took.
pub const LINE: usize = 512 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Line {
    Archive(Manifest),
    /// One accepted change, by revisions from 1 on without gaps.
    Change {
        record: LogRecord,
    },
    /// What the inventory keeps of a host.
    Host {
        agent: AgentId,
        host: serde_json::Value,
    },
    /// When a key was last used, in milliseconds since 1970.
    KeyUsed {
        id: String,
        at_ms: u64,
    },
    /// An entry of the audit log, by its place there.
    Audit {
        event: AuditEvent,
    },
    /// An entry of one of the alerter's tables; the key in hexadecimal digits.
    Alerter {
        table: String,
        key: String,
        value: serde_json::Value,
    },
    End {
        /// Lines before this one.
        lines: u64,
        /// Of all bytes before this line, in hexadecimal digits.
        sha256: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Version of dogwatch that wrote it.
    pub version: String,
    pub created_ms: u64,
    /// Newest revision in it.
    pub revision: u64,
    /// Whether the alerter's memory is in it.
    #[serde(default)]
    pub alerts: bool,
}

/// What is in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    #[serde(flatten)]
    pub manifest: Manifest,
    pub changes: u64,
    pub hosts: u64,
    pub audit: u64,
    pub alerter: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(
        "line {line} of the archive is none of dogwatch ({reason}): the file is damaged, or of a newer version"
    )]
    Line { line: u64, reason: String },
    #[error("this is no archive of `dogwatch backup`")]
    NoArchive,
    #[error(
        "the archive has format {found}, newer than {FORMAT}: use the version of dogwatch that wrote it ({version})"
    )]
    Newer { found: u32, version: String },
    #[error(
        "line {line} of the archive holds revision {found} where {expected} is next: the file is damaged"
    )]
    Order { line: u64, found: u64, expected: u64 },
    #[error("the archive ends too early: it was cut, or is damaged")]
    Cut,
    #[error("the archive is not as it was written (its checksum differs): take another copy")]
    Checksum,
    #[error("something stands behind the end of the archive: take another copy")]
    Behind,
}

/// Reads an archive line by line and says at the end whether it is whole.
#[derive(Debug, Default)]
pub struct Check {
    lines: u64,
    hash: Sha256,
    contents: Option<Contents>,
    ended: bool,
}

impl Check {
    /// The next line, its end of line included.
    ///
    /// # Errors
    /// [`ArchiveError`]: nothing of the archive may be used.
    pub fn line(&mut self, bytes: &[u8]) -> Result<Line, ArchiveError> {
        if self.ended {
            return Err(ArchiveError::Behind);
        }
        let number = self.lines + 1;
        let parsed = serde_json::from_slice::<Line>(bytes);
        let Some(contents) = &mut self.contents else {
            let Ok(Line::Archive(manifest)) = &parsed else { return Err(ArchiveError::NoArchive) };
            if manifest.format > FORMAT {
                let Manifest { format, version, .. } = manifest.clone();
                return Err(ArchiveError::Newer { found: format, version });
            }
            let manifest = manifest.clone();
            self.contents = Some(Contents { manifest, changes: 0, hosts: 0, audit: 0, alerter: 0 });
            return self.take(bytes, parsed, number);
        };
        match &parsed {
            Ok(Line::End { lines, sha256 }) => {
                if *lines != self.lines || contents.changes != contents.manifest.revision {
                    return Err(ArchiveError::Cut);
                }
                if crate::hex(&self.hash.clone().finalize()) != *sha256 {
                    return Err(ArchiveError::Checksum);
                }
                self.ended = true;
            }
            Ok(Line::Change { record }) => {
                contents.changes += 1;
                if record.revision != contents.changes {
                    let (found, expected) = (record.revision, contents.changes);
                    return Err(ArchiveError::Order { line: number, found, expected });
                }
            }
            Ok(Line::Host { .. }) => contents.hosts += 1,
            Ok(Line::Audit { .. }) => contents.audit += 1,
            Ok(Line::Alerter { .. }) => contents.alerter += 1,
            Ok(Line::Archive(_)) => return Err(ArchiveError::NoArchive),
            Ok(Line::KeyUsed { .. }) | Err(_) => {}
        }
        self.take(bytes, parsed, number)
    }

    fn take(
        &mut self,
        bytes: &[u8],
        parsed: serde_json::Result<Line>,
        line: u64,
    ) -> Result<Line, ArchiveError> {
        let parsed = parsed.map_err(|error| ArchiveError::Line { line, reason: error.to_string() })?;
        self.hash.update(bytes);
        self.lines = line;
        Ok(parsed)
    }

    /// What is in it.
    ///
    /// # Errors
    /// [`ArchiveError::Cut`] when its end was not reached.
    pub fn end(self) -> Result<Contents, ArchiveError> {
        self.contents.filter(|_| self.ended).ok_or(ArchiveError::Cut)
    }
}

/// Writes an archive line by line.
#[derive(Debug, Default)]
pub struct Writer {
    lines: u64,
    hash: Sha256,
}

impl Writer {
    /// The bytes of a line.
    ///
    /// # Errors
    /// Only for what cannot be JSON.
    pub fn line(&mut self, line: &Line) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = crate::encode(line)?;
        bytes.push(b'\n');
        self.lines += 1;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    /// The bytes of the last line.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn end(mut self) -> Result<Vec<u8>, serde_json::Error> {
        let end = Line::End { lines: self.lines, sha256: crate::hex(&self.hash.clone().finalize()) };
        self.line(&end)
    }
}

/// Request on `dogwatch.v1.admin.restore.<replica>`: put the archive that was brought in place of what there is. The
/// reply is a [`RestoreState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    pub transfer: crate::transfer::Transfer,
    /// Also where there are documents, hosts or keys already: they are gone then.
    #[serde(default)]
    pub replace: bool,
    /// The newest revision that agents may have seen: the next change gets a higher one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
    #[serde(default)]
    pub actor: String,
}

/// Request on `dogwatch.v1.admin.restore.state`; the reply is a [`RestoreState`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreQuery {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreState {
    /// An archive is being put in place. It goes on by itself, over restarts too.
    pub running: bool,
    /// Why it does not go on at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Newest revision.
    pub revision: u64,
}

/// A name for the file of an archive that was made at a time, in milliseconds since 1970.
#[must_use]
pub fn file_name(created_ms: u64) -> String {
    let time: String = timestamp::format(created_ms).chars().filter(|c| !matches!(c, ':' | '-')).collect();
    let seconds = time.split('.').next().unwrap_or_default().trim_end_matches('Z');
    format!("dogwatch-{seconds}Z.backup")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(revisions: &[u64]) -> Vec<Vec<u8>> {
        let mut writer = Writer::default();
        let revision = revisions.len() as u64;
        let version = "1.0.0".to_owned();
        let manifest = Manifest { format: FORMAT, version, created_ms: 1, revision, alerts: false };
        let mut lines = vec![writer.line(&Line::Archive(manifest)).unwrap()];
        for revision in revisions {
            let record = LogRecord {
                v: 1,
                id: format!("{revision}"),
                revision: *revision,
                at_ms: 1,
                actor: String::new(),
                message: String::new(),
                changes: Vec::new(),
            };
            lines.push(writer.line(&Line::Change { record }).unwrap());
        }
        lines.push(writer.line(&Line::KeyUsed { id: "k".to_owned(), at_ms: 5 }).unwrap());
        lines.push(writer.end().unwrap());
        lines
    }

    fn check(lines: &[Vec<u8>]) -> Result<Contents, String> {
        let mut check = Check::default();
        for line in lines {
            check.line(line).map_err(|error| error.to_string())?;
        }
        check.end().map_err(|error| error.to_string())
    }

    #[test]
    fn an_archive_is_read_as_it_was_written() {
        let contents = check(&archive(&[1, 2, 3])).unwrap();
        assert_eq!((contents.changes, contents.manifest.revision), (3, 3));
        assert_eq!(file_name(1_795_200_000_123), "dogwatch-20261120T184000Z.backup");
    }

    #[test]
    fn what_is_cut_changed_added_or_out_of_order_is_refused() {
        let whole = archive(&[1, 2, 3]);
        let refused = |lines: &[Vec<u8>], expected: &str| {
            let error = check(lines).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        for cut in 1..whole.len() {
            refused(&whole[..cut], "ends too early");
        }
        refused(&[], "ends too early");
        for (index, line) in whole.iter().enumerate().skip(1) {
            let mut lines = whole.clone();
            lines.remove(index);
            assert!(check(&lines).is_err(), "line {index} is missing");
            // Another time of the same form, so that only the checksum can tell.
            let text = String::from_utf8(line.clone()).unwrap().replace("\"at_ms\":", "\"at_ms\":7");
            if text.as_bytes() != line {
                lines.clone_from(&whole);
                lines[index] = text.into_bytes();
                refused(&lines, "checksum differs");
            }
        }
        let mut more = whole.clone();
        more.push(whole[1].clone());
        refused(&more, "behind the end");
        refused(&archive(&[1, 3]), "revision 3 where 2 is next");
        refused(&[b"kind: Check\n".to_vec()], "no archive");
        refused(&[whole[1].clone()], "no archive");
        let newer = String::from_utf8(whole[0].clone()).unwrap().replace("\"format\":1", "\"format\":2");
        refused(&[newer.into_bytes()], "newer than 1");
        let mut unknown = whole;
        unknown[1] = b"{\"part\":\"of a newer version\"}\n".to_vec();
        refused(&unknown, "line 2 of the archive is none of dogwatch");
    }
}
