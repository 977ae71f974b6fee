//! How good the predictions are, on public data with labels, beside published results; and what they cost.
//!
//! The data lie outside the repository: `DOGWATCH_PREDICTION_DATA` names their folder, docs/PREDICTION.md says where
//! they come from. What is not there is not measured, and that is said.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use prediction::{disk, files, hosts, m4, nab, score, time};

use crate::{
    figure::{Figure, Range},
    progress,
};

const VARIABLE: &str = "DOGWATCH_PREDICTION_DATA";

/// What a figure must reach.
#[derive(Clone, Copy)]
enum Target {
    Least(f64),
    Most(f64),
    Within(f64, f64),
}

fn figure(
    case: &'static str,
    (metric, value, unit): (&'static str, f64, &'static str),
    (peer, peer_value): (&'static str, f64),
    (target, text): (Target, &'static str),
) -> Figure {
    let ok = match target {
        Target::Least(least) => value >= least,
        Target::Most(most) => value <= most,
        Target::Within(low, high) => (low..=high).contains(&value),
    };
    let round = |v: f64| (v * 1e4).round() / 1e4;
    let once = |v: f64| Range { min: round(v), max: round(v) };
    Figure {
        bench: "predict",
        case,
        metric,
        value: round(value),
        unit,
        peer,
        peer_value,
        ratio: round(value / peer_value),
        target: text,
        ok,
        range: once(value),
        peer_range: once(peer_value),
    }
}

type Measure = fn(&Path) -> anyhow::Result<Vec<Figure>>;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let Some(folder) = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from)
    else {
        progress(&format!(
            "*** predict NOT MEASURED: {VARIABLE} names no folder; see docs/PREDICTION.md ***"
        ));
        return Ok(Vec::new());
    };
    let mut figures = Vec::new();
    let parts: [(&str, Measure); 5] =
        [("nab", labelled), ("cloud", cloud), ("m4", hourly), ("hosts", groups), ("disk", disks)];
    for (name, measure) in parts {
        match entry(&folder, name)? {
            Some(path) => figures.extend(measure(&path).with_context(|| path.display().to_string())?),
            None => progress(&format!("*** predict/{name} NOT MEASURED: {} has none ***", folder.display())),
        }
    }
    Ok(figures)
}

/// The part of the folder whose name starts with this, or with `ms` and this.
fn entry(folder: &Path, name: &str) -> anyhow::Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot list {}: {VARIABLE} must name a folder", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let file = file.strip_prefix("ms").unwrap_or(&file);
            file.starts_with(name) && (path.is_dir() || file.contains(".csv"))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().next())
}

type Windows = BTreeMap<String, Vec<(String, String)>>;

/// 0.5 on the scale of `anomaly()` in rules comes once in a thousand usual values, 0.9 in ten thousand.
const ALARMS: [(&str, f64, f64); 2] =
    [("usual_per_alarm_at_0.5", 0.5, 1_000.0), ("usual_per_alarm_at_0.9", 0.9, 10_000.0)];

struct Scored {
    profiles: [f64; 3],
    /// One in how many usual values is a false alarm, at each of [`ALARMS`].
    per_alarm: [f64; 2],
    nanoseconds: f64,
}

fn scored(folder: &Path) -> anyhow::Result<Scored> {
    let labels: Windows =
        serde_json::from_str(&files::text(&folder.join("labels.json"))?).context("labels.json")?;
    let (all, took) = nab::all(&folder.join("data"))?;
    let names = all.keys().map(String::as_str).collect();
    let missing = score::missing(&labels, &names);
    anyhow::ensure!(missing.is_empty(), "labels without data: {missing:?}");
    let mut total = score::Nab::default();
    let mut points = 0_u32;
    for (name, (rows, scores)) in &all {
        points += u32::try_from(rows.len())?;
        let Some(windows) = labels.get(name) else { continue };
        let row = |stamp: &str| {
            let at = time::parse(stamp);
            rows.iter().position(|row| Some(row.at_ms / 1000) == at.map(|at| at / 1000))
        };
        let spans: Option<Vec<(usize, usize)>> = windows.iter().map(|(a, b)| row(a).zip(row(b))).collect();
        total.add(scores, &spans.with_context(|| format!("{name}: a label is at no row"))?);
    }
    let nanoseconds = took.as_secs_f64() * 1e9 / f64::from(points.max(1));
    let per_alarm = ALARMS.map(|(_, above, _)| total.usual_per_alarm(above));
    Ok(Scored { profiles: score::PROFILES.map(|(_, weights)| total.best(weights)), per_alarm, nanoseconds })
}

/// Within a factor of two of what the scale says.
fn false_alarms(case: &'static str, per_alarm: [f64; 2]) -> impl Iterator<Item = Figure> {
    ALARMS.into_iter().zip(per_alarm).map(move |((metric, _, stated), found)| {
        let target = (Target::Within(stated / 2.0, stated * 2.0), "stated, within a factor of 2");
        figure(case, (metric, found, "values"), ("stated", stated), target)
    })
}

fn labelled(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let Scored { profiles: [standard, low_fp, low_fn], per_alarm, nanoseconds } = scored(folder)?;
    let bytes =
        u32::try_from(std::mem::size_of::<::predict::anomaly::Detector>()).map_or(f64::MAX, f64::from);
    let peer = |value| ("ARTime, looks ahead", value);
    let mut figures = vec![
        figure("nab", ("standard", standard, "points"), peer(74.9), (Target::Least(75.0), ">= 75")),
        figure("nab", ("low_FP", low_fp, "points"), peer(65.2), (Target::Least(68.0), ">= 68")),
        figure("nab", ("low_FN", low_fn, "points"), peer(80.4), (Target::Least(79.0), ">= 79")),
        figure(
            "nab",
            ("cost", nanoseconds, "ns/point"),
            ("novelty alone, Python", 1200.0),
            (Target::Most(1000.0), "<= 1000"),
        ),
        figure("nab", ("state", bytes, "bytes"), ("limit", 4096.0), (Target::Most(4096.0), "<= 4096")),
    ];
    figures.extend(false_alarms("nab", per_alarm));
    Ok(figures)
}

fn cloud(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let Scored { profiles: [standard, _, _], per_alarm, .. } = scored(folder)?;
    let peer = ("best found before", 64.5);
    let mut figures =
        vec![figure("cloud", ("standard", standard, "points"), peer, (Target::Least(65.0), ">= 65"))];
    figures.extend(false_alarms("cloud", per_alarm));
    Ok(figures)
}

fn hourly(path: &Path) -> anyhow::Result<Vec<Figure>> {
    let train = m4::series(path, "train")?;
    let test: BTreeMap<String, Vec<f64>> = m4::series(path, "test")?.into_iter().collect();
    let (forecasts, took) = m4::forecasts(&train);
    let known: Vec<_> = train
        .iter()
        .filter_map(|(id, history)| {
            let (actual, forecast) = (test.get(id)?, forecasts.get(id)?);
            Some((history.as_slice(), actual.as_slice(), forecast.steps.as_slice()))
        })
        .collect();
    let m4 = score::m4(&known);
    let each = took.as_secs_f64() * 1e3 / f64::from(u32::try_from(train.len().max(1))?);
    Ok(vec![
        figure("m4_hourly", ("OWA", m4.owa, ""), ("Doornik", 0.410), (Target::Most(0.41), "<= 0.41")),
        figure("m4_hourly", ("MSIS", m4.msis, ""), ("Doornik", 6.14), (Target::Most(7.5), "<= 7.5")),
        figure(
            "m4_hourly",
            ("coverage", m4.coverage, ""),
            ("asked for", 0.95),
            (Target::Within(0.93, 0.97), "0.93..0.97"),
        ),
        figure(
            "m4_hourly",
            ("cost", each, "ms/series"),
            ("augurs MSTL-ETS", 26.0),
            (Target::Most(5.0), "<= 5"),
        ),
    ])
}

fn groups(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let labels: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(&files::text(&folder.join("labels.json"))?).context("labels.json")?;
    let groups = hosts::groups(folder)?;
    let rows: Vec<(f64, bool)> = groups
        .iter()
        .flat_map(|group| group.hosts.iter().map(move |host| (group, host)))
        .filter_map(|(group, (host, verdict))| {
            Some((verdict.score, labels.get(&group.name)?.contains_key(host)))
        })
        .collect();
    let (f1, precision) = score::hosts(&rows);
    Ok(vec![
        figure("hosts", ("F1 at 0.5", f1, ""), ("best found before", 0.85), (Target::Least(0.93), ">= 0.93")),
        figure(
            "hosts",
            ("average precision", precision, ""),
            ("best found before", 0.95),
            (Target::Least(0.95), ">= 0.95"),
        ),
    ])
}

#[derive(serde::Deserialize)]
struct Filled {
    hours: Option<f64>,
}

fn disks(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let labels: BTreeMap<String, Filled> =
        serde_json::from_str(&files::text(&folder.join("labels.json"))?).context("labels.json")?;
    let answers = disk::all(folder)?;
    let rows: Vec<(Option<f64>, Option<f64>)> =
        answers.iter().filter_map(|(name, answer)| Some((answer.hours, labels.get(name)?.hours))).collect();
    let (right, wrong) = score::disk(&rows);
    Ok(vec![
        figure("disk", ("within 1.25", right, ""), ("straight line", 0.44), (Target::Least(0.75), ">= 0.75")),
        figure(
            "disk",
            ("false alarms", wrong, ""),
            ("straight line", 0.017),
            (Target::Most(0.02), "<= 0.02"),
        ),
    ])
}
