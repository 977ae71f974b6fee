//! Documents and how they change.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use protocol::{AgentId, CheckName, rollout::Share, signed::PublicKey};
use service_kit::settings::duration;

use super::{Common, Format};

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
