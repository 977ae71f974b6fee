//! Looks after the room on the disk of the store, also while no results come.

use std::{io, path::Path, path::PathBuf, time::Duration};

use service_kit::Context;
use tokio::time::MissedTickBehavior;

use crate::{
    core::room::{Level, Room},
    counters::Counters,
};

const EVERY: Duration = Duration::from_secs(2);
/// Condition of readiness.
const DISK: &str = "disk of results";

/// Bytes that a program without privileges may still write.
///
/// # Errors
/// As the file system says.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Measure until the service stops: a metric, the log, and readiness follow.
pub fn watch(ctx: &Context, folder: PathBuf, mut room: Room, counters: Counters) {
    let (ready, token) = (ctx.ready.clone(), ctx.tasks.token());
    ctx.tasks.spawn("room on the disk", async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while token.run_until_cancelled(tick.tick()).await.is_some() {
            let Ok(free) = free_bytes(&folder) else { continue };
            counters.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
            let Some(level) = room.judge(free) else { continue };
            counters.disk_full.set(i64::from(level == Level::Full));
            let folder = folder.display();
            match level {
                Level::Enough => {
                    ready.met(DISK);
                    tracing::info!(%folder, free, "the disk of results has room again");
                }
                Level::Low => {
                    ready.met(DISK);
                    tracing::warn!(%folder, free, "the disk of results gets full: make room, or lower --retention");
                }
                Level::Full => {
                    ready.unmet(DISK, format!("{folder} has {free} bytes left: results wait in the broker, and then at their agents, until there is room"));
                    tracing::error!(%folder, free, "the disk of results is nearly full: nothing is stored or acknowledged until there is room");
                }
            }
        }
        Ok(())
    });
}
