//! Rules on results: how many a second on one core, what the series cost, and how long a result takes to a webhook.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use alerter::{
    Settings,
    core::{Alerts, HostInfo, Incoming, Mutes, RuleBook, World},
};
use anyhow::{Context as _, ensure};
use clap::Parser;
use protocol::{
    AgentId, CheckName, CheckResult, Reply, Scalar, Status,
    admin::{DocumentList, HostList},
    stream, subject,
};
use serde_json::json;
use service_kit::{Context, Metrics, Readiness, Tasks, now_ms, publish, streams};
use testkit::{NatsServer, WebhookSink};

use crate::{
    figure::{Figure, NOBODY, Rounds},
    progress,
};

const HOSTS: u64 = 1_000;
const CHECKS: u64 = 100;
const RULES: u64 = 10;
/// Results of each series that are judged.
const RESULTS: u64 = 3;
const LIMIT: Duration = Duration::from_secs(120);
const START_MS: u64 = 1_800_000_000_000;

pub(crate) async fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let hosts = if quick { HOSTS / 10 } else { HOSTS };
    let mut figures = evaluations(hosts)?;
    figures.extend(latency(if quick { 50 } else { 500 }).await.context("latency")?);
    figures.extend(storm(if quick { 1_000 } else { 10_000 }).await.context("storm")?);
    Ok(figures)
}

/// 100 checks on each host, ten rules on each check, some of them over windows.
fn evaluations(hosts: u64) -> anyhow::Result<Vec<Figure>> {
    let mut documents = Vec::new();
    for check in 0..CHECKS {
        for rule in 0..RULES {
            let when = match rule {
                0 => "avg(\"5m\") > 95".to_owned(),
                1 => "max(\"5m\") - min(\"5m\") > 1000".to_owned(),
                2 => "status == \"critical\"".to_owned(),
                3 => "value > 90 && labels.role == \"web\"".to_owned(),
                _ => format!("value > {}", 90 + rule),
            };
            documents.push(
                json!({"kind": "Rule", "name": format!("r{check}-{rule}"), "check": format!("c{check}"),
                "when": when}),
            );
        }
    }
    let list = DocumentList { revision: 1, documents: serde_json::from_value(json!(documents))? };
    let book = RuleBook::new(list);
    ensure!(book.broken.is_empty(), "rules cannot be compiled: {:?}", book.broken);
    let agents: Vec<AgentId> =
        (0..hosts).map(|n| AgentId::new(&format!("host-{n}"))).collect::<Result<_, _>>()?;
    let labels: protocol::Labels = [("role".to_owned(), "web".to_owned())].into();
    let known = |agent: &AgentId| {
        (agent.clone(), HostInfo { labels: labels.clone(), seen: true, ..HostInfo::default() })
    };
    let known: HashMap<AgentId, HostInfo> = agents.iter().map(known).collect();
    let checks: Vec<CheckName> =
        (0..CHECKS).map(|n| CheckName::new(format!("c{n}").as_str())).collect::<Result<_, _>>()?;
    let before = resident();
    let mutes = Mutes::default();
    let mut alerts = Alerts::default();
    let (mut rates, mut evaluated) = (Vec::new(), 0);
    for round in 0..RESULTS + 2 {
        let at_ms = START_MS + round * 10_000;
        let world = World {
            book: &book,
            hosts: &known,
            mutes: &mutes,
            now_ms: at_ms,
            steady_ms: 0,
            freshness_ms: 300_000,
        };
        let mut spent = Duration::ZERO;
        let mut count = 0;
        for agent in &agents {
            let value = |n: usize| 10.0 + f64::from(u32::try_from(n).unwrap_or_default());
            let batch: Vec<Incoming> = checks
                .iter()
                .enumerate()
                .map(|(n, check)| Incoming {
                    published_ms: at_ms,
                    stream: round + 1,
                    result: result(agent, check, round + 1, at_ms, value(n) / 3.0),
                })
                .collect();
            let began = Instant::now();
            let draft = alerts.evaluate(&world, &batch);
            spent += began.elapsed();
            count += draft.evaluations;
            ensure!(draft.is_empty(), "an alert fires where none should");
        }
        evaluated += count;
        // The first ones make the series.
        if round >= 2 {
            rates.push(as_f64(count) / spent.as_secs_f64());
        }
    }
    // What a window of five minutes holds at a result every ten seconds.
    for round in 5..35 {
        let at_ms = START_MS + round * 10_000;
        for agent in &agents {
            let batch: Vec<Incoming> = checks
                .iter()
                .map(|check| Incoming {
                    published_ms: at_ms,
                    stream: round + 1,
                    result: result(agent, check, round + 1, at_ms, 1.0),
                })
                .collect();
            alerts.remember(&book, &batch, 0);
        }
    }
    let mib = resident().zip(before).map(|(after, before)| (after - before) / 1024.0 / 1024.0);
    progress(&format!(
        "alert: {evaluated} evaluations over {} series; the machine may be busy with other work",
        alerts.series()
    ));
    let rates = Rounds::of(&rates).context("no rounds")?;
    let mut figures = vec![
        Figure::beside("alert", "100k_series_10_rules", ("rate", "evaluations/s"), &rates, NOBODY, None)
            .held_to(">= 200000", |figure| figure.value >= 200_000.0),
    ];
    if let Some(memory) = mib.and_then(|mib| Rounds::of(&[mib])) {
        let figure =
            Figure::beside("alert", "100k_series_10_rules", ("memory", "MiB"), &memory, NOBODY, None);
        figures.push(figure.held_to("<= 1024", |figure| figure.value <= 1_024.0));
    }
    Ok(figures)
}

/// A broker, a config-service of fixed answers, an alerter.
struct Bed {
    _nats: NatsServer,
    client: async_nats::Client,
    ctx: Context,
    _data: tempfile::TempDir,
    answers: tokio::task::JoinHandle<()>,
}

impl Bed {
    async fn start(url: &str) -> anyhow::Result<Self> {
        let nats = NatsServer::start().await;
        let client = nats.client().await;
        streams::ensure_stream(&publish::jetstream(&client), &stream::RESULTS).await?;
        let documents = serde_json::from_value(json!([
            {"kind": "Rule", "name": "full", "check": "disk", "when": "value > 90", "notify": ["ops"]},
            {"kind": "Receiver", "name": "ops", "webhook": {"url": url}},
        ]))?;
        let list = protocol::encode(&Reply::Ok(DocumentList { revision: 1, documents }))?;
        let hosts = protocol::encode(&Reply::Ok(HostList::default()))?;
        let mut asked = client.subscribe(subject::ADMIN_DOCUMENTS).await?;
        let mut asked_hosts = client.subscribe(subject::ADMIN_HOSTS).await?;
        let answering = client.clone();
        let answers = tokio::spawn(async move {
            use futures_util::StreamExt;
            loop {
                let (request, body) = tokio::select! {
                    request = asked.next() => (request, list.clone()),
                    request = asked_hosts.next() => (request, hosts.clone()),
                };
                let Some(reply) = request.and_then(|request| request.reply) else { return };
                if answering.publish(reply, body.into()).await.is_err() {
                    return;
                }
            }
        });
        let data = tempfile::tempdir()?;
        let path = data.path().to_str().context("a path")?;
        let settings =
            Settings::try_parse_from(["bench", "--data", path, "--receiver-networks", "loopback"])?;
        let ctx = Context {
            name: "alerter",
            nats: nats.client().await,
            tasks: Tasks::new(),
            ready: Readiness::default(),
            metrics: Metrics::default(),
        };
        alerter::start(settings, ctx.clone()).await?;
        until(|| ctx.ready.problems().is_empty(), "the alerter is ready").await?;
        Ok(Self { _nats: nats, client, ctx, _data: data, answers })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.ctx.tasks.finish(LIMIT).await?;
        self.answers.abort();
        Ok(())
    }

    async fn publish(&self, result: &CheckResult) -> anyhow::Result<()> {
        let subject = subject::result(&result.agent, &result.check);
        let body = protocol::encode(result)?;
        let jetstream = publish::jetstream(&self.client);
        publish::publish(&jetstream, subject, &result.message_id(), Default::default(), body.into()).await?;
        Ok(())
    }
}

/// One alert after the other: from before a result is published until the webhook came.
async fn latency(rounds: u64) -> anyhow::Result<Vec<Figure>> {
    let sink = WebhookSink::start().await;
    let bed = Bed::start(&sink.url()).await?;
    let (agent, check) = (AgentId::new("web-01")?, CheckName::new("disk")?);
    let mut times = Vec::new();
    for seq in 1..=rounds {
        let value = if seq % 2 == 1 { 95.0 } else { 5.0 };
        let began = Instant::now();
        bed.publish(&result(&agent, &check, seq, now_ms(), value)).await?;
        let wanted = usize::try_from(seq)?;
        tokio::time::timeout(LIMIT, sink.reached(wanted)).await.context("no webhook came")?;
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    bed.stop().await?;
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        times.get((times.len() * percent / 100).min(times.len() - 1)).copied().unwrap_or(f64::NAN)
    };
    let figure = |metric, value, target, limit: f64| {
        let round = Rounds::of(&[value])?;
        let figure = Figure::beside("alert", "published_to_webhook", (metric, "ms"), &round, NOBODY, None);
        Some(figure.held_to(target, move |figure| figure.value <= limit))
    };
    Ok([figure("p50", at(50), "<= 5 ms", 5.0), figure("p99", at(99), "<= 20 ms", 20.0)]
        .into_iter()
        .flatten()
        .collect())
}

/// So many hosts in trouble at once.
async fn storm(alerts: u64) -> anyhow::Result<Vec<Figure>> {
    let sink = WebhookSink::start().await;
    let bed = Bed::start(&sink.url()).await?;
    let check = CheckName::new("disk")?;
    let began = Instant::now();
    for host in 0..alerts {
        let agent = AgentId::new(&format!("host-{host}"))?;
        let result = result(&agent, &check, 1, now_ms(), 95.0);
        let body = protocol::encode(&result)?;
        bed.client.publish(subject::result(&agent, &check), body.into()).await?;
    }
    bed.client.flush().await?;
    let wanted = usize::try_from(alerts)?;
    let all = tokio::time::timeout(LIMIT, sink.reached(wanted)).await;
    all.with_context(|| format!("{} of {wanted} webhooks came", sink.received().len()))?;
    let took = Rounds::of(&[began.elapsed().as_secs_f64()]).context("no rounds")?;
    bed.stop().await?;
    let figure = Figure::beside("alert", "storm_of_10k", ("delivered in", "s"), &took, NOBODY, None);
    Ok(vec![figure.held_to("<= 10 s", |figure| figure.value <= 10.0)])
}

async fn until(done: impl Fn() -> bool, what: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    while !done() {
        ensure!(began.elapsed() < LIMIT, "{what} took longer than {LIMIT:?}");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    Ok(())
}

fn result(agent: &AgentId, check: &CheckName, seq: u64, at_ms: u64, value: f64) -> CheckResult {
    CheckResult {
        epoch: 1,
        seq,
        value: Scalar::number(value),
        duration_ms: 1,
        revision: 1,
        ..CheckResult::new(agent.clone(), check.clone(), at_ms, Status::Ok)
    }
}

/// Bytes of memory that this process has.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

#[allow(clippy::cast_precision_loss)] // counts of a benchmark
fn as_f64(count: u64) -> f64 {
    count as f64
}
