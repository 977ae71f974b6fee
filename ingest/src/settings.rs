use std::{path::PathBuf, time::Duration};

use clap::Parser;
use protocol::duration::millis;
use service_kit::{
    consume::BatchLimits,
    process::ServiceSettings,
    settings::{Common, duration},
};

use crate::{core::times::Times, sink::settings::RemoteWrite, store::Retention};

/// Take results from the broker, store each exactly once, and answer questions about them.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "dogwatch-ingest",
    version,
    after_help = "A store that no process has open: dogwatch-ingest store --help"
)]
pub struct Settings {
    #[command(flatten)]
    pub common: Common,
    /// Folder of the stored results; one process at a time
    #[arg(
        long,
        env = "DOGWATCH_INGEST_DATA",
        value_name = "DIR",
        default_value = "/var/lib/dogwatch/results"
    )]
    pub data: PathBuf,
    /// How long results are kept, from when they were stored
    #[arg(long, env = "DOGWATCH_INGEST_RETENTION", value_name = "DURATION", default_value = "15d", value_parser = duration)]
    pub retention: Duration,
    /// How long results lie in the hot log before they are sealed into blocks, unless it grows large
    #[arg(long, env = "DOGWATCH_INGEST_SEAL_AFTER", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub seal_after: Duration,
    /// How long roll-ups of five minutes are kept; they are made when a day is over
    #[arg(long, env = "DOGWATCH_INGEST_RETENTION_5M", value_name = "DURATION", default_value = "90d", value_parser = duration)]
    pub retention_5m: Duration,
    /// How long roll-ups of an hour are kept
    #[arg(long, env = "DOGWATCH_INGEST_RETENTION_1H", value_name = "DURATION", default_value = "730d", value_parser = duration)]
    pub retention_1h: Duration,
    /// Most bytes of sealed results and roll-ups; with more, the oldest go early. 0: no limit
    #[arg(long, env = "DOGWATCH_INGEST_MAX_BYTES", value_name = "BYTES", default_value_t = 0)]
    pub max_bytes: u64,
    /// Most results in one durable write
    #[arg(long, env = "DOGWATCH_INGEST_BATCH_MESSAGES", value_name = "N", default_value_t = 4000,
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub batch_messages: u32,
    /// Bytes asked of the broker at once; below its limit for slow consumers (64 MB)
    #[arg(long, env = "DOGWATCH_INGEST_BATCH_BYTES", value_name = "BYTES", default_value_t = 8 * 1024 * 1024,
        value_parser = clap::value_parser!(u32).range(4 * 1024 * 1024..=32 * 1024 * 1024))]
    pub batch_bytes: u32,
    /// Write nothing more when the disk has fewer bytes left: nothing is acknowledged then, and nothing lost
    #[arg(long, env = "DOGWATCH_INGEST_KEEP_FREE", value_name = "BYTES", default_value_t = 256 * 1024 * 1024)]
    pub keep_free: u64,
    /// Warn when the disk has fewer bytes left
    #[arg(long, env = "DOGWATCH_INGEST_WARN_FREE", value_name = "BYTES", default_value_t = 2 * 1024 * 1024 * 1024)]
    pub warn_free: u64,
    /// Longest evaluation of one PromQL query; a request may ask for less
    #[arg(long, env = "DOGWATCH_INGEST_QUERY_TIMEOUT", value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub query_timeout: Duration,
    /// Most numbers that one PromQL query may read and hold, of 8 to 16 bytes each; four queries run at once
    #[arg(long, env = "DOGWATCH_INGEST_QUERY_SAMPLES", value_name = "N", default_value_t = 10_000_000)]
    pub query_samples: u64,
    /// Most series that one selector of a PromQL query may match
    #[arg(long, env = "DOGWATCH_INGEST_QUERY_SERIES", value_name = "N", default_value_t = 100_000)]
    pub query_series: usize,
    /// Reject results whose time is further ahead of the broker's; they are kept in stream REJECTED
    #[arg(long, env = "DOGWATCH_INGEST_MAX_AHEAD", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub max_ahead: Duration,
    /// Reject results that come later than this after their time [default: take them however old]
    #[arg(long, env = "DOGWATCH_INGEST_MAX_LATE", value_name = "DURATION", value_parser = duration)]
    pub max_late: Option<Duration>,
    /// Warn of hosts whose clock is off by more than this
    #[arg(long, env = "DOGWATCH_INGEST_CLOCK_LIMIT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub clock_limit: Duration,
    /// Most series of one agent, each metric of each check being one; results that bring more are rejected. 0: no limit
    #[arg(long, env = "DOGWATCH_INGEST_MAX_SERIES", value_name = "N", default_value_t = 10_000)]
    pub max_series: usize,
    #[command(flatten)]
    pub remote_write: RemoteWrite,
}

impl Settings {
    #[must_use]
    pub fn times(&self) -> Times {
        Times { max_ahead: millis(self.max_ahead), max_late: self.max_late.map(millis) }
    }

    /// Most series of one agent, for comparing.
    #[must_use]
    pub fn series_limit(&self) -> usize {
        if self.max_series == 0 { usize::MAX } else { self.max_series }
    }

    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            hot: self.seal_after,
            results: self.retention,
            five_minutes: self.retention_5m,
            hours: self.retention_1h,
            max_bytes: if self.max_bytes == 0 { u64::MAX } else { self.max_bytes },
        }
    }

    #[must_use]
    pub fn batch(&self) -> BatchLimits {
        let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        BatchLimits { messages: size(self.batch_messages), bytes: size(self.batch_bytes) }
    }
}

impl ServiceSettings for Settings {
    fn common(&self) -> &Common {
        &self.common
    }
}
