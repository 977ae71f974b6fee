//! Results on disk until they are stored elsewhere: append-only segment files, first in, first out.
//!
//! A segment `<index>.seg` holds records (see [`super::record`]) from the index in its name on. Indexes only grow. The
//! wire knows a result by `epoch` and `seq = index − base`; both of them, epoch and base, are in the file `epoch`.
//! There is always one active segment, so the next index is known even when nothing is left. Where the numbering
//! cannot be trusted (no segment, no epoch file, or ingest knows numbers that were never given: a restored snapshot)
//! a new epoch begins, and what is still here is numbered anew from 1: no number is ever used twice (G1).
//!
//! How far ingest is, is kept in the file `stored`, now and then: after a restart what ingest has is not sent again,
//! also when ingest cannot be asked.
//!
//! What survives: an appended record survives `kill -9`. It survives a power cut once it was synced, and
//! [`Spool::read`] syncs first, so nothing leaves the host that is not on its disk. The sender reads within a fraction
//! of a second after an append, so that a power cut costs the last of it at most, and those results nobody has seen.
//!
//! Limits: when the spool is full or a segment is too old, the oldest segment goes, whole, and what it held and nobody
//! had stored is counted. A damaged part is cut out on opening and counted; records behind it are kept.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::duration::millis;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use service_kit::files::{sync_folder, write_private};

use super::{
    record::{self, Parsed, Record},
    segment::{self, Segment},
};

const EPOCH_FILE: &str = "epoch";
const STORED_FILE: &str = "stored";
const LARGEST_SEGMENT: u64 = 4 * 1024 * 1024;
/// Read at once; a record that is larger takes a second read.
const CHUNK: usize = 64 * 1024;
const LARGEST_CHUNK: usize = record::HEADER + record::PAYLOAD;
/// Results given up one by one at most, until the watermark passes them.
const GIVEN_UP: usize = 1_000;
/// Most bytes of payload that one [`Spool::read`] returns, but for a single larger result.
const READ_BYTES: usize = 2 * 1024 * 1024;
/// An active segment of which everything is stored is replaced when it is larger than this.
const TIDY_BYTES: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("cannot {what} in the spool {path}: check that the disk has room and works")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("a result of {0} bytes is too large for the spool")]
    TooLarge(usize),
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_bytes: u64,
    pub max_age: Duration,
}

/// What opening had to repair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    pub torn_bytes: u64,
    pub new_epoch: bool,
}

/// Ingest says that it has stored numbers that were never given: this spool is an older copy of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolledBack;

#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    limits: Limits,
    numbering: Numbering,
    /// Oldest first; the last one is active and always there.
    segments: VecDeque<Segment>,
    active: File,
    /// Index of the next record.
    next: u64,
    /// Everything up to this index is stored.
    stored: u64,
    /// The active segment may end in a part of a record that could not be removed.
    broken: bool,
    unsynced: bool,
    /// The active segment is new in the folder.
    unsynced_name: bool,
    cursors: [Option<Cursor>; 2],
    dropped: u64,
    /// Indexes of results that are here and will never be sent.
    given_up: BTreeSet<u64>,
    /// `stored` as it is in its file.
    stored_saved: u64,
}

/// One result in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    /// When it was appended, in milliseconds since 1970.
    pub at_ms: u64,
    pub payload: Vec<u8>,
}

/// What ingest has, as it is kept across restarts.
#[derive(Debug, Serialize, Deserialize)]
struct SavedWatermark {
    epoch: u64,
    seq: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Numbering {
    epoch: u64,
    base: u64,
}

/// Where the record `index` begins, so that reading on need not search.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    segment: u64,
    offset: u64,
    index: u64,
}

impl Spool {
    /// Open or create the spool in `folder`.
    ///
    /// # Errors
    /// [`SpoolError`] when the folder cannot be read or written.
    pub fn open(folder: &Path, limits: Limits, now_ms: u64) -> Result<(Self, Repaired), SpoolError> {
        let failed = |what| move |source| SpoolError::Io { what, path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed("make the folder"))?;
        let mut repaired = Repaired::default();
        let mut segments = VecDeque::<Segment>::new();
        let mut next = 1;
        for first in segment::list(folder).map_err(failed("list segments"))? {
            let (segment, scan) = segment::scan(folder, first, next).map_err(failed("read a segment"))?;
            repaired.torn_bytes += scan.torn_bytes;
            next = segment.end + u64::from(scan.uncertain);
            segments.push_back(segment);
        }
        let saved: Option<Numbering> = read_json(folder, EPOCH_FILE).map_err(failed("read the epoch"))?;
        let watermark: Option<SavedWatermark> =
            read_json(folder, STORED_FILE).map_err(failed("read the watermark"))?;
        // Above the base by so much, if it belongs to this numbering.
        let watermark = saved
            .zip(watermark)
            .filter(|(saved, watermark)| saved.epoch == watermark.epoch)
            .map_or(0, |(_, watermark)| watermark.seq);
        // Numbers that ingest has and this spool never gave: it is an older copy of itself.
        let trusted = |saved: &Numbering| !segments.is_empty() && saved.base.saturating_add(watermark) < next;
        let numbering = saved.filter(trusted);
        let active = match segments.back() {
            Some(last) if last.end == next => {
                segment::open(folder, last.first).map_err(failed("open a segment"))?
            }
            _ => {
                segments.push_back(Segment { first: next, end: next, bytes: 0, newest_ms: now_ms });
                segment::open(folder, next).map_err(failed("make a segment"))?
            }
        };
        let mut spool = Self {
            folder: folder.to_owned(),
            limits,
            numbering: numbering.unwrap_or(Numbering { epoch: saved.map_or(0, |s| s.epoch), base: 0 }),
            segments,
            active,
            next,
            stored: numbering.map_or(0, |numbering| numbering.base.saturating_add(watermark)),
            broken: false,
            unsynced: true,
            unsynced_name: true,
            cursors: [None; 2],
            dropped: 0,
            given_up: BTreeSet::new(),
            stored_saved: 0,
        };
        spool.stored_saved = spool.stored;
        if numbering.is_none() {
            spool.new_epoch(now_ms)?;
            repaired.new_epoch = true;
        }
        Ok((spool, repaired))
    }

    /// When the sequence began, in milliseconds since 1970.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.numbering.epoch
    }

    /// Lowest sequence number still here and not known to be stored, or the next one when there is none.
    ///
    /// # Errors
    /// [`SpoolError`] when the spool cannot be read.
    pub fn oldest(&mut self) -> Result<u64, SpoolError> {
        // Read, since damage may have made a hole anywhere.
        let cursors = self.cursors;
        let first = self.read(1, 1)?.first().map(|entry| entry.seq);
        self.cursors = cursors;
        Ok(first.unwrap_or_else(|| self.next_seq()))
    }

    /// The sequence number of the next result.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next - self.numbering.base
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// How many results the limits have dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Number `payload` and keep it, as [`Self::append_all`] does.
    ///
    /// # Errors
    /// As there.
    pub fn append(&mut self, now_ms: u64, missed: u64, payload: &[u8]) -> Result<u64, SpoolError> {
        self.append_all(now_ms, missed, &[payload])
    }

    /// Number `payloads` in their order and keep them, in one write: all or none of them. Returns the number of the first.
    /// `missed` results before it were lost: their numbers are left out, so that whoever counts finds them missing.
    ///
    /// # Errors
    /// [`SpoolError`] when they could not be written whole, or are more than a segment holds; then no number was used.
    pub fn append_all<P: AsRef<[u8]>>(
        &mut self,
        now_ms: u64,
        missed: u64,
        payloads: &[P],
    ) -> Result<u64, SpoolError> {
        let first = self.next.saturating_add(missed);
        let (mut bytes, mut next) = (Vec::new(), first);
        for payload in payloads.iter().map(AsRef::as_ref) {
            let record = Record { index: next, at_ms: now_ms, payload };
            record::encode(&record, &mut bytes).ok_or(SpoolError::TooLarge(payload.len()))?;
            next += 1;
        }
        if payloads.len() > 1 && bytes.len() as u64 > self.largest_segment() {
            return Err(SpoolError::TooLarge(bytes.len()));
        }
        let length = bytes.len() as u64;
        self.make_room(now_ms, length)?;
        let Some(active) = self.segments.back_mut() else { return Err(self.io("append")(no_segment())) };
        if let Err(error) = self.active.write_all_at(&bytes, active.bytes) {
            // What was written of it must not be taken for the front of the next record.
            self.broken = self.active.set_len(active.bytes).is_err();
            return Err(self.io("append results")(error));
        }
        active.bytes += length;
        active.end = next;
        active.newest_ms = active.newest_ms.max(now_ms);
        self.next = next;
        self.unsynced = true;
        Ok(first - self.numbering.base)
    }

    /// Make everything that was appended durable (`fdatasync`).
    ///
    /// # Errors
    /// [`SpoolError`]; it stays to be synced.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        self.put_back().map_err(self.io("make the folder again"))?;
        if self.unsynced {
            self.active.sync_data().map_err(self.io("sync"))?;
            if self.unsynced_name {
                sync_folder(&self.folder).map_err(self.io("sync"))?;
                self.unsynced_name = false;
            }
            self.unsynced = false;
        }
        Ok(())
    }

    /// A folder that was removed under a running agent is made again: else all that is appended would go to a file
    /// without a name, and end with the agent, uncounted. The active segment is still here to be written once more.
    fn put_back(&mut self) -> io::Result<()> {
        if self.active.metadata()?.nlink() > 0 {
            return Ok(());
        }
        let active = self.segments.back().ok_or_else(no_segment)?;
        let mut bytes = vec![0; usize::try_from(active.bytes).map_err(io::Error::other)?];
        self.active.read_exact_at(&mut bytes, 0)?;
        fs::create_dir_all(&self.folder)?;
        write_json(&self.folder, EPOCH_FILE, &self.numbering)?;
        write_private(&segment::path(&self.folder, active.first), &bytes)?;
        self.active = segment::open(&self.folder, active.first)?;
        (self.unsynced, self.unsynced_name) = (true, true);
        self.stored_saved = self.numbering.base;
        tracing::warn!(folder = %self.folder.display(), "the folder of the spool was removed, and is made again");
        let gone = |segment: &Segment| !segment::path(&self.folder, segment.first).exists();
        let gone = self.segments.iter().take_while(|segment| gone(segment)).count();
        (0..gone).for_each(|_| self.drop_oldest());
        Ok(())
    }

    /// Whether some of it would not survive a power cut yet.
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// At most `count` results from the number `seq` on, or from the oldest, in order. Fewer when they are large. Syncs
    /// first.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn read(&mut self, seq: u64, count: usize) -> Result<Vec<Entry>, SpoolError> {
        self.sync()?;
        let mut index = self.numbering.base.saturating_add(seq).max(self.oldest_index());
        let mut found = Vec::new();
        let mut bytes = 0;
        while found.len() < count && bytes < READ_BYTES && index < self.next {
            let Some(segment) = self.segments.iter().find(|segment| segment.end > index).copied() else {
                break;
            };
            let before = found.len();
            self.read_segment(segment, &mut index, (count, &mut bytes), &mut found)
                .map_err(self.io("read results"))?;
            if found.len() == before {
                // Nothing readable is left in it (it was damaged after it was opened): go on behind it.
                index = segment.end;
            }
        }
        Ok(found)
    }

    /// Everything up to the number `seq` is stored: it may go.
    ///
    /// # Errors
    /// [`RolledBack`] when `seq` was never given; nothing changes then.
    pub fn stored(&mut self, now_ms: u64, seq: u64) -> Result<(), RolledBack> {
        let index = self.numbering.base.saturating_add(seq);
        if index >= self.next {
            return Err(RolledBack);
        }
        self.stored = self.stored.max(index);
        self.given_up.retain(|given_up| *given_up > index);
        if self.is_untidy(self.stored)
            && let Err(error) = self.roll(now_ms)
        {
            tracing::debug!(error = service_kit::report(&error), "the spool could not be made smaller yet");
        }
        while self.is_front_done(self.stored) {
            self.drop_oldest();
        }
        Ok(())
    }

    /// Whether [`Self::stored`] would touch the disk.
    #[must_use]
    pub fn would_let_go(&self, seq: u64) -> bool {
        let index = self.numbering.base.saturating_add(seq);
        self.is_untidy(index) || self.is_front_done(index)
    }

    /// Whether the active segment is worth replacing when everything up to `index` is stored.
    fn is_untidy(&self, index: u64) -> bool {
        let tidy = |active: &Segment| active.end <= index.saturating_add(1) && active.bytes > TIDY_BYTES;
        self.segments.back().is_some_and(tidy)
    }

    fn is_front_done(&self, index: u64) -> bool {
        let done = |first: &Segment| first.end <= index.saturating_add(1);
        self.segments.len() > 1 && self.segments.front().is_some_and(done)
    }

    /// Whether [`Self::expire`] has something to drop.
    #[must_use]
    pub fn has_expired(&self, now_ms: u64) -> bool {
        let limit = millis(self.limits.max_age);
        // An empty active one has nothing to lose.
        let holds = |segment: &&Segment| segment.bytes > 0 || self.segments.len() > 1;
        self.segments.iter().filter(holds).any(|segment| now_ms.saturating_sub(segment.newest_ms) > limit)
    }

    /// Keep the watermark across restarts. `false`, and cheap, when it did not move.
    ///
    /// # Errors
    /// [`SpoolError`]; then more is sent again after a restart.
    pub fn save_watermark(&mut self) -> Result<bool, SpoolError> {
        if self.stored == self.stored_saved {
            return Ok(false);
        }
        // It must not be ahead of the results that it speaks of.
        self.sync()?;
        let seq = self.stored.saturating_sub(self.numbering.base);
        let watermark = SavedWatermark { epoch: self.numbering.epoch, seq };
        write_json(&self.folder, STORED_FILE, &watermark).map_err(self.io("write the watermark"))?;
        self.stored_saved = self.stored;
        Ok(true)
    }

    /// The result of the number `seq` will never be sent: go on as if it were not here. It is counted as dropped.
    pub fn give_up(&mut self, seq: u64) {
        let index = self.numbering.base.saturating_add(seq);
        if index > self.stored && self.given_up.insert(index) {
            self.dropped += 1;
        }
        while self.given_up.len() > GIVEN_UP {
            self.given_up.pop_first();
        }
    }

    /// Drop segments whose newest result is older than the limit.
    pub fn expire(&mut self, now_ms: u64) {
        let limit = millis(self.limits.max_age);
        let old = |segment: &Segment| now_ms.saturating_sub(segment.newest_ms) > limit;
        if self.segments.back().is_some_and(|active| active.bytes > 0 && old(active))
            && self.roll(now_ms).is_err()
        {
            return;
        }
        while self.segments.len() > 1 && self.segments.front().is_some_and(old) {
            self.drop_oldest();
        }
    }

    /// Begin a new epoch: what is here and not known to be stored is numbered from 1.
    ///
    /// # Errors
    /// [`SpoolError`]; the numbering stays as it is then.
    pub fn new_epoch(&mut self, now_ms: u64) -> Result<(), SpoolError> {
        let base = self.oldest_index() - 1;
        let numbering = Numbering { epoch: now_ms.max(self.numbering.epoch + 1), base };
        write_json(&self.folder, EPOCH_FILE, &numbering).map_err(self.io("write the epoch"))?;
        self.numbering = numbering;
        self.stored = base;
        self.stored_saved = base;
        self.given_up.clear();
        Ok(())
    }

    fn oldest_index(&self) -> u64 {
        let first =
            self.segments.iter().find(|segment| segment.end > segment.first).map(|segment| segment.first);
        first.unwrap_or(self.next).max(self.stored + 1)
    }

    fn largest_segment(&self) -> u64 {
        (self.limits.max_bytes / 8).clamp(1, LARGEST_SEGMENT)
    }

    fn make_room(&mut self, now_ms: u64, length: u64) -> Result<(), SpoolError> {
        let largest = self.largest_segment();
        let full = |active: &Segment| active.bytes > 0 && active.bytes + length > largest;
        if self.broken || self.segments.back().is_some_and(full) {
            self.roll(now_ms)?;
        }
        while self.segments.len() > 1 && self.bytes() + length > self.limits.max_bytes {
            self.drop_oldest();
        }
        Ok(())
    }

    /// Begin a new active segment.
    fn roll(&mut self, now_ms: u64) -> Result<(), SpoolError> {
        self.sync()?;
        if self.broken
            && let Some(empty) = self.segments.back().filter(|active| active.end == active.first)
        {
            // The next segment has the same name.
            self.active.set_len(empty.bytes).map_err(self.io("repair a segment"))?;
            self.broken = false;
            return Ok(());
        }
        self.active = segment::open(&self.folder, self.next).map_err(self.io("begin a segment"))?;
        self.segments.push_back(Segment { first: self.next, end: self.next, bytes: 0, newest_ms: now_ms });
        self.broken = false;
        (self.unsynced, self.unsynced_name) = (true, true);
        Ok(())
    }

    fn drop_oldest(&mut self) {
        let Some(segment) = self.segments.pop_front() else { return };
        self.dropped += segment.end.saturating_sub(segment.first.max(self.stored + 1));
        if let Err(error) = fs::remove_file(segment::path(&self.folder, segment.first))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a segment of the spool could not be removed");
        }
    }

    fn read_segment(
        &mut self,
        segment: Segment,
        index: &mut u64,
        (count, bytes): (usize, &mut usize),
        found: &mut Vec<Entry>,
    ) -> io::Result<()> {
        let here = |cursor: &Cursor| cursor.segment == segment.first && cursor.index == *index;
        // The cursor that is here goes on; else the one that was used longer ago is given up.
        if !self.cursors.first().is_some_and(|cursor| cursor.as_ref().is_some_and(here)) {
            self.cursors.reverse();
        }
        let [used, _] = &mut self.cursors;
        let mut offset = used.filter(here).map_or(0, |cursor| cursor.offset);
        let file = File::open(segment::path(&self.folder, segment.first))?;
        let (mut most, mut chunk) = (CHUNK, Vec::new());
        while found.len() < count && *bytes < READ_BYTES && offset < segment.bytes {
            let length = usize::try_from(segment.bytes - offset).unwrap_or(most).min(most);
            chunk.resize(length, 0);
            file.read_exact_at(&mut chunk, offset)?;
            let mut rest = chunk.as_slice();
            while found.len() < count
                && *bytes < READ_BYTES
                && let Parsed::Record(record, length) = record::parse(rest)
            {
                if record.index >= *index {
                    *index = record.index + 1;
                    if !self.given_up.contains(&record.index) {
                        *bytes += record.payload.len();
                        found.push(Entry {
                            seq: record.index - self.numbering.base,
                            at_ms: record.at_ms,
                            payload: record.payload.to_vec(),
                        });
                    }
                }
                offset += length as u64;
                rest = rest.get(length..).unwrap_or_default();
            }
            if rest.len() == chunk.len() {
                if most == LARGEST_CHUNK {
                    break;
                }
                most = LARGEST_CHUNK;
            }
        }
        *used = Some(Cursor { segment: segment.first, offset, index: *index });
        Ok(())
    }

    fn io(&self, what: &'static str) -> impl Fn(io::Error) -> SpoolError + use<> {
        let path = self.folder.clone();
        move |source| SpoolError::Io { what, path: path.clone(), source }
    }
}

fn no_segment() -> io::Error {
    io::Error::other("there is no active segment")
}

/// An unreadable file is as good as none: numbers are begun anew, watermarks are asked for.
fn read_json<T: DeserializeOwned>(folder: &Path, file: &str) -> io::Result<Option<T>> {
    match fs::read(folder.join(file)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_json<T: Serialize>(folder: &Path, file: &str, value: &T) -> io::Result<()> {
    write_private(&folder.join(file), &serde_json::to_vec(value)?)
}

#[cfg(test)]
mod tests;
