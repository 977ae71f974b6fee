//! Questions about what was measured. Answers may be long, so they are handed on as ingest wrote them.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use protocol::{
    admin::Role,
    query::{LatestQuery, ResultQuery},
    series::{AvailabilityQuery, SeriesQuery, TimelineQuery, TopQuery},
    subject,
};
use serde::Serialize;

use super::{caller::Caller, operator_api::json, routes::App};
use crate::{error::Problem, outbound::ANSWER};

type Asked<Q> = Result<Query<Q>, QueryRejection>;

async fn ask<Q: Serialize>(
    app: &App,
    caller: &Caller,
    subject: &str,
    question: Result<Q, Problem>,
) -> Result<Response, Problem> {
    caller.at_least(Role::Viewer)?;
    let answer = app.ask.hand_on(subject, &question?, ANSWER).await?;
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, answer).into_response())
}

fn asked<Q>(query: Asked<Q>) -> Result<Q, Problem> {
    Ok(query?.0)
}

pub(crate) async fn results(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Asked<ResultQuery>,
) -> Result<Response, Problem> {
    ask(&app, &caller, subject::QUERY_RESULTS, asked(query)).await
}

pub(crate) async fn latest(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Asked<LatestQuery>,
) -> Result<Response, Problem> {
    ask(&app, &caller, subject::QUERY_LATEST, asked(query)).await
}

pub(crate) async fn series(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Asked<SeriesQuery>,
) -> Result<Response, Problem> {
    ask(&app, &caller, subject::QUERY_SERIES, asked(query)).await
}

pub(crate) async fn timeline(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Asked<TimelineQuery>,
) -> Result<Response, Problem> {
    ask(&app, &caller, subject::QUERY_TIMELINE, asked(query)).await
}

pub(crate) async fn top(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Asked<TopQuery>,
) -> Result<Response, Problem> {
    ask(&app, &caller, subject::QUERY_TOP, asked(query)).await
}

/// As a POST, since the excluded times are a list.
pub(crate) async fn availability(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    ask(&app, &caller, subject::QUERY_AVAILABILITY, json::<AvailabilityQuery>(body)).await
}
