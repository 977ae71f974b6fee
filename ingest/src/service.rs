use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol::duration::millis;
use service_kit::{Context, report};
use tokio::time::MissedTickBehavior;

use crate::{
    core::{clock::Clocks, room::Room},
    counters::Counters,
    inbound::{prometheus, questions, results, results::Entry},
    outbound::{hosts, watermarks},
    query::Prometheus,
    room,
    settings::Settings,
    sink,
    store::{Fjall, Maintained, ResultStore, Retention, StoreError},
    writer::Writer,
};

const MAINTAIN_EVERY: Duration = Duration::from_secs(10);

/// Start ingest. Returns once it consumes and answers; stops with `ctx.tasks`.
///
/// # Errors
/// When the data folder is in use or cannot be opened, or the broker refuses.
pub async fn start(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let counters = Counters::new(&ctx);
    let store = Fjall::new(&settings.data, settings.keep_free, counters.damaged.clone())?;
    let room = Room::new(settings.warn_free, settings.keep_free);
    room::watch(&ctx, settings.data.clone(), room, counters.clone());
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
    let (writer, thread) =
        Writer::start(Arc::clone(&store), settings.series_limit(), counters.clone()).await?;
    ctx.tasks.spawn("store", async move { Ok(thread.await?) });
    let hosts = hosts::follow(&ctx);
    let prometheus = Prometheus::new(Arc::clone(&store), hosts.clone(), &settings, ctx.tasks.token());
    prometheus::answer(&ctx, prometheus, settings.query_timeout).await?;
    let clocks = Arc::new(Mutex::new(Clocks::new(millis(settings.clock_limit))));
    questions::answer(&ctx, writer.clone(), Arc::clone(&store), Arc::clone(&clocks)).await?;
    watermarks::publish(&ctx, writer.clone());
    maintain(&ctx, store, settings.retention(), counters.clone());
    let entry = Entry { writer, times: settings.times(), clocks, counters };
    results::consume(&ctx, settings.batch(), entry).await?;
    sink::start(&ctx, &settings.remote_write, &settings.data, settings.times(), hosts).await
}

/// Seal, merge and expire, now and then. The last round is finished before the task ends.
fn maintain(ctx: &Context, store: Arc<dyn ResultStore>, retention: Retention, counters: Counters) {
    let token = ctx.tasks.token();
    ctx.tasks.spawn("maintenance", async move {
        let mut tick = tokio::time::interval(MAINTAIN_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = token.cancelled() => return Ok(()),
            }
            let store = Arc::clone(&store);
            let round =
                tokio::task::spawn_blocking(move || store.maintain(service_kit::now_ms(), &retention));
            match round.await? {
                Ok(Maintained { sealed, merged, rolled_up, expired }) => {
                    counters.sealed.inc_by(sealed);
                    counters.expired.inc_by(expired);
                    if sealed + merged + rolled_up + expired > 0 {
                        tracing::info!(
                            sealed,
                            merged,
                            rolled_up,
                            expired,
                            "the store was maintained, in results"
                        );
                    }
                }
                // The writer opens the store again.
                Err(StoreError::Closed { .. }) => {}
                Err(error) => {
                    counters.failed_maintenance.inc();
                    tracing::error!(
                        error = report(&error),
                        "the store could not be maintained; trying again"
                    );
                }
            }
        }
    });
}
