//! Asking another service, and getting a typed answer or a typed error.

use std::time::Duration;

use async_nats::{Client, RequestErrorKind};
use bytes::Bytes;
use protocol::{ErrorCode, ErrorReply, Reply};
use serde::{Serialize, de::DeserializeOwned};

use crate::report;

/// How long an answer may take unless the caller says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(
        "nobody answers on {subject}: the service behind it is not running, or not connected to the broker"
    )]
    NoResponder { subject: String },
    #[error("no answer on {subject} within {timeout:?}")]
    TimedOut { subject: String, timeout: Duration },
    #[error("cannot ask on {subject}: {reason}")]
    Transport { subject: String, reason: String },
    #[error("the answer on {subject} cannot be read: {reason}")]
    Malformed { subject: String, reason: String },
    /// The other side understood, and said no.
    #[error(transparent)]
    Refused(ErrorReply),
}

/// # Errors
/// [`RequestError`].
pub async fn request<Q: Serialize, R: DeserializeOwned>(
    client: &Client,
    subject: &str,
    question: &Q,
    timeout: Duration,
) -> Result<R, RequestError> {
    decode(subject, &request_bytes(client, subject, question, timeout).await?)
}

/// What the bytes of a reply say.
///
/// # Errors
/// [`RequestError::Malformed`], and what was refused.
pub fn decode<R: DeserializeOwned>(subject: &str, reply: &[u8]) -> Result<R, RequestError> {
    let reply: Reply<R> = protocol::decode(reply, protocol::limits::MESSAGE).map_err(|error| {
        RequestError::Malformed { subject: subject.to_owned(), reason: error.to_string() }
    })?;
    reply.into_result().map_err(RequestError::Refused)
}

/// The bytes of the reply, good or bad, for whoever hands an answer on without reading it.
///
/// # Errors
/// [`RequestError`], but none that needs the reply to be read.
pub async fn request_bytes<Q: Serialize>(
    client: &Client,
    subject: &str,
    question: &Q,
    timeout: Duration,
) -> Result<Bytes, RequestError> {
    let transport = |reason: String| RequestError::Transport { subject: subject.to_owned(), reason };
    let body = protocol::encode(question).map_err(|error| transport(error.to_string()))?;
    // Else the client's own limit of ten seconds would come first.
    let sent = async_nats::Request::new().payload(body.into()).timeout(Some(timeout));
    let sent = client.send_request(subject.to_owned(), sent);
    let timed_out = || RequestError::TimedOut { subject: subject.to_owned(), timeout };
    let message = tokio::time::timeout(timeout, sent).await.map_err(|_| timed_out())?.map_err(|error| {
        match error.kind() {
            RequestErrorKind::NoResponders => RequestError::NoResponder { subject: subject.to_owned() },
            RequestErrorKind::TimedOut => timed_out(),
            _ => transport(report(&error)),
        }
    })?;
    Ok(message.payload)
}

impl From<RequestError> for ErrorReply {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(reply) => reply,
            RequestError::Malformed { .. } => Self::new(ErrorCode::Internal, error.to_string()),
            other => Self::new(ErrorCode::Unavailable, other.to_string()),
        }
    }
}
