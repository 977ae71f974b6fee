//! Looking at the host: commands, built-in readings, facts.

pub mod builtin;
pub mod command;
pub mod facts;
pub mod net;

use std::time::Duration;

use protocol::result::Usage;
use tokio_util::sync::CancellationToken;

use crate::core::{
    builtin::{Read, judge},
    check::{Check, Work},
    output::{self, Finding},
};

/// A run that came to its end.
#[derive(Debug)]
pub struct Ran {
    pub finding: Finding,
    pub timed_out: bool,
    pub usage: Option<Usage>,
}

/// Runs checks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Prober {
    builtins: builtin::Builtins,
    network: net::Network,
}

impl Prober {
    /// Run `check` once. `None` when it was cancelled; what it had started is gone then.
    pub async fn run(&self, check: &Check, cancel: &CancellationToken) -> Option<Ran> {
        let timeout = Duration::from_millis(check.timeout_ms);
        let too_slow = format!("timed out after {}", protocol::duration::format(timeout));
        let finding = match &check.work {
            Work::Impossible(reason) => Finding::unknown(reason.clone()),
            Work::Builtin(builtin, options) => {
                let reading = async {
                    if let Read::Net(net) = builtin.read {
                        return self.network.read(net, options, timeout).await;
                    }
                    let reading = tokio::time::timeout(timeout, self.builtins.read(builtin, options)).await;
                    let timed_out = reading.is_err();
                    (reading.unwrap_or(Err(too_slow)), timed_out)
                };
                let (reading, timed_out) = tokio::select! {
                    reading = reading => reading,
                    () = cancel.cancelled() => return None,
                };
                return Some(Ran { finding: judge(builtin, check, reading), timed_out, usage: None });
            }
            Work::Exec(_) => Finding::unknown("this agent cannot run programs without a shell yet"),
            Work::Command(command) => match command::run(command, timeout, cancel).await {
                Ok(command::Outcome::Ended(printed)) => output::understand(check, &printed),
                Ok(command::Outcome::TimedOut(said)) => {
                    let reason = if said.is_empty() { too_slow } else { format!("{too_slow}: {said}") };
                    return Some(Ran { finding: Finding::unknown(reason), timed_out: true, usage: None });
                }
                Ok(command::Outcome::Cancelled) => return None,
                Err(error) => Finding::unknown(format!("the command could not be started: {error}")),
            },
        };
        Some(Ran { finding, timed_out: false, usage: None })
    }
}
