//! `${vars.name}` in the texts of a check.
//!
//! No shell variable holds a dot, so what stands in a command for the shell itself is never touched.

use protocol::Vars;
use serde_json::Value;

const OPEN: &str = "${vars.";

/// Whether `name` can be a variable's: a shell can hold it too.
pub(crate) fn is_name(name: &str) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty()
        && name.len() <= 64
        && name.chars().all(right)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether variables stand in `text`.
pub(crate) fn is_template(text: &str) -> bool {
    text.contains(OPEN)
}

enum Part<'a> {
    Text(&'a str),
    Variable(&'a str),
}

/// # Errors
/// What is wrong with the first `${vars.` that is no variable.
fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(OPEN) {
        let (before, found) = rest.split_at(start);
        let inner = found.strip_prefix(OPEN);
        let Some((name, after)) = inner.and_then(|inner| inner.split_once('}')).filter(|(n, _)| is_name(n))
        else {
            let shown: String = found.chars().take(40).collect();
            return Err(format!(
                "{shown:?} is no variable: write it like ${{vars.name}}, and nothing else inside"
            ));
        };
        parts.extend((!before.is_empty()).then_some(Part::Text(before)));
        parts.push(Part::Variable(name));
        rest = after;
    }
    parts.extend((!rest.is_empty()).then_some(Part::Text(rest)));
    Ok(parts)
}

/// The variables in a text, in order.
///
/// # Errors
/// What is wrong with the first `${vars.` that is no variable.
pub(crate) fn names(text: &str) -> Result<Vec<&str>, String> {
    let names = parts(text)?.into_iter().filter_map(|part| match part {
        Part::Variable(name) => Some(name),
        Part::Text(_) => None,
    });
    Ok(names.collect())
}

fn value<'v>(vars: &'v Vars, name: &str) -> Result<&'v Value, String> {
    vars.get(name).ok_or_else(|| format!("the host has no variable {name:?}"))
}

/// A value as text; a list has none.
fn scalar(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(_) => Err(format!("the variable {name:?} is a list where one text is needed")),
        other => Ok(other.to_string()),
    }
}

/// # Errors
/// A variable that the host does not have, or that is a list.
pub(crate) fn fill(text: &str, vars: &Vars) -> Result<String, String> {
    let mut filled = String::new();
    for part in parts(text)? {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Variable(name) => filled.push_str(&scalar(name, value(vars, name)?)?),
        }
    }
    Ok(filled)
}

/// A word that is one variable and nothing else may become several, or none: a list's.
///
/// # Errors
/// As [`fill`].
pub(crate) fn fill_words(words: &[String], vars: &Vars) -> Result<Vec<String>, String> {
    let mut filled = Vec::new();
    for word in words {
        match whole(word, vars)? {
            Some(Value::Array(items)) => {
                for item in items {
                    filled.push(scalar(word, item)?);
                }
            }
            _ => filled.push(fill(word, vars)?),
        }
    }
    Ok(filled)
}

/// An option: a text that is one variable and nothing else takes its value as it is, number and list too.
///
/// # Errors
/// As [`fill`].
pub(crate) fn fill_option(option: &Value, vars: &Vars) -> Result<Value, String> {
    match option {
        Value::String(text) => match whole(text, vars)? {
            Some(value) => Ok(value.clone()),
            None => fill(text, vars).map(Value::String),
        },
        Value::Array(items) => {
            let mut filled = Vec::new();
            for item in items {
                match fill_option(item, vars)? {
                    Value::Array(inner) => filled.extend(inner),
                    other => filled.push(other),
                }
            }
            Ok(Value::Array(filled))
        }
        other => Ok(other.clone()),
    }
}

/// The value of a text that is one variable and nothing else.
fn whole<'v>(text: &str, vars: &'v Vars) -> Result<Option<&'v Value>, String> {
    match parts(text)?.as_slice() {
        [Part::Variable(name)] => value(vars, name).map(Some),
        _ => Ok(None),
    }
}

/// A command in which each variable is one of the shell's, set in front of it: `vars_name='value'; … ${vars_name}`. So
/// no value is ever read as code, wherever it stands. A list has its items with spaces between them.
///
/// # Errors
/// As [`fill`].
pub(crate) fn fill_command(command: &str, vars: &Vars) -> Result<String, String> {
    let (mut set, mut filled) = (String::new(), String::new());
    let mut known: Vec<&str> = Vec::new();
    for part in parts(command)? {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Variable(name) => {
                filled.extend(["${vars_", name, "}"]);
                if known.contains(&name) {
                    continue;
                }
                known.push(name);
                let text = match value(vars, name)? {
                    Value::Array(items) => {
                        let items: Result<Vec<_>, _> = items.iter().map(|item| scalar(name, item)).collect();
                        items?.join(" ")
                    }
                    other => scalar(name, other)?,
                };
                set.extend(["vars_", name, "='", &text.replace('\'', r"'\''"), "'; "]);
            }
        }
    }
    Ok(set + &filled)
}

/// Whether a variable stands in single quotes, where the shell fills nothing in. What is nested deeper is not looked into.
pub(crate) fn is_quoted(command: &str) -> bool {
    let (mut single, mut double) = (false, false);
    let mut rest = command;
    while let Some(c) = rest.chars().next() {
        if single && rest.starts_with(OPEN) {
            return true;
        }
        let mut length = c.len_utf8();
        match c {
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            '\\' if !single => length += rest.chars().nth(1).map_or(0, char::len_utf8),
            _ => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vars() -> Vars {
        [
            ("n", json!(5)),
            ("t", json!("it's $(id) \"x\"; `id`\n# ")),
            ("l", json!(["/a b", "/c"])),
            ("b", json!(true)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    #[test]
    fn variables_are_found_and_filled() {
        assert_eq!(
            fill("a ${vars.n}${vars.b} $n ${x} ${vars_n} ${vars} ${vars[0]}", &vars()).unwrap(),
            "a 5true $n ${x} ${vars_n} ${vars} ${vars[0]}"
        );
        assert_eq!(names("${vars.n}-${vars.none}").unwrap(), ["n", "none"]);
        for bad in ["${vars.", "${vars.}", "${vars.1}", "${vars.a b}", "${vars.a:-1}"] {
            assert!(names(bad).unwrap_err().contains("is no variable"), "{bad}");
        }
        assert_eq!(fill("${vars.none}", &vars()).unwrap_err(), "the host has no variable \"none\"");
        assert!(fill("x${vars.l}", &vars()).unwrap_err().contains("is a list"));
    }

    #[test]
    fn a_list_becomes_words_and_an_option_keeps_its_type() {
        let words = ["df".to_owned(), "${vars.l}".to_owned(), "-${vars.n}".to_owned()];
        assert_eq!(fill_words(&words, &vars()).unwrap(), ["df", "/a b", "/c", "-5"]);
        assert_eq!(fill_option(&json!("${vars.n}"), &vars()).unwrap(), json!(5));
        assert_eq!(fill_option(&json!(["/x", "${vars.l}"]), &vars()).unwrap(), json!(["/x", "/a b", "/c"]));
        assert_eq!(fill_option(&json!("n${vars.n}"), &vars()).unwrap(), json!("n5"));
    }

    #[test]
    fn g3_no_value_becomes_code_in_a_command() {
        let shell = |command: &str| {
            let output = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let text = vars()["t"].as_str().unwrap().to_owned();
        for command in [
            "printf %s \"${vars.t}\"",
            "x=${vars.t}; printf %s \"$x\"",
            "printf %s \"$(printf %s \"${vars.t}\")#\" | sed 's/#$//'",
            "cat <<END\n${vars.t}\nEND",
        ] {
            let filled = fill_command(command, &vars()).unwrap();
            let printed = shell(&filled);
            assert_eq!(printed.trim_end(), text.trim_end(), "{filled}");
        }
        assert_eq!(shell(&fill_command("echo ${vars.n}$((${vars.n} + 1))", &vars()).unwrap()), "56\n");
        assert_eq!(
            shell(&fill_command("for d in ${vars.l}; do echo $d; done", &vars()).unwrap()),
            "/a\nb\n/c\n"
        );
    }

    #[test]
    fn single_quotes_are_seen() {
        for (command, expected) in [
            ("awk '$1 > ${vars.n}'", true),
            ("awk \"it's ${vars.n}\"", false),
            ("echo it\\'s ${vars.n}", false),
            ("echo 'a' ${vars.n} 'b'", false),
            ("echo \"a\" 'b' \"c\" '${vars.n}'", true),
        ] {
            assert_eq!(is_quoted(command), expected, "{command}");
        }
    }
}
