//! Stream AUDIT as a whole: read to its end, and written anew.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{DeliverPolicy, pull},
    message::PublishMessage,
};
use futures_util::StreamExt;
use protocol::{archive::Line, audit::AuditEvent, limits, stream::AUDIT, subject};
use service_kit::{Context, report, streams};

/// How long the next entry may take.
const NEXT: Duration = Duration::from_secs(10);
/// Entries written before their acknowledgements are awaited.
const BATCH: usize = 256;

/// Hand every entry to `each`, oldest first.
///
/// # Errors
/// When the stream cannot be read, or `each` fails.
pub(crate) async fn read(
    ctx: &Context,
    mut each: impl FnMut(AuditEvent) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let stream = streams::ensure_stream(&ctx.jetstream(), &AUDIT).await?;
    let state = stream.cached_info().state.clone();
    if state.messages == 0 {
        return Ok(());
    }
    let config = pull::OrderedConfig { deliver_policy: DeliverPolicy::All, ..pull::OrderedConfig::default() };
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    loop {
        let message = tokio::time::timeout(NEXT, messages.next()).await;
        let message = message.map_err(|_| anyhow::anyhow!("stream AUDIT gave nothing for {NEXT:?}"))?;
        let Some(message) = message.transpose()? else { anyhow::bail!("stream AUDIT ended early") };
        let info = message.info().map_err(|error| anyhow::anyhow!("an entry without its place: {error}"))?;
        // What came meanwhile belongs to the next time.
        let (sequence, pending) = (info.stream_sequence, info.pending);
        if sequence <= state.last_sequence
            && let Ok(event) = protocol::decode(&message.payload, limits::MESSAGE)
        {
            each(event)?;
        }
        if sequence >= state.last_sequence || pending == 0 {
            return Ok(());
        }
    }
}

/// Hold these entries and no others. After a failure on the way it has to be said again.
///
/// # Errors
/// When the stream cannot be written, or an entry cannot be read.
pub(crate) async fn replace(
    ctx: &Context,
    entries: impl Iterator<Item = anyhow::Result<Line>> + Send,
) -> anyhow::Result<()> {
    let jetstream = ctx.jetstream();
    let stream = streams::ensure_stream(&jetstream, &AUDIT).await?;
    stream.purge().await?;
    let mut waiting = Vec::with_capacity(BATCH);
    for entry in entries {
        let Line::Audit { event } = entry? else { continue };
        let message = PublishMessage::build().payload(protocol::encode(&event)?.into());
        let sent = jetstream.send_publish(subject::audit(ctx.name), message).await;
        waiting.push(sent.map_err(|error| anyhow::anyhow!("stream AUDIT: {}", report(&error)))?);
        if waiting.len() == BATCH {
            acknowledged(&mut waiting).await?;
        }
    }
    acknowledged(&mut waiting).await
}

async fn acknowledged(
    waiting: &mut Vec<async_nats::jetstream::context::PublishAckFuture>,
) -> anyhow::Result<()> {
    for ack in waiting.drain(..) {
        ack.await?;
    }
    Ok(())
}
