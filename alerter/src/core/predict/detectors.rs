//! One detector for each number that a rule asks `anomaly()` of. A detector learns each value once and in order: a
//! result that is older than what it learned does not reach it.
//!
//! What it learned is saved now and then, with the place of the last result; the results after it are read again from
//! stream RESULTS at a start, which gives the same detector to the bit.

use std::sync::Arc;

use predict::anomaly::{Detector, Score};
use protocol::{AgentId, CheckName, CheckResult, Scalar};
use serde::{Deserialize, Serialize};

use super::per_series::PerSeries;
use crate::core::{alert::Position, evaluate::Incoming};

/// Detectors where nobody says otherwise: about 85 MB.
pub const MOST_DETECTORS: usize = 20_000;
/// When there are too many, this share of them goes at once, so that each new one need not look for the oldest.
const GO_AT_ONCE: usize = 16;

/// Which detector. An empty metric is the result's own value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DetectorKey {
    pub agent: AgentId,
    pub check: CheckName,
    pub metric: Arc<str>,
}

/// What a detector knows, and of which result it said what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// The last result that it learned from.
    pub last: Position,
    /// What it said of that.
    pub score: Score,
    pub detector: Detector,
}

#[derive(Debug)]
struct Watched {
    metric: Arc<str>,
    learned: Box<Learned>,
    /// When it was last used, in order of use.
    used: u64,
    unsaved: Option<Unsaved>,
}

/// The first result of which nothing is saved.
#[derive(Debug, Clone, Copy)]
struct Unsaved {
    published_ms: u64,
    steady_ms: u64,
}

/// All detectors.
#[derive(Debug)]
pub struct Detectors {
    watched: PerSeries<Watched>,
    most: usize,
    uses: u64,
    /// When the newest result that was learned was published.
    newest_ms: u64,
    /// Those whose saved state is to be forgotten.
    gone: Vec<DetectorKey>,
    /// Since this was last asked: values that came late, detectors that went since there were too many.
    late: u64,
    evicted: u64,
}

impl Default for Detectors {
    fn default() -> Self {
        Self::new(MOST_DETECTORS, Vec::new())
    }
}

impl Detectors {
    /// At most `most`, with what was saved of them.
    #[must_use]
    pub fn new(most: usize, saved: Vec<(DetectorKey, Learned)>) -> Self {
        let watched = PerSeries::default();
        let mut all =
            Self { watched, most: most.max(1), uses: 0, newest_ms: 0, gone: Vec::new(), late: 0, evicted: 0 };
        for (key, learned) in saved {
            all.make_room();
            let one = Watched { metric: key.metric, learned: Box::new(learned), used: 0, unsaved: None };
            all.watched.add(&key.agent, &key.check, one);
        }
        all
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.watched.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[must_use]
    pub fn get(&self, agent: &AgentId, check: &CheckName, metric: &str) -> Option<&Learned> {
        self.watched.of(agent, check).find(|one| &*one.metric == metric).map(|one| &*one.learned)
    }

    /// The number of a result, if it has one and is after all that was learned.
    pub(super) fn learn(&mut self, metric: &Arc<str>, incoming: &Incoming, steady_ms: u64) {
        let Incoming { result, published_ms, .. } = incoming;
        let Some(value) = number(result, metric) else { return };
        let position = incoming.position();
        self.uses += 1;
        self.newest_ms = self.newest_ms.max(*published_ms);
        let unsaved = Some(Unsaved { published_ms: *published_ms, steady_ms });
        let mut found = self.watched.of_mut(&result.agent, &result.check);
        if let Some(one) = found.find(|one| one.metric == *metric) {
            if !position.is_after(&one.learned.last) {
                self.late += u64::from(position != one.learned.last);
                return;
            }
            one.learned.score = one.learned.detector.observe(position.at_ms, value);
            one.learned.last = position;
            one.used = self.uses;
            one.unsaved = one.unsaved.or(unsaved);
            return;
        }
        drop(found);
        self.make_room();
        let mut detector = Detector::new();
        let score = detector.observe(position.at_ms, value);
        let learned = Box::new(Learned { last: position, score, detector });
        let one = Watched { metric: Arc::clone(metric), learned, used: self.uses, unsaved };
        self.watched.add(&result.agent, &result.check, one);
    }

    /// A result came that is older than what was learned, or again.
    pub fn came_late(&mut self, metrics: usize) {
        self.late += metrics as u64;
    }

    /// Those not used for longest go.
    fn make_room(&mut self) {
        if self.watched.len() < self.most {
            return;
        }
        let mut used: Vec<u64> = self.watched.all().map(|(.., one)| one.used).collect();
        let go = (self.most / GO_AT_ONCE).max(1).min(used.len());
        let (_, last, _) = used.select_nth_unstable(go - 1);
        let last = *last;
        let mut left = go;
        let Self { watched, gone, .. } = self;
        watched.retain(|agent, check, one| {
            let goes = left > 0 && one.used <= last;
            if goes {
                left -= 1;
                gone.push(key(agent, check, one));
            }
            !goes
        });
        self.evicted += go as u64;
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&AgentId, &CheckName, &Arc<str>) -> bool) {
        let Self { watched, gone, .. } = self;
        watched.retain(|agent, check, one| {
            let keeps = keep(agent, check, &one.metric);
            if !keeps {
                gone.push(key(agent, check, one));
            }
            keeps
        });
    }

    /// At most `limit` of those with something unsaved since `before_ms` by the steady clock, longest first.
    #[must_use]
    pub fn unsaved(&self, before_ms: u64, limit: usize) -> Vec<(DetectorKey, &Learned)> {
        let mut due: Vec<_> = self
            .watched
            .all()
            .filter_map(|(agent, check, one)| Some((one.unsaved?.steady_ms, agent, check, one)))
            .filter(|(since_ms, ..)| *since_ms <= before_ms)
            .collect();
        due.sort_by_key(|(since_ms, ..)| *since_ms);
        due.truncate(limit);
        due.into_iter().map(|(_, agent, check, one)| (key(agent, check, one), &*one.learned)).collect()
    }

    #[must_use]
    pub fn gone(&self) -> &[DetectorKey] {
        &self.gone
    }

    /// All that results published before this moment taught is saved. `None`: nothing was learned yet.
    #[must_use]
    pub fn unsaved_since_ms(&self) -> Option<u64> {
        let unsaved = self.watched.all().filter_map(|(.., one)| Some(one.unsaved?.published_ms));
        unsaved.min().or((self.newest_ms > 0).then_some(self.newest_ms))
    }

    /// These are saved as they stand, and what was gone is forgotten.
    pub fn saved(&mut self, keys: &[DetectorKey]) {
        self.gone.clear();
        for key in keys {
            let mut found = self.watched.of_mut(&key.agent, &key.check);
            if let Some(one) = found.find(|one| one.metric == key.metric) {
                one.unsaved = None;
            }
        }
    }

    /// Values that came late and detectors that went, since this was last asked.
    pub fn counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.late), std::mem::take(&mut self.evicted))
    }
}

fn key(agent: &AgentId, check: &CheckName, one: &Watched) -> DetectorKey {
    DetectorKey { agent: agent.clone(), check: check.clone(), metric: Arc::clone(&one.metric) }
}

fn number(result: &CheckResult, metric: &str) -> Option<f64> {
    if metric.is_empty() {
        return result.value.as_ref().and_then(Scalar::as_f64);
    }
    result.metrics.iter().find(|one| one.name == metric).map(|one| one.value)
}
