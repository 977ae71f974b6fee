//! What the agent keeps on disk: the spool of results and the last good configuration.

pub mod config;
pub mod identity;
pub mod labels;
pub mod life;
pub mod policy;
pub mod record;
pub mod results;
mod segment;
pub mod spool;
pub mod trust;
