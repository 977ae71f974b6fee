//! Prometheus' HTTP API, but for HTTP: an endpoint and its parameters to a status and a body.

use std::{
    cell::Cell,
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use promql::{Error, Limits, Matcher, Meter, Query, Semantics, Stop, evaluate, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::source::{StoreSource, unreadable};
use crate::{
    core::{naming, parameters::Parameters},
    outbound::hosts::HostLabels,
    settings::Settings,
    store::{Resolution, ResultStore},
};

/// How old a sample may be to count as current: Prometheus' default.
const LOOKBACK_MS: i64 = 300_000;

/// For Grafana, which asks for the version to know what it may ask for.
const BUILD: &str = concat!(
    r#"{"status":"success","data":{"version":"3.0.0","revision":"dogwatch "#,
    env!("CARGO_PKG_VERSION"),
    r#"","branch":"","buildUser":"","buildDate":"","goVersion":"","features":{}}}"#
);

/// Everything that answers need.
#[derive(Clone)]
pub struct Prometheus {
    store: Arc<dyn ResultStore>,
    hosts: watch::Receiver<Arc<HostLabels>>,
    timeout: Duration,
    samples: u64,
    series: usize,
    stop: CancellationToken,
}

impl Prometheus {
    #[must_use]
    pub fn new(
        store: Arc<dyn ResultStore>,
        hosts: watch::Receiver<Arc<HostLabels>>,
        settings: &Settings,
        stop: CancellationToken,
    ) -> Self {
        let Settings { query_timeout: timeout, query_samples: samples, query_series: series, .. } = *settings;
        Self { store, hosts, timeout, samples, series, stop }
    }

    /// Status and body. Blocks while it reads and computes, at most for the timeout.
    #[must_use]
    pub fn answer(
        &self,
        endpoint: &str,
        parameters: &Parameters<'_>,
        now_ms: u64,
        canceled: &CancellationToken,
    ) -> (u16, String) {
        match self.find(endpoint, parameters, now_ms, canceled) {
            Ok(body) => (200, body),
            Err(Refusal::NoEndpoint) => {
                (404, json::refusal("not_found", &format!("there is no endpoint {endpoint:?} here")))
            }
            Err(Refusal::Error(error)) => (error.status(), json::error(&error)),
        }
    }

    fn find(
        &self,
        endpoint: &str,
        parameters: &Parameters<'_>,
        now_ms: u64,
        canceled: &CancellationToken,
    ) -> Result<String, Refusal> {
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let timeout = parameters.duration("timeout")?.and_then(|ms| u64::try_from(ms).ok());
        let timeout = timeout.map_or(self.timeout, |ms| self.timeout.min(Duration::from_millis(ms)));
        let deadline = Instant::now() + timeout;
        let hosts = Arc::clone(&self.hosts.borrow());
        let store = Arc::clone(&self.store);
        let horizon = store.horizon().map_err(|error| unreadable(&error))?;
        let source = StoreSource { store, hosts, deadline, now_ms, horizon, rolled: Cell::default() };
        let stop = || {
            if self.stop.is_cancelled() || canceled.is_cancelled() {
                Some(Stop::Canceled)
            } else {
                (Instant::now() >= deadline).then_some(Stop::TimedOut)
            }
        };
        let meter = Meter::new(Limits { samples: self.samples, series: self.series, stop: &stop });
        Ok(match endpoint {
            "query" => {
                let start_ms = parameters.time("time")?.unwrap_or(now_ms);
                query(parameters, &source, &meter, start_ms, start_ms, None)?
            }
            "query_range" => {
                let time = |name: &str| {
                    let missing = || Error::BadData(format!("invalid parameter \"{name}\": it is missing"));
                    parameters.time(name)?.ok_or_else(missing)
                };
                let (start_ms, end_ms) = (time("start")?, time("end")?);
                let step = parameters.duration("step")?;
                let step =
                    step.ok_or_else(|| Error::BadData("invalid parameter \"step\": it is missing".into()))?;
                query(parameters, &source, &meter, start_ms, end_ms, Some(step))?
            }
            "labels" => {
                let mut names = BTreeSet::new();
                each(&source, &meter, &parameters.selectors()?, |named| {
                    names.extend(named.labels().iter().map(|(name, _)| name.to_owned()));
                })?;
                json::texts(names.iter().map(String::as_str))
            }
            "series" => {
                let selectors = parameters.selectors()?;
                if selectors.is_empty() {
                    return Err(Error::BadData("no match[] parameter provided".into()).into());
                }
                let mut sets = BTreeSet::new();
                each(&source, &meter, &selectors, |named| {
                    sets.insert(named.labels());
                })?;
                json::label_sets(&sets)
            }
            "metadata" => naming::metadata(),
            "status/buildinfo" => BUILD.to_owned(),
            _ => {
                let label = endpoint.strip_prefix("label/").and_then(|rest| rest.strip_suffix("/values"));
                let label = label.filter(|label| !label.is_empty() && !label.contains('/'));
                let label = label.ok_or(Refusal::NoEndpoint)?;
                let mut values = BTreeSet::new();
                each(&source, &meter, &parameters.selectors()?, |named| {
                    values.insert(named.get(label).to_owned());
                })?;
                values.remove("");
                json::texts(values.iter().map(String::as_str))
            }
        })
    }
}

enum Refusal {
    NoEndpoint,
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn query(
    parameters: &Parameters<'_>,
    source: &StoreSource,
    meter: &Meter<'_>,
    start_ms: i64,
    end_ms: i64,
    step_ms: Option<i64>,
) -> Result<String, Error> {
    let expression = promql::parse(parameters.text("query")?)?;
    let semantics = Semantics::Prometheus3;
    let query = Query { start_ms, end_ms, step_ms, lookback_ms: LOOKBACK_MS, semantics };
    let answer = evaluate(&expression, &query, source, meter)?;
    let warning = source.rolled.get().map(|resolution| {
        let width = if resolution == Resolution::Hour { "an hour" } else { "five minutes" };
        format!(
            "some of these times lie before the results that are kept one by one: roll-ups of {width} stand for them"
        )
    });
    Ok(json::answer(&answer, warning.as_slice()))
}

/// Every series that one of `selectors` names; without any, all.
fn each(
    source: &StoreSource,
    meter: &Meter<'_>,
    selectors: &[Vec<Matcher>],
    mut note: impl FnMut(naming::Named<'_>),
) -> Result<(), Error> {
    let all = [Vec::new()];
    let mut seen = 0_usize;
    for matchers in if selectors.is_empty() { &all } else { selectors } {
        source.matching(matchers, |named| {
            seen = seen.saturating_add(1);
            meter.series(seen)?;
            meter.work(100)?;
            note(named);
            Ok(())
        })?;
    }
    Ok(())
}
