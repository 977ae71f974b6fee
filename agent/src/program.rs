//! The agent as a process of its own: what it must not do inside of another program, where signals, the service manager
//! and the memory belong to somebody else.

use service_kit::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    inbound::local::Local,
    outbound::{
        budget,
        resolver::Resolver,
        systemd::{self, Systemd},
    },
    service::{Running, launch},
    settings::Settings,
};

/// As [`crate::service::start`]; besides, SIGHUP reloads, systemd is told, and the agent's own budget is watched.
///
/// # Errors
/// As [`crate::service::start`].
pub async fn start(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    // Ahead of all that takes time: without a handler the signal ends the process.
    let hangup = signal(SignalKind::hangup())?;
    let (budget, concurrency) = (settings.guard.budget(), settings.concurrency);
    let Running { local, plan, link, checks, metrics } =
        launch(settings, ctx.clone(), Resolver::beside()?).await?;
    let stop = ctx.tasks.token();
    ctx.tasks.spawn("budget", budget::watch(budget, concurrency, (checks.clone(), metrics), stop.clone()));
    ctx.tasks.spawn("systemd", Systemd { plan, link, checks }.run(stop.clone()));
    ctx.tasks.spawn("reload", reload(hangup, local, stop));
    Ok(())
}

/// At each SIGHUP: labels, policy and the facts folder as the settings have them now, programs that give facts run
/// again, and the service is asked. Other settings wait for the next start.
async fn reload(
    mut hangup: Signal,
    local: tokio::sync::watch::Sender<Local>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(()) = hangup.recv() => {}
        }
        systemd::reloading();
        let before = local.borrow().clone();
        let read = move || {
            let settings = service_kit::settings::load_from::<Settings>(std::env::args_os());
            before.reloaded(settings.map_err(|error| error.to_string().trim_end().to_owned()))
        };
        let now = tokio::task::spawn_blocking(read).await?;
        match &now.problem {
            None => tracing::info!("labels and policy were read again; asking for the configuration"),
            Some(problem) => tracing::error!("{problem}"),
        }
        local.send_replace(now);
        systemd::reloaded();
    }
}
