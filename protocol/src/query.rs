//! Questions about what was measured and what is wrong.

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
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossList {
    pub agents: Vec<Loss>,
}

/// What became of one agent's results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub agent: AgentId,
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
