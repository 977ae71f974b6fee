//! Agents: what they ask for, and what they report. Both come in crowds after a change, so each turn takes all that has
//! come, with one look at the model and one at what is to be written.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{Message, Subject};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use prometheus_client::metrics::counter::Counter;
use protocol::{
    AgentId, ErrorCode, ErrorReply, Reply,
    config::{ConfigReply, ConfigStatus},
    limits, subject,
};
use service_kit::{Context, now_ms, process, report, respond};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    changes::Changes,
    core::model::{Answer, Model, Refusal, Seen},
    inventory::{NotDurable, Pending},
};

/// Messages of one turn.
const TURN: usize = 256;
/// Turns whose hosts wait for the disk. With all of them waiting, no further one begins.
const WAITING: u32 = 64;
/// How long the disk may take before a host is told to ask again.
const DEADLINE: Duration = Duration::from_secs(4);

#[derive(Clone)]
pub(crate) struct Agents {
    pub(crate) model: Arc<RwLock<Model>>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) pending: Arc<Pending>,
    metrics: Metrics,
}

#[derive(Clone, Default)]
struct Metrics {
    unchanged: Counter,
    full: Counter,
    refused: Counter,
    undecodable: Counter,
}

impl Agents {
    pub(crate) fn new(
        ctx: &Context,
        model: Arc<RwLock<Model>>,
        changes: Arc<Changes>,
        pending: Arc<Pending>,
    ) -> Self {
        let metrics = Metrics::default();
        ctx.metrics.register(ctx.name, |registry| {
            registry.register(
                "configs_unchanged",
                "Requests answered with unchanged",
                metrics.unchanged.clone(),
            );
            registry.register("configs_full", "Requests answered with a configuration", metrics.full.clone());
            registry.register("configs_refused", "Requests refused", metrics.refused.clone());
            registry.register(
                "reports_dropped",
                "Reports of agents that cannot be read, or are of unknown hosts",
                metrics.undecodable.clone(),
            );
        });
        Self { model, changes, pending, metrics }
    }

    pub(crate) async fn serve(self, ctx: &Context) -> anyhow::Result<()> {
        self.clone().watch_requests(ctx).await?;
        self.clone().watch_reports(ctx).await?;
        let requests =
            ctx.nats.queue_subscribe(subject::CONFIG_GET_ALL.to_owned(), ctx.name.to_owned()).await?;
        respond::barrier(&ctx.nats).await?;
        let (client, token) = (ctx.nats.clone(), ctx.tasks.token());
        let waiting = Arc::new(Semaphore::new(WAITING as usize));
        ctx.tasks.spawn("answers to agents", async move {
            let mut requests = requests.ready_chunks(TURN);
            while let Some(requests) = turn(&mut requests, &token).await? {
                let (now, later) = self.answer(requests);
                send(&client, now).await;
                if !later.is_empty() {
                    let permit = Arc::clone(&waiting).acquire_owned().await?;
                    let (agents, client) = (self.clone(), client.clone());
                    tokio::spawn(async move {
                        let _permit = permit;
                        let answers = agents.once_durable(later).await;
                        send(&client, answers).await;
                    });
                }
            }
            // Who waits gets an answer.
            let _done = waiting.acquire_many(WAITING).await;
            process::flush(&client).await;
            Ok(())
        });
        Ok(())
    }

    /// Answers, and those that wait until their hosts are on disk.
    fn answer(&self, requests: Vec<Message>) -> (Vec<(Subject, Bytes)>, Vec<Later>) {
        let (mut now, mut later, mut news) = (Vec::new(), Vec::new(), Vec::new());
        let known = self.changes.known();
        let mut model = self.model.write().unwrap_or_else(PoisonError::into_inner);
        let at_ms = now_ms();
        for Message { subject, payload, reply, .. } in requests {
            let Some(reply) = reply else { continue };
            let Some(agent) = subject::last_agent(&subject) else {
                let message = format!("{:?} does not end in an agent's id", subject.as_str());
                now.push((reply, error(ErrorReply::invalid(message))));
                continue;
            };
            if !known {
                // An empty configuration would stop every check of the fleet.
                let message = "stream CONFIG was not read yet: ask again in a moment";
                now.push((reply, error(ErrorReply::new(ErrorCode::Unavailable, message))));
                continue;
            }
            match model.asked(&agent, &payload, at_ms) {
                Err(Refusal::Malformed(reason)) => now.push((reply, error(ErrorReply::invalid(reason)))),
                Err(Refusal::Refused(reason)) => {
                    self.metrics.refused.inc();
                    now.push((reply, encode(&Reply::Ok(ConfigReply::Refused { reason }))));
                }
                Ok(Seen { answer, unsaved: true, .. }) => later.push(Later { agent, reply, answer }),
                Ok(Seen { answer, news: more, .. }) => {
                    if more {
                        news.push(agent);
                    }
                    now.push((reply, self.body(answer)));
                }
            }
        }
        drop(model);
        self.pending.hosts(news);
        (now, later)
    }

    async fn once_durable(&self, later: Vec<Later>) -> Vec<(Subject, Bytes)> {
        let hosts = later.iter().map(|later| later.agent.clone()).collect();
        let durable = tokio::time::timeout(DEADLINE, self.pending.durable(hosts)).await;
        let message = match durable {
            Ok(Ok(())) => None,
            Ok(Err(NotDurable::Failed(reason))) => {
                Some(format!("what the host says cannot be kept: {reason}"))
            }
            Ok(Err(NotDurable::Stopping)) => Some("this replica stops: ask again".to_owned()),
            Err(_) => Some(format!("not kept within {DEADLINE:?}: try again later")),
        };
        let answer = |Later { reply, answer, .. }| match &message {
            None => (reply, self.body(answer)),
            Some(message) => (reply, error(ErrorReply::new(ErrorCode::Unavailable, message.as_str()))),
        };
        later.into_iter().map(answer).collect()
    }

    fn body(&self, answer: Answer) -> Bytes {
        match answer {
            Answer::Unchanged { revision } => {
                self.metrics.unchanged.inc();
                encode(&Reply::Ok(ConfigReply::Unchanged { revision }))
            }
            Answer::Full(body) if body.len() > limits::MESSAGE => {
                error(ErrorReply::new(ErrorCode::TooLarge, "the answer is too large: ask for less"))
            }
            Answer::Full(body) => {
                self.metrics.full.inc();
                body
            }
        }
    }

    /// Requests that another replica answers tell this one too which hosts there are. Its own come a second time, which
    /// the model knows at a glance.
    async fn watch_requests(self, ctx: &Context) -> anyhow::Result<()> {
        let mut requests = ctx.nats.subscribe(subject::CONFIG_GET_ALL).await?.ready_chunks(TURN);
        let token = ctx.tasks.token();
        ctx.tasks.spawn("inventory of hosts", async move {
            while let Some(requests) = turn(&mut requests, &token).await? {
                self.hear(&requests);
            }
            Ok(())
        });
        Ok(())
    }

    fn hear(&self, requests: &[Message]) {
        let mut news = Vec::new();
        let mut model = self.model.write().unwrap_or_else(PoisonError::into_inner);
        let at_ms = now_ms();
        for Message { subject, payload, .. } in requests {
            let Some(agent) = subject::last_agent(subject) else { continue };
            // Whoever answers it says what is wrong with it.
            if let Ok(Seen { news: true, .. }) = model.asked(&agent, payload, at_ms) {
                news.push(agent);
            }
        }
        drop(model);
        self.pending.hosts(news);
    }

    /// G8: what became of a configuration. Every replica hears it.
    async fn watch_reports(self, ctx: &Context) -> anyhow::Result<()> {
        let mut reports = ctx.nats.subscribe(subject::CONFIG_STATUS_ALL).await?.ready_chunks(TURN);
        let token = ctx.tasks.token();
        ctx.tasks.spawn("reports of agents", async move {
            while let Some(reports) = turn(&mut reports, &token).await? {
                self.take_in(&reports);
            }
            Ok(())
        });
        Ok(())
    }

    fn take_in(&self, reports: &[Message]) {
        let mut news = Vec::new();
        let mut model = self.model.write().unwrap_or_else(PoisonError::into_inner);
        for Message { subject, payload, .. } in reports {
            let status = protocol::decode::<ConfigStatus>(payload, limits::RESULT).ok();
            // The broker says whose subject it is; the body may say anything.
            let status = status.filter(|s| subject::last_agent(subject).as_ref() == Some(&s.agent));
            match status.filter(|status| model.reported(status)) {
                Some(status) => news.push(status.agent),
                None => {
                    self.metrics.undecodable.inc();
                    tracing::debug!(%subject, "a report was dropped");
                }
            }
        }
        drop(model);
        self.pending.hosts(news);
    }
}

/// An answer that waits for the disk.
struct Later {
    agent: AgentId,
    reply: Subject,
    answer: Answer,
}

/// All messages that have come; `None` when the service is to stop.
async fn turn(
    messages: &mut (impl Stream<Item = Vec<Message>> + Unpin),
    token: &CancellationToken,
) -> anyhow::Result<Option<Vec<Message>>> {
    tokio::select! {
        messages = messages.next() => Ok(Some(messages.context("the subscription ended")?)),
        () = token.cancelled() => Ok(None),
    }
}

async fn send(client: &async_nats::Client, answers: Vec<(Subject, Bytes)>) {
    for (reply, body) in answers {
        if let Err(error) = client.publish(reply, body).await {
            tracing::warn!(reason = report(&error), "an answer could not be sent");
        }
    }
}

fn error(error: ErrorReply) -> Bytes {
    encode(&Reply::Error(error))
}

fn encode(reply: &Reply<ConfigReply>) -> Bytes {
    // Wire types always encode; were one not to, the host would ask again.
    protocol::encode(reply).unwrap_or_default().into()
}
