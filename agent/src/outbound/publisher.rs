//! Results on their way to the broker: published in order, acknowledged in any.
//!
//! One inbox takes all acknowledgements, and a number in the reply subject says which result each is for. That costs a
//! fraction of what a request of its own for each result does, and an agent with a full spool sends many.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use async_nats::{Client, HeaderMap, StatusCode, Subscriber, client::PublishErrorKind};
use futures_util::{FutureExt, StreamExt};
use protocol::CheckResult;
use serde::Deserialize;
use service_kit::{
    publish::{ACK_TIMEOUT, PublishError},
    report,
};

use crate::core::spooled::Message;

/// How long the client's own buffer may stay full before a publish counts as failed.
const BUFFER_TIMEOUT: Duration = Duration::from_secs(1);
/// JetStream's code for a message above the stream's limit.
const MESSAGE_TOO_LARGE: u64 = 10_054;

#[derive(Debug)]
pub struct Publisher {
    client: Client,
    /// Ends in a dot.
    inbox: String,
    acks: Subscriber,
    last: u64,
    /// By the number in the reply subject, which is the order of sending.
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    what: What,
    subject: String,
    size: usize,
    until: Instant,
}

/// Whose acknowledgement it is.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Numbered { epoch: u64, seq: u64 },
    Unnumbered(Box<CheckResult>),
}

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The same message will never be taken.
    #[error("the broker takes no result of this size: {0}")]
    TooLarge(String),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

pub type Outcome = (What, Result<(), Failure>);

/// What of an acknowledgement matters.
#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    error: Option<AckError>,
}

#[derive(Deserialize)]
struct AckError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Publisher {
    /// # Errors
    /// When the connection's own tasks are gone.
    pub async fn open(client: Client) -> Result<Self, async_nats::SubscribeError> {
        let inbox = client.new_inbox();
        let acks = client.subscribe(format!("{inbox}.*")).await?;
        Ok(Self { client, inbox: format!("{inbox}."), acks, last: 0, waiting: BTreeMap::new(), bytes: 0 })
    }

    /// Bytes that wait for their acknowledgements.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Send a message; [`Self::next`] gives its outcome, also when this fails.
    ///
    /// # Errors
    /// When it could not even be sent.
    pub async fn publish(
        &mut self,
        what: What,
        subject: String,
        Message { id, body }: Message,
    ) -> Result<(), Outcome> {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        self.last += 1;
        let (size, reply) = (body.len(), format!("{}{}", self.inbox, self.last));
        let sent = self.client.publish_with_reply_and_headers(subject.clone(), reply, headers, body.into());
        let failure = match tokio::time::timeout(BUFFER_TIMEOUT, sent).await {
            Ok(Ok(())) => {
                let waiting = Waiting { what, subject, size, until: Instant::now() + ACK_TIMEOUT };
                self.waiting.insert(self.last, waiting);
                self.bytes += size;
                return Ok(());
            }
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Failure::TooLarge(report(&error))
            }
            Ok(Err(error)) => PublishError::Refused { subject, reason: report(&error) }.into(),
            Err(_) => PublishError::TimedOut { subject }.into(),
        };
        Err((what, Err(failure)))
    }

    /// The outcomes that came since the last call, and of those that waited for too long; waits for one if there is
    /// none. May be dropped and called again.
    ///
    /// # Errors
    /// When the connection's own tasks are gone.
    pub async fn outcomes(&mut self) -> anyhow::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        loop {
            while let Some(message) = self.acks.next().now_or_never() {
                let message =
                    message.ok_or_else(|| anyhow::anyhow!("the subscription to acknowledgements ended"))?;
                outcomes.extend(self.acknowledged(&message));
            }
            self.expire(&mut outcomes);
            if !outcomes.is_empty() {
                return Ok(outcomes);
            }
            let until = self.waiting.first_key_value().map(|(_, oldest)| oldest.until);
            let timeout = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.acks.next() => {
                    let message = message.ok_or_else(|| anyhow::anyhow!("the subscription to acknowledgements ended"))?;
                    outcomes.extend(self.acknowledged(&message));
                }
                () = timeout => {}
            }
        }
    }

    fn acknowledged(&mut self, message: &async_nats::Message) -> Option<Outcome> {
        let number = message.subject.strip_prefix(self.inbox.as_str())?.parse::<u64>().ok()?;
        // It may have been given up before.
        let Waiting { what, subject, size, .. } = self.waiting.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(size);
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Some((what, Err(PublishError::NoStream { subject }.into())));
        }
        let failure = match serde_json::from_slice::<Ack>(&message.payload) {
            Ok(Ack { error: None }) => return Some((what, Ok(()))),
            Ok(Ack { error: Some(error) }) if error.err_code == MESSAGE_TOO_LARGE => {
                Failure::TooLarge(error.description)
            }
            Ok(Ack { error: Some(error) }) => {
                PublishError::Refused { subject, reason: error.description }.into()
            }
            Err(error) => PublishError::Refused { subject, reason: error.to_string() }.into(),
        };
        Some((what, Err(failure)))
    }

    fn expire(&mut self, outcomes: &mut Vec<Outcome>) {
        let now = Instant::now();
        while let Some(oldest) = self.waiting.first_entry()
            && oldest.get().until <= now
        {
            let Waiting { what, subject, size, .. } = oldest.remove();
            self.bytes = self.bytes.saturating_sub(size);
            outcomes.push((what, Err(PublishError::TimedOut { subject }.into())));
        }
    }
}
