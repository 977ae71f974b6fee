//! From the hot log into segments.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
};

use fjall::{Readable, UserKey};
use protocol::{CheckResult, duration::millis, limits};

use super::{Switch, Writers};
use crate::store::{
    Retention, StoreError,
    engine::{DAY_MS, Fjall, Open, View},
    row::{self, Row, RowError},
    segment::Partition,
};

/// The hot log is sealed when it holds so much, however young.
const HOT_RESULTS: u64 = 500_000;
const HOT_BYTES: u64 = 128 * 1024 * 1024;
/// JSON of the results that are in memory at once, about.
const PASS_BYTES: u64 = 16 * 1024 * 1024;
/// Results measured longer before they were stored, or later, are strays: a clock is wrong, or a spool was long away.
const LATE_DAYS: u64 = 31;
const EARLY_DAYS: u64 = 1;

/// What is sealed in one step, about: JSON of its results, and rows, which all leave the list in one write.
const STEP_BYTES: u64 = 128 * 1024 * 1024;
const STEP_ROWS: u64 = 50_000;

/// What is in a part of the hot log, without the results themselves.
#[derive(Default)]
struct Survey {
    switch: Switch,
    /// First row of the part, and of what comes after it.
    first: UserKey,
    next: Option<UserKey>,
    rows: u64,
    /// Bytes by hash of agent and check.
    bytes: HashMap<u32, u64>,
    results: u64,
    row_bytes: u64,
}

impl Fjall {
    /// Seal the hot log if that is due. Returns how many results were moved.
    pub(in crate::store) fn seal(
        &self,
        open: &Open,
        now_ms: u64,
        retention: &Retention,
    ) -> Result<u64, StoreError> {
        let hot = *open.hot();
        let due = hot.results >= HOT_RESULTS
            || hot.bytes >= HOT_BYTES
            || (hot.results > 0 && now_ms.saturating_sub(hot.oldest_ms) >= millis(retention.hot));
        if due { self.seal_now(open, now_ms) } else { Ok(0) }
    }

    /// Seal what is in the hot log now, step by step: neither a store that was long without sealing nor results that
    /// unpack to much more than they take on disk need more memory or a longer switch than others.
    pub(in crate::store) fn seal_now(&self, open: &Open, now_ms: u64) -> Result<u64, StoreError> {
        let view = open.view();
        let (mut sealed, mut from) = (0u64, Some(UserKey::from([])));
        while let Some(first) = from {
            let survey = self.survey(open, &view, first)?;
            from = survey.next.clone();
            sealed = sealed.saturating_add(self.seal_step(open, &view, survey)?);
        }
        // What came meanwhile is younger than this.
        open.hot().oldest_ms = now_ms;
        drop(view);
        self.free_rows(open);
        Ok(sealed)
    }

    fn seal_step(&self, open: &Open, view: &View, survey: Survey) -> Result<u64, StoreError> {
        let mut writers = Writers::new(self, open);
        let filled = self.fill(view, &survey, &mut writers);
        let Survey { mut switch, results, row_bytes, rows, .. } = survey;
        switch.new = writers.finish(filled)?;
        if rows > 0 {
            self.switch(open, switch)?;
        }
        let mut hot = open.hot();
        hot.results = hot.results.saturating_sub(results);
        hot.bytes = hot.bytes.saturating_sub(row_bytes);
        Ok(results)
    }

    fn fill(&self, view: &View, survey: &Survey, writers: &mut Writers<'_>) -> Result<(), StoreError> {
        for (numbers, hashes) in passes(writers.open, &survey.bytes) {
            for (series, results) in self.pass(view, survey, &numbers, &hashes, writers)? {
                for (partition, results) in results {
                    let mut results = results.into_iter();
                    writers.add_results(partition, series, || Ok(results.next()))?;
                }
            }
        }
        Ok(())
    }

    fn survey(&self, open: &Open, view: &View, first: UserKey) -> Result<Survey, StoreError> {
        let failed = self.failed("read");
        let mut survey = Survey { first: first.clone(), ..Survey::default() };
        let mut inside = 0u64;
        for item in view.snapshot.range(&open.rows, first..) {
            let (key, value) = item.into_inner().map_err(&failed)?;
            if inside >= STEP_BYTES || survey.rows >= STEP_ROWS {
                survey.next = Some(key);
                break;
            }
            // Read to the last result: what is sealed later must not turn out to be damaged.
            let read = Row::open(&value).and_then(|row| {
                let unpacked = row.unpack()?;
                let results = row::results(&unpacked)?;
                for inside in &results {
                    decode(inside.json)?;
                }
                Ok(results.iter().map(|r| (r.series(), r.json.len() as u64)).collect::<Vec<_>>())
            });
            survey.rows = survey.rows.saturating_add(1);
            survey.row_bytes = survey.row_bytes.saturating_add(value.len() as u64);
            match read {
                Ok(sizes) => {
                    survey.results = survey.results.saturating_add(sizes.len() as u64);
                    for (hash, size) in sizes {
                        let bytes = survey.bytes.entry(hash).or_default();
                        *bytes = bytes.saturating_add(size);
                        inside = inside.saturating_add(size);
                    }
                    survey.switch.rows.push(key);
                }
                Err(error) => {
                    self.damaged_row(&key, &error);
                    survey.switch.set_aside.push((key, value));
                }
            }
        }
        Ok(survey)
    }

    /// The results of some series, by number and partition, each in order of time.
    fn pass(
        &self,
        view: &View,
        survey: &Survey,
        numbers: &std::ops::Range<u32>,
        hashes: &HashSet<u32>,
        writers: &mut Writers<'_>,
    ) -> Result<BTreeMap<u32, BTreeMap<Partition, Vec<CheckResult>>>, StoreError> {
        let (open, failed) = (writers.open, self.failed("read"));
        let mut all = BTreeMap::<u32, BTreeMap<Partition, Vec<CheckResult>>>::new();
        let end = survey.next.clone().map_or(Bound::Unbounded, Bound::Excluded);
        for item in view.snapshot.range(&open.rows, (Bound::Included(survey.first.clone()), end)) {
            let (key, value) = item.into_inner().map_err(&failed)?;
            // The database moves a snapshot on while it writes tables: a row may be seen now that was not when the
            // list of rows to take off was made. It is for the next time, or its results would be there twice.
            if survey.switch.rows.binary_search(&key).is_err() {
                continue;
            }
            // Those that cannot be read are set aside already.
            let Ok((stored_ms, unpacked)) =
                Row::open(&value).and_then(|row| Ok((row.header.stored_ms, row.unpack()?)))
            else {
                continue;
            };
            let Ok(results) = row::results(&unpacked) else { continue };
            let mut decoded = Vec::new();
            for inside in results.iter().filter(|inside| hashes.contains(&inside.series())) {
                decoded.extend(decode(inside.json));
            }
            let catalog = open.catalog();
            for result in decoded {
                let number = catalog.entry(&result.agent, &result.check).map(|entry| entry.number);
                let Some(number) = number.filter(|number| numbers.contains(number)) else { continue };
                let partition = partition(result.at_ms, stored_ms);
                writers.stored(partition, stored_ms);
                all.entry(number).or_default().entry(partition).or_default().push(result);
            }
        }
        for results in all.values_mut().flat_map(BTreeMap::values_mut) {
            results.sort_by_key(|result| result.at_ms);
        }
        Ok(all)
    }
}

fn decode(json: &[u8]) -> Result<CheckResult, RowError> {
    protocol::decode(json, limits::RESULT).map_err(|_| RowError::Part("result"))
}

fn partition(at_ms: u64, stored_ms: u64) -> Partition {
    let (day, today) = (at_ms / DAY_MS, stored_ms / DAY_MS);
    if day.saturating_add(LATE_DAYS) < today || day > today.saturating_add(EARLY_DAYS) {
        Partition::Stray(today)
    } else {
        Partition::Day(day)
    }
}

/// The series in ranges of numbers that fit into memory together, with their hashes.
fn passes(open: &Open, bytes: &HashMap<u32, u64>) -> Vec<(std::ops::Range<u32>, HashSet<u32>)> {
    let catalog = open.catalog();
    let mut passes = Vec::new();
    let (mut start, mut size, mut hashes) = (0, 0u64, HashSet::new());
    for number in 0..catalog.next_number() {
        let Some((agent, check)) = catalog.name(number) else { continue };
        let hash = row::series_hash(agent, check);
        let Some(own) = bytes.get(&hash) else { continue };
        if size > 0 && size.saturating_add(*own) > PASS_BYTES {
            passes.push((start..number, std::mem::take(&mut hashes)));
            (start, size) = (number, 0);
        }
        hashes.insert(hash);
        size = size.saturating_add(*own);
    }
    if !hashes.is_empty() {
        passes.push((start..u32::MAX, hashes));
    }
    passes
}
