//! The limit of running commands: a loop that spawns them and does nothing else.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{proc, stack::on_core};

/// First argument of the program for which it is this loop: it runs in a process of its own, which is small as an
/// agent is, and whose CPU time is its own.
pub(crate) const WORD: &str = "__bare";
/// As many at once as an agent runs unless told otherwise.
const AT_ONCE: usize = 16;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Commands a second.
    pub(crate) rate: f64,
    /// CPU time of one in milliseconds, the loop's share included.
    pub(crate) cpu_ms: f64,
}

/// What runs the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// A tokio loop, as an agent has to.
    Tokio,
    /// Nothing but starting them, one after the other, and waiting for their end: what the host itself takes for them.
    Alone,
}

const ALONE: &str = "alone";

/// Run the loop in a process of its own.
pub(crate) async fn run(
    how: How,
    core: Option<usize>,
    command: &str,
    window: Duration,
) -> anyhow::Result<Measured> {
    let program = std::env::current_exe()?;
    let mut loops = on_core(core, &program);
    loops.args([WORD, command, &window.as_secs_f64().to_string()]);
    if how == How::Alone {
        loops.arg(ALONE);
    }
    let output =
        Command::from(loops).kill_on_drop(true).output().await.context("cannot run the bare loop")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the bare loop failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).with_context(|| format!("the bare loop said {text:?}"))
}

/// The program that is nothing but the loop: `COMMAND SECONDS [alone]`.
pub(crate) fn main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let (command, seconds) = (args.next(), args.next().and_then(|text| text.parse().ok()));
    let (Some(command), Some(seconds)) = (command, seconds) else { return ExitCode::from(2) };
    let window = Duration::from_secs_f64(seconds);
    let measured = match args.next() {
        Some(word) if word == ALONE => measure_alone(&command, window),
        _ => measure(&command, window),
    };
    let said = measured.and_then(|measured| {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&measured)?)?;
        Ok(())
    });
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _lost = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(command: &str, window: Duration) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (pid, begun) = (std::process::id(), Instant::now());
    let before = proc::cpu(pid);
    let runs = runtime.block_on(async {
        let loops = (0..AT_ONCE).map(|_| async {
            let mut runs = 0_u32;
            while begun.elapsed() < window {
                once(command).await?;
                runs += 1;
            }
            anyhow::Ok(runs)
        });
        anyhow::Ok(futures_util::future::try_join_all(loops).await?.into_iter().sum::<u32>())
    })?;
    let (cpu, runs) = (proc::cpu(pid) - before, f64::from(runs));
    Ok(Measured { rate: runs / begun.elapsed().as_secs_f64(), cpu_ms: cpu * 1e3 / runs })
}

fn measure_alone(command: &str, window: Duration) -> anyhow::Result<Measured> {
    let (pid, begun) = (std::process::id(), Instant::now());
    let (before, mut runs) = (proc::cpu(pid), 0.0);
    while begun.elapsed() < window {
        // The whole path: else it would be looked for in each folder first.
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", command]).env_clear().process_group(0).stdin(Stdio::null());
        let output = shell.output()?;
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        runs += 1.0;
    }
    let cpu = proc::cpu(pid) - before;
    Ok(Measured { rate: runs / begun.elapsed().as_secs_f64(), cpu_ms: cpu * 1e3 / runs })
}

/// As an agent has to: with pipes, a process group of its own, and a timeout.
async fn once(command: &str) -> anyhow::Result<()> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = shell.process_group(0).kill_on_drop(true).spawn()?;
    let output = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await??;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(())
}

/// The core to hold what is measured to, and the others for what serves it.
pub(crate) struct Cores {
    pub(crate) one: usize,
    pub(crate) others: String,
    pub(crate) all: String,
}

/// `None` where `taskset` is missing or there is but one.
pub(crate) fn cores() -> Option<Cores> {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let pinned = std::process::Command::new("taskset").args(["-c", "0", "true"]).status();
    let cores = Cores { one: 0, others: format!("1-{last}"), all: format!("0-{last}") };
    (last > 0 && pinned.is_ok_and(|status| status.success())).then_some(cores)
}

/// Hold a running process to some cores.
pub(crate) fn hold(pid: u32, cores: &str) -> anyhow::Result<()> {
    let pid = pid.to_string();
    let mut taskset = std::process::Command::new("taskset");
    let status = taskset.args(["-a", "-c", "-p", cores, &pid]).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "taskset cannot hold process {pid} to cores {cores}");
    Ok(())
}
