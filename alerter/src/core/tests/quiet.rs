//! Checks' own alerts, silence of checks and hosts, and what mutes.

use protocol::{alert::Acknowledgement, operate::Silence};

use super::*;
use crate::core::mute::CompiledSilence;

const START: u64 = 1_000 * MINUTE;

fn documents(documents: serde_json::Value) -> RuleBook {
    RuleBook::new(DocumentList { revision: 1, documents: serde_json::from_value(documents).unwrap() })
}

fn check(more: serde_json::Value) -> serde_json::Value {
    let mut check = serde_json::json!({
        "kind": "Check", "name": "disk", "every": "1m", "timeout": "10s", "command": "true", "output": "number",
    });
    for (key, value) in more.as_object().unwrap() {
        check[key] = value.clone();
    }
    check
}

fn default_receiver() -> serde_json::Value {
    serde_json::json!({"kind": "Receiver", "name": "ops", "default": true, "webhook": {"url": "http://x"}})
}

fn host(checks: &[&str]) -> HostInfo {
    let checks = checks.iter().map(|name| name.parse().unwrap()).collect();
    HostInfo { checks, seen: true, ..HostInfo::default() }
}

fn id(agent: &str) -> AgentId {
    AgentId::new(agent).unwrap()
}

fn with_status(seq: u64, status: Status) -> CheckResult {
    CheckResult { status, ..result(seq, START + seq * MINUTE, 1.0) }
}

fn told(run: &Run) -> Vec<(String, AlertState, usize)> {
    let one = |t: &Transition| (t.alert.rule.to_string(), t.alert.state, t.notify.len());
    run.transitions.iter().map(one).collect()
}

#[test]
fn thresholds_of_a_check_make_an_alert_without_a_rule() {
    let mut run = Run::new(documents(serde_json::json!([
        check(serde_json::json!({"warning": "> 80"})),
        default_receiver()
    ])));
    run.see(with_status(1, Status::Ok));
    run.see(with_status(2, Status::Warning));
    run.see(with_status(3, Status::Unknown));
    run.see(with_status(4, Status::Critical));
    run.see(with_status(5, Status::Warning));
    run.see(with_status(6, Status::Ok));
    assert_eq!(
        told(&run),
        [("disk".into(), Firing, 1), ("disk".into(), Firing, 1), ("disk".into(), Resolved, 1)]
    );
    let ids: Vec<String> = run.transitions.iter().map(|t| t.alert.message_id()).collect();
    let id = &run.transitions[0].alert.id;
    assert_eq!(ids, [format!("{id}:firing"), format!("{id}:firing-1"), format!("{id}:resolved")]);
    assert_eq!(run.transitions[1].alert.severity, Severity::Critical);
}

#[test]
fn a_rule_for_the_check_stands_for_its_thresholds() {
    let rule = serde_json::json!({"kind": "Rule", "name": "full", "check": "disk", "when": "value > 90"});
    let thresholds = serde_json::json!({"critical": "> 0"});
    let mut run = Run::new(documents(serde_json::json!([check(thresholds), rule])));
    run.see(with_status(1, Status::Critical));
    assert_eq!(run.states(), []);
    // Unless the check says whom to tell.
    let notify = serde_json::json!({"critical": "> 0", "notify": ["ops"]});
    let mut run = Run::new(documents(serde_json::json!([check(notify), rule])));
    run.see(with_status(1, Status::Critical));
    assert_eq!(told(&run), [("disk".into(), Firing, 1)]);
}

/// web-01 with two checks, watched since 0.
fn fleet() -> Run {
    let mut other = check(serde_json::json!({}));
    other["name"] = "load".into();
    let mut run =
        Run::new(documents(serde_json::json!([check(serde_json::json!({})), other, default_receiver()])));
    run.hosts.insert(id("web-01"), host(&["disk", "load"]));
    run.alerts.watch(0);
    run.tick(START, 0);
    run
}

#[test]
fn a_check_that_falls_silent_is_told_and_a_host_covers_its_checks() {
    let mut run = fleet();
    let load = |seq| CheckResult { check: "load".parse().unwrap(), ..result(seq, START + seq * MINUTE, 1.0) };
    // Two minutes, ten seconds of timeout, thirty of grace.
    run.steady_ms = 100_000;
    run.see(load(1));
    run.tick(START + 161_000, 161_000);
    assert_eq!(told(&run), [("disk".into(), Firing, 1)]);
    let alert = &run.transitions[0].alert;
    assert_eq!(alert.summary, "disk on web-01: no result for 2m 41s, one is expected within 2m 40s");
    // Told once.
    run.tick(START + 162_000, 162_000);
    assert_eq!(run.transitions.len(), 1);
    run.steady_ms = 170_000;
    run.see(result(2, START + 3 * MINUTE, 1.0));
    assert_eq!(told(&run)[1..], [("disk".into(), Resolved, 1)]);
    // Nothing at all comes: one alert.
    run.tick(START + 500_000, 500_000);
    run.tick(START + 501_000, 501_000);
    assert_eq!(told(&run)[2..], [("host_down".into(), Firing, 1)]);
    run.steady_ms = 600_000;
    run.see(load(3));
    assert_eq!(told(&run)[3..], [("host_down".into(), Resolved, 1)]);
    run.tick(START + 601_000, 601_000);
    assert_eq!(told(&run)[4..], [("disk".into(), Firing, 1)]);
}

#[test]
fn g6_silence_means_nothing_until_everything_was_judged() {
    let mut run = fleet();
    run.alerts.look_away();
    run.tick(START + 3_600_000, 3_600_000);
    assert_eq!(run.states(), []);
    run.alerts.watch(3_600_000);
    run.tick(START + 3_700_000, 3_700_000);
    assert_eq!(run.states(), [], "everybody gets the whole time again");
    // A wall clock that jumps makes nobody silent.
    run.tick(START + 90 * 86_400_000, 3_710_000);
    run.tick(START - 500 * MINUTE, 3_720_000);
    assert_eq!(run.states(), []);
    run.tick(START, 3_800_000);
    assert_eq!(run.states(), [Firing]);
}

#[test]
fn a_host_that_nobody_saw_is_not_missed_and_one_without_the_check_any_more_neither() {
    let mut run = fleet();
    run.hosts.insert(id("new-01"), HostInfo { seen: false, ..host(&["disk"]) });
    run.tick(START + 100_000, 100_000);
    run.steady_ms = 100_000;
    run.see(CheckResult { check: "load".parse().unwrap(), ..result(1, START, 1.0) });
    run.tick(START + 200_000, 200_000);
    assert_eq!(told(&run), [("disk".into(), Firing, 1)]);
    run.hosts.insert(id("web-01"), host(&["load"]));
    run.tick(START + 201_000, 201_000);
    assert_eq!(told(&run)[1..], [("disk".into(), Resolved, 1)]);
}

#[test]
fn a_rule_may_hold_because_nothing_comes() {
    let rule = serde_json::json!({
        "kind": "Rule", "name": "gone", "check": "backup", "when": "absent(\"10m\") || value > 90", "notify": ["ops"],
    });
    let mut run = Run::new(documents(serde_json::json!([rule])));
    run.hosts.insert(id("web-01"), host(&["backup"]));
    run.alerts.watch(0);
    run.tick(START, 0);
    let backup =
        |seq, value| CheckResult { check: "backup".parse().unwrap(), ..result(seq, START + seq, value) };
    run.see(backup(1, 1.0));
    run.tick(START + 599_000, 599_000);
    assert_eq!(run.states(), []);
    run.tick(START + 600_000, 600_000);
    run.tick(START + 601_000, 601_000);
    assert_eq!(run.states(), [Firing]);
    run.steady_ms = 602_000;
    run.see(backup(2, 1.0));
    assert_eq!(run.states(), [Firing, Resolved]);
}

fn silence(more: serde_json::Value) -> CompiledSilence {
    let mut silence = serde_json::json!({"name": "night", "comment": "work"});
    for (key, value) in more.as_object().unwrap() {
        silence[key] = value.clone();
    }
    CompiledSilence::new(serde_json::from_value::<Silence>(silence).unwrap()).unwrap()
}

#[test]
fn a_silence_suppresses_the_opening_and_never_the_end() {
    let ends = protocol::timestamp::format(START + 10 * MINUTE);
    let mut run = Run::new(book(vec![rule("0s", "0s")]));
    run.mutes.silences = vec![silence(serde_json::json!({"rules": ["full"], "ends": ends}))];
    run.see(result(1, START + MINUTE, 99.0));
    assert_eq!(told(&run), [("full".into(), Firing, 0)]);
    assert_eq!(run.transitions[0].alert.muted.as_deref(), Some("silence night (work)"));
    // It is over before the silence is: nobody hears anything.
    run.see(result(2, START + 2 * MINUTE, 1.0));
    assert_eq!(told(&run)[1..], [("full".into(), Resolved, 0)]);
    // Still firing when the silence ends: told then, and of its end.
    run.see(result(3, START + 9 * MINUTE, 99.0));
    run.tick(START + 9 * MINUTE, 0);
    assert_eq!(run.transitions.len(), 3);
    run.crash();
    run.tick(START + 10 * MINUTE, 0);
    run.tick(START + 11 * MINUTE, 0);
    assert_eq!(told(&run)[3..], [("full".into(), Firing, 2)]);
    assert!(run.transitions[3].retold);
    run.see(result(4, START + 12 * MINUTE, 1.0));
    assert_eq!(told(&run)[4..], [("full".into(), Resolved, 2)]);
    // One that begins while it fires does not keep its end from anybody.
    run.mutes.silences = vec![];
    run.see(result(5, START + 13 * MINUTE, 99.0));
    let ends = protocol::timestamp::format(START + 60 * MINUTE);
    run.mutes.silences = vec![silence(serde_json::json!({"hosts": "agent == \"web-01\"", "ends": ends}))];
    run.see(result(6, START + 14 * MINUTE, 1.0));
    assert_eq!(told(&run)[5..], [("full".into(), Firing, 2), ("full".into(), Resolved, 2)]);
}

#[test]
fn a_window_comes_again_in_its_time_zone() {
    let night = silence(serde_json::json!({
        "checks": ["disk"], "cron": "0 2 * * *", "duration": "1h", "timezone": "Europe/Berlin",
    }));
    let at = |text| protocol::timestamp::parse(text).unwrap();
    for (moment, active) in [
        ("2026-11-21T00:59:59Z", false),
        ("2026-11-21T01:00:00Z", true), // 02:00 in winter
        ("2026-11-21T01:59:59Z", true),
        ("2026-11-21T02:00:00Z", false),
        ("2026-07-01T00:00:00Z", true), // and in summer
        ("2026-07-01T01:00:00Z", false),
    ] {
        assert_eq!(night.is_active(at(moment)), active, "{moment}");
    }
    let endless = serde_json::from_value(serde_json::json!({"name": "x", "checks": ["disk"]})).unwrap();
    assert!(CompiledSilence::new(endless).unwrap_err().to_string().contains("\"ends\""));
}

#[test]
fn what_depends_on_something_that_fires_is_told_when_that_is_over() {
    let rules = serde_json::json!([
        {"kind": "Rule", "name": "net", "check": "ping", "when": "value > 1", "notify": ["ops"]},
        {"kind": "Rule", "name": "full", "check": "disk", "when": "value > 90", "notify": ["ops"], "depends_on": ["net"]},
    ]);
    for parent in [false, true] {
        let mut run = Run::new(documents(rules.clone()));
        let behind = [("parent".to_owned(), "router".to_owned())].into();
        run.hosts.insert(id("web-01"), HostInfo { labels: behind, ..host(&["disk"]) });
        let agent = if parent { "router" } else { "web-01" };
        let ping = |seq, value| CheckResult {
            check: "ping".parse().unwrap(),
            agent: id(agent),
            ..result(seq, START + seq, value)
        };
        run.see(ping(1, 5.0));
        run.see(result(2, START + 2, 99.0));
        assert_eq!(told(&run), [("net".into(), Firing, 1), ("full".into(), Firing, 0)]);
        run.tick(START + 3, 0);
        assert_eq!(run.transitions.len(), 2);
        run.see(ping(4, 0.0));
        run.tick(START + 5, 0);
        assert_eq!(told(&run)[2..], [("net".into(), Resolved, 1), ("full".into(), Firing, 1)]);
    }
}

#[test]
fn an_acknowledgement_is_shown_ends_by_itself_and_survives_a_crash() {
    let mut run = Run::new(book(vec![rule("0s", "0s")]));
    run.see(result(1, START, 99.0));
    let alert = run.transitions[0].alert.id.clone();
    let ack =
        Acknowledgement { by: "me".into(), note: "on it".into(), at_ms: START, until_ms: START + MINUTE };
    let (shown, draft) = run.alerts.acknowledge(&alert[..6], Some(ack.clone()), START).unwrap();
    assert_eq!(shown.acknowledged, Some(ack));
    run.take(draft);
    run.crash();
    assert!(run.alerts.active().all(|alert| alert.acknowledged.is_some()));
    run.tick(START + MINUTE, 0);
    assert!(run.alerts.active().all(|alert| alert.acknowledged.is_none()));
    assert!(run.alerts.acknowledge("nothing", None, START).is_none());
    let (_, tracker) = run.alerts.tracker_of(&alert).unwrap();
    let journal: Vec<&str> = tracker.journal.iter().map(|entry| entry.text.as_str()).collect();
    assert_eq!(journal[0], "firing, told dev, ops: disk on web-01 is 99: full (value > 90)");
    assert_eq!(journal[1], "acknowledged by me until 1970-01-01T16:41:00Z: on it");
    assert_eq!(journal[2], "the acknowledgement is over");
}
