//! Another history in the place of this one: what a restore does to stream, store and model.

use std::{collections::BTreeMap, sync::PoisonError, sync::atomic::Ordering};

use protocol::{AgentId, log::LogRecord};

use super::{BATCH, Changes, SyncError, blocking};
use crate::{
    core::{model::HostRecord, sign_in::SignIns},
    outbound::log::{Appended, Log},
    service,
};

/// Hosts, and uses of keys, as an archive holds them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory {
    pub(crate) hosts: Vec<(AgentId, HostRecord)>,
    pub(crate) used: BTreeMap<String, u64>,
}

/// Records in the order of their revisions, from the first on; or why they cannot be read.
pub(crate) type Records = Box<dyn Iterator<Item = anyhow::Result<LogRecord>> + Send>;

impl Changes {
    /// From now on nothing is answered or changed, until [`Self::replace`] is done or [`Self::release`] is said.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Go on as before.
    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::Relaxed);
    }

    /// Put these records into stream and store in place of all that is there, and go on from them. After a failure or a
    /// crash on the way it has to be said again; nothing is answered until it succeeds. `done` is called before
    /// anything is answered again.
    ///
    /// # Errors
    /// When the stream, the store or the records fail.
    pub(crate) async fn replace(
        &self,
        records: impl Fn() -> anyhow::Result<Records> + Send + Sync,
        inventory: Inventory,
        max_hosts: usize,
        done: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<u64> {
        let _turn = self.turn.lock().await;
        self.hold();
        // What a write of the inventory has in hand is of before.
        let _writing = self.pending.writing().await;
        let sequences = self.fill_stream(records()?).await?;
        let (store, records) = (std::sync::Arc::clone(&self.store), records()?);
        let opened = blocking(move || {
            store.forget_log()?;
            store.replace_inventory(&inventory.hosts, &inventory.used)?;
            let mut sign_ins = SignIns::default();
            let mut batch = Vec::new();
            let mut commit = |batch: &mut Vec<(u64, LogRecord)>| {
                let kept = sign_ins.effects(batch.iter().map(|(_, record)| record));
                store.commit(batch, &kept)?;
                for change in batch.drain(..).flat_map(|(_, record)| record.changes) {
                    sign_ins.fold(&change);
                }
                anyhow::Ok(())
            };
            for (sequence, record) in sequences.into_iter().zip(records) {
                batch.push((sequence, record?));
                if batch.len() == BATCH {
                    commit(&mut batch)?;
                }
            }
            commit(&mut batch)?;
            service::load(&store, max_hosts)
        });
        let service::Loaded { model, position, changed, .. } = opened.await??;
        let revision = position.revision;
        done()?;
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = model;
        self.set_position(position);
        self.synced.store(true, Ordering::Relaxed);
        self.release();
        self.tell(revision, &changed).await;
        Ok(revision)
    }

    /// Empty the stream and append the records. Their places.
    async fn fill_stream(&self, records: Records) -> anyhow::Result<Vec<u64>> {
        let log = Log::open(self.ctx.jetstream()).await?;
        let mut last = log.purge().await?;
        let mut sequences = Vec::new();
        for record in records {
            match log.append(&record?, last).await? {
                Appended::At(sequence) => last = sequence,
                // Another replica gave back what it has. It will find another history.
                Appended::Conflict => return Err(SyncError::Busy.into()),
            }
            sequences.push(last);
        }
        Ok(sequences)
    }
}
