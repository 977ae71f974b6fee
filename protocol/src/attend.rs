//! What people do about alerts, asked of the alerter on `dogwatch.v1.alerter.…`: why, acknowledge, silence.

use serde::{Deserialize, Serialize};

use crate::{
    ReceiverName, SilenceName,
    alert::{Alert, JournalEntry},
    operate::Silence,
};

/// Request on `dogwatch.v1.alerter.why`; the reply is a [`Why`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyQuery {
    /// Id of the alert, or the beginning of one that no other alert shares.
    pub id: String,
}

/// Each decision about one alert, and what became of its notifications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    pub alert: Alert,
    /// Oldest first. Of a long one the middle is left out.
    pub journal: Vec<JournalEntry>,
    pub notifications: Vec<Told>,
    /// What the rule's predictions say now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predictions: Vec<Predicted>,
}

/// One prediction that a rule asks for, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// As the rule has it: `forecast("4h")`.
    pub call: String,
    /// Absent while there is none, and for a limit that is not reached within 14 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Why it is so, or why there is none.
    pub why: String,
}

/// What became of one notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its id, which is constant over attempts.
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<ReceiverName>,
    /// `waiting`, `delivered` or `gave_up`.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Request on `dogwatch.v1.alerter.acknowledge`: somebody looks after an alert. The reply is the [`Alert`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcknowledgeRequest {
    /// As in [`WhyQuery`].
    pub id: String,
    /// For how long, in milliseconds, up to 30 days; 0 takes an acknowledgement back.
    pub for_ms: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Who: filled in by the bridge from the key.
    #[serde(default)]
    pub actor: String,
}

/// Request on `dogwatch.v1.alerter.silence.put`; the reply is the [`SilenceInfo`]. A silence of the same name that was
/// made this way is replaced; one that stands in documents is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilencePut {
    /// `author` is filled in by the bridge from the key.
    pub silence: Silence,
}

/// Request on `dogwatch.v1.alerter.silence.expire`: end a silence that was made by hand. The reply is its [`SilenceInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceExpire {
    pub name: SilenceName,
}

/// Request on `dogwatch.v1.alerter.silence.list`: no fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceQuery {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceList {
    pub silences: Vec<SilenceInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceInfo {
    #[serde(flatten)]
    pub silence: Silence,
    /// It mutes now.
    pub active: bool,
    /// It stands in a document, and ends with it.
    pub document: bool,
}
