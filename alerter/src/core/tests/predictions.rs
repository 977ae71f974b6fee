//! Rules over predictions: detectors that learn in order and are restored to the bit, forecasts that are looked up.

use std::sync::Arc;

use crate::core::predict::{Answer, DetectorKey, Detectors, Forecasts, Learned, Pace, Question};

use super::*;

const START: u64 = 1_000_000 * MINUTE;
const STEP: u64 = 5 * MINUTE;

fn rules(when: &str) -> RuleBook {
    book(vec![
        serde_json::from_value(serde_json::json!({"name": "full", "check": "disk", "when": when})).unwrap(),
    ])
}

/// A day's wave with a little noise that is the same in every run.
fn wave(seq: u64) -> f64 {
    let noise = (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24);
    50.0 + 20.0 * (std::f64::consts::TAU * seq as f64 / 288.0).sin() + 2.0 * noise
}

fn at(seq: u64, value: f64) -> CheckResult {
    result(seq, START + seq * STEP, value)
}

fn learned(run: &Run) -> Learned {
    let detectors = &run.alerts.predictions.detectors;
    detectors.get(&AgentId::new("web-01").unwrap(), &"disk".parse().unwrap(), "").unwrap().clone()
}

const WEEK: u64 = 7 * 288;

#[test]
fn a_value_like_nothing_before_fires_and_a_usual_one_does_not() {
    let mut run = Run::new(rules("anomaly() > 0.9"));
    for seq in 1..=WEEK {
        run.see(at(seq, wave(seq)));
    }
    assert_eq!(run.states(), [], "a usual week");
    run.see(at(WEEK + 1, 130.0));
    assert_eq!(run.states(), [Firing]);
    let summary = &run.transitions[0].alert.summary;
    assert!(
        summary.contains("; anomaly() is 0.9") && summary.contains("is above all 2016 values"),
        "{summary}"
    );
    run.see(at(WEEK + 2, wave(WEEK + 2)));
    assert_eq!(run.states(), [Firing, Resolved]);
    // What no rule asks for is not learned.
    let mut idle = Run::new(rules("value > 1000"));
    idle.see(at(1, 5.0));
    assert_eq!(idle.alerts.predictions.detectors.len(), 0);
}

#[test]
fn a_result_without_a_number_or_older_than_what_was_learned_says_nothing() {
    let mut run = Run::new(rules("anomaly() >= 0.0"));
    for seq in [1, 2, 4] {
        run.see(at(seq, 5.0));
    }
    let before = learned(&run);
    run.see(at(3, 500.0));
    run.see(at(4, 500.0));
    assert_eq!(learned(&run), before);
    assert_eq!(run.alerts.predictions.detectors.counts(), (2, 0));
    let transitions = run.transitions.len();
    run.see(CheckResult { value: Some(Scalar::Text("n/a".to_owned())), ..at(5, 0.0) });
    assert_eq!(
        (learned(&run), run.transitions.len()),
        (before, transitions),
        "neither begins nor ends anything"
    );
}

/// What was saved and what comes after it from the stream are the detector as it would be without a crash.
#[test]
fn a_crash_anywhere_gives_the_same_detector_to_the_bit() {
    let mut whole = Run::new(rules("anomaly() > 0.5"));
    (1..=400).for_each(|seq| whole.see(at(seq, wave(seq))));
    for (saved_at, judged) in [(0, 30), (100, 100), (100, 250), (250, 390)] {
        let mut run = Run::new(rules("anomaly() > 0.5"));
        let mut saved: Vec<(DetectorKey, Learned)> = Vec::new();
        for seq in 1..=judged {
            run.see(at(seq, wave(seq)));
            if seq == saved_at {
                let all = run.alerts.predictions.detectors.unsaved(u64::MAX, 10);
                let bytes = all.iter().map(|(key, one)| (key.clone(), postcard::to_allocvec(one).unwrap()));
                saved = bytes.map(|(key, bytes)| (key, postcard::from_bytes(&bytes).unwrap())).collect();
                let keys: Vec<DetectorKey> = saved.iter().map(|(key, _)| key.clone()).collect();
                run.alerts.predictions.detectors.saved(&keys);
            }
        }
        let since = run.alerts.predictions.detectors.unsaved_since_ms().unwrap();
        assert_eq!(since, START + (saved_at + u64::from(judged > saved_at)) * STEP);
        run.crash();
        run.alerts.predictions.detectors = Detectors::new(10, saved);
        // From the mark on, and some more.
        let from = ((since - START) / STEP).saturating_sub(20).max(1);
        let read: Vec<Incoming> = (from..=judged).map(|seq| incoming(at(seq, wave(seq)))).collect();
        run.alerts.remember(&run.book, &read, 0);
        (judged - 5..=400).for_each(|seq| run.see(at(seq, wave(seq))));
        assert_eq!(learned(&run), learned(&whole), "saved at {saved_at}, crashed at {judged}");
    }
}

#[test]
fn g10_there_are_only_so_many_detectors_and_those_not_used_for_longest_go() {
    let mut run = Run::new(rules("anomaly() > 0.5"));
    run.alerts.predictions.detectors = Detectors::new(8, Vec::new());
    let of =
        |host: u64, seq| CheckResult { agent: AgentId::new(&format!("h{host}")).unwrap(), ..at(seq, 5.0) };
    for host in 0..8 {
        run.see(of(host, 1));
    }
    run.see(of(0, 2));
    run.see(of(9, 1));
    let detectors = &mut run.alerts.predictions.detectors;
    let there = |detectors: &Detectors, host| {
        detectors.get(&AgentId::new(&format!("h{host}")).unwrap(), &"disk".parse().unwrap(), "").is_some()
    };
    assert_eq!((detectors.len(), detectors.counts()), (8, (0, 1)));
    assert!(there(detectors, 0) && !there(detectors, 1) && there(detectors, 9));
    assert_eq!(detectors.gone().len(), 1);
    // Rules that ask no more need no detectors.
    run.alerts.predictions.keep_asked(&rules("value > 1"));
    assert_eq!(
        (run.alerts.predictions.detectors.len(), run.alerts.predictions.detectors.gone().len()),
        (0, 9)
    );
}

fn hours(value: f64) -> Vec<(AgentId, Answer)> {
    let answer = Answer { value, low: value, high: value, why: "it grows".to_owned() };
    vec![(AgentId::new("web-01").unwrap(), answer)]
}

#[test]
fn a_forecast_holds_while_it_is_young_and_says_why_there_is_none() {
    let mut run = Run::new(rules("time_to(\"> 95\") < 24"));
    run.alerts.predictions.forecasts =
        Forecasts::new(Pace { every_ms: 10 * MINUTE, max_age_ms: 60 * MINUTE, most: 10 });
    let why = |run: &Run| {
        let prediction =
            run.book.of_check(&"disk".parse().unwrap()).unwrap().rules[0].predictions().next().unwrap();
        let (agent, check) = (AgentId::new("web-01").unwrap(), "disk".parse().unwrap());
        run.alerts.predictions.forecasts.why(&agent, &check, prediction, run.steady_ms)
    };
    run.see(at(1, 90.0));
    assert_eq!((run.states(), why(&run).as_str()), (vec![], "none yet: it is being made"));
    let due = run.alerts.predictions.forecasts.due(0, 10);
    let [question @ Question::Series { .. }] = due.as_slice() else { panic!("{due:?}") };
    assert_eq!(run.alerts.predictions.forecasts.due(0, 10), [], "it is under way");
    run.alerts.predictions.forecasts.answered(question, Err("ingest is away".to_owned()), 0);
    assert_eq!(why(&run), "none yet: ingest is away");
    assert_eq!(run.alerts.predictions.forecasts.due(29_000, 10), []);
    assert_eq!(run.alerts.predictions.forecasts.due(30_000, 10).len(), 1, "again after half a minute");
    run.alerts.predictions.forecasts.answered(question, Ok(hours(24.5)), 30_000);
    run.see(at(2, 90.0));
    assert_eq!(run.states(), [], "24.5 hours");
    // Time passes on the way there.
    run.steady_ms = 30_000 + 40 * MINUTE;
    run.see(at(3, 90.0));
    assert_eq!(run.states(), [Firing]);
    let summary = &run.transitions[0].alert.summary;
    assert!(summary.contains("; time_to(\"> 95\") is in 23.8 h: it grows; 40m ago"), "{summary}");
    // Too old is none: neither begins nor ends an alert.
    run.steady_ms = 30_000 + 61 * MINUTE;
    run.see(at(4, 10.0));
    assert_eq!(run.states(), [Firing]);
    assert!(why(&run).contains("too old"), "{}", why(&run));
    run.alerts.predictions.forecasts.answered(question, Ok(hours(f64::INFINITY)), run.steady_ms);
    run.see(at(5, 10.0));
    assert_eq!(run.states(), [Firing, Resolved]);
}

#[test]
fn g10_questions_are_bounded_and_spread_over_the_interval() {
    let pace = Pace { every_ms: 600_000, max_age_ms: 3_600_000, most: 100 };
    let mut run = Run::new(rules("forecast(\"4h\") > 95 && forecast_low(\"4h\") > 90"));
    run.alerts.predictions.forecasts = Forecasts::new(pace);
    for host in 0..120 {
        let agent = AgentId::new(&format!("h{host}")).unwrap();
        run.see(CheckResult { agent, ..at(1, 5.0) });
    }
    let forecasts = &mut run.alerts.predictions.forecasts;
    assert_eq!((forecasts.len(), forecasts.refused()), (100, 40), "two lines are one question, both refused");
    let first = forecasts.due(0, 1_000);
    assert_eq!(first.len(), 100);
    for question in &first {
        forecasts.answered(question, Ok(hours(1.0)), 0);
    }
    let counts: Vec<usize> =
        (5..10).map(|minute| forecasts.due((minute + 1) * MINUTE, 1_000).len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 100);
    assert!(counts.iter().all(|count| (5..40).contains(count)), "{counts:?}");
    // Two days without a result that asks.
    assert_eq!(forecasts.due(3 * 86_400_000, 1_000), []);
    assert!(forecasts.is_empty());
}

#[test]
fn a_host_unlike_its_group_fires_and_says_in_what_way() {
    let mut run = Run::new(rules("outlier(\"web\") > 0.5"));
    let of = |host: &str, seq| CheckResult { agent: AgentId::new(host).unwrap(), ..at(seq, 5.0) };
    run.see(of("a", 1));
    run.see(of("b", 1));
    let due = run.alerts.predictions.forecasts.due(0, 10);
    let [question @ Question::Group { .. }] = due.as_slice() else { panic!("one for the group: {due:?}") };
    let answer = |value, why: &str| Answer { value, low: value, high: value, why: why.to_owned() };
    let answers = vec![
        (AgentId::new("a").unwrap(), answer(0.8, "level: 12 above the group")),
        (AgentId::new("b").unwrap(), answer(0.1, "like the 5 hosts of its group")),
    ];
    run.alerts.predictions.forecasts.answered(question, Ok(answers), 0);
    for host in ["a", "b", "c"] {
        run.see(of(host, 2));
    }
    assert_eq!((run.states(), run.transitions[0].alert.agent.as_str()), (vec![Firing], "a"));
    let summary = &run.transitions[0].alert.summary;
    assert!(summary.contains("outlier(\"web\") is 0.80: level: 12 above the group"), "{summary}");
    let prediction = documents::Prediction::Outlier { group: "web".parse().unwrap(), metric: Arc::from("") };
    let (agent, check) = (AgentId::new("c").unwrap(), "disk".parse().unwrap());
    let why = run.alerts.predictions.forecasts.why(&agent, &check, &prediction, 0);
    assert!(why.contains("not among the hosts"), "{why}");
}

/// As `dogwatch rule test` runs it: a disk that fills is told before it is full, an odd value when it comes.
#[test]
fn tests_of_rules_foresee_what_their_series_hold() {
    use crate::core::scenario;
    let rule = |name: &str, check: &str, when: &str| {
        serde_json::from_value(serde_json::json!({"name": name, "check": check, "when": when})).unwrap()
    };
    let rules = book(vec![
        rule("fills", "disk", "time_to(\"> 95\") < 6"),
        rule("too_high", "disk", "forecast(\"2h\") > 95"),
        rule("odd", "load", "anomaly() > 0.9"),
        rule("apart", "load", "outlier(\"web\") > 0.5"),
    ]);
    let run = |every: &str, check: &str, values: Vec<f64>| {
        let scenario: scenario::Scenario = serde_json::from_value(serde_json::json!({
            "name": "ahead", "every": every, "series": {check: values}, "expect": [],
        }))
        .unwrap();
        scenario::run(&rules, &scenario).unwrap()
    };
    let first = |found: &[scenario::Expected], rule: &str| {
        let fires = found.iter().find(|one| one.rule.as_str() == rule && one.state == Firing);
        fires.map(|one| one.at.as_secs_f64() / 3_600.0)
    };
    // 1 % an hour from 60 % on: at 95 % after 35 hours.
    let disk =
        run("30m", "disk", (0..70_u64).map(|n| 60.0 + 0.5 * n as f64 + 0.02 * (n % 3) as f64).collect());
    let fills = first(&disk, "fills").unwrap();
    assert!((27.0..=31.0).contains(&fills), "{fills}: {disk:?}");
    let too_high = first(&disk, "too_high").unwrap();
    assert!((30.0..=35.0).contains(&too_high), "{too_high}: {disk:?}");
    // A load that follows the day for a week, and then does not.
    let load = (0..673_u64).map(|n| if n == 672 { 400.0 } else { wave(n * 3).round() }).collect();
    let load = run("15m", "load", load);
    assert_eq!(first(&load, "odd"), Some(168.0), "{load:?}");
    assert_eq!(first(&load, "apart"), None, "one host has nobody to be unlike");
}
