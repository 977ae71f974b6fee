//! What is past its retention goes. Results leave their roll-ups behind.

use std::sync::Arc;

use protocol::duration::millis;

use super::{
    Switch, Writers,
    merge::{not_rolled_up, partitions},
};
use crate::store::{
    Resolution, Retention, StoreError,
    engine::{DAY_MS, Fjall, ID_DAYS, Open, id_key},
    segment::{Partition, Segment},
};

/// Ids deleted in one write.
const IDS_STEP: usize = 512;

impl Fjall {
    /// Delete what is past its retention, and the oldest of what is more than allowed. Returns how many results went.
    pub(in crate::store) fn expire(
        &self,
        open: &Open,
        now_ms: u64,
        retention: &Retention,
    ) -> Result<u64, StoreError> {
        let mut gone = 0u64;
        for (partition, group) in partitions(open) {
            if is_over(partition, &group, now_ms, retention) {
                gone = gone.saturating_add(self.expire_group(open, partition, &group)?);
            }
        }
        // Results first, the oldest before the others; roll-ups only when nothing else is left.
        loop {
            let all = partitions(open);
            let bytes: u64 = all.values().flatten().map(|segment| segment.meta.bytes).sum();
            let today = Partition::Day(now_ms / DAY_MS);
            let spare = all.into_iter().find(|(partition, _)| *partition != today);
            let Some((partition, group)) = spare.filter(|_| bytes > retention.max_bytes) else { break };
            tracing::warn!(
                bytes,
                limit = retention.max_bytes,
                ?partition,
                "the store is too large: its oldest part goes early"
            );
            gone = gone.saturating_add(self.expire_group(open, partition, &group)?);
        }
        Ok(gone)
    }

    fn expire_group(
        &self,
        open: &Open,
        partition: Partition,
        group: &[Arc<Segment>],
    ) -> Result<u64, StoreError> {
        let old = group.iter().map(|segment| segment.number).collect();
        let mut switch = Switch { old, ..Switch::default() };
        let mut results = 0;
        match partition {
            Partition::Day(_) => {
                results = group.iter().map(|segment| segment.meta.count).sum();
                let mut writers = Writers::new(self, open);
                let filled = self.fill_points(&not_rolled_up(group), &mut writers);
                switch.new = writers.finish(filled)?;
            }
            // Their times are not to be trusted, or they are long over.
            Partition::Stray(_) => results = group.iter().map(|segment| segment.meta.count).sum(),
            Partition::Points(..) => {}
        }
        self.switch(open, switch)?;
        Ok(results)
    }

    pub(in crate::store) fn expire_ids(&self, open: &Open, now_ms: u64) -> Result<(), StoreError> {
        let failed = self.failed("delete expired ids of");
        let mut old = open.ids.range(..id_key((now_ms / DAY_MS).saturating_sub(ID_DAYS), "")).peekable();
        while old.peek().is_some() {
            let mut batch = open.database.batch();
            for item in old.by_ref().take(IDS_STEP) {
                batch.remove(&open.ids, item.key().map_err(&failed)?);
            }
            batch.commit().map_err(&failed)?;
        }
        Ok(())
    }
}

fn is_over(partition: Partition, group: &[Arc<Segment>], now_ms: u64, retention: &Retention) -> bool {
    let keep = match partition {
        Partition::Day(_) | Partition::Stray(_) => retention.results,
        Partition::Points(Resolution::FiveMinutes, _) => retention.five_minutes,
        Partition::Points(Resolution::Hour, _) => retention.hours,
    };
    let before_ms = now_ms.saturating_sub(millis(keep));
    let stored_before = || group.iter().all(|segment| segment.meta.stored_ms < before_ms);
    match partition {
        // What came late is kept as long as the rest.
        Partition::Day(_) => partition.end_ms() <= before_ms && stored_before(),
        Partition::Stray(_) => stored_before(),
        Partition::Points(..) => partition.end_ms() <= before_ms,
    }
}
