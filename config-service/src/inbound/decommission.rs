//! Hosts that leave for good: out of the inventory, signed in by nothing, and no news to anybody.

use std::sync::PoisonError;

use protocol::{
    ErrorCode, ErrorReply,
    decommission::{DecommissionedList, DecommissionedQuery, HostDecommission, LISTED},
    log::LogChange,
    sign_in::AgentRevoked,
    subject,
};
use service_kit::{Context, now_ms, respond};

use super::access::{Access, revocation};
use crate::changes::Snapshot;

impl Access {
    pub(super) async fn serve_decommission(&self, ctx: &Context) -> anyhow::Result<()> {
        let limits = respond::Limits::default();
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_HOST_DECOMMISSION, limits, move |_, request| {
            this.clone().decommission(request)
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_HOST_DECOMMISSIONED, limits, move |_, _: DecommissionedQuery| {
            std::future::ready(this.decommissioned())
        })
        .await
    }

    async fn decommission(self, request: HostDecommission) -> Result<AgentRevoked, ErrorReply> {
        let HostDecommission { agent, actor, message } = request;
        let now = now_ms();
        let known = self.model.read().unwrap_or_else(PoisonError::into_inner).has_host(&agent);
        let mut words = format!("decommission the host {agent}");
        if !message.is_empty() {
            words += &format!(": {message}");
        }
        let host = agent.clone();
        let plan = move |snapshot: &Snapshot| {
            if snapshot.sign_ins.is_gone(&host) {
                return Ok((Vec::new(), 0));
            }
            let (mut changes, keys) = revocation(snapshot, &host, now);
            if changes.is_empty() && !known {
                let message = format!("there is no host {host}: `dogwatch hosts` shows all");
                return Err(ErrorReply::new(ErrorCode::NotFound, message).at("agent"));
            }
            changes.push(LogChange::HostDecommissioned { agent: host.clone(), at_ms: now });
            Ok((changes, keys))
        };
        let (_, keys) = self.changes.make(actor, words, plan).await?;
        let connections = self.cut(&agent, "decommissioned").await?;
        Ok(AgentRevoked { agent, keys, connections })
    }

    fn decommissioned(&self) -> Result<DecommissionedList, ErrorReply> {
        self.changes.answerable()?;
        let snapshot = self.changes.snapshot();
        let mut gone: Vec<_> = snapshot.sign_ins.gone().filter(|(_, gone)| !gone.back).collect();
        gone.sort_by_key(|(_, gone)| std::cmp::Reverse(gone.at_ms));
        Ok(DecommissionedList {
            agents: gone.into_iter().take(LISTED).map(|(agent, _)| agent.clone()).collect(),
        })
    }
}
