//! The two documented endpoints for agents that are shell scripts (G9), served as they are for ever.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{ErrorReply, config::CheckSpec};
use serde::Serialize;
use service_kit::now_ms;

use super::{caller::Caller, routes::App};
use crate::{
    core::{etag, judge, script::for_script, submission},
    error::Problem,
    outbound::Submission,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[derive(Serialize)]
struct ConfigBody<'a> {
    revision: u64,
    checks: Vec<Cow<'a, CheckSpec>>,
}

/// `GET /api/agent/config`: the checks that a script can run.
pub(crate) async fn config(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let config = app.configs.current(caller.agent()?).await?;
    let tag = etag::quote(&config.etag);
    let etag_header = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "private, no-cache".to_owned())];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| etag::matches(known, &tag)) {
        return Ok((StatusCode::NOT_MODIFIED, etag_header).into_response());
    }
    let checks = config.checks.iter().filter_map(for_script).collect();
    let body = ConfigBody { revision: config.revision, checks };
    Ok((etag_header, Json(body)).into_response())
}

#[derive(Serialize)]
pub(crate) struct Accepted {
    accepted: usize,
}

/// `POST /api/submit`: 202 once the broker has stored every value.
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let agent = caller.agent()?;
    let body = body?;
    let now_ms = now_ms();
    let understood = repeat_key(&headers)
        .and_then(|key| Ok((key, submission::parse(&body, now_ms)?)))
        .map_err(Problem::from);
    let (repeat_key, readings) = match understood {
        Ok(understood) => understood,
        Err(problem) => {
            app.metrics.rejected.inc();
            if problem.is_invalid()
                && let Err(error) = app.streams.reject(Submission { agent, body }, problem.detail()).await
            {
                app.metrics.rejected_lost.inc();
                tracing::warn!(%agent, error, "a rejected submission could not be kept");
            }
            return Err(problem);
        }
    };
    let config = app.configs.recent(agent).await;
    let mut results = Vec::with_capacity(readings.len());
    for (index, reading) in readings.into_iter().enumerate() {
        let checks = config.iter().flat_map(|config| &config.checks);
        let spec = checks.into_iter().find(|spec| spec.name == reading.check);
        let id = match repeat_key {
            Some(key) => judge::repeatable_id(agent, key, index),
            None => ulid::Ulid::generate().to_string(),
        };
        results.push(judge::result(agent, reading, spec, id, now_ms));
    }
    let accepted = results.len();
    app.streams.publish(results).await?;
    app.metrics.accepted.inc_by(accepted as u64);
    Ok((StatusCode::ACCEPTED, Json(Accepted { accepted })))
}

fn repeat_key(headers: &HeaderMap) -> Result<Option<&str>, ErrorReply> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    key.map(Some)
        .ok_or_else(|| ErrorReply::invalid("Idempotency-Key must have 1 to 255 printable ASCII characters"))
}
