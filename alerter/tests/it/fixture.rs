//! A broker, a config-service that follows a script, and an alerter in this process.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alerter::Settings;
use clap::Parser;
use futures_util::StreamExt;
use protocol::{
    AgentId, CheckName, CheckResult, Origin, Reply, Scalar, Status,
    admin::{DocumentList, Host, HostList, HostQuery},
    alert::Alert,
    document::{Document, Rule},
    query::{AlertList, AlertQuery},
    stream, subject,
};
use service_kit::{Context, Metrics, Readiness, Tasks, now_ms, streams};
use testkit::{NatsServer, WebhookSink, eventually, webhook::Received};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// Receivers of tests are on this machine.
pub(crate) const LOOPBACK: [&str; 2] = ["--receiver-networks", "loopback"];

/// What the scripted config-service answers.
#[derive(Default)]
pub(crate) struct Config {
    pub(crate) documents: DocumentList,
    /// In the order of their ids.
    pub(crate) hosts: Vec<Host>,
    /// Hosts behind which pages were asked for.
    pub(crate) pages: Vec<AgentId>,
}

pub(crate) struct Bed {
    pub(crate) nats: NatsServer,
    pub(crate) client: async_nats::Client,
    pub(crate) config: Arc<Mutex<Config>>,
    pub(crate) data: tempfile::TempDir,
    answers: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(answers) = &self.answers {
            answers.abort();
        }
    }
}

impl Bed {
    pub(crate) async fn new(documents: Vec<Document>) -> Self {
        let mut bed = Self::without_config(documents).await;
        bed.start_config().await;
        bed
    }

    /// Without a config-service, until [`Bed::start_config`].
    pub(crate) async fn without_config(documents: Vec<Document>) -> Self {
        let nats = NatsServer::start().await;
        let client = nats.client().await;
        let documents = DocumentList { revision: 1, documents };
        let config =
            Arc::new(Mutex::new(Config { documents, hosts: vec![host("web-01")], pages: Vec::new() }));
        streams::ensure_stream(&jetstream(&client), &stream::RESULTS).await.unwrap();
        Self { nats, client, config, data: tempfile::tempdir().unwrap(), answers: None }
    }

    pub(crate) async fn start_config(&mut self) {
        let documents = self.client.subscribe(subject::ADMIN_DOCUMENTS).await.unwrap();
        let hosts = self.client.subscribe(subject::ADMIN_HOSTS).await.unwrap();
        let requests = futures_util::stream::select(documents, hosts);
        self.answers = Some(tokio::spawn(answer(self.client.clone(), requests, Arc::clone(&self.config))));
    }

    pub(crate) async fn alerter(&self) -> Running {
        let running = self.alerter_with(&[]).await;
        running.ready().await;
        running
    }

    pub(crate) async fn alerter_with(&self, args: &[&str]) -> Running {
        let data = self.data.path().to_str().unwrap().to_owned();
        let secrets = self.secrets().to_str().unwrap().to_owned();
        let mut all = vec!["dogwatch-alerter", "--data", &data, "--secrets", &secrets];
        if !args.contains(&"--receiver-networks") {
            all.extend(LOOPBACK);
        }
        all.extend(args);
        let settings = Settings::try_parse_from(all).unwrap();
        let nats = self.nats.client().await;
        let ctx = Context {
            name: "alerter",
            nats,
            tasks: Tasks::new(),
            ready: Readiness::default(),
            metrics: Metrics::default(),
        };
        // One that was killed may hold the folder for a moment.
        eventually("the alerter starts", LIMIT, || async {
            alerter::start(settings.clone(), ctx.clone()).await.map_err(|error| format!("{error:#}"))
        })
        .await;
        Running { ctx }
    }

    /// Folder of the alerter's secrets.
    pub(crate) fn secrets(&self) -> std::path::PathBuf {
        self.data.path().join("secrets")
    }

    pub(crate) fn secret(&self, name: &str, value: &str) {
        std::fs::create_dir_all(self.secrets()).unwrap();
        std::fs::write(self.secrets().join(name), value).unwrap();
    }

    /// Change the documents, and say so.
    pub(crate) async fn apply(&self, documents: Vec<Document>) {
        let revision = {
            let mut config = self.config.lock().unwrap();
            let revision = config.documents.revision + 1;
            config.documents = DocumentList { revision, documents };
            revision
        };
        let nudge = protocol::config::ConfigChanged { v: 1, revision };
        let body = protocol::encode(&nudge).unwrap();
        self.client.publish(subject::CONFIG_REVISION, body.into()).await.unwrap();
        self.client.flush().await.unwrap();
    }

    /// Publish a result as an agent does.
    pub(crate) async fn publish(&self, result: &CheckResult) {
        let body = protocol::encode(result).unwrap();
        let subject = subject::result(&result.agent, &result.check);
        let id = result.message_id();
        service_kit::publish::publish(
            &jetstream(&self.client),
            subject,
            &id,
            Default::default(),
            body.into(),
        )
        .await
        .unwrap();
    }

    pub(crate) async fn alerts(&self, resolved: bool) -> Vec<Alert> {
        let query = AlertQuery { agent: None, resolved };
        let list: AlertList =
            service_kit::request::request(&self.client, subject::QUERY_ALERTS, &query, LIMIT).await.unwrap();
        list.alerts
    }

    /// Wait until the alerter has evaluated all results that are in the stream.
    pub(crate) async fn settled(&self) {
        let jetstream = jetstream(&self.client);
        eventually("all results are acknowledged", LIMIT, || async {
            let stream = jetstream.get_stream(stream::RESULTS.name).await.map_err(|e| e.to_string())?;
            let last = stream.cached_info().state.last_sequence;
            let consumer: async_nats::jetstream::consumer::PullConsumer =
                stream.get_consumer(stream::consumer::ALERTER).await.map_err(|e| e.to_string())?;
            let floor = consumer.cached_info().ack_floor.stream_sequence;
            if floor == last { Ok(()) } else { Err(format!("{floor} of {last}")) }
        })
        .await;
    }

    /// Bodies and reasons in stream REJECTED.
    pub(crate) async fn rejected(&self) -> Vec<(String, String)> {
        let jetstream = jetstream(&self.client);
        let Ok(stream) = jetstream.get_stream(stream::REJECTED.name).await else { return Vec::new() };
        let mut all = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let reason = message.headers.get(stream::rejected_header::REASON).unwrap().to_string();
            all.push((String::from_utf8_lossy(&message.payload).into_owned(), reason));
        }
        all
    }
}

pub(crate) struct Running {
    pub(crate) ctx: Context,
}

impl Running {
    pub(crate) async fn ready(&self) {
        eventually("the alerter is ready", LIMIT, || async {
            let problems = self.ctx.ready.problems();
            if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.ctx.tasks.finish(LIMIT).await.unwrap();
    }

    /// End all tasks where they stand.
    pub(crate) async fn drop_tasks(self) {
        let _cut_off = self.ctx.tasks.finish(Duration::ZERO).await;
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.ctx.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("dogwatch_alerter_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
    }
}

fn jetstream(client: &async_nats::Client) -> async_nats::jetstream::Context {
    service_kit::publish::jetstream(client)
}

async fn answer(
    client: async_nats::Client,
    mut requests: impl futures_util::Stream<Item = async_nats::Message> + Unpin,
    config: Arc<Mutex<Config>>,
) {
    while let Some(request) = requests.next().await {
        let body = {
            let mut config = config.lock().unwrap();
            if request.subject.as_str() == subject::ADMIN_DOCUMENTS {
                protocol::encode(&Reply::Ok(config.documents.clone())).unwrap()
            } else {
                let query: HostQuery = serde_json::from_slice(&request.payload).unwrap();
                let wanted = |host: &&Host| match &query.agent {
                    Some(agent) => host.agent == *agent,
                    None => Some(&host.agent) > query.after.as_ref(),
                };
                // Pages of one host.
                let mut found = config.hosts.iter().filter(wanted).cloned();
                let hosts: Vec<Host> = found.by_ref().take(1).collect();
                let next = found.next().and_then(|_| hosts.first()).map(|host| host.agent.clone());
                config.pages.extend(query.after);
                protocol::encode(&Reply::Ok(HostList { hosts, next })).unwrap()
            }
        };
        client.publish(request.reply.unwrap(), body.into()).await.unwrap();
    }
}

pub(crate) fn host(agent: &str) -> Host {
    Host {
        agent: AgentId::new(agent).unwrap(),
        facts: [("os".to_owned(), serde_json::json!("linux"))].into(),
        labels: [("role".to_owned(), "web".to_owned())].into(),
        origin: Origin::Agent,
        agent_version: None,
        first_seen_ms: 1,
        last_seen_ms: 1,
        revision_wanted: 1,
        revision_applied: Some(1),
        error: None,
        liveness: None,
        liveness_since_ms: None,
        cloned_ms: None,
        formerly: None,
        renamed_to: None,
        same_machine: None,
        checks: Vec::new(),
        unfit: Vec::new(),
        groups: Vec::new(),
        vars: protocol::Vars::new(),
        clock_ahead_ms: None,
    }
}

pub(crate) fn receiver(name: &str, url: &str) -> Document {
    receiver_of(name, serde_json::json!({"webhook": {"url": url, "timeout": "5s"}}))
}

/// A receiver with these fields.
pub(crate) fn receiver_of(name: &str, fields: serde_json::Value) -> Document {
    let mut all = serde_json::json!({"kind": "Receiver", "name": name});
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// `value > 90` on check `disk`, told to `ops`.
pub(crate) fn rule(name: &str) -> Rule {
    serde_json::from_value(serde_json::json!({
        "name": name, "check": "disk", "when": "value > 90", "severity": "critical", "notify": ["ops"],
    }))
    .unwrap()
}

/// The rule `full`, and `ops` behind `sink`.
pub(crate) fn documents(sink: &WebhookSink) -> Vec<Document> {
    vec![Document::Rule(rule("full")), receiver("ops", &sink.url())]
}

/// A result of web-01 measured now.
pub(crate) fn result(seq: u64, value: f64) -> CheckResult {
    CheckResult {
        epoch: 1,
        seq,
        value: Scalar::number(value),
        unit: Some("%".to_owned()),
        duration_ms: 1,
        revision: 1,
        ..CheckResult::new(
            AgentId::new("web-01").unwrap(),
            CheckName::new("disk").unwrap(),
            now_ms(),
            Status::Ok,
        )
    }
}

/// Wait until the sink has got `count` requests.
pub(crate) async fn received(sink: &WebhookSink, count: usize) -> Vec<Received> {
    eventually(&format!("{count} webhooks"), LIMIT, || async {
        let all = sink.received();
        if all.len() >= count { Ok(all) } else { Err(format!("{all:?}")) }
    })
    .await
}

pub(crate) fn webhook_id(received: &Received) -> String {
    received.headers.get("webhook-id").unwrap().to_str().unwrap().to_owned()
}

pub(crate) fn states(received: &[Received]) -> Vec<&str> {
    received.iter().map(|one| one.body["state"].as_str().unwrap()).collect()
}
