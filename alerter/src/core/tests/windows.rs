//! Rules over windows, in a row, with a clear condition, and flapping.

use protocol::document::Flapping;

use super::*;

fn with(when: &str, more: serde_json::Value) -> RuleBook {
    let mut rule = serde_json::json!({"name": "full", "check": "disk", "when": when, "notify": ["ops"]});
    for (key, value) in more.as_object().unwrap() {
        rule[key] = value.clone();
    }
    book(vec![serde_json::from_value(rule).unwrap()])
}

const START: u64 = 1_000 * MINUTE;

/// One value a minute.
fn feed(run: &mut Run, values: &[f64]) {
    let before =
        run.alerts.hosts.values().flat_map(|host| host.series.values()).map(|series| series.last.seq).max();
    for (seq, value) in (before.unwrap_or(0) + 1..).zip(values) {
        run.see(result(seq, START + seq * MINUTE, *value));
    }
}

#[test]
fn a_window_holds_over_its_time_and_not_for_one_value() {
    let mut run = Run::new(with(r#"avg("5m") > 90"#, serde_json::json!({})));
    feed(&mut run, &[50.0, 50.0, 99.0, 99.0, 99.0]);
    assert_eq!(run.states(), []);
    feed(&mut run, &[99.0, 99.0]);
    assert_eq!(run.states(), [Firing]);
    feed(&mut run, &[60.0, 60.0]);
    assert_eq!(run.states(), [Firing, Resolved]);
}

#[test]
fn windows_know_results_that_came_late_and_those_of_before_a_restart() {
    let rules = || with(r#"count("5m") >= 4 && min("5m") > 90"#, serde_json::json!({}));
    let mut run = Run::new(rules());
    for seq in [1, 2, 4] {
        run.see(result(seq, START + seq * MINUTE, 99.0));
    }
    // One that was overtaken moves nothing by itself, and counts in the window.
    run.see(result(3, START + 3 * MINUTE, 99.0));
    assert_eq!(run.states(), []);
    run.see(result(5, START + 5 * MINUTE, 99.0));
    assert_eq!(run.states(), [Firing]);
    // After a restart what was judged is read again and changes nothing; the window is what it was.
    run.crash();
    let read: Vec<Incoming> = (1..=5).map(|seq| incoming(result(seq, START + seq * MINUTE, 99.0))).collect();
    run.alerts.remember(&run.book, &read, 0);
    assert_eq!(run.states(), [Firing]);
    run.see(result(4, START + 4 * MINUTE, 1.0));
    assert_eq!(run.states(), [Firing], "a result of before the restart says nothing new");
    run.see(result(6, START + 6 * MINUTE, 99.0));
    assert_eq!(run.states(), [Firing]);
    run.see(result(7, START + 7 * MINUTE, 10.0));
    assert_eq!(run.states(), [Firing, Resolved]);
}

#[test]
fn a_value_that_changes_is_seen_once() {
    let mut run = Run::new(with("changed()", serde_json::json!({})));
    feed(&mut run, &[5.0, 5.0, 6.0]);
    assert_eq!(run.states(), [Firing]);
    feed(&mut run, &[6.0, 6.0]);
    assert_eq!(run.states(), [Firing, Resolved]);
}

#[test]
fn results_in_a_row_are_counted_by_attempts_and_by_consecutive_and_over_a_crash() {
    for book in [
        || with("value > 90", serde_json::json!({"attempts": 3})),
        || with("value > 90 && consecutive(3)", serde_json::json!({})),
    ] {
        let mut run = Run::new(book());
        feed(&mut run, &[99.0, 99.0, 10.0, 99.0, 99.0]);
        assert_eq!(run.states(), [Pending, Resolved, Pending]);
        run.crash();
        run.see(result(6, START + 6 * MINUTE, 99.0));
        assert_eq!(run.states(), [Pending, Resolved, Pending, Firing]);
    }
}

#[test]
fn a_result_without_a_value_ends_nothing() {
    let mut run = Run::new(with("value > 90", serde_json::json!({})));
    feed(&mut run, &[99.0]);
    run.see(CheckResult { value: None, status: Status::Unknown, ..result(2, START + 2 * MINUTE, 0.0) });
    assert_eq!(run.states(), [Firing]);
    run.see(result(3, START + 3 * MINUTE, 10.0));
    assert_eq!(run.states(), [Firing, Resolved]);
}

#[test]
fn an_alert_is_clear_when_its_clear_condition_holds() {
    let mut run = Run::new(with("value > 90", serde_json::json!({"clear_when": "value < 80"})));
    feed(&mut run, &[85.0, 99.0, 85.0, 89.0]);
    assert_eq!(run.states(), [Firing]);
    feed(&mut run, &[79.0, 85.0]);
    assert_eq!(run.states(), [Firing, Resolved]);
}

#[test]
fn an_alert_that_flaps_goes_on_until_it_is_calm() {
    let limits = Flapping { start: 30, stop: 25 };
    let mut run = Run::new(with("value > 90", serde_json::json!({"flapping": limits})));
    let flapping: Vec<f64> = (0..40).map(|n| if n % 2 == 0 { 99.0 } else { 10.0 }).collect();
    feed(&mut run, &flapping);
    assert!(run.states().len() < 10, "{:?}", run.states());
    assert_eq!(run.states().last(), Some(&Firing));
    let before = run.states().len();
    feed(&mut run, &[10.0; 20]);
    assert_eq!(run.states()[before..], [Resolved]);
    // Without it each is told.
    let mut run = Run::new(with("value > 90", serde_json::json!({})));
    feed(&mut run, &flapping);
    assert_eq!(run.states().len(), 40);
}
