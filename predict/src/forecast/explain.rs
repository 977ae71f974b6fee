//! Why a forecast says what it says.

use std::fmt;

use serde::Serialize;

use crate::{
    numeric::{count, mean, quantile},
    series::ms,
};

/// What a forecast was learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Basis {
    /// Autoregressions over these seasons (in steps), tried out at so many past moments.
    Seasonal { short: Option<usize>, long: Option<usize>, models: usize, trials: usize },
    /// The last values and the size of the moves between them.
    Last { values: usize },
    /// Too few values: no forecast.
    TooShort,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Explanation {
    pub basis: Basis,
    pub step_ms: u64,
    /// Values on the grid.
    pub values: usize,
    pub last: f64,
    /// Where nine tenths of the values were.
    pub usual_low: f64,
    pub usual_high: f64,
    /// How much of the changes the shorter season explains, 0 to 1.
    pub season_strength: f64,
}

impl Explanation {
    pub(super) fn nothing() -> Self {
        Self::of(&[], Basis::TooShort, 0)
    }

    pub(super) fn of(values: &[f64], basis: Basis, step_ms: u64) -> Self {
        let mut sorted = values.to_vec();
        let season = match basis {
            Basis::Seasonal { short, .. } => short,
            Basis::Last { .. } | Basis::TooShort => None,
        };
        Self {
            basis,
            step_ms,
            values: values.len(),
            last: values.last().copied().unwrap_or_default(),
            usual_low: quantile(&mut sorted, 0.05),
            usual_high: quantile(&mut sorted, 0.95),
            season_strength: season.map_or(0.0, |season| strength(values, season)),
        }
    }
}

/// Share of the variance that goes when the mean of each place in the season is taken away.
fn strength(values: &[f64], season: usize) -> f64 {
    let centre = mean(values);
    let total: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    let places = season.max(1);
    let left: f64 = (0..places)
        .map(|place| {
            let here: Vec<f64> = values.iter().skip(place).step_by(places).copied().collect();
            let own = mean(&here);
            // One parameter for each place is spent: a season of noise must not look like one.
            let spent = count(here.len()) / count(here.len().saturating_sub(1).max(1));
            here.iter().map(|v| (v - own).powi(2)).sum::<f64>() * spent
        })
        .sum();
    if total > 0.0 { (1.0 - left / total).clamp(0.0, 1.0) } else { 0.0 }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.basis {
            Basis::TooShort => return write!(f, "no forecast: {} usable values are too few", self.values),
            Basis::Last { values } => write!(f, "from the last {values} values; too few for a season")?,
            Basis::Seasonal { short, long, models, trials } => {
                write!(f, "median of {models} models")?;
                for (season, and) in [short, long].into_iter().flatten().zip([" over seasons of ", " and "]) {
                    let hours = count(season) * ms(self.step_ms) / 3.6e6;
                    write!(f, "{and}{hours} h")?;
                }
                write!(f, ", band from {trials} past trials")?;
            }
        }
        write!(f, "; usually {:.4} to {:.4}, last {:.4}", self.usual_low, self.usual_high, self.last)?;
        if self.season_strength >= 0.05 {
            write!(f, "; {:.0} % of the changes follow the season", 100.0 * self.season_strength)?;
        }
        Ok(())
    }
}
