//! From a submitted reading to a result: its number, its status by the check's thresholds, its id.

use std::time::Duration;

use protocol::{
    AgentId, CheckResult, Origin, Scalar, Status, config::CheckSpec, duration::millis, work::OutputFormat,
};
use sha2::{Digest, Sha256};

use super::submission::Reading;

/// A reading that was taken longer ago is history, not news (G6).
const LATE: Duration = Duration::from_secs(300);

/// The result that `reading` stands for. `spec` is the check as this host is to run it, if it is configured.
pub(crate) fn result(
    agent: &AgentId,
    reading: Reading,
    spec: Option<&CheckSpec>,
    id: String,
    now_ms: u64,
) -> CheckResult {
    let format = spec.map(|spec| spec.output.format);
    let value = match reading.value {
        Some(Scalar::Text(text)) => Some(text_value(text, format)),
        other => other,
    };
    let status = reading.status.unwrap_or_else(|| status(value.as_ref(), spec));
    let at_ms = reading.at_ms.unwrap_or(now_ms);
    CheckResult {
        value,
        unit: reading.unit.or_else(|| spec.and_then(|spec| spec.unit.clone())),
        origin: Origin::Http,
        replayed: at_ms.saturating_add(millis(LATE)) < now_ms,
        id: Some(id),
        ..CheckResult::new(agent.clone(), reading.check, at_ms, status)
    }
}

/// A script posts whatever its command printed as text. Where that is a number as a whole, the number is meant, unless
/// the check says that its output is text.
fn text_value(text: String, format: Option<OutputFormat>) -> Scalar {
    if matches!(format, Some(OutputFormat::Text | OutputFormat::Nagios)) {
        return Scalar::Text(text);
    }
    let whole = || text.parse::<i64>().ok().map(|number| Scalar::Number(number.into()));
    let fraction = || text.parse::<f64>().ok().and_then(Scalar::number);
    whole().or_else(fraction).unwrap_or(Scalar::Text(text))
}

fn status(value: Option<&Scalar>, spec: Option<&CheckSpec>) -> Status {
    let Some(spec) = spec else { return Status::Ok };
    let Some(number) = value.and_then(Scalar::as_f64) else {
        // A number was to come, and something else did (an error message, nothing).
        let number_due = spec.output.format == OutputFormat::Number && spec.work.builtin.is_none();
        return if number_due { Status::Unknown } else { Status::Ok };
    };
    let violated = |threshold: &Option<protocol::Threshold>| {
        threshold.as_ref().is_some_and(|threshold| threshold.violated_by(number))
    };
    if violated(&spec.critical) {
        Status::Critical
    } else if violated(&spec.warning) {
        Status::Warning
    } else {
        Status::Ok
    }
}

/// The id of the `index`th reading under an `Idempotency-Key`: the same for a repeat, so that it is dropped as one.
pub(crate) fn repeatable_id(agent: &AgentId, key: &str, index: usize) -> String {
    let mut id = protocol::hex(&Sha256::digest(format!("{agent}\n{index}\n{key}")));
    id.truncate(32);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::submission;

    const NOW: u64 = 1_795_200_000_000;

    fn spec(output: &str) -> CheckSpec {
        serde_json::from_value(serde_json::json!({
            "name": "a", "command": "x", "every_ms": 1, "timeout_ms": 1, "output": output,
            "unit": "packages", "warning": "> 0", "critical": "> 50",
        }))
        .unwrap()
    }

    fn judged(body: &str, spec: Option<&CheckSpec>) -> CheckResult {
        let reading = submission::parse(body.as_bytes(), NOW).unwrap().remove(0);
        result(&AgentId::new("web-01").unwrap(), reading, spec, "id".into(), NOW)
    }

    #[test]
    fn text_that_is_a_number_becomes_one_unless_the_check_is_of_text() {
        let (number, text, nagios) = (spec("number"), spec("text"), spec("nagios"));
        for (value, spec, expected) in [
            ("\"12\\n\"", None, "12"),
            ("\"12\"", Some(&number), "12"),
            ("\"1e3\"", Some(&number), "1000"),
            ("\"-0.5\"", None, "-0.5"),
            ("\"inf\"", None, "\"inf\""),
            ("\"nan\"", None, "\"nan\""),
            ("\"1e999\"", None, "\"1e999\""),
            ("\"\"", None, "\"\""),
            ("\"12 packages\"", None, "\"12 packages\""),
            ("\"12\"", Some(&text), "\"12\""),
            ("\"12\"", Some(&nagios), "\"12\""),
        ] {
            let result = judged(&format!(r#"{{"field":"a","value":{value}}}"#), spec);
            assert_eq!(serde_json::to_string(&result.value).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn a_configured_check_is_judged_by_its_thresholds() {
        let (number, text) = (spec("number"), spec("text"));
        for (fields, spec, expected) in [
            (r#""value":0"#, Some(&number), Status::Ok),
            (r#""value":"12\n""#, Some(&number), Status::Warning),
            (r#""value":51"#, Some(&number), Status::Critical),
            (r#""value":true"#, Some(&number), Status::Warning),
            (r#""value":"dnf: command not found""#, Some(&number), Status::Unknown),
            (r#""value":null"#, Some(&number), Status::Unknown),
            (r#""value":"99""#, Some(&text), Status::Ok),
            (r#""value":99"#, None, Status::Ok),
            (r#""value":99,"status":"ok""#, Some(&number), Status::Ok),
        ] {
            let result = judged(&format!(r#"{{"field":"a",{fields}}}"#), spec);
            assert_eq!(result.status, expected, "{fields}");
            assert_eq!(result.unit.is_some(), spec.is_some());
        }
    }

    #[test]
    fn g6_an_old_reading_is_history() {
        let at = |at: u64| judged(&format!(r#"{{"field":"a","value":1,"at":{at}}}"#), None);
        assert!(at(NOW - 301_000).replayed);
        assert!(!at(NOW - 299_000).replayed);
        assert_eq!(at(NOW - 5).at_ms, NOW - 5);
    }

    #[test]
    fn the_same_key_gives_the_same_id() {
        let (a, b) = (AgentId::new("a").unwrap(), AgentId::new("b").unwrap());
        assert_eq!(repeatable_id(&a, "k", 0), repeatable_id(&a, "k", 0));
        for other in [repeatable_id(&a, "k", 1), repeatable_id(&b, "k", 0), repeatable_id(&a, "l", 0)] {
            assert_ne!(repeatable_id(&a, "k", 0), other);
        }
    }

    #[test]
    fn the_largest_text_makes_a_result_within_its_limit() {
        for text in ["\"".repeat(300_000), "\u{1}".repeat(300_000), "é".repeat(300_000)] {
            let body = serde_json::json!({"field": "a", "value": text}).to_string();
            assert!(serde_json::to_vec(&judged(&body, None)).unwrap().len() <= protocol::limits::RESULT);
        }
    }
}
