//! The constants of the time to a threshold, each with the reason for its value. Found on two generated sets of 200
//! series and checked on two others of 300.

/// Answers reach so far. What fills later is no news today.
pub const MAX_HORIZON_MS: u64 = 14 * DAY_MS;

pub(crate) const DAY_MS: u64 = 86_400_000;

/// Finest step. Disks and quotas are measured every few minutes; a quarter of an hour loses nothing.
pub(crate) const LEAST_STEP_MS: u64 = 900_000;

/// Most cells: two weeks of quarter hours.
pub(crate) const MAX_CELLS: usize = 1344;

/// Fewer cells: no answer, there is no trend in them.
pub(crate) const LEAST_CELLS: usize = 12;

/// Seasons looked for, in days. Jobs run twice a day, daily, or every second day.
pub(crate) const SEASONS_DAYS: [f64; 3] = [0.5, 1.0, 2.0];
/// A season needs so many rounds in the series; where the fall of a saw-tooth comes back after it, fewer will do.
pub(crate) const ROUNDS: f64 = 2.5;
pub(crate) const ROUNDS_OF_SAW: f64 = 1.4;
/// Steps in a season, at least.
pub(crate) const LEAST_SEASON: usize = 6;

/// Memory of the noise from cell to cell. What a machine writes beside the trend fades over hours.
pub(crate) const MEMORIES: &[f64] = &[0.0, 0.5, 0.9, 0.97, 0.985];
/// These are enough to choose the season by.
pub(crate) const MEMORIES_FOR_SEASON: &[f64] = &[0.0, 0.9, 0.97];

/// A fall of more than so many usual moves (their nine-tenths quantile) is a reset, not noise.
pub(crate) const FALL: f64 = 8.0;
/// ... and of at least this share of what is left to the threshold and was moved over so far.
pub(crate) const LEAST_FALL: f64 = 0.05;
/// Falls are of one kind, a saw-tooth, when their sizes differ by no more than this factor (as a logarithm).
pub(crate) const ALIKE: f64 = 0.5;
/// Single resets that are modelled: the latest.
pub(crate) const MAX_RESETS: usize = 2;

/// Growth rates tried, per day, each 1.4 times the one before; below a bend of a quarter over the series a line says it.
pub(crate) const SLOWEST_GROWTH: f64 = 0.08;
pub(crate) const GROWTH_STEP: f64 = 1.4;
pub(crate) const GROWTHS: i32 = 17;
pub(crate) const LEAST_BEND: f64 = 0.25;

/// Places where the slope may have changed: so many cells back, each 1.18 times the one before.
pub(crate) const NEAREST_KNOT: f64 = 6.0;
pub(crate) const KNOT_STEP: f64 = 1.18;
pub(crate) const KNOTS: i32 = 24;
/// For the choice of the season every third is enough.
pub(crate) const KNOT_STRIDE: usize = 3;
/// Cells before a knot, at least.
pub(crate) const BEFORE_KNOT: usize = 12;

/// Cost of a place of the season's profile, in parameters: many, but bound to repeat.
pub(crate) const PROFILE_COST: f64 = 0.5;

/// A slope counts from so many standard errors on. Below, the series stands. The best of many models flatters its slope:
/// 2 gave up to 5.6 % false alarms, 4.5 at most 2.2 %, and cost two disks of 1,120.
pub(crate) const SIGNIFICANT: f64 = 4.5;

/// Noise reaches the threshold before the trend does: by this many of its spreads.
pub(crate) const NOISE_AHEAD: f64 = 0.7;

/// The interval: the slope, in standard errors, and the noise, in spreads, for 95 % of the cases.
pub(crate) const INTERVAL: f64 = 1.96;

/// Variance, in squared ranges of the series, that no fit gets below: there the digits of the values end.
pub(crate) const DIGITS: f64 = 2e-7;
