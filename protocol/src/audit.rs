//! The audit log: who did what, from where, when, and what came of it. Stream AUDIT, and what is asked of it.

use serde::{Deserialize, Serialize};

/// One entry, on `dogwatch.v1.audit.<service>`. Repeats of one within a short time are one entry with a count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    pub v: u8,
    /// When; of repeats, the last one.
    pub at_ms: u64,
    /// Who: `key 0123456789abcdef`, `agent web-01`; empty when it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub actor: String,
    /// Address that it came from, without its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What: `sign in`, `use key`, `POST /api/v1/apply`, `change`.
    pub what: String,
    pub outcome: AuditOutcome,
    /// Why it was refused, or what it did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How many times since `since_ms`; 1 for a single one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

fn one() -> u64 {
    1
}

fn is_one(count: &u64) -> bool {
    *count == 1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutcome {
    Done,
    Refused,
    Failed,
    /// Of a newer version.
    #[serde(other)]
    Unknown,
}

impl AuditOutcome {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Request on `dogwatch.v1.admin.audit`: stream AUDIT and the accepted changes as one, newest first, page by page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuery {
    /// Only entries from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Only entries whose actor holds this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// May be empty although older ones follow: then nothing on this page fits the question.
    pub events: Vec<AuditEvent>,
    /// Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
