//! What people do about alerts: ask why, acknowledge, silence. The alerter decides.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
};
use protocol::{
    ErrorReply, SilenceName,
    admin::Role,
    alert::Alert,
    attend::{
        AcknowledgeRequest, SilenceExpire, SilenceInfo, SilenceList, SilencePut, SilenceQuery, Why, WhyQuery,
    },
    operate::Silence,
    subject,
};
use serde::Deserialize;

use super::{
    caller::Caller,
    operator_api::{Answer, json},
    routes::App,
};
use crate::outbound::ANSWER;

pub(crate) async fn why(
    State(app): State<Arc<App>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Answer<Why> {
    caller.at_least(Role::Viewer)?;
    let query = WhyQuery { id: id?.0 };
    Ok(Json(app.ask.ask(subject::ALERTER_WHY, &query, ANSWER).await?))
}

#[derive(Deserialize)]
pub(crate) struct Acknowledged {
    for_ms: u64,
    #[serde(default)]
    note: String,
}

pub(crate) async fn acknowledge(
    State(app): State<Arc<App>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Alert> {
    caller.at_least(Role::Editor)?;
    let Path(id) = id?;
    let Acknowledged { for_ms, note } = json(body)?;
    let request = AcknowledgeRequest { id, for_ms, note, actor: caller.actor() };
    Ok(Json(app.ask.ask(subject::ALERTER_ACKNOWLEDGE, &request, ANSWER).await?))
}

pub(crate) async fn silences(State(app): State<Arc<App>>, caller: Caller) -> Answer<SilenceList> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::ALERTER_SILENCE_LIST, &SilenceQuery {}, ANSWER).await?))
}

pub(crate) async fn silence(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<SilenceInfo> {
    caller.at_least(Role::Editor)?;
    let silence = Silence { author: caller.actor(), ..json(body)? };
    Ok(Json(app.ask.ask(subject::ALERTER_SILENCE_PUT, &SilencePut { silence }, ANSWER).await?))
}

pub(crate) async fn expire(
    State(app): State<Arc<App>>,
    caller: Caller,
    name: Result<Path<String>, PathRejection>,
) -> Answer<SilenceInfo> {
    caller.at_least(Role::Editor)?;
    let name = SilenceName::new(name?.0.as_str())
        .map_err(|error| ErrorReply::invalid(error.to_string()).at("name"))?;
    Ok(Json(app.ask.ask(subject::ALERTER_SILENCE_EXPIRE, &SilenceExpire { name }, ANSWER).await?))
}
