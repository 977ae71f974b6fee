//! Who asked for a run and watches it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use protocol::{
    CheckName, ErrorCode,
    run::{OutputStream, RunEvent},
};
use tokio::sync::mpsc;

/// Pieces of output of one run that wait to be passed on.
const PIECES: usize = 64;

/// A run that was asked for.
#[derive(Debug)]
pub struct Order {
    pub check: CheckName,
    /// Wait for a run that is under way, as long as somebody listens.
    pub waits: bool,
    pub live: Live,
}

/// Where the events of a run go, if anybody listens.
#[derive(Debug, Clone)]
pub struct Live {
    pieces: mpsc::Sender<Piece>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
pub enum Piece {
    Output(OutputStream, Vec<u8>),
    Event(RunEvent),
}

impl Live {
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Piece>) {
        let (pieces, receiver) = mpsc::channel(PIECES);
        (Self { pieces, dropped: Arc::default() }, receiver)
    }

    /// Pass on some output, or drop it when too much of it waits: a check is not delayed by who watches it.
    pub fn output(&self, stream: OutputStream, bytes: &[u8]) {
        if self.pieces.try_send(Piece::Output(stream, bytes.to_vec())).is_err() {
            self.dropped.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    }

    /// Pass on what happened.
    pub async fn event(&self, event: RunEvent) {
        // Nobody listens any more.
        let _gone = self.pieces.send(Piece::Event(event)).await;
    }

    /// The run is over.
    pub async fn ended(&self, result: protocol::CheckResult) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        self.event(RunEvent::Ended { result: Box::new(result), dropped }).await;
    }

    /// Refuse without waiting: the first event of all always has room.
    pub fn refuse(&self, code: ErrorCode, reason: impl Into<String>) {
        let _gone = self.pieces.try_send(Piece::Event(RunEvent::Refused { code, reason: reason.into() }));
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.pieces.is_closed()
    }
}
