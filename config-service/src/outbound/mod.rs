//! Stream CONFIG, and the nudges after a change.

pub(crate) mod audit_log;
pub(crate) mod connections;
pub(crate) mod log;
pub(crate) mod nudge;
