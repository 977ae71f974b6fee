//! What arrives: connections, requests, who makes them and how often.

mod access_api;
mod account;
mod agent_api;
mod archive_api;
mod attend_api;
mod caller;
mod letters_api;
mod limits;
mod listener;
mod live;
mod metrics;
mod operator_api;
mod prometheus;
mod query_api;
mod rollouts;
mod routes;
mod run;

pub(crate) use limits::Limits;
pub(crate) use listener::serve;
pub(crate) use metrics::HttpMetrics;
pub(crate) use routes::{App, everything, submissions};
