//! M4: forecasts of hourly series.

use std::{collections::BTreeMap, path::Path, time::Duration, time::Instant};

use anyhow::ensure;
use predict::forecast::{Bounds, Forecast, forecast_even};

use super::files;

/// Steps that M4 asks for of hourly series.
pub const STEPS: usize = 48;
const HOUR_MS: u64 = 3_600_000;

/// The lines of one kind (`train` or `test`), by id, in the order of the file.
pub fn series(path: &Path, kind: &str) -> anyhow::Result<Vec<(String, Vec<f64>)>> {
    let mut all = Vec::new();
    for line in files::text(path)?.lines() {
        let mut fields = files::fields(line).into_iter();
        if let (Some(id), Some(true)) = (fields.next(), fields.next().map(|k| k.trim() == kind)) {
            let mut values: Vec<f64> = fields.map(|field| files::number(&field)).collect();
            // Short lines of a wide table are filled up with nothing.
            while values.last().is_some_and(|v| v.is_nan()) {
                values.pop();
            }
            all.push((id.trim().to_owned(), values));
        }
    }
    Ok(all)
}

#[must_use]
pub fn forecasts(series: &[(String, Vec<f64>)]) -> (BTreeMap<String, Forecast>, Duration) {
    let begun = Instant::now();
    let all = series
        .iter()
        .map(|(id, values)| (id.clone(), forecast_even(values, HOUR_MS, STEPS, Bounds::default())));
    (all.collect(), begun.elapsed())
}

/// `predict-m4 DATA OUT_DIR`
pub fn run(data: &Path, out: &Path) -> anyhow::Result<String> {
    let series = series(data, "train")?;
    ensure!(!series.is_empty(), "{} has no line `id,train,value,…`", data.display());
    let (forecasts, took) = forecasts(&series);
    let (mut middle, mut lower, mut upper) = (String::new(), String::new(), String::new());
    for (id, forecast) in &forecasts {
        // A series without any value has no forecast, but its line is asked for.
        let last = forecast.explanation.last;
        let steps =
            |i: usize| forecast.steps.get(i).map_or((last, last, last), |s| (s.value, s.lower, s.upper));
        for (text, pick) in [(&mut middle, 0), (&mut lower, 1), (&mut upper, 2)] {
            text.push_str(&files::quoted(id));
            for i in 0..STEPS {
                let (value, low, high) = steps(i);
                text.push_str(&format!(",{}", [value, low, high].get(pick).copied().unwrap_or(value)));
            }
            text.push('\n');
        }
    }
    files::write(&out.join("forecast.csv"), &middle)?;
    files::write(&out.join("lower.csv"), &lower)?;
    files::write(&out.join("upper.csv"), &upper)?;
    let each = took.as_secs_f64() * 1e3 / series.len() as f64;
    Ok(format!("{} series, {each:.2} ms each", series.len()))
}
