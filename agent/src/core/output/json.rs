//! `json`: one JSON text, in which a pointer names the value: a number, a truth value, a text, or an object of numbers.

use std::collections::BTreeMap;

use protocol::{Metric, Scalar, Status};
use serde_json::Value;

use super::{
    Finding, NAME, Printed, TEXT_VALUE, add_note, cut_marked, few, judge, names, number_or_text, plain,
    single,
};
use crate::core::check::Check;

/// The exit code does not matter: a JSON text that is not whole is none.
pub(super) fn read(check: &Check, printed: &Printed) -> Finding {
    let (text, cut) = printed.stdout();
    let whole: Value = match serde_json::from_str(text.trim()) {
        Ok(whole) => whole,
        Err(_) if text.trim().is_empty() => {
            return Finding::unknown(printed.explain(&format!("no JSON printed ({})", printed.ending())));
        }
        Err(_) if cut => {
            return Finding::unknown(format!(
                "the output is longer than the {} bytes that are kept, and no JSON without its end: print less",
                text.len()
            ));
        }
        Err(error) => {
            let reason = format!("the output is not JSON ({error}; {})", printed.ending());
            return Finding::unknown(printed.explain(&reason));
        }
    };
    let pointer = check.output.pointer.as_deref().unwrap_or_default();
    let Some(value) = whole.pointer(pointer) else {
        let shown = cut_marked(text.trim(), TEXT_VALUE);
        return Finding::unknown(format!("there is no {pointer:?} in the output: {shown}"));
    };
    let output = cut_marked(&value.to_string(), TEXT_VALUE);
    let value = match value {
        Value::Object(_) | Value::Array(_) => return object(check, value, output),
        Value::Number(number) => Scalar::Number(number.clone()),
        Value::Bool(value) => Scalar::Bool(*value),
        Value::String(text) => number_or_text(text),
        Value::Null => return Finding::unknown(format!("the value at {pointer:?} is null")),
    };
    if let Some(metric) = &check.output.metric {
        return Finding::unknown(format!("there is no metric {metric:?} in a single value: {output}"));
    }
    single(check, value, output)
}

fn object(check: &Check, value: &Value, mut output: String) -> Finding {
    let mut metrics = Vec::new();
    flatten(String::new(), value, &mut metrics);
    let wanted = check.output.metric.as_deref();
    let found = match wanted {
        Some(name) => metrics.iter().find(|metric| metric.name == name),
        None => metrics.first(),
    };
    let Some(found) = found else {
        return Finding::unknown(match wanted {
            Some(name) => {
                let there = names(metrics.iter().map(|metric| metric.name.as_str()));
                format!("there is no number {name:?} in the value; there are: {there}")
            }
            None => format!("there is no number in the value: {output}"),
        });
    };
    let (status, value): (Status, _) = (judge(check, found.value), Scalar::number(found.value));
    let (metrics, cut) = few(metrics);
    if let Some(cut) = cut {
        add_note(&mut output, &cut);
    }
    Finding { status, value, unit: check.unit.clone(), metrics, output, ..Finding::unknown("") }
}

/// The numbers and truth values (1 and 0) in `value`, named by the keys that lead there: `pool.free`, `disks.0.used`. Texts
/// and nulls are left out, and so are names that are too long. The reader of JSON bounds the depth.
fn flatten(name: String, value: &Value, metrics: &mut Vec<Metric>) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    if name.len() > NAME {
        return;
    }
    match value {
        Value::Number(number) => metrics.extend(number.as_f64().map(|value| plain(name, value))),
        Value::Bool(value) => metrics.push(plain(name, f64::from(u8::from(*value)))),
        Value::Object(members) => {
            // A map may keep the order of the text: the first metric must not depend on that.
            let members: BTreeMap<&String, &Value> = members.iter().collect();
            members.into_iter().for_each(|(key, value)| flatten(inner(key), value, metrics));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| flatten(inner(&at.to_string()), value, metrics));
        }
        Value::String(_) | Value::Null => {}
    }
}

#[cfg(test)]
mod tests {
    use protocol::work::{Output, OutputFormat};

    use super::*;
    use crate::core::output::{testing::*, understand};

    fn read(stdout: &str, pointer: Option<&str>, metric: Option<&str>) -> Finding {
        let output = Output {
            format: OutputFormat::Json,
            pointer: pointer.map(str::to_owned),
            metric: metric.map(str::to_owned),
            pattern: None,
        };
        understand(&with(output, Some("> 5"), Some("20:")), &printed(stdout, 1))
    }

    const STATUS: &str = r#"{"queue": {"depth": 7, "a/b": 25, "oldest": {"age": 4.5}, "name": "x", "ready": true},
        "text": "83.5", "word": "up", "big": 18446744073709551615, "none": null, "list": [21, {"n": 22}]}"#;

    #[test]
    fn a_pointer_leads_to_one_value() {
        for (stdout, pointer, status, value) in [
            ("25", None, Status::Warning, Some("25")),
            (" 3\n", None, Status::Critical, Some("3")),
            (STATUS, Some("/queue/depth"), Status::Critical, Some("7")),
            (STATUS, Some("/queue/a~1b"), Status::Warning, Some("25")),
            (STATUS, Some("/queue/ready"), Status::Critical, Some("true")),
            (STATUS, Some("/list/1/n"), Status::Warning, Some("22")),
            (STATUS, Some("/text"), Status::Warning, Some("83.5")),
            (STATUS, Some("/big"), Status::Warning, Some("18446744073709551615")),
            (STATUS, Some("/word"), Status::Unknown, None),
            (STATUS, Some("/none"), Status::Unknown, None),
            (STATUS, Some("/queue/dept"), Status::Unknown, None),
            ("", None, Status::Unknown, None),
            ("{\"a\": 1", None, Status::Unknown, None),
            ("1 2", None, Status::Unknown, None),
        ] {
            let found = read(stdout, pointer, None);
            assert_eq!(found.status, status, "{pointer:?} {found:?}");
            assert_eq!(found.value.map(|value| value.to_string()).as_deref(), value, "{pointer:?}");
        }
    }

    #[test]
    fn an_object_of_numbers_is_metrics() {
        let found = read(STATUS, Some("/queue"), None);
        assert_eq!(shown(&found), ["a/b=25", "depth=7", "oldest.age=4.5", "ready=1"]);
        assert_eq!((found.status, found.value.unwrap().to_string().as_str()), (Status::Warning, "25"));
        let found = read(STATUS, Some("/queue"), Some("oldest.age"));
        assert_eq!((found.status, found.value.unwrap().to_string().as_str()), (Status::Critical, "4.5"));
        assert_eq!(shown(&read(STATUS, Some("/list"), None)), ["0=21", "1.n=22"]);
        assert_eq!(read(STATUS, None, Some("queue.depth")).value.unwrap().to_string(), "7");
    }

    #[test]
    fn what_is_missing_is_explained() {
        for (stdout, pointer, metric, said) in [
            ("", None, None, "no JSON printed (exit code 1)"),
            (
                "curl: (7) failed",
                None,
                None,
                "the output is not JSON (expected value at line 1 column 1; exit code 1): curl",
            ),
            ("{\"a\": 1}", Some("/b"), None, "there is no \"/b\" in the output: {\"a\": 1}"),
            ("{\"a\": null}", Some("/a"), None, "the value at \"/a\" is null"),
            ("{\"a\": 1}", None, Some("b"), "there is no number \"b\" in the value; there are: a"),
            ("{\"a\": \"x\"}", None, None, "there is no number in the value: {\"a\":\"x\"}"),
            ("5", None, Some("b"), "there is no metric \"b\" in a single value: 5"),
            ("\"up\"", None, None, "there is no number for the thresholds to judge: up"),
        ] {
            let found = read(stdout, pointer, metric);
            assert!(found.output.starts_with(said), "{}", found.output);
            assert_eq!((found.status, found.value), (Status::Unknown, None));
        }
        let cut = format!("{{\"a\": \"{}{}", "x".repeat(60_000), super::super::CUT);
        assert!(read(&cut, None, None).output.starts_with("the output is longer than the 60007 bytes"));
    }

    #[test]
    fn what_is_large_or_deep_is_bounded() {
        let many: Vec<String> = (0..1_100).map(|n| format!("\"k{n:04}\": {n}")).collect();
        let found = read(&format!("{{{}}}", many.join(",")), None, Some("k1050"));
        assert_eq!((found.metrics.len(), found.value.unwrap().to_string().as_str()), (1_000, "1050"));
        assert!(found.output.len() < 5_000);
        assert!(found.output.ends_with("[cut]\n[1100 metrics, of which the first 1000 are kept]"));
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(read(&deep, None, None).output.contains("recursion limit"));
    }
}
