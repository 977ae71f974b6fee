//! Submissions to stream RESULTS, and those that cannot be understood to stream REJECTED.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream};
use axum::body::Bytes;
use futures_util::{StreamExt, TryFutureExt, TryStreamExt, stream};
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
        let stored = stream::iter(results)
            .then(|result| self.send(result))
            .map_ok(|sent| sent.stored().map_err(|error| away(&error)))
            .try_buffer_unordered(IN_FLIGHT)
            .try_for_each(|_| std::future::ready(Ok(())));
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

fn away(error: &PublishError) -> ErrorReply {
    ErrorReply::new(ErrorCode::Unavailable, report(error))
}
