//! Looking at the host: commands, built-in readings, facts.

pub mod builtin;
pub mod command;
pub mod facts;

use std::time::Duration;

use protocol::result::Usage;
use tokio_util::sync::CancellationToken;

use self::command::{Commands, Outcome, What};
use crate::core::{
    builtin::judge,
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
    commands: Commands,
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

    /// Run `check` once. `None` when it was cancelled; what it had started is gone then.
    pub async fn run(&self, check: &Check, cancel: &CancellationToken) -> Option<Ran> {
        let timeout = Duration::from_millis(check.timeout_ms);
        let finding = match &check.work {
            Work::Impossible(reason) => Finding::unknown(reason.clone()),
            Work::Builtin(builtin, options) => {
                let reading = tokio::select! {
                    reading = tokio::time::timeout(timeout, self.builtins.read(builtin, options)) => reading,
                    () = cancel.cancelled() => return None,
                };
                let timed_out = reading.is_err();
                let reading = reading.unwrap_or_else(|_| Err(too_slow(timeout)));
                return Some(Ran { finding: judge(builtin, check, reading), timed_out, usage: None });
            }
            Work::Command(command) => {
                return self.command(What::Shell(command), check, timeout, cancel).await;
            }
            Work::Exec(words) => return self.command(What::Program(words), check, timeout, cancel).await,
        };
        Some(Ran { finding, timed_out: false, usage: None })
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
                return Some(Ran { finding: Finding::unknown(reason), timed_out: true, usage });
            }
            Outcome::Cancelled => return None,
            Outcome::Refused(reason) => (Finding::unknown(reason), None),
        };
        Some(Ran { finding, timed_out: false, usage })
    }
}
