//! What is decided, without I/O: the fold of the log, who runs what, which change is accepted.

pub(crate) mod callout;
pub(crate) mod difference;
pub(crate) mod effects;
pub(crate) mod keys;
pub(crate) mod limit;
pub(crate) mod machines;
pub(crate) mod model;
pub(crate) mod plan;
mod presence;
pub(crate) mod rollout;
pub(crate) mod rollouts;
pub(crate) mod sign_in;
pub(crate) mod signing;
