//! Trend, season and noise with memory, fitted together; the best of many such models by its information criterion.

use std::f64::consts::TAU;

use super::constants::{DIGITS, PROFILE_COST};
use crate::numeric::{Normal, at, count, dot, mean};

/// The course that a model gives the series. Times are days, 0 for the last value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Trend {
    Level,
    Line,
    /// A line whose slope changed at this cell.
    Knot(usize),
    /// Growth by this share each day.
    Growth(f64),
}

/// What comes back. Periods in cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Season {
    None,
    Wave(usize),
    /// Any shape, one value for each cell of the period.
    Profile(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Fit {
    pub(crate) trend: Trend,
    pub(crate) season: Season,
    /// Share of the noise that is still there one cell later.
    pub(crate) memory: f64,
    pub(crate) criterion: f64,
    pub(crate) coefficients: Vec<f64>,
    profile: Vec<f64>,
    /// The last value less what the model says.
    pub(crate) last_error: f64,
    /// Spread of the noise.
    pub(crate) noise: f64,
    /// Standard error of the slope or the growth.
    pub(crate) slope_error: f64,
}

/// The series and what was found out about it before fitting.
pub(crate) struct Data<'a> {
    pub(crate) values: &'a [f64],
    pub(crate) cells_per_day: f64,
    /// Cells at which a level ended.
    pub(crate) resets: &'a [usize],
}

impl Data<'_> {
    fn days(&self, cell: f64) -> f64 {
        (cell - (count(self.values.len()) - 1.0)) / self.cells_per_day
    }

    /// A cell at which a level ends tells nothing of the noise.
    fn weight(&self, cell: usize) -> f64 {
        if self.resets.iter().any(|reset| cell == *reset || cell == reset + 1) { 0.0 } else { 1.0 }
    }

    /// The columns of a model at a cell, which may be ahead.
    fn row(&self, trend: Trend, season: Season, cell: usize, row: &mut Vec<f64>) {
        let day = self.days(count(cell));
        row.clear();
        row.push(1.0);
        match trend {
            Trend::Level => {}
            Trend::Line => row.push(day),
            Trend::Knot(knot) => row.extend([day, (self.days(count(knot)) - day).max(0.0)]),
            Trend::Growth(rate) => row.push((rate * day).exp()),
        }
        row.extend(self.resets.iter().map(|reset| if cell < *reset { 1.0 } else { 0.0 }));
        if let Season::Wave(period) = season {
            for harmonic in [1.0, 2.0] {
                let angle = TAU * harmonic * count(cell) / count(period);
                row.extend([angle.sin(), angle.cos()]);
            }
        }
    }

    pub(crate) fn fit(&self, trend: Trend, season: Season, memory: f64) -> Option<Fit> {
        let n = self.values.len();
        let mut rows = Vec::new();
        let mut row = Vec::new();
        for cell in 0..n {
            self.row(trend, season, cell, &mut row);
            rows.extend_from_slice(&row);
        }
        let columns = row.len().max(1);
        let period = if let Season::Profile(period) = season { period } else { 0 };
        let mut profile = Vec::new();
        let mut left = self.values.to_vec();
        let (mut coefficients, mut slope_variance) = (Vec::new(), 0.0);
        // Trend and profile each of what the other leaves.
        for _ in 0..if period > 0 { 3 } else { 1 } {
            (coefficients, slope_variance) = self.solve(&rows, columns, &left, memory)?;
            if period > 0 {
                let errors: Vec<f64> = self
                    .values
                    .iter()
                    .zip(rows.chunks_exact(columns))
                    .map(|(v, row)| v - dot(row, &coefficients))
                    .collect();
                profile = (0..period)
                    .map(|place| {
                        let here: Vec<f64> = errors.iter().skip(place).step_by(period).copied().collect();
                        mean(&here)
                    })
                    .collect();
                let centre = mean(&profile);
                for place in &mut profile {
                    *place -= centre;
                }
                left = self.values.iter().zip(profile.iter().cycle()).map(|(v, place)| v - place).collect();
            }
        }
        let errors: Vec<f64> =
            left.iter().zip(rows.chunks_exact(columns)).map(|(v, row)| v - dot(row, &coefficients)).collect();
        let (mut sum, mut weights) = (at(&errors, 0).powi(2) * (1.0 - memory * memory), 0.0);
        for (i, (before, error)) in errors.iter().zip(errors.iter().skip(1)).enumerate() {
            let weight = self.weight(i + 1);
            sum += weight * (error - memory * before).powi(2);
            weights += weight;
        }
        if weights <= 0.0 {
            return None;
        }
        // Below this the digits of the values end: a better fit would mean nothing.
        let variance = sum / weights + DIGITS;
        let trend_cost = match trend {
            Trend::Level => 0.0,
            Trend::Line => 1.0,
            Trend::Growth(_) => 2.0,
            Trend::Knot(_) => 3.0,
        };
        let season_cost = match season {
            Season::None => 0.0,
            Season::Wave(_) => 4.0,
            Season::Profile(period) => PROFILE_COST * count(period),
        };
        let criterion = weights * variance.ln() - (1.0 - memory * memory).ln()
            + (trend_cost + season_cost) * weights.ln();
        let fit = Fit {
            trend,
            season,
            memory,
            criterion,
            profile,
            last_error: errors.last().copied().unwrap_or_default(),
            noise: (variance / (1.0 - memory * memory)).sqrt(),
            slope_error: (slope_variance * variance).max(0.0).sqrt(),
            coefficients,
        };
        (fit.criterion.is_finite() && fit.coefficients.iter().all(|c| c.is_finite())).then_some(fit)
    }

    /// Coefficients, and the variance of the second (the slope) over that of the noise.
    fn solve(&self, rows: &[f64], columns: usize, values: &[f64], memory: f64) -> Option<(Vec<f64>, f64)> {
        let mut normal = Normal::new(columns);
        let start = (1.0 - memory * memory).sqrt();
        let mut before: Option<(&[f64], f64)> = None;
        let mut now = vec![0.0; columns];
        for (cell, (row, value)) in rows.chunks_exact(columns).zip(values).enumerate() {
            let value_now = match before {
                None => {
                    for (x, own) in now.iter_mut().zip(row) {
                        *x = start * own;
                    }
                    start * value
                }
                Some((last, last_value)) => {
                    for ((x, own), last) in now.iter_mut().zip(row).zip(last) {
                        *x = own - memory * last;
                    }
                    value - memory * last_value
                }
            };
            let weight = self.weight(cell);
            if weight > 0.0 {
                normal.add(&now, value_now, weight);
            }
            before = Some((row, *value));
        }
        let factor = normal.factor()?;
        let variance = if columns > 1 { factor.variance(1) } else { 0.0 };
        Some((factor.coefficients(), variance))
    }

    /// What a fit says of the cell `ahead` cells after the last, with what is left of the last error.
    pub(crate) fn expected(&self, fit: &Fit, ahead: usize, slope_shift: f64, row: &mut Vec<f64>) -> f64 {
        let cell = self.values.len() - 1 + ahead;
        self.row(fit.trend, fit.season, cell, row);
        let days = self.days(count(cell));
        let place = cell.checked_rem(fit.profile.len()).map_or(0.0, |place| at(&fit.profile, place));
        let fading = fit.last_error * fit.memory.powf(count(ahead));
        // A steeper slope is steeper from now on: the present is known. Growth is steeper in proportion.
        let shift = match fit.trend {
            Trend::Level | Trend::Line | Trend::Knot(_) => slope_shift * days,
            Trend::Growth(_) => slope_shift * (at(row, 1) - 1.0),
        };
        dot(row, &fit.coefficients) + place + fading + shift
    }
}
