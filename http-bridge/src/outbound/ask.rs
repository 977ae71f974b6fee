//! One question to one service.

use std::time::Duration;

use async_nats::{Client, connection::State};
use protocol::{ErrorCode, ErrorReply};
use serde::{Serialize, de::DeserializeOwned};
use service_kit::request;

/// How long a service may take for what an HTTP request asks of it. With the key's verification it makes 5 seconds.
pub(crate) const ANSWER: Duration = Duration::from_secs(4);
/// How long a change of documents may take: thousands of them are checked, and looked at on every host.
pub(crate) const CHANGE: Duration = Duration::from_secs(25);

#[derive(Clone)]
pub(crate) struct Ask(pub(crate) Client);

impl Ask {
    /// # Errors
    /// What the service answered, or `unavailable`.
    pub(crate) async fn ask<Q: Serialize, R: DeserializeOwned>(
        &self,
        subject: &str,
        question: &Q,
        timeout: Duration,
    ) -> Result<R, ErrorReply> {
        self.connected()?;
        Ok(request::request(&self.0, subject, question, timeout).await?)
    }

    /// # Errors
    /// `unavailable` while the broker is away: the client would only queue what it is given.
    pub(crate) fn connected(&self) -> Result<(), ErrorReply> {
        if self.0.connection_state() == State::Connected {
            return Ok(());
        }
        Err(ErrorReply::new(ErrorCode::Unavailable, "the broker is away: try again in a moment"))
    }
}
