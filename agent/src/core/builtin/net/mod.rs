//! Checks of other hosts, over the network: what they are told, what the answers mean.

/// The probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {}
