//! All alerts and what was last seen of each: what is kept in memory, looked up, acknowledged and forgotten.

use std::collections::{HashMap, HashSet};

use protocol::{
    AgentId, CheckName,
    alert::{Acknowledgement, Alert, AlertState},
    timestamp,
};

use super::{
    alert::{AlertKey, State, Tracker},
    draft::{Draft, Transition},
    event,
    predict::Predictions,
    rules::RuleBook,
    series::HostState,
};

/// All alerts, and what was last seen of each.
#[derive(Debug, Default)]
pub struct Alerts {
    pub(super) hosts: HashMap<AgentId, HostState>,
    /// Alerts that fire, which others may depend on.
    pub(super) firing: HashSet<AlertKey>,
    /// Rules that have no answer on a host.
    pub(super) failing: HashSet<AlertKey>,
    /// Since when results come as they are published, by the steady clock. `None`: silence means nothing yet.
    pub(super) watching_since_ms: Option<u64>,
    pub predictions: Predictions,
}

impl Alerts {
    #[must_use]
    pub fn new(trackers: impl IntoIterator<Item = (AlertKey, Tracker)>) -> Self {
        let mut alerts = Self::default();
        for (AlertKey { agent, rule }, tracker) in trackers {
            if tracker.state.is_firing() {
                alerts.firing.insert(AlertKey { agent: agent.clone(), rule: rule.clone() });
            }
            alerts.hosts.entry(agent).or_default().trackers.insert(rule, tracker);
        }
        alerts
    }

    /// Alerts that are pending or firing.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        let trackers = self.hosts.values().flat_map(|host| host.trackers.values());
        trackers.filter_map(|tracker| tracker.state.alert())
    }

    #[must_use]
    pub fn series(&self) -> usize {
        self.hosts.values().map(|host| host.series.len()).sum()
    }

    /// Whether results of the check came from the host.
    #[must_use]
    pub fn has_series(&self, agent: &AgentId, check: &CheckName) -> bool {
        self.hosts.get(agent).is_some_and(|host| host.series.contains_key(check))
    }

    /// Number of pairs of rule and host without an answer.
    #[must_use]
    pub fn failing(&self) -> usize {
        self.failing.len()
    }

    pub fn forget_failing(&mut self) {
        self.failing.clear();
    }

    /// Ended alerts whose last result is from before `before_ms`: what is older than that is history and opens nothing,
    /// so they need not be remembered.
    #[must_use]
    pub fn forgettable(&self, before_ms: u64) -> Vec<AlertKey> {
        let over = |tracker: &Tracker| {
            matches!(tracker.state, State::Ok) && tracker.last.at_ms < before_ms && tracker.flaps.is_calm()
        };
        let all = self
            .hosts
            .iter()
            .flat_map(|(agent, host)| host.trackers.iter().map(move |(rule, t)| (agent, rule, t)));
        all.filter(|(.., tracker)| over(tracker))
            .map(|(agent, rule, _)| AlertKey { agent: agent.clone(), rule: rule.clone() })
            .collect()
    }

    pub fn forget(&mut self, keys: &[AlertKey]) {
        for key in keys {
            if let Some(host) = self.hosts.get_mut(&key.agent) {
                host.trackers.remove(&key.rule);
            }
        }
    }

    /// Series of which nothing came for so long, by the steady clock.
    pub fn forget_series(&mut self, before_ms: u64) {
        for host in self.hosts.values_mut() {
            host.series.retain(|_, series| series.heard_ms >= before_ms);
        }
        self.hosts.retain(|_, host| !host.series.is_empty() || !host.trackers.is_empty());
    }

    /// The pending or firing alert whose id begins with `id`. `None`: there is none, or several.
    #[must_use]
    pub fn tracker_of(&self, id: &str) -> Option<(AlertKey, &Tracker)> {
        let all = self
            .hosts
            .iter()
            .flat_map(|(agent, host)| host.trackers.iter().map(move |(rule, t)| (agent, rule, t)));
        let mut found =
            all.filter(|(.., tracker)| tracker.state.alert().is_some_and(|alert| alert.id.starts_with(id)));
        let (agent, rule, tracker) = found.next()?;
        found.next().is_none().then(|| (AlertKey { agent: agent.clone(), rule: rule.clone() }, tracker))
    }

    /// Somebody looks after an alert, or does so no more. `None`: there is no such alert.
    pub fn acknowledge(
        &mut self,
        id: &str,
        acknowledgement: Option<Acknowledgement>,
        now_ms: u64,
    ) -> Option<(Alert, Draft)> {
        let (key, _) = self.tracker_of(id)?;
        let tracker = self.hosts.get_mut(&key.agent)?.trackers.get_mut(&key.rule)?;
        let text = match &acknowledgement {
            Some(ack) => {
                format!("acknowledged by {} until {}: {}", ack.by, timestamp::format(ack.until_ms), ack.note)
            }
            None => "the acknowledgement was taken back".to_owned(),
        };
        tracker.note(now_ms, text);
        tracker.acknowledged.clone_from(&acknowledgement);
        let (State::Pending { alert, .. } | State::Firing { alert, .. }) = &mut tracker.state else {
            return None;
        };
        alert.acknowledged = acknowledgement;
        let mut draft = Draft::default();
        let alert = alert.clone();
        draft.keep(key, tracker);
        Some((alert, draft))
    }

    /// Follow the transitions of `draft` from the `before`th on.
    pub(super) fn note_firing(&mut self, draft: &Draft, before: usize) {
        for Transition { alert, .. } in draft.transitions.iter().skip(before) {
            let key = AlertKey { agent: alert.agent.clone(), rule: alert.rule.clone() };
            match alert.state {
                AlertState::Firing => self.firing.insert(key),
                AlertState::Resolved | AlertState::Pending => self.firing.remove(&key),
            };
        }
    }

    /// End the alerts whose rule is gone, or looks at another check now.
    #[must_use]
    pub fn without_rules(&mut self, book: &RuleBook, now_ms: u64) -> Draft {
        let mut draft = Draft::default();
        for host in self.hosts.values_mut() {
            for (rule, tracker) in &mut host.trackers {
                let Some(alert) = tracker.state.alert() else { continue };
                let why = match book.check_of(rule) {
                    None => "the rule was removed",
                    Some(check) if *check != alert.check => "the rule is for another check now",
                    Some(_) => continue,
                };
                event::end(&mut draft, tracker, now_ms, why);
            }
        }
        self.note_firing(&draft, 0);
        draft
    }
}
