//! A whole installation, out and in: pieces of an archive, and hosts that leave for good.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
};
use protocol::{
    AgentId,
    admin::Role,
    archive::{RestoreQuery, RestoreRequest, RestoreState},
    decommission::HostDecommission,
    sign_in::AgentRevoked,
    subject,
    transfer::{Piece, PiecePut, PieceQuery, PieceTaken},
};
use serde::Deserialize;

use super::{
    caller::Caller,
    operator_api::{Answer, json},
    routes::App,
};
use crate::outbound::{ANSWER, CHANGE};

/// The next piece of an archive, from the replica that writes it.
pub(crate) async fn backup(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<PieceQuery>, QueryRejection>,
) -> Answer<Piece> {
    caller.at_least(Role::Admin)?;
    let query = PieceQuery { actor: caller.actor(), ..query?.0 };
    let subject =
        query.transfer.as_ref().map(|transfer| subject::transfer(subject::ADMIN_BACKUP, transfer.replica()));
    let subject = subject.unwrap_or_else(|| subject::ADMIN_BACKUP.to_owned());
    Ok(Json(app.ask.ask(&subject, &query, CHANGE).await?))
}

pub(crate) async fn piece(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<PieceTaken> {
    caller.at_least(Role::Admin)?;
    let put: PiecePut = json(body)?;
    let subject =
        put.transfer.as_ref().map(|transfer| subject::transfer(subject::ADMIN_RESTORE, transfer.replica()));
    let subject = subject.unwrap_or_else(|| subject::ADMIN_RESTORE.to_owned());
    Ok(Json(app.ask.ask(&subject, &put, CHANGE).await?))
}

pub(crate) async fn restore(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<RestoreState> {
    caller.at_least(Role::Admin)?;
    let request = RestoreRequest { actor: caller.actor(), ..json(body)? };
    let subject = subject::transfer_end(subject::ADMIN_RESTORE, request.transfer.replica());
    Ok(Json(app.ask.ask(&subject, &request, CHANGE).await?))
}

pub(crate) async fn restore_state(State(app): State<Arc<App>>, caller: Caller) -> Answer<RestoreState> {
    caller.at_least(Role::Admin)?;
    Ok(Json(app.ask.ask(subject::ADMIN_RESTORE_STATE, &RestoreQuery {}, ANSWER).await?))
}

/// Why a host leaves.
#[derive(Default, Deserialize)]
struct Why {
    #[serde(default)]
    message: String,
}

pub(crate) async fn decommission(
    State(app): State<Arc<App>>,
    caller: Caller,
    host: Result<Path<AgentId>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<AgentRevoked> {
    caller.at_least(Role::Admin)?;
    let body = body?;
    let Why { message } = if body.is_empty() { Why::default() } else { json::<Why>(Ok(body))? };
    let request = HostDecommission { agent: host?.0, actor: caller.actor(), message };
    let gone: AgentRevoked = app.ask.ask(subject::ADMIN_HOST_DECOMMISSION, &request, ANSWER).await?;
    app.keys.forget_host(&gone.agent);
    Ok(Json(gone))
}
