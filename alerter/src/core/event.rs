//! One event moves one alert: a result that was judged, or silence.

use std::collections::HashSet;

use protocol::{
    AgentId, CheckResult, ReceiverName, RuleName, Scalar, VERSION,
    alert::{Alert, AlertState, Severity},
};
use sha2::{Digest, Sha256};

use super::{
    alert::{self, AlertKey, Position, Seen, Step, Tracker, Verdict},
    draft::{self, Draft},
    evaluate::{HostInfo, World},
    rules::CompiledRule,
    series::HostState,
    summary,
};

/// Longest text value that an alert carries, in characters.
const TEXT: usize = 1_000;

/// What happened to one rule on one host.
pub(super) struct Event<'a> {
    pub(super) verdict: Verdict,
    pub(super) position: Position,
    pub(super) at_ms: u64,
    pub(super) fresh: bool,
    /// Nothing came, and that is what happened.
    pub(super) quiet: bool,
    pub(super) result: Option<&'a CheckResult>,
    /// What to say of it.
    pub(super) summary: &'a dyn Fn(Step) -> String,
}

/// One rule on one host, and what is known beside.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) agent: &'a AgentId,
    pub(super) host: &'a HostInfo,
    pub(super) rule: &'a CompiledRule,
    pub(super) firing: &'a HashSet<AlertKey>,
}

/// Move one alert.
pub(super) fn happen(state: &mut HostState, draft: &mut Draft, place: Place<'_>, event: &Event<'_>) {
    let Place { world, host, rule, firing, .. } = place;
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
        None => opened(place, event),
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
    journal(tracker, step, &alert, event, muted.as_deref(), &draft::distinct(&rule.rule.notify));
    draft.take(tracker, step, alert, &rule.rule.notify, muted);
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

/// Nothing came, by the clock of `world`.
pub(super) fn quiet(
    state: &mut HostState,
    draft: &mut Draft,
    place: Place<'_>,
    severity: Severity,
    summary: &str,
) {
    let Place { world, rule, .. } = place;
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
    happen(state, draft, place, &event);
}

/// End an alert without a result.
pub(super) fn end(draft: &mut Draft, tracker: &mut Tracker, now_ms: u64, why: &str) {
    let (Some(alert), Some(step)) = (tracker.state.alert(), alert::withdraw(&tracker.state)) else { return };
    let summary = summary::of_withdrawal(alert, why);
    let alert = Alert { summary, at_ms: now_ms.max(alert.at_ms), ..alert.clone() };
    tracker.note(now_ms, format!("ended: {why}"));
    draft.take(tracker, step, alert, &[], None);
}

/// The alert that an event opens; its state, summary and value follow.
fn opened(place: Place<'_>, event: &Event<'_>) -> Alert {
    let Place { agent, host, rule, .. } = place;
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
