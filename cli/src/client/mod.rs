//! The commands that ask a running dogwatch over HTTP.

mod access;
mod archive;
mod attend;
mod change;
mod explain;
mod export_results;
mod files;
mod follow;
mod history;
mod http;
mod keys;
mod library;
mod loss;
mod notifications;
mod query;
mod receiver;
mod rollout;
mod rule_test;
mod run;
mod show;
mod sign;

use std::io::{self, Write as _};

use crate::{
    Usage,
    args::{
        AlertCommand, AuditArgs, AuditCommand, ClientCommand, HostCommand, KeyCommand, ReceiverCommand,
        RuleCommand, SilenceCommand, TokenCommand,
    },
};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    All,
    /// `plan` found something to change.
    Pending,
}

/// # Errors
/// [`http::ClientError`], or [`crate::Usage`].
pub(crate) fn run(command: ClientCommand) -> anyhow::Result<Done> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            ClientCommand::Key(KeyCommand::Create(args)) => keys::create(args).await,
            ClientCommand::Key(KeyCommand::List(common)) => keys::list(&common).await,
            ClientCommand::Key(KeyCommand::Revoke { id, common }) => keys::revoke(&id, &common).await,
            ClientCommand::Keygen(args) => sign::keygen(&args),
            ClientCommand::Plan(args) => {
                // Exit code 2 says that changes are pending, so whatever is wrong must not end with it.
                return change::plan(&args)
                    .await
                    .map(|pending| if pending { Done::Pending } else { Done::All })
                    .map_err(|error| if error.is::<Usage>() { anyhow::anyhow!("{error}") } else { error });
            }
            ClientCommand::Apply(args) => change::apply(&args).await,
            ClientCommand::Rollback(args) => change::rollback(&args).await,
            ClientCommand::Rollout(command) => rollout::run(&command).await,
            ClientCommand::History(args) => history::history(&args).await,
            ClientCommand::Diff(args) => history::diff(&args).await,
            ClientCommand::Export(args) => history::export(&args).await,
            ClientCommand::ExportResults(args) => export_results::export(&args).await,
            ClientCommand::Explain(args) => explain::explain(&args).await,
            ClientCommand::Hosts(args) => show::hosts(&args).await,
            ClientCommand::Checks(common) => show::checks(&common).await,
            ClientCommand::Run(args) => run::run(&args).await,
            ClientCommand::Results(args) if args.follow => follow::results(&args).await,
            ClientCommand::Results(args) => show::results(&args).await,
            ClientCommand::Latest(args) => show::latest(&args).await,
            ClientCommand::Query(args) => query::query(&args).await,
            ClientCommand::Graph(args) => query::graph(&args).await,
            ClientCommand::Timeline(args) => query::timeline(&args).await,
            ClientCommand::Top(args) => query::top(&args).await,
            ClientCommand::Availability(args) => query::availability(&args).await,
            ClientCommand::Alerts(args) => show::alerts(&args).await,
            ClientCommand::Token(TokenCommand::Create(args)) => access::create_token(args).await,
            ClientCommand::Token(TokenCommand::List(common)) => access::list_tokens(&common).await,
            ClientCommand::Token(TokenCommand::Revoke { id, common }) => {
                access::revoke_token(&id, &common).await
            }
            ClientCommand::Host(HostCommand::Revoke { agent, common }) => {
                access::revoke_host(&agent, &common).await
            }
            ClientCommand::Host(HostCommand::Decommission(args)) => access::decommission(&args).await,
            ClientCommand::Backup(args) => archive::backup(&args).await,
            ClientCommand::Restore(args) => archive::restore(&args).await,
            ClientCommand::Audit(AuditArgs { command: Some(AuditCommand::Loss(args)), .. }) => {
                loss::loss(&args).await
            }
            ClientCommand::Audit(args) => access::audit(&args).await,
            ClientCommand::Alert(AlertCommand::Ack(args)) => attend::acknowledge(&args).await,
            ClientCommand::Why(args) => attend::why(&args).await,
            ClientCommand::Silence(SilenceCommand::Add(args)) => attend::add(&args).await,
            ClientCommand::Silence(SilenceCommand::List(common)) => attend::list(&common).await,
            ClientCommand::Silence(SilenceCommand::Expire(args)) => attend::expire(&args).await,
            ClientCommand::Notifications(command) => notifications::run(&command).await,
            ClientCommand::Receiver(ReceiverCommand::Test { name, common }) => {
                receiver::test(&name, &common).await
            }
            ClientCommand::Rule(RuleCommand::Test { file }) => rule_test::run(&file),
            ClientCommand::Library(command) => library::run(&command),
            ClientCommand::Schema => Ok(io::stdout().write_all(documents::SCHEMA.as_bytes())?),
            ClientCommand::Health { url } => http::health(&url).await,
        }
        .map(|()| Done::All)
    })
}
