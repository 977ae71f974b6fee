//! Options of built-in checks, as a check's `with` gives them and `check NAME --help` shows them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

/// Most items of a list.
const ITEMS: usize = 256;

/// Documents one option.
#[derive(Debug)]
pub struct Opt {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written; `None`: it may be left out.
    pub default: Option<&'static str>,
    pub required: bool,
    pub about: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A list of texts; a single text is a list of one.
    Texts,
    Number,
    Duration,
    /// Bytes.
    Size,
    Flag,
}

impl Kind {
    /// For people: what stands for the value in help.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Texts => "TEXT,…",
            Self::Number => "NUMBER",
            Self::Duration => "DURATION",
            Self::Size => "SIZE",
            Self::Flag => "true|false",
        }
    }

    fn read(self, value: &Value) -> Result<Given, String> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Array(items) if self == Self::Texts && items.len() <= ITEMS => {
                let items = items.iter().map(|item| match item {
                    Value::String(text) => Ok(text.clone()),
                    Value::Number(_) | Value::Bool(_) => Ok(item.to_string()),
                    _ => Err("it is a list of texts".to_owned()),
                });
                return Ok(Given::Texts(items.collect::<Result<_, _>>()?));
            }
            _ => return Err(format!("it is {}", self.hint())),
        };
        match self {
            Self::Text => Ok(Given::Text(text)),
            Self::Texts => Ok(Given::Texts(vec![text])),
            Self::Number => {
                let number = text.parse().ok().filter(|number: &f64| number.is_finite());
                number.map(Given::Number).ok_or_else(|| format!("{text:?} is not a number"))
            }
            Self::Duration => {
                protocol::duration::parse(&text).map(Given::Duration).map_err(|error| error.to_string())
            }
            Self::Size => protocol::size::parse(&text).map(Given::Size).map_err(|error| error.to_string()),
            Self::Flag => {
                text.parse().map(Given::Flag).map_err(|_| format!("{text:?} is neither true nor false"))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Given {
    Text(String),
    Texts(Vec<String>),
    Number(f64),
    Duration(Duration),
    Size(u64),
    Flag(bool),
}

/// The options of one check, each of the kind that the built-in declares, with its defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options(BTreeMap<&'static str, Given>);

impl Options {
    /// # Errors
    /// Names the option that is unknown, missing or of another kind.
    pub fn read(declared: &'static [Opt], with: &BTreeMap<String, Value>) -> Result<Self, String> {
        if let Some(unknown) = with.keys().find(|key| !declared.iter().any(|option| option.name == **key)) {
            let known = declared.iter().map(|option| option.name).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none".to_owned() } else { known };
            let unknown: String = unknown.chars().take(64).collect();
            return Err(format!("it has no option {unknown:?}; its options are: {known}"));
        }
        let mut options = BTreeMap::new();
        for option in declared {
            let default = option.default.map(|text| Value::String(text.to_owned()));
            match with.get(option.name).or(default.as_ref()) {
                Some(value) => {
                    let given = option.kind.read(value);
                    let given = given.map_err(|reason| format!("option {:?}: {reason}", option.name))?;
                    options.insert(option.name, given);
                }
                None if option.required => return Err(format!("it needs the option {:?}", option.name)),
                None => {}
            }
        }
        Ok(Self(options))
    }

    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Given::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Empty when it was left out.
    #[must_use]
    pub fn texts(&self, name: &str) -> &[String] {
        match self.0.get(name) {
            Some(Given::Texts(texts)) => texts,
            _ => &[],
        }
    }

    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.0.get(name)? {
            Given::Number(number) => Some(*number),
            _ => None,
        }
    }

    #[must_use]
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.0.get(name)? {
            Given::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Given::Size(bytes) => Some(*bytes),
            _ => None,
        }
    }

    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Given::Flag(true)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static DECLARED: [Opt; 4] = [
        Opt { name: "path", kind: Kind::Texts, default: None, required: true, about: "" },
        Opt { name: "age", kind: Kind::Duration, default: Some("5m"), required: false, about: "" },
        Opt { name: "most", kind: Kind::Number, default: None, required: false, about: "" },
        Opt { name: "deep", kind: Kind::Flag, default: Some("false"), required: false, about: "" },
    ];

    fn read(with: Value) -> Result<Options, String> {
        let with = with.as_object().unwrap().clone().into_iter().collect();
        Options::read(&DECLARED, &with)
    }

    #[test]
    fn options_have_kinds_and_defaults() {
        let options = read(json!({"path": "/a", "most": "7.5", "deep": true})).unwrap();
        assert_eq!(options.texts("path"), ["/a"]);
        assert_eq!(options.duration("age"), Some(Duration::from_secs(300)));
        assert_eq!(
            (options.number("most"), options.flag("deep"), options.text("path")),
            (Some(7.5), true, None)
        );
        assert_eq!(read(json!({"path": ["/a", 7]})).unwrap().texts("path"), ["/a", "7"]);
    }

    #[test]
    fn wrong_options_are_named() {
        for (with, said) in [
            (json!({}), "needs the option \"path\""),
            (json!({"path": "/a", "pth": 1}), "no option \"pth\"; its options are: path, age"),
            (json!({"path": {"a": 1}}), "option \"path\""),
            (json!({"path": "/a", "age": "often"}), "option \"age\""),
            (json!({"path": "/a", "most": "NaN"}), "option \"most\""),
            (json!({"path": "/a", "deep": "perhaps"}), "option \"deep\""),
        ] {
            let error = read(with).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
