//! When a series reaches a threshold: a disk is full, a quota used up, a certificate over.
//!
//! Trend (a line, a line that turned, growth), season (a wave or any shape, so saw-teeth and nightly jobs) and noise
//! with memory are fitted together; the simplest model that explains the series is run ahead.

mod constants;
mod model;

use std::fmt;

pub use constants::MAX_HORIZON_MS;
use constants::{
    ALIKE, BEFORE_KNOT, DAY_MS, FALL, GROWTH_STEP, GROWTHS, INTERVAL, KNOT_STEP, KNOT_STRIDE, KNOTS,
    LEAST_BEND, LEAST_CELLS, LEAST_FALL, LEAST_SEASON, LEAST_STEP_MS, MAX_CELLS, MAX_RESETS, MEMORIES,
    MEMORIES_FOR_SEASON, NEAREST_KNOT, NOISE_AHEAD, ROUNDS, ROUNDS_OF_SAW, SEASONS_DAYS, SIGNIFICANT,
    SLOWEST_GROWTH,
};
use model::{Data, Fit, Season, Trend};
use serde::Serialize;

use crate::{
    faults::without_faults,
    numeric::{at, count, differences, min_max, quantile, whole},
    series::{Grid, MAX_VALUE, Point, ms},
};

/// The side of a threshold that is not to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    Above(f64),
    Below(f64),
}

/// Hours from the last point to the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TimeTo {
    /// 0 when it is reached already; `None` for not within the horizon.
    pub hours: Option<f64>,
    /// With 95 % probability not before, and not after this. `None` for not within the horizon.
    pub earliest: Option<f64>,
    pub latest: Option<f64>,
    pub explanation: Explanation,
}

/// The course found in the series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// Too few values, or a threshold that is no number.
    Unknown,
    /// The last value is at the threshold.
    Reached,
    Standing,
    Steady,
    /// The slope changed some time ago.
    Turned,
    /// Faster and faster, or slower and slower.
    Bending,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Explanation {
    pub course: Course,
    pub last: f64,
    /// Present slope, per day.
    pub per_day: f64,
    /// Hours since the slope changed, when it did.
    pub since_hours: Option<f64>,
    /// Hours after which the shape repeats, when it does.
    pub season_hours: Option<f64>,
    /// Drops that do not repeat (a cleanup, a reset), modelled apart from the trend.
    pub resets: usize,
    /// Spread of the noise around the course.
    pub noise: f64,
    /// Values on the grid.
    pub values: usize,
}

/// When the series reaches the threshold, within `horizon_ms` (at most [`MAX_HORIZON_MS`]) after its last point.
/// Points may come in any order, repeat and leave gaps; what is not finite counts as missing.
#[must_use]
pub fn time_to(points: &[Point], threshold: Threshold, horizon_ms: u64) -> TimeTo {
    let (limit, sign) = match threshold {
        Threshold::Above(limit) => (limit, 1.0),
        Threshold::Below(limit) => (-limit, -1.0),
    };
    let latest =
        points.iter().filter(|point| crate::series::usable(point.value)).max_by_key(|point| point.at_ms);
    let (Some(latest), true) = (latest, limit.is_finite() && limit.abs() <= MAX_VALUE) else {
        return unknown(0, 0.0);
    };
    if sign * latest.value >= limit {
        let explanation =
            Explanation { course: Course::Reached, ..unknown(points.len(), latest.value).explanation };
        return TimeTo { hours: Some(0.0), earliest: Some(0.0), latest: Some(0.0), explanation };
    }
    let Some(mut grid) =
        Grid::of(points, LEAST_STEP_MS, MAX_CELLS).filter(|grid| grid.values.len() >= LEAST_CELLS)
    else {
        return unknown(points.len(), latest.value);
    };
    // A single wild value is neither a course nor a reset. The last one may be the first of many.
    let last = at(&grid.values, grid.values.len() - 1);
    grid.values = without_faults(&grid.values, None);
    if let Some(kept) = grid.values.last_mut() {
        *kept = last;
    }
    // Reckoned in shares of the range: all sizes of numbers fit alike.
    let (low, high) = min_max(&grid.values);
    let unit = if high > low { high - low } else { high.abs().max(1.0) };
    let values: Vec<f64> = grid.values.iter().map(|v| sign * (v - at(&grid.values, 0)) / unit).collect();
    let limit = (limit - sign * at(&grid.values, 0)) / unit;
    let cells_per_day = ms(DAY_MS) / ms(grid.step_ms);
    let Some((data_resets, fit)) = best(&values, cells_per_day) else {
        return unknown(grid.values.len(), latest.value);
    };
    let data = Data { values: &values, cells_per_day, resets: &data_resets };
    let hours_per_cell = 24.0 / cells_per_day;
    let horizon = whole(ms(horizon_ms.min(MAX_HORIZON_MS)) / ms(grid.step_ms), 1, 100_000);
    // The grid's last cell is centred on values up to the last point.
    let rising = rises(&fit);
    let run = |shift: f64, ahead: f64, rising: bool| {
        if rising {
            crossing(&data, &fit, limit, horizon, shift, ahead).map(|cells| cells * hours_per_cell)
        } else {
            None
        }
    };
    let steeper = INTERVAL * fit.slope_error;
    let hours = run(0.0, NOISE_AHEAD, rising);
    let earliest = run(steeper, INTERVAL, true).filter(|_| rising);
    let latest_hours = run(-steeper, -INTERVAL, rising);
    TimeTo {
        hours,
        earliest: earliest.zip(hours).map(|(e, h)| e.min(h)).or(earliest).or(hours),
        latest: latest_hours.zip(hours).map(|(l, h)| l.max(h)),
        explanation: explained(&data, &fit, latest.value, sign * unit, hours_per_cell),
    }
}

fn unknown(values: usize, last: f64) -> TimeTo {
    let explanation = Explanation {
        course: Course::Unknown,
        last,
        per_day: 0.0,
        since_hours: None,
        season_hours: None,
        resets: 0,
        noise: 0.0,
        values,
    };
    TimeTo { hours: None, earliest: None, latest: None, explanation }
}

/// The best model, and the resets it was fitted with.
fn best(values: &[f64], cells_per_day: f64) -> Option<(Vec<usize>, Fit)> {
    let falls = falls(values);
    let sizes: Vec<f64> = falls
        .iter()
        .map(|fall| at(values, fall.saturating_sub(2)) - at(values, (fall + 1).min(values.len() - 1)))
        .collect();
    let first = at(&sizes, 0);
    let saw = falls.len() >= 2 && sizes.iter().all(|size| (size / first).ln().abs() < ALIKE);
    let resets: Vec<usize> =
        if saw { Vec::new() } else { falls.iter().rev().take(MAX_RESETS).copied().collect() };
    let data = Data { values, cells_per_day, resets: &resets };
    let mut seasons = vec![Season::None];
    for period in SEASONS_DAYS.iter().map(|days| whole(days * cells_per_day, 0, values.len())) {
        let rounds = count(values.len()) / count(period.max(1));
        let repeats = falls.iter().zip(falls.iter().skip(1)).all(|(a, b)| (b - a).abs_diff(period) <= 1);
        if period >= LEAST_SEASON && (rounds >= ROUNDS || (saw && repeats && rounds >= ROUNDS_OF_SAW)) {
            seasons.extend([Season::Wave(period), Season::Profile(period)]);
        }
    }
    let trends = trends(&data);
    let few: Vec<Trend> = trends
        .iter()
        .enumerate()
        .filter(|(i, trend)| match trend {
            Trend::Level => false,
            Trend::Line => true,
            Trend::Growth(_) => i % 2 == 0,
            Trend::Knot(_) => i % KNOT_STRIDE == 0,
        })
        .map(|(_, trend)| *trend)
        .collect();
    let found = |season: Season, trends: &[Trend], memories: &[f64]| -> Option<Fit> {
        let fits = memories.iter().flat_map(|memory| trends.iter().map(move |trend| (trend, memory)));
        fits.filter_map(|(trend, memory)| data.fit(*trend, season, *memory))
            .min_by(|a, b| a.criterion.total_cmp(&b.criterion))
    };
    let season = seasons
        .into_iter()
        .filter_map(|season| found(season, &few, MEMORIES_FOR_SEASON))
        .min_by(|a, b| a.criterion.total_cmp(&b.criterion))
        .map_or(Season::None, |fit| fit.season);
    let fit = found(season, &trends, MEMORIES)?;
    Some((resets, fit))
}

/// Cells at which the series fell far.
fn falls(values: &[f64]) -> Vec<usize> {
    let moves = differences(values);
    let mut sizes: Vec<f64> = moves.iter().map(|m| m.abs()).collect();
    let usual = quantile(&mut sizes, 0.9);
    let mut falls: Vec<usize> = Vec::new();
    for (i, size) in moves.iter().enumerate() {
        let apart = falls.last().is_none_or(|last| i > *last);
        if *size < -(FALL * usual).max(LEAST_FALL) && apart {
            falls.push(i + 1);
        }
    }
    falls
}

fn trends(data: &Data<'_>) -> Vec<Trend> {
    let n = data.values.len();
    let days = count(n) / data.cells_per_day;
    let mut trends = vec![Trend::Level, Trend::Line];
    let growths = (0..GROWTHS).map(|k| SLOWEST_GROWTH * GROWTH_STEP.powi(k));
    trends.extend(growths.filter(|rate| rate * days > LEAST_BEND).map(Trend::Growth));
    let knots = (0..KNOTS).map(|k| whole(NEAREST_KNOT * KNOT_STEP.powi(k), 1, usize::MAX));
    trends.extend(knots.filter(|back| back + BEFORE_KNOT < n).map(|back| Trend::Knot(n - 1 - back)));
    trends.extend(data.resets.iter().map(|reset| Trend::Knot(*reset)));
    trends
}

/// Whether the course goes towards the threshold, and not by chance.
fn rises(fit: &Fit) -> bool {
    match fit.trend {
        Trend::Level => false,
        Trend::Line | Trend::Knot(_) | Trend::Growth(_) => {
            at(&fit.coefficients, 1) > SIGNIFICANT * fit.slope_error
        }
    }
}

/// Cells until the course, with the noise that comes ahead of it, is at the limit.
fn crossing(data: &Data<'_>, fit: &Fit, limit: f64, horizon: usize, shift: f64, ahead: f64) -> Option<f64> {
    let mut before = at(data.values, data.values.len() - 1);
    let mut row = Vec::new();
    for cells in 1..=horizon {
        let grown = (1.0 - fit.memory.powf(2.0 * count(cells))).max(0.0).sqrt();
        let now = data.expected(fit, cells, shift, &mut row) + ahead * fit.noise * grown;
        if now >= limit {
            let share = if now > before { ((limit - before) / (now - before)).clamp(0.0, 1.0) } else { 1.0 };
            return Some(count(cells - 1) + share);
        }
        before = now;
    }
    None
}

fn explained(data: &Data<'_>, fit: &Fit, last: f64, unit: f64, hours_per_cell: f64) -> Explanation {
    let slope = at(&fit.coefficients, 1);
    let (course, per_day, since) = match fit.trend {
        Trend::Level => (Course::Standing, 0.0, None),
        Trend::Line => (Course::Steady, slope, None),
        Trend::Knot(knot) => {
            (Course::Turned, slope, Some(count(data.values.len() - 1 - knot.min(data.values.len() - 1))))
        }
        Trend::Growth(rate) => (Course::Bending, slope * rate, None),
    };
    let season = match fit.season {
        Season::None => None,
        Season::Wave(period) | Season::Profile(period) => Some(count(period) * hours_per_cell),
    };
    Explanation {
        course: if rises(fit) || per_day < 0.0 { course } else { Course::Standing },
        last,
        per_day: per_day * unit,
        since_hours: since.map(|cells| cells * hours_per_cell),
        season_hours: season,
        resets: data.resets.len(),
        noise: fit.noise * unit.abs(),
        values: data.values.len(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last, per_day, values, noise, .. } = self;
        match self.course {
            Course::Unknown => return write!(f, "{values} values say nothing of a course"),
            Course::Reached => return write!(f, "{last:.4} is at the threshold already"),
            Course::Standing => write!(f, "stands at {last:.4}")?,
            Course::Steady => write!(f, "at {last:.4}, moves by {per_day:.4} a day")?,
            Course::Turned => {
                let since = self.since_hours.unwrap_or_default();
                write!(f, "at {last:.4}, moves by {per_day:.4} a day for {since:.1} h")?;
            }
            Course::Bending => write!(f, "at {last:.4}, moves by {per_day:.4} a day and bends")?,
        }
        if let Some(season) = self.season_hours {
            write!(f, ", repeats its shape every {season} h")?;
        }
        if self.resets > 0 {
            write!(f, ", {} drops left out of the trend", self.resets)?;
        }
        write!(f, "; noise {noise:.4}, {values} values")
    }
}
