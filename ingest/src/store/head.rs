//! The newest numbers in memory, as rows of the hot log hold them: whoever reads one series need not unpack the results
//! of all the others.
//!
//! It holds all rows from one batch on, or says from which; what is older is read from the rows. A row leaves when it
//! is sealed, in the same moment in which readers see the segment that replaces it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use fjall::UserKey;
use protocol::{CheckResult, Status};

use super::{
    Sample, SeriesId,
    catalog::{Catalog, Entry},
    engine::{key, number},
};

/// Most bytes of numbers, about: with more, the oldest batches go.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What a number takes, about, with the room that a list keeps for more.
const NUMBER_BYTES: usize = 2 * size_of::<Held>();
/// What a series takes besides, about.
const SERIES_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Head {
    series: HashMap<SeriesId, Vec<Held>>,
    /// By their place in the order of coming: the key of each row, and how many numbers it has here.
    rows: BTreeMap<u32, (RowKey, usize)>,
    next_row: u32,
    /// First batch that is here whole.
    from_batch: u64,
    /// The batch after the last that came.
    next_batch: u64,
    /// How many rows lie in the hot log and not here.
    outside: usize,
    /// Rows that were sealed before they came here: between the durable write and this a thread may have to wait.
    early: HashSet<RowKey>,
    numbers: usize,
}

type RowKey = [u8; 16];

#[derive(Debug, Clone, Copy)]
struct Held {
    at_ms: u64,
    value: f64,
    row: u32,
    status: Status,
}

/// Where the latest result of a check lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) at_ms: u64,
    pub(super) status: Status,
    pub(super) row: RowKey,
}

impl Head {
    /// A row of the hot log could not be read, and is not here.
    pub(super) fn miss(&mut self) {
        self.outside = self.outside.saturating_add(1);
    }

    /// What comes next is of this batch.
    pub(super) fn next(&mut self, batch: u64) {
        self.next_batch = batch;
    }

    /// First batch that is here whole; `None` when every row is here.
    pub(super) fn whole_from(&self) -> Option<u64> {
        (self.outside > 0).then_some(self.from_batch)
    }

    /// One row of a batch that is durable. `catalog` has its series.
    pub(super) fn add<'a>(
        &mut self,
        (hour, batch): (u64, u64),
        results: impl Iterator<Item = &'a CheckResult>,
        catalog: &Catalog,
    ) {
        self.next_batch = self.next_batch.max(batch.saturating_add(1));
        if self.early.remove(&key(hour, batch)) {
            return;
        }
        let (row, before) = (self.next_row, self.numbers);
        self.next_row = self.next_row.wrapping_add(1);
        for result in results {
            let Some(entry) = catalog.entry(&result.agent, &result.check) else { continue };
            let (at_ms, status) = (result.at_ms, result.status);
            let value = result.value.as_ref().and_then(protocol::Scalar::as_f64).unwrap_or(f64::NAN);
            self.push(SeriesId { results: entry.number, metric: 0 }, Held { at_ms, value, row, status });
            for (place, metric) in result.metrics.iter().enumerate() {
                let Some(metric_number) = metric_number(entry, &metric.name, place) else { continue };
                let id = SeriesId { results: entry.number, metric: metric_number };
                self.push(id, Held { at_ms, value: metric.value, row, status });
            }
        }
        self.rows.insert(row, (key(hour, batch), self.numbers.saturating_sub(before)));
        if self.bytes() > MAX_BYTES {
            self.shrink();
        }
    }

    fn bytes(&self) -> usize {
        let series = self.series.len().saturating_mul(SERIES_BYTES);
        self.numbers.saturating_mul(NUMBER_BYTES).saturating_add(series)
    }

    fn push(&mut self, id: SeriesId, held: Held) {
        self.series.entry(id).or_default().push(held);
        self.numbers = self.numbers.saturating_add(1);
    }

    /// Let the oldest half go, in whole batches.
    fn shrink(&mut self) {
        let (mut gone, mut left) = (HashSet::new(), self.numbers / 2);
        let mut batches = VecDeque::from_iter(&self.rows);
        while let Some((row, (key, numbers))) = batches.pop_front() {
            let batch = number(key, 8).unwrap_or_default();
            if left == 0 && batch >= self.from_batch {
                break;
            }
            left = left.saturating_sub(*numbers);
            self.from_batch = self.from_batch.max(batch.saturating_add(1));
            gone.insert(*row);
        }
        self.outside = self.outside.saturating_add(gone.len());
        self.remove_rows(&gone);
    }

    /// These rows are sealed.
    pub(super) fn remove(&mut self, keys: &[UserKey]) {
        let mut left: HashSet<RowKey> =
            keys.iter().filter_map(|key| RowKey::try_from(key.as_ref()).ok()).collect();
        let gone: HashSet<u32> =
            self.rows.iter().filter(|(_, (key, _))| left.remove(key)).map(|(row, _)| *row).collect();
        self.remove_rows(&gone);
        for key in left {
            if number(&key, 8).is_some_and(|batch| batch >= self.next_batch) {
                self.early.insert(key);
            } else {
                self.outside = self.outside.saturating_sub(1);
            }
        }
    }

    fn remove_rows(&mut self, gone: &HashSet<u32>) {
        if gone.is_empty() {
            return;
        }
        self.rows.retain(|row, _| !gone.contains(row));
        self.series.retain(|_, held| {
            held.retain(|held| !gone.contains(&held.row));
            // Room for what comes, not for what was.
            held.shrink_to(held.len().saturating_mul(2));
            !held.is_empty()
        });
        self.numbers = self.series.values().map(Vec::len).sum();
    }

    /// The samples of a series from `from_ms` to `last_ms`, in the order in which they came.
    pub(super) fn samples(&self, id: SeriesId, (from_ms, last_ms): (u64, u64), samples: &mut Vec<Sample>) {
        let Some(held) = self.series.get(&id) else { return };
        let wanted = held.iter().filter(|held| (from_ms..=last_ms).contains(&held.at_ms));
        let sample = |held: &Held| Sample { at_ms: held.at_ms, value: held.value, status: held.status };
        samples.extend(wanted.map(sample));
    }

    /// The latest result of a check that is here; of one moment the one that came last.
    pub(super) fn newest(&self, results: u32) -> Option<Newest> {
        let held = self.series.get(&SeriesId { results, metric: 0 })?;
        let newest = held.iter().max_by_key(|held| held.at_ms)?;
        let (row, _) = self.rows.get(&newest.row)?;
        Some(Newest { at_ms: newest.at_ms, status: newest.status, row: *row })
    }
}

/// Number of a metric. Checks send the same metrics in the same order nearly always.
fn metric_number(entry: &Entry, name: &str, place: usize) -> Option<u32> {
    let likely = place.saturating_add(1);
    let at = match entry.metrics.get(likely) {
        Some((known, _)) if known == name => likely,
        _ => entry.metrics.iter().skip(1).position(|(known, _)| known == name)?.saturating_add(1),
    };
    u32::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::catalog::Additions;

    fn result(agent: u8, at_ms: u64, value: f64) -> CheckResult {
        let json = format!(
            r#"{{"v":1,"agent":"a{agent}","check":"c","at_ms":{at_ms},"status":"ok","value":{value},
                "metrics":[{{"name":"x","value":{value}}}]}}"#
        );
        protocol::decode(json.as_bytes(), 10_000).unwrap()
    }

    fn known(catalog: &mut Catalog, results: &[CheckResult]) {
        let mut additions = Additions::new(catalog);
        results.iter().for_each(|result| additions.see(result));
        let changed = additions.into_changed();
        changed.into_iter().for_each(|((agent, check), entry)| catalog.insert(agent, check, entry));
    }

    proptest! {
        #[test]
        fn what_came_is_there_until_its_row_goes(
            rows in prop::collection::vec((0u64..3, prop::collection::vec((0u8..3, 0u64..5), 1..6)), 1..20),
            gone in prop::collection::vec(any::<bool>(), 20),
        ) {
            let (mut head, mut catalog) = (Head::default(), Catalog::default());
            head.next(7);
            let mut all = Vec::new();
            for (batch, (hour, results)) in rows.iter().enumerate() {
                let batch = 7 + batch as u64;
                let made: Vec<CheckResult> = results
                    .iter()
                    .map(|(agent, at)| result(*agent, hour * super::super::engine::HOUR_MS + at, batch as f64))
                    .collect();
                known(&mut catalog, &made);
                head.add((*hour, batch), made.iter(), &catalog);
                all.push((key(*hour, batch), made));
            }
            let keys: Vec<UserKey> =
                all.iter().zip(&gone).filter(|(_, gone)| **gone).map(|((key, _), _)| UserKey::from(key)).collect();
            head.remove(&keys);
            all.retain(|(key, _)| !keys.contains(&UserKey::from(key)));
            prop_assert_eq!(head.whole_from(), None);
            for agent in 0..3u8 {
                let name = result(agent, 0, 0.0);
                let Some(entry) = catalog.entry(&name.agent, &name.check) else { continue };
                let expected: Vec<(u64, f64)> = all
                    .iter()
                    .flat_map(|(_, results)| results)
                    .filter(|result| result.agent == name.agent)
                    .map(|result| (result.at_ms, result.metrics[0].value))
                    .collect();
                for metric in [0, 1] {
                    let mut found = Vec::new();
                    head.samples(SeriesId { results: entry.number, metric }, (0, u64::MAX), &mut found);
                    let found: Vec<_> = found.iter().map(|sample| (sample.at_ms, sample.value)).collect();
                    prop_assert_eq!(&found, &expected);
                }
                let newest = head.newest(entry.number).map(|newest| newest.at_ms);
                prop_assert_eq!(newest, expected.iter().map(|(at_ms, _)| *at_ms).max());
            }
        }
    }

    #[test]
    fn a_row_that_was_sealed_before_it_came_is_not_there_twice() {
        let (mut head, mut catalog) = (Head::default(), Catalog::default());
        let one = [result(0, 1, 1.0)];
        known(&mut catalog, &one);
        head.add((0, 0), one.iter(), &catalog);
        head.remove(&[UserKey::from(key(0, 0)), UserKey::from(key(0, 1))]);
        head.add((0, 1), one.iter(), &catalog);
        head.add((0, 2), one.iter(), &catalog);
        let mut found = Vec::new();
        head.samples(SeriesId { results: 0, metric: 0 }, (0, 9), &mut found);
        assert_eq!((found.len(), head.whole_from()), (1, None));
    }

    #[test]
    fn g10_the_oldest_batches_go_when_there_is_too_much() {
        let (mut head, mut catalog) = (Head::default(), Catalog::default());
        let results: Vec<CheckResult> = (0..10_000).map(|n| result(0, n, 1.0)).collect();
        known(&mut catalog, &results[..1]);
        let batches = MAX_BYTES / NUMBER_BYTES / 20_000 * 2;
        for batch in 0..batches as u64 {
            head.add((0, batch), results.iter(), &catalog);
            assert!(head.bytes() <= MAX_BYTES);
        }
        let from = head.whole_from().unwrap();
        assert!(from > 0 && from < batches as u64);
        let mut found = Vec::new();
        head.samples(SeriesId { results: 0, metric: 0 }, (5, 5), &mut found);
        assert_eq!(found.len() as u64, batches as u64 - from, "each batch from there on is here whole");
    }
}
