//! `number`: the first line is one number. The exit code does not matter then: `grep -c` ends with 1 when it counts 0.

use super::{Finding, Printed, parse_number, single};
use crate::core::check::Check;

pub(super) fn read(check: &Check, printed: &Printed) -> Finding {
    let line = printed.stdout.trim_start().lines().next().unwrap_or_default().trim();
    let Some(value) = parse_number(line) else {
        let reason = if printed.stdout.trim().is_empty() {
            format!("no number printed ({})", printed.ending())
        } else {
            format!("the first line is not one number ({})", printed.ending())
        };
        return Finding::unknown(printed.explain(&reason));
    };
    single(check, value, printed.stdout.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use protocol::{Status, work::OutputFormat};

    use super::*;
    use crate::core::output::{testing::*, understand};

    #[test]
    fn the_first_line_is_one_number() {
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
}
