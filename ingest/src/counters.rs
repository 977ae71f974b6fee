//! What ingest counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use service_kit::Context;

use crate::core::accept::Why;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, Default)]
pub struct Counters {
    pub stored: Counter,
    pub duplicates: Counter,
    pub lost: Counter,
    pub failed_writes: Counter,
    pub damaged: Counter,
    pub expired: Counter,
    pub sealed: Counter,
    pub failed_maintenance: Counter,
    /// Of the stored ones, those that came after a higher number.
    pub late: Counter,
    /// As of now: below the highest numbers, and neither stored nor lost.
    pub missing: Gauge,
    pub rejected: Family<Reason, Counter>,
    /// Hosts whose clock is off by more than the limit.
    pub wrong_clocks: Gauge,
    /// Bytes on the disk of the store.
    pub disk_free: Gauge,
    /// 1 while nothing is written since there is no room.
    pub disk_full: Gauge,
}

impl Counters {
    #[must_use]
    pub fn rejected(&self, why: Why) -> Counter {
        self.rejected.get_or_create(&Reason { reason: why.as_str() }).clone()
    }

    #[must_use]
    pub fn new(ctx: &Context) -> Self {
        let counters = Self::default();
        ctx.metrics.register(ctx.name, |registry| {
            for (name, help, counter) in [
                ("results_stored", "Results made durable", &counters.stored),
                (
                    "results_duplicate",
                    "Results dropped because they are stored already",
                    &counters.duplicates,
                ),
                (
                    "results_lost",
                    "Results that their agents no longer have and that never came",
                    &counters.lost,
                ),
                (
                    "writes_failed",
                    "Batches that could not be made durable and were tried again",
                    &counters.failed_writes,
                ),
                (
                    "rows_damaged",
                    "Damaged rows, blocks and segments of the store that were skipped",
                    &counters.damaged,
                ),
                ("results_sealed", "Results moved from the hot log into blocks", &counters.sealed),
                (
                    "maintenance_failed",
                    "Rounds of sealing, merging and deleting that failed and were tried again",
                    &counters.failed_maintenance,
                ),
                ("results_expired", "Results deleted because their retention was over", &counters.expired),
                ("results_late", "Results stored after one with a higher number", &counters.late),
            ] {
                registry.register(name, help, counter.clone());
            }
            for (name, help, gauge) in [
                (
                    "results_missing",
                    "Results below the highest numbers of their agents that are neither stored nor lost",
                    &counters.missing,
                ),
                (
                    "clocks_wrong",
                    "Hosts whose clock is off by more than --clock-limit",
                    &counters.wrong_clocks,
                ),
                ("disk_free_bytes", "Bytes left on the disk of the store", &counters.disk_free),
                (
                    "disk_full",
                    "1 while fewer bytes are left than --keep-free, and nothing is stored or acknowledged",
                    &counters.disk_full,
                ),
            ] {
                registry.register(name, help, gauge.clone());
            }
            // Each has a line from the start, so that a rate over it sees the first.
            for why in Why::ALL {
                counters.rejected(why).inc_by(0);
            }
            registry.register(
                "results_rejected",
                "Results kept in stream REJECTED instead of being stored",
                counters.rejected.clone(),
            );
        });
        counters
    }
}
