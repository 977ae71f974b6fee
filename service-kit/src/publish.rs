//! Publishing to a stream, done when the broker has stored the message.

use std::time::Duration;

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self,
        context::{ContextBuilder, PublishAckFuture, PublishErrorKind},
    },
};
use bytes::Bytes;
use tokio::time::Instant;

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
    headers: HeaderMap,
    body: Bytes,
) -> Result<jetstream::publish::PublishAck, PublishError> {
    send(jetstream, subject, id, headers, body).await?.stored().await
}

/// A message on its way.
pub struct Sent {
    subject: String,
    stored: PublishAckFuture,
    until: Instant,
}

/// The first half of [`publish`]: what one task sends is stored in the order in which it was sent.
///
/// # Errors
/// As [`publish`].
pub async fn send(
    jetstream: &jetstream::Context,
    subject: String,
    id: &str,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Sent, PublishError> {
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    let until = Instant::now() + ACK_TIMEOUT;
    // While the broker is away, publishing itself waits once the client's buffer is full.
    let sent = jetstream.publish_with_headers(subject.clone(), headers, body);
    match tokio::time::timeout_at(until, sent).await {
        Ok(Ok(stored)) => Ok(Sent { subject, stored, until }),
        Ok(Err(error)) => Err(failed(subject, &error)),
        Err(_) => Err(PublishError::TimedOut { subject }),
    }
}

impl Sent {
    /// The second half: done when the broker has stored it.
    ///
    /// # Errors
    /// As [`publish`].
    pub async fn stored(self) -> Result<jetstream::publish::PublishAck, PublishError> {
        let Self { subject, stored, until } = self;
        match tokio::time::timeout_at(until, stored.into_future()).await {
            Ok(Ok(stored)) => Ok(stored),
            Ok(Err(error)) => Err(failed(subject, &error)),
            Err(_) => Err(PublishError::TimedOut { subject }),
        }
    }
}

fn failed(subject: String, error: &jetstream::context::PublishError) -> PublishError {
    match error.kind() {
        PublishErrorKind::StreamNotFound => PublishError::NoStream { subject },
        PublishErrorKind::TimedOut => PublishError::TimedOut { subject },
        _ => PublishError::Refused { subject, reason: report(error) },
    }
}
