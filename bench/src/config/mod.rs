//! The config-service with a large fleet: what a host runs, whom a change concerns, answers a second, memory, and how
//! long a change takes until agents run it.

pub(crate) mod child;
mod fleet;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_nats::Client;
use bytes::Bytes;
use documents::Resolver;
use protocol::{
    admin::{Applied, ApplyRequest, SourceFile},
    subject,
};
use service_kit::request::request;
use testkit::NatsServer;

use crate::{
    agent::proc,
    figure::{Figure, Rounds},
    progress,
};

const LIMIT: Duration = Duration::from_secs(120);
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

struct Extent {
    hosts: usize,
    agents: usize,
    checks: usize,
    rounds: usize,
    window: Duration,
}

const FULL: Extent =
    Extent { hosts: 40_000, agents: 10_000, checks: 200, rounds: 5, window: Duration::from_secs(5) };
const QUICK: Extent =
    Extent { hosts: 300, agents: 100, checks: 20, rounds: 1, window: Duration::from_millis(500) };

pub(crate) async fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let extent = if quick { QUICK } else { FULL };
    let nats = NatsServer::start().await;
    let folder = tempfile::tempdir()?;
    let service = child::service(&nats.url(), &folder.path().join("config"))?;
    let client = nats.client().await;
    answers(&client).await?;
    apply(&client, &extent, "1m", false).await?;
    let mut figures: Vec<Figure> = resolve(&extent)?.into_iter().collect();

    fleet::fill(&client, 0..extent.agents).await?;
    figures.extend(change_to_running(&nats.url(), &client, &extent).await?);
    let begun = Instant::now();
    let etags = fleet::fill(&client, 0..extent.hosts).await?;
    progress(&format!("config: {} hosts asked for the first time in {:.1?}", extent.hosts, begun.elapsed()));
    figures.extend(affected(&client, &extent).await?);
    let memory = proc::memory(service.pid())? / GIB;
    figures.extend(limit("memory", ("pss", "GiB"), &[memory], ("1 GiB", 1.0), "<= 1 GiB"));
    let echo_log = folder.path().join("echo.log");
    figures.extend(rates(&nats.url(), &client, &extent, &etags, &echo_log).await?);
    Ok(figures)
}

/// A figure that is held to a limit.
fn limit(
    case: &'static str,
    what: (&'static str, &'static str),
    values: &[f64],
    (peer, value): (&'static str, f64),
    target: &'static str,
) -> Option<Figure> {
    let (ours, limit) = (Rounds::of(values)?, Rounds::of(&[value])?);
    progress(&format!("config: {case}, {}: {:.3} {}", what.0, ours.median, what.1));
    let figure = Figure::beside("config", case, what, &ours, peer, Some(&limit));
    Some(figure.held_to(target, |figure| figure.ratio <= 1.0))
}

/// Wait until it does.
async fn answers(client: &Client) -> anyhow::Result<()> {
    let begun = Instant::now();
    let query = protocol::admin::DocumentQuery::default();
    while let Err(error) = request::<_, protocol::admin::DocumentList>(
        client,
        subject::ADMIN_DOCUMENTS,
        &query,
        Duration::from_secs(1),
    )
    .await
    {
        anyhow::ensure!(begun.elapsed() < LIMIT, "the config-service does not answer: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn apply(client: &Client, extent: &Extent, every: &str, dry_run: bool) -> anyhow::Result<Applied> {
    let text = fleet::documents(extent.checks, every);
    let files = vec![SourceFile { path: "bench.yaml".to_owned(), text }];
    let apply = ApplyRequest { dry_run, effects: dry_run, ..ApplyRequest::of(files) };
    Ok(request(client, subject::ADMIN_APPLY, &apply, LIMIT).await?)
}

/// Every check on one host, with nothing remembered.
fn resolve(extent: &Extent) -> anyhow::Result<Option<Figure>> {
    let files = [SourceFile { path: "x".to_owned(), text: fleet::documents(extent.checks, "1m") }];
    let documents =
        documents::read(&files, |_, _| true).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let resolver = Resolver::new(documents.iter());
    let mut rounds = Vec::new();
    for _ in 0..extent.rounds {
        let mut took = Vec::new();
        for n in (0..extent.hosts).step_by((extent.hosts / 4_000).max(1)) {
            let (agent, facts, labels) = (fleet::agent(n)?, fleet::facts(n), fleet::labels(n));
            let begun = Instant::now();
            let outcomes = resolver.outcomes(&agent, &facts, &labels);
            std::hint::black_box(documents::etag(&outcomes));
            took.push(begun.elapsed());
        }
        rounds.push(milliseconds(percentile(&mut took, 99)));
    }
    Ok(limit("resolve", ("one host, p99", "ms"), &rounds, ("1 ms", 1.0), "<= 1 ms"))
}

/// From an apply to the reports of agents that share few connections.
async fn change_to_running(url: &str, client: &Client, extent: &Extent) -> anyhow::Result<Vec<Figure>> {
    let agents = fleet::follow(url, extent.agents, 16).await?;
    let (mut half, mut most) = (Vec::new(), Vec::new());
    for round in 0..extent.rounds {
        let newest = Arc::new(AtomicU64::new(u64::try_from(round)? + 2));
        let reports = fleet::reports(client, extent.agents, newest).await?;
        apply(client, extent, &format!("{}m", round + 2), false).await?;
        let mut took = reports.await??;
        half.push(percentile(&mut took, 50).as_secs_f64());
        most.push(percentile(&mut took, 99).as_secs_f64());
    }
    drop(agents);
    let half = limit("change_to_running", ("p50", "s"), &half, ("1 s", 1.0), "<= 1 s");
    let most = limit("change_to_running", ("p99", "s"), &most, ("3 s", 3.0), "<= 3 s");
    Ok(half.into_iter().chain(most).collect())
}

/// A change that concerns every host: which of them run something else, told as a plan.
async fn affected(client: &Client, extent: &Extent) -> anyhow::Result<Option<Figure>> {
    let mut rounds = Vec::new();
    for _ in 0..extent.rounds {
        let begun = Instant::now();
        let planned = apply(client, extent, "59m", true).await?;
        rounds.push(begun.elapsed().as_secs_f64());
        let hosts = planned.effects.context("no effects")?.hosts;
        anyhow::ensure!(hosts == u64::try_from(extent.hosts)?, "{hosts} hosts are concerned");
    }
    Ok(limit("change", ("hosts that it concerns", "s"), &rounds, ("1 s", 1.0), "<= 1 s"))
}

async fn rates(
    url: &str,
    client: &Client,
    extent: &Extent,
    etags: &[String],
    log: &std::path::Path,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for case in ["unchanged", "full"] {
        let mut requests = Vec::new();
        for (n, etag) in etags.iter().enumerate() {
            let etag = if case == "full" { "older" } else { etag };
            let body = protocol::encode(&fleet::request(n, Some(etag.to_owned())))?;
            requests.push((subject::config_get(&fleet::agent(n)?), Bytes::from(body)));
        }
        let (_, size) = fleet::rate(client, &requests, extent.window / 5).await?;
        let _echo = child::echo(url, size, log)?;
        let to_echo: Vec<(String, Bytes)> =
            requests.iter().map(|(_, body)| (child::ECHO_SUBJECT.to_owned(), body.clone())).collect();
        let begun = Instant::now();
        while fleet::rate(client, &to_echo, Duration::from_millis(10)).await.is_err() {
            anyhow::ensure!(begun.elapsed() < LIMIT, "the bare responder does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..extent.rounds {
            bare.push(fleet::rate(client, &to_echo, extent.window).await?.0);
            ours.push(fleet::rate(client, &requests, extent.window).await?.0);
        }
        let (ours, bare) = (Rounds::of(&ours).context("no rounds")?, Rounds::of(&bare).context("no rounds")?);
        progress(&format!("config: {case}: {:.0}/s of {size} bytes, bare {:.0}/s", ours.median, bare.median));
        let what = ("answers", "1/s");
        let figure = Figure::beside("config", case, what, &ours, "bare responder, same size", Some(&bare));
        figures.push(figure.held_to("ratio >= 0.5", |figure| figure.ratio >= 0.5));
    }
    Ok(figures)
}

fn percentile(took: &mut [Duration], percent: usize) -> Duration {
    took.sort_unstable();
    took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
