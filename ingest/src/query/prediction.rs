//! What comes next, what was unusual, and who is unlike the others: the crate `predict` over what is stored.

use std::{sync::Arc, time::Instant};

use predict::{
    Point,
    anomaly::Detector,
    forecast::{Bounds, MAX_HORIZON_MS, forecast},
    outlier::outliers,
    time_to::{self, Course, Threshold, time_to},
};
use protocol::{
    AgentId, CheckName, ErrorCode, ErrorReply,
    predict::{
        Anomaly, Forecast, Limit, OUTLIER_HOSTS, Outlier, OutlierList, OutlierQuery, PredictQuery,
        Prediction, Step, TimeTo, Value,
    },
    series::{SeriesHistory, SeriesQuery},
};

use super::history;
use crate::store::ResultStore;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// As many values as a forecast looks at.
const FORECAST_POINTS: usize = 1_000;
/// Two weeks of quarter hours: as many values as a time to a limit looks at.
const TIME_TO_POINTS: usize = 1_344;
const TIME_TO_RANGE_MS: u64 = 14 * DAY_MS;
/// Longest history that is given.
const HISTORY_MS: u64 = 60 * DAY_MS;
/// Values of a history that is drawn.
const DRAWN: usize = 500;
/// A detector learns this long before it says what was unusual, over so many values.
const LEARN_MS: u64 = 14 * DAY_MS;
const LEARN_POINTS: usize = 11_000;
/// From this score on a value is told as unusual.
const UNUSUAL: f64 = 0.5;
/// Most unusual values of one answer: the last.
const ANOMALIES: usize = 500;
/// The time that hosts are compared over, at most and where none is given, and the cells that it is cut in: the
/// finest in which most hosts have a value in nearly all.
const COMPARED_MS: u64 = 14 * DAY_MS;
const CELLS: [usize; 5] = [288, 144, 96, 48, 24];
const FILLED: f64 = 0.8;

/// # Errors
/// `invalid`, `not_found`, or what the store says.
pub fn predict(
    store: &Arc<dyn ResultStore>,
    query: &PredictQuery,
    now_ms: u64,
    deadline: Instant,
) -> Result<Prediction, ErrorReply> {
    if query.horizon_ms > MAX_HORIZON_MS {
        return Err(ErrorReply::invalid("a forecast reaches 14 days ahead at most").at("horizon_ms"));
    }
    if query.history_ms > HISTORY_MS {
        return Err(ErrorReply::invalid("at most 60 days of history are given").at("history_ms"));
    }
    let PredictQuery { agent, check, metric, .. } = query;
    let series = Series { store, agent, check, metric, now_ms, deadline };
    let mut answer = Prediction::default();
    if query.history_ms > 0 {
        let (unit, points) = series.last(query.history_ms, DRAWN)?;
        answer.unit = unit;
        answer.history = points.iter().map(|p| Value { at_ms: p.at_ms, value: p.value }).collect();
        let (_, learned) = series.last(query.history_ms.saturating_add(LEARN_MS), LEARN_POINTS)?;
        answer.anomalies = unusual(&learned, now_ms.saturating_sub(query.history_ms));
    }
    if query.horizon_ms > 0 {
        let (unit, points) = series.fitting(range(query.horizon_ms), FORECAST_POINTS)?;
        answer.forecast = Some(ahead(&points, query.horizon_ms, now_ms, unit.as_deref()));
        answer.unit = unit;
    }
    if let Some(limit) = query.limit {
        let (unit, points) = series.fitting(TIME_TO_RANGE_MS, TIME_TO_POINTS)?;
        answer.unit = unit;
        answer.time_to = Some(until(&points, limit, now_ms));
    }
    Ok(answer)
}

/// What is looked back at for a forecast: long enough for its seasons, short enough for its steps.
fn range(horizon_ms: u64) -> u64 {
    match () {
        () if horizon_ms <= HOUR_MS => 2 * DAY_MS,
        () if horizon_ms <= 2 * DAY_MS => 15 * DAY_MS,
        () => 35 * DAY_MS,
    }
}

/// One number of one check.
pub(super) struct Series<'a> {
    pub(super) store: &'a Arc<dyn ResultStore>,
    pub(super) agent: &'a AgentId,
    pub(super) check: &'a CheckName,
    pub(super) metric: &'a str,
    pub(super) now_ms: u64,
    pub(super) deadline: Instant,
}

impl Series<'_> {
    fn ask(&self, from_ms: u64, points: usize) -> Result<SeriesHistory, ErrorReply> {
        let query = SeriesQuery {
            agent: self.agent.clone(),
            check: self.check.clone(),
            metric: self.metric.to_owned(),
            from_ms,
            until_ms: self.now_ms.saturating_add(1),
            points,
        };
        history::series(self.store, query, self.deadline)
    }

    /// At most so many values of the last time, with their unit.
    pub(super) fn last(
        &self,
        range_ms: u64,
        points: usize,
    ) -> Result<(Option<String>, Vec<Point>), ErrorReply> {
        let found = self.ask(self.now_ms.saturating_sub(range_ms), points)?;
        Ok((found.unit.clone(), self.points(&found)))
    }

    /// As [`Self::last`], as fine as it can be where the series is younger than the range.
    fn fitting(&self, range_ms: u64, points: usize) -> Result<(Option<String>, Vec<Point>), ErrorReply> {
        let from_ms = self.now_ms.saturating_sub(range_ms);
        let mut found = self.ask(from_ms, points)?;
        let first_ms = found.points.iter().find(|point| point.mean.is_some()).map(|point| point.at_ms);
        if let Some(first_ms) = first_ms.filter(|first| *first > from_ms.saturating_add(range_ms / 2)) {
            found = self.ask(first_ms, points)?;
        }
        Ok((found.unit.clone(), self.points(&found)))
    }

    /// A mean stands in the middle of its time.
    fn points(&self, found: &SeriesHistory) -> Vec<Point> {
        let middle = |at_ms: u64| at_ms.saturating_add(found.width_ms / 2).min(self.now_ms.max(at_ms));
        let points = found.points.iter();
        points.filter_map(|point| Some(Point::new(middle(point.at_ms), point.mean?))).collect()
    }
}

fn unusual(points: &[Point], from_ms: u64) -> Vec<Anomaly> {
    let mut detector = Detector::new();
    let mut found = Vec::new();
    for point in points {
        let said = detector.observe(point.at_ms, point.value);
        let score = said.calibrated();
        if point.at_ms >= from_ms && score >= UNUSUAL {
            let why = said.explanation.to_string();
            found.push(Anomaly { at_ms: point.at_ms, value: point.value, score, why });
        }
    }
    found.split_off(found.len().saturating_sub(ANOMALIES))
}

fn last_ms(points: &[Point]) -> Option<u64> {
    points.iter().map(|point| point.at_ms).max()
}

/// The horizon counts from now, not from the last value.
fn ahead(points: &[Point], horizon_ms: u64, now_ms: u64, unit: Option<&str>) -> Forecast {
    let old_ms = last_ms(points).map_or(0, |last| now_ms.saturating_sub(last));
    let bounds = match unit {
        Some("%") => Bounds { lowest: Some(0.0), highest: Some(100.0) },
        _ => Bounds::default(),
    };
    let made = forecast(points, horizon_ms.saturating_add(old_ms), bounds);
    let steps = made.steps.iter();
    let steps = steps.map(|s| Step { at_ms: s.at_ms, value: s.value, lower: s.lower, upper: s.upper });
    Forecast { steps: steps.collect(), why: made.explanation.to_string() }
}

fn until(points: &[Point], limit: Limit, now_ms: u64) -> TimeTo {
    let threshold = match limit {
        Limit::Above(number) => Threshold::Above(number),
        Limit::Below(number) => Threshold::Below(number),
    };
    let made = time_to(points, threshold, time_to::MAX_HORIZON_MS);
    let gone = last_ms(points).map_or(0.0, |last| now_ms.saturating_sub(last) as f64 / HOUR_MS as f64);
    let from_now = |hours: Option<f64>| hours.map(|hours| (hours - gone).max(0.0));
    TimeTo {
        limit,
        hours: from_now(made.hours),
        earliest: from_now(made.earliest),
        latest: from_now(made.latest),
        unknown: made.explanation.course == Course::Unknown,
        why: made.explanation.to_string(),
    }
}

/// # Errors
/// `invalid`, or what the store says.
pub fn compare(
    store: &Arc<dyn ResultStore>,
    query: &OutlierQuery,
    now_ms: u64,
    deadline: Instant,
) -> Result<OutlierList, ErrorReply> {
    if query.agents.len() > OUTLIER_HOSTS {
        return Err(ErrorReply::invalid(format!("at most {OUTLIER_HOSTS} hosts are compared")).at("agents"));
    }
    if query.over_ms > COMPARED_MS {
        return Err(ErrorReply::invalid("at most 14 days are compared").at("over_ms"));
    }
    let over_ms = if query.over_ms == 0 { DAY_MS } else { query.over_ms };
    let from_ms = now_ms.saturating_sub(over_ms);
    let [finest, ..] = CELLS;
    let mut hosts = Vec::with_capacity(query.agents.len());
    for agent in &query.agents {
        let series = Series { store, agent, check: &query.check, metric: &query.metric, now_ms, deadline };
        match series.ask(from_ms, finest) {
            Ok(found) => hosts.push(series.points(&found)),
            // A host that has nothing yet is compared with nobody.
            Err(error) if error.code == ErrorCode::NotFound => hosts.push(Vec::new()),
            Err(error) => return Err(error),
        }
    }
    let verdicts = outliers(&even(&hosts, from_ms, over_ms));
    let hosts = query.agents.iter().zip(verdicts).map(|(agent, verdict)| Outlier {
        agent: agent.clone(),
        score: verdict.score,
        way: verdict.way.map(|way| way.as_str().to_owned()),
        why: verdict.explanation.to_string(),
    });
    Ok(OutlierList { hosts: hosts.collect() })
}

/// The hosts' values in cells that all share; NaN where a host has none.
fn even(hosts: &[Vec<Point>], from_ms: u64, over_ms: u64) -> Vec<Vec<f64>> {
    let mut cells = Vec::new();
    for count in CELLS {
        cells = hosts.iter().map(|points| row(points, from_ms, over_ms, count)).collect();
        let mut filled: Vec<usize> = cells.iter().map(|row| has(row)).filter(|n| *n > 0).collect();
        filled.sort_unstable();
        let enough = |n: usize| n as f64 >= FILLED * count as f64;
        if filled.get(filled.len() / 2).is_some_and(|n| enough(*n)) {
            break;
        }
    }
    cells
}

fn has(row: &[f64]) -> usize {
    row.iter().filter(|value| value.is_finite()).count()
}

fn row(points: &[Point], from_ms: u64, over_ms: u64, count: usize) -> Vec<f64> {
    let width = (over_ms / u64::try_from(count).unwrap_or(1)).max(1);
    let mut cells = vec![(0.0, 0.0); count];
    for point in points {
        let place = usize::try_from(point.at_ms.saturating_sub(from_ms) / width).unwrap_or(usize::MAX);
        if let Some((sum, number)) = cells.get_mut(place) {
            *sum += point.value;
            *number += 1.0;
        }
    }
    cells.into_iter().map(|(sum, number)| sum / number).collect()
}
