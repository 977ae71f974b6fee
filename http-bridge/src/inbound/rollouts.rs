//! Rollouts: what they do, and orders to them.

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
    admin::Role,
    rollout::{Rollout, RolloutChange, RolloutList, RolloutOrder, RolloutQuery},
    subject,
};
use serde::Deserialize;

use super::{
    caller::Caller,
    operator_api::{Answer, json},
    routes::App,
};
use crate::{
    error::Problem,
    outbound::{ANSWER, CHANGE},
};

pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Answer<RolloutList> {
    look(&app, &caller, RolloutQuery::default()).await
}

pub(crate) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    revision: Result<Path<u64>, PathRejection>,
) -> Answer<RolloutList> {
    look(&app, &caller, RolloutQuery { revision: Some(revision?.0) }).await
}

async fn look(app: &App, caller: &Caller, query: RolloutQuery) -> Answer<RolloutList> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::ADMIN_ROLLOUT_LIST, &query, ANSWER).await?))
}

/// Body of an order.
#[derive(Deserialize)]
struct Order {
    order: RolloutOrder,
    #[serde(default)]
    message: String,
}

pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    revision: Result<Path<u64>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Rollout>, Problem> {
    caller.at_least(Role::Editor)?;
    let Order { order, message } = json(body)?;
    let request = RolloutChange { revision: revision?.0, order, actor: caller.actor(), message };
    Ok(Json(app.ask.ask(subject::ADMIN_ROLLOUT_CHANGE, &request, CHANGE).await?))
}
