//! What the body of `POST /api/submit` says: one reading, or an array of them.

use std::time::{Duration, UNIX_EPOCH};

use protocol::{CheckName, ErrorCode, ErrorReply, Scalar, Status, duration::millis, limits};
use serde_json::{Map, Value};

/// A clock may be ahead of ours by this much; a reading from further ahead would stay the newest for ever.
const FUTURE: Duration = Duration::from_secs(86_400);
const UNIT: usize = 64;

/// One submitted value, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) check: CheckName,
    pub(crate) value: Option<Scalar>,
    /// Milliseconds since 1970.
    pub(crate) at_ms: Option<u64>,
    pub(crate) status: Option<Status>,
    pub(crate) unit: Option<String>,
}

/// # Errors
/// The first thing wrong, with a JSON pointer to it.
pub(crate) fn parse(body: &[u8], now_ms: u64) -> Result<Vec<Reading>, ErrorReply> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| ErrorReply::invalid(format!("the body is not JSON: {error}")))?;
    match body {
        Value::Object(object) => Ok(vec![reading(object, "", now_ms)?]),
        Value::Array(items) if items.len() > limits::SUBMISSION => Err(ErrorReply::new(
            ErrorCode::TooLarge,
            format!("{} values at once, more than the {} allowed", items.len(), limits::SUBMISSION),
        )),
        Value::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| match item {
                Value::Object(object) => reading(object, &format!("/{index}"), now_ms),
                _ => Err(ErrorReply::invalid("not an object with field and value").at(format!("/{index}"))),
            })
            .collect(),
        _ => Err(ErrorReply::invalid("the body must be an object with field and value, or an array of such")),
    }
}

fn reading(mut object: Map<String, Value>, at: &str, now_ms: u64) -> Result<Reading, ErrorReply> {
    let wrong = |name: &str, reason: String| ErrorReply::invalid(reason).at(format!("{at}/{name}"));
    let check = match object.get("field") {
        Some(Value::String(name)) => {
            CheckName::new(name).map_err(|error| wrong("field", error.to_string()))?
        }
        Some(_) => return Err(wrong("field", "field must be a text".to_owned())),
        None => return Err(wrong("field", "field is missing: it names the check".to_owned())),
    };
    let value = match object.remove("value") {
        Some(Value::Null) => None,
        Some(Value::Bool(truth)) => Some(Scalar::Bool(truth)),
        Some(Value::Number(number)) => Some(Scalar::Number(number)),
        Some(Value::String(text)) => Some(Scalar::Text(clean(&text))),
        Some(_) => {
            return Err(wrong("value", "value must be a number, a text, true, false or null".to_owned()));
        }
        None => return Err(wrong("value", "value is missing: send null for none".to_owned())),
    };
    let at_ms = match object.get("at") {
        None | Some(Value::Null) => None,
        Some(at) => {
            let at_ms = time(at).ok_or_else(|| {
                let rule = "at must be milliseconds since 1970, or like 2026-11-20T12:00:00Z";
                wrong("at", rule.to_owned())
            })?;
            if at_ms > now_ms.saturating_add(millis(FUTURE)) {
                return Err(wrong("at", "at lies more than a day ahead: check the host's clock".to_owned()));
            }
            Some(at_ms)
        }
    };
    let status = match object.get("status") {
        None | Some(Value::Null) => None,
        Some(status) => Some(serde_json::from_value(status.clone()).map_err(|_| {
            wrong("status", "status must be \"ok\", \"warning\", \"critical\" or \"unknown\"".to_owned())
        })?),
    };
    let unit = match object.remove("unit") {
        None | Some(Value::Null) => None,
        Some(Value::String(unit)) if unit.len() <= UNIT => Some(clean(&unit)),
        Some(_) => return Err(wrong("unit", format!("unit must be a text of at most {UNIT} bytes"))),
    };
    Ok(Reading { check, value, at_ms, status, unit })
}

/// Text without space around it and without control characters, at most [`limits::OUTPUT`] bytes long.
/// (A control character takes six bytes as JSON, which could carry a result over its own limit.)
fn clean(text: &str) -> String {
    const MARK: &str = " …[cut]";
    let mut text: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.len() > limits::OUTPUT {
        let mut end = limits::OUTPUT - MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

fn time(at: &Value) -> Option<u64> {
    match at {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => rfc3339_ms(text.trim()),
        _ => None,
    }
}

/// With `Z`, or an offset such as `+02:00`.
fn rfc3339_ms(text: &str) -> Option<u64> {
    let ms = |text: &str| {
        let time = humantime::parse_rfc3339(text).ok()?;
        i64::try_from(millis(time.duration_since(UNIX_EPOCH).ok()?)).ok()
    };
    let local_ms = match text.len().checked_sub(6).and_then(|end| text.split_at_checked(end)) {
        Some((date, offset)) if offset.starts_with(['+', '-']) => {
            let (sign, digits) = offset.split_at_checked(1)?;
            let (hours, minutes) = digits.split_once(':')?;
            let number = |text: &str, below| {
                text.bytes()
                    .all(|b| b.is_ascii_digit())
                    .then(|| text.parse::<i64>().ok().filter(|n| *n < below))?
            };
            let offset_ms: i64 = (number(hours, 24)? * 60 + number(minutes, 60)?) * 60_000;
            ms(&format!("{date}Z"))? - if sign == "-" { -offset_ms } else { offset_ms }
        }
        _ => ms(text)?,
    };
    u64::try_from(local_ms).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_795_200_000_000;

    fn one(json: &str) -> Reading {
        parse(json.as_bytes(), NOW).unwrap().remove(0)
    }

    #[test]
    fn values_are_read_as_they_are_meant() {
        for (json, expected) in [
            ("12", Some(Scalar::Number(12.into()))),
            ("1.5", Scalar::number(1.5)),
            ("true", Some(Scalar::Bool(true))),
            ("null", None),
            (r#""12\n""#, Some(Scalar::Text("12".into()))),
            (r#""a\u0000b\tc\n""#, Some(Scalar::Text("a\u{fffd}b\tc".into()))),
        ] {
            assert_eq!(one(&format!(r#"{{"field":"a","value":{json},"other":[1]}}"#)).value, expected);
        }
    }

    #[test]
    fn times_are_milliseconds_or_rfc_3339() {
        for (json, expected) in [
            ("1795200000123", Some(1_795_200_000_123)),
            ("\"2026-11-20T12:00:00Z\"", Some(1_795_176_000_000)),
            ("\"2026-11-20T14:00:00.5+02:00\"", Some(1_795_176_000_500)),
            ("\"2026-11-20T07:00:00-05:00\"", Some(1_795_176_000_000)),
            ("null", None),
        ] {
            assert_eq!(one(&format!(r#"{{"field":"a","value":1,"at":{json}}}"#)).at_ms, expected, "{json}");
        }
    }

    #[test]
    fn every_error_points_at_the_field() {
        for (body, field, reason) in [
            ("", None, "the body is not JSON: EOF"),
            ("7", None, "the body must be an object"),
            ("[1]", Some("/0"), "not an object"),
            (r#"{"value":1}"#, Some("/field"), "field is missing"),
            (r#"{"field":3,"value":1}"#, Some("/field"), "must be a text"),
            (r#"{"field":"a.b","value":1}"#, Some("/field"), "not a valid check name"),
            (r#"{"field":"a"}"#, Some("/value"), "value is missing"),
            (r#"[{"field":"a","value":1},{"field":"a","value":{}}]"#, Some("/1/value"), "must be a number"),
            (r#"{"field":"a","value":1,"at":"noon"}"#, Some("/at"), "milliseconds since 1970"),
            (r#"{"field":"a","value":1,"at":-1}"#, Some("/at"), "milliseconds since 1970"),
            (r#"{"field":"a","value":1,"at":"2026-11-20T12:00:00+99:00"}"#, Some("/at"), "1970"),
            (r#"{"field":"a","value":1,"at":9999999999999}"#, Some("/at"), "a day ahead"),
            (r#"{"field":"a","value":1,"status":"bad"}"#, Some("/status"), "must be \"ok\""),
            (r#"{"field":"a","value":1,"unit":1}"#, Some("/unit"), "at most 64 bytes"),
        ] {
            let error = parse(body.as_bytes(), NOW).unwrap_err();
            assert_eq!(error.field.as_deref(), field, "{body}");
            assert!(error.message.contains(reason), "{body}: {}", error.message);
        }
        let many = format!("[{}]", vec![r#"{"field":"a","value":1}"#; limits::SUBMISSION + 1].join(","));
        assert_eq!(parse(many.as_bytes(), NOW).unwrap_err().code, ErrorCode::TooLarge);
    }

    #[test]
    fn long_text_is_cut_with_a_mark() {
        let text = "é".repeat(limits::OUTPUT);
        let cut = clean(&text);
        assert!(cut.len() <= limits::OUTPUT && cut.ends_with("…[cut]"), "{}", cut.len());
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _either = parse(&body, NOW);
        }

        #[test]
        fn no_object_panics_and_what_is_accepted_fits(
            field in "\\PC{0,70}", value in any::<String>(), at in "[0-9TZ:+.-]{0,30}|\\PC{0,30}",
        ) {
            let body = serde_json::json!({"field": field, "value": value, "at": at}).to_string();
            if let Ok(readings) = parse(body.as_bytes(), NOW) {
                let encoded = serde_json::to_vec(&readings[0].value).unwrap();
                prop_assert!(encoded.len() < limits::RESULT / 2 + 1024);
            }
        }
    }
}
