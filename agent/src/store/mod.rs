//! What the agent keeps on disk: the spool of results and the last good configuration.

pub mod config;
pub mod record;
pub mod results;
pub mod spool;
