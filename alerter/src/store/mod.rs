//! The alerter's memory, in sled: alerts, what is to be published, what became of each notification, and the last
//! resolved alerts. One transaction holds a change and all that follows from it (G2, G5).
//!
//! Two things about sled 0.34 (both measured): its `flush` does not sync on Linux, so each durable write ends with an
//! `fdatasync` of the file `db`; and a torn `snap.*.generating`, which a crash may leave, keeps it from opening, so such
//! files are removed first. The folder's lock keeps any other process out.
//!
//! All calls block: they belong on a blocking thread.

mod record;

use std::{
    fs::File,
    io,
    ops::Bound,
    path::{Path, PathBuf},
};

use protocol::alert::{Alert, AlertState};
use serde::{Serialize, de::DeserializeOwned};
use service_kit::files::{DataFolder, DataFolderError, sync_folder};
use sled::{
    Transactional, Tree,
    transaction::{ConflictableTransactionError, TransactionError},
};

pub use record::{Delivery, OutboxRecord};

use crate::core::{AlertKey, Draft, Tracker};

/// Resolved alerts that are kept to be listed.
pub const RESOLVED: usize = 1_000;
/// Format of the data. A newer one is refused.
const FORMAT: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    #[error("cannot use the alerts in {path}: check that the disk has room and can be written")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the alerts in {path}: check that the disk has room and can be written")]
    Sled {
        path: PathBuf,
        #[source]
        source: sled::Error,
    },
    #[error(
        "the alerts in {path} have format {found}, newer than {FORMAT}: use the newer version that wrote them"
    )]
    Newer { path: PathBuf, found: u8 },
    #[error(
        "{tree} in {path} holds a record that cannot be read: {reason}; restore the folder from a backup"
    )]
    Damaged { path: PathBuf, tree: &'static str, reason: String },
    #[error("a record cannot be written: {0}")]
    Encode(#[from] serde_json::Error),
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    db: sled::Db,
    /// sled's data file, for `fdatasync`.
    file: File,
    trackers: Tree,
    outbox: Tree,
    deliveries: Tree,
    resolved: Tree,
    _folder: DataFolder,
}

impl Store {
    /// # Errors
    /// [`StoreError`] when another process has the folder, it cannot be written, or a newer version wrote it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = DataFolder::open(path)?;
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let sled = |source| StoreError::Sled { path: path.to_owned(), source };
        let data = path.join("sled");
        remove_torn_snapshots(&data).map_err(io)?;
        // Nothing is flushed behind our back: what is durable is decided here.
        let config = sled::Config::new().path(&data).flush_every_ms(None).cache_capacity(32 * 1024 * 1024);
        let db = config.open().map_err(sled)?;
        let file = File::open(data.join("db")).map_err(io)?;
        sync_folder(&data).map_err(io)?;
        sync_folder(path).map_err(io)?;
        let tree = |name: &str| db.open_tree(name).map_err(sled);
        let (trackers, outbox) = (tree("trackers")?, tree("outbox")?);
        let (deliveries, resolved) = (tree("deliveries")?, tree("resolved")?);
        let path = path.to_owned();
        let store = Self { path, db, file, trackers, outbox, deliveries, resolved, _folder: folder };
        match store.db.get("format").map_err(sled)?.as_deref() {
            None => {
                store.db.insert("format", &[FORMAT]).map_err(sled)?;
                store.sync()?;
            }
            Some([found]) if *found <= FORMAT => {}
            Some(found) => {
                let found = found.first().copied().unwrap_or(u8::MAX);
                return Err(StoreError::Newer { path: store.path.clone(), found });
            }
        }
        Ok(store)
    }

    /// All trackers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn trackers(&self) -> Result<Vec<(AlertKey, Tracker)>, StoreError> {
        let tracker = |entry: Result<(sled::IVec, sled::IVec), sled::Error>| {
            let (key, value) = entry.map_err(|error| self.sled(error))?;
            let key =
                record::key_from(&key).ok_or_else(|| self.damaged("trackers", "a key that is no alert"))?;
            Ok((key, self.decode("trackers", &value)?))
        };
        self.trackers.iter().map(tracker).collect()
    }

    /// Make a draft durable: states, outbox and accounts of notifications at once, or nothing of it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has been sent, and the same draft may be written again.
    pub fn commit(&self, draft: &Draft) -> Result<(), StoreError> {
        let mut trackers = sled::Batch::default();
        for (key, tracker) in &draft.changed {
            trackers.insert(record::key_of(key).into_bytes(), protocol::encode(tracker)?);
        }
        let (mut outbox, mut deliveries) = (sled::Batch::default(), sled::Batch::default());
        let mut resolved = sled::Batch::default();
        for transition in &draft.transitions {
            let entry = OutboxRecord::from(transition);
            // Grows over restarts too.
            let number = self.db.generate_id().map_err(|error| self.sled(error))?;
            outbox.insert(&number.to_be_bytes(), protocol::encode(&entry)?);
            for notification in entry.notifications() {
                let id = notification.message_id();
                let waiting = Delivery::Waiting { notification, stream: None };
                deliveries.insert(id.into_bytes(), protocol::encode(&waiting)?);
            }
            // What ended before it fired was never a worry.
            let alert = &transition.alert;
            if draft.ended.contains(&alert.id) && alert.state == AlertState::Resolved {
                resolved.insert(resolved_key(alert), protocol::encode(alert)?);
            }
        }
        let trees = (&self.trackers, &self.outbox, &self.deliveries, &self.resolved);
        trees
            .transaction(|(in_trackers, in_outbox, in_deliveries, in_resolved)| {
                in_trackers.apply_batch(&trackers)?;
                in_outbox.apply_batch(&outbox)?;
                in_deliveries.apply_batch(&deliveries)?;
                in_resolved.apply_batch(&resolved)?;
                Ok::<(), ConflictableTransactionError<StoreError>>(())
            })
            .map_err(|error| self.transaction(error))?;
        self.sync()
    }

    /// The oldest transitions that are not published, with their numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unpublished(&self, limit: usize) -> Result<Vec<(u64, OutboxRecord)>, StoreError> {
        let record = |entry: Result<(sled::IVec, sled::IVec), sled::Error>| {
            let (key, value) = entry.map_err(|error| self.sled(error))?;
            let number = key.as_ref().try_into().map(u64::from_be_bytes);
            let number = number.map_err(|_| self.damaged("outbox", "a key that is no number"))?;
            Ok((number, self.decode("outbox", &value)?))
        };
        self.outbox.iter().take(limit).map(record).collect()
    }

    /// Number of transitions that are not published.
    #[must_use]
    pub fn unpublished_len(&self) -> usize {
        self.outbox.len()
    }

    /// Transitions that the broker has stored, and the place of each notification in the stream NOTIFY.
    ///
    /// # Errors
    /// [`StoreError`]; they would be published again, with the same ids.
    pub fn published(&self, numbers: &[u64], places: &[(String, u64)]) -> Result<(), StoreError> {
        let trees = (&self.outbox, &self.deliveries);
        trees
            .transaction(|(outbox, deliveries)| {
                for number in numbers {
                    outbox.remove(&number.to_be_bytes())?;
                }
                for (id, place) in places {
                    let Some(value) = deliveries.get(id.as_bytes())? else { continue };
                    let known = self.decode("deliveries", &value);
                    // It may have been delivered meanwhile.
                    if let Delivery::Waiting { notification, .. } =
                        known.map_err(ConflictableTransactionError::Abort)?
                    {
                        let placed = Delivery::Waiting { notification, stream: Some(*place) };
                        let value = protocol::encode(&placed)
                            .map_err(|error| ConflictableTransactionError::Abort(error.into()))?;
                        deliveries.insert(id.as_bytes(), value)?;
                    }
                }
                Ok(())
            })
            .map_err(|error| self.transaction(error))?;
        self.sync()
    }

    /// What became of a notification. `None`: it is not of this store, or long over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn delivery(&self, id: &str) -> Result<Option<Delivery>, StoreError> {
        let value = self.deliveries.get(id).map_err(|error| self.sled(error))?;
        value.map(|value| self.decode("deliveries", &value)).transpose()
    }

    /// A notification is delivered or given up; durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn settle(&self, id: &str, outcome: &Delivery) -> Result<(), StoreError> {
        self.deliveries.insert(id, protocol::encode(outcome)?).map_err(|error| self.sled(error))?;
        self.sync()
    }

    /// Notifications with ids above `after` that are in the stream and not settled: id, notification, place.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn waiting(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, protocol::alert::Notification, u64)>, StoreError> {
        let mut waiting = Vec::new();
        let above = (Bound::Excluded(after.as_bytes()), Bound::Unbounded);
        for entry in self.deliveries.range::<&[u8], _>(above) {
            let (key, value) = entry.map_err(|error| self.sled(error))?;
            let delivery: Delivery = self.decode("deliveries", &value)?;
            if let Delivery::Waiting { notification, stream: Some(place) } = delivery {
                waiting.push((String::from_utf8_lossy(&key).into_owned(), notification, place));
            }
            if waiting.len() == limit {
                break;
            }
        }
        Ok(waiting)
    }

    /// The last resolved alerts, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn resolved(&self) -> Result<Vec<Alert>, StoreError> {
        let alert = |entry: Result<(sled::IVec, sled::IVec), sled::Error>| {
            self.decode("resolved", &entry.map_err(|error| self.sled(error))?.1)
        };
        self.resolved.iter().rev().take(RESOLVED).map(alert).collect()
    }

    /// Forget `trackers`, notifications settled before `before_ms`, and resolved alerts beyond the last
    /// [`RESOLVED`]. Nothing depends on when this becomes durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget(&self, trackers: &[AlertKey], before_ms: u64) -> Result<(), StoreError> {
        let sled = |error| self.sled(error);
        for key in trackers {
            self.trackers.remove(record::key_of(key)).map_err(sled)?;
        }
        for entry in self.deliveries.iter() {
            let (key, value) = entry.map_err(sled)?;
            match self.decode("deliveries", &value)? {
                Delivery::Delivered { at_ms } | Delivery::GaveUp { at_ms, .. } if at_ms < before_ms => {
                    self.deliveries.remove(key).map_err(sled)?;
                }
                Delivery::Waiting { .. } | Delivery::Delivered { .. } | Delivery::GaveUp { .. } => {}
            }
        }
        for entry in self.resolved.iter().rev().skip(RESOLVED) {
            self.resolved.remove(entry.map_err(sled)?.0).map_err(sled)?;
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| self.sled(error))?;
        self.file.sync_data().map_err(|source| StoreError::Io { path: self.path.clone(), source })
    }

    fn decode<T: DeserializeOwned + Serialize>(
        &self,
        tree: &'static str,
        value: &[u8],
    ) -> Result<T, StoreError> {
        serde_json::from_slice(value).map_err(|error| self.damaged(tree, &error.to_string()))
    }

    fn damaged(&self, tree: &'static str, reason: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), tree, reason: reason.to_owned() }
    }

    fn sled(&self, source: sled::Error) -> StoreError {
        StoreError::Sled { path: self.path.clone(), source }
    }

    fn transaction(&self, error: TransactionError<StoreError>) -> StoreError {
        match error {
            TransactionError::Abort(error) => error,
            TransactionError::Storage(error) => self.sled(error),
        }
    }
}

/// By time of the end, then id.
fn resolved_key(alert: &Alert) -> Vec<u8> {
    [&alert.at_ms.to_be_bytes(), alert.id.as_bytes()].concat()
}

fn remove_torn_snapshots(data: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
