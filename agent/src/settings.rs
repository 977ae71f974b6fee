//! Settings of the agent.

mod guard;
mod trust;
mod try_it;

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use protocol::{AgentId, Labels};
use service_kit::{
    nats::Wait,
    process::ServiceSettings,
    settings::{Common, duration},
};

pub use self::{
    guard::GuardSettings,
    trust::TrustSettings,
    try_it::{Format, Mode, TryIt},
};

/// Runs checks on this host and sends their results.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "dogwatch-agent",
    version,
    after_help = "Besides: `dogwatch-agent check --help` runs one built-in check now, without broker and settings."
)]
pub struct Settings {
    #[command(flatten)]
    pub common: Common,
    /// Name of this host in dogwatch, [a-z0-9][a-z0-9_-]{0,62} [default: made from the host name]
    #[arg(long, env = "DOGWATCH_AGENT_ID", value_name = "ID")]
    pub agent_id: Option<AgentId>,
    /// Folder for the spool of results and the last good configuration
    #[arg(long, env = "DOGWATCH_AGENT_STATE", value_name = "DIR", default_value = "/var/lib/dogwatch-agent")]
    pub state: PathBuf,
    /// Label of this host; may be given several times, or as several separated by commas
    #[arg(
        long = "label",
        env = "DOGWATCH_AGENT_LABELS",
        value_name = "K=V",
        value_delimiter = ',',
        value_parser = label
    )]
    pub labels: Vec<(String, String)>,
    /// How often to ask for a changed configuration, besides being told of changes
    #[arg(long, env = "DOGWATCH_AGENT_POLL", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub poll: Duration,
    /// Largest spool; when it is full the oldest results go first and are counted
    #[arg(long, env = "DOGWATCH_AGENT_SPOOL_MAX_BYTES", value_name = "BYTES", default_value_t = 256 * 1024 * 1024)]
    pub spool_max_bytes: u64,
    /// How long to keep results that nobody stored
    #[arg(
        long,
        env = "DOGWATCH_AGENT_SPOOL_MAX_AGE",
        value_name = "DURATION",
        default_value = "7d",
        value_parser = duration
    )]
    pub spool_max_age: Duration,
    /// When a result may leave the spool: once ingest has it on disk, or once the broker acknowledged it
    #[arg(long, env = "DOGWATCH_AGENT_SPOOL_UNTIL", value_name = "WHEN", value_enum, default_value_t)]
    pub spool_until: SpoolUntil,
    /// Results a second at which a backlog is sent after an outage; new results go past it
    #[arg(
        long,
        env = "DOGWATCH_AGENT_REPLAY_RATE",
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub replay_rate: u32,
    /// Checks that run at once
    #[arg(
        long,
        env = "DOGWATCH_AGENT_CONCURRENCY",
        value_name = "N",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub concurrency: u16,
    /// Folder with files and programs that give facts about this host
    #[arg(
        long,
        env = "DOGWATCH_AGENT_FACTS_DIR",
        value_name = "DIR",
        default_value = "/etc/dogwatch/facts.d"
    )]
    pub facts_dir: PathBuf,
    #[command(flatten)]
    pub guard: GuardSettings,
    #[command(flatten)]
    pub trust: TrustSettings,
    #[command(flatten)]
    pub try_it: TryIt,
}

/// What lets the spool forget a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum SpoolUntil {
    /// Ingest's durable watermark: also a broker that forgets costs nothing.
    #[default]
    Stored,
    /// The broker's acknowledgement: for brokers that sync before they acknowledge, and where no ingest answers.
    Acknowledged,
}

/// The host name gives no id, and none was set.
#[derive(Debug, thiserror::Error)]
#[error("no agent id can be made from the host name {hostname:?}: give one with --agent-id")]
pub struct NoAgentId {
    hostname: String,
}

impl Settings {
    /// The id that was given, or the one that the host name makes.
    ///
    /// # Errors
    /// [`NoAgentId`].
    pub fn id(&self) -> Result<AgentId, NoAgentId> {
        let hostname = hostname();
        let derived = || AgentId::from_hostname(&hostname);
        self.agent_id.clone().or_else(derived).ok_or_else(|| NoAgentId { hostname: hostname.clone() })
    }

    #[must_use]
    pub fn labels(&self) -> Labels {
        self.labels.iter().cloned().collect()
    }
}

impl ServiceSettings for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    fn wait(&self) -> Wait {
        Wait::No
    }

    fn inbox_prefix(&self) -> Option<String> {
        Some(protocol::subject::agent_inbox(&self.id().ok()?))
    }

    /// One thread: what it does next to the checks themselves is little, and every thread costs memory and wakes.
    fn runtime() -> tokio::runtime::Builder {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // Each command that starts holds the thread for a good part of a millisecond. With tokio's intervals (61 and 31
        // steps) a busy agent hears of the network and of its own spool too late to send anything.
        runtime.event_interval(8).global_queue_interval(2).thread_stack_size(512 * 1024);
        runtime
    }
}

/// Name of this host as the kernel knows it.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("{text:?} is not a label: write it like role=web")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_defaults_and_refuse_nonsense() {
        let read = |args: &[&str]| Settings::try_parse_from([&["dogwatch-agent"], args].concat());
        let settings = read(&["--label", "role=web", "--label", "site=b"]).unwrap();
        assert_eq!(settings.labels().get("site").map(String::as_str), Some("b"));
        assert_eq!((settings.poll.as_secs(), settings.concurrency), (60, 16));
        assert_eq!((settings.spool_max_bytes, settings.spool_max_age.as_secs()), (256 << 20, 7 * 86_400));
        assert_eq!((settings.guard.max_memory, settings.guard.max_cpu), (256 << 20, 100));
        let named = read(&["--agent-id", "web-01"]).unwrap();
        assert_eq!(named.inbox_prefix().as_deref(), Some("_INBOX_web-01"));
        for bad in [
            ["--label", "web"],
            ["--agent-id", "Web.1"],
            ["--concurrency", "0"],
            ["--poll", "often"],
            ["--max-memory", "much"],
            ["--once", "--dry-run"],
            ["-o", "json"],
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }
}
