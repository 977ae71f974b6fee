//! New lines of logs that match.
//!
//! What was read is remembered by file, not by name: for each its number on the disk, the position, and a checksum of
//! its beginning. So a log that was renamed is read to its end before the new one; one that was copied and cut off is
//! found in its copy; and one that was cut off and has grown beyond the position again is not taken for the old one.
//! Generations that came and went between two runs are those that were not there before.

use std::collections::BTreeMap;

use protocol::pattern::Pattern;
use serde::{Deserialize, Serialize};

use super::{FileId, Host, Judged, Measured, Memory, Number, Options, Rates, bytes, float, pattern};

/// Read at once, and the longest line: more of a line is taken for a line of its own. In bytes.
const CHUNK: u64 = 256 * 1024;
/// How much of the beginning tells files apart, in bytes.
const HEAD: u64 = 256;
/// Most files that one check follows.
const FILES: usize = 64;
/// Most old generations of a log that are looked at.
const GENERATIONS: usize = 64;
/// The most of a matching line that is shown, in characters.
const SHOWN: usize = 200;

/// Where reading ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    path: String,
    file: FileId,
    offset: u64,
    /// Bytes of the beginning that `head` is the checksum of.
    head_bytes: u64,
    head: u32,
    /// It is an old generation, which may still get lines for a moment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    moved: bool,
    /// The old generations that lay beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    beside: Vec<FileId>,
}

impl Position {
    fn at_start(path: String, file: FileId) -> Self {
        Self { path, file, offset: 0, head_bytes: 0, head: 0, moved: false, beside: Vec::new() }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    positions: Vec<Position>,
}

/// Counts of one run.
struct Run<'a> {
    host: &'a dyn Host,
    wanted: Pattern,
    exclude: Option<Pattern>,
    /// Bytes that may still be read.
    left: u64,
    lines: u64,
    matches: u64,
    skipped: u64,
    last: Option<String>,
}

pub(super) fn log(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let wanted = pattern::regex(options, "pattern")?.ok_or("it needs the option \"pattern\"")?;
    let most = options.size("most").unwrap_or_default();
    let mut run = Run {
        host,
        wanted,
        exclude: pattern::regex(options, "exclude")?,
        left: most,
        lines: 0,
        matches: 0,
        skipped: 0,
        last: None,
    };
    let memory = host.recall();
    let kept: Option<Kept> = match &memory {
        Memory::Kept(text) => serde_json::from_str(text).ok(),
        Memory::None | Memory::Empty => None,
    };
    let mut paths = Vec::new();
    for wanted in options.texts("path") {
        paths.extend(pattern::paths(host, wanted)?.0);
    }
    paths.retain(|path| host.meta(path).is_some_and(|meta| meta.is_file));
    paths.sort();
    paths.dedup();
    if paths.is_empty() && kept.is_none() {
        return Err(format!("there is no file {}", options.texts("path").join(", ")));
    }
    if paths.len() > FILES {
        return Err(format!("{} files are more than the {FILES} that one check can follow", paths.len()));
    }
    let positions = match &kept {
        Some(kept) => run.follow(&paths, &kept.positions)?,
        // The first time: what stands there is old. Without a memory each time is the first, and all that is looked at.
        None => run.begin(&paths, memory == Memory::None)?,
    };
    let remember = serde_json::to_string(&Kept { positions }).map_err(|error| error.to_string())?;
    Ok(Measured { remember: Some(remember), ..run.measured(kept.is_none() && memory != Memory::None) })
}

impl Run<'_> {
    fn begin(&mut self, paths: &[String], look: bool) -> Result<Vec<Position>, String> {
        let mut positions = Vec::new();
        for path in paths {
            let meta = self.host.meta(path).unwrap_or_default();
            let (mut position, size) = (Position::at_start(path.clone(), meta.id), meta.bytes);
            if look {
                position.offset = size.saturating_sub(self.left);
                self.read_on(&mut position, size, false)?;
            } else {
                position.offset = self.last_line_end(&position, size)?;
                self.mark(&mut position)?;
            }
            position.beside = self.generations(path).into_iter().map(|(_, id)| id).collect();
            positions.push(position);
        }
        Ok(positions)
    }

    /// Read what came since `before`.
    fn follow(&mut self, paths: &[String], before: &[Position]) -> Result<Vec<Position>, String> {
        let here: BTreeMap<&String, FileId> =
            paths.iter().filter_map(|path| Some((path, self.host.meta(path)?.id))).collect();
        let mut positions = Vec::new();
        // What was moved away, or cut off, is read to its end first.
        for old in before {
            let continues = here.iter().any(|(path, id)| *id == old.file && self.is_same(old, path));
            // One that was empty looks the same when it was copied and cut off meanwhile.
            if continues && (old.offset > 0 || old.moved) {
                continue;
            }
            let moved = if continues { None } else { self.moved(old) };
            let rest =
                moved.as_ref().map(|meta| Position { file: meta.1, path: meta.0.clone(), ..old.clone() });
            let known = |id: FileId| old.beside.contains(&id) || here.values().any(|new| *new == id);
            let new = if old.moved { Vec::new() } else { self.generations(&old.path) };
            let new = new
                .into_iter()
                .filter(|(path, id)| !known(*id) && moved.as_ref().is_none_or(|moved| moved.0 != *path));
            let new: Vec<Position> = new.map(|(path, id)| Position::at_start(path, id)).collect();
            for mut position in rest.into_iter().chain(new) {
                let before = position.offset;
                let size = self.host.meta(&position.path).map_or(0, |meta| meta.bytes);
                (position.moved, position.beside) = (true, Vec::new());
                self.read_on(&mut position, size, true)?;
                // Whoever writes it may not know of the new one yet.
                if position.offset > before && positions.len() < FILES {
                    positions.push(position);
                }
            }
        }
        for (path, id) in here {
            let old = before.iter().find(|old| old.file == id && self.is_same(old, path));
            let mut position = match old {
                Some(old) => Position { path: path.clone(), moved: false, ..old.clone() },
                None => Position::at_start(path.clone(), id),
            };
            let size = self.host.meta(path).map_or(0, |meta| meta.bytes);
            self.read_on(&mut position, size, false)?;
            position.beside = self.generations(path).into_iter().map(|(_, id)| id).collect();
            positions.push(position);
        }
        Ok(positions)
    }

    /// Files beside a log that are old ones of it by their names: `app.log.1`, `app.log-20261121`, `app-2026-11-21.log`.
    fn generations(&self, path: &str) -> Vec<(String, FileId)> {
        let Some((folder, name)) = path.rsplit_once('/') else { return Vec::new() };
        let stem = name.strip_suffix(".log").unwrap_or(name);
        let is_generation = |other: &String| {
            let date = |rest: &str| {
                !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || "-_.:T".contains(c))
            };
            let behind = other.strip_prefix(name).is_some_and(date);
            let between = || other.strip_prefix(stem)?.strip_suffix(".log");
            behind || between().is_some_and(date)
        };
        let mut names = self.host.names(if folder.is_empty() { "/" } else { folder });
        names.retain(is_generation);
        names.sort();
        let paths = names.into_iter().map(|name| format!("{folder}/{name}"));
        let files = paths.filter_map(|path| {
            let meta = self.host.meta(&path).filter(|meta| meta.is_file)?;
            Some((path, meta.id))
        });
        files.take(GENERATIONS).collect()
    }

    /// It begins as it did, and has at least what was read of it.
    fn is_same(&self, old: &Position, path: &str) -> bool {
        let long_enough = self.host.meta(path).is_some_and(|meta| meta.bytes >= old.offset);
        let head = || self.host.part(path, 0, old.head_bytes).ok();
        long_enough && head().is_some_and(|part| crc32fast::hash(&part.bytes) == old.head)
    }

    /// Where the file went, or its copy: beside it, under a name that begins like it.
    fn moved(&self, old: &Position) -> Option<(String, FileId)> {
        // It was moved before the last run.
        if self.host.meta(&old.path).is_some_and(|meta| meta.id == old.file) && self.is_same(old, &old.path) {
            return Some((old.path.clone(), old.file));
        }
        let (folder, name) = old.path.rsplit_once('/')?;
        let stem = name.strip_suffix(".log").unwrap_or(name);
        let mut names = self.host.names(if folder.is_empty() { "/" } else { folder });
        names.retain(|other| other.starts_with(stem) && other != name);
        names.sort();
        let mut paths: Vec<String> = names.iter().map(|name| format!("{folder}/{name}")).collect();
        paths.retain(|path| self.host.meta(path).is_some_and(|meta| meta.is_file));
        let is_it = |path: &&String| self.host.meta(path).is_some_and(|meta| meta.id == old.file);
        // A copy is known by its beginning, which an empty one has not.
        let copies = |path: &&String| old.head_bytes > 0 && self.is_same(old, path);
        let found = paths.iter().find(|path| is_it(path) && self.is_same(old, path));
        let found = found.or_else(|| paths.iter().find(copies))?;
        Some((found.clone(), self.host.meta(found)?.id))
    }

    /// Read lines up to `size`; the last one, without an end, only when the file is `finished`.
    fn read_on(&mut self, position: &mut Position, size: u64, finished: bool) -> Result<(), String> {
        let behind = size.saturating_sub(position.offset);
        if behind > self.left {
            let skipped = behind - self.left;
            self.skipped = self.skipped.saturating_add(skipped);
            position.offset += skipped;
        }
        while position.offset < size {
            let part = self.host.part(&position.path, position.offset, CHUNK.min(size - position.offset))?;
            // Moved away under our eyes: the next run finds out.
            if part.bytes.is_empty() || part.id != position.file {
                break;
            }
            let length = part.bytes.len() as u64;
            let at_end = position.offset + length >= size;
            let whole = match part.bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(last) if !(finished && at_end) => last as u64 + 1,
                None if length < CHUNK && !finished => break,
                _ => length,
            };
            let taken =
                usize::try_from(whole).ok().and_then(|whole| part.bytes.get(..whole)).unwrap_or_default();
            self.count(taken);
            position.offset += whole;
            self.left = self.left.saturating_sub(whole);
        }
        self.mark(position)
    }

    fn mark(&self, position: &mut Position) -> Result<(), String> {
        let head = self.host.part(&position.path, 0, HEAD.min(position.offset))?;
        if head.id == position.file {
            (position.head_bytes, position.head) = (head.bytes.len() as u64, crc32fast::hash(&head.bytes));
        }
        Ok(())
    }

    fn count(&mut self, lines: &[u8]) {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_end_matches(['\n', '\r']);
            self.lines += 1;
            let excluded = || self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(line));
            if self.wanted.is_match(line) && !excluded() {
                self.matches += 1;
                self.last = Some(line.chars().filter(|c| !c.is_control()).take(SHOWN).collect());
            }
        }
    }

    /// The end of the last whole line.
    fn last_line_end(&self, position: &Position, size: u64) -> Result<u64, String> {
        let from = size.saturating_sub(CHUNK);
        let part = self.host.part(&position.path, from, size - from)?;
        let last = part.bytes.iter().rposition(|byte| *byte == b'\n');
        Ok(last.map_or(if from == 0 { 0 } else { size }, |last| from + last as u64 + 1))
    }

    fn measured(&self, first: bool) -> Measured {
        let judged = Judged::Above { warning: Some(0.0), critical: None };
        let numbers = vec![
            Number::new("matches", float(self.matches), "").judged(),
            Number::new("lines", float(self.lines), ""),
            Number { judged, ..Number::new("skipped", float(self.skipped), "B") },
        ];
        let mut text = match &self.last {
            Some(last) => format!("{} of {} new lines match, the last: {last}", self.matches, self.lines),
            None => format!("none of {} new lines matches", self.lines),
        };
        if first {
            text = "the first run: from here on new lines are looked at".to_owned();
        }
        if self.skipped > 0 {
            text =
                format!("{} were skipped, since it was too much at once; {text}", bytes(float(self.skipped)));
        }
        Measured { numbers, text, ..Measured::default() }
    }
}
