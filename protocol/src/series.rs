//! Questions about numbers and verdicts over time.

use serde::{Deserialize, Serialize};

use crate::{AgentId, CheckName, Status};

/// Request on `dogwatch.v1.query.series`, answered by ingest with a [`SeriesHistory`]: one number over time, as fine as
/// the range and the number of points allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesQuery {
    pub agent: AgentId,
    pub check: CheckName,
    /// Empty: the result's own value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// First moment, in milliseconds since 1970.
    pub from_ms: u64,
    /// The moment after the last.
    pub until_ms: u64,
    /// At most so many, 1 to 11,000; 0 stands for 500.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub points: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SeriesHistory {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Time that one point stands for, in milliseconds; 0: each is one result.
    pub width_ms: u64,
    /// Oldest first; where nothing was measured there is none.
    pub points: Vec<SeriesPoint>,
}

/// What was measured from `at_ms` on. Numbers are absent where results had none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SeriesPoint {
    pub at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<f64>,
    /// Results by status.
    pub ok: u64,
    pub warning: u64,
    pub critical: u64,
    pub unknown: u64,
}

/// Request on `dogwatch.v1.query.availability`, answered by ingest with an [`AvailabilityList`]: for how long each check
/// was in which status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailabilityQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckName>,
    /// First moment, in milliseconds since 1970.
    pub from_ms: u64,
    /// The moment after the last.
    pub until_ms: u64,
    /// Times that do not count, such as maintenance; at most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Excluded>,
}

/// From the first moment to before the last, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    pub from_ms: u64,
    pub until_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AvailabilityList {
    pub checks: Vec<Availability>,
}

/// One check of one host. A verdict holds until the next result, but for no longer than three times the usual time
/// between results; what is left was not measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    pub agent: AgentId,
    pub check: CheckName,
    /// Share of the measured time that was ok, 0 to 100; absent when nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    pub ok_ms: u64,
    pub warning_ms: u64,
    pub critical_ms: u64,
    pub unknown_ms: u64,
    pub unmeasured_ms: u64,
    pub excluded_ms: u64,
}

/// Request on `dogwatch.v1.query.timeline`, answered by ingest with a [`Timeline`]: in which status a check was, and from
/// when until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineQuery {
    pub agent: AgentId,
    pub check: CheckName,
    /// First moment, in milliseconds since 1970.
    pub from_ms: u64,
    /// The moment after the last.
    pub until_ms: u64,
    /// At most so many runs, 1 to 10,000; 0 stands for 1,000.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limit: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Oldest first, without gaps.
    pub runs: Vec<StatusRun>,
    /// There are more: ask again with it as `from_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
}

/// Equal verdicts, one after the other. A verdict holds until the next result, but for no longer than three times the
/// usual time between results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRun {
    /// Absent: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    pub from_ms: u64,
    pub until_ms: u64,
    /// Results within it.
    pub results: u64,
}

/// Request on `dogwatch.v1.query.top`, answered by ingest with a [`TopList`]: the hosts with the highest numbers of a
/// check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopQuery {
    pub check: CheckName,
    /// Empty: the result's own value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// First moment, in milliseconds since 1970.
    pub from_ms: u64,
    /// The moment after the last.
    pub until_ms: u64,
    #[serde(default)]
    pub by: TopBy,
    /// The lowest instead of the highest.
    #[serde(default)]
    pub lowest: bool,
    /// At most so many hosts, 1 to 1,000; 0 stands for 10.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limit: usize,
}

/// Which number of the range counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopBy {
    #[default]
    Mean,
    Max,
    Min,
    Last,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopList {
    pub hosts: Vec<Top>,
    /// How many hosts have such numbers.
    pub of: u64,
    /// Time that one point stood for that was read, in milliseconds; 0: single results.
    pub width_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Top {
    pub agent: AgentId,
    pub value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}
