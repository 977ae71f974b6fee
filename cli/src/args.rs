//! What there is to say on the command line. Names once shipped are extended, never renamed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use protocol::{
    AgentId, CheckName, ReceiverName, RuleName, SilenceName, admin::Role, rollout::Share, series::Excluded,
    signed::PublicKey, timestamp,
};
use service_kit::{
    settings::duration,
    telemetry::{LogFormat, filter},
};

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

/// Who did what, from where and when, newest first: changes, actions, refused requests and sign-ins, use of keys
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: Option<AuditCommand>,
    #[command(flatten)]
    pub(crate) common: Common,
    /// How far to look back
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    pub(crate) since: Duration,
    /// Only what was done by whom this text names, such as a key's id or an agent
    #[arg(long, value_name = "TEXT")]
    pub(crate) actor: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it: it is shown this once
    Create(TokenCreateArgs),
    /// List the tokens, used and revoked ones too
    List(Common),
    /// Revoke a token; agents that it enrolled stay enrolled
    Revoke {
        /// Id of the token, from `dogwatch token list`
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenCreateArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Agents that it may enrol
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) uses: u32,
    /// How long it is good for
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) expires: Duration,
    /// Label that it gives to each host; may be repeated
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// The one agent that it is for; needed for a host that is known already
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentId>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Take away a host's sign-in: its agent's NKey and its API keys; open connections are cut
    Revoke {
        #[arg(value_name = "HOST")]
        agent: AgentId,
        #[command(flatten)]
        common: Common,
    },
    Decommission(DecommissionArgs),
}

/// Take a host out for good: out of the inventory, its sign-in and keys revoked, its alerts ended
///
/// Its results stay. To come back it has to be enrolled, or to get a key, anew.
#[derive(Debug, clap::Args)]
pub(crate) struct DecommissionArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "HOST")]
    pub(crate) agent: AgentId,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) message: String,
}

/// Write an archive of the installation: documents with their history, hosts, keys, sign-ins, audit log, alerts
///
/// Results are not in it. No key, token or seed is in it, but the addresses and secrets of receivers are: keep it like a key.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// File to write, or a folder, where it gets a name of its own
    #[arg(value_name = "FILE|DIR")]
    pub(crate) to: PathBuf,
    /// In place of a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Also where the alerter does not answer, without its alerts
    #[arg(long)]
    pub(crate) without_alerts: bool,
}

/// Put an archive of `dogwatch backup` in place, in a new and empty installation
///
/// Nothing is changed before all of it was looked at. What is begun is finished, over restarts too. Agents go on without being enrolled anew.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The archive
    #[arg(value_name = "FILE", required_unless_present = "state")]
    pub(crate) file: Option<PathBuf>,
    /// Also where there is something: its documents, hosts, keys and alerts are lost
    #[arg(long)]
    pub(crate) replace: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Newest revision of the old installation, where changes were made after the backup: the next one gets a higher one
    #[arg(long, value_name = "REVISION")]
    pub(crate) newest_revision: Option<u64>,
    /// Only look at the archive and say what is in it
    #[arg(long, conflicts_with_all = ["replace", "newest_revision"])]
    pub(crate) check: bool,
    /// Say whether a restore is under way
    #[arg(long, conflicts_with_all = ["file", "check", "replace", "newest_revision"])]
    pub(crate) state: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LibraryCommand {
    /// What there is
    List {
        /// Form of the output; JSON is one object per line
        #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
        output: Format,
    },
    /// Print the documents of one
    Show {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Write them as files, to be changed and applied
    ///
    /// A file that is there already, and differs, is left as it is.
    Add {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Folder to write into
        #[arg(long, value_name = "DIR", default_value = ".")]
        to: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    Loss(LossArgs),
}

/// What became of each agent's results: stored, repeated, rejected, missing, lost
///
/// One line for each sequence of numbers of an agent; an agent that was installed again begins a new one. Missing results
/// may still come, lost ones will not. --gaps shows which numbers were not there, and since when.
#[derive(Debug, clap::Args)]
pub(crate) struct LossArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only this agent
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentId>,
    /// The last gaps of each, filled ones too
    #[arg(long)]
    pub(crate) gaps: bool,
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

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print it: it is shown this once
    Create(KeyCreateArgs),
    /// List the keys, revoked ones too
    List(Common),
    /// Revoke a key: it stops working within 5 seconds
    Revoke {
        /// Id of the key, from `dogwatch key list`
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyCreateArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// What the key may do: agent, viewer, editor or admin
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Role,
    /// The host that a key of role agent speaks for
    #[arg(long, value_name = "NAME", required_if_eq("role", "agent"))]
    pub(crate) agent: Option<AgentId>,
    /// Label of that host; may be repeated
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// Fact of that host, where no agent detects them; may be repeated
    #[arg(long = "fact", value_name = "K=V", value_parser = pair)]
    pub(crate) facts: Vec<(String, String)>,
    /// How long it is good for [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) expires: Option<Duration>,
    /// Expression of the only hosts that a key of role editor may change, such as 'labels.team == "db"'
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) hosts: Option<String>,
}

/// Make a key that signs documents, and print its public half, which agents pin (--trusted-key)
///
/// The file gets mode 0600 and must not exist.
#[derive(Debug, clap::Args)]
pub(crate) struct KeygenArgs {
    /// File for the private half
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Make nothing: print the public half of the key in FILE
    #[arg(long)]
    pub(crate) public: bool,
}

/// With what a change is signed.
#[derive(Debug, clap::Args)]
pub(crate) struct SigningArgs {
    /// File of `dogwatch keygen` to sign documents with [default: .dogwatch/signing.key for the `dogwatch up` in this folder]
    #[arg(long, env = "DOGWATCH_SIGNING_KEY_FILE", value_name = "FILE")]
    pub(crate) signing_key: Option<PathBuf>,
}

/// Apply documents: checks, rules, receivers
///
/// Shows what would change and asks before it does it. Nothing is applied when a document has an error.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Files, or folders of *.yaml, *.yml and *.json files
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Delete the documents that are not in these files
    #[arg(long)]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) signing: SigningArgs,
    /// Sign the documents that do not change as well: after a change of keys, or where they were not signed
    #[arg(long)]
    pub(crate) sign_again: bool,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) message: String,
    #[command(flatten)]
    pub(crate) stages: StagesArgs,
}

/// Show what applying documents would change: which documents, and what each host gains, loses, or runs differently
///
/// Changes nothing. Exit code 0: nothing to change; 2: something is; 1: it failed, or documents have errors.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Files, or folders of *.yaml, *.yml and *.json files
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// As if the documents that are not in these files were deleted
    #[arg(long)]
    pub(crate) prune: bool,
    /// Each field that differs, and each host
    #[arg(long)]
    pub(crate) details: bool,
    #[command(flatten)]
    pub(crate) stages: StagesArgs,
}

/// How a change reaches the hosts.
#[derive(Debug, clap::Args)]
pub(crate) struct StagesArgs {
    /// Reach the hosts that it concerns in stages: shares such as 1%, or numbers of hosts; 100% is the last
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',')]
    pub(crate) canary: Vec<Share>,
    /// How long each stage is watched before the next one
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration, requires = "canary")]
    pub(crate) bake: Duration,
    /// In place of the rollout that is open: it goes back, and this is made from what was before it
    #[arg(long)]
    pub(crate) replace: bool,
    /// Hosts, or a share of those reached, that may fail to run a changed check; one more, and all go back
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "canary")]
    pub(crate) max_failures: Share,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// All rollouts, the newest first
    List(Common),
    /// One rollout: its stages, and what failed
    Show(RolloutArgs),
    /// Stay at the stage that was reached
    Pause(RolloutArgs),
    /// Go on from there
    Resume(RolloutArgs),
    /// Back to what was before it, on every host
    Abort(RolloutArgs),
    /// To every host now
    Promote(RolloutArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RolloutArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Revision that it brings [default: the newest rollout]
    #[arg(value_name = "REVISION")]
    pub(crate) revision: Option<u64>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) message: String,
}

/// Make the documents what they were at a revision, as a new revision; keys stay as they are
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// From `dogwatch history`
    #[arg(value_name = "REVISION")]
    pub(crate) revision: u64,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) signing: SigningArgs,
    /// Public key of another operator whose documents of that revision are signed anew; may be repeated
    #[arg(long = "trusted-key", value_name = "KEY")]
    pub(crate) trusted_keys: Vec<PublicKey>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) message: String,
}

/// Changes that were made, newest first: who, when, why, of what
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
}

/// How the documents differ between two revisions
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// From `dogwatch history`; 0 is before the first one
    #[arg(value_name = "FROM")]
    pub(crate) from: u64,
    /// [default: the newest]
    #[arg(value_name = "TO")]
    pub(crate) to: Option<u64>,
}

/// Write the documents as files, which applied again change nothing
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Folder to write into, one file for each kind [default: all to stdout]
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Into a folder that is not empty too
    #[arg(long)]
    pub(crate) force: bool,
}

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

/// Why a host runs a check as it does, or why it does not
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "HOST")]
    pub(crate) agent: AgentId,
    #[arg(value_name = "CHECK")]
    pub(crate) check: CheckName,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HostsArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only this host
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentId>,
}

/// Run a configured check of a host now, and show its output as it comes
///
/// Its output goes to stdout, what became of it to stderr. Exit codes: 0 the check is ok, 1 it is not, or did not run,
/// 2 wrong use. The result counts as any other: it is stored, and rules see it.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Host to run it on
    #[arg(long, value_name = "NAME")]
    pub(crate) host: AgentId,
    /// Check to run, as it is configured for that host
    #[arg(value_name = "CHECK")]
    pub(crate) check: CheckName,
    /// When it is running already, wait so long for that to end (at most 20s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
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

#[derive(Debug, clap::Args)]
pub(crate) struct AlertsArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only alerts of this host
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentId>,
    /// With those that are resolved
    #[arg(long)]
    pub(crate) all: bool,
}

fn excluded(text: &str) -> Result<Excluded, String> {
    let moment = |text: &str| timestamp::parse(text).ok();
    let parts = text.split_once('/').and_then(|(from, until)| Some((moment(from)?, moment(until)?)));
    match parts {
        Some((from_ms, until_ms)) if from_ms < until_ms => Ok(Excluded { from_ms, until_ms }),
        _ => Err("write it like 2026-11-20T22:00:00Z/2026-11-21T02:00:00Z".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertCommand {
    Ack(AckArgs),
}

/// Say that somebody looks after an alert
#[derive(Debug, clap::Args)]
pub(crate) struct AckArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Id of the alert, or its beginning, from `dogwatch alerts -o json`
    pub(crate) id: String,
    /// For how long, at most 30days
    #[arg(long = "for", value_name = "DURATION", default_value = "4h", value_parser = duration)]
    pub(crate) duration: Duration,
    /// What is done
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) note: String,
    /// Take it back
    #[arg(long)]
    pub(crate) undo: bool,
}

/// Why an alert is as it is: each decision with its reason, and who was told
#[derive(Debug, clap::Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Id of the alert, or its beginning, from `dogwatch alerts -o json`
    pub(crate) id: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SilenceCommand {
    Add(Box<SilenceAddArgs>),
    /// Silences of documents and those made by hand
    List(Common),
    Expire(SilenceExpireArgs),
}

/// Make a silence; what is given must all fit
#[derive(Debug, clap::Args)]
pub(crate) struct SilenceAddArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// [default: one made from the time]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<SilenceName>,
    /// This host; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) agents: Vec<AgentId>,
    /// Hosts by an expression, such as labels.role == "web"
    #[arg(long, value_name = "CEL")]
    pub(crate) hosts: Option<String>,
    /// This check; may be repeated
    #[arg(long = "check", value_name = "NAME")]
    pub(crate) checks: Vec<CheckName>,
    /// This rule; may be repeated
    #[arg(long = "rule", value_name = "NAME")]
    pub(crate) rules: Vec<RuleName>,
    /// How long; with --cron, each time
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// From this moment on, such as 2026-11-21T22:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = timestamp::parse)]
    pub(crate) from: Option<u64>,
    /// Until this moment
    #[arg(long, value_name = "TIME", value_parser = timestamp::parse)]
    pub(crate) until: Option<u64>,
    /// Again and again: minute, hour, day, month, weekday
    #[arg(long, value_name = "CRON", requires = "duration")]
    pub(crate) cron: Option<String>,
    /// Time zone of --cron [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron")]
    pub(crate) timezone: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) comment: String,
}

/// End a silence that was made by hand
#[derive(Debug, clap::Args)]
pub(crate) struct SilenceExpireArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "NAME")]
    pub(crate) name: SilenceName,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Hold rules against series as they might come: exit code 0 all is as expected, 1 it is not
    Test {
        /// YAML file with the tests
        file: PathBuf,
    },
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

#[derive(Debug, Subcommand)]
pub(crate) enum NotificationsCommand {
    /// What waits to be delivered, and what was given up and why; the oldest first
    List(NotificationsArgs),
    /// Send again what was given up, and what followed it
    Retry(LettersArgs),
    /// Try no more, and keep no letter
    Drop(LettersArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct NotificationsArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only those to this receiver
    #[arg(long, value_name = "NAME")]
    pub(crate) receiver: Option<ReceiverName>,
    /// Only these: waiting or gave_up
    #[arg(long, value_name = "STATE", value_parser = ["waiting", "gave_up"])]
    pub(crate) state: Option<String>,
}

#[derive(Debug, clap::Args)]
#[group(id = "letters", required = true, multiple = false)]
pub(crate) struct LettersArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// From `dogwatch notifications list`
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All of this receiver that were given up
    #[arg(long, value_name = "NAME")]
    pub(crate) receiver: Option<ReceiverName>,
    /// All that were given up
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiverCommand {
    /// Send it a test: shows the request, with stars for secrets, and the answer
    ///
    /// Exit code 0: it accepted the test; 1: it did not. A receiver that was disabled is in use again when it accepts.
    Test {
        #[arg(value_name = "NAME")]
        name: ReceiverName,
        #[command(flatten)]
        common: Common,
    },
}
