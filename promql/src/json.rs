//! Answers in the JSON of Prometheus' HTTP API.

use std::fmt::Write;

use crate::{Answer, Error, Labels, Sample};

/// The whole body of a good answer to `query` and `query_range`, with what its reader should know.
#[must_use]
pub fn answer(answer: &Answer, warnings: &[String]) -> String {
    let mut out = String::with_capacity(64 + size(answer));
    out.push_str(r#"{"status":"success","data":{"resultType":"#);
    match answer {
        Answer::Scalar(sample) => {
            out.push_str(r#""scalar","result":"#);
            pair(&mut out, sample);
        }
        Answer::Text(t_ms, text) => {
            out.push_str(r#""string","result":["#);
            time(&mut out, *t_ms);
            out.push(',');
            string(&mut out, text);
            out.push(']');
        }
        Answer::Vector(points) => {
            out.push_str(r#""vector","result":["#);
            list(&mut out, points, |out, point| {
                out.push_str(r#"{"metric":"#);
                labels(out, &point.labels);
                out.push_str(r#","value":"#);
                pair(out, &point.sample);
                out.push('}');
            });
            out.push(']');
        }
        Answer::Matrix(matrix) => {
            out.push_str(r#""matrix","result":["#);
            list(&mut out, matrix, |out, series| {
                out.push_str(r#"{"metric":"#);
                labels(out, &series.labels);
                out.push_str(r#","values":["#);
                list(out, &series.samples, pair);
                out.push_str("]}");
            });
            out.push(']');
        }
    }
    out.push('}');
    if !warnings.is_empty() {
        out.push_str(r#","warnings":["#);
        list(&mut out, warnings, |out, warning| string(out, warning));
        out.push(']');
    }
    out.push('}');
    out
}

/// The whole body of a good answer whose data is a list of texts.
#[must_use]
pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    data(texts, string)
}

/// The whole body of a good answer whose data is a list of label sets.
#[must_use]
pub fn label_sets<'a>(sets: impl IntoIterator<Item = &'a Labels>) -> String {
    data(sets, labels)
}

fn data<T>(items: impl IntoIterator<Item = T>, write: impl Fn(&mut String, T)) -> String {
    let mut out = r#"{"status":"success","data":["#.to_owned();
    list(&mut out, items, write);
    out.push_str("]}");
    out
}

/// The whole body of a refusal.
#[must_use]
pub fn error(error: &Error) -> String {
    refusal(error.kind(), &error.to_string())
}

/// The whole body of a refusal for another reason; `kind` is one of Prometheus' error types.
#[must_use]
pub fn refusal(kind: &str, text: &str) -> String {
    let mut out = r#"{"status":"error","errorType":"#.to_owned();
    string(&mut out, kind);
    out.push_str(r#","error":"#);
    string(&mut out, text);
    out.push('}');
    out
}

/// A number as Prometheus writes samples.
#[must_use]
pub fn number(value: f64) -> String {
    let mut out = String::new();
    write_number(&mut out, value);
    out
}

/// A number without an exponent, as label values of `count_values` are written.
pub(crate) fn decimal(value: f64) -> String {
    match special(value) {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("+Inf")
    } else if value == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

fn write_number(out: &mut String, value: f64) {
    if let Some(text) = special(value) {
        out.push_str(text);
        return;
    }
    let size = value.abs();
    if size == 0.0 || (1e-4..1e15).contains(&size) {
        // Here both write the same shortest digits, and this in a fraction of the time.
        let mut digits = ryu::Buffer::new();
        let text = digits.format_finite(value);
        out.push_str(text.strip_suffix(".0").unwrap_or(text));
        return;
    }
    // Writing to a String does not fail.
    let _written = if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => write!(out, "{digits}e+{exponent}"),
            _ => out.write_str(&text),
        }
    } else {
        write!(out, "{value}")
    };
}

fn list<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut one: impl FnMut(&mut String, T)) {
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        one(out, item);
    }
}

fn pair(out: &mut String, sample: &Sample) {
    out.push('[');
    time(out, sample.t_ms);
    out.push_str(",\"");
    write_number(out, sample.value);
    out.push_str("\"]");
}

/// Seconds with three digits behind the point, or none.
fn time(out: &mut String, t_ms: i64) {
    let sign = if t_ms < 0 { "-" } else { "" };
    let (seconds, rest) = (t_ms.unsigned_abs() / 1000, t_ms.unsigned_abs() % 1000);
    out.push_str(sign);
    out.push_str(itoa::Buffer::new().format(seconds));
    if rest > 0 {
        let _written = write!(out, ".{rest:03}");
    }
}

fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    list(out, labels.iter(), |out, (name, value)| {
        string(out, name);
        out.push(':');
        string(out, value);
    });
    out.push('}');
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let _written = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Room that the answer needs, about.
fn size(answer: &Answer) -> usize {
    match answer {
        Answer::Scalar(_) => 0,
        Answer::Text(_, text) => text.len(),
        Answer::Vector(points) => points.len().saturating_mul(200),
        Answer::Matrix(matrix) => {
            matrix.iter().map(|series| series.samples.len().saturating_mul(32) + 200).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-83.5, "-83.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-7"),
            (0.000_1, "0.0001"),
            (999_999_999_999_999.9, "999999999999999.9"),
            (1e15, "1000000000000000"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn numbers_have_the_same_digits_either_way(bits in proptest::num::f64::NORMAL, tenths in -10_000_000i64..10_000_000) {
            for value in [bits, bits % 1e6, tenths as f64 / 10.0] {
                if (1e-4..1e15).contains(&value.abs()) {
                    assert_eq!(number(value), value.to_string());
                }
                assert_eq!(number(value).parse(), Ok(value));
            }
        }
    }

    #[test]
    fn times_are_seconds() {
        for (t_ms, expected) in
            [(0, "0"), (1_500, "1.500"), (-1_500, "-1.500"), (1_795_200_000_123, "1795200000.123")]
        {
            let mut out = String::new();
            time(&mut out, t_ms);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn any_text_is_json() {
        let text = "a\"b\\c\n\r\t\u{1}é\u{7f}";
        let parsed: serde_json::Value = serde_json::from_str(&refusal("execution", text)).unwrap();
        assert_eq!(parsed["error"], text);
    }
}
