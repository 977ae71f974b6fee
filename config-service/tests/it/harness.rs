//! A replica inside the test's process, and questions to it.

use std::{path::Path, time::Duration};

use clap::Parser;
use config_service::Settings;
use protocol::{
    AgentId, ErrorReply, Facts, Labels, Origin,
    admin::{
        Applied, ApplyRequest, DocumentList, DocumentQuery, Host, HostList, HostQuery, KeyCreate, KeyCreated,
        KeyInfo, KeyVerify, Role, SourceFile, key_hash,
    },
    config::{AgentConfig, ConfigReply, ConfigRequest, ConfigStatus},
    subject,
};
use serde::{Serialize, de::DeserializeOwned};
use service_kit::{Context, Metrics, Readiness, Tasks, nats};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// What a replica that was cut off took with it is asked again, well within [`LIMIT`].
const ANSWER: Duration = Duration::from_secs(10);
pub(crate) const CPU: &str = "kind: Check\nname: cpu\nbuiltin: cpu\nevery: 10s\n";

/// One replica, stopped in order by [`Replica::stop`] and cut off when dropped.
pub(crate) struct Replica {
    pub(crate) ctx: Context,
}

impl Replica {
    pub(crate) async fn start(url: &str, data: &Path) -> Self {
        Self::start_with(url, data, &[]).await.expect("start")
    }

    pub(crate) async fn start_with(url: &str, data: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let data = data.to_str().unwrap();
        let args = ["config-service", "--nats-url", url, "--data", data];
        let settings = Settings::try_parse_from(args.iter().chain(flags)).unwrap();
        let (tasks, ready, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
        let client = nats::connect(
            &settings.common.nats,
            "config-service",
            None,
            nats::Wait::ForBroker,
            (&metrics, &ready),
            &tasks.token(),
        )
        .await?;
        let ctx = Context { name: "config-service", nats: client, tasks, ready, metrics };
        config_service::start(settings, ctx.clone()).await?;
        Ok(Self { ctx })
    }

    pub(crate) async fn stop(self) {
        self.ctx.tasks.finish(Duration::from_secs(8)).await.expect("stop in order");
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.ctx.metrics.encode();
        let line = text.lines().find(|line| line.starts_with(&format!("dogwatch_config_service_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }
}

pub(crate) fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

pub(crate) async fn ask<Q: Serialize, R: DeserializeOwned>(
    client: &async_nats::Client,
    subject: &str,
    question: &Q,
) -> Result<R, ErrorReply> {
    Ok(service_kit::request::request(client, subject, question, ANSWER).await?)
}

pub(crate) async fn apply(client: &async_nats::Client, text: &str) -> Result<Applied, ErrorReply> {
    apply_files(client, &[("a.yaml", text)], false).await
}

pub(crate) async fn apply_files(
    client: &async_nats::Client,
    files: &[(&str, &str)],
    dry_run: bool,
) -> Result<Applied, ErrorReply> {
    let files =
        files.iter().map(|(path, text)| SourceFile { path: (*path).to_owned(), text: (*text).to_owned() });
    let (actor, message) = ("test".to_owned(), "because".to_owned());
    let request = ApplyRequest { actor, message, dry_run, ..ApplyRequest::of(files.collect()) };
    ask(client, subject::ADMIN_APPLY, &request).await
}

pub(crate) fn request() -> ConfigRequest {
    ConfigRequest {
        v: 1,
        facts: Some([("os".to_owned(), "linux".into())].into()),
        labels: Labels::new(),
        etag: None,
        agent_version: Some("1.0".to_owned()),
        origin: Origin::Agent,
        poll_ms: None,
        instance: None,
        signed: false,
    }
}

pub(crate) fn with_fact(name: &str, value: &str) -> ConfigRequest {
    let facts: Facts = [(name.to_owned(), value.into())].into();
    ConfigRequest { facts: Some(facts), ..request() }
}

pub(crate) async fn get(client: &async_nats::Client, name: &str, request: &ConfigRequest) -> ConfigReply {
    ask(client, &subject::config_get(&agent(name)), request).await.expect("a configuration")
}

pub(crate) async fn full(client: &async_nats::Client, name: &str, request: &ConfigRequest) -> AgentConfig {
    match get(client, name, request).await {
        ConfigReply::Full { config } => config,
        other => panic!("not a full configuration: {other:?}"),
    }
}

pub(crate) fn names(config: &AgentConfig) -> Vec<&str> {
    config.checks.iter().map(|check| check.name.as_str()).collect()
}

pub(crate) async fn hosts(client: &async_nats::Client) -> Vec<Host> {
    let list = host_page(client, &HostQuery::default()).await;
    assert_eq!(list.next, None);
    list.hosts
}

pub(crate) async fn host_page(client: &async_nats::Client, query: &HostQuery) -> HostList {
    ask(client, subject::ADMIN_HOSTS, query).await.unwrap()
}

pub(crate) async fn host(client: &async_nats::Client, name: &str) -> Result<Host, ErrorReply> {
    let query = HostQuery { agent: Some(agent(name)), ..HostQuery::default() };
    let mut list: HostList = ask(client, subject::ADMIN_HOSTS, &query).await?;
    Ok(list.hosts.remove(0))
}

pub(crate) async fn documents(client: &async_nats::Client) -> DocumentList {
    ask(client, subject::ADMIN_DOCUMENTS, &DocumentQuery::default()).await.unwrap()
}

pub(crate) async fn report(client: &async_nats::Client, status: &ConfigStatus) {
    let body = protocol::encode(status).unwrap();
    client.publish(subject::config_status(&status.agent), body.into()).await.unwrap();
    client.flush().await.unwrap();
}

pub(crate) async fn create_key(
    client: &async_nats::Client,
    role: Role,
    name: Option<&str>,
) -> Result<KeyCreated, ErrorReply> {
    let request = KeyCreate {
        role,
        agent: name.map(agent),
        labels: name.map(|_| ("role".to_owned(), "web".to_owned())).into_iter().collect(),
        facts: Facts::new(),
        expires_in_ms: None,
        hosts: None,
        actor: "test".to_owned(),
    };
    ask(client, subject::ADMIN_KEY_CREATE, &request).await
}

pub(crate) async fn verify(client: &async_nats::Client, key: &str) -> Result<KeyInfo, ErrorReply> {
    ask(client, subject::ADMIN_KEY_VERIFY, &KeyVerify { hash: key_hash(key) }).await
}
