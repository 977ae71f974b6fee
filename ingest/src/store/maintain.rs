//! Moving results along: from the hot log into segments, from small segments into large ones, into roll-ups when their
//! day is over, and away.
//!
//! Each move is the same: new files are written and synced, then one atomic write to the database lists them and
//! takes off the list what they replace ([`Fjall::switch`]), then the files replaced are removed. A crash before the
//! write leaves files that nobody lists; one after it leaves files that nobody lists any more. Both are removed when
//! the store is opened, and the move is done again, or is done.

mod expire;
mod free;
mod merge;
pub(super) mod roll;
mod seal;
pub(super) mod stream;

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use fjall::{PersistMode, UserKey, UserValue};
use protocol::{AgentId, CheckName, CheckResult};
use service_kit::files;

use super::{
    StoreError,
    block::{self, BlockError, MAX_RESULTS},
    engine::{Fjall, Open},
    segment::{self, Entry, Partition, Segment, SegmentMeta, SegmentWriter},
};

/// Output in one block, about: whoever reads a sample should not unpack megabytes of text.
const BLOCK_TEXT: usize = 1024 * 1024;
/// Memory that the results of one block take once they are decoded, about. A merge has a block of each segment in hand.
const BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// Segments that are being written, one for each partition.
struct Writers<'a> {
    store: &'a Fjall,
    open: &'a Open,
    all: BTreeMap<Partition, (u64, SegmentWriter)>,
    /// When the youngest result of each partition was stored.
    stored_ms: BTreeMap<Partition, u64>,
}

/// What one switch changes.
#[derive(Default)]
struct Switch {
    new: Vec<(u64, SegmentMeta)>,
    /// Segments that stay, and what the list says of them from now on.
    changed: Vec<(u64, SegmentMeta)>,
    old: Vec<u64>,
    rows: Vec<UserKey>,
    set_aside: Vec<(UserKey, UserValue)>,
}

impl<'a> Writers<'a> {
    fn new(store: &'a Fjall, open: &'a Open) -> Self {
        Self { store, open, all: BTreeMap::new(), stored_ms: BTreeMap::new() }
    }

    fn add(
        &mut self,
        partition: Partition,
        series: u32,
        span: (u64, u64),
        (count, block): (usize, &[u8]),
    ) -> Result<(), StoreError> {
        let failed = self.store.failed_file("write");
        if !self.all.contains_key(&partition) {
            let number = self.open.next_segment.fetch_add(1, Ordering::Relaxed);
            let writer = SegmentWriter::create(&self.store.blocks(), number, partition).map_err(&failed)?;
            self.all.insert(partition, (number, writer));
        }
        let Some((_, writer)) = self.all.get_mut(&partition) else { return Ok(()) };
        writer.add(series, span, count as u64, block).map_err(failed)
    }

    /// Results of one check in order of time, as `next` gives them: no more than a block of them is in hand.
    fn add_results(
        &mut self,
        partition: Partition,
        series: u32,
        mut next: impl FnMut() -> Result<Option<CheckResult>, StoreError>,
    ) -> Result<(), StoreError> {
        let (mut block, mut text, mut bytes) = (Vec::new(), 0usize, 0usize);
        while let Some(result) = next()? {
            text = text.saturating_add(result.output.len());
            bytes = bytes.saturating_add(stream::size(&result));
            if block.len() == MAX_RESULTS || text > BLOCK_TEXT || bytes > BLOCK_BYTES {
                self.add_block(partition, series, &mut block)?;
                (text, bytes) = (result.output.len(), stream::size(&result));
            }
            block.push(result);
        }
        self.add_block(partition, series, &mut block)
    }

    fn add_block(
        &mut self,
        partition: Partition,
        series: u32,
        results: &mut Vec<CheckResult>,
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (results.first(), results.last()) else { return Ok(()) };
        let span = (first.at_ms, last.at_ms);
        let block = block::encode(results).map_err(|error| self.store.damaged_results(&error))?;
        self.add(partition, series, span, (results.len(), &block))?;
        results.clear();
        Ok(())
    }

    /// A result of this partition was stored at this time.
    fn stored(&mut self, partition: Partition, at_ms: u64) {
        let youngest = self.stored_ms.entry(partition).or_default();
        *youngest = at_ms.max(*youngest);
    }

    /// Sync all files. If that fails, or filling them did, they are removed: nobody lists them, and on a disk that is
    /// full each further try would leave more of them.
    fn finish(self, filled: Result<(), StoreError>) -> Result<Vec<(u64, SegmentMeta)>, StoreError> {
        let store = self.store;
        let numbers: Vec<u64> = self.all.values().map(|(number, _)| *number).collect();
        filled.and_then(|()| self.sync()).inspect_err(|error| store.discard(&numbers, error))
    }

    fn sync(self) -> Result<Vec<(u64, SegmentMeta)>, StoreError> {
        let failed = self.store.failed_file("write");
        let mut done = Vec::new();
        for (partition, (number, writer)) in self.all {
            let stored_ms = self.stored_ms.get(&partition).copied().unwrap_or_default();
            done.push((number, writer.finish(stored_ms).map_err(&failed)?));
            self.store.step()?;
        }
        files::sync_folder(&self.store.blocks()).map_err(&failed)?;
        Ok(done)
    }
}

impl Fjall {
    fn failed_file(&self, what: &'static str) -> impl Fn(io::Error) -> StoreError + use<> {
        let folder = self.blocks();
        move |error| StoreError::Engine { what, folder: folder.clone(), source: Box::new(error) }
    }

    fn damaged_results(&self, error: &BlockError) -> StoreError {
        let reason = error.to_string();
        StoreError::Damaged { what: "a block to be written", folder: self.blocks(), reason }
    }

    /// Remove files that were never listed.
    fn discard(&self, numbers: &[u64], error: &StoreError) {
        // In tests this is the end of the process: a crash leaves them.
        if matches!(error, StoreError::Closed { .. }) {
            return;
        }
        for number in numbers {
            // What cannot be removed now goes when the store is opened.
            let _stays = fs::remove_file(segment::path(&self.blocks(), *number));
        }
    }

    /// Make the new segments count and what they replace not, at once.
    fn switch(&self, open: &Open, switch: Switch) -> Result<(), StoreError> {
        let mut segments = Vec::new();
        for (number, meta) in &switch.new {
            let segment = Segment::open(&self.blocks(), *number, meta.clone());
            let segment = segment.map_err(self.failed_file("read")).inspect_err(|error| {
                let numbers: Vec<u64> = switch.new.iter().map(|(number, _)| *number).collect();
                self.discard(&numbers, error);
            });
            segments.push(Arc::new(segment?));
        }
        for (number, meta) in &switch.changed {
            let segment = Segment::open(&self.blocks(), *number, meta.clone());
            segments.push(Arc::new(segment.map_err(self.failed_file("read"))?));
        }
        self.step()?;
        crate::fail_point("ingest_seal_before_switch");
        let mut batch = open.database.batch().durability(Some(PersistMode::SyncAll));
        for (number, meta) in switch.new.iter().chain(&switch.changed) {
            let meta = self.encode("the list of segments", meta)?;
            batch.insert(&open.segments, number.to_be_bytes(), meta);
        }
        for number in &switch.old {
            batch.remove(&open.segments, number.to_be_bytes());
        }
        let set_aside = switch.set_aside.iter().map(|(key, _)| key);
        let gone: Vec<UserKey> = switch.rows.iter().chain(set_aside).cloned().collect();
        for key in switch.rows {
            batch.remove(&open.rows, key);
        }
        for (key, row) in switch.set_aside {
            batch.insert(&open.set_aside, key.clone(), row);
            batch.remove(&open.rows, key);
        }
        {
            // No reader sees one without the other.
            let mut sealed = open.sealed.write().unwrap_or_else(PoisonError::into_inner);
            batch.commit().map_err(self.failed("write"))?;
            let replaced = |number| segments.iter().any(|segment: &Arc<Segment>| segment.number == number);
            sealed.retain(|segment| !switch.old.contains(&segment.number) && !replaced(segment.number));
            sealed.extend(segments);
            sealed.sort_by_key(|segment| segment.number);
            open.head().remove(&gone);
        }
        self.step()?;
        crate::fail_point("ingest_seal_after_switch");
        for number in switch.old {
            // What cannot be removed now goes when the store is opened.
            if let Err(error) = fs::remove_file(segment::path(&self.blocks(), number)) {
                tracing::warn!(folder = %self.blocks().display(), number, %error, "a file that is no longer needed stays");
            }
        }
        Ok(())
    }

    /// Open the segments that are listed; remove files that are not, set aside those that are damaged.
    pub(super) fn open_segments(&self, open: &Open) -> Result<(), StoreError> {
        let (failed, failed_file) = (self.failed("read"), self.failed_file("read"));
        fs::create_dir_all(self.blocks()).map_err(&failed_file)?;
        let (mut sealed, mut listed, mut next) = (Vec::new(), HashSet::new(), 0);
        for item in open.segments.iter() {
            let (key, value) = item.into_inner().map_err(&failed)?;
            let damaged = |reason: String| StoreError::Damaged {
                what: "the list of segments",
                folder: self.path(),
                reason,
            };
            let number =
                super::engine::number(&key, 0).ok_or_else(|| damaged("a number is cut off".into()))?;
            let meta: SegmentMeta =
                postcard::from_bytes(&value).map_err(|error| damaged(error.to_string()))?;
            next = next.max(number.saturating_add(1));
            match Segment::open(&self.blocks(), number, meta) {
                Ok(segment) => {
                    listed.insert(segment::path(&self.blocks(), number));
                    sealed.push(Arc::new(segment));
                }
                Err(error) if is_damage(&error) => self.set_aside(open, number, &error)?,
                Err(error) => return Err(failed_file(error)),
            }
        }
        for file in fs::read_dir(self.blocks()).map_err(&failed_file)? {
            let path = file.map_err(&failed_file)?.path();
            if path.extension().is_some_and(|extension| extension == "seg") && !listed.contains(&path) {
                fs::remove_file(&path).map_err(&failed_file)?;
            }
        }
        sealed.sort_by_key(|segment| segment.number);
        open.next_segment.store(next, Ordering::Relaxed);
        *open.sealed.write().unwrap_or_else(PoisonError::into_inner) = sealed;
        Ok(())
    }

    fn set_aside(&self, open: &Open, number: u64, error: &io::Error) -> Result<(), StoreError> {
        let path = segment::path(&self.blocks(), number);
        self.damaged.inc();
        tracing::error!(file = %path.display(), %error, "a segment of the store is damaged: it is set aside as .damaged, its results are missing");
        match fs::rename(&path, path.with_extension("damaged")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed_file("set aside")(error));
            }
            _ => {}
        }
        let mut batch = open.database.batch().durability(Some(PersistMode::SyncAll));
        batch.remove(&open.segments, number.to_be_bytes());
        batch.commit().map_err(self.failed("write"))
    }

    /// Agent and check of a number; a number without is damage, and told.
    fn name_of(&self, open: &Open, series: u32) -> Option<(AgentId, CheckName)> {
        let name = open.catalog().name(series).cloned();
        if name.is_none() {
            self.damaged.inc();
            tracing::error!(series, "a block belongs to a series that is not listed and was skipped");
        }
        name
    }

    /// Tests look at what a merge has in memory.
    #[cfg(test)]
    fn took_in_hand(&self, bytes: usize) {
        self.most_in_hand.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    fn took_in_hand(&self, _bytes: usize) {}

    /// In tests, the end of the process: nothing after this step is done.
    #[cfg(test)]
    fn step(&self) -> Result<(), StoreError> {
        if self.dies_after.load(Ordering::Relaxed) == 0 {
            return Err(StoreError::Closed { folder: self.path() });
        }
        self.dies_after.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    #[cfg(not(test))]
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)] // in tests it fails
    fn step(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | NotFound | UnexpectedEof)
}

/// The blocks of several segments, series by series in order of their numbers.
fn by_series(segments: &[Arc<Segment>]) -> impl Iterator<Item = (u32, Vec<(&Segment, &[Entry])>)> {
    let mut rests: Vec<(&Segment, &[Entry])> =
        segments.iter().map(|segment| (segment.as_ref(), segment.entries())).collect();
    std::iter::from_fn(move || {
        let series = rests.iter().filter_map(|(_, rest)| Some(rest.first()?.series)).min()?;
        let mut blocks = Vec::new();
        for (segment, rest) in &mut rests {
            let count = rest.iter().take_while(|entry| entry.series == series).count();
            let (own, after) = rest.split_at(count);
            if !own.is_empty() {
                blocks.push((*segment, own));
            }
            *rest = after;
        }
        Some((series, blocks))
    })
}

#[cfg(test)]
mod tests;
