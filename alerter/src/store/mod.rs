//! The alerter's memory, in sled: alerts, what is to be published, what became of each notification, and the last
//! resolved alerts. One transaction holds a change and all that follows from it (G2, G5).
//!
//! All calls block: they belong on a blocking thread.

mod archive;
mod disk;
mod letters;
mod record;

use std::{ops::Bound, path::Path};

use protocol::{
    SilenceName,
    alert::{Alert, AlertState, Notification},
    operate::Silence,
};
use sled::{Batch, IVec, Transactional, transaction::ConflictableTransactionError};

use crate::core::{AlertKey, Draft, Tracker};
pub use archive::Entry;
pub use disk::StoreError;
use disk::{Disk, Failure, decode};
pub use letters::Requeue;
pub use record::{Delivery, Disabled, OutboxRecord, ResolvedRecord, Settlement, notification_id};

/// Resolved alerts that are kept to be listed.
pub const RESOLVED: usize = 1_000;
/// Most notifications of one alert that are listed.
const DELIVERIES: usize = 200;

/// The store of one alerter.
#[derive(Debug)]
pub struct Store(Disk);

impl Store {
    /// # Errors
    /// [`StoreError`] when another process has the folder, it cannot be written, or a newer version wrote it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self(Disk::open(path)?))
    }

    /// All trackers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn trackers(&self) -> Result<Vec<(AlertKey, Tracker)>, StoreError> {
        let tracker = |entry: sled::Result<(IVec, IVec)>| {
            let (key, value) = entry?;
            let key = record::key_from(&key)
                .ok_or_else(|| Failure::Damaged("trackers", "a key that is no alert".to_owned()))?;
            Ok((key, decode("trackers", &value)?))
        };
        self.0.with(|trees| trees.trackers.iter().map(tracker).collect())
    }

    /// Make a draft durable: states, outbox and accounts of notifications at once, or nothing of it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has been sent, and the same draft may be written again.
    pub fn commit(&self, draft: &Draft) -> Result<(), StoreError> {
        self.0.with(|trees| {
            let (mut trackers, mut outbox) = (Batch::default(), Batch::default());
            let (mut deliveries, mut resolved) = (Batch::default(), Batch::default());
            for (key, tracker) in &draft.changed {
                trackers.insert(record::key_of(key).into_bytes(), protocol::encode(tracker)?);
            }
            for transition in &draft.transitions {
                let entry = OutboxRecord::from(transition);
                // Grows over restarts too.
                let number = trees.db.generate_id()?;
                outbox.insert(&number.to_be_bytes(), protocol::encode(&entry)?);
                for notification in entry.notifications() {
                    let id = notification.message_id();
                    let waiting = Delivery::Waiting { notification: Box::new(notification), stream: None };
                    deliveries.insert(id.into_bytes(), protocol::encode(&waiting)?);
                }
                // What ended before it fired was never a worry.
                let alert = &transition.alert;
                if alert.state == AlertState::Resolved
                    && let Some(journal) = draft.ended.get(&alert.id)
                {
                    let record = ResolvedRecord { alert: alert.clone(), journal: journal.clone() };
                    resolved.insert(resolved_key(alert), protocol::encode(&record)?);
                }
            }
            let all = (&trees.trackers, &trees.outbox, &trees.deliveries, &trees.resolved);
            all.transaction(|(in_trackers, in_outbox, in_deliveries, in_resolved)| {
                in_trackers.apply_batch(&trackers)?;
                in_outbox.apply_batch(&outbox)?;
                in_deliveries.apply_batch(&deliveries)?;
                in_resolved.apply_batch(&resolved)?;
                Ok::<(), ConflictableTransactionError<Failure>>(())
            })?;
            trees.sync()
        })
    }

    /// The oldest transitions that are not published, with their numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unpublished(&self, limit: usize) -> Result<Vec<(u64, OutboxRecord)>, StoreError> {
        let record = |entry: sled::Result<(IVec, IVec)>| {
            let (key, value) = entry?;
            let number = key.as_ref().try_into().map(u64::from_be_bytes);
            let number =
                number.map_err(|_| Failure::Damaged("outbox", "a key that is no number".to_owned()))?;
            Ok((number, decode("outbox", &value)?))
        };
        self.0.with(|trees| trees.outbox.iter().take(limit).map(record).collect())
    }

    /// Number of transitions that are not published.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unpublished_len(&self) -> Result<usize, StoreError> {
        self.0.with(|trees| Ok(trees.outbox.len()))
    }

    /// Transitions that the broker has stored, and the place of each notification in the stream NOTIFY.
    ///
    /// # Errors
    /// [`StoreError`]; they would be published again, with the same ids.
    pub fn published(&self, numbers: &[u64], places: &[(String, u64)]) -> Result<(), StoreError> {
        self.0.with(|trees| {
            let (mut outbox, mut deliveries) = (Batch::default(), Batch::default());
            for number in numbers {
                outbox.remove(&number.to_be_bytes());
            }
            for (id, place) in places {
                let Some(value) = trees.deliveries.get(id)? else { continue };
                // It may have been delivered meanwhile.
                if let Delivery::Waiting { notification, .. } = decode("deliveries", &value)? {
                    let placed = Delivery::Waiting { notification, stream: Some(*place) };
                    deliveries.insert(id.as_bytes(), protocol::encode(&placed)?);
                }
            }
            (&trees.outbox, &trees.deliveries).transaction(|(in_outbox, in_deliveries)| {
                in_outbox.apply_batch(&outbox)?;
                in_deliveries.apply_batch(&deliveries)?;
                Ok::<(), ConflictableTransactionError<Failure>>(())
            })?;
            // Not synced: what is forgotten of it is published again, with the same ids.
            Ok(())
        })
    }

    /// What became of a notification. `None`: it is not of this store, or long over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn delivery(&self, id: &str) -> Result<Option<Delivery>, StoreError> {
        self.0.with(|trees| {
            let value = trees.deliveries.get(id)?;
            value.map(|value| decode("deliveries", &value)).transpose()
        })
    }

    /// Notifications with ids above `after` that are in the stream and not settled: id, notification, place.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn waiting(&self, after: &str, limit: usize) -> Result<Vec<(String, Notification, u64)>, StoreError> {
        self.0.with(|trees| {
            let mut waiting = Vec::new();
            let above = (Bound::Excluded(after.as_bytes()), Bound::Unbounded);
            for entry in trees.deliveries.range::<&[u8], _>(above) {
                let (key, value) = entry?;
                if let Delivery::Waiting { notification, stream: Some(place) } = decode("deliveries", &value)?
                {
                    waiting.push((String::from_utf8_lossy(&key).into_owned(), *notification, place));
                }
                if waiting.len() == limit {
                    break;
                }
            }
            Ok(waiting)
        })
    }

    /// The last resolved alerts, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn resolved(&self) -> Result<Vec<ResolvedRecord>, StoreError> {
        let alert = |entry: sled::Result<(IVec, IVec)>| decode("resolved", &entry?.1);
        self.0.with(|trees| trees.resolved.iter().rev().take(RESOLVED).map(alert).collect())
    }

    /// What became of the notifications of one alert, by their ids.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn deliveries_of(&self, alert: &str) -> Result<Vec<(String, Delivery)>, StoreError> {
        self.0.with(|trees| {
            let found = trees.deliveries.scan_prefix(format!("{alert}:")).take(DELIVERIES);
            found
                .map(|entry| {
                    let (key, value) = entry?;
                    Ok((String::from_utf8_lossy(&key).into_owned(), decode("deliveries", &value)?))
                })
                .collect()
        })
    }

    /// The silences that were made by hand.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn silences(&self) -> Result<Vec<Silence>, StoreError> {
        let silence = |entry: sled::Result<(IVec, IVec)>| decode("silences", &entry?.1);
        self.0.with(|trees| trees.silences.iter().map(silence).collect())
    }

    /// Keep a silence in place of the one of its name; durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_silence(&self, silence: &Silence) -> Result<(), StoreError> {
        self.0.with(|trees| {
            trees.silences.insert(silence.name.as_str(), protocol::encode(silence)?)?;
            trees.sync()
        })
    }

    /// Forget silences by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_silences(&self, names: &[SilenceName]) -> Result<(), StoreError> {
        self.0.with(|trees| {
            for name in names {
                trees.silences.remove(name.as_str())?;
            }
            trees.sync()
        })
    }

    /// Forget `trackers`, notifications settled before `before_ms`, and resolved alerts beyond the last [`RESOLVED`].
    ///
    /// # Errors
    /// [`StoreError`]; some may be forgotten.
    pub fn forget(&self, trackers: &[AlertKey], before_ms: u64) -> Result<(), StoreError> {
        self.0.with(|trees| {
            for key in trackers {
                trees.trackers.remove(record::key_of(key))?;
            }
            for entry in &trees.deliveries {
                let (key, value) = entry?;
                let settled_ms = match decode("deliveries", &value)? {
                    Delivery::Waiting { .. } => continue,
                    Delivery::Delivered { at_ms, .. } | Delivery::GaveUp { at_ms, .. } => at_ms,
                };
                if settled_ms < before_ms {
                    trees.deliveries.remove(key)?;
                }
            }
            for entry in trees.resolved.iter().rev().skip(RESOLVED) {
                trees.resolved.remove(entry?.0)?;
            }
            trees.sync()
        })
    }
}

/// By time of the end, then id.
fn resolved_key(alert: &Alert) -> Vec<u8> {
    [&alert.at_ms.to_be_bytes(), alert.id.as_bytes()].concat()
}
