use std::{net::SocketAddr, num::NonZeroU32};

use clap::Parser;
use service_kit::{process::ServiceSettings, settings::Common};

/// The HTTP side of dogwatch: configuration and submissions for scripts, the API for operators
#[derive(Debug, Clone, Parser)]
#[command(name = "dogwatch-http-bridge", version)]
pub struct Settings {
    #[command(flatten)]
    pub common: Common,
    /// Serve everything at this address
    #[arg(long, env = "DOGWATCH_HTTP", value_name = "ADDR", default_value = "0.0.0.0:5000")]
    pub http: SocketAddr,
    /// Serve submissions, the agents' configuration and health at this address as well
    #[arg(long, env = "DOGWATCH_SUBMIT", value_name = "ADDR", default_value = "0.0.0.0:5002")]
    pub submit: SocketAddr,
    /// Requests per second that one key may make
    #[arg(long, env = "DOGWATCH_HTTP_RATE", value_name = "N", default_value = "50")]
    pub rate: NonZeroU32,
    /// Requests that one key may make at once, after a pause
    #[arg(long, env = "DOGWATCH_HTTP_BURST", value_name = "N", default_value = "200")]
    pub burst: NonZeroU32,
    /// Largest body of a request in bytes; documents to apply may have 3 MiB
    #[arg(long, env = "DOGWATCH_HTTP_BODY_LIMIT", value_name = "BYTES", default_value_t = 1024 * 1024)]
    pub body_limit: usize,
    /// Requests worked on at once, over both addresses
    #[arg(long, env = "DOGWATCH_HTTP_CONCURRENCY", value_name = "N", default_value_t = 256)]
    pub concurrency: usize,
    /// Open connections, for each address
    #[arg(long, env = "DOGWATCH_HTTP_CONNECTIONS", value_name = "N", default_value_t = 4096)]
    pub connections: usize,
    /// Readers of live results at once; each may hold 4 MiB and a connection
    #[arg(long, env = "DOGWATCH_HTTP_LIVE_READERS", value_name = "N", default_value_t = 64)]
    pub live_readers: usize,
}

impl ServiceSettings for Settings {
    fn common(&self) -> &Common {
        &self.common
    }
}
