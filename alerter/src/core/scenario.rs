//! Unit tests of rules: series as they might come, and the transitions that are expected.

use std::collections::{BTreeMap, HashMap};

use predict::Point;
use protocol::{AgentId, CheckName, CheckResult, Facts, Labels, RuleName, Scalar, Status, alert::AlertState};
use serde::{Deserialize, Serialize};

use super::{
    Alerts, HostInfo, Incoming, Mutes, RuleBook, World,
    mute::CompiledSilence,
    predict::{Question, foresee},
};

/// Most values of one scenario.
const VALUES: usize = 100_000;
/// When a scenario begins, in milliseconds since 1970: any moment would do.
const START_MS: u64 = 1_800_000_000_000;

/// One test: a host, the values of its checks, and what becomes of the rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    #[serde(default = "host")]
    pub host: AgentId,
    #[serde(default)]
    pub labels: Labels,
    #[serde(default)]
    pub facts: Facts,
    /// Time between two values.
    #[serde(with = "protocol::duration::text")]
    pub every: std::time::Duration,
    /// Values of each check, from the beginning on. null: no result comes.
    pub series: BTreeMap<CheckName, Vec<Option<Scalar>>>,
    /// All transitions, in order.
    pub expect: Vec<Expected>,
}

fn host() -> AgentId {
    #[allow(clippy::expect_used)] // a constant
    AgentId::new("host").expect("an id")
}

/// One transition, so long after the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    #[serde(with = "protocol::duration::text")]
    pub at: std::time::Duration,
    pub rule: RuleName,
    pub state: AlertState,
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", protocol::duration::format(self.at), self.rule, self.state)
    }
}

/// What happens in a scenario. Time passes in seconds, so silence is noticed as it would be.
///
/// # Errors
/// When there are too many values.
pub fn run(book: &RuleBook, scenario: &Scenario) -> Result<Vec<Expected>, String> {
    let most = scenario.series.values().map(Vec::len).max().unwrap_or_default();
    let every_ms = protocol::duration::millis(scenario.every).max(1);
    if scenario.series.values().map(Vec::len).sum::<usize>() > VALUES {
        return Err(format!("the scenario has more than {VALUES} values"));
    }
    let checks = scenario.series.keys().cloned().collect();
    let known = HostInfo {
        facts: scenario.facts.clone(),
        labels: scenario.labels.clone(),
        checks,
        seen: true,
        ..HostInfo::default()
    };
    let hosts = HashMap::from([(scenario.host.clone(), known)]);
    let silences = book.silences.iter().filter_map(|silence| CompiledSilence::new(silence.clone()).ok());
    let mutes = Mutes { silences: silences.collect() };
    let mut alerts = Alerts::default();
    alerts.watch(0);
    let mut found = Vec::new();
    let mut seq = 0;
    let mut measured: BTreeMap<&CheckName, Vec<Point>> = BTreeMap::new();
    for index in 0..most {
        let steady_ms = u64::try_from(index).unwrap_or_default().saturating_mul(every_ms);
        let at_ms = START_MS.saturating_add(steady_ms);
        let world =
            World { book, hosts: &hosts, mutes: &mutes, now_ms: at_ms, steady_ms, freshness_ms: every_ms };
        let mut batch = Vec::new();
        for (check, values) in &scenario.series {
            if let Some(Some(value)) = values.get(index) {
                seq += 1;
                if let Some(number) = value.as_f64() {
                    measured.entry(check).or_default().push(Point::new(at_ms, number));
                }
                let result = result(scenario, check, value, seq, at_ms, book);
                batch.push(Incoming { published_ms: at_ms, stream: seq, result });
            }
        }
        let came = alerts.evaluate(&world, &batch);
        let quiet = alerts.tick(&world);
        let forecasts = &mut alerts.predictions.forecasts;
        for question in forecasts.due(steady_ms, usize::MAX) {
            // Of a check whose series is over nothing new can be said.
            if !batch.iter().any(|one| one.result.check == *check_of(&question)) {
                continue;
            }
            let of = measured.get(check_of(&question));
            let outcome = foresee(&question, of.map(Vec::as_slice).unwrap_or_default());
            forecasts.answered(&question, outcome, steady_ms);
        }
        for transition in came.transitions.into_iter().chain(quiet.transitions) {
            let alert = transition.alert;
            let at = std::time::Duration::from_millis(steady_ms);
            found.push(Expected { at, rule: alert.rule, state: alert.state });
        }
    }
    Ok(found)
}

fn result(
    scenario: &Scenario,
    check: &CheckName,
    value: &Scalar,
    seq: u64,
    at_ms: u64,
    book: &RuleBook,
) -> CheckResult {
    CheckResult {
        epoch: 1,
        seq,
        value: Some(value.clone()),
        ..CheckResult::new(scenario.host.clone(), check.clone(), at_ms, status(book, check, value))
    }
}

fn check_of(question: &Question) -> &CheckName {
    let (Question::Series { check, .. } | Question::Group { check, .. }) = question;
    check
}

/// As the agent would judge it by the check's thresholds.
fn status(book: &RuleBook, check: &CheckName, value: &Scalar) -> Status {
    let Some((number, rules)) = value.as_f64().zip(book.of_check(check)) else { return Status::Ok };
    let violated =
        |threshold: &Option<protocol::Threshold>| threshold.as_ref().is_some_and(|t| t.violated_by(number));
    match () {
        () if violated(&rules.critical) => Status::Critical,
        () if violated(&rules.warning) => Status::Warning,
        () => Status::Ok,
    }
}
