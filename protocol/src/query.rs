//! Questions about what was measured and what is wrong.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use crate::{AgentId, CheckName, CheckResult, Status, alert::Alert};

/// Request on `dogwatch.v1.query.results`, answered by ingest with a [`ResultPage`], oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckName>,
    /// Results from this time on, in milliseconds since 1970.
    #[serde(default)]
    pub since_ms: u64,
    /// Results before this time; absent: all newer ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// At most this many, 1 to [`crate::limits::PAGE`]; 0 stands for that limit.
    #[serde(default)]
    pub limit: usize,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Only results of these statuses; none: of all.
    #[serde(default, skip_serializing_if = "Statuses::is_empty")]
    pub status: Statuses,
    /// Only results whose output holds this text, whatever its case. At most 1,000 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Only results whose output this regular expression fits. At most 1,000 bytes; not beside `contains`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
}

/// Statuses, as one text with commas between them: a URL has no lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Statuses(pub Vec<Status>);

impl Statuses {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<String> for Statuses {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let status = |word: &str| {
            let known = [Status::Ok, Status::Unknown, Status::Warning, Status::Critical];
            known.into_iter().find(|status| status.as_str() == word)
        };
        let statuses: Option<Vec<Status>> = words.map(status).collect();
        statuses.map(Self).ok_or("a status is ok, warning, critical or unknown")
    }
}

impl From<Statuses> for String {
    fn from(Statuses(statuses): Statuses) -> Self {
        statuses.into_iter().map(Status::as_str).collect::<Vec<_>>().join(",")
    }
}

/// Request on `dogwatch.v1.query.latest`, answered by ingest with a [`ResultPage`]: the latest result of each check of
/// each host, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckName>,
    /// Only checks whose latest result has one of these statuses; none: all.
    #[serde(default, skip_serializing_if = "Statuses::is_empty")]
    pub status: Statuses,
    /// Only checks that were measured since, in milliseconds since 1970: others may be gone.
    #[serde(default)]
    pub since_ms: u64,
    /// At most this many, 1 to [`crate::limits::PAGE`]; 0 stands for that limit.
    #[serde(default)]
    pub limit: usize,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ResultPage {
    pub results: Vec<CheckResult>,
    /// Where the next page begins; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Request on `dogwatch.v1.query.alerts`, answered by the alerter with an [`AlertList`], newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// With those that are resolved; the last 1,000 are kept.
    #[serde(default)]
    pub resolved: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AlertList {
    pub alerts: Vec<Alert>,
}

/// Request on `dogwatch.v1.query.loss`, answered by ingest with a [`LossList`]: G1's account of every agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<AgentId>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossList {
    /// By agent, of each the newest epoch first.
    pub agents: Vec<Loss>,
    /// There are more: ask again with it as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<AgentId>,
}

/// What became of one agent's results of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub agent: AgentId,
    /// 0: results that no agent numbered; only rejections are counted of these.
    pub epoch: u64,
    /// Highest sequence number seen.
    pub highest: u64,
    pub stored: u64,
    /// Repeats that were dropped.
    pub duplicates: u64,
    /// Below `highest` and not here: under way, or lost.
    pub missing: u64,
    /// Reported as gone by the agent itself.
    pub lost: u64,
    /// Stored, rejected, missing and lost: each number once. Beyond `highest` where epochs that are forgotten count as well.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub expected: u64,
    /// Of the stored ones, those that came after a higher number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late: u64,
    /// Kept in stream REJECTED instead of being stored, by reason: `invalid`, `ahead`, `late`, `series`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, u64>,
    /// When the last one was stored, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stored_ms: u64,
    /// The last gaps in the numbers, oldest first, filled ones too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Gaps before these, whose ranges are not kept. Their numbers are in the counts above.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gaps_forgotten: u64,
}

/// Numbers that had not come when a higher one did. What is not `filled`, `rejected` or `missing` is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub first: u64,
    pub last: u64,
    /// When it was seen, in milliseconds since 1970.
    pub seen_ms: u64,
    /// Stored after all.
    pub filled: u64,
    /// When the last of them was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filled_ms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rejected: u64,
    /// They may still come.
    pub missing: u64,
    pub lost: u64,
    /// When the agent first said that it no longer has some of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gone_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Request on `dogwatch.v1.query.clocks`, answered by ingest with a [`ClockList`]: whose clock is how wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockQuery {
    /// Empty: all, page by page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentId>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<AgentId>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockList {
    /// By agent. Hosts that sent nothing since ingest started are not in it.
    pub clocks: Vec<HostClock>,
    /// There are more: ask again with it as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<AgentId>,
}

/// A host's clock against the broker's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostClock {
    pub agent: AgentId,
    /// How far it is ahead, in milliseconds; below 0: behind.
    pub ahead_ms: i64,
    /// When it was last measured, in milliseconds since 1970 by the broker's clock.
    pub measured_ms: u64,
    /// Whether that is more than ingest's limit.
    pub wrong: bool,
}

/// Request on `dogwatch.v1.query.prometheus`, answered by ingest with a [`PrometheusAnswer`]: one request of Prometheus'
/// HTTP API, as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrometheusQuery {
    /// What stands behind `/api/v1/`, such as `query_range` or `label/agent/values`.
    pub endpoint: String,
    /// Of the URL and of the form, in order.
    #[serde(default)]
    pub parameters: Vec<(String, String)>,
    /// Name under which the question can be taken back; at most 64 bytes. Nobody else should guess it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Published on `dogwatch.v1.query.cancel`: nobody waits for the answer any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryCancel {
    /// Of a [`PrometheusQuery`].
    pub id: String,
}

/// The answer to hand on as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PrometheusAnswer {
    /// HTTP status.
    pub status: u16,
    pub body: Box<serde_json::value::RawValue>,
}

impl PrometheusAnswer {
    const BEGIN: &str = r#"{"ok":{"status":"#;
    const MIDDLE: &str = r#","body":"#;

    /// The good reply that holds this answer. `body` is JSON: an answer may be megabytes, and is not parsed to be sent.
    #[must_use]
    pub fn reply(status: u16, body: &str) -> Vec<u8> {
        [Self::BEGIN, &status.to_string(), Self::MIDDLE, body, "}}"].concat().into_bytes()
    }

    /// Status and place of the body in what [`Self::reply`] wrote; `None` for what must be decoded.
    #[must_use]
    pub fn parts(reply: &[u8]) -> Option<(u16, Range<usize>)> {
        let rest = reply.strip_prefix(Self::BEGIN.as_bytes())?;
        let (status, rest) = rest.split_first_chunk::<3>()?;
        let status = std::str::from_utf8(status).ok()?.parse().ok()?;
        let body = rest.strip_prefix(Self::MIDDLE.as_bytes())?.strip_suffix(b"}}")?;
        let end = reply.len() - 2;
        Some((status, end - body.len()..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reply;

    #[test]
    fn an_answer_is_found_without_reading_it() {
        for (status, body) in [(200, r#"{"status":"success","data":[]}"#), (422, r#"{"a":"}}"}"#)] {
            let reply = PrometheusAnswer::reply(status, body);
            let (found, place) = PrometheusAnswer::parts(&reply).unwrap();
            assert_eq!((found, &reply[place]), (status, body.as_bytes()));
            let decoded: Reply<PrometheusAnswer> = serde_json::from_slice(&reply).unwrap();
            let decoded = decoded.into_result().unwrap();
            assert_eq!((decoded.status, decoded.body.get()), (status, body));
        }
        for other in ["", r#"{"ok":{"status":200"#, r#"{"error":{"code":"invalid","message":"}}"}}"#] {
            assert_eq!(PrometheusAnswer::parts(other.as_bytes()), None);
        }
    }

    #[test]
    fn statuses_are_one_text() {
        let read = |text: &str| Statuses::try_from(text.to_owned());
        assert_eq!(read("critical, ok").unwrap().0, [Status::Critical, Status::Ok]);
        assert!(read("").unwrap().is_empty() && read("bad").is_err());
        assert_eq!(String::from(read("warning,unknown").unwrap()), "warning,unknown");
    }
}
