//! Watching what the agent and its checks take of the host, and letting checks run one at a time when it is too much.

use std::time::Duration;

use tokio::{sync::OwnedSemaphorePermit, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::checks::{Clock, Handle};
use crate::{
    core::guard::{Budget, Taken, Watch, taken},
    metrics::Metrics,
};

const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Watch until `stop`. `concurrency` is how many checks run at once within the budget.
///
/// # Errors
/// Never; the signature is that of a task.
pub async fn watch(
    budget: Budget,
    concurrency: u16,
    (checks, metrics): (Handle, Metrics),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (clock, mut watch) = (Clock::start(), Watch::new(budget));
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The places of all checks but one, while it is too much.
    let mut withheld: Option<OwnedSemaphorePermit> = None;
    let mut over = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        let Some(read) = read() else { continue };
        let standing = watch.look(clock.now(), read);
        metrics.memory_bytes.set(standing.memory_bytes);
        metrics.cpu_percent.set(standing.cpu_percent);
        metrics.over_budget.set(u64::from(standing.over.is_some()));
        match standing.over {
            Some(reason) => {
                if !std::mem::replace(&mut over, true) {
                    tracing::warn!(reason, "over the agent's budget: one check runs at a time from now on");
                }
                if withheld.is_none() {
                    let others = u32::from(concurrency.saturating_sub(1));
                    let permits = std::sync::Arc::clone(&checks.permits);
                    withheld = tokio::select! {
                        permits = permits.acquire_many_owned(others) => permits.ok(),
                        () = stop.cancelled() => return Ok(()),
                    };
                }
            }
            None => {
                if std::mem::replace(&mut over, false) {
                    tracing::info!("within the agent's budget again: {concurrency} checks run at once");
                }
                withheld = None;
            }
        }
    }
}

fn read() -> Option<Taken> {
    let text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
    taken(&text("stat")?, &text("status")?, rustix::param::clock_ticks_per_second())
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_can_be_read() {
        let taken = super::read().unwrap();
        assert!(taken.memory_bytes > 1 << 20, "{taken:?}");
    }
}
