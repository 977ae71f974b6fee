//! `prometheus`: the text exposition format, as exporters serve it: `name{label="value"} 12.5 [timestamp]`.

use protocol::{Metric, Scalar, Status};

use super::{Finding, NAME, Printed, add_note, few, judge, names, plain};
use crate::core::check::Check;

/// One line of the exposition.
#[derive(Debug, PartialEq)]
struct Sample {
    /// `name{a="1",b="2"}`: labels in order of their names, values escaped, so that one series always has one name.
    id: String,
    /// How much of `id` is the bare name.
    bare: usize,
    value: f64,
}

/// Comments, types and timestamps are of no use here. A command that failed may have printed only a part.
pub(super) fn read(check: &Check, printed: &Printed) -> Finding {
    if printed.exit_code != Some(0) {
        return Finding::unknown(printed.explain(&printed.ending()));
    }
    let (mut text, cut) = printed.stdout();
    if cut {
        // The last line is not whole.
        text = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    }
    let (mut samples, mut unreadable) = (Vec::new(), 0_usize);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match sample(line) {
            Some(sample) => samples.push(sample),
            None => unreadable += 1,
        }
    }
    if samples.is_empty() {
        return Finding::unknown(printed.explain("no metric in the Prometheus text format printed"));
    }
    let found = match pick(&samples, check.output.metric.as_deref()) {
        Ok(found) => found,
        Err(reason) => return Finding::unknown(reason),
    };
    let (status, value): (Status, _) = (judge(check, found.value), Scalar::number(found.value));
    let read = samples.len();
    let metrics: Vec<Metric> = samples
        .into_iter()
        .filter(|sample| sample.value.is_finite() && sample.id.len() <= NAME)
        .map(|sample| plain(sample.id, sample.value))
        .collect();
    let left_out = read - metrics.len();
    let mut output = format!("{} metrics", metrics.len());
    let (metrics, many) = few(metrics);
    let notes = [
        (left_out > 0).then(|| {
            format!("{left_out} samples left out: not a finite number, or a name longer than {NAME} bytes")
        }),
        (unreadable > 0).then(|| format!("{unreadable} lines could not be read")),
        cut.then(|| "the output is longer than what is kept of it: print less".to_owned()),
        many,
    ];
    notes.iter().flatten().for_each(|note| add_note(&mut output, note));
    Finding { status, value, unit: check.unit.clone(), metrics, output, ..Finding::unknown("") }
}

/// The sample that is the value: the named one, or the first that is a number.
fn pick<'a>(samples: &'a [Sample], wanted: Option<&str>) -> Result<&'a Sample, String> {
    let Some(wanted) = wanted else {
        return samples
            .iter()
            .find(|sample| sample.value.is_finite())
            .ok_or_else(|| "no sample is a finite number".to_owned());
    };
    // Written in any order of its labels.
    let (id, bare) = identity(wanted.trim())
        .filter(|(_, _, rest)| rest.trim().is_empty())
        .map_or_else(|| (wanted.to_owned(), wanted.len()), |(id, bare, _)| (id, bare));
    let mut found: Vec<&Sample> = samples.iter().filter(|sample| sample.id == id).take(1).collect();
    if found.is_empty() && bare == id.len() {
        found = samples.iter().filter(|sample| sample.id.get(..sample.bare) == Some(&id)).collect();
    }
    match found.as_slice() {
        [one] if one.value.is_finite() => Ok(one),
        [one] => Err(format!("{} is {}", one.id, one.value)),
        [] => {
            let same = id.get(..bare).unwrap_or_default();
            let mut there: Vec<_> =
                samples.iter().filter(|sample| sample.id.get(..sample.bare) == Some(same)).collect();
            if there.is_empty() {
                there = samples.iter().collect();
            }
            let there = names(there.iter().map(|sample| sample.id.as_str()));
            Err(format!("there is no metric {wanted:?}; there are: {there}"))
        }
        several => {
            let there = names(several.iter().map(|sample| sample.id.as_str()));
            Err(format!("{wanted:?} is more than one metric: name one with its labels: {there}"))
        }
    }
}

/// `None` when the line is not a sample. An exemplar behind `#` is passed over.
fn sample(line: &str) -> Option<Sample> {
    let (id, bare, rest) = identity(line)?;
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    match (words.next(), words.next()) {
        (None, _) => {}
        (Some(word), _) if word.starts_with('#') => {}
        (Some(time), None) if time.parse::<f64>().is_ok() => {}
        (Some(time), Some(word)) if time.parse::<f64>().is_ok() && word.starts_with('#') => {}
        _ => return None,
    }
    Some(Sample { id, bare, value })
}

/// Name and labels in one order, the length of the bare name, and what stands behind. The name may also stand first
/// within the braces, in quotes.
fn identity(text: &str) -> Option<(String, usize, &str)> {
    let end = text.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let mut name = name.to_owned();
    let mut labels = Vec::new();
    if let Some(inside) = rest.trim_start().strip_prefix('{') {
        rest = inside.trim_start();
        loop {
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                break;
            }
            let (label, behind) = match rest.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let end = rest.find(|c: char| c == '=' || c.is_whitespace())?;
                    let (label, behind) = rest.split_at(end);
                    (label.to_owned(), behind)
                }
            };
            rest = behind.trim_start();
            if let Some(behind) = rest.strip_prefix('=') {
                let (value, behind) = unquote(behind.trim_start().strip_prefix('"')?)?;
                if label.is_empty() {
                    return None;
                }
                labels.push((label, value));
                rest = behind.trim_start();
            } else if name.is_empty() && labels.is_empty() {
                name = label;
            } else {
                return None;
            }
            rest = match rest.strip_prefix(',') {
                Some(behind) => behind.trim_start(),
                None if rest.starts_with('}') => rest,
                None => return None,
            };
        }
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let bare = name.len();
    labels.sort();
    let labels: Vec<String> =
        labels.into_iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(&value))).collect();
    if !labels.is_empty() {
        name = format!("{name}{{{}}}", labels.join(","));
    }
    Some((name, bare, rest))
}

/// The text up to the closing quote, without its escapes, and what stands behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            plain => value.push(plain),
        }
    }
    None
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::work::{Output, OutputFormat};

    use super::*;
    use crate::core::output::{testing::*, understand};

    fn read(stdout: &str, metric: Option<&str>, warning: Option<&str>) -> Finding {
        let output = Output {
            format: OutputFormat::Prometheus,
            metric: metric.map(str::to_owned),
            ..Output::default()
        };
        understand(&with(output, warning, None), &printed(stdout, 0))
    }

    const EXPORTER: &str = r#"
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400",}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
not_there NaN
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="+Inf"} 144320 # {trace_id="abc"} 0.67
http_request_duration_seconds_sum 53423
rpc_duration_seconds{quantile="0.01"} 3102
{"utf.8 name", zone="eu"} 5
up{} 1
# EOF
"#;

    #[test]
    fn an_exposition_is_metrics_with_stable_names() {
        let found = read(EXPORTER, None, Some("> 1000"));
        assert_eq!(
            shown(&found),
            [
                r#"http_requests_total{code="200",method="post"}=1027"#,
                r#"http_requests_total{code="400",method="post"}=3"#,
                r#"msdos_file_access_time_seconds{error="Cannot find file:\n\"FILE.TXT\"",path="C:\\DIR\\FILE.TXT"}=1458255915"#,
                "metric_without_timestamp_and_labels=12.47",
                r#"http_request_duration_seconds_bucket{le="0.05"}=24054"#,
                r#"http_request_duration_seconds_bucket{le="+Inf"}=144320"#,
                "http_request_duration_seconds_sum=53423",
                r#"rpc_duration_seconds{quantile="0.01"}=3102"#,
                r#"utf.8 name{zone="eu"}=5"#,
                "up=1",
            ]
        );
        assert_eq!((found.status, found.value.unwrap().to_string().as_str()), (Status::Warning, "1027"));
        assert_eq!(
            found.output,
            "10 metrics\n[2 samples left out: not a finite number, or a name longer than 512 bytes]"
        );
    }

    #[test]
    fn the_value_is_the_metric_that_is_named() {
        for (metric, value) in [
            ("up", "1"),
            ("http_request_duration_seconds_sum", "53423"),
            ("rpc_duration_seconds", "3102"),
            (r#"http_requests_total{method="post",code="400"}"#, "3"),
            (r#"http_requests_total{ code="400", method="post" }"#, "3"),
            (r#"http_request_duration_seconds_bucket{le="+Inf"}"#, "144320"),
        ] {
            let found = read(EXPORTER, Some(metric), Some("20:"));
            assert_eq!(found.value.unwrap().to_string(), value, "{metric}");
            assert_eq!(found.status == Status::Warning, value.len() == 1, "{metric}");
        }
        for (metric, said) in [
            (
                "http_requests_total",
                "\"http_requests_total\" is more than one metric: name one with its labels: http_requests_total{code=\"200\",method=\"post\"}, ",
            ),
            ("not_there", "not_there is NaN"),
            ("gone", "there is no metric \"gone\"; there are: http_requests_total{"),
            (r#"up{a="b"}"#, "there is no metric \"up{a=\\\"b\\\"}\"; there are: up"),
        ] {
            let found = read(EXPORTER, Some(metric), None);
            assert!(found.output.starts_with(said), "{}", found.output);
            assert_eq!((found.status, found.value), (Status::Unknown, None));
        }
    }

    #[test]
    fn what_is_no_exposition_is_unknown() {
        for bad in ["", "hello world", "<html>\n</html>", "# only a comment", "a{b=\"c\" 1", "a{b} 1", "1a 5"]
        {
            let found = read(bad, None, None);
            assert_eq!(found.status, Status::Unknown, "{bad}: {found:?}");
        }
        assert_eq!(
            read("a 1\nb x\nc 1 2 3\nd 4", None, None).output,
            "2 metrics\n[2 lines could not be read]"
        );
        let check = check(OutputFormat::Prometheus, None, None);
        let failed = understand(&check, &printed("a 1", 1));
        assert_eq!((failed.status, failed.output.as_str()), (Status::Unknown, "exit code 1: a 1"));
    }

    #[test]
    fn what_is_large_is_bounded_and_said() {
        let many: Vec<String> = (0..1_500).map(|n| format!("m{n} {n}")).collect();
        let cut = format!("{}{}", many.join("\n"), super::super::CUT);
        let found = read(&cut, Some("m1400"), None);
        assert_eq!((found.metrics.len(), found.value.unwrap().to_string().as_str()), (1_000, "1400"));
        assert_eq!(
            found.output,
            "1499 metrics\n[the output is longer than what is kept of it: print less]\n[1499 metrics, of which the first 1000 are kept]"
        );
    }

    proptest! {
        /// Whatever a label holds: what is written is read again as the same.
        #[test]
        fn names_are_read_as_they_are_written(value in "\\PC{0,20}|[\"\\\\\n{},=]{0,8}", number in -1e9..1e9_f64) {
            let id = format!("m{{a=\"{}\"}}", escaped(&value));
            let line = format!("{id} {number} 1395066363000");
            prop_assert_eq!(sample(&line), Some(Sample { id, bare: 1, value: number }));
        }

        #[test]
        fn no_line_panics(line in "[a-c{}=\",\\\\#0-9. nI+-]{0,40}") {
            let _either = sample(&line);
        }
    }
}
