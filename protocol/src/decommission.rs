//! Hosts that are taken out for good.

use serde::{Deserialize, Serialize};

use crate::AgentId;

/// Most agents in a [`DecommissionedList`]: the last ones.
pub const LISTED: usize = 10_000;

/// Request on `dogwatch.v1.admin.host.decommission`: the host leaves the inventory, its sign-in and its keys are revoked,
/// its connections are cut. Asked again it cuts connections again. The reply is a [`crate::sign_in::AgentRevoked`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDecommission {
    pub agent: AgentId,
    #[serde(default)]
    pub actor: String,
    /// Why.
    #[serde(default)]
    pub message: String,
}

/// Request on `dogwatch.v1.admin.host.decommissioned`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecommissionedQuery {}

/// Hosts that were taken out and did not come back, the last [`LISTED`] of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecommissionedList {
    pub agents: Vec<AgentId>,
}
