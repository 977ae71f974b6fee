//! Who may sign in: enrolment tokens, revoked hosts, and the audit log, as operators ask for them.

use std::sync::{Arc, PoisonError, RwLock};

use protocol::{
    AgentId, ErrorCode, ErrorReply,
    admin::Role,
    audit::{AuditPage, AuditQuery},
    log::LogChange,
    sign_in::{
        AgentRevoke, AgentRevoked, TokenCreate, TokenCreated, TokenInfo, TokenList, TokenQuery, TokenRevoke,
    },
    subject,
};
use service_kit::{Context, now_ms, respond};

use crate::{
    audit,
    changes::{Changes, Snapshot},
    core::model::Model,
    outbound::connections::Connections,
    random,
};

#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) ctx: Context,
    pub(crate) model: Arc<RwLock<Model>>,
    pub(crate) changes: Arc<Changes>,
    /// `None`: without access to the broker's system account.
    pub(crate) connections: Option<Connections>,
}

impl Access {
    pub(crate) async fn serve(self, ctx: &Context) -> anyhow::Result<()> {
        let limits = respond::Limits::default();
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_TOKEN_CREATE, limits, move |_, request| {
            this.clone().create_token(request)
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_TOKEN_LIST, limits, move |_, _: TokenQuery| {
            std::future::ready(this.list_tokens())
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_TOKEN_REVOKE, limits, move |_, request| {
            this.clone().revoke_token(request)
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_HOST_REVOKE, limits, move |_, request| {
            this.clone().revoke_host(request)
        })
        .await?;
        self.serve_decommission(ctx).await?;
        respond::respond(ctx, subject::ADMIN_AUDIT, limits, move |_, query| self.clone().audit(query)).await
    }

    async fn create_token(self, request: TokenCreate) -> Result<TokenCreated, ErrorReply> {
        let token = random::new_token().map_err(|error| {
            ErrorReply::new(ErrorCode::Internal, format!("no random numbers for a token: {error}"))
        })?;
        let (secret, now, actor) = (token.clone(), now_ms(), request.actor.clone());
        let message = "create an enrolment token".to_owned();
        let plan = move |snapshot: &Snapshot| {
            let token = snapshot.sign_ins.create(&request, &secret, now)?;
            let id = token.id.clone();
            Ok((vec![LogChange::TokenCreated { token }], id))
        };
        let (_, id) = self.changes.make(actor, message, plan).await?;
        let info = self.changes.snapshot().sign_ins.token(&id)?;
        Ok(TokenCreated { token, info })
    }

    fn list_tokens(&self) -> Result<TokenList, ErrorReply> {
        self.changes.answerable()?;
        Ok(TokenList { tokens: self.changes.snapshot().sign_ins.infos() })
    }

    async fn revoke_token(self, request: TokenRevoke) -> Result<TokenInfo, ErrorReply> {
        let (now, id) = (now_ms(), request.id);
        let message = format!("revoke the token {}", id.chars().take(32).collect::<String>());
        let plan = move |snapshot: &Snapshot| {
            let token = snapshot.sign_ins.token(&id)?;
            let revoke = LogChange::TokenRevoked { id: id.clone(), at_ms: now };
            let changes = if token.revoked_ms.is_none() { vec![revoke] } else { Vec::new() };
            Ok((changes, TokenInfo { revoked_ms: token.revoked_ms.or(Some(now)), ..token }))
        };
        Ok(self.changes.make(request.actor, message, plan).await?.1)
    }

    /// What signs a host in no more: its NKey and its API keys, in one change.
    async fn revoke_host(self, request: AgentRevoke) -> Result<AgentRevoked, ErrorReply> {
        let (now, agent) = (now_ms(), request.agent.clone());
        let known = self.model.read().unwrap_or_else(PoisonError::into_inner).has_host(&agent);
        let message = format!("revoke the host {agent}");
        let plan = move |snapshot: &Snapshot| {
            let (changes, keys) = revocation(snapshot, &agent, now);
            if changes.is_empty() && !known {
                let message = format!("there is no host {agent}: `dogwatch hosts` shows all");
                return Err(ErrorReply::new(ErrorCode::NotFound, message).at("agent"));
            }
            Ok((changes, keys))
        };
        let (_, keys) = self.changes.make(request.actor, message, plan).await?;
        let connections = self.cut(&request.agent, "revoked").await?;
        Ok(AgentRevoked { agent: request.agent, keys, connections })
    }

    /// Cut the connections of a host that signs in no more. How many there were, where that can be known.
    pub(super) async fn cut(&self, agent: &AgentId, what: &str) -> Result<Option<u32>, ErrorReply> {
        let Some(connections) = &self.connections else { return Ok(None) };
        let cut = connections.cut(agent).await.map_err(|reason| {
            let message = format!(
                "{agent} is {what}, and its open connections could not be cut ({reason}): say it again"
            );
            ErrorReply::new(ErrorCode::Unavailable, message)
        });
        cut.map(Some)
    }

    async fn audit(self, query: AuditQuery) -> Result<AuditPage, ErrorReply> {
        audit::page(&self.ctx, &self.changes, query).await
    }
}

/// The changes that take a host's sign-in away, and how many API keys are among them. None where it has none.
pub(crate) fn revocation(snapshot: &Snapshot, agent: &AgentId, now: u64) -> (Vec<LogChange>, u32) {
    let own = |key: &&protocol::log::KeyRecord| {
        key.role == Role::Agent && key.agent.as_ref() == Some(agent) && key.revoked_ms.is_none()
    };
    let mut changes: Vec<LogChange> = snapshot
        .keys
        .values()
        .filter(own)
        .map(|key| LogChange::KeyRevoked { id: key.id.clone(), at_ms: now })
        .collect();
    let keys = u32::try_from(changes.len()).unwrap_or(u32::MAX);
    if snapshot.sign_ins.is_enrolled(agent) {
        changes.push(LogChange::AgentRevoked { agent: agent.clone(), at_ms: now });
    }
    (changes, keys)
}
