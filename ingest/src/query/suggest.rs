//! Rules for a check, from what it measured, with how often each would have fired.

use std::{sync::Arc, time::Instant};

use predict::{
    Point,
    anomaly::Detector,
    time_to::{Threshold, time_to},
};
use protocol::{
    ErrorCode, ErrorReply,
    alert::Severity,
    predict::{SuggestQuery, Suggestion, Suggestions},
};

use super::prediction::Series;
use crate::{
    store::{ResultStore, SeriesFilter},
    writer::WriterError,
};

const DAY_MS: u64 = 86_400_000;
const DEFAULT_MS: u64 = 14 * DAY_MS;
const LONGEST_MS: u64 = 60 * DAY_MS;
/// Values of each host: ten minutes each over two weeks.
const POINTS: usize = 2_016;
/// Most hosts that are looked at, evenly among all.
const HOSTS: usize = 100;
/// Fewer values say nothing.
const LEAST: usize = 100;
/// A detector learns over this share of the values before its word counts.
const LEARN: f64 = 0.25;
/// `anomaly()` in the rule that is suggested: once in ten thousand usual values.
const UNUSUAL: f64 = 0.9;
/// A share that fills: its limit, the time before it, and the past moments at which that is tried out on so many hosts.
const FULL: f64 = 95.0;
const AHEAD_HOURS: f64 = 24.0;
const TRIALS: usize = 4;
const TRIED_HOSTS: usize = 8;

/// # Errors
/// `invalid`, `not_found`, or what the store says.
pub fn suggest(
    store: &Arc<dyn ResultStore>,
    query: &SuggestQuery,
    now_ms: u64,
    deadline: Instant,
) -> Result<Suggestions, ErrorReply> {
    if query.over_ms > LONGEST_MS {
        return Err(ErrorReply::invalid("at most 60 days are looked at").at("over_ms"));
    }
    let over_ms = if query.over_ms == 0 { DEFAULT_MS } else { query.over_ms };
    let filter = SeriesFilter { agent: None, check: Some(query.check.clone()), metric: Some(String::new()) };
    let metas = store.series(&filter).map_err(|error| ErrorReply::from(WriterError::from(error)))?;
    if metas.is_empty() {
        let text = format!("no host has results of {}", query.check);
        return Err(ErrorReply::new(ErrorCode::NotFound, text));
    }
    let each = metas.len().div_ceil(HOSTS);
    let mut unit = None;
    let mut hosts = Vec::new();
    for meta in metas.iter().step_by(each) {
        let (agent, check) = (&meta.agent, &query.check);
        let series = Series { store, agent, check, metric: "", now_ms, deadline };
        let (of, points) = series.last(over_ms, POINTS)?;
        unit = unit.or(of);
        hosts.push(points);
    }
    let values = hosts.iter().map(Vec::len).sum::<usize>();
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Ok(Suggestions {
        hosts: count(hosts.len()),
        of: count(metas.len()),
        values: count(values),
        suggestions: candidates(&hosts, unit.as_deref()),
    })
}

/// What fits these series: one limit, what is unusual, and what fills.
#[must_use]
pub fn candidates(hosts: &[Vec<Point>], unit: Option<&str>) -> Vec<Suggestion> {
    let mut values: Vec<f64> =
        hosts.iter().flatten().map(|point| point.value).filter(|value| value.is_finite()).collect();
    if values.len() < LEAST {
        return Vec::new();
    }
    values.sort_by(f64::total_cmp);
    let percent = unit == Some("%");
    let mut all: Vec<Suggestion> = limit(&values, percent)
        .map(|(name, when, limit, why)| {
            let holds = move |value: f64| match limit {
                Side::Above(limit) => value > limit,
                Side::Below(limit) => value < limit,
                Side::Not(usual) => value.to_bits() != usual.to_bits(),
            };
            let per_host = hosts.iter().map(|points| episodes(points.iter().map(|point| holds(point.value))));
            suggestion(name, when, per_host, why)
        })
        .into_iter()
        .collect();
    let (first, last) = (quantile(&values, 0.0), quantile(&values, 1.0));
    if first < last {
        let why = "like nothing that was seen before, by the detector of each host".to_owned();
        let per_host = hosts.iter().map(|points| unusual(points));
        all.push(suggestion("unusual", format!("anomaly() > {UNUSUAL}"), per_host, why));
    }
    if percent && first < last && quantile(&values, 0.999) < FULL {
        let when = format!("time_to(\"> {FULL}\") < {AHEAD_HOURS}");
        let why = format!("a share that may fill up: at least {AHEAD_HOURS} h before {FULL} %");
        let each = hosts.len().div_ceil(TRIED_HOSTS).max(1);
        all.push(suggestion("filling", when, hosts.iter().step_by(each).map(|points| filling(points)), why));
    }
    all
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Above(f64),
    Below(f64),
    Not(f64),
}

/// The limit on the side where the values reach farther from their middle, beyond all but one in a thousand.
fn limit(values: &[f64], percent: bool) -> Option<(&'static str, String, Side, String)> {
    let (low, middle, high) = (quantile(values, 0.001), quantile(values, 0.5), quantile(values, 0.999));
    if quantile(values, 0.0).to_bits() == quantile(values, 1.0).to_bits() {
        let why = format!("all {} values were {middle}", values.len());
        return Some(("other", format!("value != {middle}"), Side::Not(middle), why));
    }
    if high - middle >= middle - low {
        let limit = round(high + 0.25 * (high - middle), f64::ceil);
        let limit = if percent { limit.min(round(high.midpoint(100.0), f64::ceil)) } else { limit };
        if percent && limit >= 100.0 {
            return None;
        }
        let why = format!("999 of 1000 values were below {high:.4}, half of them below {middle:.4}");
        return Some(("high", format!("value > {limit}"), Side::Above(limit), why));
    }
    let limit = round(low - 0.25 * (middle - low), f64::floor);
    // What never was negative will not be.
    if limit <= 0.0 && quantile(values, 0.0) >= 0.0 {
        return None;
    }
    let why = format!("999 of 1000 values were above {low:.4}, half of them above {middle:.4}");
    Some(("low", format!("value < {limit}"), Side::Below(limit), why))
}

/// To two significant figures.
fn round(number: f64, to: fn(f64) -> f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    let digits = 1 - number.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits.abs());
    if digits >= 0 { to(number * scale) / scale } else { to(number / scale) * scale }
}

fn suggestion(name: &str, when: String, per_host: impl Iterator<Item = u64>, why: String) -> Suggestion {
    let (fired, fired_hosts) =
        per_host.fold((0, 0), |(fired, hosts), n| (fired + n, hosts + u64::from(n > 0)));
    Suggestion { name: name.to_owned(), when, severity: Severity::Warning, fired, fired_hosts, why }
}

/// How often it began to hold.
fn episodes(holds: impl Iterator<Item = bool>) -> u64 {
    let mut before = false;
    holds.fold(0, |count, holds| count + u64::from(holds && !std::mem::replace(&mut before, holds)))
}

fn unusual(points: &[Point]) -> u64 {
    let mut detector = Detector::new();
    let learned = points.len() as f64 * LEARN;
    let scores = points.iter().zip(1_u32..).map(|(point, index)| {
        let score = detector.observe(point.at_ms, point.value).calibrated();
        f64::from(index) > learned && score > UNUSUAL
    });
    episodes(scores)
}

fn filling(points: &[Point]) -> u64 {
    let trials = (1..=TRIALS).map(|trial| {
        let known = points.len() / 2 + points.len() / 2 * trial / TRIALS;
        let made = time_to(points.get(..known).unwrap_or(points), Threshold::Above(FULL), DAY_MS);
        made.hours.is_some_and(|hours| hours < AHEAD_HOURS)
    });
    episodes(trials)
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl Iterator<Item = f64>) -> Vec<Point> {
        (0_u64..).zip(values).map(|(n, value)| Point::new(n * 600_000, value)).collect()
    }

    fn named<'a>(all: &'a [Suggestion], name: &str) -> &'a Suggestion {
        all.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no {name} in {all:?}"))
    }

    #[test]
    fn a_limit_is_beyond_what_was_and_says_how_often_it_would_have_fired() {
        let calm = series((0..2_000).map(|n| 10.0 + f64::from(n % 7)));
        let busy = series((0..2_000).map(|n| if n == 1_500 { 60.0 } else { 10.0 + f64::from(n % 7) }));
        let all = candidates(&[calm.clone(), busy], None);
        let high = named(&all, "high");
        assert_eq!((high.when.as_str(), high.fired, high.fired_hosts), ("value > 17", 1, 1), "{high:?}");
        let unusual = named(&all, "unusual");
        assert_eq!((unusual.when.as_str(), unusual.fired), ("anomaly() > 0.9", 1), "{unusual:?}");
        assert!(!all.iter().any(|one| one.name == "filling"));
        // Free memory: what is low is far from the middle.
        let free = series((0..2_000).map(|n| if n % 500 < 3 { 20.0 } else { 80.0 + f64::from(n % 3) }));
        let all = candidates(&[free], Some("GB"));
        assert_eq!(named(&all, "low").when, "value < 4.7");
        // A state that never changed.
        let all = candidates(&[series((0..500).map(|_| 1.0))], None);
        assert_eq!((all.len(), all[0].when.as_str(), all[0].fired), (1, "value != 1", 0));
        assert_eq!(candidates(&[series((0..50).map(f64::from))], None), []);
        assert_eq!(candidates(&[], None), []);
    }

    #[test]
    fn a_share_is_watched_before_it_is_full() {
        let filling =
            series((0..1_400).map(|n| 30.0 + 64.0 * f64::from(n) / 1_400.0 + f64::from(n % 5) * 0.01));
        let all = candidates(&[filling, series((0..1_400).map(|n| 50.0 + f64::from(n % 5)))], Some("%"));
        let one = named(&all, "filling");
        assert_eq!((one.when.as_str(), one.fired_hosts), ("time_to(\"> 95\") < 24", 1), "{one:?}");
        let high = named(&all, "high");
        assert!(
            high.when.strip_prefix("value > ").is_some_and(|n| n.parse::<f64>().unwrap() < 100.0),
            "{high:?}"
        );
    }
}
