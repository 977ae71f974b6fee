//! The latest results, statuses over time, and the hosts with the highest numbers.

use std::{cmp::Ordering, sync::Arc, time::Instant};

use protocol::{
    AgentId, CheckName, ErrorCode, ErrorReply, limits,
    query::{LatestQuery, ResultPage, ResultQuery},
    series::{Timeline, TimelineQuery, Top, TopBy, TopList, TopQuery},
};
use regex::bytes::{Regex, RegexBuilder};

use super::history::{CHECKS, READ, error, range};
use crate::{
    core::timeline,
    store::{
        Fits, Horizon, LatestScan, Point, Position, Resolution, ResultStore, Scan, SeriesFilter, SeriesMeta,
        Span,
    },
};

/// JSON of one page; the rest of a message is room for what encoding adds.
const PAGE_BYTES: usize = limits::MESSAGE * 3 / 4;
/// Longest text to search for, in bytes.
const LONGEST: usize = 1_000;
/// Memory of one regular expression, in bytes.
const REGEX_SIZE: usize = 1 << 20;
const RUNS: usize = 1_000;
const MOST_RUNS: usize = 10_000;
const TOP: usize = 10;
const MOST_TOP: usize = 1_000;
/// Ranges from here on are read as roll-ups, so that a fleet can be compared in time.
const BY_FIVE_MINUTES_MS: u64 = 2 * 86_400_000;
const BY_HOURS_MS: u64 = 60 * 86_400_000;

/// # Errors
/// `invalid`, or what the store says.
pub fn results(
    store: &Arc<dyn ResultStore>,
    query: ResultQuery,
    deadline: Instant,
) -> Result<ResultPage, ErrorReply> {
    let from = match query.cursor.as_deref().map(str::parse::<Position>) {
        None => Position::at(query.since_ms),
        Some(Ok(position)) => position.max(Position::at(query.since_ms)),
        Some(Err(error)) => return Err(ErrorReply::invalid(error.to_string()).at("cursor")),
    };
    let limit = limit(query.limit, limits::PAGE, limits::PAGE)?;
    let text = searched(query.contains.as_deref(), query.matches.as_deref())?;
    let statuses = query.status.0;
    let fits = (text.is_some() || !statuses.is_empty()).then_some(Fits { text, statuses });
    let scan = Scan {
        agent: query.agent,
        check: query.check,
        from,
        until_ms: query.until_ms,
        limit,
        max_bytes: PAGE_BYTES,
        deadline,
        fits,
    };
    store.page(&scan).map_err(error)
}

fn searched(contains: Option<&str>, matches: Option<&str>) -> Result<Option<Regex>, ErrorReply> {
    let (field, pattern) = match (contains, matches) {
        (Some(_), Some(_)) => {
            return Err(ErrorReply::invalid("give one of `contains` and `matches`").at("matches"));
        }
        (Some(text), None) => ("contains", regex::escape(text)),
        (None, Some(pattern)) => ("matches", pattern.to_owned()),
        (None, None) => return Ok(None),
    };
    if contains.or(matches).is_some_and(|text| text.len() > LONGEST) {
        return Err(ErrorReply::invalid(format!("it is longer than {LONGEST} bytes")).at(field));
    }
    let regex = RegexBuilder::new(&pattern)
        .case_insensitive(contains.is_some())
        .size_limit(REGEX_SIZE)
        .dfa_size_limit(REGEX_SIZE)
        .build();
    let refused = |error: regex::Error| {
        ErrorReply::invalid(format!("not a regular expression that can be used: {error}")).at(field)
    };
    Ok(Some(regex.map_err(refused)?))
}

fn limit(asked: usize, default: usize, most: usize) -> Result<usize, ErrorReply> {
    match asked {
        0 => Ok(default),
        asked if asked <= most => Ok(asked),
        _ => Err(ErrorReply::invalid(format!("at most {most} fit into one answer")).at("limit")),
    }
}

/// # Errors
/// `invalid`, or what the store says.
pub fn latest(
    store: &Arc<dyn ResultStore>,
    query: LatestQuery,
    deadline: Instant,
) -> Result<ResultPage, ErrorReply> {
    let place = |cursor: &str| {
        let (agent, check) = cursor.split_once('.')?;
        Some((AgentId::new(agent).ok()?, CheckName::new(check).ok()?))
    };
    let wrong = || ErrorReply::invalid("not a cursor: give the `next` of the page before").at("cursor");
    let after = query.cursor.map(|cursor| place(&cursor).ok_or_else(wrong)).transpose()?;
    let scan = LatestScan {
        agent: query.agent,
        check: query.check,
        after,
        since_ms: query.since_ms,
        statuses: query.status.0,
        limit: limit(query.limit, limits::PAGE, limits::PAGE)?,
        max_bytes: PAGE_BYTES,
        deadline,
    };
    store.latest(&scan).map_err(error)
}

/// # Errors
/// `invalid`, `not_found`, or what the store says.
pub fn timeline(
    store: &Arc<dyn ResultStore>,
    query: TimelineQuery,
    deadline: Instant,
) -> Result<Timeline, ErrorReply> {
    let (from_ms, until_ms) = range(query.from_ms, query.until_ms)?;
    let most = limit(query.limit, RUNS, MOST_RUNS)?;
    let (agent, check) = (Some(query.agent.clone()), Some(query.check.clone()));
    let filter = SeriesFilter { agent, check, metric: Some(String::new()) };
    let Some(meta) = store.series(&filter).map_err(error)?.into_iter().next() else {
        let text = format!("{} has no results of {}", query.agent, query.check);
        return Err(ErrorReply::new(ErrorCode::NotFound, text));
    };
    // The verdict before the range holds into it.
    let before = from_ms.saturating_sub((until_ms - from_ms).clamp(3_600_000, 86_400_000));
    let span = Span { from_ms: before, until_ms, limit: READ, deadline };
    let samples = store.samples(meta.id, &span).map_err(error)?;
    let mut runs = timeline::runs(&samples, (from_ms, until_ms));
    let next_ms = runs.get(most).map(|run| run.from_ms);
    runs.truncate(most);
    Ok(Timeline { runs, next_ms })
}

/// # Errors
/// `invalid`, `not_found`, `too_large`, or what the store says.
pub fn top(store: &Arc<dyn ResultStore>, query: TopQuery, deadline: Instant) -> Result<TopList, ErrorReply> {
    let (from_ms, until_ms) = range(query.from_ms, query.until_ms)?;
    let most = limit(query.limit, TOP, MOST_TOP)?;
    let (check, metric) = (Some(query.check.clone()), Some(query.metric.clone()));
    let metas = store.series(&SeriesFilter { agent: None, check, metric }).map_err(error)?;
    if metas.is_empty() {
        let text = format!("no host has numbers of {} {}", query.check, query.metric);
        return Err(ErrorReply::new(ErrorCode::NotFound, text.trim_end()));
    }
    if metas.len() > CHECKS {
        let text = format!("more than {CHECKS} hosts have this check: ask in PromQL, for some of them");
        return Err(ErrorReply::new(ErrorCode::TooLarge, text));
    }
    let resolution = resolution((from_ms, until_ms), &store.horizon().map_err(error)?);
    let (mut hosts, mut left) = (Vec::new(), READ);
    for SeriesMeta { id, agent, unit, .. } in metas {
        let span = Span { from_ms, until_ms, limit: left, deadline };
        let mut all = Point::new(from_ms);
        match resolution {
            None => {
                let samples = store.samples(id, &span).map_err(error)?;
                left = left.saturating_sub(samples.len());
                samples.iter().for_each(|sample| all.add(sample));
            }
            Some(resolution) => {
                let points = store.points(id, &span, resolution).map_err(error)?;
                left = left.saturating_sub(points.len());
                points.iter().for_each(|point| all.merge(point));
            }
        }
        let value = match query.by {
            TopBy::Mean => all.mean(),
            TopBy::Max => Some(all.max),
            TopBy::Min => Some(all.min),
            TopBy::Last => Some(all.last),
        };
        if let Some(value) = value.filter(|value| value.is_finite()) {
            hosts.push(Top { agent, value, unit });
        }
    }
    let of = hosts.len() as u64;
    let order = |a: &Top, b: &Top| {
        let order = a.value.total_cmp(&b.value);
        if query.lowest { order } else { Ordering::reverse(order) }
    };
    hosts.sort_by(order);
    hosts.truncate(most);
    Ok(TopList { hosts, of, width_ms: resolution.map_or(0, Resolution::millis) })
}

fn resolution((from_ms, until_ms): (u64, u64), horizon: &Horizon) -> Option<Resolution> {
    let length = until_ms - from_ms;
    if length >= BY_HOURS_MS || from_ms < horizon.five_minutes_ms {
        Some(Resolution::Hour)
    } else if length >= BY_FIVE_MINUTES_MS || from_ms < horizon.results_ms {
        Some(Resolution::FiveMinutes)
    } else {
        None
    }
}
