//! Results and rules in, changes of alerts out. Nothing is changed here: a [`Draft`] is applied after it is durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use documents::{EvalError, HostView, RuleView};
use protocol::{
    AgentId, CheckResult, Facts, GroupName, Labels, ReceiverName, Scalar, VERSION, Vars,
    alert::{Alert, AlertState},
};
use sha2::{Digest, Sha256};

use super::{
    alert::{self, AlertKey, Position, Seen, State, Step, Tracker},
    rules::{CompiledRule, RuleBook},
    summary,
};

/// Longest text value that an alert carries, in characters.
const TEXT: usize = 1_000;

/// One result with what the broker says of it.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub result: CheckResult,
    /// When the broker stored it, in milliseconds since 1970.
    pub published_ms: u64,
    /// Sequence number in the stream.
    pub stream: u64,
}

impl Incoming {
    #[must_use]
    pub fn position(&self) -> Position {
        let result = &self.result;
        let at_ms = result.at_ms.min(self.published_ms);
        Position { at_ms, epoch: result.epoch, seq: result.seq, stream: self.stream }
    }
}

/// What expressions see of a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostInfo {
    pub facts: Facts,
    pub labels: Labels,
    pub groups: Vec<GroupName>,
    pub vars: Vars,
}

/// An alert that came to another state, and whom to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub alert: Alert,
    pub notify: Vec<ReceiverName>,
}

/// All alerts, and what was last seen of each.
#[derive(Debug, Default)]
pub struct Alerts {
    trackers: HashMap<AlertKey, Tracker>,
}

/// What is to become of the alerts.
#[derive(Debug, Default)]
pub struct Draft {
    /// Trackers whose state changed: these must be durable.
    pub changed: BTreeMap<AlertKey, Tracker>,
    /// Trackers that only saw a newer result.
    seen: HashMap<AlertKey, Tracker>,
    pub transitions: Vec<Transition>,
    /// Firing alerts among those that end.
    pub ended: BTreeSet<String>,
    /// Expressions without an answer.
    pub failed: Vec<(AlertKey, EvalError)>,
    /// Expressions that had one.
    pub answered: Vec<AlertKey>,
    /// Results that were history and so could open nothing.
    pub late: u64,
}

impl Alerts {
    #[must_use]
    pub fn new(trackers: impl IntoIterator<Item = (AlertKey, Tracker)>) -> Self {
        Self { trackers: trackers.into_iter().collect() }
    }

    /// Alerts that are pending or firing.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.trackers.values().filter_map(|tracker| tracker.state.alert())
    }

    /// Make a draft true.
    pub fn apply(&mut self, draft: Draft) {
        self.trackers.extend(draft.seen);
        self.trackers.extend(draft.changed);
    }

    /// Ended alerts whose last result is from before `before_ms`: what is older than that is history and opens nothing,
    /// so they need not be remembered.
    #[must_use]
    pub fn forgettable(&self, before_ms: u64) -> Vec<AlertKey> {
        let over = |tracker: &Tracker| matches!(tracker.state, State::Ok) && tracker.last.at_ms < before_ms;
        self.trackers.iter().filter(|(_, tracker)| over(tracker)).map(|(key, _)| key.clone()).collect()
    }

    pub fn forget(&mut self, keys: &[AlertKey]) {
        for key in keys {
            self.trackers.remove(key);
        }
    }

    /// What `batch` does, in its order. Results measured more than `freshness_ms` before `now_ms`, and those that are
    /// marked as replayed, are history.
    #[must_use]
    pub fn evaluate(
        &self,
        book: &RuleBook,
        hosts: &HashMap<AgentId, HostInfo>,
        batch: &[Incoming],
        now_ms: u64,
        freshness_ms: u64,
    ) -> Draft {
        let unknown = HostInfo::default();
        let mut draft = Draft::default();
        for incoming in batch {
            let result = &incoming.result;
            let rules = book.of_check(&result.check);
            let host = hosts.get(&result.agent).unwrap_or(&unknown);
            let late = result.replayed || incoming.position().at_ms.saturating_add(freshness_ms) < now_ms;
            draft.late += u64::from(late && !rules.is_empty());
            for rule in rules {
                self.evaluate_rule(&mut draft, rule, host, incoming, !late);
            }
        }
        draft
    }

    fn evaluate_rule(
        &self,
        draft: &mut Draft,
        rule: &CompiledRule,
        host: &HostInfo,
        incoming: &Incoming,
        fresh: bool,
    ) {
        let (result, position) = (&incoming.result, incoming.position());
        let key = AlertKey { agent: result.agent.clone(), rule: rule.rule.name.clone() };
        let tracker =
            draft.changed.get(&key).or_else(|| draft.seen.get(&key)).or_else(|| self.trackers.get(&key));
        if tracker.is_some_and(|tracker| !position.is_after(&tracker.last)) {
            return;
        }
        let known = tracker.is_some();
        let state = tracker.map_or(State::Ok, |tracker| tracker.state.clone());
        let view = HostView {
            groups: &host.groups,
            vars: &host.vars,
            ..HostView::new(&result.agent, &host.facts, &host.labels)
        };
        let concerned = rule.hosts.as_ref().map_or(Ok(true), |hosts| hosts.matches(&view));
        let holds = concerned.and_then(|concerned| {
            Ok(if concerned { Some(rule.when.holds(&RuleView { result, host: view })?) } else { None })
        });
        let step = match holds {
            Ok(Some(holds)) => {
                let seen = Seen { holds, at_ms: position.at_ms, fresh };
                alert::next(&state, seen, rule.timing())
            }
            Ok(None) if !known => return,
            Ok(None) => alert::withdraw(&state),
            Err(error) => {
                draft.failed.push((key, error));
                return;
            }
        };
        draft.answered.push(key.clone());
        let Some(step) = step else {
            // A pending change of this batch stays a change: only its position moves on.
            let tracker = Tracker { last: position, state };
            match draft.changed.get_mut(&key) {
                Some(changed) => *changed = tracker,
                None => {
                    draft.seen.insert(key, tracker);
                }
            }
            return;
        };
        let alert = match state.alert() {
            Some(alert) => Alert { at_ms: position.at_ms.max(alert.at_ms), ..alert.clone() },
            None => opened(rule, host, incoming),
        };
        let alert = Alert {
            summary: summary::of_result(step, &rule.rule, result),
            value: result.value.clone().map(shortened),
            unit: result.unit.clone(),
            ..alert
        };
        draft.take(key, position, state, step, alert, &rule.rule.notify);
    }

    /// End the alerts whose rule is gone, or looks at another check now.
    #[must_use]
    pub fn without_rules(&self, book: &RuleBook, now_ms: u64) -> Draft {
        let mut draft = Draft::default();
        for (key, tracker) in &self.trackers {
            let Some(alert) = tracker.state.alert() else { continue };
            let why = match book.check_of(&key.rule) {
                None => "the rule was removed",
                Some(check) if *check != alert.check => "the rule is for another check now",
                Some(_) => continue,
            };
            let Some(step) = alert::withdraw(&tracker.state) else { continue };
            let summary = summary::of_withdrawal(alert, why);
            let alert = Alert { summary, at_ms: now_ms.max(alert.at_ms), ..alert.clone() };
            draft.take(key.clone(), tracker.last, tracker.state.clone(), step, alert, &[]);
        }
        draft
    }
}

impl Draft {
    /// Nothing that must be durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// `alert` is the alert of `state`, or the one to open, with what the result or event said of it.
    fn take(
        &mut self,
        key: AlertKey,
        last: Position,
        state: State,
        step: Step,
        alert: Alert,
        receivers: &[ReceiverName],
    ) {
        let mut transition = |state, notify: &[ReceiverName]| {
            let alert = Alert { state, ..alert.clone() };
            self.transitions.push(Transition { alert: alert.clone(), notify: notify.to_vec() });
            alert
        };
        let state = match (step, state) {
            (Step::Pend, _) => State::Pending { alert: transition(AlertState::Pending, &[]) },
            (Step::Fire, _) => {
                let mut told = receivers.to_vec();
                told.sort();
                told.dedup();
                let alert = transition(AlertState::Firing, &told);
                State::Firing { alert, told, calm_since_ms: None }
            }
            (Step::Calm, State::Firing { alert, told, .. }) => {
                State::Firing { alert, told, calm_since_ms: Some(last.at_ms) }
            }
            (Step::Stir, State::Firing { alert, told, .. }) => {
                State::Firing { alert, told, calm_since_ms: None }
            }
            (Step::Resolve, State::Firing { told, .. }) => {
                let alert = transition(AlertState::Resolved, &told);
                self.ended.insert(alert.id);
                State::Ok
            }
            (Step::Lapse, _) => {
                transition(AlertState::Resolved, &[]);
                State::Ok
            }
            // Only a firing alert is calmed, stirred or resolved.
            (Step::Calm | Step::Stir | Step::Resolve, state) => state,
        };
        self.seen.remove(&key);
        self.changed.insert(key, Tracker { last, state });
    }
}

/// The alert that a result opens; its state, summary and value follow.
fn opened(rule: &CompiledRule, host: &HostInfo, incoming: &Incoming) -> Alert {
    let (result, position) = (&incoming.result, incoming.position());
    Alert {
        v: VERSION,
        id: alert_id(&result.agent, &rule.rule, position),
        agent: result.agent.clone(),
        rule: rule.rule.name.clone(),
        check: result.check.clone(),
        state: AlertState::Pending,
        severity: rule.rule.severity,
        summary: String::new(),
        value: None,
        unit: None,
        labels: host.labels.clone(),
        started_ms: position.at_ms,
        at_ms: position.at_ms,
    }
}

/// The same for the same result, so that an alert raised again after a crash is the same alert to everybody.
fn alert_id(agent: &AgentId, rule: &protocol::document::Rule, at: Position) -> String {
    // Results without a sequence number are told apart by their place in the stream.
    let place = if at.seq > 0 { 0 } else { at.stream };
    let text = format!("{agent}/{}/{}/{}/{}/{place}", rule.name, at.epoch, at.seq, at.at_ms);
    let mut id = protocol::hex(&Sha256::digest(text.as_bytes()));
    id.truncate(16);
    id
}

fn shortened(value: Scalar) -> Scalar {
    match value {
        Scalar::Text(text) => Scalar::Text(text.chars().take(TEXT).collect()),
        other => other,
    }
}
