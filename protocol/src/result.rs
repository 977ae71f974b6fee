//! What one run of one check found: the message on `dogwatch.v1.result.<agent>.<check>`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AgentId, CheckName, Scalar, VERSION};

/// One run of one check. `value` is the number that thresholds and rules look at; `metrics` are all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    pub v: u8,
    pub agent: AgentId,
    pub check: CheckName,
    /// When the agent's sequence began, in milliseconds since 1970: a reinstalled agent starts a new epoch.
    /// 0 for results that no agent numbered.
    #[serde(default)]
    pub epoch: u64,
    /// Place in the agent's sequence, from 1 without gaps; 0 for results that no agent numbered.
    #[serde(default)]
    pub seq: u64,
    /// Start of the run, in milliseconds since 1970, by the host's clock.
    pub at_ms: u64,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Scalar>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Exit code of the command; absent for built-in checks, submissions and commands ended by a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(default)]
    pub duration_ms: u64,
    /// Runs left out since the result before, because the run before was still under way: a check never overlaps itself.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Revision of the configuration under which the check ran; 0 for submissions.
    #[serde(default)]
    pub revision: u64,
    #[serde(default)]
    pub origin: Origin,
    /// Sent again, or late, after an outage: history, not news (G6).
    #[serde(default)]
    pub replayed: bool,
    /// The broker's and ingest's key against repeats, for results without a sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl CheckResult {
    /// A result of the agent itself, with nothing found and not numbered yet.
    #[must_use]
    pub fn new(agent: AgentId, check: CheckName, at_ms: u64, status: Status) -> Self {
        Self {
            v: VERSION,
            agent,
            check,
            epoch: 0,
            seq: 0,
            at_ms,
            status,
            value: None,
            unit: None,
            metrics: Vec::new(),
            output: String::new(),
            exit_code: None,
            signal: None,
            usage: None,
            duration_ms: 0,
            skipped: 0,
            revision: 0,
            origin: Origin::Agent,
            replayed: false,
            id: None,
        }
    }

    /// The `Nats-Msg-Id`: inside the stream's duplicate window the broker drops a repeat by it.
    /// The epoch is part of it, so that a reinstalled agent that counts from 1 again is not taken for a repeat.
    #[must_use]
    pub fn message_id(&self) -> String {
        match &self.id {
            Some(id) => format!("{}:{id}", self.agent),
            None => format!("{}:{}:{}", self.agent, self.epoch, self.seq),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a run of a command cost, its children that it waited for included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, user and system, in microseconds.
    pub cpu_us: u64,
    /// Peak memory in bytes: of all its processes in a cgroup of its own, else of the largest one. Of a short
    /// command that is smaller than the agent itself: that of the agent, which it did not exceed. 0: not known.
    pub memory_bytes: u64,
}

/// One number in a result, with the thresholds that its source gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    pub value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// Verdict of a run, ordered by how much it should worry: `Ok < Unknown < Warning < Critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Unknown,
    Warning,
    Critical,
}

impl Status {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The plugin convention: 0 ok, 1 warning, 2 critical, anything else unknown.
    #[must_use]
    pub fn from_exit_code(code: i32) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::Warning,
            2 => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a result came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    #[default]
    Agent,
    /// `POST /api/submit`
    Http,
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}
