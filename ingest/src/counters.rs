//! What ingest counts.

use prometheus_client::metrics::counter::Counter;
use service_kit::Context;

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
}

impl Counters {
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
            ] {
                registry.register(name, help, counter.clone());
            }
        });
        counters
    }
}
