//! The latest result of each check, and from when on the store has what.

use std::{
    collections::{BTreeMap, HashMap},
    sync::PoisonError,
    time::Instant,
};

use fjall::Readable;
use protocol::{AgentId, CheckName, CheckResult, query::ResultPage};

use super::{
    Horizon, LatestScan, Resolution, StoreError,
    block::Block,
    engine::{Fjall, Open, View, number},
    row::{self, Row},
    segment::{Partition, Segment},
};

/// Checks that are looked up together: their rows are unpacked once.
const TOGETHER: usize = 250;

type Named = (AgentId, CheckName, u32);

impl Fjall {
    pub(super) fn read_latest(&self, open: &Open, scan: &LatestScan) -> Result<ResultPage, StoreError> {
        let now = Instant::now();
        let soft = now + scan.deadline.saturating_duration_since(now) / 2;
        let all = open.catalog().checks(scan.agent.as_ref(), scan.check.as_ref());
        let begin = scan
            .after
            .as_ref()
            .map_or(0, |(agent, check)| all.partition_point(|(a, c, _)| (a, c) <= (agent, check)));
        let mut page = ResultPage::default();
        let (mut bytes, mut last) = (0usize, None);
        for chunk in all.get(begin..).unwrap_or_default().chunks(TOGETHER) {
            let mut found = self.latest_of(open, chunk, scan.deadline)?;
            for (agent, check, number) in chunk {
                let result = found.remove(number).filter(|result| {
                    result.at_ms >= scan.since_ms
                        && (scan.statuses.is_empty() || scan.statuses.contains(&result.status))
                });
                if let Some(result) = result {
                    let size = protocol::encode(&result).map_or(0, |json| json.len());
                    // One result always fits, or a page could be empty for ever.
                    let full = page.results.len() >= scan.limit
                        || (bytes.saturating_add(size) > scan.max_bytes && !page.results.is_empty());
                    if full {
                        page.next = last.map(cursor);
                        return Ok(page);
                    }
                    bytes = bytes.saturating_add(size);
                    page.results.push(result);
                }
                last = Some((agent, check));
            }
            // Time runs short: the rest is for the next page.
            if Instant::now() >= soft && chunk.last() != all.last() {
                page.next = last.map(cursor);
                return Ok(page);
            }
        }
        Ok(page)
    }

    fn latest_of(
        &self,
        open: &Open,
        checks: &[Named],
        deadline: Instant,
    ) -> Result<HashMap<u32, CheckResult>, StoreError> {
        let mut rows: BTreeMap<[u8; 16], HashMap<u32, u64>> = BTreeMap::new();
        let mut at: HashMap<u32, u64> = HashMap::new();
        let (view, from_batch) = open.view_with(|head| {
            for (_, _, number) in checks {
                if let Some(newest) = head.newest(*number) {
                    rows.entry(newest.row).or_default().insert(*number, newest.at_ms);
                    at.insert(*number, newest.at_ms);
                }
            }
            head.whole_from()
        });
        let mut best = HashMap::new();
        for (agent, check, number) in checks {
            in_time(deadline)?;
            let known = at.get(number).copied();
            if let Some(result) = self.latest_sealed(&view, (agent, check, *number), known)? {
                best.insert(*number, result);
            }
        }
        let failed = self.failed("read");
        for (key, wanted) in rows {
            in_time(deadline)?;
            let value = view.snapshot.get(&open.rows, key).map_err(&failed)?;
            let numbers: Vec<&Named> =
                checks.iter().filter(|(_, _, number)| wanted.contains_key(number)).collect();
            if let Some(value) = value {
                self.latest_in_row(&key, &value, &numbers, &mut best);
            }
        }
        if let Some(from) = from_batch {
            let all: Vec<&Named> = checks.iter().collect();
            for item in view.snapshot.iter(&open.rows) {
                in_time(deadline)?;
                let (key, value) = item.into_inner().map_err(&failed)?;
                if number(&key, 8).is_some_and(|batch| batch < from) {
                    self.latest_in_row(&key, &value, &all, &mut best);
                }
            }
        }
        Ok(best)
    }

    fn latest_in_row(
        &self,
        key: &[u8],
        value: &[u8],
        checks: &[&Named],
        best: &mut HashMap<u32, CheckResult>,
    ) {
        let hashes: HashMap<u32, &Named> =
            checks.iter().map(|named| (row::series_hash(&named.0, &named.1), *named)).collect();
        let read = Row::open(value).and_then(|row| {
            for inside in row::results(&row.unpack()?)? {
                let Some((agent, check, number)) = hashes.get(&inside.series()) else { continue };
                if best.get(number).is_some_and(|best| best.at_ms > inside.at_ms) {
                    continue;
                }
                let result = inside.decode()?;
                if result.agent == *agent && result.check == *check {
                    best.insert(*number, result);
                }
            }
            Ok(())
        });
        if let Err(error) = read {
            self.damaged_row(key, &error);
        }
    }

    /// The latest result in blocks, unless one as late is `known`.
    fn latest_sealed(
        &self,
        view: &View,
        (agent, check, number): (&AgentId, &CheckName, u32),
        known: Option<u64>,
    ) -> Result<Option<CheckResult>, StoreError> {
        let results =
            |segment: &&std::sync::Arc<Segment>| !matches!(segment.meta.partition, Partition::Points(..));
        let mut blocks: Vec<_> = view
            .segments
            .iter()
            .filter(results)
            .flat_map(|segment| segment.of_series(number).iter().map(move |entry| (segment, entry)))
            .map(|(segment, entry)| (segment.span(entry).1, segment, entry))
            .collect();
        blocks.sort_by_key(|(latest, ..)| std::cmp::Reverse(*latest));
        let mut best: Option<CheckResult> = None;
        for (latest, segment, entry) in blocks {
            if best.as_ref().map(|best| best.at_ms).max(known).is_some_and(|at_ms| at_ms >= latest) {
                break;
            }
            let bytes = self.read_block(segment, entry)?;
            let read = Block::open(&bytes).and_then(|block| {
                let last = block.times()?.into_iter().max();
                let last = last.filter(|last| best.as_ref().is_none_or(|best| *last >= best.at_ms));
                Ok(match last {
                    None => None,
                    Some(last) => block.results(agent, check, |at_ms| at_ms == last)?.pop(),
                })
            });
            match read {
                Ok(Some(result)) => best = Some(result),
                Ok(None) => {}
                Err(error) => self.damaged_block(segment, entry, &error),
            }
        }
        Ok(best.filter(|best| known.is_none_or(|known| best.at_ms > known)))
    }
}

fn cursor((agent, check): (&AgentId, &CheckName)) -> String {
    format!("{agent}.{check}")
}

fn in_time(deadline: Instant) -> Result<(), StoreError> {
    if Instant::now() >= deadline { Err(StoreError::TooMuch) } else { Ok(()) }
}

impl Open {
    pub(super) fn horizon(&self) -> Horizon {
        let hot = *self.hot();
        let sealed = self.sealed.read().unwrap_or_else(PoisonError::into_inner);
        let begin = |wanted: &dyn Fn(Partition) -> bool| {
            let own = sealed.iter().filter(|segment| wanted(segment.meta.partition));
            own.map(|segment| segment.meta.min_at_ms).min()
        };
        let of_points = |resolution: Resolution| {
            let begin = begin(&|partition| matches!(partition, Partition::Points(of, _) if of == resolution));
            // A point begins before what it was made of; it reaches further back when it ends before.
            move |other: u64| begin.filter(|begin| begin.saturating_add(resolution.millis()) <= other)
        };
        let (five_minutes, hours) = (of_points(Resolution::FiveMinutes), of_points(Resolution::Hour));
        let in_rows = (hot.results > 0).then_some(hot.oldest_ms);
        let in_blocks = begin(&|partition| matches!(partition, Partition::Day(_)));
        let results = in_rows.into_iter().chain(in_blocks).min().unwrap_or(u64::MAX);
        let older = five_minutes(results).or_else(|| hours(results));
        // What nothing older stands behind reaches to the beginning.
        let results_ms = if older.is_some() { results } else { 0 };
        let five_minutes = five_minutes(results).unwrap_or(results);
        let five_minutes_ms = if hours(five_minutes).is_some() { five_minutes } else { 0 };
        Horizon { results_ms, five_minutes_ms }
    }
}
