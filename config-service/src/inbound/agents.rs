//! Agents: what they ask for, and what they report.

use std::sync::{Arc, PoisonError, RwLock};

use futures_util::StreamExt;
use prometheus_client::metrics::counter::Counter;
use protocol::{
    ErrorCode, ErrorReply,
    config::{ConfigReply, ConfigRequest, ConfigStatus},
    limits, subject,
};
use service_kit::{Context, now_ms, respond};

use crate::{
    changes::Changes,
    core::model::Model,
    inventory::{NotDurable, Pending},
};

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
        let limits = respond::Limits { concurrency: 1024, ..respond::Limits::default() };
        respond::respond(ctx, subject::CONFIG_GET_ALL, limits, move |subject, request| {
            let agents = self.clone();
            async move { agents.answer(&subject, &request).await }
        })
        .await
    }

    async fn answer(&self, subject: &str, request: &ConfigRequest) -> Result<ConfigReply, ErrorReply> {
        let agent = subject::last_agent(subject)
            .ok_or_else(|| ErrorReply::invalid(format!("{subject:?} does not end in an agent's id")))?;
        if !self.changes.known() {
            // An empty configuration would stop every check of the fleet.
            let message = "stream CONFIG was not read yet: ask again in a moment";
            return Err(ErrorReply::new(ErrorCode::Unavailable, message));
        }
        let seen = self.model.write().unwrap_or_else(PoisonError::into_inner).seen(&agent, request, now_ms());
        match seen {
            Err(reason) => {
                self.metrics.refused.inc();
                Ok(ConfigReply::Refused { reason })
            }
            Ok(seen) => {
                if seen.unsaved {
                    self.pending.durable(agent).await.map_err(|reason| {
                        let message = match reason {
                            NotDurable::Failed(reason) => {
                                format!("what the host says cannot be kept: {reason}")
                            }
                            NotDurable::Stopping => "this replica stops: ask again".to_owned(),
                        };
                        ErrorReply::new(ErrorCode::Unavailable, message)
                    })?;
                } else {
                    self.pending.host(agent);
                }
                match &seen.reply {
                    ConfigReply::Unchanged { .. } => self.metrics.unchanged.inc(),
                    _ => self.metrics.full.inc(),
                };
                Ok(seen.reply)
            }
        }
    }

    /// Requests that another replica answers tell this one too which hosts there are.
    async fn watch_requests(self, ctx: &Context) -> anyhow::Result<()> {
        let mut requests = ctx.nats.subscribe(subject::CONFIG_GET_ALL).await?;
        let token = ctx.tasks.token();
        ctx.tasks.spawn("inventory of hosts", async move {
            loop {
                let message = tokio::select! {
                    message = requests.next() => message,
                    () = token.cancelled() => return Ok(()),
                };
                let Some(message) = message else { anyhow::bail!("the subscription ended") };
                let Some(agent) = subject::last_agent(&message.subject) else { continue };
                let Ok(request) = protocol::decode::<ConfigRequest>(&message.payload, limits::MESSAGE) else {
                    continue; // whoever answers it says so
                };
                let seen = self.model.write().unwrap_or_else(PoisonError::into_inner).seen(
                    &agent,
                    &request,
                    now_ms(),
                );
                if seen.is_ok() {
                    self.pending.host(agent);
                }
            }
        });
        Ok(())
    }

    /// G8: what became of a configuration. Every replica hears it.
    async fn watch_reports(self, ctx: &Context) -> anyhow::Result<()> {
        let mut reports = ctx.nats.subscribe(subject::CONFIG_STATUS_ALL).await?;
        let token = ctx.tasks.token();
        ctx.tasks.spawn("reports of agents", async move {
            loop {
                let message = tokio::select! {
                    message = reports.next() => message,
                    () = token.cancelled() => return Ok(()),
                };
                let Some(message) = message else { anyhow::bail!("the subscription ended") };
                let status = protocol::decode::<ConfigStatus>(&message.payload, limits::RESULT).ok();
                // The broker says whose subject it is; the body may say anything.
                let status =
                    status.filter(|s| subject::last_agent(&message.subject).as_ref() == Some(&s.agent));
                let known = status.filter(|status| {
                    self.model.write().unwrap_or_else(PoisonError::into_inner).reported(status)
                });
                match known {
                    Some(status) => self.pending.host(status.agent),
                    None => {
                        self.metrics.undecodable.inc();
                        tracing::debug!(subject = %message.subject, "a report was dropped");
                    }
                }
            }
        });
        Ok(())
    }
}
