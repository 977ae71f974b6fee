//! What a reader of numbers sees: series, their samples, and roll-ups of them.
//!
//! A series is one number of one check of one agent over time: the result's own `value` (its metric is the empty
//! name) or one of its named metrics. [`super::ResultStore`] lists series and reads them; where the numbers lie, in
//! the hot log or in sealed blocks, does not show.

use std::time::Instant;

use protocol::{AgentId, CheckName, Status};
use serde::{Deserialize, Serialize};

/// A series of this store, for as long as the store exists. Not known to any other store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId {
    /// Agent and check.
    pub(crate) results: u32,
    /// The metric, in the order in which the check's metrics were first seen; 0 is the result's own value.
    pub(crate) metric: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesMeta {
    pub id: SeriesId,
    pub agent: AgentId,
    pub check: CheckName,
    /// Empty for the result's own value.
    pub metric: String,
    /// The one that came last.
    pub unit: Option<String>,
}

/// Which series: each part that is given must be equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesFilter {
    pub agent: Option<AgentId>,
    pub check: Option<CheckName>,
    pub metric: Option<String>,
}

/// What of a series is asked about, from the whole to its part.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    Agent(&'a AgentId),
    Check(&'a CheckName),
    Metric(&'a str),
}

/// A range of time to read, and what it may cost.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// First moment, in milliseconds since 1970.
    pub from_ms: u64,
    /// The moment after the last.
    pub until_ms: u64,
    /// Most samples or points to return; with more, reading ends with [`super::StoreError::TooMuch`].
    pub limit: usize,
    pub deadline: Instant,
}

/// One number as it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// NaN where the result has no number, but a text or nothing: its status counts all the same.
    pub value: f64,
    pub status: Status,
}

/// Length of the time that one [`Point`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resolution {
    FiveMinutes,
    Hour,
}

impl Resolution {
    pub const ALL: [Self; 2] = [Self::FiveMinutes, Self::Hour];

    #[must_use]
    pub const fn millis(self) -> u64 {
        match self {
            Self::FiveMinutes => 300_000,
            Self::Hour => 3_600_000,
        }
    }

    /// Start of the point that this moment belongs to.
    #[must_use]
    pub const fn start(self, at_ms: u64) -> u64 {
        at_ms - at_ms % self.millis()
    }
}

/// What the samples of one series were during five minutes or an hour that begin at a multiple of their length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Start, in milliseconds since 1970.
    pub at_ms: u64,
    /// Lowest, highest and sum of the numbers; NaN when there are none.
    pub min: f64,
    pub max: f64,
    pub sum: f64,
    /// Last number by time; NaN when there is none.
    pub last: f64,
    /// How many numbers.
    pub count: u64,
    /// How many results, those without a number too, by status: ok, unknown, warning, critical.
    pub statuses: [u64; 4],
}

impl Point {
    #[must_use]
    pub const fn new(at_ms: u64) -> Self {
        let none = f64::NAN;
        Self { at_ms, min: none, max: none, sum: none, last: none, count: 0, statuses: [0; 4] }
    }

    /// Count one more sample, no older than those before.
    pub fn add(&mut self, sample: &Sample) {
        if let Some(count) = self.statuses.get_mut(status_index(sample.status)) {
            *count = count.saturating_add(1);
        }
        if sample.value.is_nan() {
            return;
        }
        // Min and max of f64 pass over NaN.
        (self.min, self.max) = (self.min.min(sample.value), self.max.max(sample.value));
        self.sum = if self.count == 0 { sample.value } else { self.sum + sample.value };
        self.last = sample.value;
        self.count = self.count.saturating_add(1);
    }

    /// Add a point of later samples within the same time.
    pub fn merge(&mut self, later: &Self) {
        for (count, more) in self.statuses.iter_mut().zip(later.statuses) {
            *count = count.saturating_add(more);
        }
        if later.count == 0 {
            return;
        }
        (self.min, self.max) = (self.min.min(later.min), self.max.max(later.max));
        self.sum = if self.count == 0 { later.sum } else { self.sum + later.sum };
        self.last = later.last;
        self.count = self.count.saturating_add(later.count);
    }

    /// Mean of the numbers. `None` when there are none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

fn status_index(status: Status) -> usize {
    match status {
        Status::Ok => 0,
        Status::Unknown => 1,
        Status::Warning => 2,
        Status::Critical => 3,
    }
}

/// The points of samples that are in order of time.
#[cfg(test)]
pub(crate) fn points(samples: &[Sample], resolution: Resolution) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for sample in samples {
        let start = resolution.start(sample.at_ms);
        match points.last_mut() {
            Some(last) if last.at_ms == start => last.add(sample),
            _ => {
                let mut point = Point::new(start);
                point.add(sample);
                points.push(point);
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_tell_what_their_samples_were() {
        let sample = |at_ms, value, status| Sample { at_ms, value, status };
        let samples = [
            sample(300_000, 4.0, Status::Ok),
            sample(300_001, f64::NAN, Status::Critical),
            sample(599_999, -2.0, Status::Warning),
            sample(900_000, f64::NAN, Status::Unknown),
        ];
        let made = points(&samples, Resolution::FiveMinutes);
        assert_eq!(made.len(), 2);
        let first = made[0];
        assert_eq!(
            (first.at_ms, first.min, first.max, first.last, first.count),
            (300_000, -2.0, 4.0, -2.0, 2)
        );
        assert_eq!((first.mean(), first.statuses), (Some(1.0), [1, 0, 1, 1]));
        assert_eq!((made[1].mean(), made[1].count, made[1].statuses), (None, 0, [0, 1, 0, 0]));
        // Halves merged are the whole.
        let mut merged = points(&samples[..1], Resolution::Hour)[0];
        merged.merge(&points(&samples[1..], Resolution::Hour)[0]);
        assert_eq!(merged.statuses, points(&samples, Resolution::Hour)[0].statuses);
        assert_eq!((merged.min, merged.sum, merged.last, merged.count), (-2.0, 2.0, -2.0, 2));
    }
}
