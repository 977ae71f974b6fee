//! Who asks: agents for their configuration, operators for changes and views.

pub(crate) mod access;
pub(crate) mod agents;
pub(crate) mod callout;
mod decommission;
pub(crate) mod operators;
