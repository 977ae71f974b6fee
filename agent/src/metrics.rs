//! Every metric of the agent; each drop has its counter (G10).

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use service_kit::Context;

/// Cheap to clone: clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub results: Counter,
    pub checks_skipped: Counter,
    pub checks_timed_out: Counter,
    pub config_failures: Counter,
    pub published: Counter,
    pub publish_failures: Counter,
    pub resent: Counter,
    pub results_cut: Counter,
    pub spool_bytes: Gauge<u64, AtomicU64>,
    pub spool_dropped: Counter,
    pub spool_torn_bytes: Counter,
    pub spool_errors: Counter,
    pub overflow_dropped: Counter,
    pub checks_paused: Gauge<u64, AtomicU64>,
    pub checks_left_out_paused: Counter,
    pub memory_bytes: Gauge<u64, AtomicU64>,
    pub cpu_percent: Gauge<f64, AtomicU64>,
    pub over_budget: Gauge<u64, AtomicU64>,
}

impl Metrics {
    #[must_use]
    pub fn register(ctx: &Context) -> Self {
        let metrics = Self::default();
        let all = metrics.clone();
        ctx.metrics.register(ctx.name, |registry| {
            registry.register("results", "Results of checks", all.results);
            registry.register(
                "checks_skipped",
                "Runs left out because the one before was still under way",
                all.checks_skipped,
            );
            registry.register(
                "checks_timed_out",
                "Runs ended because they took too long",
                all.checks_timed_out,
            );
            registry.register(
                "config_failures",
                "Configurations refused, unreadable or not applied whole",
                all.config_failures,
            );
            registry.register("published", "Results that the broker stored, repeats included", all.published);
            registry.register(
                "publish_failures",
                "Results that the broker did not confirm",
                all.publish_failures,
            );
            registry.register("resent", "Results sent again because ingest did not have them", all.resent);
            registry.register(
                "results_cut",
                "Results sent without output and metrics because the broker took no larger ones",
                all.results_cut,
            );
            registry.register("spool_bytes", "Size of the spool", all.spool_bytes);
            registry.register("spool_dropped", "Results dropped by the spool's limits", all.spool_dropped);
            registry.register("spool_torn_bytes", "Bytes of damaged records cut off", all.spool_torn_bytes);
            registry.register("spool_errors", "Failed reads and writes of the spool", all.spool_errors);
            registry.register(
                "overflow_dropped",
                "Results dropped from memory while the spool could not be written",
                all.overflow_dropped,
            );
            registry.register(
                "checks_paused",
                "Checks that are paused since they went over their limits again and again",
                all.checks_paused,
            );
            registry.register(
                "checks_left_out_paused",
                "Runs left out because the check was paused",
                all.checks_left_out_paused,
            );
            registry.register("memory_bytes", "Memory of the agent itself", all.memory_bytes);
            registry.register(
                "cpu_percent",
                "Use of one processor by agent and checks over the last minute",
                all.cpu_percent,
            );
            registry.register(
                "over_budget",
                "1 while one check runs at a time since agent and checks took too much",
                all.over_budget,
            );
        });
        metrics
    }
}
