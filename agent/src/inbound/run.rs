//! Checks that are asked for: `dogwatch run`. A request names a configured check; what it does is the configuration's.
//!
//! The checks loop runs it beside the schedule, and what happens is passed on as it comes, within limits: a client
//! that is slow or gone never delays a check.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Subject};
use futures_util::StreamExt;
use protocol::{
    AgentId, ErrorCode,
    run::{OutputStream, RunEvent, RunReply, RunRequest},
    subject,
};
use service_kit::{Context, report};
use tokio::sync::{Semaphore, mpsc};

use crate::outbound::live::{Live, Order, Piece};

/// Requests worked on at once.
const RUNS: usize = 4;
/// Bytes of output of one run that are passed on as they come.
const LIVE_BYTES: u64 = 1024 * 1024;
/// Bytes in one message at most.
const MESSAGE_BYTES: usize = 16 * 1024;
/// Output messages of one run; the rest of what the broker allows is for the others.
const MESSAGES: u32 = subject::AGENT_RESPONSES.0 - 100;
/// Output is gathered for so long before it is sent.
const GATHER: Duration = Duration::from_millis(50);
/// Longest wait for a run that is under way.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// How long the client's own buffer may stay full.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Take requests as a task of the service, until it stops.
///
/// # Errors
/// When the connection's own tasks are gone.
pub async fn serve(ctx: &Context, agent: &AgentId, orders: mpsc::Sender<Order>) -> anyhow::Result<()> {
    let mut requests = ctx.nats.subscribe(subject::run(agent)).await?;
    let (client, token) = (ctx.nats.clone(), ctx.tasks.token());
    let places = Arc::new(Semaphore::new(RUNS));
    ctx.tasks.spawn("runs on request", async move {
        loop {
            let message = tokio::select! {
                message = requests.next() => message,
                () = token.cancelled() => return Ok(()),
            };
            let Some(message) = message else { anyhow::bail!("the subscription to requests ended") };
            let Some(to) = message.reply else { continue };
            let replies = Replies { client: client.clone(), to };
            let request = match protocol::decode::<RunRequest>(&message.payload, protocol::limits::RESULT) {
                Ok(request) if request.v == protocol::VERSION => request,
                Ok(request) => {
                    replies
                        .refuse(ErrorCode::Invalid, format!("version {} is not known here", request.v))
                        .await;
                    continue;
                }
                Err(error) => {
                    replies.refuse(ErrorCode::Invalid, error.to_string()).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let reason = format!("{RUNS} checks run on request already: try again in a moment");
                replies.refuse(ErrorCode::Overloaded, reason).await;
                continue;
            };
            tracing::info!(check = %request.check, by = request.by, "a check is asked for");
            let orders = orders.clone();
            tokio::spawn(async move {
                let _place = place;
                replies.follow(request, orders).await;
            });
        }
    });
    Ok(())
}

/// The way back to who asked.
struct Replies {
    client: Client,
    to: Subject,
}

impl Replies {
    async fn follow(self, request: RunRequest, orders: mpsc::Sender<Order>) {
        let (live, mut pieces) = Live::new();
        let wait = request.wait_ms.map(|ms| Duration::from_millis(ms).min(LONGEST_WAIT));
        let name = request.check;
        let order = Order { check: name.clone(), waits: wait.is_some(), live };
        if orders.send(order).await.is_err() {
            return self.refuse(ErrorCode::Unavailable, "the agent is stopping").await;
        }
        // Without a wait the answer comes at once.
        let first = match wait {
            Some(wait) => tokio::time::timeout(wait, pieces.recv()).await,
            None => Ok(pieces.recv().await),
        };
        let mut piece = match first {
            Ok(piece) => piece,
            Err(_) => {
                let reason = format!("{name} was still running at the end of the wait");
                return self.refuse(ErrorCode::Conflict, reason).await;
            }
        };
        let mut output = Outgoing::default();
        while let Some(now) = piece {
            let event = match now {
                Piece::Output(stream, bytes) => {
                    output.add(stream, &bytes);
                    if output.has_room() {
                        // Little by little would cost a message for each line.
                        let more = tokio::time::timeout(GATHER, pieces.recv()).await;
                        if let Ok(more) = more {
                            piece = more;
                            self.send_output(output.take_full()).await;
                            continue;
                        }
                    }
                    self.send_output(output.take()).await;
                    piece = pieces.recv().await;
                    continue;
                }
                Piece::Event(RunEvent::Ended { result, dropped }) => {
                    RunEvent::Ended { result, dropped: dropped + output.dropped }
                }
                Piece::Event(event) => event,
            };
            self.send_output(output.take()).await;
            let reply = RunReply::from(event);
            let last = reply.last;
            self.send(reply).await;
            if last {
                return;
            }
            piece = pieces.recv().await;
        }
        self.send_output(output.take()).await;
        let reason = "it was ended without a result: the configuration changed, or the agent is stopping";
        self.refuse(ErrorCode::Unavailable, reason).await;
    }

    async fn refuse(&self, code: ErrorCode, reason: impl Into<String>) {
        self.send(RunEvent::Refused { code, reason: reason.into() }.into()).await;
    }

    async fn send_output(&self, messages: Vec<RunEvent>) {
        for message in messages {
            self.send(message.into()).await;
        }
    }

    async fn send(&self, reply: RunReply) {
        let Ok(body) = protocol::encode(&reply) else { return };
        let sent = self.client.publish(self.to.clone(), body.into());
        let failure = match tokio::time::timeout(SEND_TIMEOUT, sent).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => report(&error),
            Err(_) => "the broker is away".to_owned(),
        };
        tracing::debug!(failure, "an answer about a run could not be sent");
    }
}

/// Output on its way out: whole characters, in messages that are neither many nor large.
#[derive(Debug, Default)]
struct Outgoing {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    bytes: u64,
    messages: u32,
    /// Bytes over the limits.
    dropped: u64,
}

impl Outgoing {
    fn add(&mut self, stream: OutputStream, bytes: &[u8]) {
        let room = if self.messages < MESSAGES { LIVE_BYTES.saturating_sub(self.bytes) } else { 0 };
        let taken = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let (now, rest) = bytes.split_at(taken);
        self.bytes += taken as u64;
        self.dropped += rest.len() as u64;
        match stream {
            OutputStream::Stdout => self.stdout.extend_from_slice(now),
            OutputStream::Stderr => self.stderr.extend_from_slice(now),
        }
    }

    fn has_room(&self) -> bool {
        self.stdout.len() + self.stderr.len() < MESSAGE_BYTES
    }

    /// What fills messages; the rest waits for more.
    fn take_full(&mut self) -> Vec<RunEvent> {
        if self.has_room() { Vec::new() } else { self.take() }
    }

    fn take(&mut self) -> Vec<RunEvent> {
        let mut events = Vec::new();
        for (stream, bytes) in
            [(OutputStream::Stdout, &mut self.stdout), (OutputStream::Stderr, &mut self.stderr)]
        {
            let whole = bytes.len() - unfinished(bytes);
            let rest = bytes.split_off(whole);
            let now = std::mem::replace(bytes, rest);
            for part in String::from_utf8_lossy(&now).chars().collect::<Vec<_>>().chunks(MESSAGE_BYTES / 4) {
                events.push(RunEvent::Output { stream, text: part.iter().collect() });
            }
        }
        self.messages += u32::try_from(events.len()).unwrap_or(u32::MAX);
        events
    }
}

/// Length of the character at the end of which only the front is here.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let Some(byte) = bytes.get(bytes.len() - back) else { return 0 };
        let length = match byte {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if back < length { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(events: &[RunEvent]) -> String {
        events.iter().fold(String::new(), |all, event| match event {
            RunEvent::Output { text, .. } => all + text,
            other => panic!("{other:?}"),
        })
    }

    proptest! {
        #[test]
        fn characters_stay_whole_however_the_output_is_cut(
            original in "\\PC{0,200}", cuts in proptest::collection::vec(1_usize..20, 0..200),
        ) {
            let (mut outgoing, mut rest, mut said) = (Outgoing::default(), original.as_bytes(), String::new());
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                outgoing.add(OutputStream::Stdout, now);
                said += &text(&outgoing.take());
                rest = later;
            }
            outgoing.add(OutputStream::Stdout, rest);
            said += &text(&outgoing.take());
            prop_assert_eq!(said, original);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut outgoing = Outgoing::default();
            outgoing.add(OutputStream::Stderr, &bytes);
            outgoing.take();
        }
    }

    #[test]
    fn g10_gigabytes_are_a_megabyte_and_a_count() {
        let mut outgoing = Outgoing::default();
        let (mut passed, mut largest) = (0, 0);
        for _ in 0..1_000 {
            outgoing.add(OutputStream::Stdout, &[b'x'; 8_192]);
            for event in outgoing.take_full() {
                let length = text(&[event]).len();
                (passed, largest) = (passed + length as u64, largest.max(length));
            }
        }
        passed += text(&outgoing.take()).len() as u64;
        assert_eq!((passed, outgoing.dropped), (LIVE_BYTES, 1_000 * 8_192 - LIVE_BYTES));
        assert!(largest <= MESSAGE_BYTES);
    }
}
