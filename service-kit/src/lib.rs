//! What every dogwatch process needs: settings, a connection, the one way to consume, answer, stop and be watched.
//!
//! The life of a process: [`settings::load`] → [`telemetry::init`] → [`nats::connect`] → the service's
//! `start(config, context)` returns once it is ready, having spawned its loops on [`Tasks`] → a signal cancels them
//! → [`Tasks::finish`] waits for a bounded time and names what did not end. [`process::main`] does all of it for a
//! program of one service; `dogwatch up` does it for several in one process.
//!
//! Deliberately absent: anything that knows what a result, a check or an alert is for.

pub mod audit;
pub mod backoff;
pub mod consume;
mod creds;
pub mod files;
pub mod monitor;
pub mod nats;
pub mod process;
pub mod publish;
pub mod ready;
pub mod report;
pub mod request;
pub mod respond;
pub mod settings;
pub mod streams;
pub mod tasks;
pub mod telemetry;
pub mod transfer;

pub use backoff::Backoff;
pub use consume::{Delivery, Verdict};
pub use monitor::Metrics;
pub use ready::Readiness;
pub use report::report;
pub use tasks::{Tasks, Unfinished};

/// What a service is handed when it starts. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The service's own short name: `ingest`. Queue group, prefix of its metrics, name in logs.
    pub name: &'static str,
    pub nats: async_nats::Client,
    pub tasks: Tasks,
    pub ready: Readiness,
    pub metrics: Metrics,
}

impl Context {
    /// JetStream, with acknowledgements awaited for at most 5 seconds.
    #[must_use]
    pub fn jetstream(&self) -> async_nats::jetstream::Context {
        publish::jetstream(&self.nats)
    }
}

/// Milliseconds since 1970 by this host's clock.
#[must_use]
pub fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, protocol::duration::millis)
}
