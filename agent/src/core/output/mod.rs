//! What a command's output means: its value, metrics and status. One file for each format.

mod json;
mod nagios;
mod number;
mod prometheus;
mod text;

use protocol::{
    CheckResult, Metric, Scalar, Status, Threshold, limits,
    pattern::Pattern,
    pointer,
    work::{Output, OutputFormat},
};

use super::check::{Check, cut};

/// Longest text that is kept as a value, in bytes.
const TEXT_VALUE: usize = 4 * 1024;
/// Longest name of a metric, in bytes.
const NAME: usize = 512;
/// What ends a text that was cut.
const CUT: &str = "\n[cut]";

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

    /// What it printed, and whether the end of that is missing.
    fn stdout(&self) -> (&str, bool) {
        match self.stdout.strip_suffix(CUT) {
            Some(text) => (text, true),
            None => (&self.stdout, false),
        }
    }

    /// `reason`, and what the command said.
    fn explain(&self, reason: &str) -> String {
        let said: Vec<&str> =
            [self.stdout.trim(), self.stderr.trim()].into_iter().filter(|text| !text.is_empty()).collect();
        if said.is_empty() { reason.to_owned() } else { format!("{reason}: {}", said.join("\n")) }
    }
}

/// # Errors
/// Why output cannot be read in this way: found when the check is configured, not at each run.
pub fn possible(output: &Output) -> Result<(), String> {
    if let Some(text) = &output.pattern {
        Pattern::new(text).map_err(|error| format!("pattern: {error}"))?;
    }
    if let Some(text) = &output.pointer {
        pointer::check(text).map_err(|error| format!("pointer: {error}"))?;
    }
    Ok(())
}

/// Understand the output of `check`'s command.
#[must_use]
pub fn understand(check: &Check, printed: &Printed) -> Finding {
    let finding = match check.output.format {
        OutputFormat::Number => number::read(check, printed),
        OutputFormat::Nagios => nagios::read(check, printed),
        OutputFormat::Json => json::read(check, printed),
        OutputFormat::Prometheus => prometheus::read(check, printed),
        OutputFormat::Text => text::read(check, printed),
    };
    Finding { exit_code: printed.exit_code, signal: printed.signal, ..finding }
}

/// A single value. Thresholds that find no number to judge are said to be in vain, since they would never alert.
fn single(check: &Check, value: Scalar, output: String) -> Finding {
    let status = match value.as_f64() {
        Some(number) => judge(check, number),
        None if has_thresholds(check) => {
            let shown = cut_marked(&value.to_string(), TEXT_VALUE);
            return Finding::unknown(format!("there is no number for the thresholds to judge: {shown}"));
        }
        None => Status::Ok,
    };
    Finding { status, value: Some(value), unit: check.unit.clone(), output, ..Finding::unknown("") }
}

fn has_thresholds(check: &Check) -> bool {
    check.warning.is_some() || check.critical.is_some()
}

/// A number where `text` is exactly one, else the text.
fn number_or_text(text: &str) -> Scalar {
    let text = text.trim();
    parse_number(text).unwrap_or_else(|| Scalar::Text(cut(text, TEXT_VALUE).to_owned()))
}

/// At most `limit` bytes of `text`, and a mark where some are missing.
fn cut_marked(text: &str, limit: usize) -> String {
    let kept = cut(text, limit);
    if kept.len() == text.len() { text.to_owned() } else { format!("{kept}{CUT}") }
}

/// Add `note` to what people read.
fn add_note(output: &mut String, note: &str) {
    if !output.is_empty() {
        output.push('\n');
    }
    output.push('[');
    output.push_str(note);
    output.push(']');
}

/// The first [`limits::METRICS`] of them, and what to say when that is not all.
fn few(mut metrics: Vec<Metric>) -> (Vec<Metric>, Option<String>) {
    let count = metrics.len();
    let said = (count > limits::METRICS)
        .then(|| format!("{count} metrics, of which the first {} are kept", limits::METRICS));
    metrics.truncate(limits::METRICS);
    (metrics, said)
}

/// A bare number with a name.
fn plain(name: String, value: f64) -> Metric {
    Metric { name, value, unit: None, warn: None, crit: None, min: None, max: None }
}

/// Names for people who look for one of them.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 10;
    let mut all: Vec<&str> = names.take(SHOWN + 1).map(|name| cut(name, 100)).collect();
    if all.len() > SHOWN {
        all.truncate(SHOWN);
        all.push("…");
    }
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
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
            result.output.truncate(cut(&result.output, limit.saturating_sub(CUT.len())).len());
            result.output.push_str(CUT);
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

/// A check and what its command printed, for the tests of each format.
#[cfg(test)]
mod testing {
    use protocol::{
        CheckName,
        config::CheckSpec,
        work::{RunSettings, Work},
    };

    use super::*;

    pub(super) fn check(format: OutputFormat, warning: Option<&str>, critical: Option<&str>) -> Check {
        with(Output { format, ..Output::default() }, warning, critical)
    }

    pub(super) fn with(output: Output, warning: Option<&str>, critical: Option<&str>) -> Check {
        Check::from(CheckSpec {
            name: CheckName::new("c").unwrap(),
            work: Work { command: Some("x".into()), ..Work::default() },
            run: RunSettings::default(),
            every_ms: 1000,
            cron: None,
            timezone: None,
            timeout_ms: 1000,
            output,
            unit: None,
            warning: warning.map(|text| text.parse().unwrap()),
            critical: critical.map(|text| text.parse().unwrap()),
        })
    }

    pub(super) fn printed(stdout: &str, exit_code: i32) -> Printed {
        Printed { stdout: stdout.into(), exit_code: Some(exit_code), ..Printed::default() }
    }

    /// `name=value` of each metric.
    pub(super) fn shown(finding: &Finding) -> Vec<String> {
        finding.metrics.iter().map(|metric| format!("{}={}", metric.name, metric.value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::{AgentId, CheckName};

    use super::{testing::*, *};

    const ALL: [OutputFormat; 5] = [
        OutputFormat::Number,
        OutputFormat::Nagios,
        OutputFormat::Json,
        OutputFormat::Prometheus,
        OutputFormat::Text,
    ];

    fn result(output: String, metrics: Vec<Metric>) -> CheckResult {
        CheckResult {
            epoch: 1,
            seq: 1,
            metrics,
            output,
            ..CheckResult::new(AgentId::new("a").unwrap(), CheckName::new("c").unwrap(), 0, Status::Ok)
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
        fn no_output_panics(stdout in "(\\PC{0,200}|[a-z{}\\[\\]=\",:0-9. \n#]{0,80})", exit in any::<i32>()) {
            for format in ALL {
                let check = check(format, Some("> 1"), Some("@1:2"));
                let found = understand(&check, &printed(&stdout, exit));
                prop_assert!(found.metrics.len() <= limits::METRICS);
            }
        }
    }
}
