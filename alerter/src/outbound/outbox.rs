//! Publishes transitions that are durable: each to stream ALERTS, and a notification for each receiver to stream NOTIFY.
//!
//! An entry leaves the outbox after the broker has confirmed all of it; what a crash leaves is published again with the
//! same ids. A broker may forget what it confirmed (it syncs to disk every two minutes), so notifications that are
//! neither delivered nor given up are looked for in the stream, and published again when they are gone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID, jetstream};
use futures_util::{StreamExt, future::try_join_all, stream};
use protocol::{alert::Notification, stream as streams, subject};
use service_kit::{
    Backoff, Context,
    publish::{PublishError, publish},
    report,
    streams::ensure_stream,
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    metrics::Metrics,
    store::{OutboxRecord, Store, notification_id},
};

/// Entries published between two writes to the store.
const BATCH: usize = 512;
/// Alerts whose entries are published at the same time; those of one alert go one after the other.
const AT_ONCE: usize = 64;
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
        if let Err(error) = ensure_stream(&self.ctx.jetstream(), &streams::ALERTS).await {
            tracing::debug!(error = report(&error), "stream ALERTS is made when it is needed");
        }
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
        let count = entries.len();
        let mut published = stream::iter(by_alert(entries))
            .map(|entries| publish_alert(jetstream.clone(), entries))
            .buffer_unordered(AT_ONCE);
        while let Some(outcome) = published.next().await {
            numbers.extend(outcome.numbers);
            places.extend(outcome.places);
            failure = failure.or(outcome.failure);
        }
        let missing = matches!(failure, Some(PublishError::NoStream { .. }));
        let store = Arc::clone(&self.store);
        let left = tokio::task::spawn_blocking(move || {
            store.published(&numbers, &places)?;
            store.unpublished_len()
        });
        self.metrics.outbox.set(i64::try_from(left.await??).unwrap_or(i64::MAX));
        if missing {
            // A broker that is new or was wiped.
            ensure_stream(jetstream, &streams::ALERTS).await?;
            ensure_stream(jetstream, &streams::NOTIFY).await?;
        }
        failure.map_or(Ok(count), |error| Err(error.into()))
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
        let notify = ensure_stream(jetstream, &streams::NOTIFY).await?;
        let mut places = Vec::new();
        for (id, notification, place) in waiting {
            use jetstream::stream::LastRawMessageErrorKind::NoMessageFound;
            let there = match notify.get_raw_message(place).await {
                Ok(message) => message
                    .headers
                    .get(NATS_MESSAGE_ID)
                    .is_some_and(|found| notification_id(found.as_str()) == id),
                Err(error) if error.kind() == NoMessageFound => false,
                Err(error) => return Err(error.into()),
            };
            // It may have been delivered since the list was made.
            let store = Arc::clone(&self.store);
            let key = id.clone();
            let still = tokio::task::spawn_blocking(move || store.delivery(&key)).await??;
            if !there && still.is_some_and(|delivery| delivery.is_waiting()) {
                tracing::warn!(id, "the broker forgot a notification; publishing it again");
                let place = publish_notification(jetstream, &id, &notification).await?;
                places.push((id, place));
                self.metrics.republished.inc();
            }
        }
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.published(&[], &places)).await??;
        Ok(next)
    }
}

/// What was published of some entries, up to the first that failed.
#[derive(Default)]
struct Published {
    numbers: Vec<u64>,
    places: Vec<(String, u64)>,
    failure: Option<PublishError>,
}

/// Entries of each alert, in order; alerts in the order of their first.
fn by_alert(entries: Vec<(u64, OutboxRecord)>) -> Vec<Vec<(u64, OutboxRecord)>> {
    let mut order: Vec<Vec<(u64, OutboxRecord)>> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    for entry in entries {
        let place = *index.entry(entry.1.alert.id.clone()).or_insert(order.len());
        match order.get_mut(place) {
            Some(of_alert) => of_alert.push(entry),
            None => order.push(vec![entry]),
        }
    }
    order
}

async fn publish_alert(jetstream: jetstream::Context, entries: Vec<(u64, OutboxRecord)>) -> Published {
    let mut done = Published::default();
    for (number, entry) in entries {
        match publish_entry(&jetstream, &entry).await {
            Ok(places) => {
                done.numbers.push(number);
                done.places.extend(places);
            }
            Err(error) => {
                done.failure = Some(error);
                break;
            }
        }
    }
    done
}

/// The place of each of its notifications in stream NOTIFY, by id.
async fn publish_entry(
    jetstream: &jetstream::Context,
    entry: &OutboxRecord,
) -> Result<Vec<(String, u64)>, PublishError> {
    let alert = &entry.alert;
    let transition = async {
        if entry.retold {
            return Ok(());
        }
        let subject = subject::alert(&alert.agent, &alert.rule);
        send(jetstream, subject, &alert.message_id(), alert).await.map(drop)
    };
    let notifications = entry.notifications().map(|notification| async move {
        let id = entry.broker_id(&notification);
        let place = publish_notification(jetstream, &id, &notification).await?;
        Ok((notification.message_id(), place))
    });
    // Nothing depends on which of them is there first.
    let ((), places) = tokio::try_join!(transition, try_join_all(notifications))?;
    Ok(places)
}

async fn publish_notification(
    jetstream: &jetstream::Context,
    id: &str,
    notification: &Notification,
) -> Result<u64, PublishError> {
    send(jetstream, subject::notify(&notification.receiver), id, notification).await
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
