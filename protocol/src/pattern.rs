//! The regular expressions of checks, with the same bounds wherever one stands: in `output: text`, and in the options of
//! built-in checks.

use regex_lite::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
pub const LENGTH: usize = 1_024;
/// Largest compiled pattern, in bytes. The time of a search grows with this and with the text.
const COMPILED: usize = 256 * 1024;
/// Deepest nesting of groups.
const NESTING: u32 = 50;

/// A pattern that compiles. Its classes (`\w`, `\d`, `\s`) and `(?i)` know ASCII only; there is no look-around.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a regular expression: {reason}")]
pub struct PatternError {
    reason: String,
}

impl Pattern {
    /// # Errors
    /// [`PatternError`] when `text` is no regular expression, or too large a one.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let error = |reason: String| PatternError { reason };
        if text.is_empty() || text.len() > LENGTH {
            return Err(error(format!("it is empty or longer than {LENGTH} bytes")));
        }
        let built = RegexBuilder::new(text).size_limit(COMPILED).nest_limit(NESTING).build();
        built.map(Self).map_err(|reason| error(reason.to_string()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The first group that took part in the first match, or the whole match where the pattern has no group.
    #[must_use]
    pub fn find<'a>(&self, text: &'a str) -> Option<&'a str> {
        let found = self.0.captures(text)?;
        let groups = found.len();
        let group = (1..groups).find_map(|index| found.get(index));
        if groups > 1 { group.map(|group| group.as_str()) } else { Some(found.get(0)?.as_str()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_group_or_the_whole_match_is_found() {
        for (pattern, text, found) in [
            (r"\d+", "a 12 b 13", Some("12")),
            (r"used (\d+) of (\d+)", "used 5 of 9", Some("5")),
            (r"load: (\d+)|idle: (\d+)", "idle: 7", Some("7")),
            (r"(?i)STATE=(\w+)", "state=Up", Some("Up")),
            (r"(?m)^b=(.*)$", "a=1\nb=2 3\n", Some("2 3")),
            (r"a(x)?", "a", None),
            (r"x", "", None),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().find(text), found, "{pattern}");
        }
    }

    fn deep(groups: usize) -> String {
        format!("{}a{}", "(".repeat(groups), ")".repeat(groups))
    }

    /// What was taken once is taken for ever: documents hold it.
    #[test]
    fn patterns_up_to_the_limits_compile() {
        for good in ["a{3000}", "[a-f0-9]{1000}", &"a".repeat(LENGTH), &deep(45)] {
            assert!(Pattern::new(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_does_not_compile_or_is_too_large_says_so() {
        for bad in ["(", "a{2", "[", "", r"(?=a)", "(a{1000}){1000}", &"a".repeat(LENGTH + 1), &deep(51)] {
            let error = Pattern::new(bad).expect_err(bad).to_string();
            assert!(error.starts_with("this is not a regular expression: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[a(){}\\[\\]*+?|^$.\\\\dw0-9,-]{0,30}", text in "\\PC{0,40}") {
            if let Ok(pattern) = Pattern::new(&pattern) {
                let _either = pattern.find(&text);
            }
        }
    }
}
