//! Streaming anomalies: one point in, one score out, in constant time and space, from past points alone.
//!
//! Evidence is how far a value is from everything like it that was seen before: the value itself, the same without what
//! came just now, its order of magnitude, its short runs, and at this hour of the day. Strong evidence comes once: what
//! follows it is its echo.

mod constants;
mod seen;

use std::fmt;

use constants::{
    DAY_PARTS, DELAY, ECHO, ECHO_POINTS, ECHO_SHARE, GENERATION, NEW_AT_THIS_HOUR, NEW_BEYOND_DRIFT, NEW_RUN, NEW_SIZE,
    NEW_VALUE, POWER, RUN, USUAL_EVIDENCE, USUAL_HIGH, USUAL_LOW, USUAL_OVER, YOUNG_MS, YOUNG_POINTS,
};
use seen::{Seen, SeenByHour};
use serde::{Deserialize, Serialize};

use crate::{
    numeric::whole,
    series::{ms, usable},
};

const DAY_MS: u64 = 86_400_000;

/// What a point says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// 0 nothing, towards 1 the start of something never seen. What follows a start scores low again.
    pub score: f64,
    /// The same scale without regard to what came just before: stays high while the state lasts.
    pub evidence: f64,
    pub explanation: Explanation,
}

/// What in a point is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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

/// The detector of one series. Its state is what serde saves: a restored one scores on to the bit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    points: u64,
    first_ms: u64,
    latest_ms: u64,
    /// The last values, the newest last.
    recent: Recent,
    values: Seen,
    before_drift: Seen,
    sizes: Seen,
    highs: Seen,
    lows: Seen,
    hours: SeenByHour,
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
        if self.points > 0 && self.points % GENERATION == 0 {
            for seen in [&mut self.values, &mut self.before_drift, &mut self.sizes, &mut self.highs, &mut self.lows] {
                seen.next_generation();
            }
        }
        let old = self.recent.push(value);
        let (low, high) = self.recent.run();
        let size = if value == 0.0 { 0.0 } else { value.signum() * (value.abs() + 1e-3).ln() };
        let part = whole(ms(at_ms % DAY_MS / (DAY_MS / DAY_PARTS as u64)), 0, DAY_PARTS - 1);

        let plain = self.values.novelty(value);
        let hour = self.hours.novelty(part, value);
        let runs = if self.recent.full_run() { (self.lows.novelty(low), self.highs.novelty(high)) } else { (0.0, 0.0) };
        let sum = NEW_VALUE * weight(plain)
            + NEW_BEYOND_DRIFT * weight(self.before_drift.novelty(value))
            + NEW_SIZE * weight(self.sizes.novelty(size))
            + NEW_RUN * (weight(runs.0) + weight(runs.1))
            + NEW_AT_THIS_HOUR * weight(hour);
        let reason = self.reason(value, plain, hour, sum);
        let explanation = Explanation { value, ..self.explain(reason, value, plain) };

        self.values.add(value);
        if let Some(old) = old {
            self.before_drift.add(old);
        }
        self.sizes.add(size);
        if self.recent.full_run() {
            self.lows.add(low);
            self.highs.add(high);
        }
        self.hours.add(part, value);
        self.range.add(value);
        self.times.add(&self.range, value, at_ms);
        let (score, evidence) = self.settle(sum);
        Score { score, evidence, explanation }
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
        self.points += 1;
        // Onto 0 to 1, in the same order.
        (left / (1.0 + left), strength / (1.0 + strength))
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

fn weight(novelty: f64) -> f64 {
    if novelty > 0.0 { novelty.min(1.0).powf(POWER) } else { 0.0 }
}

/// The last values, as a ring.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Recent {
    ring: [f64; DELAY],
    pushed: u64,
}

impl Recent {
    /// Takes in a value; gives back the one that is old by now.
    fn push(&mut self, value: f64) -> Option<f64> {
        let place = whole(ms(self.pushed % DELAY as u64), 0, DELAY - 1);
        let full = self.pushed >= DELAY as u64;
        self.pushed += 1;
        self.ring.get_mut(place).map(|slot| std::mem::replace(slot, value)).filter(|_| full)
    }

    fn full_run(&self) -> bool {
        self.pushed >= RUN as u64
    }

    /// What all of the last few values reached: the lowest and the highest of them.
    fn run(&self) -> (f64, f64) {
        let last = (1..=RUN as u64).filter_map(|ago| {
            let place = self.pushed.checked_sub(ago)? % DELAY as u64;
            self.ring.get(whole(ms(place), 0, DELAY - 1)).copied()
        });
        last.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    }
}

/// Where the values were, for explanations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Range {
    seen: bool,
    lowest: f64,
    highest: f64,
    low: f64,
    high: f64,
}

impl Range {
    fn add(&mut self, value: f64) {
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
        self.low = self.low.clamp(self.lowest, self.highest);
        self.high = self.high.clamp(self.low, self.highest);
    }
}

/// When values of each part of the range were last seen, for explanations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Times {
    base: f64,
    width: f64,
    last_ms: [u64; 32],
}

impl Times {
    fn add(&mut self, range: &Range, value: f64, at_ms: u64) {
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
            let middle = old.base + old.width * (crate::numeric::count(i) + 0.5);
            let place = whole((middle - self.base) / self.width, 0, 31);
            if let Some(slot) = self.last_ms.get_mut(place) {
                *slot = (*slot).max(*time);
            }
        }
    }

    fn like(&self, range: &Range, value: f64) -> Option<u64> {
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
            Reason::AboveAll => write!(f, "{value:.4} is above all {points} values before, by {far:.0} % of their range")?,
            Reason::BelowAll => write!(f, "{value:.4} is below all {points} values before, by {far:.0} % of their range")?,
            Reason::Between => write!(f, "{value:.4} was never seen, the nearest value is {far:.1} % of the range away")?,
            Reason::Hour => write!(f, "{value:.4} is known, but not at this hour of the day")?,
        }
        write!(f, "; usually {usual_low:.4} to {usual_high:.4}")
    }
}
