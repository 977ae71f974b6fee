//! Who may sign in, and who did what: enrolment tokens, hosts that are revoked, the audit log.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    response::Response,
};
use protocol::{
    AgentId,
    admin::Role,
    audit::{AuditPage, AuditQuery},
    sign_in::{
        AgentRevoke, AgentRevoked, TokenCreate, TokenCreated, TokenInfo, TokenList, TokenQuery, TokenRevoke,
    },
    subject,
};

use super::{
    caller::Caller,
    operator_api::{Answer, json, shown_once},
    routes::App,
};
use crate::{error::Problem, outbound::ANSWER};

pub(crate) async fn create_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    caller.at_least(Role::Admin)?;
    let request = TokenCreate { actor: caller.actor(), ..json(body)? };
    let created: TokenCreated = app.ask.ask(subject::ADMIN_TOKEN_CREATE, &request, ANSWER).await?;
    Ok(shown_once(created))
}

pub(crate) async fn list_tokens(State(app): State<Arc<App>>, caller: Caller) -> Answer<TokenList> {
    caller.at_least(Role::Admin)?;
    Ok(Json(app.ask.ask(subject::ADMIN_TOKEN_LIST, &TokenQuery {}, ANSWER).await?))
}

pub(crate) async fn revoke_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Answer<TokenInfo> {
    caller.at_least(Role::Admin)?;
    let request = TokenRevoke { id: id?.0, actor: caller.actor() };
    Ok(Json(app.ask.ask(subject::ADMIN_TOKEN_REVOKE, &request, ANSWER).await?))
}

pub(crate) async fn revoke_host(
    State(app): State<Arc<App>>,
    caller: Caller,
    host: Result<Path<AgentId>, PathRejection>,
) -> Answer<AgentRevoked> {
    caller.at_least(Role::Admin)?;
    let request = AgentRevoke { agent: host?.0, actor: caller.actor() };
    let revoked: AgentRevoked = app.ask.ask(subject::ADMIN_HOST_REVOKE, &request, ANSWER).await?;
    app.keys.forget_host(&revoked.agent);
    Ok(Json(revoked))
}

pub(crate) async fn audit(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Answer<AuditPage> {
    caller.at_least(Role::Admin)?;
    Ok(Json(app.ask.ask(subject::ADMIN_AUDIT, &query?.0, ANSWER).await?))
}
