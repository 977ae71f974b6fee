//! Publishes transitions that are durable: each to stream ALERTS, and a notification for each receiver to stream NOTIFY.
//!
//! An entry leaves the outbox after the broker has confirmed all of it; what a crash leaves is published again with the
//! same ids. A broker may forget what it confirmed (it syncs to disk every two minutes), so notifications that are
//! neither delivered nor given up are looked for in the stream, and published again when they are gone.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID, jetstream};
use protocol::{alert::Notification, stream, subject};
use service_kit::{
    Backoff, Context,
    publish::{PublishError, publish},
    report,
    streams::ensure_stream,
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    metrics::Metrics,
    store::{OutboxRecord, Store},
};

/// Entries published between two writes to the store.
const BATCH: usize = 256;
/// How often forgotten notifications are looked for.
const AUDIT_EVERY: Duration = Duration::from_secs(60);
/// Notifications looked for at once.
const AUDITED: usize = 1_000;

/// When to look again for forgotten notifications, and after which id.
struct Audit {
    at: Instant,
    after: String,
}

pub struct Outbox {
    pub ctx: Context,
    pub store: Arc<Store>,
    pub wake: Arc<Notify>,
    pub metrics: Metrics,
}

impl Outbox {
    /// Publish until the service stops.
    pub async fn run(self) -> anyhow::Result<()> {
        let token = self.ctx.tasks.token();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut audit = Audit { at: Instant::now(), after: String::new() };
        loop {
            let mut wait = AUDIT_EVERY;
            match self.round(&mut audit).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    wait = backoff.next_delay();
                    tracing::warn!(error = report(error.as_ref()), ?wait, "alerts wait to be published");
                }
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = token.cancelled() => break,
            }
        }
        Ok(())
    }

    async fn round(&self, audit: &mut Audit) -> anyhow::Result<()> {
        let jetstream = self.ctx.jetstream();
        let token = self.ctx.tasks.token();
        while self.publish_some(&jetstream).await? == BATCH && !token.is_cancelled() {}
        if Instant::now() >= audit.at {
            audit.after = self.audit(&jetstream, std::mem::take(&mut audit.after)).await?;
            audit.at = Instant::now() + AUDIT_EVERY;
        }
        Ok(())
    }

    /// Publish the oldest entries and take them out. How many there were.
    async fn publish_some(&self, jetstream: &jetstream::Context) -> anyhow::Result<usize> {
        let store = Arc::clone(&self.store);
        let entries = tokio::task::spawn_blocking(move || store.unpublished(BATCH)).await??;
        if entries.is_empty() {
            return Ok(0);
        }
        let (mut numbers, mut places) = (Vec::new(), Vec::new());
        let mut failure = None;
        for (number, entry) in &entries {
            let mut published = publish_entry(jetstream, entry).await;
            if let Err(PublishError::NoStream { .. }) = published {
                // A broker that is new or was wiped.
                ensure_stream(jetstream, &stream::ALERTS).await?;
                ensure_stream(jetstream, &stream::NOTIFY).await?;
                published = publish_entry(jetstream, entry).await;
            }
            match published {
                Ok(entry_places) => {
                    numbers.push(*number);
                    places.extend(entry_places);
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let store = Arc::clone(&self.store);
        let left = tokio::task::spawn_blocking(move || {
            store.published(&numbers, &places)?;
            store.unpublished_len()
        });
        self.metrics.outbox.set(i64::try_from(left.await??).unwrap_or(i64::MAX));
        match failure {
            None => Ok(entries.len()),
            Some(error) => Err(error.into()),
        }
    }

    /// Publish again what waits for delivery and is not in the stream any more. Where to go on next time.
    async fn audit(&self, jetstream: &jetstream::Context, after: String) -> anyhow::Result<String> {
        let store = Arc::clone(&self.store);
        let waiting = tokio::task::spawn_blocking(move || store.waiting(&after, AUDITED)).await??;
        let next = match waiting.last() {
            None => return Ok(String::new()),
            Some((id, ..)) if waiting.len() == AUDITED => id.clone(),
            Some(_) => String::new(),
        };
        let notify = ensure_stream(jetstream, &stream::NOTIFY).await?;
        let mut places = Vec::new();
        for (id, notification, place) in waiting {
            use jetstream::stream::LastRawMessageErrorKind::NoMessageFound;
            let there = match notify.get_raw_message(place).await {
                Ok(message) => message.headers.get(NATS_MESSAGE_ID).is_some_and(|found| found.as_str() == id),
                Err(error) if error.kind() == NoMessageFound => false,
                Err(error) => return Err(error.into()),
            };
            // It may have been delivered since the list was made.
            let store = Arc::clone(&self.store);
            let key = id.clone();
            let still = tokio::task::spawn_blocking(move || store.delivery(&key)).await??;
            if !there && still.is_some_and(|delivery| delivery.is_waiting()) {
                tracing::warn!(id, "the broker forgot a notification; publishing it again");
                places.push((id, publish_notification(jetstream, &notification).await?));
                self.metrics.republished.inc();
            }
        }
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.published(&[], &places)).await??;
        Ok(next)
    }
}

/// The place of each of its notifications in stream NOTIFY, by id.
async fn publish_entry(
    jetstream: &jetstream::Context,
    entry: &OutboxRecord,
) -> Result<Vec<(String, u64)>, PublishError> {
    let alert = &entry.alert;
    if !entry.retold {
        let subject = subject::alert(&alert.agent, &alert.rule);
        send(jetstream, subject, &alert.message_id(), alert).await?;
    }
    let mut places = Vec::new();
    for notification in entry.notifications() {
        places.push((notification.message_id(), publish_notification(jetstream, &notification).await?));
    }
    Ok(places)
}

async fn publish_notification(
    jetstream: &jetstream::Context,
    notification: &Notification,
) -> Result<u64, PublishError> {
    let subject = subject::notify(&notification.receiver);
    send(jetstream, subject, &notification.message_id(), notification).await
}

async fn send(
    jetstream: &jetstream::Context,
    subject: String,
    id: &str,
    message: &impl serde::Serialize,
) -> Result<u64, PublishError> {
    let body = protocol::encode(message)
        .map_err(|error| PublishError::Refused { subject: subject.clone(), reason: error.to_string() })?;
    let ack = publish(jetstream, subject, id, HeaderMap::new(), body.into()).await?;
    Ok(ack.sequence)
}
