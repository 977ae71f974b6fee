//! Which path leads where, and what surrounds every request: an id, a count, limits, an end to panics.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use protocol::{ErrorCode, ErrorReply, limits};
use service_kit::{Context, audit::Audit, monitor};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    HttpMetrics, Limits, access_api,
    account::{self, Who},
    agent_api, archive_api, attend_api, letters_api,
    listener::Peer,
    live, operator_api, prometheus, query_api, rollouts, run,
};
use crate::{
    error::Problem,
    outbound::{Ask, Configs, Keys, LiveTails, Streams},
    settings::Settings,
};

/// Largest body of an apply: what is left of the broker's limit after JSON's own escapes.
const APPLY_BODY: usize = limits::MESSAGE / 4 * 3;
/// How long a request may take from its head to its answer, a slow body included.
const REQUEST: Duration = Duration::from_secs(30);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the handlers share.
pub(crate) struct App {
    pub(crate) ask: Ask,
    pub(crate) keys: Keys,
    pub(crate) configs: Configs,
    pub(crate) streams: Streams,
    pub(crate) live: LiveTails,
    pub(crate) limits: Limits,
    pub(crate) metrics: HttpMetrics,
    pub(crate) audit: Audit,
    /// Cancelled when the service stops.
    pub(crate) stop: CancellationToken,
    body_limit: usize,
    free: Semaphore,
}

impl App {
    pub(crate) fn new(settings: &Settings, ctx: &Context) -> Self {
        let ask = Ask(ctx.nats.clone());
        Self {
            keys: Keys::new(ask.clone()),
            configs: Configs::new(ask.clone()),
            streams: Streams::new(ask.clone(), ctx.jetstream(), ctx.name),
            live: LiveTails::new(ctx, settings.live_readers),
            limits: Limits::new(settings.rate, settings.burst),
            metrics: HttpMetrics::new(ctx),
            audit: Audit::start(ctx),
            stop: ctx.tasks.token(),
            body_limit: settings.body_limit,
            free: Semaphore::new(settings.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            ask,
        }
    }
}

/// All endpoints.
pub(crate) fn everything(app: &Arc<App>, ctx: &Context) -> Router {
    let routes = agent_routes()
        .route("/", get(|| async { ABOUT }))
        .route("/api/v1/apply", post(operator_api::apply).layer(DefaultBodyLimit::max(APPLY_BODY)))
        .route("/api/v1/rollback", post(operator_api::rollback))
        .route("/api/v1/history", get(operator_api::history))
        .route("/api/v1/diff", get(operator_api::diff))
        .route("/api/v1/explain", get(operator_api::explain))
        .route("/api/v1/documents", get(operator_api::documents))
        .route("/api/v1/hosts", get(operator_api::hosts))
        .route("/api/v1/hosts/{host}/checks/{check}/run", post(run::run))
        .route("/api/v1/checks", get(operator_api::checks))
        .route("/api/v1/results", get(query_api::results))
        .route("/api/v1/results/latest", get(query_api::latest))
        .route("/api/v1/results/live", get(live::live))
        .route("/api/v1/alerts", get(operator_api::alerts))
        .route("/api/v1/alerts/{id}/why", get(attend_api::why))
        .route("/api/v1/alerts/{id}/acknowledge", post(attend_api::acknowledge))
        .route("/api/v1/silences", get(attend_api::silences).post(attend_api::silence))
        .route("/api/v1/silences/{name}", delete(attend_api::expire))
        .route("/api/v1/notifications", get(letters_api::list).post(letters_api::change))
        .route("/api/v1/receivers/{name}/test", post(letters_api::test))
        .route("/api/v1/loss", get(operator_api::loss))
        .route("/api/v1/rollouts", get(rollouts::list))
        .route("/api/v1/rollouts/{revision}", get(rollouts::one).post(rollouts::change))
        .route("/api/v1/query/series", get(query_api::series))
        .route("/api/v1/query/timeline", get(query_api::timeline))
        .route("/api/v1/query/top", get(query_api::top))
        .route("/api/v1/query/availability", post(query_api::availability))
        .route("/prometheus/api/v1/{*endpoint}", get(prometheus::ask).post(prometheus::ask))
        .route("/api/v1/keys", post(operator_api::create_key).get(operator_api::list_keys))
        .route("/api/v1/keys/{id}", delete(operator_api::revoke_key))
        .route("/api/v1/tokens", post(access_api::create_token).get(access_api::list_tokens))
        .route("/api/v1/tokens/{id}", delete(access_api::revoke_token))
        .route("/api/v1/hosts/{host}/revoke", post(access_api::revoke_host))
        .route("/api/v1/hosts/{host}/decommission", post(archive_api::decommission))
        .route("/api/v1/backup", get(archive_api::backup))
        .route("/api/v1/restore", get(archive_api::restore_state).post(archive_api::restore))
        .route("/api/v1/restore/pieces", post(archive_api::piece).layer(DefaultBodyLimit::max(APPLY_BODY)))
        .route("/api/v1/audit", get(access_api::audit));
    surround(routes, app, ctx)
}

/// The endpoints for agents alone.
pub(crate) fn submissions(app: &Arc<App>, ctx: &Context) -> Router {
    surround(agent_routes(), app, ctx)
}

const ABOUT: &str = "dogwatch\n\n\
    GET  /api/agent/config   what a host is to check (key of role agent)\n\
    POST /api/submit         what it found\n\
    GET  /api/v1/hosts, checks, results, alerts, loss, history, diff, explain, rollouts   (key of role viewer)\n\
    GET  /api/v1/results/live   results as they come, as server-sent events (key of role viewer)\n\
    GET  /api/v1/results/latest   the latest of each check (key of role viewer)\n\
    GET  /api/v1/query/series, timeline, top, POST /api/v1/query/availability   (key of role viewer)\n\
    GET  /prometheus/api/v1/query, query_range, labels, series   PromQL, for Grafana too (key of role viewer)\n\
    POST /api/v1/apply, rollback; GET /api/v1/documents   (key of role editor)\n\
    POST /api/v1/rollouts/REVISION   pause, resume, abort or promote it (key of role editor)\n\
    GET  /api/v1/alerts/ID/why, silences   (key of role viewer)\n\
    POST /api/v1/alerts/ID/acknowledge, silences; DELETE /api/v1/silences/NAME   (key of role editor)\n\
    POST /api/v1/hosts/HOST/checks/CHECK/run   run it now (key of role editor)\n\
    /api/v1/keys, tokens; GET /api/v1/audit; POST /api/v1/hosts/HOST/revoke, decommission   (key of role admin)\n\
    GET  /api/v1/backup, GET|POST /api/v1/restore   (key of role admin)\n\
    GET  /livez, /readyz, /metrics\n\n\
    Send the key in the header X-API-Key.\n";

fn agent_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/agent/config", get(agent_api::config))
        .route("/api/submit", post(agent_api::submit))
}

fn surround(routes: Router<Arc<App>>, app: &Arc<App>, ctx: &Context) -> Router {
    routes
        .layer(middleware::from_fn_with_state(Arc::clone(app), bounded))
        .with_state(Arc::clone(app))
        .merge(monitor::router(ctx.metrics.clone(), ctx.ready.clone()))
        .fallback(|| async { Problem::from(ErrorReply::new(ErrorCode::NotFound, "no such endpoint: see /")) })
        .method_not_allowed_fallback(|| async {
            Problem::of_status(StatusCode::METHOD_NOT_ALLOWED, "this endpoint has no such method: see Allow")
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(app.body_limit))
        .layer(middleware::from_fn_with_state(Arc::clone(app), observed))
}

/// A place among the requests worked on, and a limit on how long it is held. Health and metrics need none.
async fn bounded(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Ok(_place) = app.free.try_acquire() else {
        return Problem::unavailable("too many requests at once: try again in a moment").into_response();
    };
    tokio::time::timeout(REQUEST, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!("the request was not complete within {REQUEST:?}");
        Problem::of_status(StatusCode::REQUEST_TIMEOUT, detail).into_response()
    })
}

/// An id for the request, in the answer and in the log. The log has no headers and no query.
async fn observed(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let id = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok());
    let id = match id {
        Some(id) if (1..=64).contains(&id.len()) => id.to_owned(),
        _ => ulid::Ulid::generate().to_string(),
    };
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0);
    let who = Who::default();
    request.extensions_mut().insert(who.clone());
    let mut response = next.run(request).await;
    account::tell(&app.audit, &who, peer, (&method, &path), &response);
    let status = response.status().as_u16();
    app.metrics.answered(status);
    tracing::debug!(%method, path, status, ms = started.elapsed().as_millis(), request = id, "request");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    Problem::from(ErrorReply::new(ErrorCode::Internal, format!("panic: {text}"))).into_response()
}
