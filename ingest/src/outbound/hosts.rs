//! The labels of hosts, as config-service has them: read at the start and every half minute, kept when it is away.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use protocol::{
    AgentId,
    admin::{HostList, HostQuery},
    subject,
};
use service_kit::{
    Context, report,
    request::{self, request},
};
use tokio::{sync::watch, time::MissedTickBehavior};

use crate::core::naming;

const EVERY: Duration = Duration::from_secs(30);

/// Labels of each host, as PromQL may hold them.
pub type HostLabels = HashMap<AgentId, BTreeMap<String, String>>;

/// Read them from now on; the newest are in the channel.
pub fn follow(ctx: &Context) -> watch::Receiver<Arc<HostLabels>> {
    let (sender, receiver) = watch::channel(Arc::default());
    let (context, token) = (ctx.clone(), ctx.tasks.token());
    ctx.tasks.spawn("labels of hosts", async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while token.run_until_cancelled(tick.tick()).await.is_some() {
            let Some(read) = token.run_until_cancelled(read(&context)).await else { break };
            match read {
                Ok(labels) => {
                    sender.send_replace(Arc::new(labels));
                }
                Err(error) => {
                    // Whoever waits for the first reading need not wait for more.
                    sender.send_modify(|_| {});
                    tracing::debug!(error = report(error.as_ref()), "the labels of hosts cannot be read");
                }
            }
        }
        Ok(())
    });
    receiver
}

async fn read(ctx: &Context) -> anyhow::Result<HostLabels> {
    let mut labels = HostLabels::new();
    let mut query = HostQuery::default();
    loop {
        let page: HostList = request(&ctx.nats, subject::ADMIN_HOSTS, &query, request::TIMEOUT).await?;
        let hosts = page.hosts.into_iter().filter(|host| !host.labels.is_empty());
        labels.extend(hosts.map(|host| (host.agent, naming::host_labels(&host.labels))));
        let Some(next) = page.next else { return Ok(labels) };
        // Upwards only, so that this ends whoever answers.
        anyhow::ensure!(query.after.as_ref() < Some(&next), "the pages of hosts go back to {next}");
        query.after = Some(next);
    }
}
