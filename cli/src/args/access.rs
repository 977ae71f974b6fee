//! Who may do what, who did what, and moving an installation.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use protocol::{AgentId, admin::Role};
use service_kit::settings::duration;

use super::{Common, pair};

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
