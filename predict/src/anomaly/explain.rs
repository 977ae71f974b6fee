//! Why a point has its score, and what is remembered only to say so.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::constants::{USUAL_HIGH, USUAL_LOW};
use crate::numeric::{count, whole};

/// What in a point is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing, or too little is known yet.
    Usual,
    AboveAll,
    BelowAll,
    /// Between values seen, but never there.
    Between,
    /// Usual, but not at this hour of the day.
    Hour,
    /// Not a number, or none that can be reckoned with.
    Missing,
}

/// Why a point has its score. Figures in the unit of the series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub reason: Reason,
    pub value: f64,
    /// Nine tenths of the values were about here.
    pub usual_low: f64,
    pub usual_high: f64,
    /// Distance to the nearest value seen before, as a share of the range seen.
    pub distance: f64,
    /// When a value like this one was last seen.
    pub last_similar_ms: Option<u64>,
    /// Points seen before.
    pub points: u64,
}

/// Where the values were, for explanations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Range {
    pub(super) seen: bool,
    pub(super) lowest: f64,
    pub(super) highest: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Range {
    pub(super) fn add(&mut self, value: f64) {
        if !self.seen {
            *self = Self { seen: true, lowest: value, highest: value, low: value, high: value };
            return;
        }
        self.lowest = self.lowest.min(value);
        self.highest = self.highest.max(value);
        // Each bound moves up and down so that it comes to rest where its share of the values is below it.
        let step = 0.01 * (self.highest - self.lowest);
        self.low += step * (USUAL_LOW - if value < self.low { 1.0 } else { 0.0 });
        self.high += step * (USUAL_HIGH - if value <= self.high { 1.0 } else { 0.0 });
        self.low = self.low.max(self.lowest).min(self.highest);
        self.high = self.high.max(self.low).min(self.highest);
    }
}

/// When values of each part of the range were last seen, for explanations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Times {
    base: f64,
    width: f64,
    last_ms: [u64; 32],
}

impl Times {
    pub(super) fn add(&mut self, range: &Range, value: f64, at_ms: u64) {
        let place = (value - self.base) / self.width;
        if self.width <= 0.0 || !(0.0..32.0).contains(&place) {
            self.widen(range);
        }
        let place = whole((value - self.base) / self.width, 0, 31);
        if let Some(time) = self.last_ms.get_mut(place) {
            *time = at_ms;
        }
    }

    /// New parts over half as much again as the range, the old ones joined into them.
    fn widen(&mut self, range: &Range) {
        let old = std::mem::take(self);
        let span = (range.highest - range.lowest).max(f64::MIN_POSITIVE);
        self.base = range.lowest - 0.25 * span;
        self.width = 1.5 * span / 32.0;
        for (i, time) in old.last_ms.iter().enumerate().filter(|(_, time)| **time > 0) {
            let middle = old.base + old.width * (count(i) + 0.5);
            let place = whole((middle - self.base) / self.width, 0, 31);
            if let Some(slot) = self.last_ms.get_mut(place) {
                *slot = (*slot).max(*time);
            }
        }
    }

    pub(super) fn like(&self, range: &Range, value: f64) -> Option<u64> {
        if !range.seen || value < range.lowest || value > range.highest {
            return None;
        }
        let place = whole((value - self.base) / self.width, 0, 31);
        self.last_ms.get(place).copied().filter(|time| *time > 0)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, usual_low, usual_high, points, distance, .. } = self;
        let far = 100.0 * distance;
        match self.reason {
            Reason::Missing => return write!(f, "no number"),
            Reason::Usual => write!(f, "{value:.4} is usual")?,
            Reason::AboveAll => {
                write!(f, "{value:.4} is above all {points} values before, by {far:.0} % of their range")?
            }
            Reason::BelowAll => {
                write!(f, "{value:.4} is below all {points} values before, by {far:.0} % of their range")?
            }
            Reason::Between => {
                write!(f, "{value:.4} was never seen, the nearest value is {far:.1} % of the range away")?
            }
            Reason::Hour => write!(f, "{value:.4} is known, but not at this hour of the day")?,
        }
        write!(f, "; usually {usual_low:.4} to {usual_high:.4}")
    }
}
