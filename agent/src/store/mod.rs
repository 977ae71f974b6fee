//! What the agent keeps on disk: the spool of results and the last good configuration.

pub mod config;
pub mod life;
pub mod policy;
pub mod record;
pub mod results;
mod segment;
pub mod spool;
pub mod trust;
