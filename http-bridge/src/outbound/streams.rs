//! Submissions to stream RESULTS, and those that cannot be understood to stream REJECTED.

use std::{collections::VecDeque, time::Duration};

use async_nats::{HeaderMap, jetstream};
use axum::body::Bytes;
use protocol::{
    AgentId, CheckResult, ErrorCode, ErrorReply,
    stream::{REJECTED, rejected_header},
    subject,
};
use service_kit::{
    publish::{self, PublishError, Sent},
    report, streams,
};

use super::Ask;

/// How long the broker may take to store a whole submission.
const STORE: Duration = Duration::from_secs(3);
/// Results of one submission under way to the broker.
const IN_FLIGHT: usize = 64;

pub(crate) struct Streams {
    ask: Ask,
    jetstream: jetstream::Context,
    /// Subject of what is rejected.
    rejected: String,
}

/// A submission as it came.
pub(crate) struct Submission<'a> {
    pub(crate) agent: &'a AgentId,
    pub(crate) body: Bytes,
}

impl Streams {
    pub(crate) fn new(ask: Ask, jetstream: jetstream::Context, service: &str) -> Self {
        Self { ask, jetstream, rejected: subject::rejected(service) }
    }

    /// Returns once the broker has stored all of them, in their order.
    ///
    /// # Errors
    /// `unavailable`; some may be stored.
    pub(crate) async fn publish(&self, results: Vec<CheckResult>) -> Result<(), ErrorReply> {
        self.ask.connected()?;
        let stored = async {
            let mut under_way = VecDeque::new();
            for result in results {
                if under_way.len() >= IN_FLIGHT {
                    next(&mut under_way).await?;
                }
                under_way.push_back(self.send(result).await?);
            }
            while !under_way.is_empty() {
                next(&mut under_way).await?;
            }
            Ok(())
        };
        tokio::time::timeout(STORE, stored).await.unwrap_or_else(|_| {
            let text = "the broker did not store all of it in time: send it again, with an Idempotency-Key";
            Err(ErrorReply::new(ErrorCode::Unavailable, text))
        })
    }

    async fn send(&self, result: CheckResult) -> Result<Sent, ErrorReply> {
        let subject = subject::result(&result.agent, &result.check);
        let body = protocol::encode(&result)
            .map_err(|error| ErrorReply::new(ErrorCode::Internal, error.to_string()))?;
        let sent =
            publish::send(&self.jetstream, subject, &result.message_id(), HeaderMap::new(), body.into())
                .await;
        sent.map_err(|error| away(&error))
    }

    /// Keep `submission` whole, with the reason.
    ///
    /// # Errors
    /// Why it could not be kept.
    pub(crate) async fn reject(&self, submission: Submission<'_>, reason: &str) -> Result<(), String> {
        self.ask.connected().map_err(|error| error.message)?;
        let mut headers = HeaderMap::new();
        // A header cannot hold a line break.
        let reason = reason.replace(|c: char| c.is_control(), " ");
        headers.insert(rejected_header::REASON, reason);
        headers.insert(rejected_header::SUBJECT, format!("POST /api/submit by {}", submission.agent));
        let id = format!("{}:{}", submission.agent, ulid::Ulid::generate());
        let kept = async {
            streams::ensure_stream(&self.jetstream, &REJECTED).await.map_err(|error| report(&error))?;
            publish::publish(&self.jetstream, self.rejected.clone(), &id, headers, submission.body)
                .await
                .map_err(|error| report(&error))
        };
        tokio::time::timeout(STORE, kept).await.map_err(|_| "not in time".to_owned())?.map(drop)
    }
}

/// The broker confirms in the order in which it was sent.
async fn next(under_way: &mut VecDeque<Sent>) -> Result<(), ErrorReply> {
    match under_way.pop_front() {
        Some(sent) => sent.stored().await.map(drop).map_err(|error| away(&error)),
        None => Ok(()),
    }
}

fn away(error: &PublishError) -> ErrorReply {
    ErrorReply::new(ErrorCode::Unavailable, report(error))
}
