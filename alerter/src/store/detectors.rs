//! What detectors learned, in a form of its own: JSON would take twice the room.

use std::sync::Arc;

use protocol::{AgentId, CheckName};
use sled::{Batch, IVec};

use super::{Store, StoreError, disk::Failure};
use crate::core::predict::{DetectorKey, Learned};

/// First byte of every record. What has another one is learned anew.
const FORM: u8 = 1;
/// Under this name, beside the trees: everything published before this moment is in what was saved.
const SINCE: &str = "detectors_since_ms";

/// What was saved of the detectors.
#[derive(Debug, Default)]
pub struct SavedDetectors {
    pub all: Vec<(DetectorKey, Learned)>,
    /// The results published from this moment on are to be read again, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Records that cannot be read: those detectors begin anew.
    pub unreadable: u64,
}

impl Store {
    /// # Errors
    /// [`StoreError`].
    pub fn detectors(&self) -> Result<SavedDetectors, StoreError> {
        self.0.with(|trees| {
            let mut saved = SavedDetectors::default();
            for entry in &trees.detectors {
                let (key, value) = entry?;
                match read(&key, &value) {
                    Some(read) => saved.all.push(read),
                    None => saved.unreadable += 1,
                }
            }
            let since = trees.db.get(SINCE)?;
            saved.since_ms = since.and_then(|since| since.as_ref().try_into().ok()).map(u64::from_be_bytes);
            Ok(saved)
        })
    }

    /// Keep detectors as they stand and forget others; durable when this returns. All that was published before
    /// `since_ms` is in what was saved before.
    ///
    /// # Errors
    /// [`StoreError`]; some may be kept, which changes nothing.
    pub fn save_detectors(
        &self,
        all: &[(DetectorKey, &Learned)],
        gone: &[DetectorKey],
        since_ms: Option<u64>,
    ) -> Result<(), StoreError> {
        self.0.with(|trees| {
            let mut batch = Batch::default();
            for key in gone {
                batch.remove(written(key).into_bytes());
            }
            for (key, learned) in all {
                let mut record = vec![FORM];
                let body = postcard::to_allocvec(learned)
                    .map_err(|error| Failure::Damaged("detectors", error.to_string()))?;
                record.extend(body);
                batch.insert(written(key).into_bytes(), record);
            }
            trees.detectors.apply_batch(batch)?;
            if let Some(since_ms) = since_ms {
                trees.db.insert(SINCE, &since_ms.to_be_bytes())?;
            }
            trees.sync()
        })
    }
}

/// `agent/check/metric`: only the last may hold a slash.
fn written(key: &DetectorKey) -> String {
    format!("{}/{}/{}", key.agent, key.check, key.metric)
}

fn read(key: &IVec, value: &IVec) -> Option<(DetectorKey, Learned)> {
    let mut parts = std::str::from_utf8(key).ok()?.splitn(3, '/');
    let agent = AgentId::new(parts.next()?).ok()?;
    let check = CheckName::new(parts.next()?).ok()?;
    let metric: Arc<str> = parts.next()?.into();
    let body = value.strip_prefix(&[FORM])?;
    Some((DetectorKey { agent, check, metric }, postcard::from_bytes(body).ok()?))
}
