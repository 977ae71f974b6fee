//! What a command prints, as far as it is kept, and what it is given to read.

use std::{io, process::Child, time::Duration};

use protocol::run::OutputStream;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{ChildStderr, ChildStdin, ChildStdout},
};

use crate::outbound::live::Live;

const BUFFER: usize = 8 * 1024;

/// The pipes to and from a command.
pub(super) struct Pipes {
    stdin: Option<ChildStdin>,
    text: Vec<u8>,
    written: usize,
    pub(super) stdout: Pipe<ChildStdout>,
    pub(super) stderr: Pipe<ChildStderr>,
}

impl Pipes {
    /// Take the pipes of `child`, to write `text` and keep `limit` bytes of each output, all of which `live` is
    /// told as it comes.
    ///
    /// # Errors
    /// When a pipe cannot be watched.
    pub(super) fn take(
        child: &mut Child,
        text: Vec<u8>,
        limit: usize,
        live: Option<&Live>,
    ) -> io::Result<Self> {
        let stdin = child.stdin.take().map(ChildStdin::from_std).transpose()?;
        let stdout = child.stdout.take().map(ChildStdout::from_std).transpose()?;
        let stderr = child.stderr.take().map(ChildStderr::from_std).transpose()?;
        let live = |stream| live.map(|live| (live.clone(), stream));
        let stdout = Pipe { live: live(OutputStream::Stdout), ..Pipe::new(stdout, limit) };
        let stderr = Pipe { live: live(OutputStream::Stderr), ..Pipe::new(stderr, limit) };
        Ok(Self { stdin, text, written: 0, stdout, stderr })
    }

    /// Wait until something was printed. May be dropped and called again, and never ends after the last output.
    pub(super) async fn first(&mut self) {
        let Self { stdin, text, written, stdout, stderr } = self;
        let reading = async {
            tokio::select! {
                () = stdout.some() => {}
                () = stderr.some() => {}
            }
        };
        tokio::select! {
            biased;
            () = reading => {}
            () = async { feed(stdin, text, written).await; std::future::pending::<()>().await } => {}
        }
    }

    /// Write what there is to write, and read both outputs to their end. May be dropped and called again.
    pub(super) async fn drain(&mut self) {
        let Self { stdin, text, written, stdout, stderr } = self;
        tokio::join!(feed(stdin, text, written), stdout.drain(), stderr.drain());
    }

    /// Read what is left; `false` when the pipes are still open after `limit`.
    pub(super) async fn rest(&mut self, limit: Duration) -> bool {
        // Nobody reads any more.
        self.stdin = None;
        let reading = async { tokio::join!(self.stdout.drain(), self.stderr.drain()) };
        tokio::time::timeout(limit, reading).await.is_ok()
    }

    pub(super) fn said(&self) -> String {
        let both = [self.stdout.text(), self.stderr.text()];
        both.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

/// A command that does not read all of it is no error.
async fn feed(stdin: &mut Option<ChildStdin>, text: &[u8], written: &mut usize) {
    while let Some(pipe) = stdin {
        match text.get(*written..) {
            Some(rest @ [_, ..]) => match pipe.write(rest).await {
                Ok(length @ 1..) => *written += length,
                Ok(0) | Err(_) => *stdin = None,
            },
            _ => *stdin = None,
        }
    }
}

/// One output of the command: its beginning is kept, the rest is read and thrown away, since a full pipe would block
/// the command.
pub(super) struct Pipe<R> {
    source: Option<R>,
    kept: Vec<u8>,
    limit: usize,
    cut: bool,
    /// Who watches it, and as what.
    live: Option<(Live, OutputStream)>,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(source: Option<R>, limit: usize) -> Self {
        Self { source, kept: Vec::new(), limit, cut: false, live: None }
    }

    /// Read to the end. May be dropped and called again.
    async fn drain(&mut self) {
        let mut buffer = vec![0; BUFFER];
        while self.source.is_some() {
            self.read(&mut buffer).await;
        }
    }

    /// Read something, if anything comes.
    async fn some(&mut self) {
        let mut buffer = vec![0; BUFFER];
        while self.source.is_some() {
            if self.read(&mut buffer).await {
                return;
            }
        }
        std::future::pending().await
    }

    async fn read(&mut self, buffer: &mut [u8]) -> bool {
        let Some(source) = &mut self.source else { return false };
        match source.read(buffer).await {
            Ok(length @ 1..) => {
                let room = self.limit.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(buffer.get(..length.min(room)).unwrap_or_default());
                self.cut |= length > room;
                if let Some((live, stream)) = &self.live {
                    live.output(*stream, buffer.get(..length).unwrap_or_default());
                }
                true
            }
            Ok(0) | Err(_) => {
                self.source = None;
                false
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        // A terminal's control characters and NULs help nobody in an alert.
        let mut text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        if self.cut {
            text.push_str("\n[cut]");
        }
        text
    }
}
