//! Questions over HTTP, through the real bridge, broker and ingest, beside Prometheus and VictoriaMetrics with the same
//! numbers, asked by the same client in turn.

mod http;
mod peers;
mod readable;

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ingest::{
    core::plan::Accounts,
    store::{Commit, Fjall, NewResult, ResultStore, Retention},
};
use protocol::{CheckResult, admin::Role};

use crate::{
    agent::{proc::Running, stack::Stack},
    figure::{Figure, NOBODY, Rounds},
    progress,
    store::{BATCH, EVERY_MS, MINUTES, Random, START_MS, STEP, open, sample},
};
use http::Http;

const ROUNDS: usize = 3;
const DAY_MS: u64 = 86_400_000;
const DAY_POINTS: u64 = 1_440;

/// Who is asked.
pub(crate) struct Target {
    name: &'static str,
    http: Http,
    /// What its API of Prometheus stands below.
    below: &'static str,
    /// Ended when dropped.
    _program: Option<Running>,
}

/// Milliseconds of each answer, by target and round.
type Took = Vec<(&'static str, Vec<Vec<f64>>)>;

pub(crate) async fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let (series, days, asked) = if quick { (250, 60, 100) } else { (10_000, 365, 1_000) };
    let folder = tempfile::tempdir()?;
    let results = folder.path().join("results");
    let mut peers = peers::start(folder.path())?;
    build(&results, series, days, &mut peers)?;
    let stack = Stack::start_on(&results).await?;
    let key = stack.key(Role::Viewer, None).await?;
    let http = Http::connect(stack.http(), &format!("X-API-Key: {key}\r\n"))?;
    let mut targets = vec![Target { name: "dogwatch", http, below: "/prometheus", _program: None }];
    targets.extend(peers);

    let mut random = Random(7);
    let mut one = || {
        let (agent, check) = (random.below(series) / 10, random.below(10));
        format!(r#"dogwatch_value{{agent="host-{agent:04}",check="check_{check}"}}"#)
    };
    let took = in_turn(&mut targets, asked, DAY_POINTS, &mut one)?;
    let mut figures = beside("one_series_day", "p50", 0.5, &took)?;
    hold(&mut figures, "<= 0.2 ms", 0.2);
    let mut slowest = beside("one_series_day", "p99", 0.99, &took)?;
    hold(&mut slowest, "<= 0.7 ms", 0.7);
    figures.extend(slowest);

    let mut hundred = || {
        let ten = random.below(series / 100);
        format!(r#"dogwatch_value{{agent=~"host-{ten:03}.*"}}"#)
    };
    let took = in_turn(&mut targets, asked / 50, 100 * DAY_POINTS, &mut hundred)?;
    let mut figures_of_hundred = beside("hundred_series_day", "p50", 0.5, &took)?;
    hold(&mut figures_of_hundred, "<= 30 ms", 30.0);
    figures.extend(figures_of_hundred);

    let dogwatch = targets.first_mut().context("nobody to ask")?;
    let year = year(&mut dogwatch.http, series, days, asked / 10)?;
    let year = Figure::beside("query", "one_series_year", ("p50", "ms"), &year, NOBODY, None);
    figures.push(year.held_to("<= 10 ms", |figure| figure.value <= 10.0));
    drop(targets);
    figures.push(readable::run(&stack, &key, quick).await?);
    stack.stop().await?;
    Ok(figures)
}

/// A year of one series, then what the benchmark of the store fills it with; to all the same.
fn build(results: &Path, series: u64, days: u64, peers: &mut [Target]) -> anyhow::Result<()> {
    let store = open(results)?;
    let mut random = Random(1);
    let day = Duration::from_secs(86_400);
    let retention = |results: u32| Retention {
        hot: Duration::from_secs(3600),
        results: day * results,
        five_minutes: day * 10_000,
        hours: day * 10_000,
        max_bytes: u64::MAX,
    };
    let mut level = 500_i64;
    for back in (1..=days).rev() {
        let midnight = START_MS - back * DAY_MS;
        let mut batch = Vec::new();
        for minute in 0..DAY_POINTS {
            level += random.below(2 * STEP + 1).cast_signed() - STEP.cast_signed();
            let of = (days - back) * DAY_POINTS + minute;
            batch.push(sample(series, of, midnight + minute * EVERY_MS, level)?);
        }
        commit(&store, midnight + DAY_MS, &batch)?;
        store.maintain(midnight + DAY_MS + DAY_MS / 2, &retention(15))?;
    }
    progress("query: a year of one series is stored");
    let mut values: Vec<i64> = (0..series).map(|series| 500 + (series % 100).cast_signed()).collect();
    let mut batch = Vec::new();
    for minute in 0..MINUTES {
        let at_ms = START_MS + minute * EVERY_MS;
        for (of, value) in (0..series).zip(&mut values) {
            *value += random.below(2 * STEP + 1).cast_signed() - STEP.cast_signed();
            batch.push(sample(of, minute, at_ms, *value)?);
            if batch.len() as u64 == BATCH || of + 1 == series {
                commit(&store, at_ms + EVERY_MS, &batch)?;
                for peer in &mut *peers {
                    peers::write(peer, &batch).context(peer.name)?;
                }
                batch.clear();
            }
        }
        store.maintain(at_ms + EVERY_MS, &retention(10_000))?;
        if minute % 500 == 499 {
            progress(&format!("query: minute {} of {MINUTES}", minute + 1));
        }
    }
    store.compact(START_MS + MINUTES * EVERY_MS, &mut |_, _| {})?;
    Ok(())
}

fn commit(store: &Fjall, now_ms: u64, results: &[CheckResult]) -> anyhow::Result<()> {
    let json = results.iter().map(protocol::encode).collect::<Result<Vec<_>, _>>()?;
    let results = results.iter().zip(&json).map(|(result, json)| NewResult { result, json }).collect();
    let (accounts, ids) = (Accounts::new(), HashSet::new());
    store.commit(&Commit { now_ms, results, accounts: &accounts, ids: &ids })?;
    Ok(())
}

/// Each question to all targets, then the next.
fn in_turn(
    targets: &mut [Target],
    asked: usize,
    points: u64,
    question: &mut dyn FnMut() -> String,
) -> anyhow::Result<Took> {
    let mut all: Took = targets.iter().map(|target| (target.name, vec![Vec::new(); ROUNDS])).collect();
    for round in 0..ROUNDS {
        for _ in 0..asked {
            let question = question();
            for (target, (_, rounds)) in targets.iter_mut().zip(&mut all) {
                let took = ask(target, &question, points)?;
                rounds.get_mut(round).context("a round is missing")?.push(took);
            }
        }
    }
    Ok(all)
}

fn ask(target: &mut Target, question: &str, points: u64) -> anyhow::Result<f64> {
    let escaped: String = question.bytes().fold(String::new(), |mut path, byte| {
        match byte {
            b'"' | b'{' | b'}' | b'~' | b'=' | b',' | b'*' => path.push_str(&format!("%{byte:02X}")),
            other => path.push(char::from(other)),
        }
        path
    });
    let (start, end) = (START_MS / 1000, (START_MS + (DAY_POINTS - 1) * EVERY_MS) / 1000);
    let path = format!("{}/api/v1/query_range?query={escaped}&start={start}&end={end}&step=60", target.below);
    let begun = Instant::now();
    let (status, body) = target.http.get(&path)?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(
        status == 200,
        "{} answers {question} with {status}: {}",
        target.name,
        String::from_utf8_lossy(body)
    );
    let found = body.windows(2).filter(|pair| pair == b"[1").count() as u64;
    ensure!(found == points, "{} answers {question} with {found} points instead of {points}", target.name);
    Ok(took)
}

/// One figure for each peer; the limit of its own where there is none.
fn beside(
    case: &'static str,
    metric: &'static str,
    quantile: f64,
    took: &Took,
) -> anyhow::Result<Vec<Figure>> {
    let rounds = |rounds: &[Vec<f64>]| {
        let values: Option<Vec<f64>> = rounds.iter().map(|round| at(round, quantile)).collect();
        Rounds::of(&values.unwrap_or_default()).context("nothing was asked")
    };
    let ((_, ours), peers) = took.split_first().context("nobody was asked")?;
    let ours = rounds(ours)?;
    progress(&format!("query {case}: {metric} {:.2} ms", ours.median));
    let mut figures = Vec::new();
    for (name, theirs) in peers {
        figures.push(Figure::beside("query", case, (metric, "ms"), &ours, name, Some(&rounds(theirs)?)));
    }
    for name in ["Prometheus", "VictoriaMetrics"] {
        if peers.iter().all(|(there, _)| *there != name) {
            figures.push(Figure::beside("query", case, (metric, "ms"), &ours, name, None));
        }
    }
    Ok(figures)
}

/// The first figure is held to the limit; the others stand beside it.
fn hold(figures: &mut Vec<Figure>, target: &'static str, limit: f64) {
    if !figures.is_empty() {
        let first = figures.remove(0);
        figures.insert(0, first.held_to(target, |figure| figure.value <= limit));
    }
}

/// The value that this part of them does not exceed.
fn at(values: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let place = (quantile * sorted.len() as f64) as usize;
    sorted.get(place.min(sorted.len().checked_sub(1)?)).copied()
}

/// A year of one series, as fine as fits.
fn year(http: &mut Http, series: u64, days: u64, asked: usize) -> anyhow::Result<Rounds> {
    let (from, until) = (START_MS - days * DAY_MS, START_MS);
    let agent = series / 10;
    let path = format!(
        "/api/v1/query/series?agent=host-{agent:04}&check=check_0&from_ms={from}&until_ms={until}&points=500"
    );
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut took = Vec::new();
        for _ in 0..asked {
            let begun = Instant::now();
            let (status, body) = http.get(&path)?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
            ensure!(status == 200, "a year is answered with {status}: {}", String::from_utf8_lossy(body));
            let points = body.windows(7).filter(|part| part == b"\"at_ms\"").count();
            ensure!((400..=501).contains(&points), "a year has {points} points");
        }
        rounds.push(at(&took, 0.5).context("nothing was asked")?);
    }
    Rounds::of(&rounds).context("no rounds")
}
