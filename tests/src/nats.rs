//! A NATS server with JetStream of a test's own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{eventually, free_address};

/// A running `nats-server`, killed on drop. It keeps its port and storage over [`NatsServer::restart`].
pub struct NatsServer {
    port: u16,
    folder: TempDir,
    config: String,
    child: Option<Child>,
}

impl NatsServer {
    /// Start one without sign-in.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Start one with further lines of configuration, such as an `authorization` block.
    pub async fn start_with(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for nats-server");
        let port = free_address().port();
        let mut server = Self { port, folder, config: config.to_owned(), child: None };
        server.restart().await;
        server
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `None` while it is killed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// A client that signs in as nobody.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.expect("connect to the test's nats-server")
    }

    /// SIGKILL. Its storage stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill nats-server");
            child.wait().expect("wait for nats-server");
        }
    }

    /// Kill it and forget all it stored.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("store")).expect("wipe the storage");
    }

    /// Start it (again) on the same port and storage, and wait until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        let path = self.folder.path();
        let file = path.join("nats.conf");
        let text = format!(
            "listen: \"127.0.0.1:{}\"\nmax_payload: 4MB\njetstream {{ store_dir: {:?}, max_file_store: 64GB }}\n{}\n",
            self.port,
            path.join("store"),
            self.config
        );
        std::fs::write(&file, text).expect("write nats.conf");
        let log = std::fs::File::create(path.join("log")).expect("create the log");
        let child = Command::new(binary())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start nats-server");
        self.child = Some(child);
        let port = self.port;
        let log = path.join("log");
        eventually("nats-server answers", Duration::from_secs(20), || {
            let log = log.clone();
            async move {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                if !text.contains("Server is ready") {
                    return Err(text);
                }
                tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
        })
        .await;
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The `nats-server` to use: `DOGWATCH_NATS_SERVER`, the one that `cargo xtask` fetched, or the one on PATH.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DOGWATCH_NATS_SERVER") {
        return path.into();
    }
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/nats/bin/nats-server");
    if fetched.is_file() {
        return fetched;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .find(|file| file.is_file())
        .expect("no nats-server: run the tests by `cargo xtask test`, which fetches it")
}
