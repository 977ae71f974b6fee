//! How agents come to sign in: enrolment tokens, and what becomes of an agent that is revoked.
//!
//! An agent that has no NKey yet makes one and signs in with it, its id as user name and a token as password. From then
//! on the NKey alone is enough. The broker asks the config-service about each sign-in (auth callout).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AgentId, Labels};

/// Request on `dogwatch.v1.admin.token.create`; the reply is a [`TokenCreated`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreate {
    /// Agents that it may enrol: 1 to [`MOST_USES`]; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// How long it is good for: a minute to a year; an hour when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// Labels that it gives to each host.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The one agent that it is for. Only such a token may enrol a host that the inventory holds already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    #[serde(default)]
    pub actor: String,
}

/// Most agents that one token may enrol.
pub const MOST_USES: u32 = 100_000;

/// The one message that ever holds a token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    pub token: String,
    #[serde(flatten)]
    pub info: TokenInfo,
}

impl fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCreated").field("token", &"…").field("info", &self.info).finish()
    }
}

/// A token as it is listed: its id is not secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    pub id: String,
    pub uses: u32,
    /// Agents that it has enrolled.
    pub used: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    pub created_ms: u64,
    pub expires_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<u64>,
}

/// Request on `dogwatch.v1.admin.token.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenQuery {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    pub tokens: Vec<TokenInfo>,
}

/// Request on `dogwatch.v1.admin.token.revoke`; the reply is the [`TokenInfo`] as it is then. Agents that it enrolled
/// stay enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRevoke {
    pub id: String,
    #[serde(default)]
    pub actor: String,
}

/// Request on `dogwatch.v1.admin.host.revoke`: the host's agent signs in no more, its connections are cut, and its API
/// keys are revoked. Asked again it cuts connections again. The reply is an [`AgentRevoked`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRevoke {
    pub agent: AgentId,
    #[serde(default)]
    pub actor: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRevoked {
    pub agent: AgentId,
    /// API keys of the host that were revoked with it.
    pub keys: u32,
    /// Connections that were cut. Absent: the config-service has no access to the broker's system account, and an open
    /// connection lasts until it breaks, a day at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
}
