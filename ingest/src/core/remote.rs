//! Results as Prometheus remote write takes them: series with labels, samples in order of time, requests of a bounded
//! size; and what an answer to one of these means.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use protocol::{AgentId, CheckResult, Scalar};

use super::naming::{Named, STATUS, VALUE, status_number};
use crate::store::{SeriesId, SeriesMeta};

/// Longest `Retry-After` that is followed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Samples of one series, oldest first, none of the same moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// By name.
    pub labels: promql::Labels,
    /// Milliseconds since 1970, and the number.
    pub samples: Vec<(i64, f64)>,
}

/// Agent, check, metric, unit, name: what a series is found by while a batch is sorted.
type Key<'a> = (&'a str, &'a str, &'a str, &'a str, &'static str);

/// The samples of a batch, with the labels that the PromQL endpoint gives them. Of one moment the last counts.
#[must_use]
pub fn series<'a>(
    results: impl IntoIterator<Item = &'a CheckResult>,
    hosts: &HashMap<AgentId, BTreeMap<String, String>>,
) -> Vec<Series> {
    let mut places: HashMap<Key<'a>, usize> = HashMap::new();
    let mut all: Vec<Series> = Vec::new();
    for result in results {
        let at_ms = i64::try_from(result.at_ms).unwrap_or(i64::MAX);
        let mut add = |name, metric: &'a str, unit: Option<&'a str>, value: f64| {
            let key = (result.agent.as_str(), result.check.as_str(), metric, unit.unwrap_or_default(), name);
            let place = *places.entry(key).or_insert_with(|| {
                let meta = SeriesMeta {
                    // Not one of the store.
                    id: SeriesId { results: 0, metric: 0 },
                    agent: result.agent.clone(),
                    check: result.check.clone(),
                    metric: metric.to_owned(),
                    unit: unit.map(str::to_owned),
                };
                let labels = Named { name, meta: &meta, host: hosts.get(&result.agent) }.labels();
                all.push(Series { labels, samples: Vec::new() });
                all.len() - 1
            });
            if let Some(series) = all.get_mut(place) {
                series.samples.push((at_ms, value));
            }
        };
        add(STATUS, "", None, status_number(result.status));
        if let Some(value) = result.value.as_ref().and_then(Scalar::as_f64) {
            add(VALUE, "", result.unit.as_deref(), value);
        }
        for metric in &result.metrics {
            add(VALUE, &metric.name, metric.unit.as_deref(), metric.value);
        }
    }
    for series in &mut all {
        series.samples.sort_by_key(|(at_ms, _)| *at_ms);
        series.samples.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                *kept = *later;
            }
            same
        });
    }
    all
}

/// How many samples there are.
#[must_use]
pub fn count(series: &[Series]) -> usize {
    series.iter().map(|series| series.samples.len()).sum()
}

/// The same samples as requests of at most `limit` samples, those of a series still in order.
#[must_use]
pub fn requests(series: Vec<Series>, limit: usize) -> Vec<Vec<Series>> {
    let limit = limit.max(1);
    let (mut requests, mut request, mut held) = (Vec::new(), Vec::new(), 0);
    for Series { labels, mut samples } in series {
        while !samples.is_empty() {
            let rest = samples.split_off(samples.len().min(limit - held));
            held += samples.len();
            request.push(Series { labels: labels.clone(), samples });
            samples = rest;
            if held == limit {
                requests.push(std::mem::take(&mut request));
                held = 0;
            }
        }
    }
    if !request.is_empty() {
        requests.push(request);
    }
    requests
}

/// Two halves, earlier samples first; `None` for a single sample.
#[must_use]
pub fn halves(mut series: Vec<Series>) -> Option<(Vec<Series>, Vec<Series>)> {
    if series.len() > 1 {
        let second = series.split_off(series.len() / 2);
        return Some((series, second));
    }
    let Series { labels, mut samples } = series.pop()?;
    if samples.len() < 2 {
        return None;
    }
    let later = samples.split_off(samples.len() / 2);
    Some((vec![Series { labels: labels.clone(), samples }], vec![Series { labels, samples: later }]))
}

/// What a receiver's answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Taken,
    /// Not now: try again, after so long if it says so.
    Later(Option<Duration>),
    /// Something in the request is refused, perhaps not all of it.
    Part,
    /// All of it is refused, and would be each time.
    Never,
}

impl Answer {
    /// `retry_after` as the header has it.
    #[must_use]
    pub fn of(status: u16, retry_after: Option<&str>) -> Self {
        match status {
            200..=299 => Self::Taken,
            // One sample that is too old makes Prometheus refuse the request that it came in; others refuse by size.
            400 | 413 | 422 => Self::Part,
            429 => Self::Later(seconds(retry_after)),
            401..=499 => Self::Never,
            _ => Self::Later(seconds(retry_after)),
        }
    }
}

/// Its form as a date is rare and not understood.
fn seconds(retry_after: Option<&str>) -> Option<Duration> {
    let seconds = retry_after?.trim().parse().ok().map(Duration::from_secs)?;
    Some(seconds.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn result(json: &str) -> CheckResult {
        protocol::decode(format!(r#"{{"v":1,"agent":"web-01","check":"disk",{json}}}"#).as_bytes(), 10_000)
            .unwrap()
    }

    #[test]
    fn results_become_series_as_the_query_endpoint_names_them() {
        let hosts = HashMap::from([(
            AgentId::new("web-01").unwrap(),
            BTreeMap::from([("role".to_owned(), "web".to_owned())]),
        )]);
        let results = [
            result(
                r#""at_ms":20,"status":"warning","value":2.5,"unit":"%","metrics":[{"name":"/var","value":7,"unit":"B"}]"#,
            ),
            result(r#""at_ms":10,"status":"ok","value":"text""#),
            result(r#""at_ms":20,"status":"critical","value":true,"unit":"%""#),
        ];
        let found = series(&results, &hosts);
        let shown: Vec<String> =
            found.iter().map(|series| format!("{} {:?}", series.labels, series.samples)).collect();
        assert_eq!(
            shown,
            [
                r#"{__name__="dogwatch_status", agent="web-01", check="disk", role="web"} [(10, 0.0), (20, 2.0)]"#,
                r#"{__name__="dogwatch_value", agent="web-01", check="disk", role="web", unit="%"} [(20, 1.0)]"#,
                r#"{__name__="dogwatch_value", agent="web-01", check="disk", metric="/var", role="web", unit="B"} [(20, 7.0)]"#,
            ]
        );
        assert_eq!(count(&found), 4);
    }

    #[test]
    fn an_answer_says_whether_to_try_again() {
        let wait = |seconds| Answer::Later(Some(Duration::from_secs(seconds)));
        for (status, header, expected) in [
            (200, None, Answer::Taken),
            (204, None, Answer::Taken),
            (400, None, Answer::Part),
            (401, None, Answer::Never),
            (404, Some("3"), Answer::Never),
            (413, None, Answer::Part),
            (429, Some("7"), wait(7)),
            (429, Some("Fri, 01 Jan 2027 00:00:00 GMT"), Answer::Later(None)),
            (500, None, Answer::Later(None)),
            (503, Some(" 99999999 "), wait(300)),
            (302, None, Answer::Later(None)),
        ] {
            assert_eq!(Answer::of(status, header), expected, "{status} {header:?}");
        }
    }

    fn some(sizes: &[usize]) -> Vec<Series> {
        let one = |(index, size): (usize, &usize)| Series {
            labels: [("n", index.to_string().as_str())].into_iter().collect(),
            samples: (0..*size).map(|n| (n as i64, 0.0)).collect(),
        };
        sizes.iter().enumerate().map(one).collect()
    }

    /// All samples, by series, in the order in which they would be sent.
    fn sent(requests: &[Vec<Series>]) -> BTreeMap<String, Vec<i64>> {
        let mut sent: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for series in requests.iter().flatten() {
            let times = series.samples.iter().map(|(at_ms, _)| *at_ms);
            sent.entry(series.labels.to_string()).or_default().extend(times);
        }
        sent
    }

    proptest! {
        #[test]
        fn requests_and_halves_hold_every_sample_once_and_in_order(sizes in proptest::collection::vec(1usize..20, 1..8), limit in 1usize..15) {
            let all = some(&sizes);
            let expected = sent(std::slice::from_ref(&all));
            let whole = requests(all.clone(), limit);
            prop_assert!(whole.iter().all(|request| (1..=limit).contains(&count(request))));
            prop_assert_eq!(&sent(&whole), &expected);
            // Halved down to single samples, as a receiver that refuses all would have it.
            let (mut todo, mut single) = (vec![all], Vec::new());
            while let Some(part) = todo.pop() {
                match halves(part.clone()) {
                    Some((first, second)) => todo.extend([second, first]),
                    None => single.push(part),
                }
            }
            prop_assert!(single.iter().all(|part| count(part) == 1));
            prop_assert_eq!(&sent(&single), &expected);
        }
    }
}
