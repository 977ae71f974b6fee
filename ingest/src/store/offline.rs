//! What an operator does to a store that nobody else uses, and benchmarks do to one of their own.

use protocol::{AgentId, CheckName, CheckResult};
use serde::Serialize;

use super::{
    SeriesFilter, StoreError,
    block::{Block, BlockError, rollup},
    engine::{Fjall, HOUR_MS, Open, number},
    maintain::stream::{Damaged, Merged},
    row::{self, Row},
    segment::{Entry, Partition, Segment},
};

/// Told how much of how much is done, now and then.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

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
    /// Each row, block or file that cannot be read.
    pub damaged: Vec<Damage>,
}

/// Something that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Row, block or file.
    pub place: String,
    /// Whose results are missing; none where several, or nobody knows.
    pub agent: Option<AgentId>,
    pub check: Option<CheckName>,
    /// The time that they are of, about, in milliseconds since 1970.
    pub from_ms: Option<u64>,
    pub until_ms: Option<u64>,
    pub reason: String,
}

impl Damage {
    fn of(place: String, reason: impl ToString) -> Self {
        let reason = reason.to_string();
        Self { place, agent: None, check: None, from_ms: None, until_ms: None, reason }
    }

    /// A row of the hot log: its key tells the hour.
    fn row(key: &[u8], reason: impl ToString) -> Self {
        let hour = number(key, 0);
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            from_ms: hour.map(|hour| hour.saturating_mul(HOUR_MS)),
            until_ms: hour.map(|hour| hour.saturating_add(1).saturating_mul(HOUR_MS)),
            ..Self::of(format!("row {hex}"), reason)
        }
    }
}

impl Fjall {
    /// Seal all, and merge each day into one segment. Returns how many results and points were written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn compact(&self, now_ms: u64, progress: Progress<'_>) -> Result<u64, StoreError> {
        self.with_open(|open| {
            let sealed = self.seal_now(open, now_ms)?;
            let all: u64 = open.view().segments.iter().map(|segment| segment.meta.count).sum();
            progress(0, all);
            let merged = self.merge_all(open, now_ms, |done| progress(done, all))?;
            Ok(sealed.saturating_add(merged))
        })
    }

    /// All results that the filter fits, from `from_ms` on and before `until_ms`, check by check in order of time. What
    /// is in the hot log is sealed first, so that no more than a block of each segment is in memory. Damaged blocks are
    /// counted and left out.
    ///
    /// # Errors
    /// [`StoreError`], and those of `each`.
    pub fn export<E: From<StoreError>>(
        &self,
        now_ms: u64,
        filter: &SeriesFilter,
        (from_ms, until_ms): (u64, u64),
        mut each: impl FnMut(&CheckResult) -> Result<(), E>,
        progress: Progress<'_>,
    ) -> Result<(), E> {
        let (checks, view) = self.with_open(|open| {
            self.seal_now(open, now_ms)?;
            // The results' own values are there once for each check.
            let values = SeriesFilter { metric: Some(String::new()), ..filter.clone() };
            Ok((open.catalog().find(&values), open.view()))
        })?;
        let all = checks.len() as u64;
        for (done, check) in (0..).zip(checks) {
            progress(done, all);
            let of_results = |segment: &&std::sync::Arc<Segment>| {
                !matches!(segment.meta.partition, Partition::Points(..))
                    && segment.meta.max_at_ms >= from_ms
                    && segment.meta.min_at_ms < until_ms
            };
            let segments = view.segments.iter().filter(of_results);
            let blocks: Vec<(&Segment, &[Entry])> = segments
                .map(|segment| (segment.as_ref(), segment.of_series(check.id.results)))
                .filter(|(_, entries)| !entries.is_empty())
                .collect();
            let mut results = Merged::new(self, (check.agent, check.check), &blocks, Damaged::Passed)?;
            while let Some((_, result)) = results.next()? {
                if (from_ms..until_ms).contains(&result.at_ms) {
                    each(&result)?;
                }
            }
        }
        Ok(())
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
    pub fn check(&self, progress: Progress<'_>) -> Result<Findings, StoreError> {
        self.with_open(|open| {
            let mut findings = Findings::default();
            let failed = self.failed("read");
            for item in open.rows.iter() {
                let (key, value) = item.into_inner().map_err(&failed)?;
                findings.rows = findings.rows.saturating_add(1);
                if let Err(error) = Row::open(&value).and_then(|row| row::results(&row.unpack()?).map(drop)) {
                    findings.damaged.push(Damage::row(&key, error));
                }
            }
            for item in open.set_aside.iter() {
                findings.damaged.push(Damage::row(&item.key().map_err(&failed)?, "it was set aside"));
            }
            let segments = open.view().segments;
            let all = segments.iter().map(|segment| segment.entries().len() as u64).sum();
            for segment in segments {
                self.check_segment(open, &segment, &mut findings, &mut |blocks| progress(blocks, all))?;
            }
            let files = std::fs::read_dir(self.blocks());
            for path in files.into_iter().flatten().flatten().map(|file| file.path()) {
                if path.extension().is_some_and(|extension| extension == "damaged") {
                    findings.damaged.push(Damage::of(format!("file {}", path.display()), "it was set aside"));
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
        done: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        for entry in segment.entries() {
            let name = open.catalog().name(entry.series).cloned();
            findings.blocks = findings.blocks.saturating_add(1);
            let read = match (self.read_block(segment, entry), segment.meta.partition, &name) {
                (Err(error), ..) => Err(service_kit::report(&error)),
                (Ok(_), _, None) => Err("its series is not listed".to_owned()),
                (Ok(bytes), Partition::Points(..), Some(_)) => {
                    rollup::decode(&bytes, rollup::Parts::All, |_| true).map(drop).map_err(text)
                }
                (Ok(bytes), _, Some((agent, check))) => Block::open(&bytes)
                    .and_then(|block| block.results(agent, check, |_| true))
                    .map(drop)
                    .map_err(text),
            };
            if let Err(reason) = read {
                let place = format!("segment {:012}, series {}", segment.number, entry.series);
                let (from_ms, until_ms) = segment.span(entry);
                let (agent, check) = name.unzip();
                findings.damaged.push(Damage {
                    agent,
                    check,
                    from_ms: Some(from_ms),
                    until_ms: Some(until_ms),
                    ..Damage::of(place, reason)
                });
            }
            done(findings.blocks);
        }
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn text(error: BlockError) -> String {
    error.to_string()
}
