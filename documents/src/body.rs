//! Bodies of webhooks by template: MiniJinja with conditions, loops and a few filters, and with limits on time and size.
//!
//! MiniJinja counts steps, not memory, and a text that is doubled forty times is a terabyte. So nothing here makes long
//! texts of short ones: no variables, no macros, no operators that join or repeat. A template writes its pieces one after
//! the other.

use std::io;

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, filters, tests as checks, value::Serde};
use serde::Serialize;

/// Longest template, in bytes.
const SOURCE: usize = 64 * 1024;
/// What may stand behind `{%`.
const TAGS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];
/// Steps that a template may take: some tens of milliseconds.
const FUEL: u64 = 100_000;
/// Largest body, in bytes.
pub const BODY: usize = 256 * 1024;
const NAME: &str = "body";

/// Why a template does not compile or gives no body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a template is at most {SOURCE} bytes")]
    Long,
    #[error("line {line}: {reason}")]
    Wrong { line: usize, reason: String },
    #[error(
        "line {line}: a template has no {what}; it has if, for and {{{{ … }}}}, and writes pieces one after the other"
    )]
    Forbidden { line: usize, what: String },
    #[error("the template does not end, or takes too long: it gets {FUEL} steps")]
    Endless,
    #[error("the template gives more than {BODY} bytes")]
    Large,
}

/// A compiled template.
#[derive(Debug)]
pub struct BodyTemplate(Environment<'static>);

impl BodyTemplate {
    /// # Errors
    /// [`TemplateError`] with the line.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        if source.len() > SOURCE {
            return Err(TemplateError::Long);
        }
        only_what_is_allowed(source)?;
        let mut environment = Environment::empty();
        environment.add_filter("upper", filters::upper);
        environment.add_filter("lower", filters::lower);
        environment.add_filter("trim", filters::trim);
        environment.add_filter("default", filters::default);
        environment.add_filter("length", filters::length);
        environment.add_filter("round", filters::round);
        environment.add_filter("int", filters::int);
        environment.add_filter("items", filters::items);
        environment.add_filter("tojson", json);
        environment.add_test("defined", checks::is_defined);
        environment.add_test("number", checks::is_number);
        environment.add_test("string", checks::is_string);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(100);
        // A name that is misspelt is an error, not an empty text in front of people.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| wrong(&error))?;
        Ok(Self(environment))
    }

    /// # Errors
    /// [`TemplateError`]: a name that is not there, too long, too large.
    pub fn render(&self, values: &impl Serialize) -> Result<String, TemplateError> {
        let template = self.0.get_template(NAME).map_err(|error| wrong(&error))?;
        let mut body = Limited(Vec::new());
        let written = template.render_captured_to(Value::from(Serde(values)), &mut body);
        match written {
            Ok(_) => Ok(String::from_utf8_lossy(&body.0).into_owned()),
            Err(error) => Err(wrong(&error)),
        }
    }
}

/// As MiniJinja's own, but a value that holds itself many times over ends at the limit.
fn json(value: &Value) -> Result<Value, minijinja::Error> {
    let mut text = Limited(Vec::new());
    serde_json::to_writer(&mut text, value)
        .map_err(|error| minijinja::Error::new(ErrorKind::WriteFailure, error.to_string()))?;
    Ok(Value::from_safe_string(String::from_utf8_lossy(&text.0).into_owned()))
}

/// Tags and operators, told apart from texts as MiniJinja's lexer does.
fn only_what_is_allowed(source: &str) -> Result<(), TemplateError> {
    let mut rest = source;
    let line =
        |rest: &str| source.get(..source.len() - rest.len()).unwrap_or_default().matches('\n').count() + 1;
    let forbidden =
        |rest: &str, what: &str| Err(TemplateError::Forbidden { line: line(rest), what: what.to_owned() });
    while let Some((at, _)) = rest.match_indices('{').find(|(at, _)| {
        rest.get(*at..).is_some_and(|rest| ["{{", "{%", "{#"].iter().any(|begin| rest.starts_with(begin)))
    }) {
        let code = rest.get(at..).unwrap_or_default();
        if code.starts_with("{#") {
            let Some((_, after)) = code.split_once("#}") else { return Ok(()) };
            rest = after;
            continue;
        }
        let mut inside = code.get(2..).unwrap_or_default();
        if code.starts_with("{%") {
            let tag = inside.trim_start_matches(['-', '+']).trim_start();
            let end = tag.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tag.len());
            let tag: String = tag.chars().take(end.min(32)).collect();
            if !TAGS.contains(&tag.as_str()) {
                return forbidden(inside, &format!("{tag:?}"));
            }
        }
        let mut quote = None;
        let mut escaped = false;
        let end = loop {
            let Some(c) = inside.chars().next() else { return Ok(()) };
            let after = inside.get(c.len_utf8()..).unwrap_or_default();
            match (quote, c) {
                (Some(_), _) if escaped => escaped = false,
                (Some(_), '\\') => escaped = true,
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, '~' | '*' | '+' | '{') => return forbidden(inside, &format!("{c:?}")),
                (None, '%' | '}') if after.starts_with('}') => break after.get(1..).unwrap_or_default(),
                (None, _) => {}
            }
            inside = after;
        };
        rest = end;
    }
    Ok(())
}

fn wrong(error: &minijinja::Error) -> TemplateError {
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::Endless,
        ErrorKind::WriteFailure => TemplateError::Large,
        kind => TemplateError::Wrong {
            line: error.line().unwrap_or(1),
            reason: error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
        },
    }
}

/// Refuses what is too much.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > BODY {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(source: &str) -> Result<String, TemplateError> {
        BodyTemplate::compile(source)?
            .render(&json!({"alert": {"id": "x", "summary": "a \"b\"", "tags": [1, 2]}}))
    }

    #[test]
    fn a_template_gives_a_body() {
        assert_eq!(
            rendered("{\"text\": {{ alert.summary|tojson }}}").unwrap(),
            "{\"text\": \"a \\\"b\\\"\"}"
        );
        assert_eq!(rendered("{% for t in alert.tags %}{{ t }};{% endfor %}").unwrap(), "1;2;");
        assert_eq!(rendered("<b>{{ alert.summary }}</b>").unwrap(), "<b>a \"b\"</b>");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let error = rendered("a\n{% if %}").unwrap_err().to_string();
        assert!(error.starts_with("line 2: "), "{error}");
        let error = rendered("a\nb {{ alert.sumary.x }}").unwrap_err().to_string();
        assert!(error.starts_with("line 2: ") && error.contains("undefined"), "{error}");
        for source in ["{% include 'x' %}", "{{ nothing }}", "{% extends '/etc/passwd' %}"] {
            assert!(rendered(source).is_err(), "{source}");
        }
    }

    #[test]
    fn g10_a_template_ends_and_stays_small() {
        let many = format!("[{}]", vec!["1"; 300].join(","));
        let endless = format!(
            "{{% for a in {many} %}}{{% for b in {many} %}}{{% for c in {many} %}}{{% endfor %}}{{% endfor %}}{{% endfor %}}"
        );
        assert_eq!(rendered(&endless).unwrap_err(), TemplateError::Endless);
        let large = format!("{{% for a in {many} %}}{}{{% endfor %}}", "x".repeat(1_000));
        assert_eq!(rendered(&large).unwrap_err(), TemplateError::Large);
        assert_eq!(rendered(&"x".repeat(SOURCE + 1)).unwrap_err(), TemplateError::Long);
    }

    #[test]
    fn g10_nothing_makes_long_texts_of_short_ones() {
        for source in [
            "{% set a = 'x' %}",
            "{%- set a = 'x' %}",
            "{% with a = 'x' %}{% endwith %}",
            "{% macro a() %}{% endmacro %}",
            "{% raw %}{{ ' {% endraw %}{{ 'a' ~ 'b' }}",
            "{{ 'x' ~ alert.id }}",
            "{# {{ ' #}{{ 'a' ~ 'b' }}{# ' }} #}",
            "{{ '\\'' ~ 'b' }}",
            "{{ 'x' * 99999999999 }}",
            "{% for a in ['x' + 'y'] %}{% endfor %}",
            "{{ {'a': {'b': 1}} ~ 'x' }}",
        ] {
            assert!(matches!(rendered(source), Err(TemplateError::Forbidden { .. })), "{source}");
        }
        for source in ["{{ range(99999999999) }}", "{{ alert.id|replace('x', 'yy') }}", "{{ alert.id"] {
            assert!(rendered(source).is_err(), "{source}");
        }
        let nested = (0..60).fold("{{ 1 }}".to_owned(), |inner, n| {
            format!("{{% for a{} in [[a{n}, a{n}]] %}}{inner}{{% endfor %}}", n + 1)
        });
        let doubled =
            format!("{{% for a0 in ['x'] %}}{}{{% endfor %}}", nested.replace("{{ 1 }}", "{{ a0|tojson }}"));
        assert!(rendered(&doubled).is_err() || rendered(&doubled).unwrap().len() < BODY);
        assert_eq!(rendered("{{ '~*+' }} a + b * c ~ {# ~ #}").unwrap(), "~*+ a + b * c ~ ");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_template_or_is_refused(source in "(\\PC|[{}%#'\" ]|\n){0,80}") {
            let _either = rendered(&source);
        }
    }
}
