//! How fast an agent empties its spool after an outage, beside a loop that publishes the same messages and awaits
//! their acknowledgements, and does nothing else.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use async_nats::{Client, HeaderMap, jetstream};
use clap::Parser;
use futures_util::StreamExt;
use protocol::{
    AgentId, CheckName, CheckResult, Reply, Scalar, Status,
    stored::{Stored, StoredRequest},
    stream, subject,
};
use service_kit::{Context, Metrics, Readiness, Tasks, nats, process::ServiceSettings, streams};
use testkit::NatsServer;

use crate::{
    figure::{Figure, Rounds},
    progress,
};

const AGENT: &str = "bench-01";
const CHECKS: u64 = 20;
const ROUNDS: usize = 5;
/// Publishes of the bare loop on their way at once.
const WINDOW: usize = 4_000;
/// A round that does not end is a failure, not a figure.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let (results, rounds) = if quick { (10_000, 1) } else { (100_000, ROUNDS) };
    let (mut bare, mut drained) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        bare.push(publish_bare(results).await?);
        drained.push(drain(results).await?);
        let last = |rates: &[f64]| rates.last().copied().unwrap_or_default();
        progress(&format!(
            "agent_drain: round {round}/{rounds}: bare {:.0}/s, agent {:.0}/s",
            last(&bare),
            last(&drained)
        ));
    }
    let (bare, drained) =
        (Rounds::of(&bare).context("no rounds")?, Rounds::of(&drained).context("no rounds")?);
    Ok(vec![Figure {
        bench: "agent",
        case: "agent_drain",
        metric: "rate",
        value: drained.median.round(),
        unit: "results/s",
        peer: "bare publish and acknowledgement",
        peer_value: bare.median.round(),
        ratio: (drained.median / bare.median * 1000.0).round() / 1000.0,
        target: "value >= 50000",
        ok: drained.median >= 50_000.0,
        range: drained.range.rounded(),
        peer_range: bare.range.rounded(),
    }])
}

/// Results a second, by the broker's own times of the first and the last one in the stream.
async fn rate(client: &Client, results: u64) -> anyhow::Result<f64> {
    let jetstream = service_kit::publish::jetstream(client);
    let mut stream = jetstream.get_stream(stream::RESULTS.name).await?;
    let begun = std::time::Instant::now();
    loop {
        let state = &stream.info().await?.state;
        if state.messages >= results {
            ensure!(state.messages == results, "{} messages of {results} results", state.messages);
            let took = (state.last_timestamp - state.first_timestamp).as_seconds_f64();
            #[allow(clippy::cast_precision_loss)] // counts far below 2^53
            return Ok(results as f64 / took);
        }
        ensure!(begun.elapsed() < LIMIT, "{} of {results} results came in {LIMIT:?}", state.messages);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn broker() -> anyhow::Result<(NatsServer, Client)> {
    let server = NatsServer::start().await;
    let client = server.client().await;
    streams::ensure_stream(&service_kit::publish::jetstream(&client), &stream::RESULTS).await?;
    Ok((server, client))
}

/// The limit: the same messages, with as many on their way as help.
async fn publish_bare(results: u64) -> anyhow::Result<f64> {
    let (_server, client) = broker().await?;
    let mut messages = Vec::new();
    for n in 0..results {
        let result = sample(n)?;
        let (subject, body) = (subject::result(&result.agent, &result.check), protocol::encode(&result)?);
        messages.push((subject, result.message_id(), body));
    }
    let jetstream = jetstream::new(client.clone());
    let mut under_way = futures_util::stream::FuturesUnordered::new();
    for (subject, id, body) in messages {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        under_way.push(jetstream.publish_with_headers(subject, headers, body.into()).await?.into_future());
        if under_way.len() >= WINDOW {
            under_way.next().await.transpose()?;
        }
    }
    while let Some(sent) = under_way.next().await {
        sent?;
    }
    rate(&client, results).await
}

/// A whole agent that starts with a full spool, and an ingest that has nothing yet.
async fn drain(results: u64) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    fill(&folder.path().join("spool"), results)?;
    let (server, client) = broker().await?;
    let mut questions = client.subscribe(subject::STORED_GET_ALL).await?;
    service_kit::respond::barrier(&client).await?;
    let answering = client.clone();
    let answers = tokio::spawn(async move {
        while let Some(message) = questions.next().await {
            let question: StoredRequest = serde_json::from_slice(&message.payload)?;
            let stored = Stored { v: 1, agent: AgentId::new(AGENT)?, epoch: question.epoch, seq: 0, lost: 0 };
            let to = message.reply.context("a question without a reply subject")?;
            answering.publish(to, protocol::encode(&Reply::Ok(stored))?.into()).await?;
        }
        anyhow::Ok(())
    });
    let (url, state) = (server.url(), folder.path().to_string_lossy().into_owned());
    let args = ["bench", "--agent-id", AGENT, "--nats-url", &url, "--state", &state];
    let settings = agent::Settings::try_parse_from(args)?;
    let (tasks, ready, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
    let connection = &settings.common.nats;
    let nats = nats::connect(
        connection,
        "agent",
        settings.inbox_prefix(),
        settings.wait(),
        (&metrics, &ready),
        &tasks.token(),
    )
    .await?;
    agent::start(settings, Context { name: "agent", nats, tasks: tasks.clone(), ready, metrics }).await?;
    let rate = rate(&client, results).await?;
    tasks.finish(Duration::from_secs(10)).await?;
    answers.abort();
    in_order(&client, results).await?;
    Ok(rate)
}

/// The spool as an outage leaves it.
fn fill(folder: &Path, results: u64) -> anyhow::Result<()> {
    let limits = agent::store::spool::Limits { max_bytes: 1 << 30, max_age: Duration::from_secs(1 << 30) };
    let now = service_kit::now_ms();
    let (mut spool, _) = agent::store::spool::Spool::open(folder, limits, now)?;
    for n in 0..results {
        spool.append(now, 0, &protocol::encode(&sample(n)?)?)?;
    }
    Ok(spool.sync()?)
}

/// Spot checks: a result's place in the stream is its number.
async fn in_order(client: &Client, results: u64) -> anyhow::Result<()> {
    let stream = service_kit::publish::jetstream(client).get_stream(stream::RESULTS.name).await?;
    for place in (1..=results).step_by(997) {
        let message = stream.get_raw_message(place).await?;
        let result: CheckResult = serde_json::from_slice(&message.payload)?;
        ensure!(result.seq == place, "result {} stands at place {place}", result.seq);
    }
    Ok(())
}

fn sample(n: u64) -> anyhow::Result<CheckResult> {
    Ok(CheckResult {
        epoch: 1_795_000_000_000,
        seq: n + 1,
        value: Scalar::number(40.0),
        unit: Some("%".to_owned()),
        output: "DISK OK - / 54.1% used, 41.8 GiB of 90.9 GiB available".to_owned(),
        exit_code: Some(0),
        duration_ms: 3 + n % 9,
        revision: 42,
        ..CheckResult::new(
            AgentId::new(AGENT)?,
            CheckName::new(&format!("check_{}", n % CHECKS))?,
            1_795_200_000_000 + n * 50,
            Status::Ok,
        )
    })
}
