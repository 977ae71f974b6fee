//! What `up` runs, in the order of the start: the one list of parts.

use std::{ffi::OsString, future::Future, path::Path, time::Instant};

use anyhow::Context as _;
use async_nats::Client;
use futures_util::{StreamExt, stream::FuturesUnordered};
use protocol::{AgentId, signed::SigningKey};
use service_kit::{Context, Metrics, Readiness, Tasks, nats, process, process::ServiceSettings};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use crate::{args::UpArgs, broker_setup::BrokerFiles, output::note};

/// What the parts stand in.
pub(crate) struct Surroundings<'a> {
    pub(crate) args: &'a UpArgs,
    /// Absolute.
    pub(crate) folder: &'a Path,
    pub(crate) files: &'a BrokerFiles,
    /// Signs the documents that this host's agent is to run, unless the folder is older than such keys.
    pub(crate) signing_key: Option<&'a SigningKey>,
    /// This host's agent, unless it is left out.
    pub(crate) agent: Option<&'a AgentId>,
    pub(crate) stop: &'a CancellationToken,
}

/// How many parts [`start`] starts.
pub(crate) fn count(args: &UpArgs) -> usize {
    if args.no_agent { 4 } else { 5 }
}

/// Start every part; those that did start are in `running`, also after an error.
///
/// # Errors
/// What the first part that does not start says.
pub(crate) async fn start(
    surroundings: &Surroundings<'_>,
    progress: &mut Progress,
    running: &mut Running,
) -> anyhow::Result<()> {
    let Surroundings { args, folder, files, agent, .. } = *surroundings;
    let data = |name: &str| -> [OsString; 2] { ["--data".into(), folder.join(name).into()] };
    let mut launch = Launch { surroundings, progress, running };

    let [flag, config_data] = data("config");
    let key = super::local::admin_key(folder).into();
    launch
        .part(
            "config-service",
            vec![
                flag,
                config_data,
                "--admin-key-file".into(),
                key,
                "--issuer-seed-file".into(),
                files.issuer_seed.clone().into(),
                "--system-nkey-file".into(),
                files.system_seed.clone().into(),
            ],
            config_service::start,
        )
        .await?;
    launch.part("ingest", data("results").into(), ingest::start).await?;
    let [flag, alerts] = data("alerts");
    // A first receiver is on the same machine as all the rest.
    let networks = "public,private,loopback".into();
    let secrets = folder.join("secrets").into();
    let flags = vec![flag, alerts, "--receiver-networks".into(), networks, "--secrets".into(), secrets];
    launch.part("alerter", flags, alerter::start).await?;
    let addresses =
        ["--http".into(), args.http.to_string().into(), "--submit".into(), args.submit.to_string().into()];
    launch.part("http-bridge", addresses.into(), http_bridge::start).await?;
    if let (Some(id), Some(seed)) = (agent, files.agent_seeds.first()) {
        let state = folder.join("agent").into();
        let mut flags = vec!["--state".into(), state, "--agent-id".into(), id.as_str().into()];
        if let Some(key) = surroundings.signing_key {
            flags.extend(["--trusted-key".into(), key.public().to_string().into()]);
        }
        launch.part_as("agent", flags, seed, agent::start).await?;
    }
    Ok(())
}

/// The id of this host's agent: its host name, where that can be one.
///
/// # Errors
/// Never in practice: the id that stands in is a valid one.
pub(crate) fn agent_id() -> anyhow::Result<AgentId> {
    let system = rustix::system::uname();
    match AgentId::from_hostname(&system.nodename().to_string_lossy()) {
        Some(id) => Ok(id),
        None => Ok(AgentId::new("local")?),
    }
}

/// The parts that run, in the order of their start. They share metrics and readiness, nothing else.
#[derive(Default)]
pub(crate) struct Running {
    parts: Vec<Part>,
    metrics: Metrics,
    ready: Readiness,
}

struct Part {
    name: &'static str,
    tasks: Tasks,
    client: Client,
}

impl Running {
    /// A connection that may do everything: that of the first service.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.parts.first().map(|part| &part.client)
    }

    /// Resolves with the part and the reason when one fails.
    pub(crate) async fn failed(&self) -> String {
        let mut failures: FuturesUnordered<_> = self
            .parts
            .iter()
            .map(|part| async { format!("{} failed: {}", part.name, part.tasks.failed().await) })
            .collect();
        match failures.next().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Stop the parts in reverse order: whoever publishes before whoever stores.
    ///
    /// # Errors
    /// Names what had to be cut off.
    pub(crate) async fn stop(self, deadline: Instant) -> anyhow::Result<()> {
        let mut cut_off = Vec::new();
        let mut left = self.parts.len();
        for part in self.parts.into_iter().rev() {
            self.ready.unmet(part.name, "stopping");
            note(&format!("stopping {}", part.name));
            // Each may take its share of what is left, so that a slow one does not take it from those behind it.
            let share = deadline.saturating_duration_since(Instant::now());
            let grace = if left > 1 { share * 2 / 3 } else { share };
            left -= 1;
            if let Err(unfinished) = part.tasks.finish(grace).await {
                note(&format!("{} {unfinished}", part.name));
                cut_off.push(part.name);
            }
            process::leave(&part.client).await;
        }
        anyhow::ensure!(cut_off.is_empty(), "cut off while stopping: {}", cut_off.join(", "));
        Ok(())
    }
}

/// Starts one part after the other.
struct Launch<'a, 's> {
    surroundings: &'a Surroundings<'s>,
    progress: &'a mut Progress,
    running: &'a mut Running,
}

impl Launch<'_, '_> {
    /// A service, which may do everything at the broker.
    async fn part<S, F>(
        &mut self,
        name: &'static str,
        flags: Vec<OsString>,
        start: impl FnOnce(S, Context) -> F,
    ) -> anyhow::Result<()>
    where
        S: ServiceSettings,
        F: Future<Output = anyhow::Result<()>>,
    {
        let seed = &self.surroundings.files.services_seed;
        self.part_as(name, flags, seed, start).await
    }

    /// As whoever has the NKey `seed`.
    async fn part_as<S, F>(
        &mut self,
        name: &'static str,
        flags: Vec<OsString>,
        seed: &Path,
        start: impl FnOnce(S, Context) -> F,
    ) -> anyhow::Result<()>
    where
        S: ServiceSettings,
        F: Future<Output = anyhow::Result<()>>,
    {
        self.progress.step(name);
        let url = format!("nats://127.0.0.1:{}", self.surroundings.args.nats_port);
        let mut all: Vec<OsString> = vec![name.into(), "--nats-url".into(), url.into()];
        all.extend(["--nats-nkey-file".into(), seed.into()]);
        all.extend(flags);
        let settings = S::try_parse_from(all).with_context(|| format!("cannot start {name}"))?;

        let (metrics, ready) = (&self.running.metrics, &self.running.ready);
        ready.unmet(name, "starting");
        let tasks = Tasks::new();
        let client = nats::connect(
            &settings.common().nats,
            name,
            settings.inbox_prefix(),
            settings.wait(),
            (metrics, ready),
            self.surroundings.stop,
        )
        .await
        .with_context(|| format!("cannot start {name}"))?;
        let ctx = Context {
            name,
            nats: client.clone(),
            tasks: tasks.clone(),
            ready: ready.clone(),
            metrics: metrics.clone(),
        };
        // Listed before it starts: what it spawned until it failed is stopped as well.
        self.running.parts.push(Part { name, tasks, client });
        start(settings, ctx).await.with_context(|| format!("cannot start {name}"))?;
        self.running.ready.met(name);
        Ok(())
    }
}
