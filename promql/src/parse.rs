//! From text to a tree, within bounds that keep hostile text from costing memory or stack.

use promql_parser::{
    label::{MatchOp, Matchers},
    parser::{self, Expr, VectorSelector},
};

use crate::{Error, NAME};

/// Longest text of one query, in bytes.
const LONGEST: usize = 16 * 1024;
/// Most operators and brackets in one query: parsing and evaluating recurse once for each, at worst.
const MOST_PARTS: usize = 250;
/// Most regular expressions in one query: each may cost some milliseconds to prepare.
const MOST_REGEXES: usize = 32;

/// One condition on a label. A label that a series does not have is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher(promql_parser::label::Matcher);

impl Matcher {
    /// `name="value"`
    #[must_use]
    pub fn equal(name: &str, value: &str) -> Self {
        Self(promql_parser::label::Matcher::new(MatchOp::Equal, name, value))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The one value that fits, where there is only one.
    #[must_use]
    pub fn only_value(&self) -> Option<&str> {
        matches!(self.0.op, MatchOp::Equal).then_some(self.0.value.as_str())
    }

    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.0.is_match(value)
    }
}

/// A query that was understood.
#[derive(Debug, Clone)]
pub struct Expression(pub(crate) Expr);

/// # Errors
/// [`Error::BadData`] with what is wrong.
pub fn parse(text: &str) -> Result<Expression, Error> {
    check_size(text)?;
    // The parser panics on some numbers, such as a range of 1e300 seconds.
    let parsed = std::panic::catch_unwind(|| parser::parse(text));
    match parsed {
        Ok(Ok(expr)) => Ok(Expression(expr)),
        Ok(Err(reason)) => Err(Error::bad(format!("invalid parameter \"query\": {reason}"))),
        Err(_) => Err(Error::bad("invalid parameter \"query\": a number in it is out of range")),
    }
}

/// The conditions of one selector, such as `dogwatch_status{agent=~"web-.*"}`.
///
/// # Errors
/// [`Error::BadData`].
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, Error> {
    match parse(text)?.0 {
        Expr::VectorSelector(selector) => matchers(&selector),
        _ => Err(Error::bad(format!("{text:?} is no series selector"))),
    }
}

pub(crate) fn matchers(selector: &VectorSelector) -> Result<Vec<Matcher>, Error> {
    let Matchers { matchers, or_matchers } = &selector.matchers;
    if !or_matchers.is_empty() {
        return Err(Error::unsupported("\"or\" between matchers of one selector"));
    }
    let name = selector.name.iter().map(|name| Matcher::equal(NAME, name));
    Ok(name.chain(matchers.iter().cloned().map(Matcher)).collect())
}

fn check_size(text: &str) -> Result<(), Error> {
    if text.len() > LONGEST {
        return Err(Error::bad(format!("the query is longer than {LONGEST} bytes")));
    }
    let shape = Shape::of(text);
    if shape.parts > MOST_PARTS {
        return Err(Error::bad(format!("the query has more than {MOST_PARTS} operators and brackets")));
    }
    if shape.regexes > MOST_REGEXES {
        return Err(Error::bad(format!("the query has more than {MOST_REGEXES} regular expressions")));
    }
    Ok(())
}

#[derive(Default)]
struct Shape {
    parts: usize,
    regexes: usize,
}

impl Shape {
    /// Counted outside of quotes and comments.
    fn of(text: &str) -> Self {
        let mut shape = Self::default();
        let mut word = String::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            if char.is_alphanumeric() || char == '_' || char == ':' {
                word.push(char.to_ascii_lowercase());
                continue;
            }
            shape.end_word(&mut word);
            match char {
                '"' | '\'' => {
                    while let Some(inner) = chars.next()
                        && inner != char
                    {
                        if inner == '\\' {
                            chars.next();
                        }
                    }
                }
                '`' => while chars.next().is_some_and(|inner| inner != '`') {},
                '#' => while chars.next().is_some_and(|inner| inner != '\n') {},
                '~' => shape.regexes += 1,
                '(' | '[' | '{' | '+' | '-' | '*' | '/' | '%' | '^' | '<' | '>' | '@' => shape.parts += 1,
                _ => {}
            }
            if matches!(char, '=' | '!') {
                shape.parts += 1;
            }
        }
        shape.end_word(&mut word);
        shape
    }

    fn end_word(&mut self, word: &mut String) {
        if matches!(word.as_str(), "and" | "or" | "unless" | "atan2" | "offset") {
            self.parts += 1;
        }
        word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_refused() {
        let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
        let long_chain = format!("1{}", "+1".repeat(3000));
        let minus = format!("{}1", "-".repeat(9000));
        let or = format!("a{}", " or a".repeat(2000));
        let regexes = format!("a{{{}}}", r#"b=~"(\\w{50}){50}","#.repeat(100));
        for text in [
            &deep,
            &long_chain,
            &minus,
            &or,
            &regexes,
            "",
            " ",
            "a[1e300]",
            "a[-1]",
            "a offset 1e300",
            "{}",
            "a{b=~\"(\"}",
            "a{b=~\"((a{1000}){1000}){1000}\"}",
            "a{",
            "sum(",
            "rate(a)",
            "rate(a[5m]",
            "\u{0}",
            "nosuch(a)",
            "a[5m:1e300]",
            &"a".repeat(20_000),
        ] {
            let shown: String = text.chars().take(60).collect();
            assert!(matches!(parse(text), Err(Error::BadData(_))), "{shown}");
        }
    }

    #[test]
    fn as_deep_as_may_be_is_understood() {
        let deep = format!("{}1{}", "(".repeat(MOST_PARTS), ")".repeat(MOST_PARTS));
        assert!(parse(&deep).is_ok());
        assert!(parse(&format!("1{}", " + 1".repeat(MOST_PARTS))).is_ok());
        assert!(parse(&format!("{}1", "-".repeat(MOST_PARTS))).is_ok());
    }

    #[test]
    fn brackets_in_quotes_and_comments_do_not_count() {
        let text = format!("a{{b=\"{}\\\"(\"}} # {}", "(".repeat(400), "(".repeat(400));
        assert!(parse(&text).is_ok());
    }
}
