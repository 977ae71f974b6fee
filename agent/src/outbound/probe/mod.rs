//! Looking at the host: commands, built-in readings, facts.

pub mod builtin;
pub mod command;
pub mod facts;
mod host;
pub mod net;
pub mod own_facts;
mod sweep;

use std::{path::PathBuf, time::Duration};

use protocol::{CheckName, result::Usage};
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use self::command::{Commands, Outcome, What};
use crate::{
    core::{
        builtin::{Read, judge},
        check::{Check, Work},
        output::{self, Finding},
    },
    outbound::live::Live,
};

/// A run that came to its end.
#[derive(Debug)]
pub struct Ran {
    pub finding: Finding,
    pub timed_out: bool,
    pub usage: Option<Usage>,
    /// To be [kept](Keep::keep) once the result is safe.
    pub keep: Option<Keep>,
}

/// What the next run of a built-in check has to know of this one.
#[derive(Debug)]
pub struct Keep {
    builtins: builtin::Builtins,
    check: CheckName,
    text: String,
}

impl Keep {
    /// # Errors
    /// When it is kept until the agent ends and no longer, and why.
    pub async fn keep(self) -> Result<(), String> {
        self.builtins.remember(&self.check, self.text).await
    }
}

/// Runs checks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Prober {
    builtins: builtin::Builtins,
    commands: Commands,
    network: net::Network,
}

fn too_slow(timeout: Duration) -> String {
    format!("timed out after {}", protocol::duration::format(timeout))
}

impl Prober {
    /// With these commands instead of those that suit most hosts.
    #[must_use]
    pub fn with_commands(commands: Commands) -> Self {
        Self { commands, ..Self::default() }
    }

    /// Built-in checks that remember do so in `folder`.
    #[must_use]
    pub fn remembering_in(folder: PathBuf) -> Self {
        Self { builtins: builtin::Builtins::remembering_in(folder), ..Self::default() }
    }

    /// The same for one run, of whose output somebody is told as it comes.
    #[must_use]
    pub fn watched(&self, live: Option<Live>) -> Self {
        let mut watched = self.clone();
        watched.commands.live = live;
        watched
    }

    /// Run `check` once. `None` when it was cancelled; what it had started is gone then.
    pub async fn run(&self, check: &Check, cancel: &CancellationToken) -> Option<Ran> {
        self.run_in(check, cancel, &mut None).await
    }

    /// The same in a place among the checks that run at once, which it gives back as soon as it only waits.
    pub async fn run_in(
        &self,
        check: &Check,
        cancel: &CancellationToken,
        place: &mut Option<SemaphorePermit<'_>>,
    ) -> Option<Ran> {
        let timeout = Duration::from_millis(check.timeout_ms);
        let finding = match &check.work {
            Work::Impossible(reason) => Finding::unknown(reason.clone()),
            // What commands and the network need is boxed: it would make every run large.
            Work::Builtin(builtin, options) => {
                let reading = async {
                    if let Read::Net(net) = builtin.read {
                        return Box::pin(self.network.read(net, options, timeout)).await;
                    }
                    let reading = self.builtins.read(check, builtin, options, place);
                    let reading = tokio::time::timeout(timeout, reading).await;
                    let timed_out = reading.is_err();
                    (reading.unwrap_or_else(|_| Err(too_slow(timeout))), timed_out)
                };
                let (mut reading, timed_out) = tokio::select! {
                    reading = reading => reading,
                    () = cancel.cancelled() => return None,
                };
                let remember = reading.as_mut().ok().and_then(|measured| measured.remember.take());
                let (builtins, name) = (self.builtins.clone(), check.name.clone());
                let keep = remember.map(|text| Keep { builtins, check: name, text });
                return Some(Ran { finding: judge(builtin, check, reading), timed_out, usage: None, keep });
            }
            Work::Command(command) => {
                return Box::pin(self.command(What::Shell(command), check, timeout, cancel)).await;
            }
            Work::Exec(words) => {
                return Box::pin(self.command(What::Program(words), check, timeout, cancel)).await;
            }
        };
        Some(Ran { finding, timed_out: false, usage: None, keep: None })
    }

    async fn command(
        &self,
        what: What<'_>,
        check: &Check,
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Option<Ran> {
        let (finding, usage) = match self.commands.run(what, &check.run, timeout, cancel).await {
            Outcome::Ended(printed, usage) => (output::understand(check, &printed), Some(usage)),
            Outcome::Failed(finding, usage) => (finding, Some(usage)),
            Outcome::TimedOut(said, usage) => {
                let reason = if said.is_empty() {
                    too_slow(timeout)
                } else {
                    format!("{}: {said}", too_slow(timeout))
                };
                return Some(Ran { finding: Finding::unknown(reason), timed_out: true, usage, keep: None });
            }
            Outcome::Cancelled => return None,
            Outcome::Refused(reason) => (Finding::unknown(reason), None),
        };
        Some(Ran { finding, timed_out: false, usage, keep: None })
    }
}
