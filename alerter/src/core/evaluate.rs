//! Results and rules in, changes of alerts out.
//!
//! The alerts in memory change at once, and a [`Draft`] says what changed: until that is durable nothing of it may leave
//! the process, and no other result may be evaluated.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use documents::{EvalError, HostView, RuleView};
use protocol::{
    AgentId, CheckName, CheckResult, Facts, GroupName, Labels, ReceiverName, RuleName, Scalar, Status,
    VERSION, Vars,
    alert::{Acknowledgement, Alert, AlertState, JournalEntry, Severity},
    limits, timestamp,
};
use sha2::{Digest, Sha256};

use super::{
    alert::{self, AlertKey, Position, Seen, State, Step, Tracker, Verdict},
    mute::Mutes,
    rules::{CompiledRule, Condition, RuleBook},
    series::{HostState, Past, Series},
    summary,
};

/// Longest text value that an alert carries, in characters.
const TEXT: usize = 1_000;
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

/// An alert that came to another state, and whom to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub alert: Alert,
    pub notify: Vec<ReceiverName>,
    /// It came to this state before, and is told only now.
    pub retold: bool,
}

/// All alerts, and what was last seen of each.
#[derive(Debug, Default)]
pub struct Alerts {
    pub(super) hosts: HashMap<AgentId, HostState>,
    /// Alerts that fire, which others may depend on.
    pub(super) firing: HashSet<AlertKey>,
    /// Rules that have no answer on a host.
    failing: HashSet<AlertKey>,
    /// Since when results come as they are published, by the steady clock. `None`: silence means nothing yet.
    pub(super) watching_since_ms: Option<u64>,
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

/// What happened to one rule on one host.
struct Event<'a> {
    verdict: Verdict,
    position: Position,
    at_ms: u64,
    fresh: bool,
    /// Nothing came, and that is what happened.
    quiet: bool,
    result: Option<&'a CheckResult>,
    /// What to say of it.
    summary: &'a dyn Fn(Step) -> String,
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

    /// Take results that were judged before, so that windows and positions are what they were. Nothing else changes.
    pub fn remember(&mut self, book: &RuleBook, batch: &[Incoming], steady_ms: u64) {
        for incoming in batch {
            let Some(rules) = book.of_check(&incoming.result.check) else { continue };
            self.take(incoming, rules.window_ms, steady_ms, &mut 0);
        }
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
        draft.keep(&key.agent, &key.rule, tracker);
        Some((alert, draft))
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
                continue;
            }
            let Some(state) = self.hosts.get_mut(&result.agent) else { continue };
            let host = world.hosts.get(&result.agent).unwrap_or(&unknown);
            let before = draft.transitions.len();
            if !old(incoming.published_ms) {
                host_is_up(state, &mut draft, world, host, &self.firing, incoming);
            }
            for rule in &rules.rules {
                judge(&mut self.failing, state, &mut draft, world, rule, host, &self.firing, incoming, !late);
            }
            self.note_firing(&draft, before);
        }
        draft
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

    /// End the alerts whose rule is gone, or looks at another check now.
    #[must_use]
    pub fn without_rules(&mut self, book: &RuleBook, now_ms: u64) -> Draft {
        let mut draft = Draft::default();
        for (agent, host) in &mut self.hosts {
            for (rule, tracker) in &mut host.trackers {
                let Some(alert) = tracker.state.alert() else { continue };
                let why = match book.check_of(rule) {
                    None => "the rule was removed",
                    Some(check) if *check != alert.check => "the rule is for another check now",
                    Some(_) => continue,
                };
                end(&mut draft, agent, rule, tracker, now_ms, why);
            }
        }
        self.note_firing(&draft, 0);
        draft
    }
}

/// End an alert without a result.
pub(super) fn end(
    draft: &mut Draft,
    agent: &AgentId,
    rule: &RuleName,
    tracker: &mut Tracker,
    now_ms: u64,
    why: &str,
) {
    let (Some(alert), Some(step)) = (tracker.state.alert(), alert::withdraw(&tracker.state)) else { return };
    let summary = summary::of_withdrawal(alert, why);
    let alert = Alert { summary, at_ms: now_ms.max(alert.at_ms), ..alert.clone() };
    tracker.note(now_ms, format!("ended: {why}"));
    draft.take(agent, rule, tracker, step, alert, &[], None);
}

#[allow(clippy::too_many_arguments)] // one result, one rule, and all that is known beside
fn judge(
    failing: &mut HashSet<AlertKey>,
    state: &mut HostState,
    draft: &mut Draft,
    world: &World<'_>,
    rule: &CompiledRule,
    host: &HostInfo,
    firing: &HashSet<AlertKey>,
    incoming: &Incoming,
    fresh: bool,
) {
    let (result, position) = (&incoming.result, incoming.position());
    let name = &rule.rule.name;
    let tracker = state.trackers.get(name);
    if tracker.is_some_and(|tracker| !position.is_after(&tracker.last)) {
        return;
    }
    draft.evaluations += 1;
    let series = state.series.get(&result.check);
    let past = Past { series, to_ms: position.at_ms, quiet_ms: 0 };
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
                end(
                    draft,
                    &result.agent,
                    name,
                    tracker,
                    position.at_ms,
                    "the rule does not concern the host any more",
                );
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
            let summary = |step| summary::of_result(step, &rule.rule, result);
            happen(state, draft, world, rule, host, firing, &result.agent, &event(verdict, &summary));
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
            happen(state, draft, world, rule, host, firing, &result.agent, &event(verdict, &summary));
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

/// Move one alert.
#[allow(clippy::too_many_arguments)] // one event, one rule, and all that is known beside
fn happen(
    state: &mut HostState,
    draft: &mut Draft,
    world: &World<'_>,
    rule: &CompiledRule,
    host: &HostInfo,
    firing: &HashSet<AlertKey>,
    agent: &AgentId,
    event: &Event<'_>,
) {
    let name = &rule.rule.name;
    let mut fresh_tracker = None;
    let tracker = match state.trackers.get_mut(name) {
        Some(tracker) => tracker,
        None if matches!(event.verdict, Verdict::Holds(_)) && event.fresh => {
            fresh_tracker.insert(Tracker::new(event.position))
        }
        None => return,
    };
    let mut verdict = event.verdict;
    if let (Some(limits), false) = (rule.rule.flapping, verdict == Verdict::Nothing) {
        tracker.flaps = tracker.flaps.with(matches!(verdict, Verdict::Holds(_)));
        let flaps = tracker.flaps.flaps(tracker.flapping, limits);
        if flaps != std::mem::replace(&mut tracker.flapping, flaps) {
            let what =
                if flaps { "begins to flap: it does not end until it is calm" } else { "flaps no more" };
            tracker.note(event.at_ms, format!("{what} ({:.1} %)", tracker.flaps.percent()));
        }
        if flaps && verdict == Verdict::Clear && tracker.state.is_firing() {
            verdict = Verdict::Nothing;
        }
    }
    let seen = Seen { verdict, at_ms: event.at_ms, fresh: event.fresh };
    let step = alert::next(&tracker.state, seen, rule.timing());
    tracker.last = event.position;
    let Some(step) = step else {
        // A tracker that was made for nothing is not kept.
        return;
    };
    if matches!(step, Step::Pend | Step::Fire | Step::Lapse | Step::Resolve) {
        tracker.quiet = event.quiet;
    }
    let mut alert = match tracker.state.alert() {
        Some(alert) => Alert { at_ms: event.at_ms.max(alert.at_ms), ..alert.clone() },
        None => opened(rule, host, agent, event),
    };
    alert.summary = (event.summary)(step);
    if let Some(result) = event.result {
        alert.value = result.value.clone().map(shortened);
        alert.unit.clone_from(&result.unit);
    }
    if let (Step::Pend | Step::Fire, Verdict::Holds(severity)) = (step, verdict) {
        alert.severity = severity;
    }
    let muted = match step {
        Step::Fire => world.mutes.reason(&alert, rule, host, firing, world.now_ms),
        _ => None,
    };
    journal(tracker, step, &alert, event, muted.as_deref(), &distinct(&rule.rule.notify));
    draft.take(agent, name, tracker, step, alert, &rule.rule.notify, muted);
    if let Some(tracker) = fresh_tracker {
        state.trackers.insert(name.clone(), tracker);
    }
}

fn journal(
    tracker: &mut Tracker,
    step: Step,
    alert: &Alert,
    event: &Event<'_>,
    muted: Option<&str>,
    notify: &[ReceiverName],
) {
    let whom = |names: &[ReceiverName]| match names {
        [] => "nobody: there are no receivers".to_owned(),
        names => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let summary = &alert.summary;
    let text = match step {
        Step::Pend => format!("pending: {summary}"),
        Step::Count => format!("still pending: {summary}"),
        Step::Fire => match muted {
            Some(why) => format!("firing, and nobody is told: {why}: {summary}"),
            None => format!("firing, told {}: {summary}", whom(notify)),
        },
        Step::Raise(severity) => format!("now {severity}: {summary}"),
        Step::Calm => format!("clear, goes on for keep_firing_for: {summary}"),
        Step::Stir => format!("holds again: {summary}"),
        Step::Lapse => format!("ended before it fired, nobody was told: {summary}"),
        Step::Resolve => format!("resolved: {summary}"),
    };
    tracker.note(event.at_ms, text);
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
    happen(state, draft, world, rule, host, firing, agent, &event);
}

/// Nothing came, by the clock of `world`.
#[allow(clippy::too_many_arguments)] // as above
pub(super) fn quiet(
    state: &mut HostState,
    draft: &mut Draft,
    world: &World<'_>,
    rule: &CompiledRule,
    host: &HostInfo,
    firing: &HashSet<AlertKey>,
    agent: &AgentId,
    severity: Severity,
    summary: &str,
) {
    let tracked = state.trackers.get(&rule.rule.name).map(|tracker| tracker.last);
    let heard = state.series.get(&rule.rule.check).map(|series| series.last);
    let position = match (tracked, heard) {
        (Some(tracked), Some(heard)) if heard.is_after(&tracked) => heard,
        (Some(tracked), _) => tracked,
        (None, heard) => heard.unwrap_or(Position { at_ms: 0, epoch: 0, seq: 0, stream: 0 }),
    };
    let event = Event {
        verdict: Verdict::Holds(severity),
        position,
        at_ms: world.now_ms,
        fresh: true,
        quiet: true,
        result: None,
        summary: &|_| summary.to_owned(),
    };
    happen(state, draft, world, rule, host, firing, agent, &event);
}

impl Draft {
    /// Nothing that must be durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// `alert` is the alert of `tracker`, or the one to open, with what the result or event said of it.
    #[allow(clippy::too_many_arguments)] // what a step is made of
    fn take(
        &mut self,
        agent: &AgentId,
        rule: &RuleName,
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
        self.keep(agent, rule, tracker);
    }

    /// A tracker that changed.
    pub(super) fn keep(&mut self, agent: &AgentId, rule: &RuleName, tracker: &Tracker) {
        self.changed.insert(AlertKey { agent: agent.clone(), rule: rule.clone() }, tracker.clone());
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

/// The alert that an event opens; its state, summary and value follow.
fn opened(rule: &CompiledRule, host: &HostInfo, agent: &AgentId, event: &Event<'_>) -> Alert {
    Alert {
        v: VERSION,
        id: alert_id(agent, &rule.rule.name, event),
        agent: agent.clone(),
        rule: rule.rule.name.clone(),
        check: rule.rule.check.clone(),
        state: AlertState::Pending,
        severity: rule.rule.severity,
        summary: String::new(),
        value: None,
        unit: None,
        labels: host.labels.clone(),
        started_ms: event.at_ms,
        at_ms: event.at_ms,
        raised: 0,
        muted: None,
        acknowledged: None,
    }
}

/// The same for the same result, so that an alert raised again after a crash is the same alert to everybody.
fn alert_id(agent: &AgentId, rule: &RuleName, event: &Event<'_>) -> String {
    let at = event.position;
    // Results without a sequence number are told apart by their place in the stream.
    let place = if at.seq > 0 { 0 } else { at.stream };
    // Silence does not come again after a crash as results do, so it needs no id that does.
    let quiet = if event.quiet { format!("/quiet/{}", event.at_ms) } else { String::new() };
    let text = format!("{agent}/{rule}/{}/{}/{}/{place}{quiet}", at.epoch, at.seq, at.at_ms);
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
