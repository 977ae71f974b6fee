//! What a decision changed, before it is durable: nothing of it may leave the process until then.

use std::collections::{BTreeMap, BTreeSet};

use documents::EvalError;
use protocol::{
    ReceiverName,
    alert::{Alert, AlertState, JournalEntry},
};

use super::alert::{AlertKey, State, Step, Tracker};

/// An alert that came to another state, and whom to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub alert: Alert,
    pub notify: Vec<ReceiverName>,
    /// It came to this state before, and is told only now.
    pub retold: bool,
}

/// What became of the alerts.
#[derive(Debug, Default)]
pub struct Draft {
    /// Trackers that changed: these must be durable.
    pub changed: BTreeMap<AlertKey, Tracker>,
    pub transitions: Vec<Transition>,
    /// Firing alerts among those that ended, with their journals.
    pub ended: BTreeMap<String, Vec<JournalEntry>>,
    /// Expressions that have no answer, since now.
    pub failed: Vec<(AlertKey, EvalError)>,
    /// Evaluations without an answer.
    pub failures: u64,
    pub evaluations: u64,
    /// Results that were history and so could open nothing.
    pub late: u64,
    /// Values and series that were forgotten, being too many.
    pub dropped: u64,
}

impl Draft {
    /// Nothing that must be durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// `alert` is the alert of `tracker`, or the one to open, with what the result or event said of it.
    pub(super) fn take(
        &mut self,
        tracker: &mut Tracker,
        step: Step,
        alert: Alert,
        receivers: &[ReceiverName],
        muted: Option<String>,
    ) {
        let mut transition = |alert: Alert, state, notify: &[ReceiverName]| {
            let alert = Alert { state, ..alert };
            self.transitions.push(Transition {
                alert: alert.clone(),
                notify: notify.to_vec(),
                retold: false,
            });
            alert
        };
        let key = AlertKey { agent: alert.agent.clone(), rule: alert.rule.clone() };
        let before = std::mem::replace(&mut tracker.state, State::Ok);
        tracker.state = match (step, before) {
            (Step::Pend, _) => State::Pending { alert: transition(alert, AlertState::Pending, &[]), held: 1 },
            (Step::Count, State::Pending { alert, held }) => {
                State::Pending { alert, held: held.saturating_add(1) }
            }
            (Step::Fire, _) => {
                let told = if muted.is_some() { Vec::new() } else { distinct(receivers) };
                let alert = Alert { muted: muted.clone(), ..alert };
                let alert = transition(alert, AlertState::Firing, &told);
                State::Firing { alert, told, calm_since_ms: None, muted }
            }
            (Step::Raise(severity), State::Firing { told, muted, .. }) => {
                let alert = Alert { severity, raised: alert.raised.saturating_add(1), ..alert };
                let alert = transition(alert, AlertState::Firing, &told);
                State::Firing { alert, told, calm_since_ms: None, muted }
            }
            (Step::Calm, State::Firing { alert: known, told, muted, .. }) => {
                State::Firing { calm_since_ms: Some(alert.at_ms), alert: known, told, muted }
            }
            (Step::Stir, State::Firing { alert, told, muted, .. }) => {
                State::Firing { alert, told, calm_since_ms: None, muted }
            }
            (Step::Resolve, State::Firing { told, .. }) => {
                let alert = Alert { muted: None, acknowledged: None, ..alert };
                let alert = transition(alert, AlertState::Resolved, &told);
                self.ended.insert(alert.id, std::mem::take(&mut tracker.journal));
                tracker.acknowledged = None;
                State::Ok
            }
            (Step::Lapse, _) => {
                transition(alert, AlertState::Resolved, &[]);
                tracker.journal.clear();
                State::Ok
            }
            // Only a firing alert is raised, calmed, stirred or resolved, only a pending one counted.
            (Step::Calm | Step::Stir | Step::Resolve | Step::Raise(_) | Step::Count, state) => state,
        };
        self.keep(key, tracker);
    }

    /// A tracker that changed.
    pub(super) fn keep(&mut self, key: AlertKey, tracker: &Tracker) {
        self.changed.insert(key, tracker.clone());
    }

    /// What follows it.
    pub fn extend(&mut self, later: Self) {
        self.changed.extend(later.changed);
        self.transitions.extend(later.transitions);
        self.ended.extend(later.ended);
        self.failed.extend(later.failed);
        self.failures += later.failures;
        self.evaluations += later.evaluations;
        self.late += later.late;
        self.dropped += later.dropped;
    }
}

/// Each once, in order.
pub(super) fn distinct(receivers: &[ReceiverName]) -> Vec<ReceiverName> {
    receivers.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect()
}
