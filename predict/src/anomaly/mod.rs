//! Streaming anomalies: one point in, one score out, in constant time and space, from past points alone.
//!
//! Evidence is how far a value is from everything like it that was seen before: the value itself, the same without what
//! came just now, its order of magnitude, the floor and mean of the last points, the difference to yesterday, and the value at this
//! hour of the day. Strong evidence comes once: what
//! follows it is its echo.

mod calibration;
mod constants;
mod explain;
mod recent;
mod seen;

pub use calibration::calibrated;
use constants::{
    DAY_GENERATION, DAY_PARTS, DELAY, ECHO, ECHO_POINTS, ECHO_SHARE, GENERATION, LARGEST, LONG_DELAY,
    LONG_RUN, NEW_AGAINST_YESTERDAY, NEW_AT_THIS_HOUR, NEW_BEYOND_DRIFT, NEW_FLOOR, NEW_LONG_FLOOR, NEW_MEAN,
    NEW_SIZE, NEW_VALUE, POWER, RUN, USUAL_EVIDENCE, USUAL_OVER, YOUNG_MS, YOUNG_POINTS,
};
pub use explain::{Explanation, Reason};
use explain::{Range, Times};
use recent::{Recent, Yesterday};
use seen::{Seen, SeenByHour};
use serde::{Deserialize, Serialize};

use crate::{
    numeric::whole,
    series::{ms, usable},
};

const DAY_MS: u64 = 86_400_000;

/// What a point says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// 0 nothing, towards 1 the start of something never seen. What follows a start scores low again.
    pub score: f64,
    /// The same scale without regard to what came just before: stays high while the state lasts.
    pub evidence: f64,
    pub explanation: Explanation,
}

impl Score {
    /// The score on the scale that rules use: see [`calibrated`].
    #[must_use]
    pub fn calibrated(&self) -> f64 {
        calibrated(self.score)
    }
}

/// The detector of one series, less than 4 KiB. Its state is what serde saves: a restored one scores on to the bit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    points: u64,
    first_ms: u64,
    latest_ms: u64,
    recent: Recent,
    yesterday: Yesterday,
    values: Seen,
    hours: SeenByHour,
    sizes: Seen,
    before_drift: Seen,
    floors: Seen,
    long_floors: Seen,
    means: Seen,
    changes: Seen,
    /// Differences to yesterday so far.
    changed: u64,
    /// Mean of the evidence.
    usual: f64,
    /// Strongest evidence of late, fading.
    peak: f64,
    range: Range,
    times: Times,
}

impl Detector {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Points taken in so far.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.points
    }

    /// Scores one point against all before it, then learns it. Times should rise; one that falls back is taken as it
    /// is. A value that is not finite, or beyond 1e100, is missing: it scores 0 and teaches nothing.
    pub fn observe(&mut self, at_ms: u64, value: f64) -> Score {
        if !usable(value) {
            return Score { score: 0.0, evidence: 0.0, explanation: self.explain(Reason::Missing, 0.0, 0.0) };
        }
        if self.points == 0 {
            self.first_ms = at_ms;
        }
        self.latest_ms = self.latest_ms.max(at_ms);
        let value = value.clamp(-LARGEST, LARGEST);
        let hour = self.hours.novelty(part(at_ms), value);
        let plain = self.values.novelty(value);
        let sum = NEW_AT_THIS_HOUR * weight(hour) + NEW_VALUE * weight(plain) + self.shape(at_ms, value);
        let reason = self.reason(value, plain, hour, sum);
        let explanation = self.explain(reason, value, plain);

        self.values.add(value);
        self.hours.add(part(at_ms), value);
        self.range.add(value);
        self.times.add(&self.range, value, at_ms);
        let (score, evidence) = self.settle(sum);
        if self.points.is_multiple_of(GENERATION) {
            let all = [&mut self.values, &mut self.sizes, &mut self.before_drift];
            let runs = [&mut self.floors, &mut self.long_floors, &mut self.means];
            all.into_iter().chain(runs).for_each(Seen::next_generation);
        }
        Score { score, evidence, explanation }
    }

    /// Evidence from more than the value alone; learns it as well.
    fn shape(&mut self, at_ms: u64, value: f64) -> f64 {
        let mut sum = NEW_SIZE * weight(self.sizes.novelty(size(value)))
            + NEW_BEYOND_DRIFT * weight(self.before_drift.novelty(value));
        self.recent.push(value);
        if let Some(old) = self.recent.ago(DELAY) {
            self.sizes.add(size(old));
        }
        if let Some(old) = self.recent.ago(LONG_DELAY) {
            self.before_drift.add(old);
        }
        if let Some((floor, _)) = self.recent.run(RUN) {
            sum += NEW_FLOOR * weight(self.floors.meet(floor));
        }
        if let Some((floor, mean)) = self.recent.run(LONG_RUN) {
            sum += NEW_LONG_FLOOR * weight(self.long_floors.meet(floor))
                + NEW_MEAN * weight(self.means.meet(mean));
        }
        if let Some(before) = self.yesterday.swap(at_ms, value) {
            sum += NEW_AGAINST_YESTERDAY * weight(self.changes.meet(value - before));
            self.changed = self.changed.saturating_add(1);
            if self.changed.is_multiple_of(DAY_GENERATION) {
                self.changes.next_generation();
            }
        }
        sum
    }

    /// From the sum of the evidence to a score: less for series that are always new, for young ones, and for echoes.
    fn settle(&mut self, sum: f64) -> (f64, f64) {
        let n = ms(self.points);
        let mut strength = sum / (1.0 + USUAL_EVIDENCE * self.usual);
        self.usual += (1.0 / (n + 1.0)).max(1.0 / USUAL_OVER) * (sum - self.usual);
        let age = ms(self.latest_ms.saturating_sub(self.first_ms));
        strength *= n / (n + YOUNG_POINTS) * (age / (age + YOUNG_MS));
        let left = (strength - ECHO * self.peak).max(0.0);
        self.peak -= self.peak / (ECHO_POINTS + ECHO_SHARE * n.min(ms(GENERATION)));
        self.peak = self.peak.max(strength);
        self.points = self.points.saturating_add(1);
        // Onto 0 to 1, in the same order.
        let score = |x: f64| if x.is_finite() { (x / (1.0 + x)).clamp(0.0, 1.0) } else { 0.0 };
        (score(left), score(strength))
    }

    fn reason(&self, value: f64, plain: f64, hour: f64, sum: f64) -> Reason {
        let (lowest, highest) = (self.range.lowest, self.range.highest);
        if sum <= 0.0 || self.points == 0 {
            Reason::Usual
        } else if value > highest {
            Reason::AboveAll
        } else if value < lowest {
            Reason::BelowAll
        } else if plain > 0.0 && plain >= 0.5 * hour {
            Reason::Between
        } else if hour > 0.05 {
            Reason::Hour
        } else {
            Reason::Usual
        }
    }

    fn explain(&self, reason: Reason, value: f64, distance: f64) -> Explanation {
        Explanation {
            reason,
            value,
            usual_low: self.range.low,
            usual_high: self.range.high,
            distance,
            last_similar_ms: self.times.like(&self.range, value),
            points: self.points,
        }
    }
}

/// The half hour of the day.
fn part(at_ms: u64) -> usize {
    whole(ms(at_ms % DAY_MS / (DAY_MS / DAY_PARTS as u64)), 0, DAY_PARTS - 1)
}

/// Order of magnitude, with its sign.
fn size(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() * (value.abs() + 1e-3).ln() }
}

fn weight(novelty: f64) -> f64 {
    if novelty > 0.0 { novelty.min(1.0).powf(POWER) } else { 0.0 }
}
