//! Real parts for tests: a NATS server, a program, a webhook receiver, each gone when its value is dropped.
//!
//! Everything listens on free ports, so tests run side by side. [`eventually`] is the only place that sleeps.

pub mod nats;
pub mod program;
pub mod webhook;

use std::{future::Future, net::SocketAddr, time::Duration};

pub use nats::NatsServer;
pub use program::Program;
pub use webhook::WebhookSink;

/// Try `probe` until it gives a value; its last complaint stands in the failure.
///
/// # Panics
/// When `limit` is over.
pub async fn eventually<T, E, F>(what: &str, limit: Duration, mut probe: impl FnMut() -> F) -> T
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(complaint)) if tokio::time::Instant::now() >= deadline => {
                panic!("{what}: not within {limit:?}; last: {complaint}")
            }
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => panic!("{what}: not within {limit:?}; the last try did not return"),
        }
    }
}

/// An address on loopback that nobody listened on a moment ago.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    listener.local_addr().expect("its address")
}
