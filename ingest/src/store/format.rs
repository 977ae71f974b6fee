//! Formats of a store, and how an older one becomes the present one when it is opened.
//!
//! | format | since then |
//! |---|---|
//! | 2 | the series are listed |
//! | 3 | the list of segments says which of them are rolled up; columns of `pco` have no head of their own, times may be a grid; roll-ups of an hour have sketches |
//!
//! Blocks are never written again for a new format: each column says itself what it is.

use fjall::PersistMode;
use protocol::limits;
use serde::Deserialize;

use super::{
    StoreError,
    catalog::{Additions, Catalog},
    engine::{Fjall, Open, series_key},
    row::{self, Row, RowError},
    segment::{Partition, SegmentMeta},
};

const FORMAT: u8 = 3;

/// As the list of segments had it in format 2.
#[derive(Deserialize)]
struct SegmentMeta2 {
    partition: Partition,
    min_at_ms: u64,
    max_at_ms: u64,
    stored_ms: u64,
    count: u64,
    bytes: u64,
}

impl Fjall {
    /// Make the store one of the present format, in one write. A crash before it leaves the old one.
    pub(super) fn upgrade(&self, open: &Open) -> Result<(), StoreError> {
        let found = match open.meta.get("format").map_err(self.failed("open"))?.as_deref() {
            None => None,
            Some([found]) if *found > FORMAT => {
                return Err(StoreError::Newer { folder: self.path(), found: *found, known: FORMAT });
            }
            Some([found]) => Some(*found),
            Some(_) => {
                let reason = "it has not one byte".into();
                return Err(StoreError::Damaged { what: "the format number", folder: self.path(), reason });
            }
        };
        if found == Some(FORMAT) {
            return Ok(());
        }
        let mut batch = open.database.batch().durability(Some(PersistMode::SyncAll));
        if found == Some(1) {
            self.list_series(open, &mut batch)?;
        }
        if found == Some(2) {
            self.list_rolled_up(open, &mut batch)?;
        }
        batch.insert(&open.meta, "format", [FORMAT]);
        batch.commit().map_err(self.failed("write"))?;
        if let Some(from) = found {
            tracing::info!(folder = %self.path().display(), from, to = FORMAT, "the store is of a new format now");
        }
        Ok(())
    }

    /// Format 1 had neither series nor segments.
    fn list_series(&self, open: &Open, batch: &mut fjall::OwnedWriteBatch) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let none = Catalog::default();
        let mut additions = Additions::new(&none);
        for item in open.rows.iter() {
            let (key, value) = item.into_inner().map_err(&failed)?;
            let read = Row::open(&value).and_then(|row| {
                for inside in row::results(&row.unpack()?)? {
                    let result = protocol::decode(inside.json, limits::RESULT);
                    additions.see(&result.map_err(|_| RowError::Part("result"))?);
                }
                Ok(())
            });
            if let Err(error) = read {
                self.damaged_row(&key, &error);
            }
        }
        for (name, entry) in additions.into_changed() {
            batch.insert(&open.series, series_key(&name), self.encode("the list of series", &entry)?);
        }
        Ok(())
    }

    /// Format 2 rolled results up only when they went.
    fn list_rolled_up(&self, open: &Open, batch: &mut fjall::OwnedWriteBatch) -> Result<(), StoreError> {
        let failed = self.failed("read");
        for item in open.segments.iter() {
            let (key, value) = item.into_inner().map_err(&failed)?;
            let old: SegmentMeta2 = postcard::from_bytes(&value).map_err(|error| StoreError::Damaged {
                what: "the list of segments",
                folder: self.path(),
                reason: error.to_string(),
            })?;
            let SegmentMeta2 { partition, min_at_ms, max_at_ms, stored_ms, count, bytes } = old;
            let meta =
                SegmentMeta { partition, min_at_ms, max_at_ms, stored_ms, count, bytes, rolled_up: false };
            batch.insert(&open.segments, key, self.encode("the list of segments", &meta)?);
        }
        Ok(())
    }
}
