//! The store as PromQL sees it.

use std::{sync::Arc, time::Instant};

use promql::{Error, Matcher, Meter, Sample, Selection, Series, Source};
use protocol::{AgentId, CheckName};

use crate::{
    core::naming::{Named, STATUS, VALUE, status_number},
    outbound::hosts::HostLabels,
    store::{ResultStore, SeriesFilter, SeriesMeta, Span, StoreError},
};

/// What one query reads from.
pub struct StoreSource {
    pub store: Arc<dyn ResultStore>,
    pub hosts: Arc<HostLabels>,
    pub deadline: Instant,
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
        let Some(filter) = filter(matchers) else { return Ok(()) };
        let metas = self.store.series(&filter).map_err(|error| self.error(&error))?;
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
            error => {
                tracing::error!(error = service_kit::report(error), "results cannot be read for a query");
                Error::Internal("the stored results cannot be read: the log of ingest has the reason".into())
            }
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
            meter.work(100)?;
            if !samples.is_empty() {
                found.push(Series { labels: named.labels(), samples });
            }
            Ok(())
        })?;
        Ok(found)
    }
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
