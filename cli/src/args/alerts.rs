//! Alerts, silences, rules and whom they tell.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use protocol::{AgentId, CheckName, ReceiverName, RuleName, SilenceName, timestamp};
use service_kit::settings::duration;

use super::Common;

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
pub(crate) struct LettersArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// From `dogwatch notifications list`
    #[arg(value_name = "ID", required_unless_present_any = ["receiver", "all"])]
    pub(crate) ids: Vec<String>,
    /// All of this receiver that were given up
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    pub(crate) receiver: Option<ReceiverName>,
    /// All that were given up
    #[arg(long, conflicts_with_all = ["ids", "receiver"])]
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
