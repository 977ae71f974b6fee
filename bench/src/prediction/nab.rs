//! Anomaly scores of labelled series, in the layout of the Numenta Anomaly Benchmark.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;
use predict::anomaly::Detector;

use super::{files, time};

/// One row: as it was written, and what it means.
pub struct Row {
    pub stamp: String,
    pub field: String,
    pub at_ms: u64,
    pub value: f64,
}

/// The rows of a `timestamp,value` table. A row without a time takes the one before it.
pub fn rows(path: &Path) -> anyhow::Result<Vec<Row>> {
    let text = files::text(path)?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let head: Vec<String> =
        files::fields(lines.next().unwrap_or_default()).iter().map(|f| f.trim().to_lowercase()).collect();
    let column =
        |name: &str, otherwise: usize| head.iter().position(|field| field == name).unwrap_or(otherwise);
    let (stamps, values) = (column("timestamp", 0), column("value", 1));
    let mut last = 0;
    let rows = lines.map(|line| {
        let fields = files::fields(line);
        let get = |i: usize| fields.get(i).cloned().unwrap_or_default();
        let (stamp, field) = (get(stamps), get(values));
        last = time::parse(&stamp).unwrap_or(last);
        Row { at_ms: last, value: files::number(&field), stamp, field }
    });
    Ok(rows.collect())
}

/// The scores of the rows, each from those before it.
#[must_use]
pub fn scores(rows: &[Row]) -> Vec<f64> {
    let mut detector = Detector::new();
    rows.iter().map(|row| detector.observe(row.at_ms, row.value).score).collect()
}

/// Tables with their scores, by path.
pub type Scored = BTreeMap<String, (Vec<Row>, Vec<f64>)>;

/// Every table below `folder`, and the time that scoring took.
pub fn all(folder: &Path) -> anyhow::Result<(Scored, Duration)> {
    let (mut all, mut took) = (BTreeMap::new(), Duration::ZERO);
    for path in files::below(folder, "csv")? {
        let rows = rows(&folder.join(&path))?;
        let begun = Instant::now();
        let scores = scores(&rows);
        took += begun.elapsed();
        all.insert(path.to_string_lossy().into_owned(), (rows, scores));
    }
    Ok((all, took))
}

/// `predict-nab DATA_DIR OUT_DIR`
pub fn run(folder: &Path, out: &Path) -> anyhow::Result<String> {
    let (all, took) = all(folder)?;
    ensure!(!all.is_empty(), "{} holds no CSV file", folder.display());
    let mut points = 0_u32;
    for (path, (rows, scores)) in &all {
        let mut text = String::from("timestamp,value,anomaly_score\n");
        for (row, score) in rows.iter().zip(scores) {
            text.push_str(&format!("{},{},{score}\n", files::quoted(&row.stamp), files::quoted(&row.field)));
            points += 1;
        }
        files::write(&out.join(path), &text)?;
    }
    let each = took.as_secs_f64() * 1e9 / f64::from(points.max(1));
    Ok(format!("{} series, {points} points, {each:.0} ns each", all.len()))
}
