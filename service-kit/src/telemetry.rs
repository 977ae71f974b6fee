//! Logs, on stderr, as text or as one JSON object per line.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// What to log: error, warn, info, debug, trace, or a filter such as info,ingest=debug
    #[arg(long, env = "DOGWATCH_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// Form of the log on stderr
    #[arg(long, env = "DOGWATCH_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `--log` cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log {filter:?} is not a filter: {reason}; write a level such as info, or levels of parts such as info,ingest=debug"
)]
pub struct FilterError {
    filter: String,
    reason: String,
}

/// Install the logger of the process. Libraries that talk too much at `info` are held at `warn`.
///
/// # Errors
/// [`FilterError`].
pub fn init(settings: &LogSettings) -> Result<(), FilterError> {
    let filter = EnvFilter::builder()
        .parse(format!("async_nats=warn,fjall=warn,lsm_tree=warn,sled=warn,{}", settings.log))
        .map_err(|error| FilterError { filter: settings.log.clone(), reason: error.to_string() })?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // A second call (tests in one process) keeps the first logger.
    let _first = match settings.log_format {
        LogFormat::Text => registry.with(layer.with_target(false)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    Ok(())
}
