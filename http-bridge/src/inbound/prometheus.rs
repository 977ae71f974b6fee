//! Prometheus' HTTP API, so that Grafana takes `/prometheus` for a data source. Refusals are those of Prometheus too.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{
        FromRequestParts, Path, RawQuery, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::{
    ErrorCode, ErrorReply,
    admin::Role,
    query::{PrometheusAnswer, PrometheusQuery, QueryCancel},
    subject,
};
use service_kit::request;
use url::form_urlencoded;

use super::{caller::Caller, routes::App};
use crate::error::Problem;

/// For an answer: beyond ingest's own limit for one evaluation.
const ANSWER: Duration = Duration::from_secs(25);
/// Most parameters of one request.
const PARAMETERS: usize = 1_000;

/// A request whose key stood where Grafana can put it: in `X-API-Key`, as a bearer token, or as the password of basic
/// authentication with any user.
pub(crate) struct Reader;

impl FromRequestParts<Arc<App>> for Reader {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let caller = match key(&parts.headers) {
            Some(key) => Caller::of_key(&key, parts, app).await,
            None => Caller::from_request_parts(parts, app).await,
        };
        let allowed = caller.and_then(|caller| caller.at_least(Role::Viewer));
        allowed.map(|()| Self).map_err(refused)
    }
}

fn key(headers: &HeaderMap) -> Option<String> {
    if headers.contains_key("x-api-key") {
        return None;
    }
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

pub(crate) async fn ask(
    _reader: Reader,
    State(app): State<Arc<App>>,
    endpoint: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Response> {
    let Path(endpoint) = endpoint.map_err(|rejection| refused(rejection.into()))?;
    let body = body.map_err(|rejection| refused(rejection.into()))?;
    let mut parameters: Vec<(String, String)> = Vec::new();
    if let Some(query) = &query {
        parameters.extend(form_urlencoded::parse(query.as_bytes()).into_owned().take(PARAMETERS));
    }
    let form = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if form.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        parameters.extend(form_urlencoded::parse(&body).into_owned().take(PARAMETERS));
    }
    let id = ulid::Ulid::generate().to_string();
    let question = PrometheusQuery { endpoint, parameters, id: Some(id.clone()) };
    let waiting = Waiting { client: app.ask.0.clone(), id: Some(id) };
    let answer = answer(&app, &question).await;
    waiting.over();
    let (status, body) = answer.map_err(|error| refused(too_large(error).into()))?;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((status, json, body).into_response())
}

async fn answer(app: &App, question: &PrometheusQuery) -> Result<(u16, Bytes), ErrorReply> {
    let reply = app.ask.reply(subject::QUERY_PROMETHEUS, question, ANSWER).await?;
    if let Some((status, place)) = PrometheusAnswer::parts(&reply) {
        return Ok((status, reply.slice(place)));
    }
    let PrometheusAnswer { status, body } = request::decode(subject::QUERY_PROMETHEUS, &reply)?;
    Ok((status, Box::<str>::from(body).into_string().into()))
}

/// Takes the question back when it is dropped before the answer came: the client went away, or its time is over.
struct Waiting {
    client: async_nats::Client,
    id: Option<String>,
}

impl Waiting {
    fn over(mut self) {
        self.id = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let client = self.client.clone();
        runtime.spawn(async move {
            if let Ok(body) = protocol::encode(&QueryCancel { id }) {
                // If it is lost the evaluation ends with its time.
                let _lost = client.publish(subject::QUERY_CANCEL, body.into()).await;
            }
        });
    }
}

/// An answer that no message holds is the fault of the question.
fn too_large(error: ErrorReply) -> ErrorReply {
    match error.code {
        ErrorCode::TooLarge => ErrorReply::new(
            ErrorCode::TooLarge,
            "the answer is too large: ask for fewer series or a larger step",
        ),
        _ => error,
    }
}

/// A problem in the form that Prometheus' clients read.
fn refused(problem: Problem) -> Response {
    let kind = match problem.status() {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::BAD_REQUEST => "bad_data",
        StatusCode::PAYLOAD_TOO_LARGE => "execution",
        StatusCode::INTERNAL_SERVER_ERROR => "internal",
        _ => "unavailable",
    };
    let body = serde_json::json!({ "status": "error", "errorType": kind, "error": problem.detail() });
    let mut response = problem.into_response();
    let challenge = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if challenge {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let (parts, _) = response.into_parts();
    Response::from_parts(parts, body.to_string().into())
}
