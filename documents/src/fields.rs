//! Reading the keys of one mapping, collecting every problem instead of stopping at the first.

use std::{str::FromStr, time::Duration};

use protocol::admin::Problem;

use crate::{
    ExpressionError, nearest, template,
    yaml::{Entry, Node, Place, Value},
};

/// Longest line, in bytes, in which numbers are looked up as they are written.
const LINE: usize = 4_096;

/// Problems of one file.
pub(crate) struct Problems<'a> {
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    pub(crate) lines: &'a [&'a str],
    pub(crate) found: &'a mut Vec<Problem>,
}

impl Problems<'_> {
    pub(crate) fn add(&mut self, place: Place, message: impl Into<String>) {
        let Place { line, column } = place;
        self.found.push(Problem { path: self.path.to_owned(), line, column, message: message.into() });
    }

    /// The number at `place`, as it stands in the file: `1.10` is no `1.1` where a text is wanted. `None` behind a tag,
    /// and for an alias; nor in a line too long to count through for each of its numbers.
    fn written(&self, place: Place) -> Option<&str> {
        let index = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
        let line = self.lines.get(index(place.line)).filter(|line| line.len() <= LINE)?;
        let (start, _) = line.char_indices().nth(index(place.column))?;
        let rest = line.get(start..)?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.' | '_'));
        rest.get(..end.unwrap_or(rest.len())).filter(|written| !written.is_empty())
    }

    /// A problem inside a text that begins at `place`. A text that stands in the file as it is gets the exact place.
    pub(crate) fn add_inside(&mut self, place: Place, text: &str, (line, column): (u64, u64), message: &str) {
        match self.inside(place, text, (line, column)) {
            Some(place) => self.add(place, message),
            None => self.add(place, format!("{message} (line {line}, column {column} of the expression)")),
        }
    }

    /// Where a place inside a text is in the file. `None` for a text that does not stand there as it is.
    pub(crate) fn inside(&self, place: Place, text: &str, (line, column): (u64, u64)) -> Option<Place> {
        let exact = (line == 1).then(|| {
            let index = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
            let source = self.text.lines().nth(index(place.line))?;
            let (start, _) = source.char_indices().nth(index(place.column))?;
            let rest = source.get(start..)?;
            let quote = u64::from(rest.starts_with(['\'', '"']));
            let inside = rest.get(usize::try_from(quote).ok()?..)?;
            inside
                .starts_with(text)
                .then_some(Place { line: place.line, column: place.column + quote + column - 1 })
        });
        exact.flatten()
    }
}

/// The keys of one mapping, each read at most once.
pub(crate) struct Fields {
    place: Place,
    /// What the mapping is, for messages: `a Check`.
    what: String,
    entries: Vec<Entry>,
    known: Vec<&'static str>,
}

impl Fields {
    /// `None`, and a problem, when `node` is no mapping.
    pub(crate) fn of(node: Node, what: &str, problems: &mut Problems<'_>) -> Option<Self> {
        match node.value {
            Value::Map(entries) => {
                Some(Self { place: node.place, what: what.to_owned(), entries, known: Vec::new() })
            }
            other => {
                problems.add(
                    node.place,
                    format!("{what} is a mapping such as \"name: …\", not {}", other.describe()),
                );
                None
            }
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn rename(&mut self, what: &str) {
        what.clone_into(&mut self.what);
    }

    /// The value of a key, if it is there. `key:` without a value counts as absent.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        let node = self.entries.swap_remove(index).value;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The value of a key, if it is a text in which variables stand.
    pub(crate) fn take_template(&mut self, key: &'static str) -> Option<(Place, String)> {
        let is_template =
            |node: &Node| matches!(&node.value, Value::Text(text) if template::is_template(text));
        if !self.entries.iter().any(|entry| entry.key == key && is_template(&entry.value)) {
            return None;
        }
        match self.take(key)? {
            Node { place, value: Value::Text(text) } => Some((place, text)),
            _ => None,
        }
    }

    /// Keys that the design has and this version does not. They are not among the keys that an unknown one is held
    /// against.
    pub(crate) fn later(&mut self, keys: &[&str], problems: &mut Problems<'_>) {
        for key in keys {
            if let Some(index) = self.entries.iter().position(|entry| entry.key == *key) {
                let place = self.entries.swap_remove(index).value.place;
                problems.add(place, format!("{key} is not available yet: it comes with a later version"));
            }
        }
    }

    pub(crate) fn required(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Node> {
        let node = self.take(key);
        if node.is_none() {
            problems.add(self.place, format!("{} needs the key {key:?}", self.what));
        }
        node
    }

    /// A text; numbers and truth values count as the text they are written as.
    pub(crate) fn text(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<(Place, String)> {
        text(key, self.take(key)?, problems)
    }

    /// A value read from a text.
    pub(crate) fn required_parsed<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let node = self.required(key, problems)?;
        parse(key, node, problems)
    }

    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<(Place, Duration)> {
        duration(key, self.take(key)?, problems)
    }

    pub(crate) fn list(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<Node> {
        match self.take(key) {
            None => Vec::new(),
            Some(Node { value: Value::List(items), .. }) => items,
            Some(node) => {
                let found = node.value.describe();
                problems.add(node.place, format!("{key:?} is a list such as [a, b], not {found}"));
                Vec::new()
            }
        }
    }

    /// A mapping as fields of its own; `what` names it in messages.
    pub(crate) fn map(&mut self, key: &'static str, what: &str, problems: &mut Problems<'_>) -> Option<Self> {
        Self::of(self.take(key)?, what, problems)
    }

    /// A list of texts.
    pub(crate) fn texts(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<(Place, Vec<String>)> {
        let node = self.take(key)?;
        let place = node.place;
        let Value::List(items) = node.value else {
            problems.add(place, format!("{key:?} is a list such as [a, b], not {}", node.value.describe()));
            return None;
        };
        let texts = items.into_iter().filter_map(|item| Some(text(key, item, problems)?.1)).collect();
        Some((place, texts))
    }

    /// All keys that were not asked for yet.
    pub(crate) fn rest(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Whatever key was not asked for is unknown.
    pub(crate) fn finish(self, problems: &mut Problems<'_>) {
        for entry in &self.entries {
            let hint = nearest::hint(&entry.key, &self.known);
            let (what, known) = (&self.what, self.known.join(", "));
            let key: String = entry.key.chars().take(64).collect();
            problems.add(entry.place, format!("{what} has no key {key:?}{hint}; its keys are {known}"));
        }
    }
}

pub(crate) fn text(key: &str, node: Node, problems: &mut Problems<'_>) -> Option<(Place, String)> {
    match node.value {
        Value::Text(text) => Some((node.place, text)),
        Value::Number(read) => {
            let written = problems.written(node.place);
            Some((node.place, written.map_or(read, ToOwned::to_owned)))
        }
        Value::Bool(value) => Some((node.place, value.to_string())),
        other => {
            problems.add(node.place, format!("{key:?} is a text, not {}", other.describe()));
            None
        }
    }
}

pub(crate) fn parse<T: FromStr<Err: std::fmt::Display>>(
    key: &str,
    node: Node,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let (place, text) = text(key, node, problems)?;
    text.parse().map_err(|error| problems.add(place, format!("{key}: {error}"))).ok()
}

pub(crate) fn duration(key: &str, node: Node, problems: &mut Problems<'_>) -> Option<(Place, Duration)> {
    let (place, text) = text(key, node, problems)?;
    match protocol::duration::parse(&text) {
        Ok(duration) => Some((place, duration)),
        Err(error) => {
            problems.add(place, format!("{key}: {error}"));
            None
        }
    }
}

/// The text of an expression that compiles.
pub(crate) fn compiled<T>(
    key: &'static str,
    node: Node,
    compile: impl FnOnce(&str) -> Result<T, ExpressionError>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let (place, source) = text(key, node, problems)?;
    if let Err(error) = compile(&source) {
        let message = format!("{key}: {error}");
        problems.add_inside(place, &source, (error.line, error.column), &message);
    }
    Some(source)
}
