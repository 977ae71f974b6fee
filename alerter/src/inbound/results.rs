//! Results from stream RESULTS, in order, acknowledged after what follows from them is durable (G2).

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::consumer::{DeliverPolicy, PullConsumer, pull};
use futures_util::StreamExt;
use protocol::{CheckResult, duration::millis, limits, stream, subject};
use service_kit::{
    Context, Delivery,
    consume::{self, AsyncBatchHandler, BatchLimits, ConsumerSpec, Rejected},
    now_ms, report,
};

use super::documents::fetch_hosts;
use crate::{
    core::{Incoming, RuleBook},
    engine::Shared,
};

/// Results that wait while nobody is behind: two batches.
const UNDER_WAY: u64 = 2_000;
/// Name of the readiness condition.
const STORE: &str = "alerter store";

/// # Errors
/// When the stream or the consumer cannot be made.
pub async fn consume(ctx: &Context, engine: Shared) -> anyhow::Result<()> {
    let spec = ConsumerSpec {
        stream: stream::RESULTS,
        name: stream::consumer::ALERTER,
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 5_000,
        ack_all: true,
    };
    let limits = BatchLimits { messages: 1_000, bytes: 8 * 1024 * 1024 };
    let handler = Handler { ctx: ctx.clone(), engine };
    consume::batches(ctx, spec, limits, handler).await
}

struct Handler {
    ctx: Context,
    engine: Shared,
}

impl AsyncBatchHandler for Handler {
    async fn handle(&mut self, batch: &[Delivery]) -> anyhow::Result<Rejected> {
        let mut rejected = Rejected::new();
        let mut results = Vec::with_capacity(batch.len());
        for (index, delivery) in batch.iter().enumerate() {
            match read(delivery.subject(), delivery.payload()) {
                Ok(result) => results.push(Incoming {
                    result,
                    published_ms: delivery.published_ms,
                    stream: delivery.sequence,
                }),
                Err(reason) => {
                    rejected.insert(index, reason);
                }
            }
        }
        let (results, unknown) = self
            .engine
            .run(move |engine| {
                results.retain(|incoming| !engine.is_gone(&incoming.result.agent));
                let unknown = engine.unknown_hosts(&results, now_ms());
                (results, unknown)
            })
            .await?;
        let hosts = fetch_hosts(&self.ctx.nats, unknown).await;
        let evaluated = self
            .engine
            .run(move |engine| {
                engine.add_hosts(hosts);
                engine.evaluate(&results, now_ms())
            })
            .await?;
        match &evaluated {
            Ok(()) => self.ctx.ready.met(STORE),
            Err(error) => self.ctx.ready.unmet(STORE, report(error)),
        }
        evaluated?;
        Ok(rejected)
    }
}

/// The broker enforces who may publish on a subject, so a body that names another agent or check is a lie.
fn read(subject: &str, payload: &[u8]) -> Result<CheckResult, String> {
    let (agent, check) =
        subject::result_parts(subject).ok_or_else(|| format!("{subject:?} names no agent and check"))?;
    let result: CheckResult = protocol::decode(payload, limits::RESULT).map_err(|error| error.to_string())?;
    if result.agent != agent || result.check != check {
        return Err(format!(
            "the body is a result of {}/{}, the subject is that of {agent}/{check}",
            result.agent, result.check
        ));
    }
    if result.metrics.len() > limits::METRICS {
        return Err(format!("{} metrics, more than the {} allowed", result.metrics.len(), limits::METRICS));
    }
    Ok(result)
}

/// Most results that are read again at a start, and the longest time that it may take.
const REMEMBERED: usize = 1_000_000;
const REMEMBER_FOR: Duration = Duration::from_secs(20);
/// Results remembered at once.
const BATCH: usize = 1_000;

/// Read what was judged before, so that windows and positions are those of before a restart, and windows of a new rule
/// have a past.
///
/// # Errors
/// When the stream cannot be read. What was read counts.
pub async fn remember(
    ctx: &Context,
    engine: &Shared,
    book: &Arc<RuleBook>,
    freshness: Duration,
) -> anyhow::Result<()> {
    let back_ms = book.longest_window_ms().max(2 * millis(freshness));
    let jetstream = ctx.jetstream();
    let Ok(stream) = jetstream.get_stream(stream::RESULTS.name).await else { return Ok(()) };
    // Without a consumer nothing was judged yet.
    let Ok(consumer) = stream.get_consumer::<pull::Config>(stream::consumer::ALERTER).await else {
        return Ok(());
    };
    let judged = consumer.cached_info().ack_floor.stream_sequence;
    let since_ms = now_ms().saturating_sub(back_ms);
    // What detectors learned and was not saved, however long ago that was.
    let unsaved_ms = engine.run(|engine| engine.unsaved_since_ms()).await?.unwrap_or(since_ms);
    let since = i128::from(since_ms.min(unsaved_ms)) * 1_000_000;
    let start_time = async_nats::datetime::DateTime::from_unix_timestamp_nanos(since)?;
    let from = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ..pull::OrderedConfig::default()
    };
    let last = stream.cached_info().state.last_sequence.min(judged);
    if last < stream.cached_info().state.first_sequence {
        return Ok(());
    }
    let mut messages = stream.create_consumer(from).await?.messages().await?;
    let deadline = tokio::time::Instant::now() + REMEMBER_FOR;
    let (mut batch, mut read_so_far, mut at) = (Vec::with_capacity(BATCH), 0, 0);
    while read_so_far < REMEMBERED && at < last {
        let message = match tokio::time::timeout_at(deadline, messages.next()).await {
            Ok(Some(message)) => message?,
            // Nothing of that time is left, or it takes too long.
            Ok(None) | Err(_) => break,
        };
        let info = message.info().map_err(|error| anyhow::anyhow!("a message without its place: {error}"))?;
        at = info.stream_sequence;
        let published_ms =
            u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        if at <= last
            && let Ok(result) = read(&message.subject, &message.payload)
        {
            batch.push(Incoming { result, published_ms, stream: at });
        }
        read_so_far += 1;
        let caught_up = at >= last || info.pending == 0;
        if batch.len() == BATCH || caught_up {
            let (book, batch) = (Arc::clone(book), std::mem::take(&mut batch));
            engine.run(move |engine| engine.remember(&book, &batch)).await?;
        }
        if caught_up {
            break;
        }
    }
    Ok(())
}

/// Whether all that was published is judged, but for what is under way. An error: nobody knows.
///
/// # Errors
/// When the broker does not answer.
pub async fn is_caught_up(ctx: &Context) -> anyhow::Result<bool> {
    let stream = ctx.jetstream().get_stream_no_info(stream::RESULTS.name).await?;
    let consumer: PullConsumer =
        stream.get_consumer(stream::consumer::ALERTER).await.map_err(|error| anyhow::anyhow!(error))?;
    Ok(consumer.cached_info().num_pending < UNDER_WAY)
}
