//! One command or program of a check: started with its settings, watched, ended, and paid for.
//!
//! It runs in a process group of its own, and in a session of its own where the agent has a terminal. However it ends,
//! its group is killed and so is all that left the group (see [`family`]), before anybody is told what it found.

mod cgroup;
mod family;
mod launch;
mod limits;
mod output;
mod process;

use std::os::unix::process::ExitStatusExt;
use std::{
    process::ExitStatus,
    sync::{Arc, OnceLock},
    time::Duration,
};

use protocol::{result::Usage, work::RunSettings};
use rustix::process::Signal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::{
    cgroup::Delegated,
    family::{end_former, life},
    launch::What,
};
use self::{
    cgroup::{Cgroup, Cost},
    output::Pipes,
    process::Process,
};
use crate::{
    core::output::{Finding, Printed},
    outbound::live::Live,
};

/// Between TERM and KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long output may still come after the command itself has ended.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// How long a killed command may take to be gone; one stuck inside the kernel is left to be collected later.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// Most commands have ended by then. What they print waits in the pipes: watching those would cost more than reading
/// them once.
const SOON: Duration = Duration::from_millis(50);
/// How often to look how much memory a command takes.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub enum Outcome {
    Ended(Printed, Usage),
    /// A limit ended it, or it lacks a program.
    Failed(Finding, Usage),
    /// With what it had printed.
    TimedOut(String, Option<Usage>),
    Cancelled,
    /// It was not started, for this reason.
    Refused(String),
}

/// Runs commands. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Commands {
    cgroups: Arc<OnceLock<Option<Delegated>>>,
    /// Who watches the output.
    pub(super) live: Option<Live>,
}

impl Commands {
    /// Limit commands by cgroups in this one, instead of the one that systemd gave.
    #[must_use]
    pub fn with_cgroups(cgroups: Option<Delegated>) -> Self {
        Self { cgroups: Arc::new(OnceLock::from(cgroups)), live: None }
    }

    /// Run `what` to its end, for at most `timeout`, or until `cancel`. None of its processes is left then.
    pub async fn run(
        &self,
        what: What<'_>,
        run: &RunSettings,
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Outcome {
        let Started { mut process, mut pipes, cgroup } = match self.start(what, run) {
            Ok(started) => started,
            Err(reason) => return Outcome::Refused(reason),
        };
        let ended = tokio::select! {
            ended = watch(&mut process, &mut pipes, Instant::now() + timeout) => Some(ended),
            () = cancel.cancelled() => None,
        };
        let kill = |process: &Process| {
            process.signal(Signal::KILL);
            cgroup.as_ref().is_some_and(Cgroup::kill)
        };
        if ended == Some(true) {
            if !pipes.rest(PIPE_GRACE).await {
                kill(&process);
                pipes.rest(PIPE_GRACE / 5).await;
            }
        } else {
            process.signal_all(Signal::TERM).await;
            if !watch(&mut process, &mut pipes, Instant::now() + TERM_GRACE).await {
                kill(&process);
                watch(&mut process, &mut pipes, Instant::now() + KILL_GRACE).await;
            }
        }
        let (status, family) = process.collect();
        let cost = cgroup.as_ref().map(Cgroup::cost).unwrap_or_default();
        if let Some(cgroup) = cgroup {
            cgroup.end().await;
        }
        if let Some(family) = family {
            family.finish().await;
        }
        let status = status.map(|(status, usage)| (status, cost.of_all(usage)));
        match (ended, status) {
            (None, _) => Outcome::Cancelled,
            (Some(false), status) => Outcome::TimedOut(pipes.said(), status.map(|(_, usage)| usage)),
            (Some(true), Some((status, usage))) => found(run, &pipes, status, usage, &cost),
            (Some(true), None) => {
                Outcome::Refused("the command ended, and how was not to be seen".to_owned())
            }
        }
    }

    fn start(&self, what: What<'_>, run: &RunSettings) -> Result<Started, String> {
        let family = family::Run::begin();
        let mark = family.mark();
        let mut launch = launch::prepare(what, run, limits::needed(run), &mark)?;
        let limits = &run.limits;
        let cgroup = if limits.memory_bytes.is_some() || limits.processes.is_some() {
            let delegated = self.cgroups.get_or_init(Delegated::detect).as_ref();
            let made =
                delegated.map(|all| all.make(&mark, limits.memory_bytes, limits.processes)).transpose();
            made.map_err(|error| format!("a cgroup for the limits cannot be made: {error}"))?
        } else {
            None
        };
        let mut process = Process::start(&mut launch.command, family)
            .map_err(|error| launch::explain(&error, &launch.command))?;
        limits::no_core(process.pid);
        let mut text = Vec::new();
        if launch.gated {
            limits::set(process.pid, run, launch.uid, cgroup.as_ref())?;
            if let Some(cgroup) = &cgroup {
                cgroup.add(process.pid).map_err(|error| format!("its cgroup does not take it: {error}"))?;
            }
            text.push(b'\n');
        }
        text.extend(run.stdin.as_deref().unwrap_or_default().as_bytes());
        let most = usize::try_from(limits.output_bytes.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let pipes =
            Pipes::take(&mut process.child, text, most.min(protocol::limits::OUTPUT), self.live.as_ref())
                .map_err(|error| format!("its output cannot be read: {error}"))?;
        Ok(Started { process, pipes, cgroup })
    }
}

struct Started {
    process: Process,
    pipes: Pipes,
    cgroup: Option<Cgroup>,
}

/// Read until the command ends; `false` when `limit` comes first.
async fn watch(process: &mut Process, pipes: &mut Pipes, limit: Instant) -> bool {
    if pipes.can_wait() {
        let soon = limit.min(Instant::now() + SOON);
        if tokio::time::timeout_at(soon, process.ended()).await.is_ok() {
            return true;
        }
        process.sample();
    }
    let mut printed = false;
    loop {
        let reading = async {
            if !printed {
                // A command that prints has, as a rule, taken what it needs.
                return pipes.first().await;
            }
            pipes.drain().await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = process.ended() => return true,
            () = reading => printed = true,
            () = tokio::time::sleep_until(limit.min(Instant::now() + SAMPLE_EVERY)) => {
                if Instant::now() >= limit {
                    return false;
                }
            }
        }
        process.sample();
    }
}

fn found(run: &RunSettings, pipes: &Pipes, status: ExitStatus, usage: Usage, cost: &Cost) -> Outcome {
    let printed = Printed {
        stdout: pipes.stdout.text(),
        stderr: pipes.stderr.text(),
        exit_code: status.code(),
        signal: status.signal(),
    };
    match limits::ended_by(&run.limits, &printed, &pipes.said(), usage.cpu_us, cost) {
        Some(finding) => Outcome::Failed(finding, usage),
        None => Outcome::Ended(printed, usage),
    }
}
