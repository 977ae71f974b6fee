//! How far an agent's results are safe: what lets it forget them (G1).

use serde::{Deserialize, Serialize};

use crate::AgentId;

/// The durable watermark, on `dogwatch.v1.stored.<agent>` and as the reply to a [`StoredRequest`]: every result of
/// `epoch` up to `seq` is on disk, or known to be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub v: u8,
    pub agent: AgentId,
    pub epoch: u64,
    pub seq: u64,
    /// How many results up to `seq` are lost for good.
    #[serde(default)]
    pub lost: u64,
}

/// Request on `dogwatch.v1.stored.get.<agent>`. Results before `oldest` that are not stored are lost: the agent no
/// longer has them. They are counted and the watermark moves on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRequest {
    pub v: u8,
    pub epoch: u64,
    /// Lowest sequence number that the agent still has, or its next one when it has none.
    pub oldest: u64,
}
