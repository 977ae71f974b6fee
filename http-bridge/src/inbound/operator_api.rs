//! The operators' API: each endpoint is one question to one service, answered with the protocol's types as JSON.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{
    AgentId, ErrorReply,
    admin::{
        Applied, ApplyRequest, DiffQuery, Difference, DocumentList, DocumentQuery, ExplainQuery, Explanation,
        HistoryPage, HistoryQuery, HostList, HostQuery, KeyCreate, KeyCreated, KeyInfo, KeyList, KeyQuery,
        KeyRevoke, Role, RollbackRequest,
    },
    document::Kind,
    query::{AlertList, AlertQuery, ClockList, ClockQuery, LossList, LossQuery},
    subject,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{caller::Caller, routes::App};
use crate::{
    error::Problem,
    outbound::{ANSWER, CHANGE},
};

/// What a list of hosts waits for their clocks at most.
const CLOCKS: Duration = Duration::from_secs(1);

pub(crate) type Answer<T> = Result<Json<T>, Problem>;

pub(crate) fn json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    serde_json::from_slice(&body?).map_err(|error| {
        ErrorReply::invalid(format!("the body is not the JSON that is expected here: {error}")).into()
    })
}

pub(crate) async fn apply(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Applied> {
    let within = caller.editor()?;
    let request = ApplyRequest { actor: caller.actor(), within, ..json(body)? };
    Ok(Json(app.ask.ask(subject::ADMIN_APPLY, &request, CHANGE).await?))
}

pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Applied> {
    let within = caller.editor()?;
    let request = RollbackRequest { actor: caller.actor(), within, ..json(body)? };
    Ok(Json(app.ask.ask(subject::ADMIN_ROLLBACK, &request, CHANGE).await?))
}

pub(crate) async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Answer<HistoryPage> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::ADMIN_HISTORY, &query?.0, CHANGE).await?))
}

pub(crate) async fn diff(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<DiffQuery>, QueryRejection>,
) -> Answer<Difference> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::ADMIN_DIFF, &query?.0, CHANGE).await?))
}

pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Answer<Explanation> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::ADMIN_EXPLAIN, &query?.0, ANSWER).await?))
}

/// All documents, whole: the addresses of receivers may hold secrets, so it takes an editor.
pub(crate) async fn documents(State(app): State<Arc<App>>, caller: Caller) -> Answer<DocumentList> {
    caller.at_least(Role::Editor)?;
    Ok(Json(app.ask.ask(subject::ADMIN_DOCUMENTS, &DocumentQuery::default(), ANSWER).await?))
}

pub(crate) async fn hosts(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<HostQuery>, QueryRejection>,
) -> Answer<HostList> {
    caller.at_least(Role::Viewer)?;
    let mut list: HostList = app.ask.ask(subject::ADMIN_HOSTS, &query?.0, ANSWER).await?;
    clocks(&app, &mut list).await;
    Ok(Json(list))
}

/// Put in what ingest knows of the hosts' clocks. Without it the list is as good as before.
async fn clocks(app: &App, list: &mut HostList) {
    let agents: Vec<AgentId> = list.hosts.iter().map(|host| host.agent.clone()).collect();
    if agents.is_empty() {
        return;
    }
    let query = ClockQuery { agents, after: None };
    let Ok(found) = app.ask.ask::<_, ClockList>(subject::QUERY_CLOCKS, &query, CLOCKS).await else { return };
    let ahead: HashMap<AgentId, i64> =
        found.clocks.into_iter().map(|clock| (clock.agent, clock.ahead_ms)).collect();
    for host in &mut list.hosts {
        host.clock_ahead_ms = ahead.get(&host.agent).copied();
    }
}

pub(crate) async fn checks(State(app): State<Arc<App>>, caller: Caller) -> Answer<DocumentList> {
    caller.at_least(Role::Viewer)?;
    let query = DocumentQuery { kinds: vec![Kind::Check] };
    Ok(Json(app.ask.ask(subject::ADMIN_DOCUMENTS, &query, ANSWER).await?))
}

pub(crate) async fn alerts(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<AlertQuery>, QueryRejection>,
) -> Answer<AlertList> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::QUERY_ALERTS, &query?.0, ANSWER).await?))
}

pub(crate) async fn loss(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<LossQuery>, QueryRejection>,
) -> Answer<LossList> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::QUERY_LOSS, &query?.0, ANSWER).await?))
}

pub(crate) async fn create_key(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    caller.at_least(Role::Admin)?;
    let request = KeyCreate { actor: caller.actor(), ..json(body)? };
    let created: KeyCreated = app.ask.ask(subject::ADMIN_KEY_CREATE, &request, ANSWER).await?;
    Ok(shown_once(created))
}

/// An answer with a secret in it, which no cache may keep.
pub(super) fn shown_once(created: impl Serialize) -> Response {
    (StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(created)).into_response()
}

pub(crate) async fn list_keys(State(app): State<Arc<App>>, caller: Caller) -> Answer<KeyList> {
    caller.at_least(Role::Admin)?;
    Ok(Json(app.ask.ask(subject::ADMIN_KEY_LIST, &KeyQuery {}, ANSWER).await?))
}

pub(crate) async fn revoke_key(
    State(app): State<Arc<App>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Answer<KeyInfo> {
    caller.at_least(Role::Admin)?;
    let Path(id) = id?;
    let request = KeyRevoke { id, actor: caller.actor() };
    let revoked: KeyInfo = app.ask.ask(subject::ADMIN_KEY_REVOKE, &request, ANSWER).await?;
    app.keys.forget(&revoked.id);
    Ok(Json(revoked))
}
