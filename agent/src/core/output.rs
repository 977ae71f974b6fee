//! What a command's output means: its value, metrics and status.

use protocol::{CheckResult, Metric, Scalar, Status, Threshold, limits, work::OutputFormat};

use super::{
    check::{Check, cut},
    perfdata,
};

/// Longest text that is kept as a value, in bytes.
const TEXT_VALUE: usize = 4 * 1024;

/// What a run of a check found: the part of a [`CheckResult`] that the check itself gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub status: Status,
    pub value: Option<Scalar>,
    pub unit: Option<String>,
    pub metrics: Vec<Metric>,
    pub output: String,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
}

impl Finding {
    /// Nothing could be measured, for this reason.
    #[must_use]
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self {
            status: Status::Unknown,
            value: None,
            unit: None,
            metrics: Vec::new(),
            output: reason.into(),
            exit_code: None,
            signal: None,
        }
    }
}

/// What a command printed before it ended by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Printed {
    pub stdout: String,
    pub stderr: String,
    /// `None`: ended by the signal.
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
}

impl Printed {
    fn ending(&self) -> String {
        match (self.exit_code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        }
    }

    /// `reason`, and what the command said.
    fn explain(&self, reason: &str) -> String {
        let said: Vec<&str> =
            [self.stdout.trim(), self.stderr.trim()].into_iter().filter(|text| !text.is_empty()).collect();
        if said.is_empty() { reason.to_owned() } else { format!("{reason}: {}", said.join("\n")) }
    }
}

/// Understand the output of `check`'s command.
#[must_use]
pub fn understand(check: &Check, printed: &Printed) -> Finding {
    let finding = match check.output.format {
        OutputFormat::Number => number(check, printed),
        OutputFormat::Nagios => nagios(check, printed),
        OutputFormat::Text => text(check, printed),
        OutputFormat::Json | OutputFormat::Prometheus => {
            Finding::unknown("this agent cannot read such output yet")
        }
    };
    Finding { exit_code: printed.exit_code, signal: printed.signal, ..finding }
}

/// The first line is one number. The exit code does not matter then: `grep -c` ends with 1 when it counts 0.
fn number(check: &Check, printed: &Printed) -> Finding {
    let line = printed.stdout.trim_start().lines().next().unwrap_or_default().trim();
    let Some(value) = parse_number(line) else {
        let reason = if printed.stdout.trim().is_empty() {
            format!("no number printed ({})", printed.ending())
        } else {
            format!("the first line is not one number ({})", printed.ending())
        };
        return Finding::unknown(printed.explain(&reason));
    };
    Finding {
        status: value.as_f64().map_or(Status::Ok, |value| judge(check, value)),
        value: Some(value),
        unit: check.unit.clone(),
        output: printed.stdout.trim().to_owned(),
        ..Finding::unknown("")
    }
}

/// Status by exit code; `text | performance data`. Thresholds of the check itself can only make it worse.
fn nagios(check: &Check, printed: &Printed) -> Finding {
    let (output, metrics) = perfdata::split(&printed.stdout);
    let first = metrics.first();
    let status = printed.exit_code.map_or(Status::Unknown, Status::from_exit_code);
    let judged = first.map_or(Status::Ok, |metric| judge(check, metric.value));
    let output = match printed.exit_code {
        Some(0..=3) if !output.is_empty() => output,
        Some(0..=3) => printed.explain("no output"),
        _ => printed.explain(&printed.ending()),
    };
    Finding {
        status: status.max(judged),
        value: first.and_then(|metric| Scalar::number(metric.value)),
        unit: check.unit.clone().or_else(|| first.and_then(|metric| metric.unit.clone())),
        metrics,
        output,
        ..Finding::unknown("")
    }
}

/// The text is the value. An exit code other than 0 says that it is not to be trusted.
fn text(check: &Check, printed: &Printed) -> Finding {
    let text = printed.stdout.trim();
    if printed.exit_code != Some(0) {
        return Finding::unknown(printed.explain(&printed.ending()));
    }
    Finding {
        status: Status::Ok,
        value: Some(Scalar::Text(cut(text, TEXT_VALUE).to_owned())),
        unit: check.unit.clone(),
        output: text.to_owned(),
        ..Finding::unknown("")
    }
}

/// The number in its own form (`12` stays `12`), if `text` is exactly one finite number.
fn parse_number(text: &str) -> Option<Scalar> {
    if let Ok(number) = text.parse::<serde_json::Number>()
        && number.as_f64().is_some_and(f64::is_finite)
    {
        return Some(Scalar::Number(number));
    }
    // Forms that JSON does not know: "+5", ".5", "007". Words such as "inf" and "nan" are not numbers here.
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    if plain { Scalar::number(text.parse().ok()?) } else { None }
}

/// Status of `value` by the check's thresholds, critical first.
#[must_use]
pub fn judge(check: &Check, value: f64) -> Status {
    status_of(check.warning.as_ref(), check.critical.as_ref(), value)
}

/// Status of `value` by thresholds, critical first.
#[must_use]
pub fn status_of(warning: Option<&Threshold>, critical: Option<&Threshold>, value: f64) -> Status {
    let violated = |threshold: Option<&Threshold>| threshold.is_some_and(|t| t.violated_by(value));
    if violated(critical) {
        Status::Critical
    } else if violated(warning) {
        Status::Warning
    } else {
        Status::Ok
    }
}

/// Make `result` keep the limits of the wire: its output is cut, and if that is not enough its metrics go.
pub fn fit(result: &mut CheckResult) {
    result.metrics.truncate(limits::METRICS);
    let mut limit = limits::OUTPUT;
    loop {
        if result.output.len() > limit {
            const MARK: &str = "\n[cut]";
            result.output.truncate(cut(&result.output, limit.saturating_sub(MARK.len())).len());
            result.output.push_str(MARK);
        }
        // Some room for the number, epoch and mark that the sender adds.
        let size = protocol::encode(result).map_or(usize::MAX, |bytes| bytes.len() + 128);
        if size <= limits::RESULT || limit == 0 {
            return;
        }
        limit = if limit > 1024 { limit / 2 } else { 0 };
        if limit == 0 {
            result.metrics.clear();
            result.output = "[cut: the result was too large]".to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::{
        AgentId, CheckName,
        config::CheckSpec,
        work::{Output, RunSettings, Work},
    };

    use super::*;

    fn check(format: OutputFormat, warning: Option<&str>, critical: Option<&str>) -> Check {
        Check::from(CheckSpec {
            name: CheckName::new("c").unwrap(),
            work: Work { command: Some("x".into()), ..Work::default() },
            run: RunSettings::default(),
            every_ms: 1000,
            cron: None,
            timezone: None,
            timeout_ms: 1000,
            output: Output { format, ..Output::default() },
            unit: None,
            warning: warning.map(|text| text.parse().unwrap()),
            critical: critical.map(|text| text.parse().unwrap()),
        })
    }

    fn printed(stdout: &str, exit_code: i32) -> Printed {
        Printed { stdout: stdout.into(), exit_code: Some(exit_code), ..Printed::default() }
    }

    #[test]
    fn number() {
        let check = check(OutputFormat::Number, Some("> 5"), Some("> 10"));
        for (stdout, exit, status, value) in [
            ("3\n", 0, Status::Ok, Some("3")),
            ("0\n", 1, Status::Ok, Some("0")),
            ("  7.50 \nnoise", 0, Status::Warning, Some("7.50")),
            ("\n\n11", 0, Status::Critical, Some("11")),
            ("-1e1", 0, Status::Ok, Some("-1e1")),
            ("+5", 0, Status::Ok, Some("5")),
            ("007", 2, Status::Warning, Some("7")),
            ("", 0, Status::Unknown, None),
            ("12 packages", 0, Status::Unknown, None),
            ("12,5", 0, Status::Unknown, None),
            ("NaN", 0, Status::Unknown, None),
            ("inf", 0, Status::Unknown, None),
            ("1e999", 0, Status::Unknown, None),
        ] {
            let found = understand(&check, &printed(stdout, exit));
            // JSON may write 7.50 as 7.5: compare as numbers.
            let number = |text: &str| text.parse::<f64>().unwrap();
            assert_eq!(found.status, status, "{stdout:?}");
            assert_eq!(found.value.and_then(|v| v.as_f64()), value.map(number), "{stdout:?}");
            assert_eq!(found.exit_code, Some(exit));
        }
    }

    #[test]
    fn what_is_no_number_says_what_was_printed() {
        let check = check(OutputFormat::Number, None, None);
        let silent =
            Printed { stderr: "sh: dnf: not found".into(), exit_code: Some(127), ..Printed::default() };
        let found = understand(&check, &silent);
        assert_eq!(found.output, "no number printed (exit code 127): sh: dnf: not found");
        let killed = Printed { signal: Some(9), ..Printed::default() };
        assert_eq!(understand(&check, &killed).output, "no number printed (ended by signal 9)");
        let wrong = understand(&check, &printed("twelve\n", 0));
        assert_eq!(wrong.output, "the first line is not one number (exit code 0): twelve");
    }

    #[test]
    fn nagios() {
        let plain = check(OutputFormat::Nagios, None, None);
        for (stdout, exit, status, value, output) in [
            ("DISK OK - fine | /=40%;80;90;0;100", 0, Status::Ok, Some(40.0), "DISK OK - fine"),
            ("W", 1, Status::Warning, None, "W"),
            ("C | a=1", 2, Status::Critical, Some(1.0), "C"),
            ("U", 3, Status::Unknown, None, "U"),
            ("", 0, Status::Ok, None, "no output"),
            ("sh: x: not found", 127, Status::Unknown, None, "exit code 127: sh: x: not found"),
        ] {
            let found = understand(&plain, &printed(stdout, exit));
            let value_found = found.value.and_then(|value| value.as_f64());
            assert_eq!(
                (found.status, value_found, found.output.as_str()),
                (status, value, output),
                "{stdout}"
            );
        }
        let strict = check(OutputFormat::Nagios, None, Some("> 10"));
        assert_eq!(understand(&strict, &printed("OK | a=11", 0)).status, Status::Critical);
        let unit = understand(&plain, &printed("OK | a=11ms", 0)).unit;
        assert_eq!(unit.as_deref(), Some("ms"));
    }

    #[test]
    fn text() {
        let check = check(OutputFormat::Text, None, None);
        let found = understand(&check, &printed(" nginx 1.24 \n", 0));
        assert_eq!((found.status, found.value), (Status::Ok, Some(Scalar::Text("nginx 1.24".into()))));
        let failed = understand(&check, &printed("", 1));
        assert_eq!((failed.status, failed.value), (Status::Unknown, None));
    }

    fn result(output: String, metrics: Vec<Metric>) -> CheckResult {
        CheckResult {
            v: 1,
            agent: AgentId::new("a").unwrap(),
            check: CheckName::new("c").unwrap(),
            epoch: 1,
            seq: 1,
            at_ms: 0,
            status: Status::Ok,
            value: None,
            unit: None,
            metrics,
            output,
            exit_code: None,
            signal: None,
            usage: None,
            duration_ms: 0,
            revision: 0,
            origin: protocol::Origin::Agent,
            replayed: false,
            id: None,
        }
    }

    proptest! {
        #[test]
        fn no_result_is_larger_than_the_wire_allows(
            text in "[\\x00-\\x1f\"a]{0,100}", times in 0_usize..2_000, metrics in 0_usize..2_000, name in "\\PC{0,300}",
        ) {
            let metric = Metric {
                name, value: 1.5, unit: None, warn: None, crit: None, min: None, max: None,
            };
            let mut result = result(text.repeat(times), vec![metric; metrics]);
            fit(&mut result);
            prop_assert!(protocol::encode(&result).unwrap().len() <= limits::RESULT);
            prop_assert!(result.output.len() <= limits::OUTPUT);
        }

        #[test]
        fn no_output_panics(stdout in "\\PC{0,200}", exit in any::<i32>()) {
            for format in [OutputFormat::Number, OutputFormat::Nagios, OutputFormat::Text] {
                let check = check(format, Some("> 1"), Some("@1:2"));
                let found = understand(&check, &printed(&stdout, exit));
                prop_assert!(found.metrics.len() <= limits::METRICS);
            }
        }
    }
}
