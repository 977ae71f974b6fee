mod predictions;
mod quiet;
mod windows;

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use protocol::{
    AgentId, CheckName, CheckResult, ReceiverName, Scalar, Status,
    admin::DocumentList,
    alert::{Alert, AlertState, Severity},
    document::{Document, Rule},
};

use super::{
    alert::{AlertKey, Position, Seen, State, Step, Timing, Tracker, Verdict, next, withdraw},
    alerts::Alerts,
    draft::{Draft, Transition},
    evaluate::{HostInfo, Incoming, World},
    mute::Mutes,
    rules::RuleBook,
};

const MINUTE: u64 = 60_000;
const FRESHNESS: u64 = 5 * MINUTE;

fn alert(started_ms: u64) -> Alert {
    Alert {
        v: 1,
        id: "x".into(),
        agent: AgentId::new("web-01").unwrap(),
        rule: "full".parse().unwrap(),
        check: "disk".parse().unwrap(),
        state: AlertState::Pending,
        severity: Default::default(),
        summary: String::new(),
        value: None,
        unit: None,
        labels: BTreeMap::new(),
        started_ms,
        at_ms: started_ms,
        raised: 0,
        muted: None,
        acknowledged: None,
    }
}

fn pending(started_ms: u64) -> State {
    State::Pending { alert: alert(started_ms), held: 1 }
}

fn firing(calm_since_ms: Option<u64>) -> State {
    State::Firing { alert: alert(0), told: Vec::new(), calm_since_ms, muted: None }
}

/// Every state with every kind of result.
#[test]
fn the_machine_moves_as_its_diagram_says() {
    let holds = Seen { verdict: Verdict::Holds(Severity::Warning), at_ms: 100, fresh: true };
    let worse = Seen { verdict: Verdict::Holds(Severity::Critical), ..holds };
    let nothing = Seen { verdict: Verdict::Nothing, ..holds };
    let clear = Seen { verdict: Verdict::Clear, ..holds };
    let old_holds = Seen { fresh: false, ..holds };
    let old_clear = Seen { fresh: false, ..clear };
    let now = Timing { hold_ms: 0, keep_ms: 0, attempts: 1 };
    let later = Timing { hold_ms: 50, keep_ms: 50, attempts: 1 };
    let thrice = Timing { attempts: 3, ..now };
    let held = |held| State::Pending { alert: alert(60), held };
    for (name, state, seen, timing, expected) in [
        ("ok, clear", State::Ok, clear, now, None),
        ("ok, holds", State::Ok, holds, now, Some(Step::Fire)),
        ("ok, holds, for", State::Ok, holds, later, Some(Step::Pend)),
        ("ok, held once", State::Ok, old_holds, now, None),
        ("ok, held once, for", State::Ok, old_holds, later, None),
        ("pending, clear", pending(60), clear, later, Some(Step::Lapse)),
        ("pending, was clear", pending(60), old_clear, later, Some(Step::Lapse)),
        ("pending, too short", pending(51), holds, later, None),
        ("pending, long enough", pending(50), holds, later, Some(Step::Fire)),
        ("pending, held long enough once", pending(50), old_holds, later, None),
        ("ok, holds, attempts", State::Ok, holds, thrice, Some(Step::Pend)),
        ("once", held(1), holds, thrice, Some(Step::Count)),
        ("twice", held(2), holds, thrice, Some(Step::Fire)),
        ("twice, was clear", held(2), old_clear, thrice, Some(Step::Lapse)),
        ("twice, held once more", held(2), old_holds, thrice, Some(Step::Count)),
        ("ok, nothing", State::Ok, nothing, now, None),
        ("pending, nothing", pending(0), nothing, later, None),
        ("firing, nothing", firing(None), nothing, now, None),
        ("firing, worse", firing(None), worse, now, Some(Step::Raise(Severity::Critical))),
        ("firing, was worse", firing(None), Seen { fresh: false, ..worse }, now, None),
        ("firing, holds", firing(None), holds, later, None),
        ("firing, clear", firing(None), clear, now, Some(Step::Resolve)),
        ("firing, was clear", firing(None), old_clear, now, Some(Step::Resolve)),
        ("firing, clear, keep", firing(None), clear, later, Some(Step::Calm)),
        ("calm, too short", firing(Some(51)), clear, later, None),
        ("calm, long enough", firing(Some(50)), clear, later, Some(Step::Resolve)),
        ("calm, holds", firing(Some(51)), holds, later, Some(Step::Stir)),
        ("calm, clock back", firing(Some(500)), clear, later, None),
    ] {
        assert_eq!(next(&state, seen, timing), expected, "{name}");
    }
    assert_eq!(withdraw(&State::Ok), None);
    assert_eq!(withdraw(&pending(0)), Some(Step::Lapse));
    assert_eq!(withdraw(&firing(Some(1))), Some(Step::Resolve));
}

#[test]
fn results_are_ordered_by_sequence_and_else_by_time() {
    let at = |epoch, seq, at_ms, stream| Position { at_ms, epoch, seq, stream };
    for (newer, older, expected) in [
        (at(1, 2, 10, 1), at(1, 1, 20, 2), true),  // the clock went back
        (at(1, 1, 20, 2), at(1, 1, 20, 1), false), // the same result again
        (at(2, 1, 30, 1), at(1, 9, 20, 2), true),  // a new epoch
        (at(1, 9, 20, 3), at(2, 1, 30, 2), false), // the old one again
        (at(0, 0, 20, 2), at(0, 0, 20, 1), true),
        (at(0, 0, 20, 1), at(0, 0, 20, 1), false),
        (at(0, 0, 10, 2), at(0, 0, 20, 1), false),
    ] {
        assert_eq!(newer.is_after(&older), expected, "{newer:?} after {older:?}");
    }
}

fn rule(hold: &str, keep: &str) -> Rule {
    serde_json::from_value(serde_json::json!({
        "name": "full", "check": "disk", "when": "value > 90", "for": hold, "keep_firing_for": keep,
        "notify": ["ops", "dev", "ops"],
    }))
    .unwrap()
}

fn book(rules: Vec<Rule>) -> RuleBook {
    let documents = rules.into_iter().map(Document::Rule).collect();
    RuleBook::new(DocumentList { revision: 1, documents })
}

fn result(seq: u64, at_ms: u64, value: f64) -> CheckResult {
    CheckResult {
        epoch: 1,
        seq,
        value: Scalar::number(value),
        revision: 1,
        ..CheckResult::new(
            AgentId::new("web-01").unwrap(),
            CheckName::new("disk").unwrap(),
            at_ms,
            Status::Ok,
        )
    }
}

fn incoming(result: CheckResult) -> Incoming {
    Incoming { published_ms: result.at_ms, stream: result.seq, result }
}

/// Evaluate one result at a time, measured and evaluated at the same moment, and apply what follows.
struct Run {
    alerts: Alerts,
    book: RuleBook,
    hosts: HashMap<AgentId, HostInfo>,
    mutes: Mutes,
    steady_ms: u64,
    durable: BTreeMap<AlertKey, Tracker>,
    transitions: Vec<Transition>,
}

impl Run {
    fn new(book: RuleBook) -> Self {
        Self {
            alerts: Alerts::default(),
            book,
            hosts: HashMap::new(),
            mutes: Mutes::default(),
            steady_ms: 0,
            durable: BTreeMap::new(),
            transitions: Vec::new(),
        }
    }

    fn take(&mut self, draft: Draft) {
        self.durable.extend(draft.changed);
        self.transitions.extend(draft.transitions);
    }

    fn evaluate(&mut self, batch: &[Incoming], now_ms: u64) -> Draft {
        let Self { alerts, book, hosts, mutes, steady_ms, .. } = self;
        let world = World { book, hosts, mutes, now_ms, steady_ms: *steady_ms, freshness_ms: FRESHNESS };
        alerts.evaluate(&world, batch)
    }

    /// Time goes on to `now_ms`, and nothing comes.
    fn tick(&mut self, now_ms: u64, steady_ms: u64) {
        self.steady_ms = steady_ms;
        let Self { alerts, book, hosts, mutes, .. } = self;
        let world = World { book, hosts, mutes, now_ms, steady_ms, freshness_ms: FRESHNESS };
        let draft = alerts.tick(&world);
        self.take(draft);
    }

    fn see_at(&mut self, batch: &[CheckResult], now_ms: u64) {
        let batch: Vec<Incoming> = batch.iter().cloned().map(incoming).collect();
        let draft = self.evaluate(&batch, now_ms);
        assert!(draft.failed.is_empty(), "{:?}", draft.failed);
        self.take(draft);
    }

    fn see(&mut self, result: CheckResult) {
        let now_ms = result.at_ms;
        self.see_at(&[result], now_ms);
    }

    /// Lose what was not durable.
    fn crash(&mut self) {
        self.alerts = Alerts::new(self.durable.clone());
    }

    fn states(&self) -> Vec<AlertState> {
        self.transitions.iter().map(|transition| transition.alert.state).collect()
    }
}

use AlertState::{Firing, Pending, Resolved};

#[test]
fn an_alert_goes_through_its_life_with_one_id() {
    let mut run = Run::new(book(vec![rule("5m", "0s")]));
    for (seq, minute, value) in [(1, 0, 50.0), (2, 1, 95.0), (3, 3, 96.0), (4, 6, 97.5), (5, 7, 10.0)] {
        run.see(result(seq, 1_000 * MINUTE + minute * MINUTE, value));
    }
    assert_eq!(run.states(), [Pending, Firing, Resolved]);
    let told: Vec<usize> = run.transitions.iter().map(|transition| transition.notify.len()).collect();
    assert_eq!(told, [0, 2, 2], "each receiver once, and nobody of a pending alert");
    let alerts: Vec<&Alert> = run.transitions.iter().map(|transition| &transition.alert).collect();
    assert!(alerts.iter().all(|alert| alert.id == alerts[0].id && alert.started_ms == 1_001 * MINUTE));
    assert_eq!(alerts[1].summary, "disk on web-01 is 97.5: full (value > 90)");
    assert_eq!(alerts[2].summary, "disk on web-01 is 10: full is over (value > 90)");
    assert_eq!(run.alerts.active().count(), 0);
    // Firing again is another alert.
    run.see(result(6, 1_010 * MINUTE, 99.0));
    assert_ne!(run.transitions[3].alert.id, run.transitions[0].alert.id);
}

#[test]
fn g6_history_ends_alerts_and_begins_none() {
    let start = 1_000 * MINUTE;
    let mut run = Run::new(book(vec![rule("0s", "0s")]));
    run.see_at(&[result(1, start, 99.0)], start + FRESHNESS + 1);
    run.see_at(&[CheckResult { replayed: true, ..result(2, start, 99.0) }], start);
    assert_eq!(run.states(), []);
    run.see(result(3, start + 1, 99.0));
    run.see(result(2, start, 10.0));
    assert_eq!(run.states(), [Firing], "an older result does not end a newer alert");
    run.see_at(&[result(4, start + 2, 10.0)], start + 60 * MINUTE);
    assert_eq!(run.states(), [Firing, Resolved]);
    // A late result of before, though fresh, opens nothing.
    run.see(CheckResult { at_ms: start + 3, ..result(4, start + 3, 99.0) });
    assert_eq!(run.states(), [Firing, Resolved]);
}

#[test]
fn a_clock_that_is_ahead_does_not_keep_later_results_out() {
    let start = 1_000 * MINUTE;
    let mut run = Run::new(book(vec![rule("0s", "0s")]));
    let ahead = Incoming {
        published_ms: start,
        ..incoming(CheckResult { seq: 0, ..result(1, start + 600 * MINUTE, 99.0) })
    };
    let draft = run.evaluate(&[ahead], start);
    run.take(draft);
    run.see(CheckResult { seq: 0, ..result(2, start + 1, 10.0) });
    assert_eq!(run.states(), [Firing, Resolved]);
}

#[test]
fn without_its_rule_an_alert_ends_and_says_why() {
    let start = 1_000 * MINUTE;
    for (rules, why) in [
        (vec![], Some("the rule was removed")),
        (vec![Rule { check: "other".parse().unwrap(), ..rule("0s", "0s") }], Some("another check")),
        (vec![Rule { when: "value > 95".into(), ..rule("0s", "0s") }], None),
        (vec![Rule { when: "this is (broken".into(), ..rule("0s", "0s") }], None),
    ] {
        let mut run = Run::new(book(vec![rule("0s", "0s")]));
        run.see(result(1, start, 99.0));
        run.book = book(rules);
        let draft = run.alerts.without_rules(&run.book, start + 1);
        run.take(draft);
        match why {
            Some(why) => {
                assert_eq!(run.states(), [Firing, Resolved]);
                let end = &run.transitions[1];
                assert!(end.alert.summary.contains(why), "{}", end.alert.summary);
                assert_eq!(end.notify, run.transitions[0].notify);
            }
            None => assert_eq!(run.states(), [Firing]),
        }
    }
}

#[test]
fn whoever_was_told_of_the_firing_is_told_of_the_end() {
    let start = 1_000 * MINUTE;
    let mut run = Run::new(book(vec![rule("0s", "0s")]));
    run.see(result(1, start, 99.0));
    run.book = book(vec![Rule { notify: vec!["new".parse().unwrap()], ..rule("0s", "0s") }]);
    run.see(result(2, start + 1, 10.0));
    let names = ["dev", "ops"].map(|name| ReceiverName::new(name).unwrap());
    assert_eq!(run.transitions[1].notify, names);
}

#[test]
fn a_rule_that_fails_or_is_broken_silences_no_other() {
    let failing =
        Rule { name: "failing".parse().unwrap(), when: "facts.nothing > 1".into(), ..rule("0s", "0s") };
    let broken = Rule { name: "broken".parse().unwrap(), when: "value >".into(), ..rule("0s", "0s") };
    let book = book(vec![failing, broken, rule("0s", "0s")]);
    assert_eq!(book.broken.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["broken"]);
    let mut run = Run::new(book);
    // Of a host that is not known yet nothing is expected.
    let draft = run.evaluate(&[incoming(result(1, MINUTE, 99.0))], MINUTE);
    assert_eq!((draft.failures, draft.failed.len(), draft.transitions.len()), (1, 0, 1));
    let facts = [("os".to_owned(), "linux".into())].into();
    run.hosts.insert(AgentId::new("web-01").unwrap(), HostInfo { facts, ..HostInfo::default() });
    let draft = run.evaluate(&[incoming(result(2, MINUTE + 1, 99.0))], MINUTE);
    assert_eq!((draft.failed.len(), draft.transitions.len()), (1, 1));
    let told = &draft.transitions[0].alert;
    assert_eq!((told.rule.as_str(), told.state), ("failing", Firing));
    assert!(
        told.summary.contains("failing cannot be judged: there is no \"nothing\" here"),
        "{}",
        told.summary
    );
    let draft = run.evaluate(&[incoming(result(3, MINUTE + 2, 99.0))], MINUTE);
    assert_eq!((draft.failures, draft.failed.len(), draft.transitions.len()), (1, 0, 0), "told once");
}

#[test]
fn a_rule_holds_on_its_hosts_only() {
    let start = 1_000 * MINUTE;
    let db = Rule { hosts: Some("labels.role == \"db\"".into()), ..rule("0s", "0s") };
    let mut run = Run::new(book(vec![db]));
    run.see(result(1, start, 99.0));
    assert_eq!(run.states(), []);
    let agent = AgentId::new("web-01").unwrap();
    let labels = [("role".to_owned(), "db".to_owned())].into();
    run.hosts.insert(agent, HostInfo { labels, ..HostInfo::default() });
    run.see(result(2, start, 99.0));
    run.hosts.clear();
    run.see(result(3, start, 99.0));
    assert_eq!(run.states(), [Firing, Resolved], "a host that it does not concern any more ends its alert");
}

#[test]
fn what_is_over_is_forgotten_and_what_is_not_is_kept() {
    let start = 1_000 * MINUTE;
    let mut run = Run::new(book(vec![rule("0s", "0s")]));
    run.see(result(1, start, 99.0));
    assert_eq!(run.alerts.forgettable(start + 1), []);
    run.see(result(2, start, 9.0));
    assert_eq!(run.alerts.forgettable(start), []);
    let over = run.alerts.forgettable(start + 1);
    assert_eq!(over.len(), 1);
    run.alerts.forget(&over);
    assert_eq!(run.alerts.forgettable(u64::MAX), []);
}

/// What one alert may go through.
fn assert_lives(transitions: &[Transition]) {
    let mut lives: BTreeMap<&str, Vec<&Transition>> = BTreeMap::new();
    for transition in transitions {
        lives.entry(&transition.alert.id).or_default().push(transition);
    }
    for (id, life) in lives {
        let states: Vec<AlertState> = life.iter().map(|transition| transition.alert.state).collect();
        let whole = [Pending, Firing, Resolved];
        let fits = states.len() <= 3
            && (whole.starts_with(&states)
                || whole[1..].starts_with(&states)
                || states == [Pending, Resolved]);
        assert!(fits, "{id} went through {states:?}");
        let fired = life.iter().find(|transition| transition.alert.state == Firing);
        for transition in &life {
            let expected = match (transition.alert.state, fired) {
                (Firing | Resolved, Some(fired)) => fired.notify.len(),
                _ => 0,
            };
            assert_eq!(transition.notify.len(), expected, "{id}");
        }
    }
}

fn sequence() -> impl Strategy<Value = Vec<CheckResult>> {
    let one = (0..3 * MINUTE, prop::bool::ANY, prop::bool::weighted(0.2));
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let (mut at_ms, mut results) = (1_000 * MINUTE, Vec::new());
        for (seq, (step, high, replayed)) in (1..).zip(all) {
            at_ms += step;
            let value = if high { 99.0 } else { 1.0 };
            results.push(CheckResult { replayed, ..result(seq, at_ms, value) });
        }
        results
    })
}

proptest! {
    #[test]
    fn g5_each_firing_has_one_end_and_history_begins_nothing(
        results in sequence(), hold in 0..6_u64, keep in 0..6_u64, again in prop::bool::ANY,
    ) {
        let mut run = Run::new(book(vec![rule(&format!("{hold}m"), &format!("{keep}m"))]));
        for result in &results {
            let before = run.transitions.len();
            run.see(result.clone());
            if result.replayed {
                prop_assert!(run.states()[before..].iter().all(|state| *state == Resolved));
            }
            prop_assert!(run.transitions.len() <= before + 1);
        }
        assert_lives(&run.transitions);
        let open = run.transitions.iter().filter(|t| t.alert.state == Firing).count()
            - run.transitions.iter().filter(|t| t.alert.state == Resolved && !t.notify.is_empty()).count();
        prop_assert_eq!(run.alerts.active().filter(|alert| alert.state == Firing).count(), open);
        // Everything again, one by one or at once, changes nothing (G2).
        let before = run.transitions.len();
        if again {
            run.see_at(&results, 1_000 * MINUTE);
        } else {
            results.iter().for_each(|result| run.see(result.clone()));
        }
        prop_assert_eq!(run.transitions.len(), before);
    }

    #[test]
    fn g5_a_crash_forgets_and_repeats_nothing(
        results in sequence(), hold in 0..6_u64, keep in 0..6_u64,
        crash in any::<prop::sample::Index>(), back in 0..10_usize,
    ) {
        let rules = || book(vec![rule(&format!("{hold}m"), &format!("{keep}m"))]);
        let mut whole = Run::new(rules());
        results.iter().for_each(|result| whole.see(result.clone()));
        let crash = crash.index(results.len() + 1);
        let mut run = Run::new(rules());
        results[..crash].iter().for_each(|result| run.see(result.clone()));
        run.crash();
        // Results since the last acknowledgement come again.
        results[crash.saturating_sub(back)..].iter().for_each(|result| run.see(result.clone()));
        prop_assert_eq!(run.transitions, whole.transitions);
    }

    #[test]
    fn a_batch_does_what_its_results_do_one_by_one(results in sequence(), hold in 0..3_u64) {
        let rules = || book(vec![rule(&format!("{hold}m"), "2m")]);
        let (mut one, mut batch) = (Run::new(rules()), Run::new(rules()));
        let now_ms = 1_000 * MINUTE;
        for result in &results {
            one.see_at(std::slice::from_ref(result), now_ms);
        }
        batch.see_at(&results, now_ms);
        prop_assert_eq!(&one.transitions, &batch.transitions);
        let states = |run: &Run| run.durable.values().map(|tracker| tracker.state.clone()).collect::<Vec<_>>();
        prop_assert_eq!(states(&one), states(&batch));
    }
}
