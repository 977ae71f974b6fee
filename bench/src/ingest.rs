//! Results per second from JetStream to durable storage, beside a consumer that only acknowledges.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::{
    Client, HeaderMap,
    jetstream::{self, AckKind, consumer::PullConsumer},
};
use clap::Parser;
use futures_util::StreamExt;
use protocol::{
    AgentId, CheckName, CheckResult, Scalar, Status,
    query::{LossList, LossQuery},
    stream, subject,
};
use service_kit::{
    Context, Metrics, Readiness, Tasks, consume::BatchLimits, nats, request::request, streams,
};
use testkit::NatsServer;

use crate::{
    figure::{Figure, Rounds},
    progress,
};

const AGENTS: u64 = 50;
const CHECKS: u64 = 4;
const ROUNDS: usize = 5;
/// Publishes on their way at once.
const WINDOW: usize = 4_000;
/// A round that does not end is a failure, not a figure.
const LIMIT: Duration = Duration::from_secs(300);

/// One result per message, about 200 bytes of JSON each.
pub(crate) async fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let (results, rounds) = if quick { (100_000, 1) } else { (1_000_000, ROUNDS) };
    let server = NatsServer::start().await;
    fill(&server.client().await, results).await?;
    let batch = ingest::Settings::try_parse_from(["bench"])?.batch();
    let (mut bare, mut stored, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        bare.push(rate(results, consume_bare(&server.client().await, results, batch).await?));
        let before = cpu_seconds();
        let pass = ingest(&server, results).await?;
        cpu.extend(before.zip(cpu_seconds()).map(|(before, after)| (after - before) * 1e6 / as_f64(results)));
        stored.push(rate(results, pass));
        let last = |rates: &[f64]| rates.last().copied().unwrap_or_default();
        progress(&format!(
            "ingest: round {round}/{rounds}: bare {:.0}/s, ingest {:.0}/s",
            last(&bare),
            last(&stored)
        ));
    }
    let (bare, stored) = (Rounds::of(&bare).context("no rounds")?, Rounds::of(&stored).context("no rounds")?);
    let ratio = stored.median / bare.median;
    if let Some(cpu) = Rounds::of(&cpu) {
        progress(&format!(
            "ingest: {:.2} µs of CPU a result [{:.2}..{:.2}], the client's and the store's threads",
            cpu.median, cpu.range.min, cpu.range.max
        ));
    }
    Ok(vec![Figure {
        bench: "ingest",
        case: "one_per_message",
        metric: "rate",
        value: stored.median.round(),
        unit: "results/s",
        peer: "bare JetStream consumer",
        peer_value: bare.median.round(),
        ratio: (ratio * 1000.0).round() / 1000.0,
        target: "ratio >= 0.8",
        ok: ratio >= 0.8,
        range: stored.range.rounded(),
        peer_range: bare.range.rounded(),
    }])
}

fn rate(results: u64, took: Duration) -> f64 {
    as_f64(results) / took.as_secs_f64()
}

#[allow(clippy::cast_precision_loss)] // counts far below 2^53
fn as_f64(n: u64) -> f64 {
    n as f64
}

/// CPU time of this process so far, in seconds. `None` where it cannot be read.
pub(crate) fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

/// Fill RESULTS with the results of several agents, in turn.
async fn fill(client: &Client, results: u64) -> anyhow::Result<()> {
    let jetstream = service_kit::publish::jetstream(client);
    streams::ensure_stream(&jetstream, &stream::RESULTS).await?;
    let mut under_way = futures_util::stream::FuturesUnordered::new();
    for n in 0..results {
        let result = sample(n)?;
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, result.message_id());
        let (subject, body) = (subject::result(&result.agent, &result.check), protocol::encode(&result)?);
        under_way.push(jetstream.publish_with_headers(subject, headers, body.into()).await?.into_future());
        if under_way.len() >= WINDOW {
            under_way.next().await.transpose()?;
        }
        if n % 200_000 == 0 && n > 0 {
            progress(&format!("ingest: {n} of {results} results published"));
        }
    }
    while let Some(sent) = under_way.next().await {
        sent?;
    }
    Ok(())
}

pub(crate) fn sample(n: u64) -> anyhow::Result<CheckResult> {
    let agent = n % AGENTS;
    let seq = n / AGENTS + 1;
    Ok(CheckResult {
        epoch: 1_795_000_000_000,
        seq,
        value: Scalar::number(40.0 + as_f64(n * 7919 % 300) / 10.0),
        unit: Some("%".to_owned()),
        exit_code: Some(0),
        duration_ms: 3 + n % 9,
        revision: 42,
        ..CheckResult::new(
            AgentId::new(&format!("bench-{agent:02}"))?,
            CheckName::new(&format!("check_{}", seq % CHECKS))?,
            1_795_200_000_000 + n / 100,
            Status::Ok,
        )
    })
}

/// The limit: fetch as many at once as ingest does, look at nothing, acknowledge the last.
async fn consume_bare(client: &Client, results: u64, batch: BatchLimits) -> anyhow::Result<Duration> {
    let jetstream = service_kit::publish::jetstream(client);
    let config = jetstream::consumer::pull::Config {
        durable_name: Some("bare".to_owned()),
        ack_policy: jetstream::consumer::AckPolicy::All,
        max_ack_pending: 100_000,
        ..Default::default()
    };
    let stream = jetstream.get_stream(stream::RESULTS.name).await?;
    let begun = Instant::now();
    let consumer: PullConsumer = stream.create_consumer(config).await?;
    let mut seen = 0;
    while seen < results {
        ensure!(begun.elapsed() < LIMIT, "the bare consumer got {seen} of {results} results in {LIMIT:?}");
        let mut batch = consumer
            .fetch()
            .max_messages(batch.messages)
            .max_bytes(batch.bytes)
            .expires(Duration::from_secs(5))
            .messages()
            .await?;
        let mut last = None;
        while let Some(message) = batch.next().await {
            last = Some(message.map_err(anyhow::Error::from_boxed)?);
            seen += 1;
        }
        if let Some(last) = last {
            last.ack_with(AckKind::Ack).await.map_err(anyhow::Error::from_boxed)?;
        }
    }
    client.flush().await?;
    let took = begun.elapsed();
    stream.delete_consumer("bare").await?;
    Ok(took)
}

/// The real pipeline into an empty store, from its start to the last durable result.
async fn ingest(server: &NatsServer, results: u64) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir()?;
    let (url, data) = (server.url(), folder.path().to_string_lossy().into_owned());
    let settings = ingest::Settings::try_parse_from(["bench", "--nats-url", &url, "--data", &data])?;
    let (tasks, ready, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
    let nats = &settings.common.nats;
    let client =
        nats::connect(nats, "ingest", None, nats::Wait::ForBroker, (&metrics, &ready), &tasks.token())
            .await?;
    let ctx = Context { name: "ingest", nats: client.clone(), tasks: tasks.clone(), ready, metrics };
    let begun = Instant::now();
    ingest::start(settings, ctx.clone()).await?;
    let took = loop {
        let question = LossQuery::default();
        let list: LossList =
            request(&client, subject::QUERY_LOSS, &question, Duration::from_secs(10)).await?;
        let stored: u64 = list.agents.iter().map(|agent| agent.stored).sum();
        if stored >= results {
            break begun.elapsed();
        }
        ensure!(begun.elapsed() < LIMIT, "{stored} of {results} results were stored in {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    tasks.finish(Duration::from_secs(10)).await?;
    let jetstream = service_kit::publish::jetstream(&client);
    jetstream.get_stream(stream::RESULTS.name).await?.delete_consumer(stream::consumer::INGEST).await?;
    Ok(took)
}
