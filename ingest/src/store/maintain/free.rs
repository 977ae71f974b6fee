//! Space that sealed rows took in the database.
//!
//! A removed row goes from the disk only when the engine writes its tables again, which by itself it does after
//! hundreds of megabytes. And a journal goes only when every keyspace that wrote to it has written its table, which
//! the small ones would not do for days.

use std::time::{Duration, Instant};

use crate::store::engine::{Fjall, Open};

/// A table is written in well under this.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

impl Fjall {
    /// Free what was sealed. Nothing depends on it: what fails is logged, and done after the next sealing.
    pub(super) fn free_rows(&self, open: &Open) {
        if let Err(error) = self.try_free_rows(open) {
            let error = service_kit::report(&error);
            tracing::warn!(folder = %self.path().display(), error, "space of sealed results was not freed yet");
        }
    }

    fn try_free_rows(&self, open: &Open) -> Result<(), fjall::Error> {
        open.rows.rotate_memtable()?;
        // The journal in use counts as one.
        if open.database.journal_count() > 1 {
            for keyspace in open.keyspaces() {
                keyspace.rotate_memtable()?;
            }
        }
        // The engine's own thread writes the tables; should it have died, the next commit says so.
        let begun = Instant::now();
        while open.rows.sealed_memtable_count() > 0 && begun.elapsed() < LIMIT {
            std::thread::sleep(POLL);
        }
        open.rows.major_compact()
    }
}
