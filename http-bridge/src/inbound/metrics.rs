use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use service_kit::Context;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: u16,
}

/// What the bridge counts.
pub(crate) struct HttpMetrics {
    requests: Family<Status, Counter>,
    /// Values that were accepted and stored by the broker.
    pub(crate) accepted: Counter,
    /// Submissions that could not be understood.
    pub(crate) rejected: Counter,
    /// Of those, the ones that could not be kept in stream REJECTED.
    pub(crate) rejected_lost: Counter,
}

impl HttpMetrics {
    pub(crate) fn new(ctx: &Context) -> Self {
        let metrics = Self {
            requests: Family::default(),
            accepted: Counter::default(),
            rejected: Counter::default(),
            rejected_lost: Counter::default(),
        };
        ctx.metrics.register(ctx.name, |registry| {
            registry.register("requests", "Requests answered, by status", metrics.requests.clone());
            registry.register("values_accepted", "Submitted values stored", metrics.accepted.clone());
            registry.register("submissions_rejected", "Submissions refused", metrics.rejected.clone());
            let help = "Refused submissions that could not be kept in stream REJECTED";
            registry.register("submissions_rejected_lost", help, metrics.rejected_lost.clone());
        });
        metrics
    }

    pub(crate) fn answered(&self, status: u16) {
        self.requests.get_or_create(&Status { status }).inc();
    }
}
