//! From small segments into large ones, and from the results of a day that is over into points.
//!
//! Points are made once of each segment: it says itself whether it is counted in points. What comes for a day that is
//! rolled up is rolled up apart; points of the same time are merged when they are read.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Switch, Writers, by_series,
    roll::Roller,
    stream::{Damaged, Merged},
};
use crate::store::{
    StoreError,
    block::rollup::{self, MAX_POINTS, MetricPoints, Parts},
    engine::{Fjall, Open},
    segment::{Entry, Partition, Segment, SegmentMeta},
};

/// Segments of one partition that may lie side by side.
const SIDE_BY_SIDE: usize = 8;
/// Segments that are merged at once: a block of each is in memory.
const AT_ONCE: usize = 16;
/// After its end a partition is merged once more, when what is late has mostly come.
const SETTLED_MS: u64 = 2 * 3_600_000;
/// It is worth it when the small segments have at least this part of the largest.
const WORTH: u64 = 10;

impl Fjall {
    /// Merge the partitions that have many segments or are complete. Returns how many results or points were written.
    pub(in crate::store) fn merge(&self, open: &Open, now_ms: u64) -> Result<u64, StoreError> {
        let mut merged = 0u64;
        for (partition, group) in partitions(open) {
            let largest = group.iter().map(|segment| segment.meta.bytes).max().unwrap_or(0);
            let all: u64 = group.iter().map(|segment| segment.meta.bytes).sum();
            let complete = is_complete(partition, now_ms) && (all - largest).saturating_mul(WORTH) >= largest;
            if group.len() >= SIDE_BY_SIDE || (group.len() > 1 && complete) {
                merged = merged.saturating_add(self.merge_group(open, partition, &group, now_ms)?);
            }
        }
        Ok(merged)
    }

    /// Make one segment of each partition.
    pub(in crate::store) fn merge_all(
        &self,
        open: &Open,
        now_ms: u64,
        mut done: impl FnMut(u64),
    ) -> Result<u64, StoreError> {
        let mut merged = 0u64;
        for (partition, group) in partitions(open).into_iter().filter(|(_, group)| group.len() > 1) {
            merged = merged.saturating_add(self.merge_group(open, partition, &group, now_ms)?);
            done(merged);
        }
        Ok(merged)
    }

    /// Merge all of a partition, some segments at a time.
    fn merge_group(
        &self,
        open: &Open,
        partition: Partition,
        group: &[Arc<Segment>],
        now_ms: u64,
    ) -> Result<u64, StoreError> {
        let (mut merged, mut group) = (0u64, group.to_vec());
        while group.len() > 1 {
            let some = group.get(..AT_ONCE).unwrap_or(&group);
            merged = merged.saturating_add(self.merge_some(open, partition, some, now_ms)?);
            group = partitions(open).remove(&partition).unwrap_or_default();
        }
        Ok(merged)
    }

    fn merge_some(
        &self,
        open: &Open,
        partition: Partition,
        group: &[Arc<Segment>],
        now_ms: u64,
    ) -> Result<u64, StoreError> {
        // What is rolled up and what is not is never mixed.
        let is_rolled = is_day(partition)
            && (is_complete(partition, now_ms) || group.iter().any(|segment| segment.meta.rolled_up));
        let mut writers = Writers::new(self, open);
        let filled = self.fill_merged(partition, group, is_rolled, &mut writers);
        group.iter().for_each(|segment| writers.stored(partition, segment.meta.stored_ms));
        let mut new = writers.finish(filled)?;
        for (_, meta) in new.iter_mut().filter(|(_, meta)| meta.partition == partition) {
            meta.rolled_up = is_rolled;
        }
        let count = new.iter().map(|(_, meta)| meta.count).sum();
        let old = group.iter().map(|segment| segment.number).collect();
        self.switch(open, Switch { new, old, ..Switch::default() })?;
        Ok(count)
    }

    fn fill_merged(
        &self,
        partition: Partition,
        group: &[Arc<Segment>],
        is_rolled: bool,
        writers: &mut Writers<'_>,
    ) -> Result<(), StoreError> {
        for (series, blocks) in by_series(group) {
            match partition {
                Partition::Points(..) => {
                    let points = self.points_of(&blocks)?;
                    writers.add_points(partition, series, &points)?;
                }
                Partition::Day(_) | Partition::Stray(_) => {
                    let Some(name) = self.name_of(writers.open, series) else { continue };
                    let mut results = Merged::new(self, name, &blocks, Damaged::Kept)?;
                    let mut roller = Roller::default();
                    writers.add_results(partition, series, || {
                        Ok(results.next()?.map(|(segment, result)| {
                            if is_rolled && !segment.meta.rolled_up {
                                roller.add(&result);
                            }
                            result
                        }))
                    })?;
                    roller.finish(series, writers)?;
                }
            }
        }
        Ok(())
    }

    /// Roll up one day that is over, so that sealing is not held up for long. Returns how many results are rolled up now
    /// that were not.
    pub(in crate::store) fn roll_up(&self, open: &Open, now_ms: u64) -> Result<u64, StoreError> {
        let mut rolled = 0u64;
        for (partition, group) in partitions(open) {
            if !is_day(partition) || !is_complete(partition, now_ms) {
                continue;
            }
            let mut new = not_rolled_up(&group);
            while !new.is_empty() {
                let later = new.split_off(new.len().min(AT_ONCE));
                let mut writers = Writers::new(self, open);
                let filled = self.fill_points(&new, &mut writers);
                let mut switch = Switch { new: writers.finish(filled)?, ..Switch::default() };
                for segment in new {
                    rolled = rolled.saturating_add(segment.meta.count);
                    let meta = SegmentMeta { rolled_up: true, ..segment.meta.clone() };
                    switch.changed.push((segment.number, meta));
                }
                self.switch(open, switch)?;
                new = later;
            }
            if rolled > 0 {
                break;
            }
        }
        Ok(rolled)
    }

    /// Write the points of all results in these segments.
    pub(super) fn fill_points(
        &self,
        group: &[Arc<Segment>],
        writers: &mut Writers<'_>,
    ) -> Result<(), StoreError> {
        for (series, blocks) in by_series(group) {
            let Some(name) = self.name_of(writers.open, series) else { continue };
            let mut results = Merged::new(self, name, &blocks, Damaged::Passed)?;
            let mut roller = Roller::default();
            while let Some((_, result)) = results.next()? {
                roller.add(&result);
            }
            roller.finish(series, writers)?;
        }
        Ok(())
    }

    fn points_of(&self, blocks: &[(&Segment, &[Entry])]) -> Result<Vec<MetricPoints>, StoreError> {
        let mut metrics = BTreeMap::<String, Vec<_>>::new();
        let blocks = blocks.iter().flat_map(|(segment, entries)| entries.iter().map(move |e| (segment, e)));
        for (segment, entry) in blocks {
            let bytes = self.read_block(segment, entry)?;
            match rollup::decode(&bytes, Parts::All, |_| true) {
                Ok(more) => more
                    .into_iter()
                    .for_each(|more| metrics.entry(more.metric).or_default().extend(more.points)),
                Err(error) => {
                    self.damaged_block(segment, entry, &error);
                    self.keep_block(segment, entry, &bytes)?;
                }
            }
        }
        let merged = |(metric, points)| MetricPoints { metric, points: rollup::merged(points) };
        Ok(metrics.into_iter().map(merged).collect())
    }

    /// A damaged block goes with its segment: its bytes are kept in a file beside.
    pub(super) fn keep_block(
        &self,
        segment: &Segment,
        entry: &Entry,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let path = self.blocks().join(format!("{:012}-{}.damaged", segment.number, entry.series));
        service_kit::files::write_private(&path, bytes).map_err(self.failed_file("write"))
    }
}

impl Writers<'_> {
    pub(super) fn add_points(
        &mut self,
        partition: Partition,
        series: u32,
        metrics: &[MetricPoints],
    ) -> Result<(), StoreError> {
        let mut rests: Vec<(&str, &[_])> =
            metrics.iter().map(|own| (own.metric.as_str(), own.points.as_slice())).collect();
        while rests.iter().any(|(_, rest)| !rest.is_empty()) {
            let mut chunk = Vec::new();
            for (metric, rest) in &mut rests {
                let (now, after) = rest.split_at(rest.len().min(MAX_POINTS));
                *rest = after;
                if !now.is_empty() {
                    chunk.push(MetricPoints { metric: (*metric).to_owned(), points: now.to_vec() });
                }
            }
            let times = || chunk.iter().flat_map(|own| own.points.iter().map(|rolled| rolled.point.at_ms));
            let span = (times().min().unwrap_or(0), times().max().unwrap_or(0));
            let block = rollup::encode(&chunk).map_err(|error| self.store.damaged_results(&error))?;
            self.add(partition, series, span, (times().count(), &block))?;
        }
        Ok(())
    }
}

fn is_day(partition: Partition) -> bool {
    matches!(partition, Partition::Day(_))
}

fn is_complete(partition: Partition, now_ms: u64) -> bool {
    partition.end_ms().saturating_add(SETTLED_MS) <= now_ms
}

pub(super) fn not_rolled_up(group: &[Arc<Segment>]) -> Vec<Arc<Segment>> {
    group.iter().filter(|segment| !segment.meta.rolled_up).cloned().collect()
}

pub(super) fn partitions(open: &Open) -> BTreeMap<Partition, Vec<Arc<Segment>>> {
    let mut partitions = BTreeMap::<_, Vec<_>>::new();
    for segment in open.view().segments {
        partitions.entry(segment.meta.partition).or_default().push(segment);
    }
    partitions
}
