//! `dogwatch up`: a NATS server and every service, started in order, watched, stopped in reverse order.
//!
//! What runs is listed once, in `parts.rs`. The services run in this process, each with its own connection and its own
//! tasks; the NATS server is a child process (`nats_server.rs`). Everything is kept in one folder (`local.rs`).

pub(crate) mod local;
mod nats_server;
mod parts;
mod ports;
mod progress;
mod signing;
mod starter;

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use protocol::AgentId;
use service_kit::{files::DataFolder, process, telemetry};
use tokio_util::sync::CancellationToken;

use crate::{args::UpArgs, broker_setup::BrokerSetup, output::note};
use nats_server::NatsServer;
use parts::{Running, Surroundings};
use progress::Progress;

/// How long the services may take to stop, together. The NATS server has the rest of 10 seconds.
const GRACE: Duration = Duration::from_millis(7_000);

/// # Errors
/// What failed, where, and what to do; everything that was started is stopped by then.
pub(crate) fn run(args: UpArgs) -> anyhow::Result<()> {
    telemetry::init(&telemetry::LogSettings { log: args.log.clone(), log_format: args.log_format })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(up(&args));
    runtime.shutdown_timeout(Duration::from_millis(500));
    done
}

async fn up(args: &UpArgs) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let nats_pid = nats_server::PidCell::default();
    tokio::spawn(signals(stop.clone(), nats_pid.clone()));

    let mut progress = Progress::new(parts::count(args) + 3);
    progress.step("data folder");
    let folder = DataFolder::open(&args.data)?;
    let path =
        folder.path().canonicalize().with_context(|| format!("cannot find {}", args.data.display()))?;
    local::remove_endpoint(&path);
    ports::free(args.http, "--http ADDR")?;
    ports::free(args.submit, "--submit ADDR")?;

    progress.step("nats-server");
    let agent = if args.no_agent { None } else { Some(parts::agent_id()?) };
    let monitor = ports::any()?;
    let signing_key = signing::prepare(&path)?;
    let files = prepare_broker(args, &path, agent.as_ref(), monitor)?;
    let server = nats_server::find(args.nats_server.as_deref())?;
    nats_server::stop_leftover(&path.join("nats")).await?;
    ports::free(([127, 0, 0, 1], args.nats_port).into(), "--nats-port N")?;
    let mut nats =
        NatsServer::start(&server, &path.join("nats"), (args.nats_port, monitor), nats_pid, &stop).await?;

    let mut running = Running::default();
    let surroundings = Surroundings {
        args,
        folder: &path,
        files: &files,
        signing_key: signing_key.as_ref(),
        agent: agent.as_ref(),
        stop: &stop,
    };
    let outcome = serve(&surroundings, &mut progress, &mut running, &mut nats).await;

    // Whatever happened, all of it stops in order.
    progress.finish();
    local::remove_endpoint(&path);
    let deadline = Instant::now() + GRACE;
    let stopped = running.stop(deadline).await;
    note("stopping nats-server");
    nats.stop().await;
    drop(folder);
    match (outcome, stopped) {
        (Ok(()), Ok(())) => {
            note("stopped");
            Ok(())
        }
        (Err(error), _) => Err(error),
        (Ok(()), Err(error)) => Err(error),
    }
}

fn prepare_broker(
    args: &UpArgs,
    folder: &Path,
    agent: Option<&AgentId>,
    monitor: SocketAddr,
) -> anyhow::Result<crate::broker_setup::BrokerFiles> {
    let nats = folder.join("nats");
    let files = BrokerSetup {
        folder: &nats,
        agent_folder: &nats,
        admin_key: &local::admin_key(folder),
        // On loopback: other hosts come over HTTP until they have certificates.
        listen: ([127, 0, 0, 1], args.nats_port).into(),
        monitor: Some(monitor),
        store: &nats.join("store"),
        log: Some(&nats.join("nats-server.log")),
        agents: agent.map(std::slice::from_ref).unwrap_or_default(),
    }
    .prepare()?;
    Ok(files)
}

/// Start the parts and run until a stop or a failure.
async fn serve(
    surroundings: &Surroundings<'_>,
    progress: &mut Progress,
    running: &mut Running,
    nats: &mut NatsServer,
) -> anyhow::Result<()> {
    let (args, folder, stop) = (surroundings.args, surroundings.folder, surroundings.stop);
    let started = async {
        parts::start(surroundings, progress, running).await?;
        progress.step("starter documents");
        if let Some(client) = running.client() {
            starter::apply_once(folder, args.empty, surroundings.signing_key, client).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        started = started => started?,
        reason = nats.failed() => anyhow::bail!(reason),
        () = stop.cancelled() => return Ok(()),
    }
    let url = local::url(args.http);
    local::write_endpoint(folder, &url)?;
    progress.finish();
    let key = args.data.join(local::ADMIN_KEY);
    // The one line on stdout: programs wait for it. Nobody reads it when stdout is closed.
    let mut stdout = std::io::stdout();
    let _told = writeln!(stdout, "ready  {url}  admin key in {}", key.display());
    let _told = stdout.flush();
    tokio::select! {
        reason = running.failed() => Err(anyhow::anyhow!("{reason}: stopping everything")),
        reason = nats.failed() => Err(anyhow::anyhow!(reason)),
        () = stop.cancelled() => Ok(()),
    }
}

/// The first signal asks for an orderly stop, the second ends everything at once.
async fn signals(stop: CancellationToken, nats_pid: nats_server::PidCell) {
    signal().await;
    note("stopping; a second Ctrl-C ends it at once");
    stop.cancel();
    signal().await;
    nats_pid.kill();
    note("ended at once");
    std::process::exit(1);
}

/// SIGINT, SIGTERM, or the terminal that closes.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let hangup = async {
        match signal(SignalKind::hangup()) {
            Ok(mut hangup) => hangup.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = process::stop_signal() => {}
        _ = hangup => {}
    }
}
