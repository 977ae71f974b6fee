//! One series over time, and the availability of checks.

use std::{sync::Arc, time::Instant};

use protocol::{
    ErrorCode, ErrorReply,
    series::{Availability, AvailabilityList, AvailabilityQuery, SeriesHistory, SeriesQuery},
};

use crate::{
    core::history,
    store::{Point, Resolution, ResultStore, Sample, SeriesFilter, Span, StoreError},
    writer::WriterError,
};

/// Points where the question gives no number.
const POINTS: usize = 500;
/// Most points of one answer.
const MOST_POINTS: usize = 11_000;
/// Most samples or roll-ups read for one answer.
pub(super) const READ: usize = 2_000_000;
/// Most checks in one answer.
pub(super) const CHECKS: usize = 10_000;
/// Most excluded times in one question.
const EXCLUDED: usize = 1_000;

/// # Errors
/// `invalid`, `not_found`, or what the store says.
pub fn series(
    store: &Arc<dyn ResultStore>,
    query: SeriesQuery,
    deadline: Instant,
) -> Result<SeriesHistory, ErrorReply> {
    let (from_ms, until_ms) = range(query.from_ms, query.until_ms)?;
    let points = if query.points == 0 { POINTS } else { query.points };
    if points > MOST_POINTS {
        return Err(ErrorReply::invalid(format!("at most {MOST_POINTS} points fit")).at("points"));
    }
    let filter = SeriesFilter {
        agent: Some(query.agent.clone()),
        check: Some(query.check.clone()),
        metric: Some(query.metric.clone()),
    };
    let Some(meta) = store.series(&filter).map_err(error)?.into_iter().next() else {
        let what =
            if query.metric.is_empty() { String::new() } else { format!(" with metric {}", query.metric) };
        let text = format!("{} has no results of {}{what}", query.agent, query.check);
        return Err(ErrorReply::new(ErrorCode::NotFound, text));
    };
    let span = Span { from_ms, until_ms, limit: READ, deadline };
    let width_ms = history::width(until_ms - from_ms, points);
    let rolled = |resolution| store.points(meta.id, &span, resolution).map_err(error);
    let found = match history::resolution(until_ms - from_ms, points) {
        Some(resolution) => rolled(resolution)?,
        None => {
            let samples = store.samples(meta.id, &span).map_err(error)?;
            if samples.is_empty() {
                // Samples are kept for less long than what was made of them.
                rolled(Resolution::FiveMinutes)?
            } else {
                let single: Vec<Point> = samples.iter().map(single).collect();
                if single.len() <= points {
                    return Ok(SeriesHistory { unit: meta.unit, width_ms: 0, points: shown(&single) });
                }
                single
            }
        }
    };
    let thin = history::thinned(found, from_ms, width_ms);
    Ok(SeriesHistory { unit: meta.unit, width_ms, points: shown(&thin) })
}

fn single(sample: &Sample) -> Point {
    let mut point = Point::new(sample.at_ms);
    point.add(sample);
    point
}

fn shown(points: &[Point]) -> Vec<protocol::series::SeriesPoint> {
    points.iter().map(history::point).collect()
}

/// # Errors
/// `invalid`, or what the store says.
pub fn availability(
    store: &Arc<dyn ResultStore>,
    query: AvailabilityQuery,
    deadline: Instant,
) -> Result<AvailabilityList, ErrorReply> {
    let (from_ms, until_ms) = range(query.from_ms, query.until_ms)?;
    if query.exclude.len() > EXCLUDED {
        return Err(ErrorReply::invalid(format!("at most {EXCLUDED} times can be excluded")).at("exclude"));
    }
    let filter = SeriesFilter { agent: query.agent, check: query.check, metric: Some(String::new()) };
    let metas = store.series(&filter).map_err(error)?;
    if metas.len() > CHECKS {
        let text = format!("more than {CHECKS} checks: ask for one host or one check");
        return Err(ErrorReply::new(ErrorCode::TooLarge, text));
    }
    // The verdict before the range holds into it.
    let before = from_ms.saturating_sub((until_ms - from_ms).clamp(3_600_000, 86_400_000));
    let mut checks: Vec<Availability> = Vec::with_capacity(metas.len());
    let mut left = READ;
    for meta in metas {
        let span = Span { from_ms: before, until_ms, limit: left, deadline };
        let samples = store.samples(meta.id, &span).map_err(error)?;
        left = left.saturating_sub(samples.len());
        if !samples.is_empty() {
            checks.push(history::availability(&meta, &samples, (from_ms, until_ms), &query.exclude));
        }
    }
    Ok(AvailabilityList { checks })
}

pub(super) fn range(from_ms: u64, until_ms: u64) -> Result<(u64, u64), ErrorReply> {
    if until_ms <= from_ms {
        return Err(ErrorReply::invalid("the range ends before it begins").at("until_ms"));
    }
    Ok((from_ms, until_ms))
}

pub(super) fn error(error: StoreError) -> ErrorReply {
    WriterError::from(error).into()
}
