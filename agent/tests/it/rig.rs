//! The agent under test, and the two services that it talks with, scripted.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use agent::Settings;
use async_nats::{Client, jetstream};
use clap::Parser;
use futures_util::StreamExt;
use protocol::{
    AgentId, CheckName, CheckResult, Reply,
    config::{AgentConfig, CheckSpec, ConfigChanged, ConfigReply, ConfigRequest, ConfigStatus},
    stored::{Stored, StoredRequest},
    subject,
    work::{Output, RunSettings, Work},
};
use service_kit::{Context, Metrics, Readiness, Tasks, process::ServiceSettings, streams::ensure_stream};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn id() -> AgentId {
    AgentId::new("web-01").unwrap()
}

/// An agent in this process.
pub(crate) struct Agent {
    pub(crate) ctx: Context,
}

impl Agent {
    pub(crate) async fn start(url: &str, state: &Path, more: &[&str]) -> Self {
        Self::try_start(url, state, more).await.unwrap()
    }

    pub(crate) async fn try_start(url: &str, state: &Path, more: &[&str]) -> anyhow::Result<Self> {
        let state = state.to_str().unwrap();
        let args = ["dogwatch-agent", "--agent-id", "web-01", "--nats-url", url, "--state", state];
        let settings = Settings::parse_from([&args, more].concat());
        let (tasks, ready, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
        let nats = service_kit::nats::connect(
            &settings.common.nats,
            "agent",
            settings.inbox_prefix(),
            settings.wait(),
            (&metrics, &ready),
            &tasks.token(),
        )
        .await?;
        let ctx = Context { name: "agent", nats, tasks, ready, metrics };
        agent::service::start(settings, ctx.clone()).await?;
        Ok(Self { ctx })
    }

    /// Stop in order.
    pub(crate) async fn stop(self) {
        self.ctx.tasks.finish(Duration::from_secs(8)).await.unwrap();
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.ctx.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("dogwatch_agent_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
    }
}

/// A config-service that answers what the test says.
#[derive(Clone)]
pub(crate) struct Config {
    client: Client,
    reply: Arc<Mutex<ConfigReply>>,
    /// Answered instead, as it is.
    raw: Arc<Mutex<Option<Vec<u8>>>>,
    pub(crate) asked: Arc<Mutex<Vec<ConfigRequest>>>,
    pub(crate) statuses: Arc<Mutex<Vec<ConfigStatus>>>,
}

impl Config {
    pub(crate) async fn start(client: Client, checks: Vec<CheckSpec>) -> Self {
        let reply = Arc::new(Mutex::new(ConfigReply::Full { config: config(1, checks) }));
        let service = Self {
            client: client.clone(),
            reply,
            raw: Arc::default(),
            asked: Arc::default(),
            statuses: Arc::default(),
        };
        let mut requests = client.subscribe(subject::CONFIG_GET_ALL).await.unwrap();
        let mut statuses = client.subscribe(subject::CONFIG_STATUS_ALL).await.unwrap();
        service_kit::respond::barrier(&client).await.unwrap();
        let answering = service.clone();
        tokio::spawn(async move {
            while let Some(message) = requests.next().await {
                let question: ConfigRequest = serde_json::from_slice(&message.payload).unwrap();
                let mut reply = answering.reply.lock().unwrap().clone();
                if let ConfigReply::Full { config } = &reply
                    && question.etag.as_ref() == Some(&config.etag)
                {
                    reply = ConfigReply::Unchanged { revision: config.revision };
                }
                answering.asked.lock().unwrap().push(question);
                let raw = answering.raw.lock().unwrap().clone();
                let body = raw.unwrap_or_else(|| protocol::encode(&Reply::Ok(reply)).unwrap());
                client.publish(message.reply.unwrap(), body.into()).await.unwrap();
            }
        });
        let recording = service.clone();
        tokio::spawn(async move {
            while let Some(message) = statuses.next().await {
                recording.statuses.lock().unwrap().push(serde_json::from_slice(&message.payload).unwrap());
            }
        });
        service
    }

    /// Answer otherwise from now on, and nudge the agent.
    pub(crate) async fn set(&self, reply: ConfigReply) {
        *self.reply.lock().unwrap() = reply;
        *self.raw.lock().unwrap() = None;
        self.nudge().await;
    }

    /// Answer with these bytes from now on, and nudge the agent.
    pub(crate) async fn set_raw(&self, bytes: Vec<u8>) {
        *self.raw.lock().unwrap() = Some(bytes);
        self.nudge().await;
    }

    async fn nudge(&self) {
        let body = protocol::encode(&ConfigChanged { v: 1, revision: 0 }).unwrap();
        self.client.publish(subject::config_changed(&id()), body.into()).await.unwrap();
    }

    pub(crate) async fn apply(&self, revision: u64, checks: Vec<CheckSpec>) {
        self.set(ConfigReply::Full { config: config(revision, checks) }).await;
    }

    pub(crate) async fn reported(&self, what: &str, wanted: impl Fn(&ConfigStatus) -> bool) {
        testkit::eventually(what, LIMIT, async || {
            let statuses = self.statuses.lock().unwrap().clone();
            if statuses.iter().any(&wanted) { Ok(()) } else { Err(format!("{statuses:?}")) }
        })
        .await;
    }
}

pub(crate) fn config(revision: u64, checks: Vec<CheckSpec>) -> AgentConfig {
    AgentConfig { revision, etag: format!("etag of {revision}"), checks, documents: Vec::new() }
}

/// A check that runs `command`.
pub(crate) fn check(name: &str, every_ms: u64, command: &str) -> CheckSpec {
    CheckSpec {
        name: CheckName::new(name).unwrap(),
        work: Work { command: Some(command.to_owned()), ..Work::default() },
        run: RunSettings::default(),
        every_ms,
        cron: None,
        timezone: None,
        timeout_ms: 10_000,
        output: Output::default(),
        unit: None,
        warning: None,
        critical: None,
    }
}

/// An ingest whose watermark the test sets, and the stream before it.
#[derive(Clone)]
pub(crate) struct Ingest {
    pub(crate) client: Client,
    pub(crate) watermark: Arc<Mutex<u64>>,
    pub(crate) asked: Arc<Mutex<Vec<StoredRequest>>>,
}

impl Ingest {
    pub(crate) async fn start(client: Client) -> Self {
        let ingest = Self { client: client.clone(), watermark: Arc::default(), asked: Arc::default() };
        let mut requests = client.subscribe(subject::STORED_GET_ALL).await.unwrap();
        service_kit::respond::barrier(&client).await.unwrap();
        let answering = ingest.clone();
        tokio::spawn(async move {
            while let Some(message) = requests.next().await {
                let question: StoredRequest = serde_json::from_slice(&message.payload).unwrap();
                let (epoch, seq) = (question.epoch, *answering.watermark.lock().unwrap());
                answering.asked.lock().unwrap().push(question);
                let stored = Stored { v: 1, agent: id(), epoch, seq, lost: 0 };
                let body = protocol::encode(&Reply::Ok(stored)).unwrap();
                client.publish(message.reply.unwrap(), body.into()).await.unwrap();
            }
        });
        ingest.make_stream().await;
        ingest
    }

    /// The stream, and nobody who answers questions.
    pub(crate) async fn silent(client: Client) -> Self {
        let ingest = Self { client, watermark: Arc::default(), asked: Arc::default() };
        ingest.make_stream().await;
        ingest
    }

    pub(crate) async fn make_stream(&self) {
        let jetstream = jetstream::new(self.client.clone());
        testkit::eventually("the stream is there", LIMIT, async || {
            ensure_stream(&jetstream, &protocol::stream::RESULTS).await.map(drop)
        })
        .await;
    }

    pub(crate) async fn publish_watermark(&self, epoch: u64, seq: u64) {
        *self.watermark.lock().unwrap() = seq;
        let stored = Stored { v: 1, agent: id(), epoch, seq, lost: 0 };
        let body = protocol::encode(&stored).unwrap();
        self.client.publish(subject::stored(&id()), body.into()).await.unwrap();
    }

    /// Everything in the stream, in its order.
    pub(crate) async fn results(&self) -> Vec<CheckResult> {
        let jetstream = jetstream::new(self.client.clone());
        let Ok(mut stream) = jetstream.get_stream(protocol::stream::RESULTS.name).await else {
            return Vec::new();
        };
        let Ok(info) = stream.info().await else { return Vec::new() };
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        let mut results = Vec::new();
        for sequence in first..=last {
            let Ok(message) = stream.get_raw_message(sequence).await else { continue };
            let result: CheckResult = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(message.subject.as_str(), subject::result(&result.agent, &result.check));
            let sent_as = message.headers.get(async_nats::header::NATS_MESSAGE_ID).unwrap().as_str();
            assert_eq!(sent_as, result.message_id());
            results.push(result);
        }
        results
    }

    /// The results in the stream, once `enough` says so.
    pub(crate) async fn wait(&self, what: &str, enough: impl Fn(&[CheckResult]) -> bool) -> Vec<CheckResult> {
        testkit::eventually(what, Duration::from_secs(40), async || {
            let results = self.results().await;
            if enough(&results) { Ok(results) } else { Err(format!("{results:#?}")) }
        })
        .await
    }
}

pub(crate) fn of<'a>(results: &'a [CheckResult], check: &str) -> Vec<&'a CheckResult> {
    results.iter().filter(|result| result.check.as_str() == check).collect()
}

/// Sequence numbers without repeats, which must be all from 1 on.
pub(crate) fn gapless(results: &[CheckResult]) -> u64 {
    let seqs: std::collections::BTreeSet<u64> = results.iter().map(|result| result.seq).collect();
    let count = seqs.len() as u64;
    assert!(seqs.iter().copied().eq(1..=count), "gaps: {seqs:?}");
    count
}
