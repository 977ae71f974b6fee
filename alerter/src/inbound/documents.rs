//! Rules, receivers and hosts from config-service: at the start, at each nudge, and by poll in case a nudge is lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::join_all};
use protocol::{
    AgentId,
    admin::{DocumentList, DocumentQuery, Host, HostList, HostQuery},
    decommission::{DecommissionedList, DecommissionedQuery},
    document::Kind,
    subject,
};
use service_kit::{
    Context, now_ms, report,
    request::{self, RequestError},
};
use tokio::{sync::watch, time::Instant};

use super::results;
use crate::{
    core::{HostInfo, RuleBook},
    engine::Shared,
    metrics::Metrics,
};

/// How long a host that a waiting result is from may be asked for.
const HOST_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads documents and hosts and hands them on.
pub struct Reader {
    pub ctx: Context,
    pub engine: Shared,
    pub book: watch::Sender<Arc<RuleBook>>,
    pub metrics: Metrics,
    pub poll: Duration,
    /// How long a result is news.
    pub freshness: Duration,
}

impl Reader {
    /// Read the hosts and the documents, whole. Hosts that cannot be listed are asked for one by one as results come,
    /// so only the documents are needed.
    ///
    /// # Errors
    /// When config-service does not answer or the alerts of removed rules cannot be ended; what was read before is
    /// still in force.
    pub async fn read(&self) -> anyhow::Result<()> {
        self.read_gone().await?;
        // Hosts first: rules that are new may ask for their labels.
        if let Err(error) = self.read_hosts().await {
            self.metrics.refresh_failures.inc();
            tracing::debug!(error = report(error.as_ref()), "hosts cannot be listed");
        }
        self.read_rules().await
    }

    /// Hosts that were taken out, so that their silence is no alert.
    async fn read_gone(&self) -> anyhow::Result<()> {
        let query = DecommissionedQuery {};
        let client = &self.ctx.nats;
        let asked =
            request::request(client, subject::ADMIN_HOST_DECOMMISSIONED, &query, request::TIMEOUT).await;
        let list: DecommissionedList = match asked {
            // An older one, or none: what comes next says so.
            Err(RequestError::NoResponder { .. }) => return Ok(()),
            asked => asked?,
        };
        let gone = list.agents.into_iter().collect();
        Ok(self.engine.run(move |engine| engine.set_gone(gone, now_ms())).await??)
    }

    async fn read_rules(&self) -> anyhow::Result<()> {
        let query = DocumentQuery { kinds: vec![Kind::Check, Kind::Rule, Kind::Receiver, Kind::Silence] };
        let client = &self.ctx.nats;
        let list: DocumentList =
            request::request(client, subject::ADMIN_DOCUMENTS, &query, request::TIMEOUT).await?;
        let newest = self.book.borrow().revision;
        // Replicas of config-service may lag behind one another.
        anyhow::ensure!(
            list.revision >= newest,
            "config-service answered with revision {}, older than {newest} which is in force; if its data was \
             restored from a backup, restart the alerter",
            list.revision
        );
        if list.revision == newest && newest > 0 {
            return Ok(());
        }
        let book = Arc::new(tokio::task::spawn_blocking(move || RuleBook::new(list)).await?);
        // Windows that are new begin with what the stream still has.
        if book.longest_window_ms() > self.book.borrow().longest_window_ms() || newest == 0 {
            let read = results::remember(&self.ctx, &self.engine, &book, self.freshness).await;
            if let Err(error) = read {
                self.metrics.refresh_failures.inc();
                tracing::warn!(
                    error = report(error.as_ref()),
                    "recent results cannot be read; windows fill as results come"
                );
            }
        }
        let rules = Arc::clone(&book);
        self.engine.run(move |engine| engine.set_rules(rules, now_ms())).await??;
        self.book.send_replace(book);
        Ok(())
    }

    async fn read_hosts(&self) -> anyhow::Result<()> {
        let mut hosts = HashMap::new();
        let mut query = HostQuery::default();
        loop {
            let client = &self.ctx.nats;
            let page: HostList =
                request::request(client, subject::ADMIN_HOSTS, &query, request::TIMEOUT).await?;
            hosts.extend(page.hosts.into_iter().map(host_info));
            let Some(next) = page.next else { break };
            // Upwards only, so that this ends whoever answers.
            anyhow::ensure!(query.after.as_ref() < Some(&next), "the pages of hosts go back to {next}");
            query.after = Some(next);
        }
        self.engine.run(move |engine| engine.set_hosts(hosts)).await
    }

    /// Read again at each nudge and each poll, until the service stops.
    pub async fn follow(&self, mut nudges: async_nats::Subscriber) -> anyhow::Result<()> {
        let token = self.ctx.tasks.token();
        let mut failed = false;
        let mut next_poll = Instant::now() + self.poll;
        loop {
            let read = tokio::select! {
                nudge = nudges.next() => {
                    anyhow::ensure!(nudge.is_some(), "the subscription to {} ended", subject::CONFIG_REVISION);
                    // One read answers all nudges that wait.
                    while let Some(Some(_)) = nudges.next().now_or_never() {}
                    match self.read_gone().await {
                        Ok(()) => self.read_rules().await,
                        failed => failed,
                    }
                }
                () = tokio::time::sleep_until(next_poll) => {
                    next_poll = Instant::now() + self.poll;
                    self.read().await
                }
                () = token.cancelled() => return Ok(()),
            };
            match read {
                Ok(()) => failed = false,
                Err(error) => {
                    self.metrics.refresh_failures.inc();
                    if !std::mem::replace(&mut failed, true) {
                        let error = report(error.as_ref());
                        tracing::warn!(
                            error,
                            "cannot read from config-service; what was read before stays in force"
                        );
                    }
                }
            }
        }
    }
}

/// What config-service knows of these agents; of some, maybe nothing.
pub async fn fetch_hosts(client: &async_nats::Client, agents: Vec<AgentId>) -> Vec<(AgentId, HostInfo)> {
    let fetch = |agent: AgentId| async move {
        let query = HostQuery { agent: Some(agent.clone()), ..HostQuery::default() };
        let answer =
            request::request::<_, HostList>(client, subject::ADMIN_HOSTS, &query, HOST_TIMEOUT).await;
        match answer {
            Ok(list) => list.hosts.into_iter().find(|host| host.agent == agent).map(host_info),
            Err(error) => {
                tracing::debug!(%agent, %error, "config-service says nothing of a host");
                None
            }
        }
    };
    join_all(agents.into_iter().map(fetch)).await.into_iter().flatten().collect()
}

fn host_info(host: Host) -> (AgentId, HostInfo) {
    let seen = host.last_seen_ms > 0;
    let Host { facts, labels, groups, vars, checks, .. } = host;
    (host.agent, HostInfo { facts, labels, groups, vars, checks, seen })
}
