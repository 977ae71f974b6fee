//! What the store keeps, as JSON: fields are added, never renamed.

use protocol::{
    AgentId, ReceiverName, RuleName,
    alert::{Alert, JournalEntry, Notification},
};
use serde::{Deserialize, Serialize};

use crate::core::{AlertKey, Transition};

/// A transition that is not published yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxRecord {
    pub alert: Alert,
    #[serde(default)]
    pub notify: Vec<ReceiverName>,
    /// The stream of transitions has it already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retold: bool,
    /// Set when it is sent again by hand: the broker takes it for another message then, the receiver for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
}

impl OutboxRecord {
    /// One notification of something that stream ALERTS has already.
    pub(super) fn of(notification: &Notification, again: Option<u64>) -> Self {
        let notify = vec![notification.receiver.clone()];
        Self { alert: notification.alert.clone(), notify, retold: true, again }
    }

    /// The `Nats-Msg-Id` of one of its notifications.
    #[must_use]
    pub fn broker_id(&self, notification: &Notification) -> String {
        let id = notification.message_id();
        self.again.map_or_else(|| id.clone(), |again| format!("{id}{AGAIN}{again}"))
    }

    /// One notification for each receiver.
    pub fn notifications(&self) -> impl Iterator<Item = Notification> {
        self.notify.iter().map(|receiver| Notification {
            v: protocol::VERSION,
            receiver: receiver.clone(),
            alert: self.alert.clone(),
        })
    }
}

impl From<&Transition> for OutboxRecord {
    fn from(transition: &Transition) -> Self {
        Self {
            alert: transition.alert.clone(),
            notify: transition.notify.clone(),
            retold: transition.retold,
            again: None,
        }
    }
}

/// An alert that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedRecord {
    #[serde(flatten)]
    pub alert: Alert,
    /// What was decided and why, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<JournalEntry>,
}

/// The account of one notification, under its message id: what G5 promises, in one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Delivery {
    /// Neither delivered nor given up.
    Waiting {
        notification: Box<Notification>,
        /// Its place in the stream NOTIFY, once it is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<u64>,
    },
    Delivered {
        at_ms: u64,
        /// What the receiver opened for it, such as the number of an issue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opened: Option<String>,
    },
    GaveUp {
        at_ms: u64,
        reason: String,
        /// Kept to be sent again by hand: a dead letter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notification: Option<Box<Notification>>,
        /// Who was told instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<ReceiverName>,
    },
}

/// What an account becomes, and what follows from that.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    pub id: String,
    pub outcome: Delivery,
    /// Notifications to others; those that have an account already are left alone.
    pub follow: Vec<Notification>,
}

/// A receiver that said that it wants nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    pub at_ms: u64,
    pub reason: String,
    /// Hash of its document: another document is another chance.
    pub document: String,
}

/// Stands in a broker's id before what makes it another one. No id holds it.
const AGAIN: char = '@';

/// The notification that a broker's id is of.
#[must_use]
pub fn notification_id(broker_id: &str) -> &str {
    broker_id.split(AGAIN).next().unwrap_or(broker_id)
}

impl Delivery {
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }

    #[must_use]
    pub fn is_dead_letter(&self) -> bool {
        matches!(self, Self::GaveUp { notification: Some(_), .. })
    }
}

/// `agent/rule`: neither may hold a slash.
pub(super) fn key_of(key: &AlertKey) -> String {
    format!("{}/{}", key.agent, key.rule)
}

pub(super) fn key_from(bytes: &[u8]) -> Option<AlertKey> {
    let (agent, rule) = std::str::from_utf8(bytes).ok()?.split_once('/')?;
    Some(AlertKey { agent: AgentId::new(agent).ok()?, rule: RuleName::new(rule).ok()? })
}
