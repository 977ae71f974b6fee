//! Settings of the alerter.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use service_kit::{
    process::ServiceSettings,
    settings::{Common, duration},
};

use crate::core::guard::Policy;

/// Watches results, raises alerts by rules, and tells receivers
#[derive(Debug, Clone, Parser)]
#[command(name = "dogwatch-alerter", version)]
pub struct Settings {
    #[command(flatten)]
    pub common: Common,
    /// Folder for alerts and the account of notifications
    #[arg(
        long,
        env = "DOGWATCH_ALERTER_DATA",
        value_name = "DIR",
        default_value = "/var/lib/dogwatch/alerts"
    )]
    pub data: PathBuf,
    /// Results older than this open no alert
    #[arg(long, env = "DOGWATCH_ALERTER_FRESHNESS", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub freshness: Duration,
    /// How long a notification is tried before it is given up, at most 6days
    #[arg(long, env = "DOGWATCH_ALERTER_RETRY_FOR", value_name = "DURATION", default_value = "24h", value_parser = retry_for)]
    pub retry_for: Duration,
    /// Webhooks of one receiver called at once
    #[arg(long, env = "DOGWATCH_ALERTER_WEBHOOK_CONCURRENCY", value_name = "N", default_value_t = 16, value_parser = concurrency)]
    pub webhook_concurrency: usize,
    /// Networks that receivers may be in: public, private, loopback, link-local, metadata, or such as 10.1.0.0/16
    #[arg(
        long,
        env = "DOGWATCH_ALERTER_RECEIVER_NETWORKS",
        value_name = "LIST",
        default_value = "public,private"
    )]
    pub receiver_networks: Policy,
    /// Folder with the secrets that receivers name
    #[arg(
        long,
        env = "DOGWATCH_ALERTER_SECRETS",
        value_name = "DIR",
        default_value = "/etc/dogwatch/secrets"
    )]
    pub secrets: PathBuf,
    /// How often rules, receivers and hosts are read anew; changes of documents come at once
    #[arg(long, env = "DOGWATCH_ALERTER_POLL", value_name = "DURATION", default_value = "30s", value_parser = poll)]
    pub poll: Duration,
}

impl ServiceSettings for Settings {
    fn common(&self) -> &Common {
        &self.common
    }
}

/// Stream NOTIFY keeps a notification for seven days.
fn retry_for(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(value) if value <= Duration::from_secs(6 * 86_400) => Ok(value),
        Ok(_) => Err("at most 6days: the broker forgets notifications after seven".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn poll(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(value) if value >= Duration::from_secs(1) => Ok(value),
        Ok(_) => Err("at least 1s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn concurrency(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(value) if (1..=1_000).contains(&value) => Ok(value),
        _ => Err("a number from 1 to 1000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_defaults_and_limits() {
        let settings = Settings::try_parse_from(["dogwatch-alerter"]).unwrap();
        assert_eq!(settings.data, PathBuf::from("/var/lib/dogwatch/alerts"));
        assert_eq!((settings.freshness, settings.webhook_concurrency), (Duration::from_secs(300), 16));
        for (flag, value, expected) in [
            ("--retry-for", "7d", "at most 6days"),
            ("--retry-for", "soon", "is not a duration"),
            ("--webhook-concurrency", "0", "from 1 to 1000"),
            ("--poll", "1ms", "at least 1s"),
            ("--receiver-networks", "all", "is none of public, private, loopback"),
        ] {
            let error = Settings::try_parse_from(["dogwatch-alerter", flag, value]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
