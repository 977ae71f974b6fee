//! Running a check now: the agent's events as lines of JSON, while they come.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use protocol::{
    AgentId, CheckName, ErrorCode, VERSION,
    run::{RunEvent, RunReply, RunRequest},
};
use serde::Deserialize;

use super::{caller::Caller, routes::App};
use crate::{
    error::Problem,
    outbound::{Events, Next},
};

/// Longest wait for a run that is under way, in milliseconds: the answer's head has to come in time.
const LONGEST_WAIT_MS: u64 = 20_000;

/// An empty line goes out when nothing else has for so long: a silent check is no idle connection.
const ALIVE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
pub(crate) struct RunQuery {
    /// How long to wait for a run that is under way, in milliseconds.
    #[serde(default)]
    wait_ms: Option<u64>,
}

pub(crate) async fn run(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(AgentId, CheckName)>, PathRejection>,
    query: Result<Query<RunQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let within = caller.editor()?;
    let Path((agent, check)) = path?;
    if within.is_some() {
        app.ask.within(&agent, within).await?;
    }
    let wait_ms = query?.0.wait_ms.map(|wait| wait.min(LONGEST_WAIT_MS));
    let request = RunRequest { v: VERSION, check, wait_ms, by: caller.actor() };
    let (first, events) = app.ask.run(&agent, &request).await?;
    let lines = stream::unfold((Some(line(&first)), events, app), |(first, mut events, app)| async {
        let bytes = match first {
            Some(first) => first,
            None => next(&mut events, &app).await?,
        };
        Some((Ok::<_, Infallible>(bytes), (None, events, app)))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// The next line; `None` after the last one. A run whose end does not come has a last line as well.
async fn next(events: &mut Events, app: &App) -> Option<Bytes> {
    let cut_off = |reason: &str| {
        let reason = reason.to_owned();
        Some(line(&RunEvent::Refused { code: ErrorCode::Unavailable, reason }.into()))
    };
    let next = tokio::select! {
        next = events.next() => next,
        () = tokio::time::sleep(ALIVE) => return Some(Bytes::from_static(b"\n")),
        () = app.stop.cancelled() => {
            events.end();
            return cut_off("the bridge is stopping; the run goes on");
        }
    };
    match next {
        Next::Event(reply) => Some(line(&reply)),
        Next::Over => None,
        Next::Silence | Next::NobodyListens => cut_off("nothing more came from the agent"),
    }
}

fn line(reply: &RunReply) -> Bytes {
    // It was read from JSON, so it can be written as JSON.
    let mut line = protocol::encode(reply).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
