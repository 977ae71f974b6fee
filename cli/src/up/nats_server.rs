//! The NATS server as a child process: found, checked, started, watched, stopped.
//!
//! It has a process group of its own, so that Ctrl-C reaches only us and it stops last. When `up` is killed outright,
//! it lives on; the next `up` on the same folder finds it by its pid file and stops it, since two servers on one
//! storage would destroy it.

use std::{
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use service_kit::Backoff;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const OLDEST: (u32, u32) = (2, 11);
const PROGRAM: &str = "nats-server";
/// Longest recovery of large streams that is waited for.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_millis(2_500);
/// After so many ends without a minute's run in between, something is wrong that another start does not heal.
const RESTARTS: u32 = 10;
const SETTLED: Duration = Duration::from_secs(60);
/// How often its health is asked for, and how often in a row it must be bad.
const HEALTH_EVERY: Duration = Duration::from_secs(5);
const SICK_AFTER: u32 = 2;
/// Bytes free on the disk without which another start would not help.
const ROOM: u64 = 32 * 1024 * 1024;
const REMEDY: &str = "install NATS 2.11 or newer (https://nats.io), name one with --nats-server FILE, or start by \
                      `cargo xtask up`, which fetches it";

/// The process that a second Ctrl-C takes with it. 0: none.
#[derive(Debug, Clone, Default)]
pub(crate) struct PidCell(Arc<AtomicI32>);

impl PidCell {
    pub(crate) fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.0.load(Ordering::SeqCst)) {
            // It may have ended by itself.
            let _gone = kill_process(pid, Signal::KILL);
        }
    }

    fn set(&self, child: Option<&Child>) {
        let pid = child.and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
        self.0.store(pid.unwrap_or(0), Ordering::SeqCst);
    }
}

/// The server to run: the one named, or the one on PATH.
///
/// # Errors
/// When there is none, or it is too old.
pub(crate) fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|folder| folder.join(PROGRAM))
            .find(|file| file.is_file())
            .with_context(|| format!("no nats-server on PATH: {REMEDY}"))?,
    };
    let output = std::process::Command::new(&path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}: {REMEDY}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match version(&text) {
        Some(found) if found >= OLDEST => Ok(path),
        Some((major, minor)) => {
            anyhow::bail!("{} is version {major}.{minor}, which is too old: {REMEDY}", path.display())
        }
        None => anyhow::bail!("{} does not say that it is a nats-server: {REMEDY}", path.display()),
    }
}

/// Of `nats-server: v2.11.3`.
fn version(text: &str) -> Option<(u32, u32)> {
    let (_, version) = text.trim().split_once("nats-server: v")?;
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Stop the server that an `up` on this folder left behind when it was killed. We hold the folder's lock, so no other
/// `up` can be using it.
///
/// # Errors
/// When it does not end.
pub(crate) async fn stop_leftover(folder: &Path) -> anyhow::Result<()> {
    let pid = fs::read_to_string(pid_file(folder)).ok().and_then(|text| text.trim().parse().ok());
    let Some(pid) = pid.and_then(Pid::from_raw) else { return Ok(()) };
    // The pid may belong to something else by now.
    if !runs_on(pid, &folder.join("nats.conf")) {
        return Ok(());
    }
    tracing::warn!(
        pid = pid.as_raw_nonzero().get(),
        "stopping the nats-server that an earlier run left behind"
    );
    for (signal, limit) in [(Signal::TERM, Duration::from_secs(10)), (Signal::KILL, Duration::from_secs(2))] {
        let _gone = kill_process(pid, signal);
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if test_kill_process(pid).is_err() || !runs_on(pid, &folder.join("nats.conf")) {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    anyhow::bail!(
        "a nats-server of an earlier run (pid {}) does not end: end it by hand",
        pid.as_raw_nonzero()
    )
}

/// Whether the process was started with this file as an argument.
fn runs_on(pid: Pid, config: &Path) -> bool {
    let pid = pid.as_raw_nonzero().get().to_string();
    let config = config.as_os_str().as_encoded_bytes();
    match fs::read(Path::new("/proc").join(&pid).join("cmdline")) {
        Ok(line) => line.split(|byte| *byte == 0).any(|argument| argument == config),
        Err(_) if Path::new("/proc/self").exists() => false,
        // Systems without /proc.
        Err(_) => std::process::Command::new("ps")
            .args(["-ww", "-o", "args=", "-p", &pid])
            .output()
            .is_ok_and(|output| output.stdout.windows(config.len().max(1)).any(|part| part == config)),
    }
}

fn pid_file(folder: &Path) -> PathBuf {
    folder.join("nats.pid")
}

/// A running server. It is started again when it ends by itself.
pub(crate) struct NatsServer {
    stop: CancellationToken,
    failure: watch::Receiver<Option<String>>,
    watcher: JoinHandle<()>,
}

impl NatsServer {
    /// Start it on the `nats.conf` in `folder` and wait until it listens. Its health is asked for at `monitor`.
    ///
    /// # Errors
    /// When it ends at once, does not listen within two minutes, or `cancel` comes first.
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        (port, monitor): (u16, SocketAddr),
        pid: PidCell,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let launch = Launch { program: program.to_owned(), folder: folder.to_owned(), port, monitor, pid };
        let mut child = launch.spawn()?;
        let listening = tokio::select! {
            listening = launch.listening(&mut child) => listening,
            () = cancel.cancelled() => Err(anyhow::anyhow!("stopped while the nats-server was starting")),
        };
        if let Err(error) = listening {
            launch.end(&mut child).await;
            return Err(error);
        }
        let stop = CancellationToken::new();
        let (sender, failure) = watch::channel(None);
        let watcher = tokio::spawn(launch.watch(child, stop.clone(), sender));
        Ok(Self { stop, failure, watcher })
    }

    /// Resolves when it cannot be kept running.
    pub(crate) async fn failed(&mut self) -> String {
        match self.failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "nobody watches the nats-server any more".to_owned(),
        }
    }

    /// Stop it, in order if it does so in time.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.watcher.await {
            tracing::error!(%error, "the nats-server may still run");
        }
    }
}

struct Launch {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    monitor: SocketAddr,
    pid: PidCell,
}

impl Launch {
    fn spawn(&self) -> anyhow::Result<Child> {
        let errors = self.folder.join("nats-server.err");
        let errors =
            fs::File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?;
        let arguments: [OsString; 4] =
            ["-c".into(), self.folder.join("nats.conf").into(), "-P".into(), pid_file(&self.folder).into()];
        let child = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}: {REMEDY}", self.program.display()))?;
        self.pid.set(Some(&child));
        Ok(child)
    }

    /// Wait until it takes connections.
    async fn listening(&self, child: &mut Child) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!(self.last_words(status));
            }
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!(
            "the nats-server does not listen on port {} after {START:?}: {}",
            self.port,
            self.log_hint()
        )
    }

    async fn watch(self, mut child: Child, stop: CancellationToken, failure: watch::Sender<Option<String>>) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let (mut started, mut restarts) = (Instant::now(), 0);
        loop {
            let reason = tokio::select! {
                ended = child.wait() => match ended {
                    Ok(status) => self.last_words(status),
                    Err(error) => error.to_string(),
                },
                reason = self.sick() => {
                    self.end(&mut child).await;
                    reason
                }
                () = stop.cancelled() => return self.end(&mut child).await,
            };
            self.pid.set(None);
            if started.elapsed() > SETTLED {
                backoff.reset();
                restarts = 0;
            }
            restarts += 1;
            if restarts > RESTARTS {
                failure.send_replace(Some(reason));
                return;
            }
            tracing::error!(reason, "the nats-server is started again");
            tokio::select! {
                () = sleep(backoff.next_delay()) => {}
                () = stop.cancelled() => return,
            }
            started = Instant::now();
            match self.spawn() {
                Ok(next) => child = next,
                Err(error) => {
                    failure.send_replace(Some(format!("{error:#}")));
                    return;
                }
            }
        }
    }

    /// Resolves with the reason when it lives and does not work, although it did, and another start may help. After a
    /// full disk nats-server refuses every write to the stream that met it, until it is started again.
    async fn sick(&self) -> String {
        let client = reqwest::Client::builder().no_proxy().timeout(HEALTH_EVERY).build();
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(
                    error = service_kit::report(&error),
                    "the nats-server's health is not watched"
                );
                return std::future::pending().await;
            }
        };
        let url = format!("http://{}/healthz", self.monitor);
        let (mut was_well, mut sick) = (false, 0);
        loop {
            // Soon after the start, to have seen it well before anything can happen to it.
            sleep(if was_well { HEALTH_EVERY } else { HEALTH_EVERY / 50 }).await;
            // No answer is not a bad one: it may be slow, or about to end by itself.
            let Ok(answer) = client.get(&url).send().await else { continue };
            if answer.status().is_success() {
                (was_well, sick) = (true, 0);
                continue;
            }
            let reason = answer.text().await.unwrap_or_default();
            sick += 1;
            let room =
                rustix::fs::statvfs(&self.folder).is_ok_and(|disk| disk.f_bavail * disk.f_frsize > ROOM);
            if was_well && sick >= SICK_AFTER && room {
                return reason.trim().to_owned();
            }
        }
    }

    async fn end(&self, child: &mut Child) {
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            let _gone = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(STOP, child.wait()).await.is_err() {
            tracing::warn!("the nats-server did not stop in time and was killed");
            if let Err(error) = child.kill().await {
                tracing::error!(%error, "the nats-server could not be killed");
            }
        }
        self.pid.set(None);
        let pid_file = pid_file(&self.folder);
        match fs::remove_file(&pid_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot remove {}", pid_file.display());
            }
            _ => {}
        }
    }

    /// Why it ended, in its own words where it left any.
    fn last_words(&self, status: ExitStatus) -> String {
        let words = ["nats-server.err", "nats-server.log"].iter().find_map(|name| {
            let text = fs::read(self.folder.join(name)).ok()?;
            let text = String::from_utf8_lossy(&text).into_owned();
            let fatal = |line: &&str| line.contains("[FTL]") || line.contains("[ERR]");
            let line = text.lines().rev().find(fatal).or_else(|| text.lines().next_back())?;
            Some(line.trim().to_owned())
        });
        let words = words.map(|words| format!(": {words}")).unwrap_or_default();
        format!("the nats-server ended with {status}{words}; {}", self.log_hint())
    }

    fn log_hint(&self) -> String {
        format!("its log is {}", self.folder.join("nats-server.log").display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        for (text, expected) in [
            ("nats-server: v2.15.1\n", Some((2, 15))),
            ("nats-server: v2.9.0-beta", Some((2, 9))),
            ("hello", None),
            ("nats-server: vx.y", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
        assert!((2, 9) < OLDEST && (2, 15) >= OLDEST && (3, 0) >= OLDEST);
    }

    #[test]
    fn another_process_is_not_taken_for_a_leftover() {
        let own = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw).unwrap();
        assert!(!runs_on(own, Path::new("/no/such/nats.conf")));
    }
}
