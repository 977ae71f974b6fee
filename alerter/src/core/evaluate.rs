//! Results and rules in, changes of alerts out.
//!
//! The alerts in memory change at once, and a [`Draft`] says what changed: until that is durable nothing of it may leave
//! the process, and no other result may be evaluated.

use std::collections::{HashMap, HashSet};

use documents::{EvalError, HostView, RuleView};
use protocol::{
    AgentId, CheckName, CheckResult, Facts, GroupName, Labels, Status, Vars, alert::Severity, limits,
};

use super::{
    alert::{AlertKey, Position, Tracker, Verdict},
    alerts::Alerts,
    draft::Draft,
    event::{self, Event, Place, happen},
    mute::Mutes,
    predict::{Moment, Predicted, Predictions},
    rules::{CompiledRule, Condition, RuleBook},
    series::{HostState, Past, Series},
    summary,
};

/// Most pairs of rule and host of which a failing expression is remembered.
const FAILING: usize = 10_000;

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

/// What is known of a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostInfo {
    pub facts: Facts,
    pub labels: Labels,
    pub groups: Vec<GroupName>,
    pub vars: Vars,
    /// Checks that it runs.
    pub checks: Vec<CheckName>,
    /// Whether anything ever came from it.
    pub seen: bool,
}

impl HostInfo {
    /// What expressions see of it.
    #[must_use]
    pub fn view<'a>(&'a self, agent: &'a AgentId) -> HostView<'a> {
        HostView { groups: &self.groups, vars: &self.vars, ..HostView::new(agent, &self.facts, &self.labels) }
    }
}

/// What decisions are made with.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    pub book: &'a RuleBook,
    pub hosts: &'a HashMap<AgentId, HostInfo>,
    pub mutes: &'a Mutes,
    pub now_ms: u64,
    /// A clock that never jumps.
    pub steady_ms: u64,
    /// Results measured longer ago are history.
    pub freshness_ms: u64,
}

impl Alerts {
    /// Take results that were judged before, so that windows and positions are what they were. Nothing else changes.
    pub fn remember(&mut self, book: &RuleBook, batch: &[Incoming], steady_ms: u64) {
        for incoming in batch {
            let Some(rules) = book.of_check(&incoming.result.check) else { continue };
            self.take(incoming, rules.window_ms, steady_ms, &mut 0);
            self.predictions.learn(&rules.detects, incoming, steady_ms);
        }
    }

    /// What `batch` does, in its order. Results measured more than the freshness before now, and those that are marked
    /// as replayed, are history.
    pub fn evaluate(&mut self, world: &World<'_>, batch: &[Incoming]) -> Draft {
        let unknown = HostInfo::default();
        let mut draft = Draft::default();
        for incoming in batch {
            let result = &incoming.result;
            let Some(rules) = world.book.of_check(&result.check) else { continue };
            let position = incoming.position();
            let old = |at_ms: u64| at_ms.saturating_add(world.freshness_ms) < world.now_ms;
            let late = result.replayed || old(position.at_ms);
            draft.late += u64::from(late);
            if !self.take(incoming, rules.window_ms, world.steady_ms, &mut draft.dropped) {
                self.predictions.detectors.came_late(rules.detects.len());
                continue;
            }
            self.predictions.learn(&rules.detects, incoming, world.steady_ms);
            let Some(state) = self.hosts.get_mut(&result.agent) else { continue };
            let host = world.hosts.get(&result.agent).unwrap_or(&unknown);
            let before = draft.transitions.len();
            if !old(incoming.published_ms) {
                host_is_up(state, &mut draft, world, host, &self.firing, incoming);
            }
            for rule in &rules.rules {
                let place = Place { world, agent: &result.agent, host, rule, firing: &self.firing };
                let watch = Watch { failing: &mut self.failing, predictions: &self.predictions };
                judge(watch, state, &mut draft, place, incoming, !late);
                if rules.forecasts {
                    want(&mut self.predictions, place, &result.check);
                }
            }
            self.note_firing(&draft, before);
        }
        draft
    }

    /// Whether it is the newest of its series.
    fn take(&mut self, incoming: &Incoming, window_ms: u64, steady_ms: u64, dropped: &mut u64) -> bool {
        let (result, position) = (&incoming.result, incoming.position());
        if !self.hosts.contains_key(&result.agent) {
            self.hosts.insert(result.agent.clone(), HostState::default());
        }
        let Some(host) = self.hosts.get_mut(&result.agent) else { return false };
        let mut newest = true;
        if let Some(series) = host.series.get_mut(&result.check) {
            newest = position.is_after(&series.last);
            if newest {
                series.advance(result, position);
                series.heard_ms = steady_ms;
            }
        } else if host.series.len() < limits::CHECKS {
            host.series.insert(result.check.clone(), Series::new(result, position, steady_ms));
        } else {
            *dropped += 1;
            return false;
        }
        if window_ms > 0
            && let Some(series) = host.series.get_mut(&result.check)
        {
            *dropped += u64::from(!series.keep(result, position.at_ms, window_ms));
        }
        newest
    }
}

/// What judging a rule looks at besides its host.
struct Watch<'a> {
    failing: &'a mut HashSet<AlertKey>,
    predictions: &'a Predictions,
}

/// Ask for the predictions of a rule that concerns the host.
fn want(predictions: &mut Predictions, place: Place<'_>, check: &CheckName) {
    let Place { world, agent, host, rule, .. } = place;
    let asks = || rule.predictions();
    let view = host.view(agent);
    if asks().next().is_none() || rule.hosts.as_ref().is_some_and(|hosts| hosts.matches(&view) != Ok(true)) {
        return;
    }
    for prediction in asks() {
        predictions.forecasts.want(agent, check, prediction, world.steady_ms);
    }
}

fn judge(
    watch: Watch<'_>,
    state: &mut HostState,
    draft: &mut Draft,
    place: Place<'_>,
    incoming: &Incoming,
    fresh: bool,
) {
    let Watch { failing, predictions } = watch;
    let Place { world, host, rule, .. } = place;
    let (result, position) = (&incoming.result, incoming.position());
    let name = &rule.rule.name;
    let tracker = state.trackers.get(name);
    if tracker.is_some_and(|tracker| !position.is_after(&tracker.last)) {
        return;
    }
    draft.evaluations += 1;
    let series = state.series.get(&result.check);
    let predicted = Predicted {
        all: predictions,
        agent: &result.agent,
        check: &result.check,
        moment: Moment::Result(position),
        steady_ms: world.steady_ms,
    };
    let past = Past { series, to_ms: position.at_ms, quiet_ms: 0, predicted };
    let verdict = verdict(rule, host, result, &past, tracker);
    let event = |verdict, summary| Event {
        verdict,
        position,
        at_ms: position.at_ms,
        fresh,
        quiet: false,
        result: Some(result),
        summary,
    };
    match verdict {
        Ok(None) => {
            if let Some(tracker) = state.trackers.get_mut(name) {
                event::end(draft, tracker, position.at_ms, "the rule does not concern the host any more");
            }
        }
        Ok(Some(verdict)) => {
            // Hardly ever are there any, so keys are made only then.
            if !failing.is_empty() {
                failing.remove(&AlertKey { agent: result.agent.clone(), rule: name.clone() });
            }
            if verdict == Verdict::Clear && tracker.is_none() {
                return;
            }
            let summary = |step| {
                let because = predicted.because(rule.predictions());
                format!("{}{because}", summary::of_result(step, &rule.rule, result))
            };
            happen(state, draft, place, &event(verdict, &summary));
        }
        // Nothing is known of the host yet.
        Err(EvalError::Missing { .. }) if host.facts.is_empty() => draft.failures += 1,
        Err(error) => {
            draft.failures += 1;
            let key = AlertKey { agent: result.agent.clone(), rule: name.clone() };
            if failing.len() < FAILING && failing.insert(key.clone()) {
                draft.failed.push((key, error.clone()));
            }
            // Not to know is worth an alert; but it says nothing of the condition, so nothing gets worse by it.
            let severity = rule.rule.severity.min(Severity::Warning);
            let summary = |_| summary::of_failure(&rule.rule, result, &error);
            let opened = tracker.is_some_and(|tracker| tracker.state.is_firing());
            let verdict = if opened { Verdict::Nothing } else { Verdict::Holds(severity) };
            happen(state, draft, place, &event(verdict, &summary));
        }
    }
}

/// `None`: the rule does not concern the host.
fn verdict(
    rule: &CompiledRule,
    host: &HostInfo,
    result: &CheckResult,
    past: &Past<'_>,
    tracker: Option<&Tracker>,
) -> Result<Option<Verdict>, EvalError> {
    let view = host.view(&result.agent);
    if let Some(hosts) = &rule.hosts
        && !hosts.matches(&view)?
    {
        return Ok(None);
    }
    let was_quiet = tracker.is_some_and(|tracker| tracker.quiet);
    let verdict = match &rule.condition {
        Condition::Own { thresholds } => match result.status {
            Status::Critical if *thresholds => Verdict::Holds(Severity::Critical),
            Status::Warning if *thresholds => Verdict::Holds(Severity::Warning),
            // Whatever came, it is not silence any more.
            Status::Unknown if *thresholds && !was_quiet => Verdict::Nothing,
            _ => Verdict::Clear,
        },
        Condition::HostDown => Verdict::Nothing,
        Condition::Expression { when, clear } => {
            let view = RuleView { result, host: view };
            let firing = tracker.is_some_and(|tracker| tracker.state.is_firing());
            match (when.holds(&view, past)?, clear) {
                (Some(true), _) => Verdict::Holds(rule.rule.severity),
                (Some(false), Some(clear)) if firing && !was_quiet => match clear.holds(&view, past)? {
                    Some(true) => Verdict::Clear,
                    _ => Verdict::Nothing,
                },
                (Some(false), _) => Verdict::Clear,
                (None, _) if was_quiet => Verdict::Clear,
                (None, _) => Verdict::Nothing,
            }
        }
    };
    Ok(Some(verdict))
}

/// Something came from the host.
fn host_is_up(
    state: &mut HostState,
    draft: &mut Draft,
    world: &World<'_>,
    host: &HostInfo,
    firing: &HashSet<AlertKey>,
    incoming: &Incoming,
) {
    let Some(rule) = &world.book.host_down else { return };
    if !state.trackers.get(&rule.rule.name).is_some_and(|tracker| tracker.state.is_firing()) {
        return;
    }
    let agent = &incoming.result.agent;
    let summary = |_| format!("{agent} is up again: results come");
    let event = Event {
        verdict: Verdict::Clear,
        position: incoming.position(),
        at_ms: world.now_ms,
        fresh: true,
        quiet: false,
        result: None,
        summary: &summary,
    };
    happen(state, draft, Place { world, agent, host, rule, firing }, &event);
}
