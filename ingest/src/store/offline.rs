//! What an operator does to a store that nobody else uses, and benchmarks do to one of their own.

use serde::Serialize;

use super::{
    StoreError,
    block::{Block, BlockError, rollup},
    engine::{Fjall, Open},
    row::{self, Row},
    segment::{Partition, Segment},
};

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Checks of agents; each has one or more series.
    pub checks: u64,
    /// Results in the hot log, and what they take there.
    pub hot_results: u64,
    pub hot_bytes: u64,
    pub segments: u64,
    /// Results in blocks, and what they take, indexes included.
    pub sealed_results: u64,
    pub sealed_bytes: u64,
    /// Points of roll-ups, of all metrics, and what they take.
    pub points: u64,
    pub point_bytes: u64,
}

/// What was looked at, and what of it is damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub rows: u64,
    pub blocks: u64,
    /// One line for each row or block that cannot be read.
    pub damaged: Vec<String>,
}

impl Fjall {
    /// Seal all, and merge each day into one segment. Returns how many results and points were written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn compact(&self, now_ms: u64) -> Result<u64, StoreError> {
        self.with_open(|open| {
            let sealed = self.seal_now(open, now_ms)?;
            Ok(sealed.saturating_add(self.merge_all(open, now_ms, |_| {})?))
        })
    }

    /// # Errors
    /// [`StoreError`].
    pub fn stats(&self) -> Result<Stats, StoreError> {
        self.with_open(|open| {
            let hot = *open.hot();
            let mut stats = Stats {
                checks: open.catalog().len(),
                hot_results: hot.results,
                hot_bytes: hot.bytes,
                ..Stats::default()
            };
            for segment in open.view().segments {
                let meta = &segment.meta;
                let (count, bytes) = match meta.partition {
                    Partition::Points(..) => (&mut stats.points, &mut stats.point_bytes),
                    Partition::Day(_) | Partition::Stray(_) => {
                        (&mut stats.sealed_results, &mut stats.sealed_bytes)
                    }
                };
                *count = count.saturating_add(meta.count);
                *bytes = bytes.saturating_add(meta.bytes);
                stats.segments = stats.segments.saturating_add(1);
            }
            Ok(stats)
        })
    }

    /// Read everything. What is damaged is listed, not changed.
    ///
    /// # Errors
    /// [`StoreError`] when the disk cannot be read.
    pub fn check(&self) -> Result<Findings, StoreError> {
        self.with_open(|open| {
            let mut findings = Findings::default();
            let failed = self.failed("read");
            for item in open.rows.iter() {
                let (key, value) = item.into_inner().map_err(&failed)?;
                findings.rows = findings.rows.saturating_add(1);
                if let Err(error) = Row::open(&value).and_then(|row| row::results(&row.unpack()?).map(drop)) {
                    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                    findings.damaged.push(format!("row {key}: {error}"));
                }
            }
            for item in open.set_aside.iter() {
                let key = item.key().map_err(&failed)?;
                let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                findings.damaged.push(format!("row {key}: set aside"));
            }
            for segment in open.view().segments {
                self.check_segment(open, &segment, &mut findings)?;
            }
            let files = std::fs::read_dir(self.blocks());
            for path in files.into_iter().flatten().flatten().map(|file| file.path()) {
                if path.extension().is_some_and(|extension| extension == "damaged") {
                    findings.damaged.push(format!("{}: set aside", path.display()));
                }
            }
            Ok(findings)
        })
    }

    fn check_segment(
        &self,
        open: &Open,
        segment: &Segment,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        for entry in segment.entries() {
            let name = open.catalog().name(entry.series).cloned();
            findings.blocks = findings.blocks.saturating_add(1);
            let bytes = self.read_block(segment, entry)?;
            let read = match (segment.meta.partition, name) {
                (_, None) => Err(BlockError::Part("series' name")),
                (Partition::Points(..), Some(_)) => rollup::decode(&bytes, rollup::Parts::All, |_| true).map(drop),
                (_, Some((agent, check))) => {
                    Block::open(&bytes).and_then(|block| block.results(&agent, &check, |_| true).map(drop))
                }
            };
            if let Err(error) = read {
                let (number, series) = (segment.number, entry.series);
                findings.damaged.push(format!("segment {number}, series {series}: {error}"));
            }
        }
        Ok(())
    }
}
