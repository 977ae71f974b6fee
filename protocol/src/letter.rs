//! What people do about notifications, asked of the alerter on `dogwatch.v1.alerter.…`: list, send again, drop; and try a
//! receiver.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    AgentId, ReceiverName, RuleName,
    alert::{AlertState, Severity},
};

/// Request on `dogwatch.v1.alerter.notification.list`: what waits and what was given up. The reply is a
/// [`NotificationList`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<ReceiverName>,
    /// `waiting` or `gave_up`; both when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// At most 1,000.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationList {
    pub notifications: Vec<NotificationInfo>,
}

/// One notification that is not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationInfo {
    /// Constant over attempts.
    pub id: String,
    pub receiver: ReceiverName,
    pub agent: AgentId,
    pub rule: RuleName,
    pub alert_state: AlertState,
    pub severity: Severity,
    pub summary: String,
    /// `waiting` or `gave_up`.
    pub state: String,
    /// When the alert came to this state, or the notification was given up.
    pub at_ms: u64,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What to do with notifications that are not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotificationOrder {
    /// Try again what was given up, and what followed it.
    Retry,
    /// Try no more, and keep no letter.
    Drop,
}

/// Request on `dogwatch.v1.alerter.notification.change`; the reply is a [`NotificationsChanged`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationChange {
    pub order: NotificationOrder,
    /// These.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Those of this receiver that were given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<ReceiverName>,
    /// All that were given up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Who: filled in by the bridge from the key.
    #[serde(default)]
    pub actor: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationsChanged {
    /// How many are sent again or dropped.
    pub changed: usize,
    /// Ids with which nothing was done, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unchanged: BTreeMap<String, String>,
}

/// Request on `dogwatch.v1.alerter.receiver.test`: send it a test at once. The reply is a [`ReceiverTested`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverTest {
    pub name: ReceiverName,
}

/// What a receiver was sent, with stars for secrets, and what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverTested {
    /// It accepted the test.
    pub ok: bool,
    /// `POST`, `PUT`, `PATCH`, or `MAIL`.
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Status of the answer. Absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The beginning of the answer, or why there was none.
    pub answer: String,
    pub took_ms: u64,
}
