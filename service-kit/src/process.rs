//! The life of a program that runs one service.

use std::{future::Future, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{Context, Metrics, Readiness, Tasks, nats, nats::Wait, settings, settings::Common, telemetry};

/// Settings of a program that runs one service.
pub trait ServiceSettings: Parser {
    fn common(&self) -> &Common;

    /// What there is to do before the connection is made.
    ///
    /// # Errors
    /// What keeps the program from starting.
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Whether the service can start without the broker.
    fn wait(&self) -> Wait {
        Wait::ForBroker
    }

    /// Prefix of its reply inboxes, where the broker demands one.
    fn inbox_prefix(&self) -> Option<String> {
        None
    }

    /// What carries the tasks of a program of this service alone; a thread for each core unless it says otherwise.
    #[must_use]
    fn runtime() -> runtime::Builder {
        runtime::Builder::new_multi_thread()
    }
}

/// Run one service until SIGINT or SIGTERM: exit code 0 when it stopped in order, 1 when it failed or had to be cut
/// off, 2 for wrong settings. A second signal ends the process at once.
pub fn main<S, F>(name: &'static str, start: impl FnOnce(S, Context) -> F) -> ExitCode
where
    S: ServiceSettings,
    F: Future<Output = anyhow::Result<()>>,
{
    main_with(name, settings::load(), start)
}

/// [`main`] with settings that were read already.
pub fn main_with<S, F>(name: &'static str, settings: S, start: impl FnOnce(S, Context) -> F) -> ExitCode
where
    S: ServiceSettings,
    F: Future<Output = anyhow::Result<()>>,
{
    match run(name, settings, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = crate::report(error.as_ref());
            tracing::error!(service = name, "{reason}");
            let usage = error.downcast_ref::<nats::ConnectError>().is_some_and(nats::ConnectError::is_usage)
                || error.is::<settings::WrongSettings>();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn run<S, F>(name: &'static str, mut settings: S, start: impl FnOnce(S, Context) -> F) -> anyhow::Result<()>
where
    S: ServiceSettings,
    F: Future<Output = anyhow::Result<()>>,
{
    telemetry::init(&settings.common().log)?;
    settings.prepare()?;
    let common = settings.common().clone();
    let runtime = S::runtime().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let (tasks, ready, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
        let token = tasks.token();
        tokio::spawn(async move {
            stop_signal().await;
            tracing::info!(service = name, "stopping; a second signal ends it at once");
            token.cancel();
            stop_signal().await;
            tracing::warn!(service = name, "ended at once by a second signal");
            std::process::exit(1);
        });
        ready.unmet(name, "starting");
        if let Some(address) = common.monitor {
            crate::monitor::serve(address, metrics.clone(), ready.clone(), &tasks).await?;
        }
        let token = tasks.token();
        let started = async {
            let client = nats::connect(
                &common.nats,
                name,
                settings.inbox_prefix(),
                settings.wait(),
                (&metrics, &ready),
                &token,
            )
            .await?;
            let ctx = Context { name, nats: client, tasks: tasks.clone(), ready: ready.clone(), metrics };
            start(settings, ctx.clone()).await?;
            anyhow::Ok(ctx)
        };
        let ctx = match started.await {
            Ok(ctx) => ctx,
            // A stop while still waiting for the broker is an orderly stop.
            Err(_) if token.is_cancelled() => return Ok(tasks.finish(common.grace).await?),
            Err(error) => return Err(error),
        };
        ready.met(name);
        tracing::info!(service = name, version = env!("CARGO_PKG_VERSION"), "started");
        let failure = tokio::select! {
            () = token.cancelled() => None,
            reason = tasks.failed() => Some(reason),
        };
        ready.unmet(name, "stopping");
        tasks.finish(common.grace).await?;
        leave(&ctx.nats).await;
        match failure {
            None => Ok(()),
            Some(reason) => Err(anyhow::anyhow!("{reason}")),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(500));
    if outcome.is_ok() {
        tracing::info!(service = name, "stopped");
    }
    outcome
}

/// Send what is still buffered; a broker that is away is not waited for.
pub async fn flush(client: &async_nats::Client) {
    let flushed = tokio::time::timeout(Duration::from_secs(1), client.flush()).await;
    if !matches!(flushed, Ok(Ok(()))) {
        tracing::debug!("the broker is away: nothing more could be sent");
    }
}

/// Send what is still buffered and leave the broker. A broker that is away is not waited for.
pub async fn leave(client: &async_nats::Client) {
    flush(client).await;
    if let Err(error) = client.drain().await {
        tracing::debug!(%error, "the connection was closed before");
    }
}

/// Resolves at the next SIGINT or SIGTERM.
pub async fn stop_signal() {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        // Without handlers the default action ends the process, which is what was asked for.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
