//! The constants of the forecaster, each with the reason for its value. Measured on the public half of M4 hourly.

/// Longest horizon. Two weeks: beyond that the weekly season is all that is left of a forecast.
pub const MAX_HORIZON_MS: u64 = 14 * DAY_MS;

pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// Seasons looked for. People and their machines keep these three.
pub(crate) const SEASONS_MS: [u64; 3] = [HOUR_MS, DAY_MS, 7 * DAY_MS];

/// A season needs this many steps, or it is noise.
pub(crate) const LEAST_SEASON: usize = 4;

/// Most cells of the grid: fits stay below 5 ms, and six weeks of hours fit in.
pub(crate) const MAX_CELLS: usize = 1000;

/// Most steps ahead; a longer horizon takes wider steps. Two weeks of hours fit in.
pub(crate) const MAX_STEPS: usize = 336;

/// Fewer cells: no forecast. With two there is no error to learn from.
pub(crate) const LEAST_CELLS: usize = 3;

/// No lag beyond this share of the series: the rest has to teach its weight.
pub(crate) const LONGEST_LAG: f64 = 0.5;

/// Rows of a fit for each coefficient, at least. With fewer a model is left out.
pub(crate) const ROWS_PER_COEFFICIENT: usize = 3;

/// Rounds of reweighting towards least absolute errors. Errors are scored by their size, and outliers weigh less:
/// OWA 0.3984 without, 0.3909 with three rounds for the best model alone; more were not tried.
pub(crate) const ROUNDS: usize = 3;

/// Errors below this many spreads are not weighted down: keeps the weights finite.
pub(crate) const CORE: f64 = 0.5;

/// The past loses half its weight in so many steps, where a model forgets. 150 to 300 measured alike.
pub(crate) const HALF_LIFE: f64 = 300.0;

/// A forecast leaves the range seen by at most this share of it. Guards against models that run away.
pub(crate) const LEAVE: f64 = 0.5;

/// Past moments at which the forecast is tried out, and the steps between them. 13 shares no factor with a day
/// of hours, so that all hours of the day are tried.
pub(crate) const TRIALS: usize = 12;
pub(crate) const TRIAL_STEP: usize = 13;

/// Steps to both sides over which errors of the trials are pooled. 3, 8 and 24 measured alike, 8 best.
pub(crate) const POOL: usize = 8;

/// Half the width of the 95 % band: this many root mean squared errors of the trials plus a share of the models'
/// disagreement. The trials know the fit, so 1.96 is too few; 2.4 gave the best interval score with 94.7 % inside.
pub(crate) const WIDTH: f64 = 2.45;
pub(crate) const DISAGREEMENT: f64 = 0.5;

/// The models: lags as (steps, short seasons, long seasons). Seven that err in different ways; their median is better
/// than the best of them (OWA 0.374 against 0.388), weights by past errors did not help (0.373 to 0.377).
pub(crate) struct Model {
    pub(crate) lags: &'static [(isize, usize, usize)],
    /// Of the logarithm.
    pub(crate) log: bool,
    pub(crate) forgets: bool,
    /// Share of its own weight by which a coefficient is pulled to 0. Little: the lags are few.
    pub(crate) ridge: f64,
}

const SEASONAL: &[(isize, usize, usize)] = &[(0, 1, 0), (0, 2, 0), (0, 0, 1), (0, 0, 2)];
const DAILY: &[(isize, usize, usize)] =
    &[(0, 1, 0), (0, 2, 0), (0, 3, 0), (0, 4, 0), (0, 5, 0), (0, 6, 0), (0, 0, 1), (0, 0, 2)];
const NEAR: &[(isize, usize, usize)] =
    &[(1, 0, 0), (2, 0, 0), (0, 1, 0), (1, 1, 0), (2, 1, 0), (0, 0, 1), (1, 0, 1), (2, 0, 1)];
const AROUND: &[(isize, usize, usize)] = &[
    (1, 0, 0),
    (2, 0, 0),
    (3, 0, 0),
    (-1, 1, 0),
    (0, 1, 0),
    (1, 1, 0),
    (0, 2, 0),
    (-1, 0, 1),
    (0, 0, 1),
    (1, 0, 1),
    (0, 0, 2),
    (1, 0, 2),
];
const WIDE: &[(isize, usize, usize)] = &[
    (1, 0, 0),
    (2, 0, 0),
    (3, 0, 0),
    (-2, 1, 0),
    (-1, 1, 0),
    (0, 1, 0),
    (1, 1, 0),
    (2, 1, 0),
    (-1, 2, 0),
    (0, 2, 0),
    (1, 2, 0),
    (0, 3, 0),
    (0, 4, 0),
    (0, 5, 0),
    (0, 6, 0),
    (-1, 0, 1),
    (0, 0, 1),
    (1, 0, 1),
    (-1, 1, 1),
    (0, 1, 1),
    (0, 0, 2),
];
const DEEP: &[(isize, usize, usize)] = &[
    (1, 0, 0),
    (2, 0, 0),
    (3, 0, 0),
    (4, 0, 0),
    (5, 0, 0),
    (6, 0, 0),
    (-1, 1, 0),
    (0, 1, 0),
    (1, 1, 0),
    (0, 2, 0),
    (0, 3, 0),
    (0, 6, 0),
    (-1, 0, 1),
    (0, 0, 1),
    (1, 0, 1),
    (0, 0, 2),
];

pub(crate) const MODELS: [Model; 7] = [
    Model { lags: AROUND, log: true, forgets: true, ridge: 1e-5 },
    Model { lags: WIDE, log: true, forgets: true, ridge: 1e-5 },
    Model { lags: NEAR, log: true, forgets: false, ridge: 1e-4 },
    Model { lags: SEASONAL, log: true, forgets: true, ridge: 1e-5 },
    Model { lags: AROUND, log: false, forgets: true, ridge: 1e-5 },
    Model { lags: DEEP, log: true, forgets: false, ridge: 1e-4 },
    Model { lags: DAILY, log: false, forgets: false, ridge: 1e-5 },
];
