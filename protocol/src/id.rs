//! Names that are safe as one token of a NATS subject: they hold no dot, space, `*` or `>`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: use {rule}")]
pub struct IdError {
    kind: &'static str,
    rule: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $max:literal, $first:expr, $rest:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The rule that a valid text follows, for messages and documentation.
            pub const RULE: &'static str = $rule;

            /// # Errors
            /// [`IdError`] when `text` does not follow [`Self::RULE`].
            pub fn new(text: &str) -> Result<Self, IdError> {
                let (first, rest): (fn(&u8) -> bool, fn(&u8) -> bool) = ($first, $rest);
                let bytes = text.as_bytes();
                let valid = bytes.len() <= $max
                    && bytes.first().is_some_and(first)
                    && bytes.iter().skip(1).all(rest);
                if valid {
                    Ok(Self(text.into()))
                } else {
                    let text = text.chars().take(100).collect();
                    Err(IdError { kind: $kind, rule: $rule, text })
                }
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn lower(b: &u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn alphanumeric(b: &u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn word(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

id!(
    /// An agent, and so its host: `web-01`.
    AgentId, "agent id", "[a-z0-9][a-z0-9_-]{0,62}", 63, lower, |b| lower(b) || matches!(b, b'_' | b'-')
);
id!(
    /// A check, and the `field` of an HTTP submission: `disk_usage`.
    CheckName, "check name", "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", 64, alphanumeric, word
);
id!(
    /// A rule: `disk_will_fill`.
    RuleName, "rule name", "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", 64, alphanumeric, word
);
id!(
    /// A receiver of notifications: `ops`.
    ReceiverName, "receiver name", "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", 64, alphanumeric, word
);
id!(
    /// A group of hosts: `web`.
    GroupName, "group name", "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", 64, alphanumeric, word
);
id!(
    /// A document of variables: `web_defaults`.
    VariablesName, "name of variables", "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", 64, alphanumeric, word
);
id!(
    /// A silence: `maintenance`.
    SilenceName, "silence name", "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", 64, alphanumeric, word
);
id!(
    /// An action: `clean_tmp`.
    ActionName, "action name", "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", 64, alphanumeric, word
);

impl AgentId {
    /// The id that a host gets when nobody chose one: its name in lower case, what does not fit as `-`.
    /// `None` when nothing of the name is left.
    #[must_use]
    pub fn from_hostname(hostname: &str) -> Option<Self> {
        let text: String = hostname
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(63)
            .collect();
        Self::new(text.trim_end_matches('-')).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_ids_are_one_lower_case_subject_token() {
        for good in ["a", "web-01", "0_x", &"a".repeat(63)] {
            assert_eq!(AgentId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "Web", "-a", "_a", "a.b", "a b", "a*", "a>", "ä", "a\n", &"a".repeat(64)] {
            assert!(AgentId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_check_name_may_hold_capitals() {
        assert!(CheckName::new("OS_updates-2").is_ok());
        for bad in ["", "_a", "a.b", "a/b", &"a".repeat(65)] {
            assert!(CheckName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_id_is_checked_when_it_is_read() {
        assert!(serde_json::from_str::<AgentId>("\"web-01\"").is_ok());
        let error = serde_json::from_str::<AgentId>("\"a.b\"").unwrap_err().to_string();
        assert!(error.contains("\"a.b\" is not a valid agent id"), "{error}");
    }

    #[test]
    fn a_host_name_becomes_an_id() {
        let id = |name| AgentId::from_hostname(name).map(String::from);
        assert_eq!(id("Web-01.example.com").as_deref(), Some("web-01-example-com"));
        assert_eq!(id("..x..").as_deref(), Some("x"));
        assert_eq!(id("---"), None);
        assert_eq!(id(""), None);
    }
}
