//! Output of Nagios plugins, after the Monitoring Plugins guidelines:
//! `text | 'label'=value[unit];[warn];[crit];[min];[max] …`, where further lines are text until one holds `|`,
//! and performance data from there on.

use protocol::{Metric, limits};

use super::check::cut;

/// Longest label, unit and range kept, in bytes.
const NAME: usize = 256;
const WORD: usize = 64;

/// The text for people, and the metrics. What cannot be read as a metric is left out.
#[must_use]
pub fn split(stdout: &str) -> (String, Vec<Metric>) {
    let mut text = Vec::new();
    let mut data = String::new();
    let mut in_data = false;
    for (index, line) in stdout.lines().enumerate() {
        if in_data {
            data.push(' ');
            data.push_str(line);
            continue;
        }
        let (before, after) = line.split_once('|').map_or((line, None), |(b, a)| (b, Some(a)));
        text.push(before.trim_end());
        if let Some(after) = after {
            data.push(' ');
            data.push_str(after);
            // Performance data on the first line does not end the text: long text may follow.
            in_data = index > 0;
        }
    }
    (text.join("\n").trim().to_owned(), metrics(&data))
}

fn metrics(data: &str) -> Vec<Metric> {
    let mut metrics = Vec::new();
    let mut rest = data.trim_start();
    while !rest.is_empty() && metrics.len() < limits::METRICS {
        let Some((label, after)) = label(rest) else {
            // Not a label: go on behind the next space.
            rest = rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
            continue;
        };
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let (fields, next) = after.split_at(end);
        metrics.extend(metric(label, fields));
        rest = next.trim_start();
    }
    metrics
}

/// The label before `=`, and what stands behind it. In quotes it may hold spaces, `=` and doubled quotes.
fn label(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('\'') else {
        let (label, rest) = text.split_once('=')?;
        return (!label.is_empty() && !label.contains(char::is_whitespace)).then(|| (label.to_owned(), rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('\'')?;
        name.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                name.push('\'');
                rest = more;
            }
            None => return Some((name, after.strip_prefix('=')?)),
        }
    }
}

fn metric(name: String, fields: &str) -> Option<Metric> {
    let mut fields = fields.split(';');
    let value = fields.next()?;
    let end = value
        .char_indices()
        .find(|&(at, c)| {
            let exponent = matches!(c, 'e' | 'E')
                && value.get(at + 1..).is_some_and(|rest| {
                    rest.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit())
                });
            !(c.is_ascii_digit() || matches!(c, '.' | ',' | '+' | '-') || exponent)
        })
        .map_or(value.len(), |(at, _)| at);
    let (number, unit) = value.split_at(end);
    // Plugins in some languages print a decimal comma in spite of LC_ALL=C. "U" is a value that could not be read.
    let value = number.replace(',', ".").parse::<f64>().ok().filter(|value| value.is_finite())?;
    let word =
        |text: Option<&str>| text.filter(|text| !text.is_empty()).map(|text| cut(text, WORD).to_owned());
    let bound = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok()).filter(|b| b.is_finite());
    Some(Metric {
        name: cut(&name, NAME).to_owned(),
        value,
        unit: word(Some(unit)),
        warn: word(fields.next()),
        crit: word(fields.next()),
        min: bound(fields.next()),
        max: bound(fields.next()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(stdout: &str) -> (String, Vec<String>) {
        let (text, metrics) = split(stdout);
        let shown = metrics.into_iter().map(|m| {
            let (unit, warn, crit) =
                (m.unit.unwrap_or_default(), m.warn.unwrap_or_default(), m.crit.unwrap_or_default());
            let bound = |bound: Option<f64>| bound.map(|b| b.to_string()).unwrap_or_default();
            format!("{}={}{unit};{warn};{crit};{};{}", m.name, m.value, bound(m.min), bound(m.max))
        });
        (text, shown.collect())
    }

    #[test]
    fn performance_data_of_known_plugins() {
        for (stdout, text, metrics) in [
            ("OK", "OK", vec![]),
            ("OK | a=1", "OK", vec!["a=1;;;;"]),
            (
                "PING OK - RTA = 0.05 ms|rta=0.050000ms;100.0;500.0;0.0 pl=0%;20;60;0",
                "PING OK - RTA = 0.05 ms",
                vec!["rta=0.05ms;100.0;500.0;0;", "pl=0%;20;60;0;"],
            ),
            (
                "DISK OK| '/var log'=10MB;~:80;@90:95;0;100 'it''s'=2 'a=b'=3c",
                "DISK OK",
                vec!["/var log=10MB;~:80;@90:95;0;100", "it's=2;;;;", "a=b=3c;;;;"],
            ),
            (
                "first | a=1\nlong one\nlong two | b=2\nc=3s d=4\n",
                "first\nlong one\nlong two",
                vec!["a=1;;;;", "b=2;;;;", "c=3s;;;;", "d=4;;;;"],
            ),
            ("x | a=U b=1.5e3B junk =5 c=-2,5 'open=1", "x", vec!["b=1500B;;;;", "c=-2.5;;;;"]),
            ("x | a=5EB", "x", vec!["a=5EB;;;;"]),
            ("x | a=1e999 b=;; c", "x", vec![]),
        ] {
            assert_eq!(
                shown(stdout),
                (text.to_owned(), metrics.iter().map(|&m| m.to_owned()).collect()),
                "{stdout}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_output_panics(stdout in "[ a='|;.,0-9eEäU\n-]{0,80}") {
            for metric in split(&stdout).1 {
                prop_assert!(metric.value.is_finite());
            }
        }
    }
}
