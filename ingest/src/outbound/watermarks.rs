//! Tells agents how far their results are durable, so that they may forget them.

use std::time::Duration;

use protocol::subject;
use service_kit::{Context, report};
use tokio::time::MissedTickBehavior;

use crate::writer::{Writer, WriterError};

/// Each agent is told at most this often. One that misses it asks.
const EVERY: Duration = Duration::from_millis(100);

/// Publish watermarks until the service stops.
pub fn publish(ctx: &Context, writer: Writer) {
    let (nats, token) = (ctx.nats.clone(), ctx.tasks.token());
    ctx.tasks.spawn("watermarks", async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = token.cancelled() => return Ok(()),
            }
            let touched = match writer.touched().await {
                Ok(touched) => touched,
                Err(WriterError::Store(_)) => continue,
                Err(stopped) => anyhow::bail!(stopped),
            };
            for stored in touched {
                let body = protocol::encode(&stored)?;
                let sent = nats.publish(subject::stored(&stored.agent), body.into());
                // With the broker away, publishing waits once the client's buffer is full; stop all the same.
                tokio::select! {
                    sent = sent => if let Err(error) = sent {
                        tracing::debug!(error = report(&error), "a watermark could not be sent");
                    },
                    () = token.cancelled() => return Ok(()),
                }
            }
        }
    });
}
