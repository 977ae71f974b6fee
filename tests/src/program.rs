//! One of the programs of this workspace, as a real process.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::eventually;

/// A running program whose output is collected. Killed on drop.
pub struct Program {
    name: String,
    child: Child,
    stdout: Output,
    stderr: Output,
    gone: Option<Instant>,
}

/// How long the output of a program that ended is waited for: what it started may hold the pipes open.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Path of a program that `cargo build --workspace --bins` made, beside this test's own binary.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("path of the test binary");
    // target/debug/deps/test-… → target/debug
    let path = own.parent().and_then(|deps| deps.parent()).expect("target folder").join(name);
    assert!(path.is_file(), "{} is missing: run `cargo xtask test`, which builds it", path.display());
    path
}

/// A command for the program, with an environment that no setting of this machine leaks into.
#[must_use]
pub fn command(name: &str) -> Command {
    let mut command = Command::new(path(name));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("DOGWATCH_") {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::null());
    command
}

impl Program {
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, args: &[&str]) -> Self {
        let mut command = command(name);
        command.args(args);
        Self::spawn(name, command)
    }

    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(name: &str, mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start the program");
        let stdout = collect(child.stdout.take().expect("stdout"));
        let stderr = collect(child.stderr.take().expect("stderr"));
        Self { name: name.to_owned(), child, stdout, stderr, gone: None }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text.lock().expect("stdout").clone()
    }

    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text.lock().expect("stderr").clone()
    }

    /// Wait until stdout or stderr holds `text`; fails at once when the program ends without it.
    ///
    /// # Panics
    /// When it does not come within `limit`.
    pub async fn wait_for(&mut self, text: &str, limit: Duration) {
        let name = self.name.clone();
        eventually(&format!("{name} says {text:?}"), limit, || {
            let ended = self.exited();
            let all = format!("{}\n{}", self.stdout(), self.stderr());
            async move {
                if all.contains(text) {
                    return Ok(());
                }
                if let Some(status) = ended {
                    panic!("the program ended with {status} without saying {text:?}:\n{all}");
                }
                Err(all)
            }
        })
        .await;
    }

    /// SIGKILL, and wait.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Send a signal by its number (2 INT, 15 TERM, 19 STOP, 18 CONT).
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, number: i32) {
        let status = Command::new("kill").arg(format!("-{number}")).arg(self.pid().to_string()).status();
        assert!(status.expect("run kill").success(), "cannot signal {}", self.name);
    }

    /// Wait until it ends by itself.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("{name} ends"), limit, || {
            let status = self.exited();
            let stderr = self.stderr();
            async move { status.ok_or(stderr) }
        })
        .await
    }

    /// Its status, once all that it said has been read.
    fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("state of the program")?;
        let gone = self.gone.get_or_insert_with(Instant::now).elapsed();
        let read = self.stdout.reader.is_finished() && self.stderr.reader.is_finished();
        (read || gone > LAST_WORDS).then_some(status)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} stderr ---\n{}", self.name, self.stderr());
        }
    }
}

/// What a pipe brought up to now, read by a thread of its own until the pipe is closed.
struct Output {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

fn collect(pipe: impl Read + Send + 'static) -> Output {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&text);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut text = sink.lock().expect("output");
            text.push_str(&line);
            text.push('\n');
        }
    });
    Output { text, reader }
}
