//! How a rollout goes on: pure, from its state, what is known of its hosts, and the time.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    AgentId, CheckName, CheckResult, ErrorCode, ErrorReply, Status,
    log::LogChange,
    rollout::{
        BAKE_MS, Canary, PLACES, Rollout, RolloutFailure, RolloutOrder, RolloutState, STAGES, Share, Stage,
    },
};

use super::{
    plan::{self, Documents},
    rollouts::Before,
};

/// Who makes the changes that a rollout makes by itself.
pub(crate) const ACTOR: &str = "rollout";
/// Added to the time that a stage may take until half of its hosts run it: agents that were away come back.
const PATIENCE_MS: u64 = 300_000;
/// Longest reason that is kept of a failure, in characters.
const REASON: usize = 200;
/// Failures told of one rollout.
const TOLD: usize = 20;
/// Pairs of host and check whose state before the change is remembered.
const REMEMBERED: usize = 200_000;

/// # Errors
/// `invalid`, with the field at fault.
pub(crate) fn check(canary: &Canary) -> Result<(), ErrorReply> {
    let invalid = |field: &str, message: String| {
        Err(ErrorReply::invalid(message).at(format!("canary.{field}").as_str()))
    };
    let stages = &canary.stages;
    if stages.is_empty() || stages.len() > STAGES || stages.last() != Some(&Share::ALL) {
        return invalid("stages", format!("1 to {STAGES} stages, the last of them 100%, are needed"));
    }
    if stages.iter().any(|share| matches!(share, Share::Percent(0) | Share::Hosts(0))) {
        return invalid("stages", "a stage of no host shows nothing: give it 1% or 1 host".to_owned());
    }
    if canary.bake_ms > BAKE_MS {
        return invalid("bake_ms", "a stage is watched for a week at most".to_owned());
    }
    Ok(())
}

/// The places of the hosts that a change concerns, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Vec<u64>);

impl Line {
    pub(crate) fn new(mut places: Vec<u64>) -> Self {
        places.sort_unstable();
        Self(places)
    }

    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    /// How many stand at or before `limit`.
    fn up_to(&self, limit: u64) -> u64 {
        u64::try_from(self.0.partition_point(|place| *place <= limit)).unwrap_or(u64::MAX)
    }

    /// The place of the `count`th.
    fn limit(&self, count: u64) -> Option<u64> {
        let last = usize::try_from(count.checked_sub(1)?).ok()?;
        self.0.get(last).copied()
    }

    /// The first stage from `from` on that reaches hosts behind `limit`: each reaches at least one host, and the last
    /// stage everybody. `None`: there is nobody left.
    fn next(&self, canary: &Canary, from: usize, limit: Option<u64>) -> Option<(usize, u64, u64)> {
        let reached = limit.map_or(0, |limit| self.up_to(limit));
        let count = |share: &Share| share.of(self.len()).max(1);
        let (stage, share) =
            canary.stages.iter().enumerate().skip(from).find(|(_, share)| count(share) > reached)?;
        let count = count(share).min(self.len());
        // Hosts that come later are not held back by a stage for all.
        let limit = if *share == Share::ALL { PLACES - 1 } else { self.limit(count)? };
        Some((stage, count, limit))
    }
}

/// The first stage. `None`: the change concerns nobody.
pub(crate) fn start(
    canary: Canary,
    (actor, message): (&str, &str),
    revision: u64,
    line: &Line,
    now: u64,
) -> Option<Rollout> {
    let (stage, hosts, limit) = line.next(&canary, 0, None)?;
    Some(Rollout {
        revision,
        canary,
        actor: actor.to_owned(),
        message: message.to_owned(),
        started_ms: now,
        state: RolloutState::Running,
        reason: String::new(),
        since_ms: now,
        concerned: line.len(),
        reached: vec![Stage { stage, hosts, limit, revision, at_ms: now }],
    })
}

/// What became of the changed checks on the hosts.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The first failure of each host that was reached.
    failures: BTreeMap<AgentId, (Option<CheckName>, String)>,
    /// Checks that could not be told before either.
    unknown_before: BTreeSet<(AgentId, CheckName)>,
    /// Hosts, of those that the change concerns and that were reached.
    pub(crate) reached: u64,
    /// Those of them that say that they run it.
    pub(crate) applied: u64,
}

impl Evidence {
    /// A result of a changed check: a failure to run counts where the change has reached the host.
    pub(crate) fn result(&mut self, rollout: &Rollout, result: &CheckResult) {
        let reached = rollout.reached_at(&result.agent).filter(|revision| result.revision >= *revision);
        let unknown = result.status == Status::Unknown;
        if reached.is_none() {
            let pair = (result.agent.clone(), result.check.clone());
            if !unknown {
                self.unknown_before.remove(&pair);
            } else if self.unknown_before.len() < REMEMBERED {
                self.unknown_before.insert(pair);
            }
            return;
        }
        let reason = match result.exit_code {
            Some(code @ (126 | 127)) => format!("exit code {code}: {}", result.output),
            _ if unknown && !self.unknown_before.contains(&(result.agent.clone(), result.check.clone())) => {
                format!("unknown: {}", result.output)
            }
            _ => return,
        };
        self.failed(&result.agent, Some(&result.check), &reason);
    }

    /// A host that was reached says why it does not run the configuration.
    pub(crate) fn failed(&mut self, agent: &AgentId, check: Option<&CheckName>, reason: &str) {
        let reason = reason.lines().next().unwrap_or_default().chars().take(REASON).collect();
        self.failures.entry(agent.clone()).or_insert_with(|| (check.cloned(), reason));
    }

    pub(crate) fn failures(&self) -> Vec<RolloutFailure> {
        let told = self.failures.iter().take(TOLD).map(|(agent, (check, reason))| RolloutFailure {
            agent: agent.clone(),
            check: check.clone(),
            reason: reason.clone(),
        });
        told.collect()
    }

    fn count(&self) -> u64 {
        u64::try_from(self.failures.len()).unwrap_or(u64::MAX)
    }
}

/// What is to become of a running rollout now. `None`: it waits.
pub(crate) fn decide(rollout: &Rollout, evidence: &Evidence, line: &Line, now: u64) -> Option<Rollout> {
    if rollout.state != RolloutState::Running {
        return None;
    }
    let last = rollout.reached.last()?;
    // A replica that was rebuilt knows only the hosts that have asked since.
    let reached = evidence.reached.max(last.hosts);
    let allowed = rollout.canary.max_failures.of(reached);
    if evidence.count() > allowed {
        return Some(moved(rollout, RolloutState::RolledBack, told(evidence, reached, allowed), now));
    }
    // A clock that was set back would stop the rollout for as long.
    let age = now.saturating_sub(rollout.since_ms);
    let bake = rollout.canary.bake_ms;
    if age < bake {
        return None;
    }
    let patience = bake.saturating_mul(2).saturating_add(PATIENCE_MS);
    let (known, concerned) = (line.len(), rollout.concerned);
    if known < concerned {
        let reason = format!(
            "it began with {concerned} hosts that it concerns, and {known} of them are known now: see `dogwatch hosts`, then promote or abort it"
        );
        return (age >= patience).then(|| moved(rollout, RolloutState::Paused, reason, now));
    }
    let heard = evidence.applied.saturating_add(evidence.count());
    if heard.saturating_mul(2) < reached {
        let applied = evidence.applied;
        let reason = format!(
            "only {applied} of {reached} hosts say that they run it: see `dogwatch hosts`, then resume or abort it"
        );
        return (age >= patience).then(|| moved(rollout, RolloutState::Paused, reason, now));
    }
    let Some((stage, hosts, limit)) = line.next(&rollout.canary, last.stage + 1, Some(last.limit)) else {
        return Some(moved(rollout, RolloutState::Finished, String::new(), now));
    };
    let mut next = moved(rollout, RolloutState::Running, String::new(), now);
    // The revision of the record that says so; whoever appends it fills it in.
    next.reached.push(Stage { stage, hosts, limit, revision: 0, at_ms: now });
    Some(next)
}

fn told(evidence: &Evidence, reached: u64, allowed: u64) -> String {
    let first = evidence.failures.iter().next().map_or_else(String::new, |(agent, (check, reason))| {
        let check = check.as_ref().map_or_else(|| "the configuration".to_owned(), ToString::to_string);
        format!("; {agent}, {check}: {reason}")
    });
    let failed = evidence.count();
    format!("{failed} of {reached} hosts failed, more than the {allowed} allowed{first}")
}

fn moved(rollout: &Rollout, state: RolloutState, reason: String, now: u64) -> Rollout {
    Rollout { state, reason, since_ms: now, ..rollout.clone() }
}

/// What is to be logged so that a rollout becomes `next`: where it is rolled back, its documents too. They come from
/// before it, since nothing else changes documents while it is open.
pub(crate) fn log(
    mut next: Rollout,
    revision: u64,
    documents: &Documents,
    before: &Before,
) -> Vec<LogChange> {
    if let Some(stage) = next.reached.last_mut().filter(|stage| stage.revision == 0) {
        stage.revision = revision;
    }
    let back = match next.state {
        RolloutState::RolledBack => plan::changes(documents, &before.documents),
        _ => Vec::new(),
    };
    // Each as it was signed then: nobody here could sign it.
    let back = back.into_iter().map(|change| match change {
        LogChange::DocumentPut { document, .. } => {
            let there = before.signed.get(&(document.kind(), document.name().to_owned()));
            let signature = there.and_then(|there| there.signature.clone());
            LogChange::DocumentPut { document, signature }
        }
        other => other,
    });
    [LogChange::RolloutPut { rollout: next }].into_iter().chain(back).collect()
}

/// An operator's order.
///
/// # Errors
/// `conflict` where it makes no sense in the state that the rollout is in.
pub(crate) fn order(
    rollout: &Rollout,
    order: RolloutOrder,
    (actor, message): (&str, &str),
    now: u64,
) -> Result<Rollout, ErrorReply> {
    let (revision, state) = (rollout.revision, rollout.state.as_str());
    let state = match (order, rollout.state) {
        (RolloutOrder::Pause, RolloutState::Running) => RolloutState::Paused,
        (RolloutOrder::Resume, RolloutState::Paused) => RolloutState::Running,
        (RolloutOrder::Abort, RolloutState::Running | RolloutState::Paused) => RolloutState::RolledBack,
        (RolloutOrder::Promote, RolloutState::Running | RolloutState::Paused) => RolloutState::Finished,
        (RolloutOrder::Pause | RolloutOrder::Resume, RolloutState::Running | RolloutState::Paused) => {
            return Err(ErrorReply::new(
                ErrorCode::Conflict,
                format!("the rollout {revision} is {state} already"),
            ));
        }
        (_, RolloutState::Finished | RolloutState::RolledBack) => {
            let message = format!("the rollout {revision} is over: it is {state}");
            return Err(ErrorReply::new(ErrorCode::Conflict, message));
        }
    };
    let by = if message.is_empty() { format!("by {actor}") } else { format!("by {actor}: {message}") };
    Ok(moved(rollout, state, by, now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::rollout::place;

    use super::*;

    fn canary(stages: &[&str], bake_ms: u64, max_failures: &str) -> Canary {
        let stages = stages.iter().map(|share| share.parse().unwrap()).collect();
        Canary { stages, bake_ms, max_failures: max_failures.parse().unwrap() }
    }

    fn agents(count: usize) -> Vec<AgentId> {
        (0..count).map(|n| AgentId::new(&format!("web-{n:04}")).unwrap()).collect()
    }

    fn line(agents: &[AgentId], revision: u64) -> Line {
        Line::new(agents.iter().map(|agent| place(revision, agent)).collect())
    }

    fn begin(canary: Canary, line: &Line) -> Rollout {
        start(canary, ("me", "why"), 7, line, 1_000).unwrap()
    }

    /// Everybody who was reached runs it.
    fn fine(rollout: &Rollout, agents: &[AgentId]) -> Evidence {
        let reached = agents.iter().filter(|agent| !rollout.holds_back(agent)).count() as u64;
        Evidence { reached, applied: reached, ..Evidence::default() }
    }

    fn result(agent: &AgentId, revision: u64, status: Status, exit_code: Option<i32>) -> CheckResult {
        let json = format!(
            r#"{{"v":1,"agent":"{agent}","check":"c","at_ms":1,"status":"{status}","revision":{revision},"output":"sh: x: not found"}}"#
        );
        CheckResult { exit_code, ..serde_json::from_str(&json).unwrap() }
    }

    #[test]
    fn stages_are_reached_in_order_and_the_last_one_ends_it() {
        let agents = agents(200);
        let line = line(&agents, 7);
        let mut rollout = begin(canary(&["1%", "10%", "50%", "100%"], 100, "0"), &line);
        for (hosts, at) in [(2, 1_000), (20, 1_100), (100, 1_200), (200, 1_300)] {
            assert_eq!(rollout.reached.last().unwrap().hosts, hosts);
            assert_eq!(agents.iter().filter(|agent| !rollout.holds_back(agent)).count() as u64, hosts);
            let evidence = fine(&rollout, &agents);
            assert_eq!(decide(&rollout, &evidence, &line, at + 99), None, "it bakes");
            rollout = decide(&rollout, &evidence, &line, at + 100).unwrap();
        }
        assert_eq!((rollout.state, rollout.reached.len()), (RolloutState::Finished, 4));
    }

    #[test]
    fn few_hosts_need_few_stages_and_nobody_none() {
        let all = ["1%", "10%", "50%", "100%"];
        for (count, expected) in [(1, vec![1]), (3, vec![1, 3]), (10, vec![1, 5, 10])] {
            let agents = agents(count);
            let line = line(&agents, 7);
            let mut rollout = begin(canary(&all, 0, "0"), &line);
            while let Some(next) = decide(&rollout, &fine(&rollout, &agents), &line, 1_000) {
                rollout = next;
            }
            let hosts: Vec<u64> = rollout.reached.iter().map(|stage| stage.hosts).collect();
            assert_eq!((rollout.state, hosts), (RolloutState::Finished, expected));
        }
        assert_eq!(start(canary(&all, 0, "0"), ("", ""), 7, &Line::default(), 1), None);
    }

    #[test]
    fn failures_to_run_roll_it_back_and_say_why() {
        let agents = agents(4);
        let line = line(&agents, 7);
        let rollout = begin(canary(&["1", "100%"], 60_000, "0"), &line);
        let staged = agents.iter().find(|agent| !rollout.holds_back(agent)).unwrap();
        let held = agents.iter().find(|agent| rollout.holds_back(agent)).unwrap();
        let decided = |results: &[CheckResult]| {
            let mut evidence = fine(&rollout, &agents);
            results.iter().for_each(|result| evidence.result(&rollout, result));
            decide(&rollout, &evidence, &line, 1_001)
        };
        let back = decided(&[result(staged, 7, Status::Critical, Some(127))]).unwrap();
        assert_eq!(back.state, RolloutState::RolledBack);
        let reason = format!(
            "1 of 1 hosts failed, more than the 0 allowed; {staged}, c: exit code 127: sh: x: not found"
        );
        assert_eq!(back.reason, reason);
        for (what, results, counts) in [
            ("not executable", vec![result(staged, 7, Status::Unknown, Some(126))], true),
            ("newly unknown", vec![result(staged, 7, Status::Unknown, None)], true),
            ("critical is a finding", vec![result(staged, 7, Status::Critical, Some(2))], false),
            ("of the former revision", vec![result(staged, 6, Status::Unknown, Some(127))], false),
            ("of a host not reached", vec![result(held, 9, Status::Unknown, Some(127))], false),
            (
                "unknown before too",
                vec![
                    result(staged, 6, Status::Unknown, Some(3)),
                    result(staged, 7, Status::Unknown, Some(3)),
                ],
                false,
            ),
            (
                "known before",
                vec![
                    result(staged, 5, Status::Unknown, Some(3)),
                    result(staged, 6, Status::Ok, Some(0)),
                    result(staged, 7, Status::Unknown, Some(3)),
                ],
                true,
            ),
        ] {
            assert_eq!(decided(&results).is_some(), counts, "{what}");
        }
    }

    #[test]
    fn a_stage_that_nobody_runs_is_paused_in_the_end() {
        let agents = agents(10);
        let line = line(&agents, 7);
        let rollout = begin(canary(&["50%", "100%"], 1_000, "0"), &line);
        let silent = Evidence { reached: 5, applied: 2, ..Evidence::default() };
        assert_eq!(decide(&rollout, &silent, &line, 1_000 + 1_000), None);
        let paused = decide(&rollout, &silent, &line, 1_000 + 2_000 + PATIENCE_MS).unwrap();
        assert_eq!(paused.state, RolloutState::Paused);
        assert!(paused.reason.starts_with("only 2 of 5 hosts"), "{}", paused.reason);
        assert_eq!(decide(&paused, &silent, &line, u64::MAX), None, "until somebody decides");
        let heard = Evidence { reached: 5, applied: 3, ..Evidence::default() };
        assert_eq!(decide(&rollout, &heard, &line, 2_000).unwrap().reached.len(), 2);
    }

    #[test]
    fn a_replica_that_does_not_know_the_fleet_does_not_judge() {
        let agents = agents(100);
        let rollout = begin(canary(&["50%", "100%"], 1_000, "5%"), &line(&agents, 7));
        for known in [0, 1, 99] {
            let known = agents.get(..known).unwrap();
            let (mut evidence, line) = (fine(&rollout, known), line(known, 7));
            assert_eq!(decide(&rollout, &evidence, &line, 1_000 + 1_000), None);
            // Two of the fifty that it was to reach are no more than 5%, however few are known.
            agents.iter().take(2).for_each(|agent| evidence.failed(agent, None, "x"));
            assert_eq!(decide(&rollout, &evidence, &line, 1_000 + 1_000), None);
            let paused = decide(&rollout, &evidence, &line, 1_000 + 2_000 + PATIENCE_MS).unwrap();
            assert_eq!(paused.state, RolloutState::Paused);
        }
    }

    #[test]
    fn orders_fit_the_state() {
        use RolloutOrder::{Abort, Pause, Promote, Resume};
        use RolloutState::{Finished, Paused, RolledBack, Running};
        let rollout = begin(canary(&["100%"], 0, "0"), &line(&agents(1), 7));
        for (state, given, expected) in [
            (Running, Pause, Some(Paused)),
            (Running, Resume, None),
            (Running, Abort, Some(RolledBack)),
            (Running, Promote, Some(Finished)),
            (Paused, Pause, None),
            (Paused, Resume, Some(Running)),
            (Paused, Abort, Some(RolledBack)),
            (Paused, Promote, Some(Finished)),
            (Finished, Abort, None),
            (Finished, Promote, None),
            (RolledBack, Pause, None),
            (RolledBack, Resume, None),
        ] {
            let now = Rollout { state, ..rollout.clone() };
            let after = order(&now, given, ("me", "because"), 9);
            assert_eq!(after.as_ref().ok().map(|after| after.state), expected, "{state:?} {given:?}");
            assert!(after.is_ok_and(|after| after.reason == "by me: because") || expected.is_none());
        }
    }

    #[test]
    fn a_canary_that_makes_no_sense_is_refused() {
        for (stages, bake) in [
            (vec![], 0),
            (vec!["10%"], 0),
            (vec!["0%", "100%"], 0),
            (vec!["0", "100%"], 0),
            (vec!["100%"; STAGES + 1], 0),
            (vec!["100%"], BAKE_MS + 1),
        ] {
            assert!(check(&canary(&stages, bake, "0")).is_err(), "{stages:?} {bake}");
        }
        assert!(check(&canary(&["1", "50%", "100%"], BAKE_MS, "5%")).is_ok());
    }

    proptest! {
        /// Whatever happens on the hosts: never more of them than the stage allows, never on with too many failures,
        /// and it ends, or waits for an operator.
        #[test]
        fn a_rollout_keeps_its_limits_and_ends(
            count in 1_usize..300,
            shares in prop::collection::vec(1_u8..=100, 0..6),
            max_failures in 0_u8..=100,
            failing in prop::collection::btree_set(0_usize..300, 0..20),
            silent in prop::collection::btree_set(0_usize..300, 0..60),
        ) {
            let agents = agents(count);
            let line = line(&agents, 7);
            let stages = shares.iter().map(|percent| Share::Percent(*percent)).chain([Share::ALL]).collect();
            let canary = Canary { stages, bake_ms: 10, max_failures: Share::Percent(max_failures) };
            let mut rollout = start(canary, ("", ""), 7, &line, 0).unwrap();
            for step in 0_u64..100 {
                let staged: Vec<usize> = (0..count).filter(|n| !rollout.holds_back(&agents[*n])).collect();
                let stage = rollout.reached.last().unwrap();
                let allowed = rollout.canary.stages[stage.stage].of(count as u64).max(1);
                prop_assert!(staged.len() as u64 <= allowed && stage.hosts == staged.len() as u64);
                let mut evidence = Evidence { reached: staged.len() as u64, ..Evidence::default() };
                for n in &staged {
                    if failing.contains(n) {
                        evidence.failed(&agents[*n], None, "x");
                    } else if !silent.contains(n) {
                        evidence.applied += 1;
                    }
                }
                let limit = rollout.canary.max_failures.of(evidence.reached);
                match decide(&rollout, &evidence, &line, step * PATIENCE_MS) {
                    Some(next) if next.state == RolloutState::Running => {
                        prop_assert!(evidence.count() <= limit);
                        prop_assert!(next.reached.len() == rollout.reached.len() + 1);
                        rollout = next;
                    }
                    Some(next) => {
                        prop_assert_eq!(next.state == RolloutState::RolledBack, evidence.count() > limit);
                        if next.state == RolloutState::Finished {
                            prop_assert_eq!(staged.len(), count);
                        }
                        return Ok(());
                    }
                    None => {}
                }
            }
            prop_assert!(false, "it does not end: {:?}", rollout);
        }
    }
}
