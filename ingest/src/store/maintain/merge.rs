//! From small segments into large ones.

use std::{collections::BTreeMap, sync::Arc};

use super::{Switch, Writers, by_series};
use crate::store::{
    StoreError,
    block::{
        Block,
        rollup::{self, MAX_POINTS, MetricPoints},
    },
    engine::{Fjall, Open},
    segment::{Entry, Partition, Segment},
    series,
};

/// Segments of one partition that may lie side by side.
const SIDE_BY_SIDE: usize = 8;
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
            let complete = partition.end_ms().saturating_add(SETTLED_MS) <= now_ms
                && (all - largest).saturating_mul(WORTH) >= largest;
            if group.len() >= SIDE_BY_SIDE || (group.len() > 1 && complete) {
                merged = merged.saturating_add(self.merge_group(open, partition, &group)?);
            }
        }
        Ok(merged)
    }

    /// Make one segment of each partition.
    pub(in crate::store) fn merge_all(&self, open: &Open) -> Result<u64, StoreError> {
        let mut merged = 0u64;
        for (partition, group) in partitions(open).into_iter().filter(|(_, group)| group.len() > 1) {
            merged = merged.saturating_add(self.merge_group(open, partition, &group)?);
        }
        Ok(merged)
    }

    fn merge_group(
        &self,
        open: &Open,
        partition: Partition,
        group: &[Arc<Segment>],
    ) -> Result<u64, StoreError> {
        let mut writers = Writers::new(self, open);
        let filled = self.fill_merged(partition, group, &mut writers);
        group.iter().for_each(|segment| writers.stored(partition, segment.meta.stored_ms));
        let new = writers.finish(filled)?;
        let count = new.iter().map(|(_, meta)| meta.count).sum();
        let old = group.iter().map(|segment| segment.number).collect();
        self.switch(open, Switch { new, old, ..Switch::default() })?;
        Ok(count)
    }

    fn fill_merged(
        &self,
        partition: Partition,
        group: &[Arc<Segment>],
        writers: &mut Writers<'_>,
    ) -> Result<(), StoreError> {
        for (series, blocks) in by_series(group) {
            match partition {
                Partition::Points(..) => {
                    let points = self.points_of(&blocks)?;
                    writers.add_points(partition, series, &points)?;
                }
                Partition::Day(_) | Partition::Stray(_) => {
                    let results = self.results_of(writers.open, series, &blocks)?;
                    writers.add_results(partition, series, &results)?;
                }
            }
        }
        Ok(())
    }

    /// The results of a series' blocks in order of time; those of the same moment as they were stored.
    pub(super) fn results_of(
        &self,
        open: &Open,
        series: u32,
        blocks: &[(&Segment, &Entry)],
    ) -> Result<Vec<protocol::CheckResult>, StoreError> {
        let mut results = Vec::new();
        let Some((agent, check)) = self.name_of(open, series) else { return Ok(results) };
        for (segment, entry) in blocks {
            let bytes = self.read_block(segment, entry)?;
            match Block::open(&bytes).and_then(|block| block.results(&agent, &check, |_| true)) {
                Ok(more) => results.extend(more),
                Err(error) => self.keep_damaged(segment, entry, &bytes, &error)?,
            }
        }
        results.sort_by_key(|result| result.at_ms);
        Ok(results)
    }

    pub(super) fn points_of(&self, blocks: &[(&Segment, &Entry)]) -> Result<Vec<MetricPoints>, StoreError> {
        let mut metrics = BTreeMap::<String, Vec<_>>::new();
        for (segment, entry) in blocks {
            let bytes = self.read_block(segment, entry)?;
            match rollup::decode(&bytes, |_| true) {
                Ok(more) => more
                    .into_iter()
                    .for_each(|more| metrics.entry(more.metric).or_default().extend(more.points)),
                Err(error) => self.keep_damaged(segment, entry, &bytes, &error)?,
            }
        }
        let merged = |(metric, points)| MetricPoints { metric, points: series::merged(points) };
        Ok(metrics.into_iter().map(merged).collect())
    }

    /// A damaged block goes with its segment: its bytes are kept in a file beside.
    fn keep_damaged(
        &self,
        segment: &Segment,
        entry: &Entry,
        bytes: &[u8],
        error: &crate::store::block::BlockError,
    ) -> Result<(), StoreError> {
        self.damaged_block(segment, entry, error);
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
            let times = || chunk.iter().flat_map(|own| own.points.iter().map(|point| point.at_ms));
            let span = (times().min().unwrap_or(0), times().max().unwrap_or(0));
            let block = rollup::encode(&chunk).map_err(|error| self.store.damaged_results(&error))?;
            self.add(partition, series, span, (times().count(), &block))?;
        }
        Ok(())
    }
}

pub(super) fn partitions(open: &Open) -> BTreeMap<Partition, Vec<Arc<Segment>>> {
    let mut partitions = BTreeMap::<_, Vec<_>>::new();
    for segment in open.view().segments {
        partitions.entry(segment.meta.partition).or_default().push(segment);
    }
    partitions
}
