//! What is measured runs in a process of its own: the config-service, and a responder that only answers.

use std::{path::Path, process::Command, process::ExitCode};

use bytes::Bytes;
use clap::Parser;
use futures_util::StreamExt;

use crate::agent::proc::Running;

/// First arguments of the program for which it is one of them.
const SERVICE: &str = "__config_service";
const ECHO: &str = "__echo";

/// The subject of the bare responder.
pub(super) const ECHO_SUBJECT: &str = "bench.echo";

/// The config-service on `data`.
pub(super) fn service(url: &str, data: &Path) -> anyhow::Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([SERVICE, "--nats-url", url, "--log", "warn", "--data"]).arg(data);
    Running::start(&mut command, &data.with_extension("log"))
}

/// A responder that answers everything with `bytes` bytes.
pub(super) fn echo(url: &str, bytes: usize, log: &Path) -> anyhow::Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ECHO, url, &bytes.to_string()]);
    Running::start(&mut command, log)
}

/// `None`: the program is neither of them.
pub(crate) fn main(mut args: impl Iterator<Item = String>) -> Option<ExitCode> {
    match args.next()?.as_str() {
        SERVICE => {
            let args = std::iter::once("config-service".to_owned()).chain(args);
            let settings = config_service::Settings::try_parse_from(args).ok()?;
            Some(service_kit::process::main_with("config-service", settings, config_service::start))
        }
        ECHO => {
            let (url, bytes) = (args.next()?, args.next()?.parse().ok()?);
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().ok()?;
            let ended = runtime.block_on(answer(&url, bytes));
            Some(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ => None,
    }
}

async fn answer(url: &str, bytes: usize) -> anyhow::Result<()> {
    let client = async_nats::connect(url).await?;
    let body = Bytes::from(vec![b'x'; bytes]);
    let mut requests = client.queue_subscribe(ECHO_SUBJECT, "echo".to_owned()).await?;
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish(reply, body.clone()).await?;
        }
    }
    Ok(())
}
