//! Publishing to a stream, done when the broker has stored the message.

use std::time::Duration;

use async_nats::{
    Client, HeaderMap,
    jetstream::{self, context::ContextBuilder, context::PublishErrorKind},
};
use bytes::Bytes;

use crate::report;

/// How long the broker may take to store a message.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(
        "no stream takes {subject}: the broker is new or was wiped, and the service that owns the stream is away"
    )]
    NoStream { subject: String },
    #[error("the broker did not confirm {subject} within 5 s; it may have stored it all the same")]
    TimedOut { subject: String },
    #[error("the broker refused {subject}: {reason}")]
    Refused { subject: String, reason: String },
}

/// JetStream over `client`, with acknowledgements awaited for at most [`ACK_TIMEOUT`].
#[must_use]
pub fn jetstream(client: &Client) -> jetstream::Context {
    ContextBuilder::new().timeout(ACK_TIMEOUT).build(client.clone())
}

/// Store `body` in the stream that takes `subject`. A second message with the same `id` inside the stream's duplicate
/// window changes nothing.
///
/// # Errors
/// [`PublishError`]. After a timeout the message may be stored: send it again with the same `id`.
pub async fn publish(
    jetstream: &jetstream::Context,
    subject: String,
    id: &str,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<jetstream::publish::PublishAck, PublishError> {
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    let failed = |error: jetstream::context::PublishError| match error.kind() {
        PublishErrorKind::StreamNotFound => PublishError::NoStream { subject: subject.clone() },
        PublishErrorKind::TimedOut => PublishError::TimedOut { subject: subject.clone() },
        _ => PublishError::Refused { subject: subject.clone(), reason: report(&error) },
    };
    // While the broker is away, publishing itself waits once the client's buffer is full.
    let sent = async { jetstream.publish_with_headers(subject.clone(), headers, body).await?.await };
    match tokio::time::timeout(ACK_TIMEOUT, sent).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(PublishError::TimedOut { subject: subject.clone() }),
    }
}
