//! What comes next, what was unusual, who is unlike the others: for dashboards and the command line.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
};
use protocol::{
    admin::Role,
    predict::{OutlierList, OutlierQuery, PredictQuery, Prediction, SuggestQuery, Suggestions},
    subject,
};

use super::{
    caller::Caller,
    operator_api::{Answer, json},
    routes::App,
};

/// A prediction waits its turn, and a large group takes a while to read.
const ANSWER: Duration = Duration::from_secs(10);

pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<PredictQuery>, QueryRejection>,
) -> Answer<Prediction> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::QUERY_PREDICT, &query?.0, ANSWER).await?))
}

/// As a POST, since the hosts are a list.
pub(crate) async fn outliers(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<OutlierList> {
    caller.at_least(Role::Viewer)?;
    let query: OutlierQuery = json(body)?;
    Ok(Json(app.ask.ask(subject::QUERY_OUTLIERS, &query, ANSWER).await?))
}

pub(crate) async fn suggest(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<SuggestQuery>, QueryRejection>,
) -> Answer<Suggestions> {
    caller.at_least(Role::Viewer)?;
    Ok(Json(app.ask.ask(subject::QUERY_SUGGEST, &query?.0, ANSWER).await?))
}
