//! `dogwatch up` on free ports and a folder of its own, and the client commands that talk to it.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Program, eventually, free_address, program};

use crate::SOON;

pub(crate) struct Up {
    pub(crate) folder: TempDir,
    pub(crate) http: SocketAddr,
    pub(crate) submit: SocketAddr,
    pub(crate) nats: SocketAddr,
    pub(crate) program: Running,
}

/// A `dogwatch up` that takes its broker along when a test ends.
pub(crate) struct Running(Program);

impl std::ops::Deref for Running {
    type Target = Program;
    fn deref(&self) -> &Program {
        &self.0
    }
}

impl std::ops::DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.0
    }
}

impl Running {
    /// Process id of the broker that it runs, if it runs one now.
    pub(crate) fn broker(&self) -> Option<u32> {
        let parent = self.0.pid().to_string();
        let listing =
            Command::new("ps").args(["-o", "pid=,comm=", "--ppid", &parent]).output().expect("run ps");
        let listing = String::from_utf8(listing.stdout).expect("UTF-8");
        let line = listing.lines().find(|line| line.contains("nats-server"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.broker() {
            kill("-KILL", pid);
        }
    }
}

/// Send a signal to a process that must be there.
pub(crate) fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").arg(signal).arg(pid.to_string()).status().expect("run kill").success());
}

impl Up {
    /// Start on a fresh folder and wait for the `ready` line.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let addresses = [free_address(), free_address(), free_address()];
        Self::start_in(folder, addresses, args).await
    }

    async fn start_in(folder: TempDir, [http, submit, nats]: [SocketAddr; 3], args: &[&str]) -> Self {
        let program = spawn(folder.path(), [http, submit, nats], args);
        let mut up = Self { folder, http, submit, nats, program };
        up.program.wait_for("ready  http", SOON).await;
        up
    }

    /// Start again on the same folder and ports.
    pub(crate) async fn restart(self, args: &[&str]) -> Self {
        let Self { folder, http, submit, nats, program } = self;
        drop(program);
        Self::start_in(folder, [http, submit, nats], args).await
    }

    /// One SIGINT, as Ctrl-C sends it; the exit code and what was said on the way.
    pub(crate) async fn interrupt(&mut self) -> (Option<i32>, String) {
        self.program.signal(2);
        let status = self.program.ended(SOON).await;
        (status.code(), self.program.stderr())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    pub(crate) fn key_file(&self) -> String {
        self.folder.path().join("admin.key").to_string_lossy().into_owned()
    }

    pub(crate) fn signing_key(&self) -> String {
        self.folder.path().join("signing.key").to_string_lossy().into_owned()
    }

    /// Run a client command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = program::command("dogwatch");
        command.args(args).env("DOGWATCH_SERVER", self.url()).env("DOGWATCH_KEY_FILE", self.key_file());
        command.env("DOGWATCH_SIGNING_KEY_FILE", self.signing_key());
        command.output().expect("run dogwatch")
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn output(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "dogwatch {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The rows of a command, one JSON object per line; what it said where it failed.
    pub(crate) fn try_rows(&self, args: &[&str]) -> Result<Vec<Value>, String> {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        let output = self.run(&all);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        Ok(text.lines().map(|line| serde_json::from_str(line).expect("a JSON object per line")).collect())
    }

    /// The rows of a command that must succeed.
    pub(crate) fn rows(&self, args: &[&str]) -> Vec<Value> {
        self.try_rows(args).unwrap_or_else(|said| panic!("dogwatch {args:?}: {said}"))
    }

    /// Write documents to a file and apply it.
    pub(crate) fn apply(&self, documents: &str) {
        let file = self.folder.path().join("documents.yaml");
        std::fs::write(&file, documents).expect("write documents");
        self.output(&["apply", &file.to_string_lossy(), "--yes"]);
    }

    /// Wait until a row of the command satisfies `wanted`.
    pub(crate) async fn row(&self, what: &str, args: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, SOON, || async {
            let rows = self.try_rows(args)?;
            let found = rows.iter().find(|row| wanted(row)).cloned();
            found.ok_or_else(|| format!("{rows:#?}"))
        })
        .await
    }
}

/// `dogwatch up`, not waited for.
pub(crate) fn spawn(folder: &Path, [http, submit, nats]: [SocketAddr; 3], args: &[&str]) -> Running {
    let mut command = program::command("dogwatch");
    command.arg("up").arg("--data").arg(folder);
    command.args(["--http", &http.to_string(), "--submit", &submit.to_string()]);
    command.args(["--nats-port", &nats.port().to_string()]);
    command.arg("--nats-server").arg(testkit::nats::binary());
    command.args(args);
    Running(Program::spawn("dogwatch up", command))
}
