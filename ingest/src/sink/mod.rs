//! Results to a second place, beside the store: Prometheus remote write.
//!
//! The sink reads stream RESULTS with a durable consumer of its own, so that its place survives a kill, an outage of the
//! receiver, and one of the store; the stream is its queue, and the stream's limits are that queue's. A message is
//! acknowledged when each of its samples was taken, or refused for good and counted. What a kill leaves unacknowledged is
//! sent again: receivers keep one of two equal samples.
//!
//! [`crate::core::remote`] decides; [`client`] talks; [`handler`] is the loop.

mod client;
mod handler;
mod message;
mod place;
pub mod settings;

use std::{path::Path, sync::Arc, time::Duration};

use protocol::stream;
use service_kit::{
    Context,
    consume::{self, BatchLimits, ConsumerSpec},
};
use tokio::sync::watch;

use crate::{core::times::Times, outbound::hosts::HostLabels};
use settings::RemoteWrite;

/// A batch that is with the receiver for longer is offered again, and known again.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// Results in one acknowledgement.
const BATCH: BatchLimits = BatchLimits { messages: 2_000, bytes: 4 * 1024 * 1024 };
/// How long the labels of hosts are waited for at the start.
const LABELS: Duration = Duration::from_secs(6);

/// Send results on from now on, if a receiver is set. `folder` keeps its place.
///
/// # Errors
/// When the settings are at fault, or the consumer cannot be made.
pub async fn start(
    ctx: &Context,
    settings: &RemoteWrite,
    folder: &Path,
    times: Times,
    mut hosts: watch::Receiver<Arc<HostLabels>>,
) -> anyhow::Result<()> {
    let Some(client) = client::Client::new(settings)? else { return Ok(()) };
    // Without them the first samples would be other series. Whoever has no config-service goes on without.
    let _labels = tokio::time::timeout(LABELS, hosts.changed()).await;
    let spec = ConsumerSpec {
        stream: stream::RESULTS,
        name: stream::consumer::REMOTE_WRITE,
        ack_wait: ACK_WAIT,
        max_ack_pending: i64::try_from(BATCH.messages).unwrap_or(i64::MAX).saturating_mul(4),
        ack_all: true,
    };
    let place = place::Place::in_folder(folder);
    tracing::info!(receiver = client.host(), "results are sent on by remote write");
    let handler = handler::Handler::new(ctx, client, settings.request_samples(), times, hosts, place);
    consume::batches(ctx, spec, BATCH, handler).await
}
