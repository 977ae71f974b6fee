//! Putting the agent together.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use protocol::CheckName;
use service_kit::{Context, files::DataFolder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    core::{
        check::{Plan, phase_seed},
        resolve::resolve,
    },
    inbound::{config::Follower, link, local::Local, run},
    metrics::Metrics,
    outbound::{
        checks::{Checks, Clock, Handle},
        probe::command,
        resolver::Resolver,
        sender::Sender,
    },
    settings::Settings,
    store::{self, life, results::Results, spool::Limits},
};

/// Start the agent. It needs no broker: it begins with the last good configuration and its spool (G7).
///
/// When the service stops, running checks are ended without a result, what is spooled is sent for a short time, and
/// the spool is synced.
///
/// # Errors
/// When the state folder or the policy cannot be used, or no id can be made for this host.
pub async fn start(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    launch(settings, ctx, Resolver::Here(resolve)).await.map(drop)
}

/// End the commands of an agent that was killed: the folder is locked, so that it lives no more.
fn begin_life(folder: &Path) {
    let left = life::former(folder).map_or(0, |former| command::end_former(&former));
    if left > 0 {
        tracing::warn!(processes = left, "ended what the checks of an agent that was killed left behind");
    }
    if let Err(error) = life::save(folder, &command::life()) {
        tracing::warn!(%error, "if this agent is killed, what its checks run then will not be ended at the next start");
    }
}

/// What [`crate::program`] needs of an agent that runs.
pub struct Running {
    pub local: watch::Sender<Local>,
    pub plan: watch::Receiver<Arc<Plan>>,
    pub link: watch::Receiver<u64>,
    pub checks: Handle,
    pub metrics: Metrics,
}

/// As [`start`].
///
/// # Errors
/// As [`start`].
pub async fn launch(settings: Settings, ctx: Context, resolver: Resolver) -> anyhow::Result<Running> {
    let agent = settings.id()?;
    let (local, local_changes) = watch::channel({
        let settings = settings.clone();
        tokio::task::spawn_blocking(move || Local::load(&settings)).await??
    });
    let (path, metrics, clock) = (settings.state.clone(), Metrics::register(&ctx), Clock::start());
    let limits = Limits { max_bytes: settings.spool_max_bytes, max_age: settings.spool_max_age };
    let (folder, results, accepted) = {
        let (metrics, now) = (metrics.clone(), clock.now());
        tokio::task::spawn_blocking(move || {
            let folder = DataFolder::open(&path)?;
            begin_life(folder.path());
            let results = Results::open(&folder.path().join("spool"), limits, now, metrics)?;
            let accepted = store::trust::load(folder.path()).map_err(anyhow::Error::msg)?;
            anyhow::Ok((folder, results, accepted))
        })
        .await??
    };
    let checks_folder = folder.path().join("checks");
    let folder = Arc::new(Mutex::new(folder));
    tracing::info!(%agent, state = %settings.state.display(), "this agent");

    let link = link::follow(&ctx);
    let seed = CheckName::new("configuration").map_or(0, |name| phase_seed(&agent, &name));
    let follower = Follower {
        ctx: ctx.clone(),
        agent: agent.clone(),
        folder: Arc::clone(&folder),
        accepted,
        resolver,
        local: local_changes,
        poll: settings.poll,
        seed,
        metrics: metrics.clone(),
    };
    let plan = follower.start(link.clone()).await;
    let (orders, ordered) = tokio::sync::mpsc::channel(4);
    run::serve(&ctx, &agent, orders).await?;

    // The sender goes on until the checks have added their last result.
    let (stop, quiet) = (ctx.tasks.token(), CancellationToken::new());
    let concurrency = usize::from(settings.concurrency);
    let checks = Checks::new(agent.clone(), clock, results.clone(), metrics.clone(), concurrency)
        .remembering_in(checks_folder)
        .pause_after(settings.guard.pause_after);
    let running = Running {
        local,
        plan: plan.clone(),
        link: link.clone(),
        checks: checks.handle(),
        metrics: metrics.clone(),
    };
    let no_more = quiet.clone().drop_guard();
    ctx.tasks.spawn("checks", async move {
        let _no_more = no_more;
        checks.run(plan, ordered, stop).await
    });
    let (until, replay_rate) = (settings.spool_until, settings.replay_rate);
    let sender = Sender { ctx: ctx.clone(), agent, clock, results, metrics, until, replay_rate };
    ctx.tasks.spawn("sender", async move {
        // The folder is this process's until the last write.
        let _folder = folder;
        sender.run(link, quiet).await
    });
    Ok(running)
}
