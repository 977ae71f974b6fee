//! From counters that only grow to what happened since the reading before.

use std::{collections::BTreeMap, sync::Arc};

/// Rates over less than this say little. Checks that share a built-in may read it shortly after one another.
const SHORTEST_MS: u64 = 500;

/// Counters at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sample {
    at_ms: u64,
    counts: BTreeMap<String, u64>,
}

/// The last two samples of one built-in: when the newest is too young to compare with, the other is not.
#[derive(Debug, Clone, Default)]
pub struct History {
    older: Option<Arc<Sample>>,
    newest: Option<Arc<Sample>>,
}

impl History {
    /// What to compare with at `now_ms`, a clock that never goes back.
    #[must_use]
    pub fn before(&self, now_ms: u64) -> Option<Arc<Sample>> {
        let old_enough = |sample: &&Arc<Sample>| now_ms.saturating_sub(sample.at_ms) >= SHORTEST_MS;
        self.newest.as_ref().filter(old_enough).or(self.older.as_ref().filter(old_enough)).cloned()
    }

    pub fn keep(&mut self, sample: Sample) {
        let newest_at = self.newest.as_ref().map(|newest| newest.at_ms);
        if newest_at.is_none_or(|at| sample.at_ms.saturating_sub(at) >= SHORTEST_MS) {
            self.older = self.newest.replace(Arc::new(sample));
        }
    }
}

/// The counters of one reading, beside those before.
#[derive(Debug)]
pub struct Rates<'a> {
    before: Option<&'a Sample>,
    now: Sample,
}

impl<'a> Rates<'a> {
    #[must_use]
    pub fn new(now_ms: u64, before: Option<&'a Sample>) -> Self {
        Self { before, now: Sample { at_ms: now_ms, ..Sample::default() } }
    }

    /// How much `count` has grown. `None` the first time, and when it began anew (a device that was replaced).
    pub fn increase(&mut self, name: impl Into<String>, count: u64) -> Option<u64> {
        let name = name.into();
        let before = self.before.and_then(|sample| sample.counts.get(&name)).copied();
        self.now.counts.insert(name, count);
        count.checked_sub(before?)
    }

    pub fn per_second(&mut self, name: impl Into<String>, count: u64) -> Option<f64> {
        let increase = self.increase(name, count)?;
        Some(super::float(increase) / self.seconds()?)
    }

    /// Time since the sample before.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        let elapsed = self.now.at_ms.checked_sub(self.before?.at_ms)?;
        (elapsed > 0).then(|| super::float(elapsed) / 1000.0)
    }

    /// Something was counted, and there was nothing to compare it with: read again a moment later.
    #[must_use]
    pub fn lack_a_sample(&self) -> bool {
        self.before.is_none() && !self.now.counts.is_empty()
    }

    /// What to keep for the next reading; `None` when nothing was counted.
    #[must_use]
    pub fn into_sample(self) -> Option<Sample> {
        (!self.now.counts.is_empty()).then_some(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, count: u64) -> Sample {
        let mut rates = Rates::new(at_ms, None);
        assert_eq!(rates.increase("n", count), None);
        assert!(rates.lack_a_sample());
        rates.into_sample().unwrap()
    }

    #[test]
    fn rates_are_those_since_a_sample_that_is_old_enough() {
        let mut history = History::default();
        assert!(history.before(0).is_none());
        history.keep(sample(1_000, 10));
        assert!(history.before(1_499).is_none());
        history.keep(sample(3_000, 20));
        // Another check reads the same built-in 100 ms later.
        for (now, count, rate) in [(3_100, 31, 10.0), (5_000, 30, 5.0), (5_000, 19, -1.0)] {
            let before = history.before(now);
            let mut rates = Rates::new(now, before.as_deref());
            assert_eq!(rates.per_second("n", count), (rate >= 0.0).then_some(rate), "{now}");
            assert_eq!(rates.per_second("new", 5), None);
            assert!(!rates.lack_a_sample());
            if now == 3_100 {
                history.keep(rates.into_sample().unwrap());
            }
        }
        assert!(Rates::new(1, None).into_sample().is_none());
    }
}
