//! What the engine does about predictions: keeps what detectors learned, says what is to be asked, takes answers.

use protocol::{
    AgentId, CheckName, GroupName, alert::Alert, attend, duration::millis, predict::OUTLIER_HOSTS,
};

use super::{Engine, gauge, steady_ms};
use crate::{
    core::{
        Predictions,
        predict::{DetectorKey, Detectors, Forecasts, Moment, Outcome, Predicted, Question},
    },
    settings::PredictSettings,
    store::{Store, StoreError},
};

/// Most detectors saved at once: a write of about two megabytes.
const SAVED_AT_ONCE: usize = 512;
/// The mark from which on results are read again is moved when it is older than this.
const MARK_EVERY_MS: u64 = 30_000;

/// The broker's clock, which the mark is held against, may be so far behind ours.
const CLOCKS_MS: u64 = 600_000;

/// How far detectors are saved.
#[derive(Debug)]
pub(super) struct Saving {
    every_ms: u64,
    since_ms: Option<u64>,
}

pub(super) fn restored(
    store: &Store,
    settings: &PredictSettings,
) -> Result<(Predictions, Saving), StoreError> {
    let saved = store.detectors()?;
    if saved.unreadable > 0 {
        let count = saved.unreadable;
        tracing::warn!(
            count,
            "detectors were saved in a form that this version does not know; they begin anew"
        );
    }
    let detectors = Detectors::new(settings.detectors, saved.all);
    let forecasts = Forecasts::new(settings.pace());
    let saving = Saving { every_ms: millis(settings.detectors_save_every), since_ms: saved.since_ms };
    Ok((Predictions { detectors, forecasts }, saving))
}

impl Engine {
    /// What detectors learned from results published from this moment on is not saved. `None`: nothing ever was.
    #[must_use]
    pub fn unsaved_since_ms(&self) -> Option<u64> {
        self.saving.since_ms
    }

    /// Before anything is learned for the first time: a crash right after it needs a mark, too.
    pub(super) fn first_mark(&mut self, now_ms: u64) -> Result<(), StoreError> {
        if self.saving.since_ms.is_none() && self.book.detects() {
            let since_ms = Some(now_ms.saturating_sub(CLOCKS_MS));
            self.store.save_detectors(&[], &[], since_ms)?;
            self.saving.since_ms = since_ms;
        }
        Ok(())
    }

    /// Save detectors of which something is unsaved for too long, or all that there are. `true`: some are left.
    ///
    /// # Errors
    /// [`StoreError`]; they are saved when this is called again.
    pub fn save_detectors(&mut self, all: bool) -> Result<bool, StoreError> {
        let now_ms = steady_ms(self.started);
        let Self { store, alerts, saving, .. } = self;
        let detectors = &mut alerts.predictions.detectors;
        let before_ms = if all { Some(u64::MAX) } else { now_ms.checked_sub(saving.every_ms) };
        // From before this round, so that it is true wherever a crash falls.
        let since_ms = detectors.unsaved_since_ms();
        let due = before_ms.map(|before_ms| detectors.unsaved(before_ms, SAVED_AT_ONCE)).unwrap_or_default();
        let moved = match (saving.since_ms, since_ms) {
            (Some(old), Some(new)) => new.saturating_sub(old) > MARK_EVERY_MS,
            (old, new) => old != new && new.is_some(),
        };
        if due.is_empty() && detectors.gone().is_empty() && !moved {
            return Ok(false);
        }
        store.save_detectors(&due, detectors.gone(), since_ms)?;
        let more = due.len() == SAVED_AT_ONCE;
        let keys: Vec<DetectorKey> = due.into_iter().map(|(key, _)| key).collect();
        detectors.saved(&keys);
        saving.since_ms = since_ms.or(saving.since_ms);
        Ok(more)
    }

    /// At most `limit` questions for ingest that are due.
    pub fn questions(&mut self, limit: usize) -> Vec<Question> {
        let now_ms = steady_ms(self.started);
        self.alerts.predictions.forecasts.due(now_ms, limit)
    }

    /// What ingest said.
    pub fn answered(&mut self, question: &Question, outcome: Outcome) {
        let counter =
            if outcome.is_ok() { &self.metrics.forecasts_made } else { &self.metrics.forecasts_failed };
        counter.inc();
        let now_ms = steady_ms(self.started);
        self.alerts.predictions.forecasts.answered(question, outcome, now_ms);
    }

    /// Hosts of a group that have this check, in order, as many as can be compared.
    #[must_use]
    pub fn members(&self, group: &GroupName, check: &CheckName) -> Vec<AgentId> {
        let hosts = self.hosts.iter().filter(|(agent, host)| {
            host.groups.contains(group)
                && (host.checks.contains(check) || self.alerts.has_series(agent, check))
        });
        let mut members: Vec<AgentId> = hosts.map(|(agent, _)| agent.clone()).collect();
        members.sort();
        members.truncate(OUTLIER_HOSTS);
        members
    }

    /// What the predictions of an alert's rule say now.
    pub(super) fn predictions_of(&self, alert: &Alert) -> Vec<attend::Predicted> {
        let Some(rule) = self.book.rule(&alert.check, &alert.rule) else { return Vec::new() };
        let predicted = Predicted {
            all: &self.alerts.predictions,
            agent: &alert.agent,
            check: &alert.check,
            moment: Moment::Now,
            steady_ms: steady_ms(self.started),
        };
        rule.predictions().map(|prediction| predicted.explained(prediction)).collect()
    }

    pub(super) fn count_predictions(&mut self) {
        let Predictions { detectors, forecasts } = &mut self.alerts.predictions;
        let (late, evicted) = detectors.counts();
        self.metrics.anomaly_values_late.inc_by(late);
        self.metrics.detectors_evicted.inc_by(evicted);
        self.metrics.forecasts_refused.inc_by(forecasts.refused());
        self.metrics.detectors.set(gauge(detectors.len()));
        self.metrics.forecasts.set(gauge(forecasts.len()));
    }
}
