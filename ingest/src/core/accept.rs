//! Is a message a result, whose, and by what is it known again?

use protocol::{AgentId, CheckResult, DecodeError, limits, subject};
use serde::Deserialize;

/// Longest id against repeats, in bytes.
pub const MAX_ID: usize = 256;

/// What a repeat is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    Numbered {
        epoch: u64,
        seq: u64,
    },
    /// Results that no agent numbered.
    Named(String),
    /// Nothing: it is stored as often as it comes.
    Unknown,
}

/// A result that may be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    pub result: CheckResult,
    pub identity: Identity,
}

/// A message that is not stored, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub why: Why,
    pub reason: String,
    /// Whose it is, if the subject says so.
    pub agent: Option<AgentId>,
    /// Epoch and sequence number, if they can be read: the sequence goes on without it.
    pub number: Option<(u64, u64)>,
}

/// Kinds of reasons, as metrics and audits name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is no result.
    Invalid,
    /// Its time is too far in the future.
    Ahead,
    /// Its time is too long ago.
    Late,
    /// Its agent has too many series.
    Series,
}

impl Why {
    /// In the order of [`Self::index`], which is written down: append only.
    pub const ALL: [Self; 4] = [Self::Invalid, Self::Ahead, Self::Late, Self::Series];

    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Ahead => "ahead",
            Self::Late => "late",
            Self::Series => "series",
        }
    }
}

impl Accepted {
    /// Refuse it after all.
    #[must_use]
    pub fn refused(self, why: Why, reason: String) -> Refused {
        let number = match self.identity {
            Identity::Numbered { epoch, seq } => Some((epoch, seq)),
            Identity::Named(_) | Identity::Unknown => None,
        };
        Refused { why, reason, agent: Some(self.result.agent), number }
    }
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("version {0} is not known here, only {known}", known = protocol::VERSION)]
    Version(u8),
    #[error("the body is of {body}, the subject is {subject}")]
    NotItsOwn { body: String, subject: String },
    #[error("{0} is no sequence number: they end at {end}", end = limits::SEQUENCE)]
    Sequence(u64),
    #[error("{what} has {size} {unit}, more than the {limit} allowed")]
    TooLong { what: &'static str, size: usize, unit: &'static str, limit: usize },
}

/// # Errors
/// [`Refused`] when the message is not a result of the agent and check that its subject names.
pub fn accept(subject: &str, message_id: Option<&str>, body: &[u8]) -> Result<Accepted, Refused> {
    check(subject, message_id, body).map_err(|reason| {
        let agent = subject::result_parts(subject).map(|(agent, _)| agent);
        let number = agent.as_ref().and_then(|_| number(body));
        Refused { why: Why::Invalid, reason: reason.to_string(), agent, number }
    })
}

fn check(subject: &str, message_id: Option<&str>, body: &[u8]) -> Result<Accepted, Reason> {
    let result: CheckResult = protocol::decode(body, limits::RESULT)?;
    if result.v != protocol::VERSION {
        return Err(Reason::Version(result.v));
    }
    let mut tokens = subject.rsplit('.');
    if tokens.next() != Some(result.check.as_str()) || tokens.next() != Some(result.agent.as_str()) {
        let (body, subject) = (format!("{}.{}", result.agent, result.check), subject.to_owned());
        return Err(Reason::NotItsOwn { body, subject });
    }
    within("output", result.output.len(), "bytes", limits::OUTPUT)?;
    within("metrics", result.metrics.len(), "entries", limits::METRICS)?;
    if result.seq > limits::SEQUENCE {
        return Err(Reason::Sequence(result.seq));
    }
    let identity = if result.seq > 0 {
        Identity::Numbered { epoch: result.epoch, seq: result.seq }
    } else {
        // A submission's id; the broker's stands in for it.
        let id =
            result.id.as_ref().map(|id| format!("i{id}")).or_else(|| message_id.map(|id| format!("m{id}")));
        match id {
            Some(id) => {
                within("id", id.len(), "bytes", MAX_ID + 1)?;
                Identity::Named(id)
            }
            None => Identity::Unknown,
        }
    };
    Ok(Accepted { result, identity })
}

fn within(what: &'static str, size: usize, unit: &'static str, limit: usize) -> Result<(), Reason> {
    if size <= limit { Ok(()) } else { Err(Reason::TooLong { what, size, unit, limit }) }
}

fn number(body: &[u8]) -> Option<(u64, u64)> {
    #[derive(Deserialize)]
    struct Place {
        #[serde(default)]
        epoch: u64,
        seq: u64,
    }
    let place: Place = protocol::decode(body, limits::MESSAGE).ok()?;
    (1..=limits::SEQUENCE).contains(&place.seq).then_some((place.epoch, place.seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "dogwatch.v1.result.web-01.disk";

    fn body(change: &str) -> String {
        format!(
            r#"{{"v":1,"agent":"web-01","check":"disk","epoch":5,"seq":7,"at_ms":9,"status":"ok"{change}}}"#
        )
    }

    #[test]
    fn a_result_is_accepted_with_its_identity() {
        let accepted = accept(SUBJECT, Some("web-01:5:7"), body("").as_bytes()).unwrap();
        assert_eq!(accepted.identity, Identity::Numbered { epoch: 5, seq: 7 });
        let result = accepted.result;
        assert_eq!((result.agent.as_str(), result.check.as_str(), result.at_ms), ("web-01", "disk", 9));
        let unnumbered = |change: &str, header| {
            let body = body(change).replace("\"seq\":7", "\"seq\":0");
            accept(SUBJECT, header, body.as_bytes()).unwrap().identity
        };
        assert_eq!(unnumbered(r#","id":"x""#, Some("h")), Identity::Named("ix".into()));
        assert_eq!(unnumbered("", Some("h")), Identity::Named("mh".into()));
        assert_eq!(unnumbered("", None), Identity::Unknown);
    }

    #[test]
    fn what_is_no_result_is_refused_with_the_reason_and_its_place() {
        let long = |n| "x".repeat(n);
        let metrics = vec![r#"{"name":"a","value":1}"#; 1001].join(",");
        let cases = [
            (SUBJECT, body("").replace("\"v\":1", "\"v\":2"), "version 2 is not known here, only 1", true),
            (SUBJECT, body("").replace("web-01", "web-02"), "the body is of web-02.disk", true),
            (
                SUBJECT,
                body("").replace("\"disk\"", "\"mem\""),
                "the subject is dogwatch.v1.result.web-01.disk",
                true,
            ),
            (SUBJECT, body(r#","value":1e999"#), "not a valid CheckResult: number out of range", true),
            (SUBJECT, body(r#","metrics":[{"name":"a","value":null}]"#), "invalid type: null", true),
            (SUBJECT, body(&format!(r#","output":"{}""#, long(65537))), "output has 65537 bytes", true),
            (SUBJECT, body(&format!(r#","metrics":[{metrics}]"#)), "metrics has 1001 entries", true),
            (SUBJECT, body(&format!(r#","unit":"{}""#, long(262_144))), "the message has 26", true),
            (
                SUBJECT,
                body("").replace("\"seq\":7", "\"seq\":18446744073709551615"),
                "18446744073709551615 is no sequence number",
                false,
            ),
            (SUBJECT, "{".into(), "not a valid CheckResult: EOF", false),
            (SUBJECT, format!("{{\"x\":{}", "[".repeat(200_000)), "EOF while parsing a list", false),
            (SUBJECT, String::new(), "EOF", false),
            ("dogwatch.v1.result.web-01", body(""), "the subject is dogwatch.v1.result.web-01", false),
        ];
        for (subject, body, reason, has_place) in cases {
            let refused = accept(subject, None, body.as_bytes()).unwrap_err();
            assert!(refused.reason.contains(reason), "{}", refused.reason);
            assert_eq!(refused.number, has_place.then_some((5, 7)), "{}", refused.reason);
            assert_eq!(refused.agent, (subject == SUBJECT).then(|| AgentId::new("web-01").unwrap()));
        }
    }

    #[test]
    fn extreme_numbers_are_data() {
        for value in ["1e308", "-0.0", "18446744073709551615", "-9223372036854775808", "5e-324"] {
            let body = body(&format!(r#","value":{value},"metrics":[{{"name":"m","value":{value}}}]"#));
            assert!(accept(SUBJECT, None, body.as_bytes()).is_ok(), "{value}");
        }
    }
}
