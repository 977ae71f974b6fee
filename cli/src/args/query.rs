//! What was measured, and what will be.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;
use protocol::{AgentId, CheckName, series::Excluded, timestamp};
use service_kit::settings::duration;

use super::Common;

/// Write results as a file for other programs: Parquet for DuckDB, pandas and Polars, CSV, or JSON lines
///
/// CSV and Parquet have one row for each number: one for the result's own value, and one for each of its metrics.
/// JSON lines hold each result whole.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportResultsArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) format: FileFormat,
    /// File to write; it has this name once it is whole [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Only results of this host
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentId>,
    /// Only results of this check
    #[arg(long, value_name = "NAME")]
    pub(crate) check: Option<CheckName>,
    /// How far to look back
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    pub(crate) since: Duration,
    /// Results from this moment on, such as 2026-11-21T22:00:00Z
    #[arg(long, value_name = "TIME", value_parser = timestamp::parse, conflicts_with = "since")]
    pub(crate) from: Option<u64>,
    /// Results before this moment [default: now]
    #[arg(long, value_name = "TIME", value_parser = timestamp::parse)]
    pub(crate) until: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    Parquet,
    Csv,
    Ndjson,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HostsArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only this host
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentId>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only results of this host
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentId>,
    /// Only results of this check
    #[arg(long, value_name = "NAME")]
    pub(crate) check: Option<CheckName>,
    /// How far to look back
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) since: Duration,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) limit: usize,
    /// Show results as they come, until interrupted
    #[arg(long, conflicts_with_all = ["since", "limit"])]
    pub(crate) follow: bool,
    /// Only results of these statuses: ok, warning, critical, unknown
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub(crate) status: Vec<String>,
    /// Only results whose output holds this text, whatever its case
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["follow", "matches"])]
    pub(crate) contains: Option<String>,
    /// Only results whose output this regular expression fits
    #[arg(long, value_name = "REGEX", conflicts_with = "follow")]
    pub(crate) matches: Option<String>,
}

/// The latest result of each check of each host
#[derive(Debug, clap::Args)]
pub(crate) struct LatestArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only this host
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentId>,
    /// Only this check
    #[arg(long, value_name = "NAME")]
    pub(crate) check: Option<CheckName>,
    /// Only those of these statuses: ok, warning, critical, unknown
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub(crate) status: Vec<String>,
    /// Only checks that were measured since
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    pub(crate) since: Duration,
}

/// In which status a check was, from when until when
#[derive(Debug, clap::Args)]
pub(crate) struct TimelineArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "HOST")]
    pub(crate) agent: AgentId,
    #[arg(value_name = "CHECK")]
    pub(crate) check: CheckName,
    /// From so long ago until now
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    pub(crate) range: Duration,
}

/// The hosts with the highest numbers of a check
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "CHECK")]
    pub(crate) check: CheckName,
    /// One of the check's metrics [default: its value]
    #[arg(value_name = "METRIC")]
    pub(crate) metric: Option<String>,
    /// From so long ago until now
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) range: Duration,
    /// The number of each host that counts
    #[arg(long, value_name = "NUMBER", default_value = "mean", value_parser = ["mean", "max", "min", "last"])]
    pub(crate) by: String,
    /// The lowest instead of the highest
    #[arg(long)]
    pub(crate) lowest: bool,
    /// So many hosts
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) limit: usize,
}

/// Ask in PromQL: now, or with --range over time
///
/// Numbers are dogwatch_value, verdicts dogwatch_status (0 ok, 1 warning, 2 critical, 3 unknown), both with the labels
/// agent, check, metric and unit and those of the host.
#[derive(Debug, clap::Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Such as 'max by (agent) (dogwatch_value{check="disk"})'
    #[arg(value_name = "EXPRESSION")]
    pub(crate) expression: String,
    /// From so long ago until now
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) range: Option<Duration>,
    /// Time between two values of a range [default: a sixtieth of it]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "range")]
    pub(crate) step: Option<Duration>,
}

/// One number of a check over time
#[derive(Debug, clap::Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "HOST")]
    pub(crate) agent: AgentId,
    #[arg(value_name = "CHECK")]
    pub(crate) check: CheckName,
    /// One of the check's metrics [default: its value]
    #[arg(value_name = "METRIC")]
    pub(crate) metric: Option<String>,
    /// From so long ago until now
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) range: Duration,
    /// At most so many points
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) points: usize,
}

/// What comes next: history, forecast and the band that 95 of 100 values will be in
#[derive(Debug, clap::Args)]
pub(crate) struct PredictArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "HOST")]
    pub(crate) agent: AgentId,
    #[arg(value_name = "CHECK")]
    pub(crate) check: CheckName,
    /// One of the check's metrics [default: its value]
    #[arg(long, value_name = "METRIC")]
    pub(crate) metric: Option<String>,
    /// How far to look ahead, up to 14days
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    pub(crate) horizon: Duration,
    /// How much of the past to show, up to 60days [default: as much as the horizon]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) history: Option<Duration>,
    /// Also say when this is reached, such as "> 95" or "< 5"
    #[arg(long, value_name = "LIMIT")]
    pub(crate) limit: Option<protocol::predict::Limit>,
}

/// Rules for checks that have neither thresholds nor rules, from what they measured: documents on stdout, nothing is applied
#[derive(Debug, clap::Args)]
pub(crate) struct SuggestArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only this check, even if it has rules
    #[arg(long, value_name = "CHECK")]
    pub(crate) check: Option<CheckName>,
    /// The time to look at, up to 60days
    #[arg(long, value_name = "DURATION", default_value = "14days", value_parser = duration)]
    pub(crate) range: Duration,
}

/// For how long checks were ok
#[derive(Debug, clap::Args)]
pub(crate) struct AvailabilityArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only this host
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentId>,
    /// Only this check
    #[arg(long, value_name = "NAME")]
    pub(crate) check: Option<CheckName>,
    /// From so long ago until now
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    pub(crate) range: Duration,
    /// Time that does not count, as FROM/UNTIL in RFC 3339; may be repeated
    #[arg(long, value_name = "FROM/UNTIL", value_parser = excluded)]
    pub(crate) exclude: Vec<Excluded>,
    /// A silence whose times do not count, whatever hosts and checks it names; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) exclude_silence: Vec<protocol::SilenceName>,
}

fn excluded(text: &str) -> Result<Excluded, String> {
    let moment = |text: &str| timestamp::parse(text).ok();
    let parts = text.split_once('/').and_then(|(from, until)| Some((moment(from)?, moment(until)?)));
    match parts {
        Some((from_ms, until_ms)) if from_ms < until_ms => Ok(Excluded { from_ms, until_ms }),
        _ => Err("write it like 2026-11-20T22:00:00Z/2026-11-21T02:00:00Z".to_owned()),
    }
}
