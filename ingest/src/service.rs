use std::{sync::Arc, time::Duration};

use service_kit::{Context, report};
use tokio::time::MissedTickBehavior;

use crate::{
    counters::Counters,
    inbound::{prometheus, questions, results},
    outbound::{hosts, watermarks},
    query::Prometheus,
    settings::Settings,
    store::{Fjall, ResultStore},
    writer::{Writer, WriterError},
};

const EXPIRE_EVERY: Duration = Duration::from_secs(3600);

/// Start ingest. Returns once it consumes and answers; stops with `ctx.tasks`.
///
/// # Errors
/// When the data folder is in use or cannot be opened, or the broker refuses.
pub async fn start(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let counters = Counters::new(&ctx);
    let store = Fjall::new(&settings.data, settings.keep_free, counters.damaged.clone())?;
    start_with(Arc::new(store), settings, ctx, counters).await
}

/// [`start`] on a store of the caller's choice.
///
/// # Errors
/// As [`start`].
pub async fn start_with(
    store: Arc<dyn ResultStore>,
    settings: Settings,
    ctx: Context,
    counters: Counters,
) -> anyhow::Result<()> {
    let (writer, thread) = Writer::start(Arc::clone(&store), counters).await?;
    ctx.tasks.spawn("store", async move { Ok(thread.await?) });
    let prometheus = Prometheus::new(Arc::clone(&store), hosts::follow(&ctx), &settings, ctx.tasks.token());
    prometheus::answer(&ctx, prometheus, settings.query_timeout).await?;
    questions::answer(&ctx, writer.clone(), store).await?;
    watermarks::publish(&ctx, writer.clone());
    expire(&ctx, writer.clone(), settings.retention);
    results::consume(&ctx, settings.batch(), writer).await
}

/// Delete what is older than `keep`, now and every hour.
fn expire(ctx: &Context, writer: Writer, keep: Duration) {
    let token = ctx.tasks.token();
    ctx.tasks.spawn("retention", async move {
        let mut tick = tokio::time::interval(EXPIRE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = token.cancelled() => return Ok(()),
            }
            match writer.expire(keep).await {
                Ok(0) => {}
                Ok(gone) => tracing::info!(gone, "deleted results whose retention is over"),
                Err(WriterError::Store(error)) => {
                    tracing::error!(error = report(&error), "expired results could not be deleted");
                }
                Err(WriterError::Stopped) => anyhow::bail!(WriterError::Stopped),
            }
        }
    });
}
