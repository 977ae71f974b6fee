//! Output of Nagios plugins, after the Monitoring Plugins guidelines:
//! `text | 'label'=value[unit];[warn];[crit];[min];[max] …`, where further lines are text until one holds `|`,
//! and performance data from there on.

use protocol::Metric;

use super::check::cut;

/// Longest label, unit and range kept, in bytes.
const NAME: usize = 256;
const WORD: usize = 64;

/// Most metrics that are read: more than are kept, so that one beyond can still be the value.
const MOST: usize = 10_000;

/// What a plugin printed.
#[derive(Debug, Default, PartialEq)]
pub struct Output {
    /// For people.
    pub text: String,
    pub metrics: Vec<Metric>,
    pub unknown: Vec<Unknown>,
}

/// A metric without a value (`U`): the plugin could not read it.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    pub name: String,
    /// How many metrics stand before it.
    before: usize,
}

/// Name of the metric that the plugin names first, with a value or without.
#[must_use]
pub fn first<'a>(metrics: &'a [Metric], unknown: &'a [Unknown]) -> Option<&'a str> {
    let without = unknown.first().filter(|unknown| unknown.before == 0);
    without.map(|unknown| unknown.name.as_str()).or_else(|| Some(metrics.first()?.name.as_str()))
}

/// The text for people, and the metrics. What cannot be read as a metric is left out.
#[must_use]
pub fn split(stdout: &str) -> Output {
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
    let (metrics, unknown) = metrics(&data);
    if metrics.is_empty() && unknown.is_empty() {
        // The bar was part of the text, as in a plugin's own manual.
        return Output { text: stdout.trim().to_owned(), metrics, unknown };
    }
    Output { text: text.join("\n").trim().to_owned(), metrics, unknown }
}

/// The other way round: one line of text and metrics, as a plugin prints it.
#[must_use]
pub fn line(text: &str, metrics: &[Metric]) -> String {
    // A bar would end the text, and a newline the line.
    let mut line: String = text.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).collect();
    for (index, metric) in metrics.iter().enumerate() {
        line.push_str(if index == 0 { " | " } else { " " });
        line.push_str(&written(metric));
    }
    line
}

/// `'label'=value[unit];[warn];[crit];[min];[max]`, without the empty fields at its end.
fn written(metric: &Metric) -> String {
    let label: String =
        metric.name.chars().map(|c| if c == '=' || c == '|' || c.is_control() { '_' } else { c }).collect();
    let unit = metric.unit.as_deref().unwrap_or_default();
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let threshold = |text: &Option<String>| text.as_deref().map(range).unwrap_or_default();
    let fields = [
        format!("'{}'={}{unit}", label.replace('\'', "''"), metric.value),
        threshold(&metric.warn),
        threshold(&metric.crit),
        number(metric.min),
        number(metric.max),
    ];
    fields.join(";").trim_end_matches(';').to_owned()
}

/// A threshold as the Nagios range that alerts on the same values. A range stays as it is.
fn range(threshold: &str) -> String {
    let text = threshold.trim();
    // Two-character operators first: ">" is a prefix of ">=".
    let found = [">=", "<=", "==", "!=", ">", "<"]
        .into_iter()
        .find_map(|operator| Some((operator, text.strip_prefix(operator)?.trim().parse::<f64>().ok()?)));
    match found {
        Some((">=", bound)) => format!("@{bound}:"),
        Some(("<=", bound)) => format!("@~:{bound}"),
        Some(("==", bound)) => format!("@{bound}:{bound}"),
        Some(("!=", bound)) => format!("{bound}:{bound}"),
        Some((">", bound)) => format!("~:{bound}"),
        Some((_, bound)) => format!("{bound}:"),
        None => text.to_owned(),
    }
}

fn metrics(data: &str) -> (Vec<Metric>, Vec<Unknown>) {
    let (mut metrics, mut unknown) = (Vec::new(), Vec::new());
    let mut rest = data.trim_start();
    while !rest.is_empty() && metrics.len() + unknown.len() < MOST {
        let Some((label, after)) = label(rest) else {
            // Not a label: go on behind the next space.
            rest = rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
            continue;
        };
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let (fields, next) = after.split_at(end);
        if fields.split(';').next() == Some("U") {
            unknown.push(Unknown { name: cut(&label, NAME).to_owned(), before: metrics.len() });
        } else {
            metrics.extend(metric(label, fields));
        }
        rest = next.trim_start();
    }
    (metrics, unknown)
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
    use protocol::Threshold;

    use super::*;

    fn shown(stdout: &str) -> (String, Vec<String>) {
        let Output { text, metrics, .. } = split(stdout);
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
            ("x | a=1e999 b=;; c", "x | a=1e999 b=;; c", vec![]),
            ("usage:\n-a <AVG | MAX>\n-b", "usage:\n-a <AVG | MAX>\n-b", vec![]),
        ] {
            assert_eq!(
                shown(stdout),
                (text.to_owned(), metrics.iter().map(|&m| m.to_owned()).collect()),
                "{stdout}"
            );
        }
    }

    #[test]
    fn what_is_written_is_one_line_that_can_be_read_again() {
        let metric = |name: &str, warn: Option<&str>, max| Metric {
            name: name.into(),
            value: 83.5,
            unit: Some("%".into()),
            warn: warn.map(str::to_owned),
            crit: Some("> 90".into()),
            min: Some(0.0),
            max,
        };
        let metrics = [metric("/var log", Some("10:20"), Some(100.0)), metric("it's a=b|c\n", None, None)];
        let line = line("DISK OK - a|b\nc", &metrics);
        assert_eq!(line, "DISK OK - a b c | '/var log'=83.5%;10:20;~:90;0;100 'it''s a_b_c_'=83.5%;;~:90;0");
        assert_eq!(
            shown(&line),
            (
                "DISK OK - a b c".to_owned(),
                vec!["/var log=83.5%;10:20;~:90;0;100".to_owned(), "it's a_b_c_=83.5%;;~:90;0;".to_owned()]
            )
        );
        assert_eq!(super::line("OK", &[]), "OK");
    }

    proptest! {
        #[test]
        fn a_threshold_written_as_a_range_alerts_on_the_same_values(
            operator in "(>=|<=|==|!=|>|<)",
            bound in -5_i32..5,
            value in -6_i32..6,
        ) {
            let text = format!("{operator} {bound}.5");
            let (threshold, range): (Threshold, Threshold) =
                (text.parse().unwrap(), range(&text).parse().unwrap());
            for value in [f64::from(value), f64::from(value) + 0.5] {
                prop_assert_eq!(threshold.violated_by(value), range.violated_by(value), "{} {}", text, value);
            }
        }

        #[test]
        fn no_output_panics(stdout in "[ a='|;.,0-9eEäU\n-]{0,80}") {
            for metric in split(&stdout).metrics {
                prop_assert!(metric.value.is_finite());
            }
        }
    }
}
