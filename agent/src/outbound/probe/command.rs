//! One command of a check: `sh -c` in a process group of its own, with a time and an output limit.
//!
//! However it ends, its whole group is killed, so that nothing that it started in the background stays. A child that
//! left the group (`setsid`) cannot be found again; that it holds the output open delays the result by
//! [`PIPE_GRACE`] at most.

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, process::Stdio, time::Duration};

use protocol::limits;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::core::output::Printed;

/// Between TERM and KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long output may still come after the command itself has ended.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// How long a killed command may take to be gone; one stuck inside the kernel is left to be collected later.
const KILL_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub enum Outcome {
    Ended(Printed),
    /// With what it had printed.
    TimedOut(String),
    Cancelled,
}

/// Run `command` to its end, for at most `timeout`, or until `cancel`.
///
/// # Errors
/// When it cannot be started.
pub async fn run(command: &str, timeout: Duration, cancel: &CancellationToken) -> io::Result<Outcome> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir("/").env("LC_ALL", "C");
    for (variable, _) in std::env::vars_os() {
        // The agent's own settings are no business of a check.
        if variable.as_encoded_bytes().starts_with(b"DOGWATCH_") {
            shell.env_remove(variable);
        }
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.process_group(0).kill_on_drop(true).spawn()?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let mut output =
        Output { stdout: Pipe::new(child.stdout.take()), stderr: Pipe::new(child.stderr.take()) };

    let limit = Instant::now() + timeout;
    let ended = tokio::select! {
        status = output.while_waiting(&mut child, limit) => status,
        () = cancel.cancelled() => {
            group.end(&mut child, &mut output).await;
            return Ok(Outcome::Cancelled);
        }
    };
    let Some(status) = ended else {
        group.end(&mut child, &mut output).await;
        return Ok(Outcome::TimedOut(output.said()));
    };
    let status = status?;
    if !output.rest(PIPE_GRACE).await {
        group.signal(Signal::KILL);
        output.rest(PIPE_GRACE / 5).await;
    }
    Ok(Outcome::Ended(Printed {
        stdout: output.stdout.text(),
        stderr: output.stderr.text(),
        exit_code: status.code(),
        signal: status.signal(),
    }))
}

/// The process group of a command; killed on drop, so that no way out of here leaves a process behind.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may be gone already.
            let _gone = kill_process_group(group, signal);
        }
    }

    /// TERM, and KILL for what does not obey.
    async fn end(&self, child: &mut Child, output: &mut Output) {
        self.signal(Signal::TERM);
        let ended = output.while_waiting(child, Instant::now() + TERM_GRACE).await;
        self.signal(Signal::KILL);
        if ended.is_none() {
            output.while_waiting(child, Instant::now() + KILL_GRACE).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

struct Output {
    stdout: Pipe<tokio::process::ChildStdout>,
    stderr: Pipe<tokio::process::ChildStderr>,
}

impl Output {
    /// Read until the command ends; `None` when `limit` comes first.
    async fn while_waiting(&mut self, child: &mut Child, limit: Instant) -> Option<io::Result<ExitStatus>> {
        let reading = async {
            tokio::join!(self.stdout.drain(), self.stderr.drain());
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            status = child.wait() => Some(status),
            () = tokio::time::sleep_until(limit) => None,
            () = reading => None,
        }
    }

    /// Read what is left; `false` when the pipes are still open after `limit`.
    async fn rest(&mut self, limit: Duration) -> bool {
        let reading = async { tokio::join!(self.stdout.drain(), self.stderr.drain()) };
        tokio::time::timeout(limit, reading).await.is_ok()
    }

    fn said(&self) -> String {
        let both = [self.stdout.text(), self.stderr.text()];
        both.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

/// One output of the command: the first [`limits::OUTPUT`] bytes are kept, the rest is read and thrown away, since a
/// full pipe would block the command.
struct Pipe<R> {
    source: Option<R>,
    kept: Vec<u8>,
    cut: bool,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(source: Option<R>) -> Self {
        Self { source, kept: Vec::new(), cut: false }
    }

    /// Read to the end. May be dropped and called again.
    async fn drain(&mut self) {
        let mut buffer = vec![0; 8 * 1024];
        while let Some(source) = &mut self.source {
            match source.read(&mut buffer).await {
                Ok(length @ 1..) => {
                    let room = limits::OUTPUT.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(buffer.get(..length.min(room)).unwrap_or_default());
                    self.cut |= length > room;
                }
                Ok(0) | Err(_) => self.source = None,
            }
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        // A terminal's control characters and NULs help nobody in an alert.
        let mut text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        if self.cut {
            text.push_str("\n[cut]");
        }
        text
    }
}
