//! Silence as news: checks of which no result comes when one is expected, and hosts of which nothing comes at all.
//!
//! Silence means something only while results come as they are published ([`Alerts::watch`]): after a start, an outage of
//! the broker or a pause of the process everybody gets the whole time again. A host that is down covers its checks: one
//! alert, not one for each. Time is a steady clock's, so a wall clock that jumps makes nobody silent.

use std::{collections::HashSet, sync::Arc};

use documents::RuleView;
use protocol::{AgentId, CheckName, CheckResult, Status, alert::Severity, duration};

use super::{
    alert::{AlertKey, State},
    alerts::Alerts,
    draft::{self, Draft, Transition},
    evaluate::{HostInfo, World},
    event::{self, Place},
    predict::{Moment, Predicted, Predictions},
    rules::{CheckRules, CompiledRule, Condition, HOST_DOWN},
    series::{HostState, Past},
};

impl Alerts {
    /// From now on silence means something: everything that was published so far has been judged.
    pub fn watch(&mut self, steady_ms: u64) {
        self.watching_since_ms.get_or_insert(steady_ms);
    }

    /// Silence means nothing until [`Alerts::watch`].
    pub fn look_away(&mut self) {
        self.watching_since_ms = None;
    }

    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.watching_since_ms.is_some()
    }

    /// What the passing of time does: silence is noticed, and alerts that were muted are told.
    pub fn tick(&mut self, world: &World<'_>) -> Draft {
        let mut draft = Draft::default();
        if let Some(since_ms) = self.watching_since_ms {
            for (agent, host) in world.hosts.iter().filter(|(_, host)| host.seen) {
                let Some(state) = self.hosts.get_mut(agent) else {
                    // Nothing came since the start; it has a place from now on.
                    self.hosts.insert(agent.clone(), HostState::default());
                    continue;
                };
                let heard = Heard { firing: &self.firing, predictions: &self.predictions, since_ms };
                listen(state, &mut draft, world, &heard, agent, host);
            }
        }
        self.note_firing(&draft, 0);
        self.retell(&mut draft, world);
        draft
    }

    /// Tell of alerts that fire and were muted for a reason that is gone.
    fn retell(&mut self, draft: &mut Draft, world: &World<'_>) {
        let unknown = HostInfo::default();
        for (agent, state) in &mut self.hosts {
            let host = world.hosts.get(agent).unwrap_or(&unknown);
            for (name, tracker) in &mut state.trackers {
                let key = || AlertKey { agent: agent.clone(), rule: name.clone() };
                let expired = tracker.acknowledged.as_ref().is_some_and(|ack| ack.until_ms <= world.now_ms);
                if expired {
                    tracker.acknowledged = None;
                    tracker.note(world.now_ms, "the acknowledgement is over".to_owned());
                    draft.keep(key(), tracker);
                }
                let State::Firing { alert, told, muted, calm_since_ms } = &mut tracker.state else {
                    continue;
                };
                if expired {
                    alert.acknowledged = None;
                }
                if muted.is_none() || calm_since_ms.is_some() {
                    continue;
                }
                let Some(rule) = world.book.rule(&alert.check, name) else { continue };
                let reason = world.mutes.reason(alert, rule, host, &self.firing, world.now_ms);
                if reason == *muted {
                    continue;
                }
                let text = match &reason {
                    Some(reason) => format!("still nobody is told: {reason}"),
                    None => "told now: what muted it is over".to_owned(),
                };
                alert.muted.clone_from(&reason);
                muted.clone_from(&reason);
                if reason.is_none() {
                    *told = draft::distinct(&rule.rule.notify);
                    let transition = Transition { alert: alert.clone(), notify: told.clone(), retold: true };
                    draft.transitions.push(transition);
                }
                tracker.note(world.now_ms, text);
                draft.keep(key(), tracker);
            }
        }
    }
}

/// What is the same for every host.
struct Heard<'a> {
    firing: &'a HashSet<AlertKey>,
    predictions: &'a Predictions,
    /// Since when silence means something.
    since_ms: u64,
}

/// One host.
fn listen(
    state: &mut HostState,
    draft: &mut Draft,
    world: &World<'_>,
    heard: &Heard<'_>,
    agent: &AgentId,
    host: &HostInfo,
) {
    let Heard { firing, predictions, since_ms } = *heard;
    let place = |rule| Place { world, agent, host, rule, firing };
    let quiet_ms = |state: &HostState, check: &CheckName| {
        let heard = state.series.get(check).map_or(since_ms, |series| series.heard_ms.max(since_ms));
        world.steady_ms.saturating_sub(heard)
    };
    let (mut expected, mut overdue) = (0_usize, Vec::new());
    for check in &host.checks {
        let Some(rules) = world.book.of_check(check) else { continue };
        let Some(within_ms) = rules.expected_ms else { continue };
        expected += 1;
        let quiet_ms = quiet_ms(state, check);
        if quiet_ms > within_ms {
            overdue.push((check, rules, quiet_ms));
        }
    }
    withdraw_strays(state, draft, world, host);
    if expected > 0
        && overdue.len() == expected
        && let Some(rule) = &world.book.host_down
    {
        if !is_firing(state, rule) {
            let summary =
                format!("{agent} is down: no result of any check in the time in which it should come");
            event::quiet(state, draft, place(rule), Severity::Critical, &summary);
        }
        return;
    }
    if world.book.host_down.as_ref().is_some_and(|rule| is_firing(state, rule)) {
        return;
    }
    for (check, rules, quiet_ms) in overdue {
        let Some(own) = &rules.own else { continue };
        if is_firing(state, own) {
            continue;
        }
        let summary = summary(agent, check, rules, quiet_ms);
        event::quiet(state, draft, place(own), Severity::Warning, &summary);
    }
    for (check, rule) in world.book.judging_silence() {
        let runs = host.checks.contains(check) || state.series.contains_key(check);
        let quiet_ms = quiet_ms(state, check);
        if !runs || quiet_ms == 0 || is_firing(state, rule) {
            continue;
        }
        let (all, steady_ms) = (predictions, world.steady_ms);
        let predicted = Predicted { all, agent, check, moment: Moment::Silence, steady_ms };
        if holds_in_silence(state, world, rule, host, predicted, quiet_ms) {
            let silent = duration::format(std::time::Duration::from_secs(quiet_ms / 1_000));
            let summary =
                format!("{check} on {agent} is silent for {silent}: {} ({})", rule.rule.name, rule.rule.when);
            event::quiet(state, draft, place(rule), rule.rule.severity, &summary);
        }
    }
}

fn is_firing(state: &HostState, rule: &CompiledRule) -> bool {
    state.trackers.get(&rule.rule.name).is_some_and(|tracker| tracker.state.is_firing())
}

fn summary(agent: &AgentId, check: &CheckName, rules: &CheckRules, quiet_ms: u64) -> String {
    let seconds = |ms: u64| duration::format(std::time::Duration::from_secs(ms / 1_000));
    let within = rules.expected_ms.unwrap_or_default();
    format!(
        "{check} on {agent}: no result for {}, one is expected within {}",
        seconds(quiet_ms),
        seconds(within)
    )
}

/// Alerts of checks that the host does not run any more: no result will end them.
fn withdraw_strays(state: &mut HostState, draft: &mut Draft, world: &World<'_>, host: &HostInfo) {
    for tracker in state.trackers.values_mut() {
        let Some(alert) = tracker.state.alert() else { continue };
        if !tracker.quiet || alert.check.as_str() == HOST_DOWN || host.checks.contains(&alert.check) {
            continue;
        }
        event::end(draft, tracker, world.now_ms, "the host does not run the check any more");
    }
}

/// Whether a rule holds while nothing comes.
fn holds_in_silence(
    state: &HostState,
    world: &World<'_>,
    rule: &Arc<CompiledRule>,
    host: &HostInfo,
    predicted: Predicted<'_>,
    quiet_ms: u64,
) -> bool {
    let Predicted { agent, check, .. } = predicted;
    let Condition::Expression { when, .. } = &rule.condition else { return false };
    let view = host.view(agent);
    let concerned = rule.hosts.as_ref().is_none_or(|hosts| hosts.matches(&view).unwrap_or(false));
    let past = Past { series: state.series.get(check), to_ms: world.now_ms, quiet_ms, predicted };
    let nothing = nothing(agent, check, world.now_ms);
    concerned && matches!(when.holds(&RuleView { result: &nothing, host: view }, &past), Ok(Some(true)))
}

/// What an expression sees where no result is.
fn nothing(agent: &AgentId, check: &CheckName, at_ms: u64) -> CheckResult {
    CheckResult::new(agent.clone(), check.clone(), at_ms, Status::Unknown)
}
