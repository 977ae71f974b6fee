//! What there is to say on the command line. Names once shipped are extended, never renamed.

mod access;
mod alerts;
mod change;
mod query;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use protocol::AgentId;
use service_kit::telemetry::{LogFormat, filter};

pub(crate) use self::{access::*, alerts::*, change::*, query::*};

/// Watches a fleet of servers
#[derive(Debug, Parser)]
#[command(name = "dogwatch", version, propagate_version = true)]
pub(crate) struct Args {
    /// TOML file with settings; keys are the long flags with _ for -
    #[arg(long, env = "DOGWATCH_CONFIG", value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(UpArgs),
    InitBroker(InitBrokerArgs),
    /// Look after a store of results that no process has open
    #[command(subcommand)]
    Store(ingest::tool::StoreCommand),
    #[command(flatten)]
    Client(ClientCommand),
}

/// Run everything on this machine: a NATS server, all services, and an agent for this host
///
/// The addresses default to loopback, since the first start should not open a machine to its network; with
/// --http 0.0.0.0:5000 --submit 0.0.0.0:5002 other hosts reach it.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Folder that holds everything: results, documents, keys
    #[arg(long, env = "DOGWATCH_DATA", value_name = "DIR", default_value = ".dogwatch")]
    pub(crate) data: PathBuf,
    /// Serve HTTP at this address
    #[arg(long, env = "DOGWATCH_HTTP", value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub(crate) http: SocketAddr,
    /// Accept submissions at this address as well
    #[arg(long, env = "DOGWATCH_SUBMIT", value_name = "ADDR", default_value = "127.0.0.1:5002")]
    pub(crate) submit: SocketAddr,
    /// Port of the NATS server, on loopback
    #[arg(long, env = "DOGWATCH_NATS_PORT", value_name = "N", default_value_t = 4222)]
    pub(crate) nats_port: u16,
    /// Run no agent for this host
    #[arg(long)]
    pub(crate) no_agent: bool,
    /// Do not apply the starter documents on the first start
    #[arg(long)]
    pub(crate) empty: bool,
    /// The nats-server to run [default: the one on PATH]
    #[arg(long, env = "DOGWATCH_NATS_SERVER", value_name = "FILE")]
    pub(crate) nats_server: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter such as warn,ingest=debug
    #[arg(long, env = "DOGWATCH_LOG", value_name = "FILTER", default_value = "warn", value_parser = filter)]
    pub(crate) log: String,
    /// Form of the log on stderr
    #[arg(long, env = "DOGWATCH_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}

/// Write the settings and secrets of a NATS server that runs beside the services, as in docker-compose.yml
///
/// Writes nats.conf, services.nk, issuer.nk, system.nk, agent-ID.nk and admin.key, mode 0600. A second run keeps every key that is there.
#[derive(Debug, clap::Args)]
pub(crate) struct InitBrokerArgs {
    /// Folder to write into
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Address at which the NATS server listens
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:4222")]
    pub(crate) listen: SocketAddr,
    /// Address at which it serves its own health and statistics; without it, it does not
    #[arg(long, value_name = "ADDR")]
    pub(crate) monitor: Option<SocketAddr>,
    /// Folder of the NATS server for its streams, as it sees it
    #[arg(long, value_name = "DIR", default_value = "/data")]
    pub(crate) store: PathBuf,
    /// Agent that gets an NKey with the permissions for its own subjects; may be repeated
    #[arg(long = "agent", value_name = "ID")]
    pub(crate) agents: Vec<AgentId>,
    /// Folder for the seeds that only the config-service reads, issuer.nk and system.nk [default: that of --data]
    #[arg(long, value_name = "DIR")]
    pub(crate) config_service_seeds: Option<PathBuf>,
    /// Folder for the NKeys of agents, apart from the others [default: that of --data]
    #[arg(long, value_name = "DIR")]
    pub(crate) agent_seeds: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Keys for the HTTP API
    #[command(subcommand)]
    Key(KeyCommand),
    /// Tokens with which agents make themselves known
    #[command(subcommand)]
    Token(TokenCommand),
    /// What is done to one host
    #[command(subcommand)]
    Host(HostCommand),
    Keygen(KeygenArgs),
    Plan(PlanArgs),
    Apply(ApplyArgs),
    Rollback(RollbackArgs),
    /// Changes that reach hosts in stages
    #[command(subcommand)]
    Rollout(RolloutCommand),
    History(HistoryArgs),
    Diff(DiffArgs),
    Export(ExportArgs),
    ExportResults(ExportResultsArgs),
    Explain(ExplainArgs),
    /// Hosts: what they are, and which revision they run
    Hosts(HostsArgs),
    /// Checks as they were applied
    Checks(Common),
    Run(RunArgs),
    /// Results of checks, oldest first
    Results(ResultsArgs),
    Latest(LatestArgs),
    Query(QueryArgs),
    Graph(GraphArgs),
    Timeline(TimelineArgs),
    Top(TopArgs),
    Predict(PredictArgs),
    Suggest(SuggestArgs),
    Availability(AvailabilityArgs),
    /// Alerts that are pending or firing
    Alerts(AlertsArgs),
    Audit(AuditArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    /// What to do about one alert
    #[command(subcommand)]
    Alert(AlertCommand),
    Why(WhyArgs),
    /// Keep alerts from being told for a while
    #[command(subcommand)]
    Silence(SilenceCommand),
    /// Notifications that are not delivered: what waits, and what was given up
    #[command(subcommand)]
    Notifications(NotificationsCommand),
    /// Whom alerts tell
    #[command(subcommand)]
    Receiver(ReceiverCommand),
    /// Rules, without a server
    #[command(subcommand)]
    Rule(RuleCommand),
    /// Ready-made documents: checks for Linux servers, databases and other services
    #[command(subcommand)]
    Library(LibraryCommand),
    /// JSON Schema of documents, with which editors complete and check them
    Schema,
    /// Ask a part of dogwatch whether it is ready; for health checks of containers
    Health {
        /// Such as http://127.0.0.1:5010/readyz
        url: String,
    },
}

/// What every client command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// Address of dogwatch [default: that of a running `dogwatch up` in this folder, or http://127.0.0.1:5000]
    #[arg(long, env = "DOGWATCH_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// File with the key to use [default: .dogwatch/admin.key for the `dogwatch up` in this folder]
    #[arg(long, env = "DOGWATCH_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Form of the output; JSON is one object per line
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it like role=web".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
