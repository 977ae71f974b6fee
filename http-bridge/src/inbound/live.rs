//! Results as they come, as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use protocol::{AgentId, CheckName, ErrorReply, Status, admin::Role};
use serde::Deserialize;

use super::{caller::Caller, routes::App};
use crate::{
    core::tail::Next,
    error::Problem,
    outbound::{Filter, Live},
};

/// A comment goes out when nothing else has for so long.
const ALIVE: Duration = Duration::from_secs(15);
/// After so long the stream ends, and clients come again: so a revoked key does not read for ever.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
pub(crate) struct LiveQuery {
    #[serde(default)]
    agent: Option<AgentId>,
    #[serde(default)]
    check: Option<CheckName>,
    /// One or more, with commas between them.
    #[serde(default)]
    status: Option<String>,
}

impl LiveQuery {
    fn filter(self) -> Result<Filter, Problem> {
        let words = self.status.iter().flat_map(|text| text.split(',')).map(str::trim);
        let statuses: Result<Vec<Status>, Problem> = words
            .map(|word| {
                let known = [Status::Ok, Status::Unknown, Status::Warning, Status::Critical];
                known.into_iter().find(|status| status.as_str() == word).ok_or_else(|| {
                    ErrorReply::invalid("a status is ok, warning, critical or unknown").at("status").into()
                })
            })
            .collect();
        Ok(Filter { agent: self.agent, check: self.check, statuses: statuses? })
    }
}

pub(crate) async fn live(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<LiveQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.at_least(Role::Viewer)?;
    let filter = query?.0.filter()?;
    let live = app.live.follow(&app.ask, filter).await?;
    let until = tokio::time::Instant::now() + LONGEST;
    let events = stream::unfold((live, app), move |(mut live, app)| async move {
        let event = next(&mut live, &app, until).await?;
        Some((Ok::<_, Infallible>(event), (live, app)))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE));
    Ok(([(header::CACHE_CONTROL, "no-store")], events).into_response())
}

async fn next(live: &mut Live, app: &App, until: tokio::time::Instant) -> Option<Event> {
    let next = tokio::select! {
        next = live.next() => next?,
        () = app.stop.cancelled() => return None,
        () = tokio::time::sleep_until(until) => return None,
    };
    Some(match next {
        Next::Item(line) => Event::default().event("result").data(line),
        Next::Dropped(count) => Event::default().event("dropped").data(format!("{{\"dropped\":{count}}}")),
    })
}
