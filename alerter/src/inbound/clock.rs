//! Time that passes: silence is noticed while everything that is published is judged at once.

use std::time::{Duration, Instant};

use async_nats::connection::State;
use service_kit::{Context, now_ms, report};

use super::results;
use crate::engine::Shared;

const EVERY: Duration = Duration::from_secs(1);
/// How often is asked whether results wait, while none seem to.
const CHECK_EVERY: u32 = 10;
/// A pause of the whole process or machine.
const PAUSE: Duration = Duration::from_secs(10);

pub async fn run(ctx: Context, engine: Shared) -> anyhow::Result<()> {
    let token = ctx.tasks.token();
    let (mut last, mut round) = (Instant::now(), 0_u32);
    let mut failed = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = token.cancelled() => return Ok(()),
        }
        round = round.wrapping_add(1);
        let paused = std::mem::replace(&mut last, Instant::now()).elapsed() > PAUSE;
        let connected = ctx.nats.connection_state() == State::Connected;
        let watching = engine.run(|engine| engine.is_watching()).await?;
        let watch = if paused || !connected {
            false
        } else if watching && round % CHECK_EVERY != 0 {
            true
        } else {
            results::is_caught_up(&ctx).await.unwrap_or(false)
        };
        let ticked = engine.run(move |engine| {
            if watch != engine.is_watching() {
                engine.watch(watch);
            }
            engine.tick(now_ms())
        });
        let ticked = ticked.await?;
        if let (Err(error), false) = (&ticked, failed) {
            tracing::warn!(error = report(error), "what time brought cannot be written");
        }
        failed = ticked.is_err();
    }
}
