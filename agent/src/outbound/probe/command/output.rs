//! What a command prints, as far as it is kept, and what it is given to read.
//!
//! Most commands end soon, and what they print fits into the pipes: it is read when they have ended, all at once. Only
//! the pipes of one that takes its time are watched.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::fd::OwnedFd,
    process::Child,
    time::Duration,
};

use protocol::run::OutputStream;
use rustix::io::ioctl_fionbio;
use tokio::{io::AsyncWriteExt, net::unix::pipe::Receiver, process::ChildStdin, task::coop::consume_budget};

use crate::outbound::live::Live;

const BUFFER: usize = 8 * 1024;
/// So many of it are more than a pipe holds.
const READS: usize = 16;

/// The pipes to and from a command.
pub(super) struct Pipes {
    stdin: Option<ChildStdin>,
    text: Vec<u8>,
    written: usize,
    pub(super) stdout: Pipe,
    pub(super) stderr: Pipe,
}

impl Pipes {
    /// Take the pipes of `child`, to write `text` and keep `limit` bytes of each output, all of which `live` is
    /// told as it comes.
    ///
    /// # Errors
    /// When a pipe cannot be used.
    pub(super) fn take(
        child: &mut Child,
        text: Vec<u8>,
        limit: usize,
        live: Option<&Live>,
    ) -> io::Result<Self> {
        let stdin = child.stdin.take().map(ChildStdin::from_std).transpose()?;
        let live = |stream| live.map(|live| (live.clone(), stream));
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        let stdout = Pipe::new(stdout, limit, live(OutputStream::Stdout))?;
        let stderr = Pipe::new(stderr, limit, live(OutputStream::Stderr))?;
        Ok(Self { stdin, text, written: 0, stdout, stderr })
    }

    /// Whether they can wait: the command is given nothing to read, and nobody looks at what it prints.
    pub(super) fn can_wait(&self) -> bool {
        let unread = |pipe: &Pipe| matches!(pipe.source, Source::AtHand(_)) && pipe.live.is_none();
        self.stdin.is_none() && unread(&self.stdout) && unread(&self.stderr)
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
        if self.stdout.at_hand() & self.stderr.at_hand() {
            return true;
        }
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
pub(super) struct Pipe {
    source: Source,
    kept: Vec<u8>,
    limit: usize,
    cut: bool,
    /// Who watches it, and as what.
    live: Option<(Live, OutputStream)>,
}

enum Source {
    /// Reading it never waits.
    AtHand(File),
    Watched(Receiver),
    Ended,
}

impl Pipe {
    fn new(source: Option<OwnedFd>, limit: usize, live: Option<(Live, OutputStream)>) -> io::Result<Self> {
        let source = match source {
            Some(source) => {
                ioctl_fionbio(&source, true)?;
                Source::AtHand(source.into())
            }
            None => Source::Ended,
        };
        Ok(Self { source, kept: Vec::new(), limit, cut: false, live })
    }

    fn is_open(&self) -> bool {
        !matches!(self.source, Source::Ended)
    }

    fn watch(&mut self) {
        if let Source::AtHand(file) = std::mem::replace(&mut self.source, Source::Ended) {
            match Receiver::from_owned_fd(file.into()) {
                Ok(receiver) => self.source = Source::Watched(receiver),
                Err(error) => self.kept.extend(format!("[cannot be read: {error}]").bytes()),
            }
        }
    }

    /// Read what there is without waiting; whether that was all.
    fn at_hand(&mut self) -> bool {
        let mut buffer = [0; BUFFER];
        for _ in 0..READS {
            let Source::AtHand(file) = &mut self.source else { break };
            match file.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => {
                    self.take(read, &buffer);
                }
            }
        }
        !self.is_open()
    }

    /// Read to the end. May be dropped and called again.
    async fn drain(&mut self) {
        while self.is_open() {
            self.read().await;
        }
    }

    /// Read something, if anything comes.
    async fn some(&mut self) {
        while self.is_open() {
            if self.read().await {
                return;
            }
        }
        std::future::pending().await
    }

    async fn read(&mut self) -> bool {
        match &mut self.source {
            Source::Ended => false,
            Source::AtHand(_) => {
                self.watch();
                false
            }
            Source::Watched(receiver) => {
                // Who prints without end does not keep all others waiting.
                consume_budget().await;
                let ready = receiver.readable().await;
                let mut buffer = [0; BUFFER];
                match ready.and_then(|()| receiver.try_read(&mut buffer)) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                    read => self.take(read, &buffer),
                }
            }
        }
    }

    /// What was read into `buffer`, or that there is no more.
    fn take(&mut self, read: io::Result<usize>, buffer: &[u8]) -> bool {
        let Ok(length @ 1..) = read else {
            self.source = Source::Ended;
            return false;
        };
        let room = self.limit.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(buffer.get(..length.min(room)).unwrap_or_default());
        self.cut |= length > room;
        if let Some((live, stream)) = &self.live {
            live.output(*stream, buffer.get(..length).unwrap_or_default());
        }
        true
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
