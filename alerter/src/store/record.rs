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
}

impl OutboxRecord {
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
        Self { alert: transition.alert.clone(), notify: transition.notify.clone(), retold: transition.retold }
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
    },
    GaveUp {
        at_ms: u64,
        reason: String,
    },
}

impl Delivery {
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { .. })
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
