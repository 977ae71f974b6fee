//! Every figure that the alerter shows; each has the prefix `dogwatch_alerter_`.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use prometheus_client::registry::Registry;
use service_kit::Context;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub results: Counter,
    pub results_late: Counter,
    pub evaluations: Counter,
    pub expression_errors: Counter,
    pub dropped: Counter,
    pub series: Gauge,
    pub silences: Gauge,
    pub watching: Gauge,
    pub rules: Gauge,
    pub rules_broken: Gauge,
    pub rules_failing: Gauge,
    pub alerts_pending: Gauge,
    pub alerts_firing: Gauge,
    pub transitions: Counter,
    pub outbox: Gauge,
    pub republished: Counter,
    pub refresh_failures: Counter,
    pub notifications_delivered: Counter,
    pub notifications_given_up: Counter,
    pub notifications_repeated: Counter,
    pub notifications_postponed: Counter,
    pub receivers_failing: Gauge,
    pub attempts_failed: Counter,
}

impl Metrics {
    #[must_use]
    pub fn register(ctx: &Context) -> Self {
        let metrics = Self::default();
        ctx.metrics.register(ctx.name, |registry| metrics.add_to(registry));
        metrics
    }

    fn add_to(&self, registry: &mut Registry) {
        let mut counter =
            |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("results", "Results evaluated", &self.results);
        counter("results_late", "Results too old or replayed, which open no alert", &self.results_late);
        counter("expression_errors", "Expressions without an answer", &self.expression_errors);
        counter("evaluations", "Rules evaluated for a result", &self.evaluations);
        counter("dropped", "Values and series forgotten, since there were too many", &self.dropped);
        counter("transitions", "Alerts that came to another state", &self.transitions);
        counter("republished", "Notifications that the broker forgot, published again", &self.republished);
        counter("refresh_failures", "Reads from config-service that failed", &self.refresh_failures);
        counter(
            "notifications_delivered",
            "Notifications that a receiver accepted",
            &self.notifications_delivered,
        );
        counter("notifications_given_up", "Notifications given up", &self.notifications_given_up);
        counter("notifications_repeated", "Notifications dropped as repeats", &self.notifications_repeated);
        counter(
            "notifications_postponed",
            "Times that a notification waited, since its receiver was busy, limited or down",
            &self.notifications_postponed,
        );
        counter("attempts_failed", "Attempts to deliver that failed", &self.attempts_failed);
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("rules", "Rules in force", &self.rules);
        gauge("rules_broken", "Rules that cannot be compiled", &self.rules_broken);
        gauge(
            "rules_failing",
            "Pairs of rule and host on which the expression has no answer",
            &self.rules_failing,
        );
        gauge("series", "Checks on hosts of which results came", &self.series);
        gauge("silences", "Silences in force, now or later", &self.silences);
        gauge("watching", "1 while silence of a host or check means something", &self.watching);
        gauge("alerts_pending", "Alerts pending", &self.alerts_pending);
        gauge("alerts_firing", "Alerts firing", &self.alerts_firing);
        gauge(
            "receivers_failing",
            "Receivers that failed so often that one attempt at a time is made",
            &self.receivers_failing,
        );
        gauge("outbox", "Transitions not yet published", &self.outbox);
    }
}
