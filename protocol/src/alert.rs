//! Alerts: transitions on stream ALERTS, notifications on stream NOTIFY.

use serde::{Deserialize, Serialize};

use crate::{AgentId, CheckName, Labels, ReceiverName, RuleName, Scalar};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

impl Severity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The condition holds, not yet for long enough.
    Pending,
    Firing,
    Resolved,
}

impl AlertState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl std::fmt::Display for AlertState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One alert as it stands: the message on `dogwatch.v1.alert.<agent>.<rule>` at each transition, the row of
/// `dogwatch alerts`, and the body of a webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub v: u8,
    /// The same from pending to resolved; a new one when the rule fires again.
    pub id: String,
    pub agent: AgentId,
    pub rule: RuleName,
    pub check: CheckName,
    pub state: AlertState,
    pub severity: Severity,
    /// One sentence for people.
    pub summary: String,
    /// Value of the result that made the transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Scalar>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// When the condition began to hold, in milliseconds since 1970.
    pub started_ms: u64,
    /// When the alert came to `state`.
    pub at_ms: u64,
    /// How often it became worse while it fired.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub raised: u32,
    /// Why nobody was told of it yet: a silence, a dependency, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<String>,
    /// Somebody looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// That somebody looks after an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who: `key 01KAH3W8T…`.
    pub by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    pub at_ms: u64,
    /// When it is over, in milliseconds since 1970.
    pub until_ms: u64,
}

/// One decision about an alert, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    pub at_ms: u64,
    pub text: String,
}

impl Alert {
    /// The `Nats-Msg-Id` of this transition.
    #[must_use]
    pub fn message_id(&self) -> String {
        match (self.state, self.raised) {
            (AlertState::Firing, 1..) => format!("{}:firing-{}", self.id, self.raised),
            (state, _) => format!("{}:{state}", self.id),
        }
    }
}

/// One alert transition for one receiver, on `dogwatch.v1.notify.<receiver>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub v: u8,
    pub receiver: ReceiverName,
    pub alert: Alert,
}

impl Notification {
    /// Constant over attempts: the `Nats-Msg-Id` and the webhook's `webhook-id`.
    #[must_use]
    pub fn message_id(&self) -> String {
        format!("{}:{}", self.alert.message_id(), self.receiver)
    }
}
