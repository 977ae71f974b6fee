//! The one sentence of an alert that people read.

use protocol::{CheckResult, Scalar, document::Rule};

use super::alert::Step;

/// Longest piece of a text value or an expression in a summary, in characters.
const PIECE: usize = 120;

/// `disk_usage on web-01 is 93.5 %: disk_almost_full (value > 90)`
#[must_use]
pub fn of_result(step: Step, rule: &Rule, result: &CheckResult) -> String {
    let (check, agent, name) = (&result.check, &result.agent, &rule.name);
    let what = match (&result.value, &result.unit) {
        (Some(Scalar::Text(text)), _) => format!("{:?}", piece(text)),
        (Some(value), Some(unit)) => format!("{value} {}", piece(unit)),
        (Some(value), None) => value.to_string(),
        (None, _) => result.status.to_string(),
    };
    let when = piece(&rule.when);
    let end = match step {
        Step::Lapse => " did not last",
        Step::Resolve => " is over",
        Step::Pend | Step::Count | Step::Fire | Step::Raise(_) | Step::Calm | Step::Stir => "",
    };
    format!("{check} on {agent} is {what}: {name}{end} ({when})")
}

/// The end of an alert without a result.
#[must_use]
pub fn of_withdrawal(alert: &protocol::alert::Alert, why: &str) -> String {
    format!("{} on {} is not watched by {} any more: {why}", alert.check, alert.agent, alert.rule)
}

/// `disk_usage on web-01: full cannot be judged: there is no "/var" here …`
#[must_use]
pub fn of_failure(rule: &Rule, result: &CheckResult, error: &dyn std::fmt::Display) -> String {
    let (check, agent, name) = (&result.check, &result.agent, &rule.name);
    format!("{check} on {agent}: {name} cannot be judged: {error} ({})", piece(&rule.when))
}

fn piece(text: &str) -> String {
    let mut piece: String = text.chars().take(PIECE).collect();
    if piece.len() < text.len() {
        piece.push('…');
    }
    piece
}
