//! Forecasts with honest intervals: the median of a few robust seasonal autoregressions, tried out on the series' own
//! past to learn how far they err.

mod autoregression;
mod constants;
mod explain;

use autoregression::Autoregression;
pub use constants::MAX_HORIZON_MS;
use constants::{
    DISAGREEMENT, LEAST_CELLS, LEAST_SEASON, LEAVE, LONGEST_LAG, MAX_CELLS, MAX_STEPS, MODELS, POOL,
    SEASONS_MS, TRIAL_STEP, TRIALS, WIDTH,
};
pub use explain::{Basis, Explanation};
use serde::Serialize;

use crate::{
    faults::without_faults,
    numeric::{at, count, median, median_of, min_max, spread, whole},
    series::{Grid, Point, ms, usable},
};

/// What is known of the values beforehand. Forecasts keep to it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bounds {
    pub lowest: Option<f64>,
    pub highest: Option<f64>,
}

/// One step ahead: the value expected, and where it is with 95 % probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Step {
    pub at_ms: u64,
    pub value: f64,
    pub lower: f64,
    pub upper: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Distance between steps. At least that of the series; wider for a long horizon.
    pub step_ms: u64,
    /// None when there is too little to go by; `explanation` says so.
    pub steps: Vec<Step>,
    pub explanation: Explanation,
}

/// Forecasts to `horizon_ms` after the last point (at most [`MAX_HORIZON_MS`]).
/// Points may come in any order, repeat and leave gaps; what is not finite counts as missing.
#[must_use]
pub fn forecast(points: &[Point], horizon_ms: u64, bounds: Bounds) -> Forecast {
    let horizon_ms = horizon_ms.min(MAX_HORIZON_MS);
    let least_ms = horizon_ms / MAX_STEPS as u64;
    match Grid::of(points, least_ms, MAX_CELLS) {
        Some(grid) => {
            let steps = whole((ms(horizon_ms) / ms(grid.step_ms)).ceil(), 1, MAX_STEPS);
            ahead(&grid, steps, bounds)
        }
        None => Forecast { step_ms: 0, steps: Vec::new(), explanation: Explanation::nothing() },
    }
}

/// Forecasts `steps` (at most 336) values of a series that is even already, for benchmarks. Values that are not finite
/// repeat the one before, the first ones the one after.
#[must_use]
pub fn forecast_even(values: &[f64], step_ms: u64, steps: usize, bounds: Bounds) -> Forecast {
    let skip = values.len().saturating_sub(MAX_CELLS);
    let mut last = values.iter().skip(skip).copied().find(|v| usable(*v)).unwrap_or_default();
    let values = values.iter().skip(skip).map(|v| {
        last = if usable(*v) { *v } else { last };
        last
    });
    let grid = Grid { start_ms: 0, step_ms: step_ms.max(1), values: values.collect() };
    ahead(&grid, steps.min(MAX_STEPS), bounds)
}

fn ahead(grid: &Grid, steps: usize, bounds: Bounds) -> Forecast {
    let values = &grid.values;
    let seasons = seasons(grid);
    let (low, high) = limits(values, bounds);
    let middle = if values.len() < LEAST_CELLS {
        None
    } else {
        Some(ensemble(values, steps, seasons, (low, high)).unwrap_or_else(|| plain(values, steps)))
    };
    let Some(Band { middle, half, basis }) = middle else {
        let explanation = Explanation::of(values, Basis::TooShort, grid.step_ms);
        return Forecast { step_ms: grid.step_ms, steps: Vec::new(), explanation };
    };
    let begin = grid.last_ms();
    let last = values.last().copied().unwrap_or_default();
    let steps = middle.iter().zip(&half).zip(1_u64..).map(|((value, half), i)| {
        let value = if value.is_finite() { value.clamp(low, high) } else { last };
        let half = if half.is_finite() { *half } else { high - low };
        let at_ms = begin.saturating_add(grid.step_ms.saturating_mul(i));
        Step {
            at_ms,
            value,
            lower: (value - half).clamp(low.min(value), value),
            upper: (value + half).min(high.max(value)),
        }
    });
    Forecast {
        step_ms: grid.step_ms,
        steps: steps.collect(),
        explanation: Explanation::of(values, basis, grid.step_ms),
    }
}

/// Middle and half width of each step, and what they were learned from.
struct Band {
    middle: Vec<f64>,
    half: Vec<f64>,
    basis: Basis,
}

/// The two longest seasons of which the series holds two, in steps, shorter first.
fn seasons(grid: &Grid) -> (Option<usize>, Option<usize>) {
    let longest = whole(count(grid.values.len()) * LONGEST_LAG, 0, MAX_CELLS);
    let mut fit = SEASONS_MS
        .iter()
        .filter_map(|period| grid.steps(*period))
        .filter(|steps| (LEAST_SEASON..=longest).contains(steps))
        .rev();
    let (long, short) = (fit.next(), fit.next());
    if short.is_some() { (short, long) } else { (long, None) }
}

/// What a forecast may not leave: the range seen and a share of it, what is known, and no other sign than all had.
fn limits(values: &[f64], bounds: Bounds) -> (f64, f64) {
    let (least, most) = min_max(values);
    let room = LEAVE * (most - least);
    let mut low = if least >= 0.0 { (least - room).max(0.0) } else { least - room };
    let mut high = if most <= 0.0 { (most + room).min(0.0) } else { most + room };
    if let Some(bound) = bounds.lowest.filter(|bound| bound.is_finite()) {
        low = low.max(bound.min(least));
    }
    if let Some(bound) = bounds.highest.filter(|bound| bound.is_finite()) {
        high = high.min(bound.max(most));
    }
    (low, high.max(low))
}

struct Fitted {
    model: Autoregression,
    log: bool,
}

fn ensemble(
    values: &[f64],
    steps: usize,
    seasons: (Option<usize>, Option<usize>),
    (low, high): (f64, f64),
) -> Option<Band> {
    let clean = without_faults(values, seasons.0);
    let (least, _) = min_max(&clean);
    // Logarithms need positive values: lifted where they are not.
    let lift = if least > 0.0 { 0.0 } else { spread(&clean).max(1e-9) - least };
    let logs: Vec<f64> = clean.iter().map(|v| (v + lift).ln()).collect();
    let longest = whole(count(clean.len()) * LONGEST_LAG, 1, MAX_CELLS);
    let fitted: Vec<Fitted> = MODELS
        .iter()
        .filter_map(|model| {
            let lags = lags(model.lags, seasons, longest);
            let series = if model.log { &logs } else { &clean };
            let found = Autoregression::fit(series, &lags, model.forgets, model.ridge)?;
            Some(Fitted { model: found, log: model.log })
        })
        .collect();
    if fitted.is_empty() {
        return None;
    }
    let run = |until: usize, steps: usize| -> Vec<Vec<f64>> {
        let runs = fitted.iter().filter_map(|fitted| {
            let series = if fitted.log { &logs } else { &clean };
            let line = fitted.model.run(series.get(..until)?, steps);
            let back = |v: f64| if fitted.log { v.exp() - lift } else { v };
            Some(line.into_iter().map(|v| back(v).clamp(low, high)).collect())
        });
        runs.collect()
    };
    let n = clean.len();
    let tried = steps.min(n / 4);
    let first = longest.max(n / 2);
    let origins = (0..TRIALS).filter_map(|k| (n - tried).checked_sub(k * TRIAL_STEP)).filter(|o| *o >= first);
    let errors: Vec<Vec<f64>> = origins
        .map(|origin| {
            let (middle, _) = combined(&run(origin, tried.max(1)));
            middle.iter().zip(values.iter().skip(origin)).map(|(f, y)| (y - f).abs()).collect()
        })
        .collect();
    let (middle, apart) = combined(&run(n, steps));
    let half = widths(&errors, steps).iter().zip(&apart).map(|(w, d)| WIDTH * w + DISAGREEMENT * d).collect();
    Some(Band {
        middle,
        half,
        basis: Basis::Seasonal {
            short: seasons.0,
            long: seasons.1,
            models: fitted.len(),
            trials: errors.len(),
        },
    })
}

/// The lags of a model in steps, as far as the series has those seasons and is long enough.
fn lags(
    model: &[(isize, usize, usize)],
    seasons: (Option<usize>, Option<usize>),
    longest: usize,
) -> Vec<usize> {
    let mut lags: Vec<usize> = model
        .iter()
        .filter(|(_, short, long)| {
            (*short == 0 || seasons.0.is_some()) && (*long == 0 || seasons.1.is_some())
        })
        .filter_map(|(steps, short, long)| {
            let period = short * seasons.0.unwrap_or_default() + long * seasons.1.unwrap_or_default();
            period.checked_add_signed(*steps)
        })
        .filter(|lag| (1..=longest).contains(lag))
        .collect();
    lags.sort_unstable();
    lags.dedup();
    lags
}

/// Median of the runs at each step, and how far they are apart without the two outermost.
fn combined(runs: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
    let steps = runs.iter().map(Vec::len).min().unwrap_or_default();
    (0..steps)
        .map(|i| {
            let mut here: Vec<f64> = runs.iter().map(|run| at(run, i)).collect();
            here.sort_by(f64::total_cmp);
            let edge = usize::from(here.len() >= 4);
            let apart = at(&here, here.len() - 1 - edge) - at(&here, edge);
            (median_of(&mut here), apart)
        })
        .unzip()
}

/// Root mean squared error of the trials around each step. Beyond the trials it grows as a random walk does.
fn widths(errors: &[Vec<f64>], steps: usize) -> Vec<f64> {
    let tried = errors.iter().map(Vec::len).max().unwrap_or_default();
    let pooled: Vec<f64> = (0..tried)
        .map(|i| {
            let around = errors
                .iter()
                .flat_map(|row| row.iter().skip(i.saturating_sub(POOL)).take(i.min(POOL) + POOL + 1));
            let (sum, n) = around.fold((0.0, 0.0), |(sum, n), error| (sum + error * error, n + 1.0));
            if n > 0.0 { (sum / n).sqrt() } else { 0.0 }
        })
        .collect();
    let last = pooled.last().copied().unwrap_or_default();
    (0..steps)
        .map(|i| pooled.get(i).copied().unwrap_or_else(|| last * (count(i + 1) / count(tried.max(1))).sqrt()))
        .collect()
}

/// For short series: the median of the last values, and the errors of a random walk around it.
fn plain(values: &[f64], steps: usize) -> Band {
    let recent = values.get(values.len().saturating_sub(3)..).unwrap_or(values);
    let level = median(recent);
    let moves: Vec<f64> = crate::numeric::differences(values);
    let usual = spread(&moves).max(spread(values) * 0.5);
    let half = (0..steps).map(|i| 1.96 * usual * count(i + 1).sqrt()).collect();
    Band { middle: vec![level; steps], half, basis: Basis::Last { values: recent.len() } }
}
