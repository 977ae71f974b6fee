//! ingest in this process, and agents that are only a sequence of results.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use async_nats::Client;
use clap::Parser;
use ingest::{Settings, counters::Counters, store::ResultStore};
use protocol::{
    AgentId, CheckResult,
    query::{Loss, LossList, LossQuery, ResultPage, ResultQuery},
    stored::{Stored, StoredRequest},
    stream, subject,
};
use serde::{Serialize, de::DeserializeOwned};
use service_kit::{Context, Metrics, Readiness, Tasks, nats, request::request};
use testkit::{NatsServer, eventually};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const EPOCH: u64 = 1_790_000_000_000;

pub(crate) fn settings(server: &NatsServer, data: &Path) -> Settings {
    let url = server.url();
    Settings::try_parse_from(["t", "--nats-url", &url, "--keep-free", "0", "--data", data.to_str().unwrap()])
        .unwrap()
}

/// A running ingest.
pub(crate) struct Running {
    pub(crate) ctx: Context,
}

impl Running {
    pub(crate) async fn start(server: &NatsServer, data: &Path) -> Self {
        Self::start_set(server, data, &[]).await
    }

    /// With further flags.
    pub(crate) async fn start_set(server: &NatsServer, data: &Path, flags: &[&str]) -> Self {
        let (url, data) = (server.url(), data.to_str().unwrap());
        let mut all = vec!["t", "--nats-url", &url, "--data", data];
        if !flags.contains(&"--keep-free") {
            all.extend(["--keep-free", "0"]);
        }
        all.extend(flags);
        let settings = Settings::try_parse_from(all).unwrap();
        let ctx = context(&settings).await;
        ingest::start(settings, ctx.clone()).await.unwrap();
        Self { ctx }
    }

    pub(crate) async fn start_with(server: &NatsServer, store: Arc<dyn ResultStore>) -> Self {
        let settings = settings(server, Path::new("/unused"));
        let ctx = context(&settings).await;
        let counters = Counters::new(&ctx);
        ingest::service::start_with(store, settings, ctx.clone(), counters).await.unwrap();
        Self { ctx }
    }

    /// The value of one of its counters; 0 while it is not registered yet.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let text = self.ctx.metrics.encode();
        let starts = [format!("dogwatch_ingest_{name}_total "), format!("dogwatch_{name}_total{{")];
        let line = text.lines().find(|line| starts.iter().any(|start| line.starts_with(start)));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0, |value| value.parse().unwrap())
    }

    /// The line of a metric, by how it begins.
    pub(crate) fn metric(&self, start: &str) -> String {
        let text = self.ctx.metrics.encode();
        text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned()
    }

    pub(crate) async fn stop(self) {
        self.ctx.tasks.finish(Duration::from_secs(10)).await.unwrap();
    }
}

async fn context(settings: &Settings) -> Context {
    let (tasks, ready, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
    let nats = nats::connect(
        &settings.common.nats,
        "ingest",
        None,
        nats::Wait::ForBroker,
        (&metrics, &ready),
        &tasks.token(),
    )
    .await
    .unwrap();
    Context { name: "ingest", nats, tasks, ready, metrics }
}

pub(crate) fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

pub(crate) fn json(agent: &str, check: &str, seq: u64, at_ms: u64) -> String {
    format!(
        r#"{{"v":1,"agent":"{agent}","check":"{check}","epoch":{EPOCH},"seq":{seq},"at_ms":{at_ms},"status":"ok","value":{seq},"unknown":true}}"#
    )
}

/// Store a message in RESULTS under its usual id.
pub(crate) async fn publish(client: &Client, agent: &str, check: &str, seq: u64, at_ms: u64) {
    let id = format!("{agent}:{EPOCH}:{seq}");
    let subject = format!("dogwatch.v1.result.{agent}.{check}");
    let jetstream = service_kit::publish::jetstream(client);
    let body = json(agent, check, seq, at_ms).into();
    service_kit::publish::publish(&jetstream, subject, &id, Default::default(), body).await.unwrap();
}

pub(crate) async fn ask<Q: Serialize, R: DeserializeOwned>(
    client: &Client,
    subject: &str,
    question: &Q,
) -> Result<R, service_kit::request::RequestError> {
    request(client, subject, question, Duration::from_secs(5)).await
}

pub(crate) async fn watermark(client: &Client, name: &str) -> Result<Stored, String> {
    let question = StoredRequest { v: 1, epoch: EPOCH, oldest: 1 };
    ask(client, &subject::stored_get(&agent(name)), &question).await.map_err(|error| error.to_string())
}

/// Wait until everything up to `seq` is durable.
pub(crate) async fn stored_up_to(client: &Client, name: &str, seq: u64) {
    eventually(&format!("{name} is stored up to {seq}"), LIMIT, || async {
        let stored = watermark(client, name).await?;
        if stored.seq >= seq { Ok(()) } else { Err(format!("{stored:?}")) }
    })
    .await;
}

/// Store a message of these words in RESULTS.
pub(crate) async fn publish_json(client: &Client, agent: &str, check: &str, json: String) {
    let id = format!("{:x}", crc32fast::hash(json.as_bytes()));
    let jetstream = service_kit::publish::jetstream(client);
    let subject = format!("dogwatch.v1.result.{agent}.{check}");
    service_kit::publish::publish(&jetstream, subject, &id, Default::default(), json.into()).await.unwrap();
}

pub(crate) async fn losses(client: &Client) -> Vec<Loss> {
    ask::<_, LossList>(client, subject::QUERY_LOSS, &LossQuery::default()).await.unwrap().agents
}

/// Every result that a query finds, page by page.
pub(crate) async fn results(client: &Client, mut question: ResultQuery) -> Vec<CheckResult> {
    let mut all = Vec::new();
    loop {
        let page: ResultPage = ask(client, subject::QUERY_RESULTS, &question).await.unwrap();
        all.extend(page.results);
        match page.next {
            Some(next) => question.cursor = Some(next),
            None => return all,
        }
    }
}

/// Every agent's results 1 to `last` are stored, each once.
pub(crate) async fn assert_each_once(client: &Client, agents: &[&str], last: u64) {
    let mut seen: HashMap<(String, u64), u32> = HashMap::new();
    for result in results(client, ResultQuery::default()).await {
        *seen.entry((result.agent.to_string(), result.seq)).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "stored more than once: {twice:?}");
    for name in agents {
        let gone: Vec<u64> = (1..=last).filter(|seq| !seen.contains_key(&(name.to_string(), *seq))).collect();
        assert!(gone.is_empty(), "{name} lost {gone:?}");
    }
    assert_eq!(seen.len() as u64, agents.len() as u64 * last);
}

/// What an agent does (G1): send all results above the durable watermark, and again until it covers them.
pub(crate) async fn deliver(client: Client, name: &str, last: u64) {
    let jetstream = service_kit::publish::jetstream(&client);
    let check = "load";
    eventually(&format!("{name} delivers"), LIMIT, || async {
        let stored = watermark(&client, name).await?;
        if stored.seq >= last {
            return Ok(());
        }
        for seq in stored.seq + 1..=last.min(stored.seq + 500) {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert(async_nats::header::NATS_MESSAGE_ID, format!("{name}:{EPOCH}:{seq}"));
            let (subject, body) = (format!("dogwatch.v1.result.{name}.{check}"), json(name, check, seq, seq));
            // The broker's word is worth nothing here: only the watermark counts.
            let sent = jetstream.publish_with_headers(subject, headers, body.into()).await;
            sent.map_err(|error| error.to_string())?;
        }
        Err(format!("{stored:?}"))
    })
    .await;
}

/// Create the stream, so that results can be published before ingest runs.
pub(crate) async fn results_stream(client: &Client) {
    let jetstream = service_kit::publish::jetstream(client);
    service_kit::streams::ensure_stream(&jetstream, &stream::RESULTS).await.unwrap();
}
