//! `nagios`: the exit code is the status; `text | performance data`.

use protocol::{Scalar, Status};

use super::{Finding, Printed, add_note, few, has_thresholds, judge, names};
use crate::core::{check::Check, perfdata};

/// The value is the metric that the check names, or the plugin's first. Thresholds of the check itself can only make
/// the status worse; where they find no number, it is unknown at best.
pub(super) fn read(check: &Check, printed: &Printed) -> Finding {
    let perfdata::Output { text, metrics, unknown } = perfdata::split(&printed.stdout);
    let first = perfdata::first(&metrics, &unknown);
    let wanted = check.output.metric.as_deref();
    let found = match wanted.or(first) {
        Some(name) => metrics.iter().find(|metric| metric.name == name),
        None => None,
    };
    let mut output = match printed.exit_code {
        Some(0..=3) if !text.is_empty() => text,
        Some(0..=3) => printed.explain("no output"),
        _ => printed.explain(&printed.ending()),
    };
    let mut status = printed.exit_code.map_or(Status::Unknown, Status::from_exit_code);
    match (found, wanted) {
        (Some(metric), _) => status = status.max(judge(check, metric.value)),
        (None, Some(name)) => {
            status = status.max(Status::Unknown);
            add_note(&mut output, &missing(name, &unknown, metrics.iter().map(|m| m.name.as_str())));
        }
        (None, None) if has_thresholds(check) => {
            status = status.max(Status::Unknown);
            add_note(&mut output, "there is no number for the thresholds to judge");
        }
        (None, None) => {}
    }
    let (value, unit) = (found.and_then(|m| Scalar::number(m.value)), found.and_then(|m| m.unit.clone()));
    let (metrics, cut) = few(metrics);
    if let Some(cut) = cut {
        add_note(&mut output, &cut);
    }
    Finding { status, value, unit: check.unit.clone().or(unit), metrics, output, ..Finding::unknown("") }
}

fn missing<'a>(name: &str, unknown: &[perfdata::Unknown], there: impl Iterator<Item = &'a str>) -> String {
    if unknown.iter().any(|unknown| unknown.name == name) {
        format!("the plugin could not read {name:?}")
    } else {
        format!("there is no metric {name:?}; there are: {}", names(there))
    }
}

#[cfg(test)]
mod tests {
    use protocol::work::{Output, OutputFormat};

    use super::*;
    use crate::core::output::{testing::*, understand};

    #[test]
    fn exit_code_text_and_first_metric() {
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
    fn the_value_is_the_metric_that_is_named() {
        let named = |metric: &str, critical| {
            let output =
                Output { format: OutputFormat::Nagios, metric: Some(metric.into()), ..Output::default() };
            with(output, None, critical)
        };
        let stdout = "PING OK | rta=0.5ms;100;500 'packet loss'=7%;20;60;0;100 jitter=U";
        let value = |check: &Check| {
            let found = understand(check, &printed(stdout, 0));
            (found.status, found.value.and_then(|value| value.as_f64()), found.unit, found.output)
        };
        let ok = "PING OK".to_owned();
        assert_eq!(value(&named("packet loss", None)), (Status::Ok, Some(7.0), Some("%".into()), ok.clone()));
        assert_eq!(
            value(&named("packet loss", Some("0:5"))),
            (Status::Critical, Some(7.0), Some("%".into()), ok)
        );
        assert_eq!(
            value(&named("jitter", None)),
            (Status::Unknown, None, None, "PING OK\n[the plugin could not read \"jitter\"]".into())
        );
        assert_eq!(
            value(&named("loss", None)),
            (
                Status::Unknown,
                None,
                None,
                "PING OK\n[there is no metric \"loss\"; there are: rta, packet loss]".into()
            )
        );
    }

    #[test]
    fn a_first_metric_without_a_value_is_not_taken_for_the_second() {
        let found = |warning| {
            let check = check(OutputFormat::Nagios, warning, None);
            understand(&check, &printed("HOST DOWN | rta=U pl=100%", 2))
        };
        assert_eq!((found(None).status, found(None).value), (Status::Critical, None));
        let ok = understand(&check(OutputFormat::Nagios, Some("> 1"), None), &printed("OK | rta=U pl=0%", 0));
        assert_eq!((ok.status, ok.value), (Status::Unknown, None));
        assert!(ok.output.ends_with("[there is no number for the thresholds to judge]"), "{}", ok.output);
        let silent = understand(&check(OutputFormat::Nagios, None, None), &printed("OK", 0));
        assert_eq!(silent.status, Status::Ok);
    }

    #[test]
    fn metrics_beyond_the_limit_are_cut_and_said() {
        let many: Vec<String> = (0..1_200).map(|n| format!("m{n}={n}")).collect();
        let output =
            Output { format: OutputFormat::Nagios, metric: Some("m1100".into()), ..Output::default() };
        let found = understand(&with(output, None, None), &printed(&format!("OK | {}", many.join(" ")), 0));
        assert_eq!((found.metrics.len(), found.value.and_then(|v| v.as_f64())), (1_000, Some(1_100.0)));
        assert_eq!(found.output, "OK\n[1200 metrics, of which the first 1000 are kept]");
    }
}
