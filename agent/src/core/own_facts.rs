//! Facts that the host's owner gives: what files and programs of the facts folder say, and what of it is taken.

use std::collections::BTreeMap;

use protocol::{Facts, limits};
use serde_json::Value;

/// Longest name and largest value of a fact, in bytes.
const NAME: usize = 64;
const VALUE: usize = 4 * 1024;

/// How a file or an output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object.
    Json,
    /// Lines of `name=value`; all values are texts.
    Lines,
    /// JSON when it begins with `{`, else lines.
    Either,
}

/// The facts in `text`.
///
/// # Errors
/// Why nothing of it is taken.
pub fn read(text: &str, format: Format) -> Result<Facts, String> {
    let json = format == Format::Json || format == Format::Either && text.trim_start().starts_with('{');
    let facts = if json { from_json(text)? } else { from_lines(text)? };
    for (name, value) in &facts {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.chars().all(plain) || name.len() > NAME {
            let shown: String = name.chars().take(NAME).collect();
            return Err(format!("{shown:?} is no name of a fact: use letters, digits and _, at most {NAME}"));
        }
        let length = value.as_str().map_or_else(|| value.to_string().len(), str::len);
        if length > VALUE {
            return Err(format!("{name} has {length} bytes, of {VALUE} allowed"));
        }
    }
    Ok(facts)
}

fn from_json(text: &str) -> Result<Facts, String> {
    let facts: Facts = serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    Ok(facts.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

fn from_lines(text: &str) -> Result<Facts, String> {
    let mut facts = Facts::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {} is not name=value", index + 1));
        };
        facts.insert(name.trim().to_owned(), Value::String(super::facts::unquote(value)));
    }
    Ok(facts)
}

/// Detected facts, over which the own ones win, by the order of their sources; and what was not taken, and why.
#[must_use]
pub fn merge(detected: Facts, own: &BTreeMap<String, Result<Facts, String>>) -> (Facts, Vec<String>) {
    let (mut facts, mut problems) = (detected, Vec::new());
    for (source, given) in own {
        match given {
            Err(reason) => problems.push(format!("{source}: {reason}")),
            Ok(given) => {
                let new = given.keys().filter(|name| !facts.contains_key(*name)).count();
                if facts.len() + new > limits::FACTS {
                    problems.push(format!(
                        "{source}: more than {} facts: none of its own are taken",
                        limits::FACTS
                    ));
                    continue;
                }
                facts.extend(given.clone());
            }
        }
    }
    (facts, problems)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn facts_are_objects_or_lines() {
        let lines = "# where\nrack = b7\nowner=\"the web team\"\n\nempty=\n";
        let read_lines = read(lines, Format::Lines).unwrap();
        assert_eq!(json!(read_lines), json!({"rack": "b7", "owner": "the web team", "empty": ""}));
        let object = " {\"rack\": 7, \"tags\": [\"a\"], \"none\": null}";
        for format in [Format::Json, Format::Either] {
            assert_eq!(json!(read(object, format).unwrap()), json!({"rack": 7, "tags": ["a"]}));
        }
        assert_eq!(json!(read("a=1", Format::Either).unwrap()), json!({"a": "1"}));
        assert_eq!(read("", Format::Either), Ok(Facts::new()));
        for (text, format, expected) in [
            ("{", Format::Json, "not a JSON object: EOF"),
            ("[1]", Format::Json, "not a JSON object"),
            ("rack", Format::Lines, "line 1 is not name=value"),
            ("a b=1", Format::Lines, "\"a b\" is no name of a fact"),
            ("=1", Format::Lines, "\"\" is no name of a fact"),
            ("{\"7a\": 1}", Format::Either, "\"7a\" is no name"),
        ] {
            let error = read(text, format).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(read(&format!("a={}", "x".repeat(5_000)), Format::Lines).unwrap_err().contains("5000 bytes"));
    }

    #[test]
    fn g10_own_facts_win_and_are_bounded() {
        let many: Facts = (0..limits::FACTS).map(|n| (format!("f{n}"), json!(n))).collect();
        let detected = Facts::from([("os".to_owned(), json!("linux")), ("cpus".to_owned(), json!(2))]);
        let own = BTreeMap::from([
            ("1.json".to_owned(), Ok(Facts::from([("cpus".to_owned(), json!(4))]))),
            ("2.txt".to_owned(), Err("line 1 is not name=value".to_owned())),
            ("3.json".to_owned(), Ok(many)),
        ]);
        let (facts, problems) = merge(detected, &own);
        assert_eq!(json!(facts), json!({"os": "linux", "cpus": 4}));
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("2.txt: line 1") && problems[1].starts_with("3.json: more than 256"));
    }
}
