//! The log of accepted changes: the messages of stream CONFIG. Documents, keys, history and rollback all come from it.

use serde::{Deserialize, Serialize};

use crate::{
    AgentId, Facts, Labels,
    admin::Role,
    document::{Document, Kind},
    rollout::Rollout,
    signed::Signature,
};

/// One accepted change, whole. Revisions count from 1 without gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    pub v: u8,
    /// Random. Tells this change from another that claims the same revision.
    pub id: String,
    pub revision: u64,
    pub at_ms: u64,
    /// Who.
    #[serde(default)]
    pub actor: String,
    /// Why.
    #[serde(default)]
    pub message: String,
    pub changes: Vec<LogChange>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum LogChange {
    DocumentPut {
        document: Document,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    DocumentDeleted {
        kind: Kind,
        name: String,
    },
    KeyCreated {
        key: KeyRecord,
    },
    KeyRevoked {
        id: String,
        at_ms: u64,
    },
    TokenCreated {
        token: TokenRecord,
    },
    TokenRevoked {
        id: String,
        at_ms: u64,
    },
    /// An agent made itself known by a token: from now on this NKey is that agent.
    AgentEnrolled {
        agent: AgentId,
        nkey: String,
        token: String,
        at_ms: u64,
    },
    /// No NKey that was enrolled for this agent signs in any more. Another may be enrolled.
    AgentRevoked {
        agent: AgentId,
        at_ms: u64,
    },
    /// The host is no more: it is out of the inventory until it is enrolled, or gets a key, anew. What took its sign-in
    /// away stands in the same record.
    HostDecommissioned {
        agent: AgentId,
        at_ms: u64,
    },
    /// A rollout began or moved. In the record that it began with it stands before the documents.
    RolloutPut {
        rollout: Rollout,
    },
}

/// A key as it is kept: its hash, never itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub id: String,
    /// [`crate::admin::key_hash`] of the key.
    pub hash: String,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
    pub created_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Expression of the hosts that an editor may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
}

/// An enrolment token as it is kept: its hash, never itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub id: String,
    /// [`crate::admin::key_hash`] of the token.
    pub hash: String,
    pub uses: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    pub created_ms: u64,
    pub expires_ms: u64,
}
