//! What an agent is told to run, and what it says of it.

use serde::{Deserialize, Serialize};

use crate::{
    AgentId, CheckName, Facts, Labels, Origin, Threshold,
    signed::SignedDocument,
    work::{Output, RunSettings, Work},
};

/// Request on `dogwatch.v1.config.get.<agent>`; the reply is a [`ConfigReply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigRequest {
    pub v: u8,
    /// Absent: what is known of the host stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// Labels of the host's own settings. Those that an operator gave by key win.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// `etag` of the configuration that the agent runs, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    #[serde(default)]
    pub origin: Origin,
    /// How often the agent asks, in milliseconds: by this it is told live from gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_ms: Option<u64>,
    /// Random, another one for each start of an agent: two agents with one id are told apart by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The agent checks signatures: send the documents beside what came of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum ConfigReply {
    /// The agent's `etag` is the current one; `revision` is the newest that it thereby runs.
    Unchanged {
        revision: u64,
    },
    Full {
        config: AgentConfig,
    },
    Refused {
        reason: String,
    },
}

/// All that one agent runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentConfig {
    pub revision: u64,
    /// Changes exactly when `checks` do.
    pub etag: String,
    pub checks: Vec<CheckSpec>,
    /// Where they were asked for: the documents of these checks, and those that steer what runs where. Then `etag`
    /// changes with their signatures too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<SignedDocument>,
}

/// One check as one host runs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckSpec {
    pub name: CheckName,
    #[serde(flatten)]
    pub work: Work,
    #[serde(default, skip_serializing_if = "RunSettings::is_default")]
    pub run: RunSettings,
    /// Time between runs. With `cron`: the shortest time between two of them.
    pub every_ms: u64,
    /// When to run, instead of every so often: five fields, minute to weekday.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// IANA name of the time zone of `cron`; the host's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    pub timeout_ms: u64,
    #[serde(flatten)]
    pub output: Output,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Threshold>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Threshold>,
}

/// Nudge on `dogwatch.v1.config.changed.<agent>`: ask again. Also on `dogwatch.v1.config.revision`, for services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChanged {
    pub v: u8,
    pub revision: u64,
}

/// Report on `dogwatch.v1.config.status.<agent>`: the revision that runs now, or why it does not (G8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    pub v: u8,
    pub agent: AgentId,
    pub revision: u64,
    /// Absent: applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
