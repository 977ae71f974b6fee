//! Questions about what was measured and what is wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AgentId, CheckName, CheckResult, alert::Alert};

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
}

/// The answer to hand on as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PrometheusAnswer {
    /// HTTP status.
    pub status: u16,
    pub body: Box<serde_json::value::RawValue>,
}
