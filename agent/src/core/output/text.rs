//! `text`: the text is the value, or what a pattern finds in it.

use protocol::{Scalar, pattern::Pattern};

use super::{Finding, Printed, TEXT_VALUE, number_or_text, single};
use crate::core::check::{Check, cut};

/// An exit code other than 0 says that the text is not to be trusted. What a pattern finds counts as a number where it is
/// one, so that thresholds can judge it.
pub(super) fn read(check: &Check, printed: &Printed) -> Finding {
    let text = printed.stdout.trim();
    if printed.exit_code != Some(0) {
        return Finding::unknown(printed.explain(&printed.ending()));
    }
    let value = match &check.output.pattern {
        None => Scalar::Text(cut(text, TEXT_VALUE).to_owned()),
        // Compiled for each run: that takes microseconds, and the memory is needed by no one in between.
        Some(pattern) => match Pattern::new(pattern) {
            Ok(compiled) => match compiled.find(&printed.stdout) {
                Some(found) => number_or_text(found),
                None => {
                    let reason = format!("the pattern {pattern:?} finds nothing in the output");
                    return Finding::unknown(printed.explain(&reason));
                }
            },
            Err(error) => return Finding::unknown(format!("pattern: {error}")),
        },
    };
    single(check, value, text.to_owned())
}

#[cfg(test)]
mod tests {
    use protocol::{
        Status,
        work::{Output, OutputFormat},
    };

    use super::*;
    use crate::core::output::{testing::*, understand};

    #[test]
    fn the_text_is_the_value() {
        let check = check(OutputFormat::Text, None, None);
        let found = understand(&check, &printed(" nginx 1.24 \n", 0));
        assert_eq!((found.status, found.value), (Status::Ok, Some(Scalar::Text("nginx 1.24".into()))));
        let failed = understand(&check, &printed("", 1));
        assert_eq!((failed.status, failed.value), (Status::Unknown, None));
    }

    #[test]
    fn a_pattern_finds_the_value_and_thresholds_judge_it() {
        let check = |pattern: &str, warning| {
            let output =
                Output { format: OutputFormat::Text, pattern: Some(pattern.into()), ..Output::default() };
            with(output, warning, Some("@90:100"))
        };
        let stdout = "pool: tank\nused 93 of 120 (77.5 %)\nstate: ONLINE\n";
        for (pattern, status, value) in [
            (r"used (\d+)", Status::Critical, Some("93")),
            (r"\(([\d.]+) %\)", Status::Warning, Some("77.5")),
            (r"\d+ %", Status::Unknown, None),
            (r"state: (\w+)", Status::Unknown, None),
            (r"free (\d+)", Status::Unknown, None),
        ] {
            let found = understand(&check(pattern, Some("> 50")), &printed(stdout, 0));
            assert_eq!(found.status, status, "{pattern}: {found:?}");
            assert_eq!(found.value.map(|value| value.to_string()).as_deref(), value, "{pattern}");
        }
        let output = |pattern| understand(&check(pattern, None), &printed(stdout, 0)).output;
        assert!(output("free").starts_with("the pattern \"free\" finds nothing in the output: pool: tank"));
        assert_eq!(output(r"state: (\w+)"), "there is no number for the thresholds to judge: ONLINE");
        let text = Output {
            format: OutputFormat::Text,
            pattern: Some(r"(?m)^state: (.*)$".into()),
            ..Output::default()
        };
        let found = understand(&with(text, None, None), &printed(stdout, 0));
        assert_eq!((found.status, found.value), (Status::Ok, Some(Scalar::Text("ONLINE".into()))));
    }

    #[test]
    fn a_hostile_text_and_pattern_end_soon() {
        let output = Output {
            format: OutputFormat::Text,
            pattern: Some("(a|aa)+(a*)*b{1,50}$".into()),
            ..Output::default()
        };
        let started = std::time::Instant::now();
        let found = understand(&with(output, None, None), &printed(&"a".repeat(64 * 1024), 0));
        assert_eq!(found.status, Status::Unknown);
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}
