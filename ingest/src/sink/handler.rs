//! A batch of messages to the receiver, however long that takes.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use service_kit::{
    Backoff, Context, Delivery,
    consume::{AsyncBatchHandler, Rejected},
    now_ms,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    client::{Client, Reply},
    message,
    place::Place,
};
use crate::{
    core::{
        accept::accept,
        remote::{self, Answer, Series},
        times::Times,
    },
    outbound::hosts::HostLabels,
};

/// Delays between tries where the receiver gives none.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

#[derive(Debug, thiserror::Error)]
#[error("stopped before the receiver of remote write took a batch: it is sent again after the start")]
struct Stopped;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: u16,
}

#[derive(Default)]
struct Counters {
    sent: Counter,
    refused: Family<Status, Counter>,
    retries: Counter,
    dropped: Counter,
    behind: Gauge,
}

pub(super) struct Handler {
    client: Client,
    samples: usize,
    times: Times,
    hosts: watch::Receiver<Arc<HostLabels>>,
    /// Last message that is done: its place in the stream, and when the broker took it.
    last: (u64, u64),
    place: Place,
    counters: Counters,
    stop: CancellationToken,
}

impl Handler {
    pub(super) fn new(
        ctx: &Context,
        client: Client,
        samples: usize,
        times: Times,
        hosts: watch::Receiver<Arc<HostLabels>>,
        place: Place,
    ) -> Self {
        let counters = Counters::default();
        ctx.metrics.register(ctx.name, |registry| {
            let mut counter = |name: &str, help: &str, counter: &Counter| {
                registry.register(format!("remote_write_{name}"), help, counter.clone());
            };
            counter("samples_sent", "Samples that the receiver took", &counters.sent);
            counter("retries", "Requests that failed and were made again", &counters.retries);
            counter(
                "results_dropped",
                "Results that stream RESULTS forgot before the receiver took them",
                &counters.dropped,
            );
            registry.register(
                "remote_write_samples_refused",
                "Samples that the receiver refused for good",
                counters.refused.clone(),
            );
            registry.register(
                "remote_write_behind_seconds",
                "Age of the newest result that is sent on",
                counters.behind.clone(),
            );
        });
        Self {
            client,
            samples,
            times,
            hosts,
            last: (place.load(), 0),
            place,
            counters,
            stop: ctx.tasks.token(),
        }
    }

    /// Whether the message was sent on before. The stream of a broker that was wiped counts from 1 again.
    fn is_done(&self, delivery: &Delivery) -> bool {
        delivery.sequence <= self.last.0 && delivery.published_ms <= self.last.1
    }

    /// Count what the stream has forgotten between the last message and this one.
    fn note_gap(&mut self, delivery: &Delivery) {
        let (last, _) = self.last;
        let gone = delivery.sequence.saturating_sub(last).saturating_sub(1);
        if last > 0 && gone > 0 {
            self.counters.dropped.inc_by(gone);
            tracing::error!(
                results = gone,
                "results were not sent on: stream RESULTS reached its limit before the receiver of remote write took them"
            );
        }
        self.last = (delivery.sequence, delivery.published_ms);
    }

    /// Every sample is taken, or refused and counted. Returns how many were refused, and what was said of the last.
    async fn deliver(&self, request: Vec<Series>) -> Result<(u64, String), Stopped> {
        let mut refused = (0_u64, String::new());
        let mut parts = vec![request];
        while let Some(part) = parts.pop() {
            let (count, reply) = (remote::count(&part) as u64, self.post(&part).await?);
            let halves = if reply.answer == Answer::Part { remote::halves(part) } else { None };
            match (reply.answer, halves) {
                (Answer::Taken, _) => {
                    self.counters.sent.inc_by(count);
                }
                (_, Some((first, second))) => parts.extend([second, first]),
                _ => {
                    let Reply { status, text, .. } = reply;
                    self.counters.refused.get_or_create(&Status { status }).inc_by(count);
                    refused = (refused.0.saturating_add(count), format!("{status}: {text}"));
                }
            }
        }
        Ok(refused)
    }

    /// Try until there is an answer that stands.
    async fn post(&self, part: &[Series]) -> Result<Reply, Stopped> {
        let body = match message::encode(part) {
            Ok(body) => body,
            Err(error) => return Ok(Reply { answer: Answer::Part, status: 413, text: error.to_string() }),
        };
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut tries = 0_u32;
        loop {
            let sent = self.stop.run_until_cancelled(self.client.post(body.clone()));
            let reply = sent.await.ok_or(Stopped)?;
            let Answer::Later(after) = reply.answer else {
                if tries > 0 {
                    tracing::info!(receiver = self.client.host(), tries, "remote write goes on");
                }
                return Ok(reply);
            };
            self.counters.retries.inc();
            let after = after.unwrap_or_else(|| backoff.next_delay());
            if tries == 0 {
                let Reply { status, text, .. } = reply;
                tracing::warn!(
                    receiver = self.client.host(),
                    status,
                    text,
                    ?after,
                    "the receiver of remote write takes nothing: results wait in stream RESULTS"
                );
            }
            tries = tries.saturating_add(1);
            self.stop.run_until_cancelled(tokio::time::sleep(after)).await.ok_or(Stopped)?;
        }
    }
}

impl AsyncBatchHandler for Handler {
    async fn handle(&mut self, batch: &[Delivery]) -> anyhow::Result<Rejected> {
        let before = self.last;
        let mut results = Vec::with_capacity(batch.len());
        for delivery in batch {
            if self.is_done(delivery) {
                continue;
            }
            self.note_gap(delivery);
            let accepted = accept(delivery.subject(), delivery.message_id(), delivery.payload());
            // What ingest rejects is no sample either.
            if let Ok(accepted) = accepted.and_then(|one| self.times.check(one, delivery.published_ms)) {
                results.push(accepted.result);
            }
        }
        let hosts = Arc::clone(&self.hosts.borrow());
        let (mut refused, mut reason) = (0_u64, String::new());
        for request in remote::requests(remote::series(&results, &hosts), self.samples) {
            match self.deliver(request).await {
                Ok((0, _)) => {}
                Ok((count, text)) => (refused, reason) = (refused.saturating_add(count), text),
                Err(stopped) => {
                    self.last = before;
                    return Err(stopped.into());
                }
            }
        }
        // Once for a batch: after a kill each of its samples may be a repeat that Prometheus takes for out of order.
        if refused > 0 {
            let receiver = self.client.host();
            tracing::warn!(
                receiver,
                samples = refused,
                reason,
                "samples were refused by the receiver of remote write"
            );
        }
        if self.last != before {
            self.place.save(self.last.0).await;
        }
        let behind = now_ms().saturating_sub(self.last.1) / 1_000;
        self.counters.behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
        if !results.is_empty() {
            crate::fail_point("remote_write_after_post");
        }
        Ok(Rejected::new())
    }
}
