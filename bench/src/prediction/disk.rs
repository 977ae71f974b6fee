//! Hours until a disk is full.

use std::path::Path;

use anyhow::ensure;
use predict::{
    Point,
    time_to::{MAX_HORIZON_MS, Threshold, TimeTo, time_to},
};

use super::{files, nab};

/// A disk is full at 100 %.
const FULL: f64 = 100.0;

/// Every series below `folder`, by name: `timestamp,used_percent`.
pub fn all(folder: &Path) -> anyhow::Result<Vec<(String, TimeTo)>> {
    let paths = files::below(folder, "csv")?;
    let answers = paths.iter().map(|path| {
        let rows = nab::rows(&folder.join(path))?;
        let points: Vec<Point> = rows.iter().map(|row| Point::new(row.at_ms, row.value)).collect();
        Ok((files::stem(path), time_to(&points, Threshold::Above(FULL), MAX_HORIZON_MS)))
    });
    answers.collect()
}

/// `predict-disk DIR PRED.csv`
pub fn run(folder: &Path, out: &Path) -> anyhow::Result<String> {
    let begun = std::time::Instant::now();
    let all = all(folder)?;
    ensure!(!all.is_empty(), "{} holds no CSV file", folder.display());
    let mut text = String::new();
    for (name, answer) in &all {
        let hours = answer.hours.map_or_else(|| "inf".to_owned(), |hours| format!("{hours:.3}"));
        text.push_str(&format!("{},{hours}\n", files::quoted(name)));
    }
    files::write(out, &text)?;
    let each = begun.elapsed().as_secs_f64() * 1e3 / all.len() as f64;
    Ok(format!("{} series, {each:.1} ms each", all.len()))
}
