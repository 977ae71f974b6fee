//! A check that one agent is asked to run now, and the events that come back.

use std::time::Duration;

use async_nats::{StatusCode, Subscriber};
use futures_util::StreamExt;
use protocol::{
    AgentId, ErrorCode, ErrorReply,
    admin::{HostList, HostQuery},
    limits,
    run::{RunEvent, RunReply, RunRequest},
    subject,
};
use service_kit::report;
use tokio::time::Instant;

use super::{ANSWER, Ask};

/// How long the agent may take beyond the check's own timeout: waiting for its turn, and ending what does not obey.
const SLACK: Duration = Duration::from_secs(60);

/// The events of one run. Dropping it ends the listening; the run itself goes on.
pub(crate) struct Events {
    replies: Subscriber,
    until: Instant,
    over: bool,
}

impl Ask {
    /// Ask `agent` to run a check. Returns once it has answered, with its first event.
    ///
    /// # Errors
    /// What the agent refuses, and why it does not answer.
    pub(crate) async fn run(
        &self,
        agent: &AgentId,
        request: &RunRequest,
    ) -> Result<(RunReply, Events), ErrorReply> {
        self.connected()?;
        let unavailable = |reason: String| ErrorReply::new(ErrorCode::Unavailable, reason);
        let inbox = self.0.new_inbox();
        let replies = self.0.subscribe(inbox.clone()).await.map_err(|error| unavailable(report(&error)))?;
        let body = protocol::encode(request).map_err(|error| ErrorReply::invalid(error.to_string()))?;
        let sent = self.0.publish_with_reply(subject::run(agent), inbox, body.into()).await;
        sent.map_err(|error| unavailable(report(&error)))?;
        let first = ANSWER + Duration::from_millis(request.wait_ms.unwrap_or_default());
        let mut events = Events { replies, until: Instant::now() + first, over: false };
        let silent =
            || unavailable(format!("{agent} does not answer: its agent is away, or too old for this"));
        match events.next().await {
            Next::Event(RunReply { event: RunEvent::Refused { code, reason }, .. }) => {
                Err(ErrorReply::new(code, reason))
            }
            Next::Event(first) => {
                if let RunEvent::Started { timeout_ms, .. } = first.event {
                    events.until = Instant::now() + Duration::from_millis(timeout_ms) + SLACK;
                }
                Ok((first, events))
            }
            Next::NobodyListens => Err(self.unknown(agent).await.unwrap_or_else(silent)),
            Next::Silence | Next::Over => Err(silent()),
        }
    }

    /// The error for a host that is in no list.
    async fn unknown(&self, agent: &AgentId) -> Option<ErrorReply> {
        let query = HostQuery { agent: Some(agent.clone()), ..HostQuery::default() };
        let answer: Result<HostList, _> = self.ask(subject::ADMIN_HOSTS, &query, ANSWER).await;
        answer.err().filter(|error| error.code == ErrorCode::NotFound)
    }
}

pub(crate) enum Next {
    Event(RunReply),
    NobodyListens,
    /// Nothing came in time.
    Silence,
    /// The last event was given already.
    Over,
}

impl Events {
    /// Listen no more.
    pub(crate) fn end(&mut self) {
        self.over = true;
    }

    pub(crate) async fn next(&mut self) -> Next {
        loop {
            if self.over {
                return Next::Over;
            }
            let Ok(Some(message)) = tokio::time::timeout_at(self.until, self.replies.next()).await else {
                self.over = true;
                return Next::Silence;
            };
            if message.status == Some(StatusCode::NO_RESPONDERS) {
                self.over = true;
                return Next::NobodyListens;
            }
            match protocol::decode::<RunReply>(&message.payload, limits::MESSAGE) {
                Ok(reply) => {
                    self.over = reply.last;
                    return Next::Event(reply);
                }
                Err(error) => tracing::warn!(%error, "an agent's event cannot be read"),
            }
        }
    }
}
