//! service-kit against a real broker: what it promises to every service.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests report by panicking

mod connect;
mod consume;
mod respond;
mod work_queue;

use std::time::Duration;

use service_kit::{Context, Metrics, Readiness, Tasks, nats, nats::NatsSettings};
use testkit::NatsServer;

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn settings(server: &NatsServer) -> NatsSettings {
    NatsSettings {
        nats_url: server.url(),
        nats_nkey_file: None,
        nats_creds_file: None,
        nats_user: None,
        nats_password_file: None,
        nats_ca_file: None,
        nats_cert_file: None,
        nats_cert_key_file: None,
        claim: None,
    }
}

pub(crate) async fn context(server: &NatsServer) -> Context {
    context_at(&settings(server)).await
}

pub(crate) async fn context_at(settings: &NatsSettings) -> Context {
    let (tasks, ready, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
    let wait = nats::Wait::ForBroker;
    let client =
        nats::connect(settings, "test", None, wait, (&metrics, &ready), &tasks.token()).await.unwrap();
    Context { name: "test", nats: client, tasks, ready, metrics }
}

/// Value of a counter, by the beginning of its line in the metrics: `test_nats_disconnects_total`.
pub(crate) fn counter(ctx: &Context, name: &str) -> u64 {
    let text = ctx.metrics.encode();
    let line = text.lines().find(|line| line.starts_with(&format!("dogwatch_{name}")));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0, |value| value.parse().unwrap())
}
