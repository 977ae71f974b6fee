//! What others tell the agent.

pub mod config;
pub mod judge;
pub mod link;
pub mod local;
pub mod run;
