//! The parts that an agent talks to, in this process: a real nats-server, config-service, ingest and bridge.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use protocol::{
    AgentId,
    admin::{Applied, ApplyRequest, KeyCreate, KeyCreated, Role, SourceFile},
    query::{LossList, LossQuery},
    subject,
};
use service_kit::{Context, Metrics, Readiness, Tasks, nats, process::ServiceSettings, request::request};
use tempfile::TempDir;
use testkit::NatsServer;
use tokio::time::Instant;

use super::{bare::hold, proc::Running};

const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) running: Running,
}

pub(crate) struct Stack {
    nats: NatsServer,
    client: async_nats::Client,
    services: Vec<Tasks>,
    http: SocketAddr,
    pub(crate) folder: TempDir,
    agents: u32,
}

impl Stack {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let results = vec!["--data".into(), folder.path().join("results").into_os_string()];
        Self::start_with(folder, results, "1000").await
    }

    /// On results that are there, none of which is too old.
    pub(crate) async fn start_on(results: &Path) -> anyhow::Result<Self> {
        let mut flags: Vec<OsString> = vec!["--data".into(), results.into()];
        for flag in ["--retention", "--retention-5m", "--retention-1h"] {
            flags.extend([flag.into(), "36500d".into()]);
        }
        Self::start_with(tempfile::tempdir()?, flags, "1000000").await
    }

    async fn start_with(folder: TempDir, results: Vec<OsString>, rate: &str) -> anyhow::Result<Self> {
        let nats = NatsServer::start().await;
        let client = nats.client().await;
        let (http, submit) = (testkit::free_address(), testkit::free_address());
        let mut stack = Self { nats, client, services: Vec::new(), http, folder, agents: 0 };
        let config = vec!["--data".into(), stack.folder.path().join("config").into_os_string()];
        stack.service("config-service", config, config_service::start).await?;
        stack.service("ingest", results, ingest::start).await?;
        let mut addresses = vec!["--http".into(), http.to_string().into()];
        addresses.extend(["--submit".into(), submit.to_string().into(), "--rate".into(), rate.into()]);
        stack.service("http-bridge", addresses, http_bridge::start).await?;
        Ok(stack)
    }

    async fn service<S: ServiceSettings, F: Future<Output = anyhow::Result<()>>>(
        &mut self,
        name: &'static str,
        flags: Vec<OsString>,
        start: impl FnOnce(S, Context) -> F,
    ) -> anyhow::Result<()> {
        let mut args: Vec<OsString> = vec![name.into(), "--nats-url".into(), self.nats.url().into()];
        args.extend(flags);
        let settings = S::try_parse_from(args)?;
        let (tasks, ready, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
        let nats = &settings.common().nats;
        let client =
            nats::connect(nats, name, None, nats::Wait::ForBroker, (&metrics, &ready), &tasks.token())
                .await?;
        self.services.push(tasks.clone());
        start(settings, Context { name, nats: client, tasks, ready, metrics }).await.context(name)
    }

    /// Hold all parts to some cores.
    pub(crate) fn hold(&self, cores: &str) -> anyhow::Result<()> {
        hold(std::process::id(), cores)?;
        hold(self.nats.pid().context("nats-server is gone")?, cores)
    }

    /// Let these be all documents that there are.
    pub(crate) async fn apply(&self, documents: String) -> anyhow::Result<()> {
        let files = vec![SourceFile { path: "bench.yaml".to_owned(), text: documents }];
        let apply = ApplyRequest { prune: true, ..ApplyRequest::of(files) };
        let _applied: Applied = request(&self.client, subject::ADMIN_APPLY, &apply, TIMEOUT).await?;
        Ok(())
    }

    /// The agent's program with a state folder of its own, held to one core where that is asked for.
    pub(crate) fn agent(
        &mut self,
        program: &Path,
        core: Option<usize>,
        flags: &[&str],
    ) -> anyhow::Result<Agent> {
        self.agents += 1;
        let id = format!("bench-{}", self.agents);
        let mut command = on_core(core, program);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("DOGWATCH_") {
                command.env_remove(variable);
            }
        }
        let state = self.folder.path().join(&id);
        command
            .args(["--agent-id", &id, "--nats-url", &self.nats.url(), "--log", "warn", "--state"])
            .arg(&state);
        let running = Running::start(command.args(flags), &state.with_extension("log"))?;
        Ok(Agent { id: AgentId::new(&id)?, running })
    }

    /// Wait until so many results of `agent` are stored: it is up, connected and configured.
    pub(crate) async fn reach(&self, agent: &AgentId, results: u64, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let question = LossQuery { agent: Some(agent.clone()), after: None };
            let list: LossList = request(&self.client, subject::QUERY_LOSS, &question, TIMEOUT).await?;
            let stored: u64 = list.agents.iter().map(|agent| agent.stored).sum();
            if stored >= results {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{stored} of {results} results of {agent} came within {limit:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Address of the bridge, and a file with a key that may fetch configurations and submit.
    pub(crate) async fn script_key(&self) -> anyhow::Result<(String, PathBuf)> {
        let key = self.key(Role::Agent, Some(AgentId::new("script")?)).await?;
        let path = self.folder.path().join("script.key");
        std::fs::write(&path, key)?;
        Ok((format!("http://{}", self.http), path))
    }

    pub(crate) async fn key(&self, role: Role, agent: Option<AgentId>) -> anyhow::Result<String> {
        let create = KeyCreate {
            role,
            agent,
            labels: Default::default(),
            facts: Default::default(),
            expires_in_ms: None,
            hosts: None,
            actor: "bench".to_owned(),
        };
        let created: KeyCreated = request(&self.client, subject::ADMIN_KEY_CREATE, &create, TIMEOUT).await?;
        Ok(created.key)
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    pub(crate) fn client(&self) -> &async_nats::Client {
        &self.client
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for service in self.services.iter().rev() {
            service.finish(Duration::from_secs(10)).await?;
        }
        Ok(())
    }
}

/// `program`, held to one core where that can be.
pub(crate) fn on_core(core: Option<usize>, program: &Path) -> Command {
    match core {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.arg("-c").arg(core.to_string()).arg(program);
            command
        }
        None => Command::new(program),
    }
}
