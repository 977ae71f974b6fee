//! Choosing by name: wildcards, paths with wildcards, and regular expressions.

use protocol::pattern::Pattern;

use super::{Host, NAMES, Options};

/// What an empty option stands for: it fits everything.
const ANYTHING: &str = "(?:)";
/// Most files that a path with wildcards may stand for.
pub(super) const FILES: usize = 10_000;

/// Whether `name` fits `pattern`, in which `*` stands for any text and `?` for one character.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands, and how much of the name it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if wanted == c || *wanted == '?' => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|c| *c == '*'))
}

pub(super) fn any_fits(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| fits(pattern, name))
}

pub(super) fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?'])
}

/// Names that two options choose: those of `only`, or all where it is empty, without those of `exclude`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    only: &'a [String],
    exclude: &'a [String],
}

impl<'a> Choice<'a> {
    pub(super) fn of(options: &'a Options, only: &str) -> Self {
        Self { only: options.texts(only), exclude: options.texts("exclude") }
    }

    pub(super) fn takes(&self, name: &str) -> bool {
        self.takes_one_of(&[name])
    }

    /// For what goes by several names.
    pub(super) fn takes_one_of(&self, names: &[&str]) -> bool {
        let named = |patterns| names.iter().any(|name| any_fits(patterns, name));
        (self.only.is_empty() || named(self.only)) && !named(self.exclude)
    }

    /// Some were asked for by name.
    pub(super) fn names_some(&self) -> bool {
        !self.only.is_empty()
    }
}

/// The regular expression of an option, if it is given.
///
/// # Errors
/// When it is none, or too large.
pub(super) fn regex(options: &Options, name: &str) -> Result<Option<Pattern>, String> {
    let Some(text) = options.text(name) else { return Ok(None) };
    let pattern = Pattern::new(if text.is_empty() { ANYTHING } else { text });
    pattern.map(Some).map_err(|error| format!("the option {name:?}: {error}"))
}

/// The existing paths that `pattern` stands for, with wildcards in any of its parts, sorted; whether there are more than
/// [`FILES`]. A `*` takes no names that begin with a dot.
///
/// # Errors
/// When the pattern is no absolute path.
pub(super) fn paths(host: &dyn Host, pattern: &str) -> Result<(Vec<String>, bool), String> {
    let Some(rest) = pattern.strip_prefix('/') else {
        return Err(format!("{pattern:?} is no absolute path"));
    };
    let mut found = vec![String::new()];
    let mut cut = false;
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for folder in found {
            if is_literal(part) {
                next.push(format!("{folder}/{part}"));
                continue;
            }
            let mut names = host.names(if folder.is_empty() { "/" } else { &folder });
            cut |= names.len() >= NAMES;
            names.retain(|name| fits(part, name) && name.starts_with('.') <= part.starts_with('.'));
            names.sort();
            next.extend(names.into_iter().map(|name| format!("{folder}/{name}")));
            if next.len() > FILES {
                cut = true;
                next.truncate(FILES);
                break;
            }
        }
        found = next;
    }
    found.retain(|path| host.meta(path).is_some());
    Ok((found, cut))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::core::builtin::{Kind, Opt};

    #[test]
    fn wildcards_take_any_text() {
        for (pattern, name, expected) in [
            ("sda", "sda", true),
            ("sda", "sdb", false),
            ("sd?", "sdb", true),
            ("sd?", "sd", false),
            ("nvme*n1", "nvme10n1", true),
            ("nvme*n1", "nvme10n1p1", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbYbZc", true),
            ("*.ä?", "x.äé", true),
            ("/var/*", "/var/lib/x", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_regular_expression_of_an_option_is_bounded() {
        static DECLARED: [Opt; 1] =
            [Opt { name: "match", kind: Kind::Text, default: None, required: false, about: "" }];
        let read = |text: &str| {
            let with = BTreeMap::from([("match".to_owned(), json!(text))]);
            regex(&Options::read(&DECLARED, &with).unwrap(), "match")
        };
        assert!(read("^a+$").unwrap().unwrap().is_match("aaa"));
        assert!(read("").unwrap().unwrap().is_match("anything"));
        let error = read("(").unwrap_err();
        assert!(error.starts_with("the option \"match\": this is not a regular expression"), "{error}");
        assert!(read(&"a".repeat(protocol::pattern::LENGTH + 1)).unwrap_err().contains("longer"));
        assert!(read("((a{100}){100}){100}").is_err());
        assert!(regex(&Options::default(), "match").unwrap().is_none());
    }

    proptest! {
        #[test]
        fn a_name_fits_itself_and_wildcards_end(pattern in "[ab*?]{0,30}", name in "[ab]{0,60}") {
            prop_assert!(fits(&name, &name));
            let regex = pattern.replace('*', ".*").replace('?', ".");
            prop_assert_eq!(fits(&pattern, &name), Pattern::new(&format!("^{regex}$")).unwrap().is_match(&name));
        }
    }
}
