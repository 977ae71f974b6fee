//! Reading across the hot log and the sealed segments.

use std::{collections::HashMap, time::Instant};

use fjall::Readable;
use protocol::{CheckResult, query::ResultPage};

use super::{
    Point, Position, Resolution, Sample, Scan, SeriesId, Sketch, Span, StoreError,
    block::{
        Block, BlockError,
        rollup::{self, Parts, Rolled},
    },
    engine::{Fjall, HOUR_MS, Open, View, key, number},
    maintain::roll,
    page::Collector,
    row::{self, Row, Wanted},
    segment::{Entry, Partition, Segment, SegmentMeta},
};

impl Fjall {
    pub(super) fn read_samples(
        &self,
        open: &Open,
        id: SeriesId,
        span: &Span,
    ) -> Result<Vec<Sample>, StoreError> {
        self.samples_of(open, &See::of(open, id, span), id, span, |_| true)
    }

    fn samples_of(
        &self,
        open: &Open,
        See { view, held, from_batch }: &See,
        id: SeriesId,
        span: &Span,
        keep: fn(&SegmentMeta) -> bool,
    ) -> Result<Vec<Sample>, StoreError> {
        let mut samples = Vec::new();
        let last = span.until_ms.saturating_sub(1);
        let Some((agent, check, metric)) =
            open.catalog().metric(id).map(|(a, c, m)| (a.clone(), c.clone(), m.to_owned()))
        else {
            return Ok(samples);
        };
        if span.until_ms <= span.from_ms {
            return Ok(samples);
        }
        let metric = (id.metric > 0).then_some(metric.as_str());
        let results = |meta: &SegmentMeta| !matches!(meta.partition, Partition::Points(..)) && keep(meta);
        for (segment, entry) in blocks(view, id.results, (span.from_ms, last), results) {
            let bytes = self.read_block(segment, entry)?;
            let read = Block::open(&bytes)
                .and_then(|block| block.samples(metric, (span.from_ms, last), &mut samples));
            if let Err(error) = read {
                self.damaged_block(segment, entry, &error);
            }
            within(span, samples.len())?;
        }
        let failed = self.failed("read");
        let wanted = Wanted::new(Some(&agent), Some(&check));
        let hours = key(span.from_ms / HOUR_MS, 0)..=key(last / HOUR_MS, u64::MAX);
        // What is in memory is not read from rows; mostly that is all of it.
        let rows = from_batch.map(|from| (from, view.snapshot.range(&open.rows, hours)));
        for (from, item) in rows.into_iter().flat_map(|(from, rows)| rows.map(move |item| (from, item))) {
            let (key, value) = item.into_inner().map_err(&failed)?;
            if number(&key, 8).is_some_and(|batch| batch >= from) {
                continue;
            }
            let read = Row::open(&value).and_then(|row| {
                if row.header.max_at_ms < span.from_ms
                    || row.header.min_at_ms > last
                    || !row.may_hold(&wanted)
                {
                    return Ok(());
                }
                for inside in row::results(&row.unpack()?)? {
                    if !(span.from_ms..=last).contains(&inside.at_ms) || !wanted.may_be(&inside) {
                        continue;
                    }
                    let result = inside.decode()?;
                    if result.agent == agent && result.check == check {
                        push_samples(&result, metric, &mut samples);
                    }
                }
                Ok(())
            });
            if let Err(error) = read {
                self.damaged_row(&key, &error);
            }
            within(span, samples.len())?;
        }
        samples.extend_from_slice(held);
        within(span, samples.len())?;
        if !samples.is_sorted_by_key(|sample| sample.at_ms) {
            samples.sort_by_key(|sample| sample.at_ms);
        }
        Ok(samples)
    }

    pub(super) fn read_points(
        &self,
        open: &Open,
        id: SeriesId,
        span: &Span,
        resolution: Resolution,
    ) -> Result<Vec<Point>, StoreError> {
        let rolled = self.read_rolled(open, id, span, (resolution, Parts::Numbers))?;
        Ok(rolled.into_iter().map(|rolled| rolled.point).collect())
    }

    pub(super) fn read_sketches(
        &self,
        open: &Open,
        id: SeriesId,
        span: &Span,
    ) -> Result<Vec<(u64, Sketch)>, StoreError> {
        let rolled = self.read_rolled(open, id, span, (Resolution::Hour, Parts::All))?;
        Ok(rolled.into_iter().map(|rolled| (rolled.point.at_ms, rolled.sketch)).collect())
    }

    fn read_rolled(
        &self,
        open: &Open,
        id: SeriesId,
        span: &Span,
        (resolution, parts): (Resolution, Parts),
    ) -> Result<Vec<Rolled>, StoreError> {
        let see = See::of(open, id, span);
        let view = &see.view;
        let Some(metric) = open.catalog().metric(id).map(|(_, _, metric)| metric.to_owned()) else {
            return Ok(Vec::new());
        };
        let mut points: Vec<Rolled> = Vec::new();
        let last = span.until_ms.saturating_sub(1);
        let kept =
            |meta: &SegmentMeta| matches!(meta.partition, Partition::Points(of, _) if of == resolution);
        for (segment, entry) in blocks(view, id.results, (span.from_ms, last), kept) {
            let bytes = self.read_block(segment, entry)?;
            match rollup::decode(&bytes, parts, |name| name == metric) {
                Ok(metrics) => points.extend(metrics.into_iter().flat_map(|metric| metric.points)),
                Err(error) => self.damaged_block(segment, entry, &error),
            }
            within(span, 0)?;
        }
        // What is not rolled up yet. A point's samples are limited by time, not by number.
        let whole = Span { limit: usize::MAX, ..*span };
        for sample in self.samples_of(open, &see, id, &whole, |meta| !meta.rolled_up)? {
            roll::add(&mut points, resolution, &sample);
        }
        let mut points = rollup::merged(points);
        points.retain(|rolled| (span.from_ms..span.until_ms).contains(&rolled.point.at_ms));
        within(span, points.len())?;
        Ok(points)
    }

    pub(super) fn read_page(&self, open: &Open, scan: &Scan) -> Result<ResultPage, StoreError> {
        let mut page = Collector::new(scan.limit, scan.max_bytes);
        let last = scan.until_ms.map_or(u64::MAX, |until| until.saturating_sub(1));
        if scan.until_ms == Some(0) || last < scan.from.at_ms {
            return Ok(page.into_page());
        }
        let view = open.view();
        let soft = Instant::now() + scan.deadline.saturating_duration_since(Instant::now()) / 2;
        let mut offers = Offers { scan, last, page: &mut page, seen: HashMap::new() };
        self.offer_sealed(open, &view, soft, &mut offers)?;
        self.offer_hot(open, &view, soft, &mut offers)?;
        Ok(page.into_page())
    }

    fn offer_sealed(
        &self,
        open: &Open,
        view: &View,
        soft: Instant,
        offers: &mut Offers<'_>,
    ) -> Result<(), StoreError> {
        let (scan, last) = (offers.scan, offers.last);
        let mut segments: Vec<_> = view.segments.iter().collect();
        segments.sort_by_key(|segment| segment.meta.min_at_ms);
        for segment in segments {
            let meta = &segment.meta;
            if matches!(meta.partition, Partition::Points(..))
                || meta.max_at_ms < scan.from.at_ms
                || meta.min_at_ms > last
            {
                continue;
            }
            // Time runs short: what begins here or later is for the next page.
            if Instant::now() >= soft && meta.min_at_ms > scan.from.at_ms {
                offers.page.stop_at(Position::at(meta.min_at_ms));
            }
            for entry in self.entries_of(open, segment, scan) {
                if !segment.may_hold(entry, scan.from.at_ms, offers.end()) {
                    continue;
                }
                if Instant::now() >= scan.deadline {
                    return Err(StoreError::TooMuch);
                }
                let Some((agent, check)) = open.catalog().name(entry.series).cloned() else { continue };
                if scan.check.as_ref().is_some_and(|wanted| *wanted != check) {
                    continue;
                }
                let bytes = self.read_block(segment, entry)?;
                let end = offers.end();
                let read = Block::open(&bytes).and_then(|block| {
                    // Texts are kept once each: most blocks are passed over by them alone.
                    if let Some(fits) = &scan.fits
                        && !block.outputs()?.iter().any(|output| fits.output(output))
                    {
                        return Ok(Vec::new());
                    }
                    block.results(&agent, &check, |at_ms| at_ms >= scan.from.at_ms && at_ms <= end)
                });
                match read {
                    Ok(results) => results.into_iter().for_each(|result| offers.offer(result)),
                    Err(error) => self.damaged_block(segment, entry, &error),
                }
            }
        }
        Ok(())
    }

    /// The blocks of a segment that may hold what is wanted.
    fn entries_of<'a>(&self, open: &Open, segment: &'a Segment, scan: &Scan) -> Vec<&'a Entry> {
        let catalog = open.catalog();
        let numbers = match (&scan.agent, &scan.check) {
            (None, _) => return segment.entries().iter().collect(),
            (Some(agent), check) => catalog.numbers(agent, check.as_ref()),
        };
        numbers.into_iter().flat_map(|number| segment.of_series(number)).collect()
    }

    fn offer_hot(
        &self,
        open: &Open,
        view: &View,
        soft: Instant,
        offers: &mut Offers<'_>,
    ) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let (scan, last) = (offers.scan, offers.last);
        let wanted = Wanted::new(scan.agent.as_ref(), scan.check.as_ref());
        let mut hour = scan.from.at_ms / HOUR_MS;
        for item in view.snapshot.range(&open.rows, key(hour, 0)..=key(last / HOUR_MS, u64::MAX)) {
            let (key, value) = item.into_inner().map_err(&failed)?;
            let Some(of) = number(&key, 0) else { continue };
            if of != hour {
                // An hour is done: the page may end here, and does when it is full or time runs short.
                if Instant::now() >= soft {
                    offers.page.stop_at(Position::at(of.saturating_mul(HOUR_MS)));
                }
                if !offers.page.wants(Position::at(of.saturating_mul(HOUR_MS))) {
                    break;
                }
                hour = of;
            }
            if Instant::now() >= scan.deadline {
                return Err(StoreError::TooMuch);
            }
            let read = Row::open(&value).and_then(|row| {
                let header = &row.header;
                if header.max_at_ms < scan.from.at_ms
                    || header.min_at_ms > offers.end()
                    || !row.may_hold(&wanted)
                {
                    return Ok(());
                }
                for inside in row::results(&row.unpack()?)? {
                    let in_range = inside.at_ms >= scan.from.at_ms && inside.at_ms <= offers.end();
                    if in_range && wanted.may_be(&inside) {
                        offers.offer(inside.decode()?);
                    }
                }
                Ok(())
            });
            if let Err(error) = read {
                self.damaged_row(&key, &error);
            }
        }
        Ok(())
    }

    pub(super) fn read_block(&self, segment: &Segment, entry: &Entry) -> Result<Vec<u8>, StoreError> {
        segment.read(entry).map_err(|error| StoreError::Engine {
            what: "read",
            folder: self.blocks(),
            source: Box::new(error),
        })
    }

    pub(super) fn damaged_block(&self, segment: &Segment, entry: &Entry, error: &BlockError) {
        self.damaged.inc();
        tracing::error!(
            folder = %self.blocks().display(),
            segment = segment.number,
            series = entry.series,
            %error,
            "a block of the store is damaged and was skipped"
        );
    }
}

/// A view, and what is in memory of one series at the same moment.
struct See {
    view: View,
    held: Vec<Sample>,
    /// Rows of batches before this are not in memory; `None`: there are none.
    from_batch: Option<u64>,
}

impl See {
    fn of(open: &Open, id: SeriesId, span: &Span) -> Self {
        let mut held = Vec::new();
        let (view, from_batch) = open.view_with(|head| {
            if span.until_ms > span.from_ms {
                head.samples(id, (span.from_ms, span.until_ms - 1), &mut held);
            }
            head.whole_from()
        });
        Self { view, held, from_batch }
    }
}

/// The blocks of one check that may hold something of the range, in the order in which they were stored.
fn blocks<'a>(
    view: &'a View,
    number: u32,
    (from_ms, last_ms): (u64, u64),
    keep: impl Fn(&SegmentMeta) -> bool + 'a,
) -> impl Iterator<Item = (&'a Segment, &'a Entry)> {
    view.segments.iter().filter(move |segment| keep(&segment.meta)).flat_map(move |segment| {
        let inside = segment.meta.max_at_ms >= from_ms && segment.meta.min_at_ms <= last_ms;
        let entries = if inside { segment.of_series(number) } else { &[] };
        let wanted = entries.iter().filter(move |entry| segment.may_hold(entry, from_ms, last_ms));
        wanted.map(move |entry| (segment.as_ref(), entry))
    })
}

fn within(span: &Span, count: usize) -> Result<(), StoreError> {
    if count > span.limit || Instant::now() > span.deadline { Err(StoreError::TooMuch) } else { Ok(()) }
}

/// What the result says of one metric, or of its own value.
pub(super) fn push_samples(result: &CheckResult, metric: Option<&str>, samples: &mut Vec<Sample>) {
    let (at_ms, status) = (result.at_ms, result.status);
    match metric {
        None => {
            let value = result.value.as_ref().and_then(protocol::Scalar::as_f64).unwrap_or(f64::NAN);
            samples.push(Sample { at_ms, value, status });
        }
        Some(name) => {
            let own = result.metrics.iter().filter(|metric| metric.name == name);
            samples.extend(own.map(|metric| Sample { at_ms, value: metric.value, status }));
        }
    }
}

/// Offers results to a page, wherever they lie.
struct Offers<'a> {
    scan: &'a Scan,
    last: u64,
    page: &'a mut Collector,
    /// How often an unnumbered result was met that equals another in all.
    seen: HashMap<Position, u64>,
}

impl Offers<'_> {
    /// The last moment that the page may still want.
    fn end(&self) -> u64 {
        self.page.end().map_or(self.last, |end| end.at_ms.min(self.last))
    }

    fn offer(&mut self, result: CheckResult) {
        let scan = self.scan;
        if scan.agent.as_ref().is_some_and(|agent| *agent != result.agent)
            || scan.check.as_ref().is_some_and(|check| *check != result.check)
            || result.at_ms > self.last
            || scan.fits.as_ref().is_some_and(|fits| !fits.result(&result))
        {
            return;
        }
        let Ok(json) = protocol::encode(&result) else { return };
        let mut position = Position::of(&result, &json);
        // Numbered results are there once. Others may be equal, and then each has a place of its own.
        if result.seq == 0 {
            let before = self.seen.entry(position).or_default();
            position.index = position.index.saturating_add(*before);
            *before = before.saturating_add(1);
        }
        if position >= scan.from {
            self.page.offer(position, json.len(), result);
        }
    }
}
