//! Consuming a stream: the one place that acknowledges, asks for redelivery, and dead-letters.
//!
//! A handler gets messages and returns verdicts; it never sees an acknowledgement. A [`Verdict::Reject`] is stored
//! whole in stream REJECTED before the message is settled, so poison neither blocks the stream nor disappears.
//! Errors of the pull (a broker away, a consumer or stream wiped) are waited out; stream and consumer are made anew.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{self, AckKind},
};
use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use prometheus_client::metrics::{counter::Counter, family::Family};
use protocol::{
    stream::{Retention, rejected_header},
    subject,
};

use crate::{Backoff, Context, monitor::ConsumerLabels, publish, report, streams};
pub use streams::ConsumerSpec;

/// What becomes of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its effect is durable: acknowledge.
    Done,
    /// Not now; offer it again after this time.
    Retry { after: Duration },
    /// It can never be handled: keep it in REJECTED with the reason, then acknowledge.
    Reject { reason: String },
}

/// One message of a stream.
#[derive(Debug)]
pub struct Delivery {
    message: jetstream::Message,
    /// Place in the stream.
    pub sequence: u64,
    /// When the broker stored it, in milliseconds since 1970.
    pub published_ms: u64,
    /// 1 for the first delivery.
    pub attempt: u64,
    /// Place among all deliveries of the consumer.
    delivery: u64,
    /// How many more the broker had for the consumer when it sent this one.
    behind: u64,
}

impl Delivery {
    fn new(message: jetstream::Message) -> Option<Self> {
        let info = message.info().ok()?;
        let (sequence, attempt) = (info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1));
        let published_ms = u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let (delivery, behind) = (info.consumer_sequence, info.pending);
        Some(Self { message, sequence, published_ms, attempt, delivery, behind })
    }

    #[must_use]
    pub fn subject(&self) -> &str {
        &self.message.subject
    }

    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// `Nats-Msg-Id`, if the publisher gave one.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        Some(self.message.headers.as_ref()?.get(async_nats::header::NATS_MESSAGE_ID)?.as_str())
    }
}

/// How much one batch may hold.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    pub messages: usize,
    pub bytes: usize,
}

/// A batch whose effect is durable, but for the messages named here by index with a reason each.
pub type Rejected = HashMap<usize, String>;

/// Consume in batches, in order. The handler returns once the whole batch is durable; then one acknowledgement covers
/// it and all before it. After an error the same batch is handed over again, with growing delays, and nothing else is
/// fetched meanwhile. Ends when the service stops, after the batch in hand is settled or has failed once more.
///
/// # Errors
/// When the stream or consumer cannot be made at the start.
pub async fn batches<H>(
    ctx: &Context,
    spec: ConsumerSpec,
    limits: BatchLimits,
    mut handler: H,
) -> anyhow::Result<()>
where
    H: AsyncBatchHandler + 'static,
{
    let spec = ConsumerSpec { ack_all: true, ..spec };
    let mut source = Source::open(ctx, spec.clone(), limits).await?;
    let ctx_task = ctx.clone();
    ctx.tasks.spawn(format!("consumer {}", spec.name), async move {
        let (settle, token) = (Settle::new(&ctx_task, spec.name), ctx_task.tasks.token());
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        'batches: while let Some(batch) = source.next_batch().await {
            while let Err(error) = settle.batch(&mut handler, &batch).await {
                let (error, after) = (report(error.as_ref()), backoff.next_delay());
                settle.retried.inc_by(batch.len() as u64);
                tracing::error!(
                    error,
                    messages = batch.len(),
                    ?after,
                    "a batch failed and will be tried again"
                );
                tokio::select! {
                    () = tokio::time::sleep(after) => {}
                    // Not acknowledged: the broker offers it again after the restart.
                    () = token.cancelled() => break 'batches,
                }
            }
            backoff.reset();
        }
        crate::process::flush(&ctx_task.nats).await;
        Ok(())
    });
    Ok(())
}

/// Handler of [`batches`].
pub trait AsyncBatchHandler: Send {
    /// # Errors
    /// When nothing of the batch may be acknowledged yet; all of it is handed over again.
    fn handle(&mut self, batch: &[Delivery]) -> impl Future<Output = anyhow::Result<Rejected>> + Send;
}

/// Consume message by message, `concurrency` at once, each with its own verdict. Ends when the service stops, after
/// the messages in hand are settled.
///
/// # Errors
/// When the stream or consumer cannot be made at the start.
pub async fn each<H, F>(
    ctx: &Context,
    spec: ConsumerSpec,
    concurrency: usize,
    handler: H,
) -> anyhow::Result<()>
where
    H: Fn(Arc<Delivery>) -> F + Send + Sync + 'static,
    F: Future<Output = Verdict> + Send + 'static,
{
    let spec = ConsumerSpec { ack_all: false, ..spec };
    let limits = BatchLimits { messages: concurrency, bytes: 8 * 1024 * 1024 };
    let mut source = Source::open(ctx, spec.clone(), limits).await?;
    let ctx_task = ctx.clone();
    ctx.tasks.spawn(format!("consumer {}", spec.name), async move {
        let settle = Settle::new(&ctx_task, spec.name);
        let mut under_way = FuturesUnordered::new();
        let mut open = true;
        while open || !under_way.is_empty() {
            tokio::select! {
                batch = source.next_batch(), if open && under_way.len() < concurrency => match batch {
                    Some(batch) => for delivery in batch {
                        let delivery = Arc::new(delivery);
                        let verdict = handler(Arc::clone(&delivery));
                        under_way.push(async move { (delivery, verdict.await) });
                    },
                    None => open = false,
                },
                Some((delivery, verdict)) = under_way.next() => settle.settle(&delivery, verdict).await,
            }
        }
        crate::process::flush(&ctx_task.nats).await;
        Ok(())
    });
    Ok(())
}

/// Rejected messages of a batch that are kept at the same time.
const DEAD_LETTERS: usize = 32;
/// How long a batch that is not full waits for messages that the broker is known to have.
const GATHER: Duration = Duration::from_millis(5);

/// Messages taken from the client at once.
fn chunk(limits: BatchLimits) -> usize {
    limits.messages.div_ceil(4)
}

/// Whether a batch is worth filling up: each costs a write and a sync, and the consumer is behind anyway.
fn gather_more(batch: &[Delivery], bytes: usize, spec: &ConsumerSpec, limits: BatchLimits) -> bool {
    spec.ack_all
        && batch.last().is_some_and(|last| last.behind > 0)
        && batch.len() + chunk(limits) <= limits.messages
        && bytes < limits.bytes
}

/// The messages of a consumer in batches, through every failure of the broker.
struct Source {
    ctx: Context,
    spec: ConsumerSpec,
    limits: BatchLimits,
    messages: Option<futures_util::stream::ReadyChunks<jetstream::consumer::pull::Stream>>,
    /// Deliveries seen. With `ack_all` a gap means that some were lost with a connection: what follows it must not be
    /// acknowledged, since that would cover them.
    deliveries: u64,
    backoff: Backoff,
}

impl Source {
    async fn open(ctx: &Context, spec: ConsumerSpec, limits: BatchLimits) -> anyhow::Result<Self> {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut source = Self { ctx: ctx.clone(), spec, limits, messages: None, deliveries: 0, backoff };
        // What a killed process had in hand in a work queue is offered again now, not when `ack_wait` is over.
        source.reopen(source.spec.stream.retention == Retention::WorkQueue).await?;
        Ok(source)
    }

    /// Pull anew; with `rewind`, from the first message that is not acknowledged. `ack_all` always needs that.
    async fn reopen(&mut self, rewind: bool) -> anyhow::Result<()> {
        let jetstream = self.ctx.jetstream();
        let mut consumer = streams::ensure_consumer(&jetstream, &self.spec).await?;
        if (rewind || self.spec.ack_all) && consumer.cached_info().num_ack_pending > 0 {
            consumer = streams::rewind_consumer(&jetstream, &self.spec, &consumer).await?;
        }
        self.deliveries = consumer.cached_info().delivered.consumer_sequence;
        let messages = consumer
            .stream()
            // With `ack_all` the broker sends the next batch while this one is handled.
            .max_messages_per_batch(if self.spec.ack_all {
                2 * self.limits.messages
            } else {
                self.limits.messages
            })
            .max_bytes_per_batch(self.limits.bytes)
            .expires(Duration::from_secs(30))
            // After a restart the broker has forgotten the pull: two missed heartbeats tell.
            .heartbeat(Duration::from_secs(1))
            .messages()
            .await?;
        self.messages = Some(messages.ready_chunks(chunk(self.limits)));
        Ok(())
    }

    /// Drop what the client prefetched and wait: what is asked for again comes in order.
    async fn pause(&mut self, delay: Duration) {
        self.messages = None;
        let token = self.ctx.tasks.token();
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = token.cancelled() => {}
        }
    }

    /// The next messages, at least one. `None` when the service stops.
    async fn next_batch(&mut self) -> Option<Vec<Delivery>> {
        let token = self.ctx.tasks.token();
        loop {
            if token.is_cancelled() {
                return None;
            }
            let Some(messages) = self.messages.as_mut() else {
                let delay = self.backoff.next_delay();
                let reopened = tokio::select! {
                    reopened = self.reopen(false) => reopened,
                    () = token.cancelled() => return None,
                };
                if let Err(error) = reopened {
                    tracing::warn!(
                        consumer = self.spec.name,
                        error = report(error.as_ref()),
                        "cannot consume yet"
                    );
                    self.pause(delay).await;
                }
                continue;
            };
            let (mut batch, mut bytes, mut failure) = (Vec::new(), 0, None);
            loop {
                let more = gather_more(&batch, bytes, &self.spec, self.limits);
                let chunk = tokio::select! {
                    chunk = messages.next() => chunk,
                    () = tokio::time::sleep(GATHER), if more => break,
                    () = token.cancelled() => return None,
                };
                if chunk.is_none() {
                    failure = Some("the pull ended".to_owned());
                }
                for message in chunk.unwrap_or_default() {
                    match message {
                        Ok(_) if self.spec.ack_all && failure.is_some() => {}
                        Ok(message) => match Delivery::new(message) {
                            Some(next) if self.spec.ack_all && next.delivery != self.deliveries + 1 => {
                                failure = Some("some messages were lost on the way".to_owned());
                            }
                            Some(next) => {
                                self.deliveries = next.delivery;
                                bytes += next.message.length;
                                batch.push(next);
                            }
                            None => {}
                        },
                        Err(error) => failure = Some(report(&error)),
                    }
                }
                if failure.is_some() || !gather_more(&batch, bytes, &self.spec, self.limits) {
                    break;
                }
            }
            if let Some(reason) = failure {
                tracing::debug!(consumer = self.spec.name, reason, "the pull failed, opening it anew");
                self.messages = None;
                if batch.is_empty() {
                    let delay = self.backoff.next_delay();
                    self.pause(delay).await;
                }
            }
            if !batch.is_empty() {
                self.backoff.reset();
                return Some(batch);
            }
        }
    }
}

/// Turns verdicts into acknowledgements, delays and dead letters, and counts them.
struct Settle {
    ctx: Context,
    done: Counter,
    retried: Counter,
    rejected: Counter,
}

impl Settle {
    fn new(ctx: &Context, consumer: &'static str) -> Self {
        let labels = ConsumerLabels { service: ctx.name, consumer };
        let counter = |family: &Family<ConsumerLabels, Counter>| family.get_or_create(&labels).clone();
        let messages = &ctx.metrics.messages;
        let (done, retried) = (counter(&messages.done), counter(&messages.retried));
        Self { ctx: ctx.clone(), done, retried, rejected: counter(&messages.rejected) }
    }

    async fn settle(&self, delivery: &Delivery, verdict: Verdict) {
        let kind = match verdict {
            Verdict::Done => {
                self.done.inc();
                AckKind::Ack
            }
            Verdict::Retry { after } => {
                self.retried.inc();
                AckKind::Nak(Some(after))
            }
            Verdict::Reject { reason } if self.dead_letter(delivery, &reason).await => AckKind::Ack,
            Verdict::Reject { .. } => AckKind::Nak(Some(Duration::from_secs(1))),
        };
        if let Err(error) = delivery.message.ack_with(kind).await {
            tracing::warn!(error = report(error.as_ref()), "an acknowledgement could not be sent");
        }
    }

    /// Have the batch handled, keep what was rejected, acknowledge.
    async fn batch(&self, handler: &mut impl AsyncBatchHandler, batch: &[Delivery]) -> anyhow::Result<()> {
        // Several at once: whoever sends much that is rejected should not hold up the others for long.
        let rejected = stream::iter(handler.handle(batch).await?);
        let kept = rejected.map(|(index, reason)| async move {
            match batch.get(index) {
                Some(delivery) => self.dead_letter(delivery, &reason).await,
                None => true,
            }
        });
        let kept = kept.buffer_unordered(DEAD_LETTERS).all(|kept| async move { kept }).await;
        anyhow::ensure!(kept, "a rejected message could not be kept");
        self.done.inc_by(batch.len() as u64);
        // By place in the stream, not in the batch: a redelivered message may stand behind newer ones.
        let last = batch.iter().max_by_key(|delivery| delivery.sequence);
        if let Some(last) = last
            && let Err(error) = last.message.ack().await
        {
            tracing::warn!(error = report(error.as_ref()), "an acknowledgement could not be sent");
        }
        Ok(())
    }

    /// Keep the message in REJECTED. `false` when it could not be stored there.
    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> bool {
        let jetstream = self.ctx.jetstream();
        let mut headers = HeaderMap::new();
        // A header cannot hold a line break.
        headers.insert(rejected_header::REASON, reason.replace(['\r', '\n'], " "));
        headers.insert(rejected_header::SUBJECT, delivery.subject());
        let id = format!("{}:{}:{}", self.ctx.name, delivery.subject(), delivery.sequence);
        let stored = match streams::ensure_stream(&jetstream, &protocol::stream::REJECTED).await {
            Ok(_) => {
                let (subject, body) = (subject::rejected(self.ctx.name), delivery.payload().clone());
                publish::publish(&jetstream, subject, &id, headers, body)
                    .await
                    .map_err(|error| report(&error))
            }
            Err(error) => Err(report(&error)),
        };
        match stored {
            Ok(_) => {
                self.rejected.inc();
                tracing::warn!(subject = delivery.subject(), reason, "message rejected");
                true
            }
            Err(error) => {
                tracing::error!(error, "a rejected message could not be kept and will be tried again");
                false
            }
        }
    }
}
