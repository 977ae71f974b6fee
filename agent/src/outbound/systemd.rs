//! Telling systemd how the agent is: ready, reloading, stopping, a line for `systemctl status`, and that it is alive.
//!
//! Without `NOTIFY_SOCKET` in the environment all of this does nothing.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::checks::Handle;
use crate::core::check::Plan;

/// What is told of.
pub struct Systemd {
    pub plan: watch::Receiver<Arc<Plan>>,
    pub link: watch::Receiver<u64>,
    pub checks: Handle,
}

impl Systemd {
    /// Ready now; then alive as long as the schedule goes round, until `stop`.
    ///
    /// # Errors
    /// Never; the signature is that of a task.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        tell(&[NotifyState::Ready, NotifyState::Status(&self.status())]);
        let watchdog = sd_notify::watchdog_enabled();
        let period = watchdog.map_or(Duration::MAX, |limit| limit / 2).max(Duration::from_millis(50));
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = self.plan.changed() => tell(&[NotifyState::Status(&self.status())]),
                Ok(()) = self.link.changed() => tell(&[NotifyState::Status(&self.status())]),
                _ = tick.tick(), if watchdog.is_some() => {
                    // A schedule that stands still is what the watchdog is for: then nothing is said.
                    let turned = tokio::time::timeout(period, self.checks.turned()).await;
                    if turned == Ok(true) {
                        tell(&[NotifyState::Watchdog]);
                    }
                }
            }
        }
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
        Ok(())
    }

    fn status(&mut self) -> String {
        let plan = self.plan.borrow_and_update();
        let broker = if *self.link.borrow_and_update() > 0 { "connected" } else { "away, results are kept" };
        let (revision, checks, problems) = (plan.revision, plan.checks.len(), plan.problems.len());
        format!("revision {revision}: {checks} checks, {problems} that cannot run; the broker is {broker}")
    }
}

/// The settings are being read again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
}

pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
