//! YAML as a tree whose every node knows where it stands, so that all mistakes of a file can be named at once.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, Options, Spanned};

use crate::set::{DOCUMENTS, FEWER};

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As text: whoever wants a number reads it.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Node,
}

impl Value {
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// All documents of a file; empty ones are left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Node>, (Place, String)> {
    let options = serde_saphyr::options! {
        // One that is empty may stand at the end. Aliases are for convenience: far below what a bomb needs.
        budget: serde_saphyr::budget! { max_documents: DOCUMENTS + 1, max_depth: 32, flow_nesting_limit: 32 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        // `yes` and `on` are texts.
        strict_booleans: true,
        with_snippet: false,
    };
    read(text, options)
}

fn read(text: &str, options: Options) -> Result<Vec<Node>, (Place, String)> {
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let start = Place { line: 1, column: 1 };
        let place = error.location().map_or(start, Place::from);
        (place, message(&error))
    })
}

fn message(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::{Error, budget::BudgetBreach};
    match error.without_snippet() {
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            format!("there are more than the {DOCUMENTS} documents that a server holds: {FEWER}")
        }
        Error::Budget { .. } => format!("this is too much for one file ({}): split it", words(error)),
        _ => format!("this is not YAML: {}", words(error)),
    }
}

/// The error's own words on one line, without the place, which stands in front of them anyway.
fn words(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    // It also names settings of the library, which are not the operator's.
    let cuts = [" at line ", " (line ", ", set "].into_iter().filter_map(|end| line.find(end));
    let line = line.get(..cuts.min().unwrap_or(line.len())).unwrap_or(line);
    line.trim_start_matches("error: ").chars().take(200).collect()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: spanned.referenced.into(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value()?;
            map.push(Entry { key: key.value, place: key.referenced.into(), value });
        }
        Ok(Value::Map(map))
    }
}
