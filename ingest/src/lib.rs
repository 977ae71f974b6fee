//! ingest: results from the stream into the store, each exactly once, and back out by query.
//!
//! [`core`] decides what of a batch is new and keeps each agent's account; [`store`] makes it durable in one atomic
//! write; [`writer`] is the one thread that does both, in turn. Only then is a batch acknowledged (G2) and the agents
//! are told how far their results are safe (G1).
//!
//! Start reading at [`core::ledger`], then [`writer`].

pub mod core;
pub mod counters;
pub mod inbound;
pub mod outbound;
pub mod query;
pub mod room;
pub mod service;
pub mod settings;
pub mod sink;
pub mod store;
pub mod tool;
pub mod writer;

pub use service::start;
pub use settings::Settings;

/// Die here, in debug builds, when the test that proves what a crash leaves behind says so.
#[cfg_attr(not(debug_assertions), allow(unused_variables))]
pub(crate) fn fail_point(name: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os("DOGWATCH_FAILPOINT").is_some_and(|at| at == name) {
        std::process::abort();
    }
}
