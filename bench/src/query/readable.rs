//! From the submission of a number to the answer that has it, while results come at half the rate that is possible.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_nats::{Client, HeaderMap};
use futures_util::{StreamExt, stream::FuturesUnordered};
use protocol::{
    AgentId,
    admin::Role,
    query::{LossList, LossQuery},
    subject,
};
use service_kit::request::request;

use super::{at, http::Http};
use crate::{
    agent::stack::Stack,
    figure::{Figure, NOBODY, Rounds},
    ingest::sample,
    progress,
};

const TIMEOUT: Duration = Duration::from_secs(20);
/// No result takes longer; what does is a failure, not a figure.
const LIMIT: Duration = Duration::from_secs(30);
/// Publishes on their way at once.
const WINDOW: usize = 4_000;
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn run(stack: &Stack, viewer: &str, quick: bool) -> anyhow::Result<Figure> {
    let (results, probes) = if quick { (20_000, 50) } else { (300_000, 500) };
    let begun = Instant::now();
    let before = stored(stack.client()).await?;
    publish(stack.client(), 0..results, None).await?;
    while stored(stack.client()).await? < before + results {
        ensure!(begun.elapsed() < Duration::from_secs(300), "{results} results were not stored in 5 minutes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    let peak = results as f64 / begun.elapsed().as_secs_f64();
    progress(&format!("query: published and stored at {peak:.0}/s at most; half of that from now on"));
    let stop = Arc::new(AtomicBool::new(false));
    let load = std::thread::spawn({
        let (client, stop) = (stack.client().clone(), Arc::clone(&stop));
        let runtime = tokio::runtime::Handle::current();
        move || runtime.block_on(publish(&client, results..u64::MAX, Some((peak / 2.0, stop))))
    });
    let agent = stack.key(Role::Agent, Some(AgentId::new("script")?)).await?;
    let took = probe(stack, (&agent, viewer), probes);
    stop.store(true, Ordering::Relaxed);
    let sent = load.join().map_err(|_| anyhow::anyhow!("publishing panicked"))??;
    let (took, seconds) = took?;
    progress(&format!("query: {:.0} results/s came beside the probes", sent as f64 / seconds));
    let p99 = Rounds::of(&[at(&took, 0.99).context("no probes")?]).context("no probes")?;
    let p50 = at(&took, 0.5).unwrap_or(f64::NAN);
    progress(&format!("query: submit to readable p50 {p50:.1} ms"));
    let figure = Figure::beside("query", "submit_to_readable", ("p99", "ms"), &p99, NOBODY, None);
    Ok(figure.held_to("<= 100 ms", |figure| figure.value <= 100.0))
}

/// Milliseconds of each probe, and seconds of all.
fn probe(stack: &Stack, (agent, viewer): (&str, &str), probes: u32) -> anyhow::Result<(Vec<f64>, f64)> {
    let mut submit = Http::connect(stack.http(), &format!("X-API-Key: {agent}\r\n"))?;
    let mut ask = Http::connect(stack.http(), &format!("X-API-Key: {viewer}\r\n"))?;
    let question = "/prometheus/api/v1/query?query=dogwatch_value%7Bagent%3D%22script%22%7D";
    let (all, mut took) = (Instant::now(), Vec::new());
    for probe in 1..=probes {
        let body = format!(r#"{{"field":"probe","value":{probe}}}"#);
        let begun = Instant::now();
        let (status, answer) =
            submit.post("/api/submit", "Content-Type: application/json\r\n", body.as_bytes())?;
        ensure!(status == 202, "a submission is answered with {status}: {}", String::from_utf8_lossy(answer));
        let wanted = format!(",\"{probe}\"]");
        loop {
            let (status, answer) = ask.get(question)?;
            ensure!(status == 200, "a probe is answered with {status}: {}", String::from_utf8_lossy(answer));
            if answer.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
                break;
            }
            ensure!(begun.elapsed() < LIMIT, "probe {probe} was not readable within {LIMIT:?}");
        }
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PAUSE);
    }
    Ok((took, all.elapsed().as_secs_f64()))
}

async fn stored(client: &Client) -> anyhow::Result<u64> {
    let list: LossList = request(client, subject::QUERY_LOSS, &LossQuery::default(), TIMEOUT).await?;
    Ok(list.agents.iter().map(|agent| agent.stored).sum())
}

/// Publish results as fast as it goes, or at a rate until told to stop. Returns how many.
async fn publish(
    client: &Client,
    results: std::ops::Range<u64>,
    paced: Option<(f64, Arc<AtomicBool>)>,
) -> anyhow::Result<u64> {
    let jetstream = service_kit::publish::jetstream(client);
    let begun = tokio::time::Instant::now();
    let mut under_way = FuturesUnordered::new();
    let mut sent = 0;
    for n in results {
        if let Some((rate, stop)) = &paced {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if n % 64 == 0 {
                tokio::time::sleep_until(begun + Duration::from_secs_f64(sent as f64 / rate)).await;
            }
        }
        let mut result = sample(n)?;
        result.at_ms = service_kit::now_ms();
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, result.message_id());
        let (subject, body) = (subject::result(&result.agent, &result.check), protocol::encode(&result)?);
        under_way.push(jetstream.publish_with_headers(subject, headers, body.into()).await?.into_future());
        if under_way.len() >= WINDOW {
            under_way.next().await.transpose()?;
        }
        sent += 1;
    }
    while let Some(acknowledged) = under_way.next().await {
        acknowledged?;
    }
    Ok(sent)
}
