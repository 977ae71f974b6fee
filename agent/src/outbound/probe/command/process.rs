//! A child process that is not collected before the last signal was sent to its group: as long as it is a zombie, its
//! number cannot become that of another process or group.

use std::{
    fs, io,
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use protocol::result::Usage;
use rustix::process::{self, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::{Interest, unix::AsyncFd};
use wait4::{ResUse, Wait4};

use super::family;

/// How often to look whether a process has ended, where the kernel has no pidfd (before Linux 5.3).
const POLL: Duration = Duration::from_millis(10);
/// By so much the kernel's two figures for this process may differ.
const SLACK: u64 = 1 << 20;

/// Killed on drop, with its whole group.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) pid: Pid,
    /// Until it is given back.
    run: Option<family::Run>,
    ended: Option<AsyncFd<OwnedFd>>,
    collected: bool,
    sampled: u64,
}

impl Process {
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(command: &mut Command, mut run: family::Run) -> io::Result<Self> {
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the kernel gave no process id"))?;
        run.started(pid);
        let ended = process::pidfd_open(pid, PidfdFlags::empty()).ok().and_then(readable);
        Ok(Self { child, pid, ended, collected: false, sampled: 0, run: Some(run) })
    }

    /// Wait until it has ended. May be dropped and called again.
    pub(super) async fn ended(&self) {
        if let Some(ended) = &self.ended
            && ended.readable().await.is_ok()
        {
            return;
        }
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while matches!(process::waitid(WaitId::Pid(self.pid), look), Ok(None)) {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Signal its whole group.
    pub(super) fn signal(&self, signal: Signal) {
        if process::kill_process_group(self.pid, signal).is_err() {
            // It may be about to make its group.
            let _gone = process::kill_process(self.pid, signal);
        }
    }

    /// Signal its group, and its descendants that left it.
    pub(super) async fn signal_all(&self, signal: Signal) {
        self.signal(signal);
        if let Some(run) = &self.run {
            let escaped = run.escaped();
            // A host has many processes.
            let _failed = tokio::task::spawn_blocking(move || escaped(signal)).await;
        }
    }

    /// Note how much memory it took so far.
    pub(super) fn sample(&mut self) {
        self.sampled = self.sampled.max(peak(&self.pid.as_raw_nonzero().to_string()));
    }

    /// Kill what is left of its group and collect it. `None` when it has not ended yet: it is collected later.
    pub(super) fn collect(mut self) -> (Option<(ExitStatus, Usage)>, Option<family::Run>) {
        self.signal(Signal::KILL);
        let ended = self.child.try_wait4().ok().flatten();
        if ended.is_some() {
            self.collected = true;
            self.run.iter_mut().for_each(family::Run::collected);
        }
        let ended = ended.map(|ResUse { status, rusage }| {
            let cpu_us = u64::try_from((rusage.utime + rusage.stime).as_micros()).unwrap_or(u64::MAX);
            // A child starts with the peak of its parent, from before it became another program: of a smaller one
            // the kernel says no more than that. One that ended before it was looked at took at most so much.
            let is_its_own = rusage.maxrss > own_peak(rusage.maxrss) + SLACK;
            let memory_bytes = if is_its_own || self.sampled == 0 { rusage.maxrss } else { self.sampled };
            (status, Usage { cpu_us, memory_bytes })
        });
        (ended, self.run.take())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.collected {
            self.signal(Signal::KILL);
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that may close their file; an OwnedFd does not"
)]
fn readable(pidfd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE).ok()
}

/// The most memory that this process ever had, looked up anew only when `seen` is more than was known.
fn own_peak(seen: u64) -> u64 {
    static OWN: AtomicU64 = AtomicU64::new(0);
    if seen > OWN.load(Ordering::Relaxed) + SLACK {
        OWN.fetch_max(peak("self"), Ordering::Relaxed);
    }
    OWN.load(Ordering::Relaxed)
}

/// Bytes; 0 when it cannot be told.
fn peak(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}
