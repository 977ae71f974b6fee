//! The commands that ask a running dogwatch over HTTP.

mod apply;
mod files;
mod http;
mod keys;
mod show;

use crate::args::{AuditCommand, ClientCommand, KeyCommand};

/// # Errors
/// [`http::ClientError`], or [`crate::Usage`].
pub(crate) fn run(command: ClientCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            ClientCommand::Key(KeyCommand::Create(args)) => keys::create(args).await,
            ClientCommand::Key(KeyCommand::List(common)) => keys::list(&common).await,
            ClientCommand::Key(KeyCommand::Revoke { id, common }) => keys::revoke(&id, &common).await,
            ClientCommand::Apply(args) => apply::apply(&args).await,
            ClientCommand::Hosts(args) => show::hosts(&args).await,
            ClientCommand::Checks(common) => show::checks(&common).await,
            ClientCommand::Results(args) => show::results(&args).await,
            ClientCommand::Alerts(args) => show::alerts(&args).await,
            ClientCommand::Audit(AuditCommand::Loss(common)) => show::loss(&common).await,
            ClientCommand::Health { url } => http::health(&url).await,
        }
    })
}
