//! The store as PromQL sees it.

use std::{cell::Cell, sync::Arc, time::Instant};

use promql::{Error, Matcher, Meter, Sample, Selection, Series, Source, Want};
use protocol::{AgentId, CheckName};

use crate::{
    core::naming::{self, Named, STATUS, VALUE, status_number},
    outbound::hosts::HostLabels,
    store::{Horizon, Part, Point, Resolution, ResultStore, SeriesFilter, SeriesMeta, Span, StoreError},
};

/// What one query reads from.
pub struct StoreSource {
    pub store: Arc<dyn ResultStore>,
    pub hosts: Arc<HostLabels>,
    pub deadline: Instant,
    pub now_ms: i64,
    pub horizon: Horizon,
    /// The coarsest roll-ups that were read.
    pub rolled: Cell<Option<Resolution>>,
}

impl StoreSource {
    /// Call `each` with every series that fits, in no order.
    ///
    /// # Errors
    /// What `each` says, or [`Error::Internal`].
    pub fn matching(
        &self,
        matchers: &[Matcher],
        mut each: impl FnMut(Named<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let metas = self.metas(matchers).map_err(|error| self.error(&error))?;
        for meta in &metas {
            let host = self.hosts.get(&meta.agent);
            for name in names(meta) {
                let named = Named { name, meta, host };
                if matchers.iter().all(|matcher| matcher.matches(named.get(matcher.name()))) {
                    each(named)?;
                }
            }
        }
        Ok(())
    }

    fn metas(&self, matchers: &[Matcher]) -> Result<Vec<SeriesMeta>, StoreError> {
        let Some(filter) = filter(matchers) else { return Ok(Vec::new()) };
        if filter.agent.is_some() {
            return self.store.series(&filter);
        }
        let fits = |name: &str, value: &str| {
            matchers.iter().filter(|matcher| matcher.name() == name).all(|matcher| matcher.matches(value))
        };
        self.store.find_series(&|part| match part {
            Part::Agent(agent) => fits("agent", agent.as_str()) && self.host_fits(agent, matchers),
            Part::Check(check) => fits("check", check.as_str()),
            Part::Metric(metric) => fits("metric", metric),
        })
    }

    fn host_fits(&self, agent: &AgentId, matchers: &[Matcher]) -> bool {
        let host = self.hosts.get(agent);
        let value = |name: &str| host.and_then(|host| host.get(name)).map_or("", String::as_str);
        let of_host = |matcher: &&Matcher| !naming::is_own(matcher.name());
        matchers.iter().filter(of_host).all(|matcher| matcher.matches(value(matcher.name())))
    }

    /// Roll-ups, where some of the range lies before the results that are kept one by one.
    fn resolution(&self, selection: &Selection<'_>) -> Option<Resolution> {
        let from_ms = u64::try_from(selection.from_ms.max(0)).unwrap_or_default();
        if from_ms >= self.horizon.results_ms {
            None
        } else if from_ms >= self.horizon.five_minutes_ms {
            Some(Resolution::FiveMinutes)
        } else {
            Some(Resolution::Hour)
        }
    }

    fn read_points(
        &self,
        named: &Named<'_>,
        (span, resolution, want): (Span, Resolution, Want),
        meter: &Meter<'_>,
    ) -> Result<Vec<Sample>, Error> {
        // From the one on that ends within the range.
        let from_ms = resolution.start(span.from_ms.saturating_sub(resolution.millis() - 1));
        let span = Span { from_ms, ..span };
        let points = match self.store.points(named.meta.id, &span, resolution) {
            Ok(points) => points,
            Err(StoreError::TooMuch) if Instant::now() < self.deadline => {
                meter.spend(usize::MAX)?;
                return Ok(Vec::new());
            }
            Err(error) => return Err(self.error(&error)),
        };
        meter.spend(points.len())?;
        let until_ms = i64::try_from(span.until_ms.saturating_sub(1)).unwrap_or(i64::MAX);
        let width = i64::try_from(resolution.millis()).unwrap_or(i64::MAX);
        let sample = |point: &Point| {
            let value = naming::rolled(named.name, point, want)?;
            let start = i64::try_from(point.at_ms).unwrap_or(i64::MAX);
            // A point counts where it ends; the one that is not over yet, now.
            let end = start.saturating_add(width).saturating_sub(1);
            let t_ms = if end > self.now_ms { end.min(until_ms).max(start) } else { end };
            Some(Sample { t_ms, value })
        };
        Ok(points.iter().filter_map(sample).filter(|sample| sample.t_ms <= until_ms).collect())
    }

    fn read(
        &self,
        named: &Named<'_>,
        selection: &Selection<'_>,
        meter: &Meter<'_>,
    ) -> Result<Vec<Sample>, Error> {
        let moment = |ms: i64| u64::try_from(ms.max(0)).unwrap_or_default();
        let span = Span {
            from_ms: moment(selection.from_ms),
            until_ms: moment(selection.until_ms.saturating_add(1)),
            limit: usize::try_from(meter.left()).unwrap_or(usize::MAX),
            deadline: self.deadline,
        };
        if let Some(resolution) = self.resolution(selection) {
            self.rolled.set(self.rolled.get().max(Some(resolution)));
            return self.read_points(named, (span, resolution, selection.want), meter);
        }
        let stored = match self.store.samples(named.meta.id, &span) {
            Ok(stored) => stored,
            // More than may be read: the meter says so in its own words.
            Err(StoreError::TooMuch) if Instant::now() < self.deadline => {
                meter.spend(usize::MAX)?;
                return Ok(Vec::new());
            }
            Err(error) => return Err(self.error(&error)),
        };
        meter.spend(stored.len())?;
        let mut samples: Vec<Sample> = Vec::with_capacity(stored.len());
        for sample in stored {
            let value = if named.name == STATUS { status_number(sample.status) } else { sample.value };
            // No number was measured: a text, or nothing.
            if value.is_nan() {
                continue;
            }
            let sample = Sample { t_ms: i64::try_from(sample.at_ms).unwrap_or(i64::MAX), value };
            match samples.last_mut() {
                // Of one moment the last that was stored counts.
                Some(last) if last.t_ms == sample.t_ms => *last = sample,
                _ => samples.push(sample),
            }
        }
        Ok(samples)
    }

    fn error(&self, error: &StoreError) -> Error {
        match error {
            StoreError::TooMuch => Error::Timeout,
            error => unreadable(error),
        }
    }
}

impl Source for StoreSource {
    fn select(&self, selection: &Selection<'_>, meter: &Meter<'_>) -> Result<Vec<Series>, Error> {
        let mut found = Vec::new();
        if selection.until_ms < 0 {
            return Ok(found);
        }
        self.matching(selection.matchers, |named| {
            meter.series(found.len().saturating_add(1))?;
            let samples = self.read(&named, selection, meter)?;
            // Each may be megabytes on the disk: whoever waits no more is noticed soon.
            meter.work(5_000)?;
            if !samples.is_empty() {
                found.push(Series { labels: named.labels(), samples });
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn width(&self, selection: &Selection<'_>) -> Result<Option<i64>, Error> {
        let width = self.resolution(selection).map(Resolution::millis);
        Ok(width.map(|width| i64::try_from(width).unwrap_or(i64::MAX)))
    }
}

pub(super) fn unreadable(error: &StoreError) -> Error {
    tracing::error!(error = service_kit::report(error), "results cannot be read for a query");
    Error::Internal("the stored results cannot be read: the log of ingest has the reason".into())
}

/// The metrics that a stored series stands for: a verdict goes with the result's own value.
fn names(meta: &SeriesMeta) -> impl Iterator<Item = &'static str> {
    let status = meta.metric.is_empty().then_some(STATUS);
    [VALUE].into_iter().chain(status)
}

/// What of `matchers` the store can look up; `None` when nothing can match.
fn filter(matchers: &[Matcher]) -> Option<SeriesFilter> {
    let mut filter = SeriesFilter::default();
    for matcher in matchers {
        let Some(value) = matcher.only_value() else { continue };
        match matcher.name() {
            "agent" => filter.agent = Some(AgentId::new(value).ok()?),
            "check" => filter.check = Some(CheckName::new(value).ok()?),
            "metric" => filter.metric = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(filter)
}
