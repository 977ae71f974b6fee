//! Who resolves documents: this process, or a program beside it that is gone again when it has answered.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use crate::core::resolve::{Question, Resolved};

const PROGRAM: &str = "dogwatch-resolve";
/// Longest question and longest answer, in bytes.
pub const LIMIT: u64 = 64 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub enum Resolver {
    Here(fn(&Question) -> Resolved),
    Program(PathBuf),
}

impl Resolver {
    /// The program in the folder of this one.
    ///
    /// # Errors
    /// When the system does not tell where this program is.
    pub fn beside() -> std::io::Result<Self> {
        Ok(Self::Program(std::env::current_exe()?.with_file_name(PROGRAM)))
    }

    /// # Errors
    /// Why there is no answer.
    pub async fn resolve(&self, question: &Question) -> Result<Resolved, String> {
        let path = match self {
            _ if question.documents.is_empty() => return Ok(Resolved::new()),
            Self::Here(resolve) => return Ok(resolve(question)),
            Self::Program(path) => path,
        };
        let answer = tokio::time::timeout(TIMEOUT, ask(path, question)).await;
        let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        answer.map_err(|error| format!("{} gives no answer: {error}", path.display()))
    }
}

async fn ask(path: &PathBuf, question: &Question) -> std::io::Result<Resolved> {
    let mut child = Command::new(path)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    // It answers when it has heard all.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&serde_json::to_vec(question)?).await?;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LIMIT).read_to_end(&mut answer).await?;
    }
    let status = child.wait().await?;
    if !status.success() {
        return Err(std::io::Error::other(format!("it ended with {status}")));
    }
    Ok(serde_json::from_slice(&answer)?)
}
