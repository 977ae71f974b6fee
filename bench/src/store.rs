//! Bytes, memory and time of the store: a day and a half of numbers in a few minutes, through the same calls that ingest
//! makes.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ingest::{
    core::plan::Accounts,
    store::{Commit, Fjall, NewResult, ResultStore, Retention, SeriesFilter, Span},
};
use protocol::{AgentId, CheckName, CheckResult, Scalar, Status};

use crate::{
    figure::{Figure, Rounds},
    progress,
};

const CHECKS: u64 = 10;
/// Samples of each series: a day and a part of one.
pub(crate) const MINUTES: u64 = 2_000;
pub(crate) const EVERY_MS: u64 = 60_000;
/// Midnight, so that days are whole.
pub(crate) const START_MS: u64 = 20_500 * 86_400_000;
/// Steps of the walk, in tenths, up and down; each as likely.
pub(crate) const STEP: u64 = 7;
const STEPS: f64 = 15.0;
/// Milliseconds, each as likely.
const JITTER_MS: u64 = 50;
pub(crate) const BATCH: u64 = 4_000;
const READS: usize = 1_000;
const DAY_POINTS: u64 = 1_440;

pub(crate) fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let series = if quick { 250 } else { 10_000 };
    let entropy = STEPS.log2() / 8.0;
    let mut figures = case("aligned", series, 1, entropy, "bytes <= 0.6")?;
    let jitter = f64::from(u32::try_from(JITTER_MS)?).log2() / 8.0;
    figures.extend(case("jitter", series, JITTER_MS, entropy + jitter, "bytes <= 1.4")?);
    Ok(figures)
}

fn case(
    name: &'static str,
    series: u64,
    jitter_ms: u64,
    entropy: f64,
    target: &'static str,
) -> anyhow::Result<Vec<Figure>> {
    let samples = series * MINUTES;
    let folder = tempfile::tempdir()?;
    reset_peak();
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let store = open(folder.path())?;
    fill(&store, series, jitter_ms)?;
    store.compact(START_MS, &mut |_, _| {})?;
    let (took, cpu) = (begun.elapsed(), cpu_seconds() - cpu);
    let peak = peak_bytes().context("peak memory cannot be read")?;
    let stats = store.stats()?;
    ensure!(stats.sealed_results == samples, "{} of {samples} results are sealed", stats.sealed_results);
    let bytes = number(stats.sealed_bytes) / number(samples);
    drop(store);
    let on_disk = folder_bytes(folder.path())?;
    progress(&format!(
        "store {name}: {bytes:.3} bytes a sample in blocks, {:.3} with all files; {} points of roll-ups of {:.2} bytes; \
         {:.0} samples/s, {:.2} µs of CPU each",
        number(on_disk) / number(samples),
        stats.points,
        number(stats.point_bytes) / number(stats.points.max(1)),
        number(samples) / took.as_secs_f64(),
        cpu * 1e6 / number(samples),
    ));
    let begun = Instant::now();
    let store = open(folder.path())?;
    let reopen = begun.elapsed().as_secs_f64();
    let reads = read(&store)?;
    let one = |value: f64| Rounds::of(&[value]).context("no rounds");
    let limit = one(entropy)?;
    let ours = one(round(bytes, 3))?;
    let size = Figure::beside(
        "store",
        name,
        ("size", "bytes/sample"),
        &ours,
        "entropy of the numbers",
        Some(&limit),
    );
    let bound = if jitter_ms == 1 { 0.6 } else { 1.4 };
    let peak_mb = peak / 1e6;
    let memory = one(round(peak_mb, 0))?;
    let memory =
        Figure::beside("store", name, ("peak_memory", "MB"), &memory, "the limit", Some(&one(250.0)?));
    let opening = one(round(reopen, 3))?;
    let opening = Figure::beside("store", name, ("reopen", "s"), &opening, "the limit", Some(&one(1.0)?));
    let read = Rounds::of(&reads).context("no reads")?;
    let reading = Figure::beside("store", name, ("read_1440_points", "ms"), &read, "none", None);
    Ok(vec![
        size.held_to(target, |figure| figure.value <= bound),
        memory.held_to("<= 250 MB", |figure| figure.value <= 250.0),
        opening.held_to("<= 1 s", |figure| figure.value <= 1.0),
        reading,
    ])
}

pub(crate) fn open(folder: &Path) -> anyhow::Result<Fjall> {
    let store = Fjall::new(folder, 0, Default::default())?;
    store.recover()?;
    Ok(store)
}

/// Every series' sample of one minute, then of the next; the store is maintained as time goes on.
fn fill(store: &Fjall, all: u64, jitter_ms: u64) -> anyhow::Result<()> {
    let mut values: Vec<i64> = (0..all).map(|series| 500 + (series % 100).cast_signed()).collect();
    let mut random = Random(1);
    let retention = Retention {
        hot: Duration::from_secs(3600),
        results: Duration::from_secs(86_400 * 365),
        five_minutes: Duration::from_secs(86_400 * 365),
        hours: Duration::from_secs(86_400 * 365),
        max_bytes: u64::MAX,
    };
    let (accounts, ids) = (Accounts::new(), HashSet::new());
    let mut batch: Vec<CheckResult> = Vec::new();
    for minute in 0..MINUTES {
        let now_ms = START_MS + (minute + 1) * EVERY_MS;
        for (series, value) in (0..all).zip(&mut values) {
            *value += random.below(2 * STEP + 1).cast_signed() - STEP.cast_signed();
            let at_ms = START_MS + minute * EVERY_MS + random.below(jitter_ms);
            batch.push(sample(series, minute, at_ms, *value)?);
            if batch.len() as u64 == BATCH || series + 1 == all {
                let json = batch.iter().map(protocol::encode).collect::<Result<Vec<_>, _>>()?;
                let results =
                    batch.iter().zip(&json).map(|(result, json)| NewResult { result, json }).collect();
                store.commit(&Commit { now_ms, results, accounts: &accounts, ids: &ids })?;
                batch.clear();
            }
        }
        store.maintain(now_ms, &retention)?;
        if minute % 500 == 499 {
            progress(&format!("store: minute {} of {MINUTES}", minute + 1));
        }
    }
    Ok(())
}

pub(crate) fn sample(series: u64, minute: u64, at_ms: u64, tenths: i64) -> anyhow::Result<CheckResult> {
    let (agent, check) = (series / CHECKS, series % CHECKS);
    Ok(CheckResult {
        epoch: START_MS,
        seq: minute * CHECKS + check + 1,
        // As a program writes it: the nearest number to the decimal.
        value: Some(Scalar::Number(serde_json::from_str(&format!("{}.{}", tenths / 10, tenths.abs() % 10))?)),
        unit: Some("%".to_owned()),
        exit_code: Some(0),
        duration_ms: 12,
        revision: 42,
        ..CheckResult::new(
            AgentId::new(&format!("host-{agent:04}"))?,
            CheckName::new(&format!("check_{check}"))?,
            at_ms,
            Status::Ok,
        )
    })
}

/// Milliseconds for a day of one series, of series here and there.
fn read(store: &Fjall) -> anyhow::Result<Vec<f64>> {
    let series = store.series(&SeriesFilter::default())?;
    let mut random = Random(7);
    let mut took = Vec::new();
    for _ in 0..READS {
        let any = usize::try_from(random.below(series.len() as u64))?;
        let meta = series.get(any).context("there are no series")?;
        let begun = Instant::now();
        let span = Span {
            from_ms: START_MS,
            until_ms: START_MS + DAY_POINTS * EVERY_MS,
            limit: 10_000,
            deadline: begun + Duration::from_secs(5),
        };
        let samples = store.samples(meta.id, &span)?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(!samples.is_empty(), "a series is empty");
    }
    Ok(took)
}

/// The same numbers in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }
}

fn folder_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { folder_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

/// Forget the highest memory so far. Where that is not allowed, earlier peaks count too.
fn reset_peak() {
    let _lost = fs::write("/proc/self/clear_refs", "5");
}

fn peak_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

fn cpu_seconds() -> f64 {
    crate::ingest::cpu_seconds().unwrap_or(f64::NAN)
}

#[allow(clippy::cast_precision_loss)] // counts far below 2^53
fn number(n: u64) -> f64 {
    n as f64
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
