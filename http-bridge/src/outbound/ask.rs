//! One question to one service.

use std::time::Duration;

use async_nats::{Client, connection::State};
use axum::body::Bytes;
use protocol::{
    AgentId, ErrorCode, ErrorReply,
    admin::{HostList, HostQuery},
    subject,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
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

    /// The answer as the service wrote it, in JSON that is not read here: it may be long.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) async fn hand_on<Q: Serialize>(
        &self,
        subject: &str,
        question: &Q,
        timeout: Duration,
    ) -> Result<Bytes, ErrorReply> {
        let reply = self.reply(subject, question, timeout).await?;
        match protocol::reply::answer(&reply) {
            Some(place) => Ok(reply.slice(place)),
            None => {
                Ok(Box::<str>::from(request::decode::<Box<RawValue>>(subject, &reply)?).into_string().into())
            }
        }
    }

    /// The whole reply.
    ///
    /// # Errors
    /// `unavailable`, and none that the service answered.
    pub(crate) async fn reply<Q: Serialize>(
        &self,
        subject: &str,
        question: &Q,
        timeout: Duration,
    ) -> Result<Bytes, ErrorReply> {
        self.connected()?;
        Ok(request::request_bytes(&self.0, subject, question, timeout).await?)
    }

    /// Whether a host is one of those that a key is limited to.
    ///
    /// # Errors
    /// `forbidden` when it is not, or there is none.
    pub(crate) async fn within(&self, agent: &AgentId, hosts: Option<String>) -> Result<(), ErrorReply> {
        let query = HostQuery { agent: Some(agent.clone()), within: hosts, ..HostQuery::default() };
        match self.ask::<_, HostList>(subject::ADMIN_HOSTS, &query, ANSWER).await {
            Ok(_) => Ok(()),
            Err(error) if error.code == ErrorCode::NotFound => {
                let message = format!("{agent} is not one of the hosts of your key");
                Err(ErrorReply::new(ErrorCode::Forbidden, message))
            }
            Err(error) => Err(error),
        }
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
