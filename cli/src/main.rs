//! `dogwatch`: the whole pipeline as one command (`up`), and the commands that ask a running one over HTTP.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong use,
//! and for `plan` changes that are pending, where documents with errors are 1.
//!
//! Start reading at `args.rs` (what there is), then `up/mod.rs` or `client/mod.rs`.

mod args;
mod broker_setup;
mod client;
mod output;
mod signing;
mod up;

use std::{io, process::ExitCode};

use args::{Args, Command};
use client::Done;
use service_kit::settings;

/// Wrong use: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Done, and the answer is no: exit code 1, and everything is said already.
#[derive(Debug, thiserror::Error)]
#[error("not ok")]
pub(crate) struct NotOk;

fn main() -> ExitCode {
    let args: Args = settings::load();
    // Only a second call could fail.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let done = match args.command {
        Command::Up(args) => up::run(args).map(|()| Done::All),
        Command::InitBroker(args) => broker_setup::init(&args).map(|()| Done::All),
        Command::Store(command) => store(&command),
        Command::Client(command) => client::run(command),
    };
    match done {
        Ok(Done::All) => ExitCode::SUCCESS,
        Ok(Done::Pending) => ExitCode::from(2),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<NotOk>() => ExitCode::FAILURE,
        Err(error) => {
            output::note(&format!("dogwatch: {}", service_kit::report(error.as_ref())));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn store(command: &ingest::tool::StoreCommand) -> anyhow::Result<Done> {
    match ingest::tool::run(command, &mut io::stdout().lock(), &mut io::stderr())? {
        ingest::tool::Outcome::Well => Ok(Done::All),
        ingest::tool::Outcome::Damaged => Err(NotOk.into()),
    }
}

/// Whoever reads our output has seen enough (`dogwatch results | head`).
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
