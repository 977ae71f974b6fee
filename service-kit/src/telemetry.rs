//! Logs, on stderr, as text or as one JSON object per line.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::{
    filter::{ParseError, Targets},
    fmt,
    prelude::*,
};

#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// What to log: error, warn, info, debug, trace, or a filter such as info,ingest=debug
    #[arg(long, env = "DOGWATCH_LOG", value_name = "FILTER", default_value = "info", value_parser = filter)]
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

/// Value parser for what to log. Checked with the other settings, since a logger that cannot start has nowhere to say so.
///
/// # Errors
/// When `text` is not a filter.
pub fn filter(text: &str) -> Result<String, String> {
    match targets(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("not a filter such as warn or info,ingest=debug: {error}")),
    }
}

/// Levels by module. `EnvFilter` knows spans and their fields as well, and brings an engine of regular expressions
/// with it into every agent.
fn targets(text: &str) -> Result<Targets, ParseError> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",").parse()
}

/// Install the logger of the process. Libraries that talk too much at `info` are held at `warn`.
///
/// # Errors
/// When the filter cannot be read.
pub fn init(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = targets(&format!("async_nats=warn,fjall=warn,lsm_tree=warn,sled=warn,{}", settings.log))
        .map_err(|error| anyhow::anyhow!("--log {:?} is not a filter: {error}", settings.log))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // A second call (tests in one process) keeps the first logger.
    let _first = match settings.log_format {
        LogFormat::Text => registry.with(layer.with_target(false)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        log: LogSettings,
    }

    #[test]
    fn a_wrong_filter_is_a_wrong_setting() {
        for good in ["warn", "info,ingest=debug", ""] {
            assert!(Settings::try_parse_from(["x", "--log", good]).is_ok(), "{good}");
        }
        for bad in ["===", ",,,===", "warn,foo=banana"] {
            let error = Settings::try_parse_from(["x", "--log", bad]).unwrap_err().to_string();
            assert!(error.contains("'--log <FILTER>': not a filter such as"), "{error}");
        }
    }
}
