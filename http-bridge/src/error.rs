//! Errors as HTTP tells them: RFC 9457, `application/problem+json`.

use axum::{
    Json,
    extract::rejection::{BytesRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{ErrorCode, ErrorReply, admin::Problem as DocumentProblem};
use serde::Serialize;

/// One refused request.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<String>,
    problems: Vec<DocumentProblem>,
    /// Seconds.
    retry_after: Option<u64>,
}

/// A [`Problem`] as it is sent.
#[derive(Serialize)]
struct Body<'a> {
    /// `urn:dogwatch:problem:bad-request`: the title as a name.
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// JSON pointer to the field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// Every problem of a set of documents.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    problems: &'a [DocumentProblem],
}

/// The one place that turns an error of the wire into a status.
fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Invalid => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Internal | ErrorCode::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Problem {
    pub(crate) fn of_status(status: StatusCode, detail: impl Into<String>) -> Self {
        let retry_after =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Self { status, detail: detail.into(), field: None, problems: Vec::new(), retry_after }
    }

    pub(crate) fn too_many(what: &str, wait: std::time::Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(1);
        let detail = format!("too many {what}: try again in {seconds} s");
        Self { retry_after: Some(seconds), ..Self::of_status(status(ErrorCode::Overloaded), detail) }
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::of_status(status(ErrorCode::Unavailable), detail)
    }

    /// Whether the request itself is at fault, so that the same one would fail again.
    pub(crate) fn is_invalid(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<ErrorReply> for Problem {
    fn from(error: ErrorReply) -> Self {
        let status = status(error.code);
        let detail = if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = error.message, "a request failed");
            "internal error: the log of the service that failed has the reason".to_owned()
        } else {
            error.message
        };
        Self { field: error.field, problems: error.problems, ..Self::of_status(status, detail) }
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorReply::new(
                ErrorCode::TooLarge,
                "the body is larger than this server takes: send it in parts",
            )
            .into(),
            _ => ErrorReply::invalid("the body ended early or could not be read").into(),
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        ErrorReply::invalid(rejection.body_text()).into()
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        ErrorReply::invalid(rejection.body_text()).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, detail, field, problems, retry_after } = &self;
        let title = status.canonical_reason().unwrap_or("Error");
        let body = Body {
            r#type: format!("urn:dogwatch:problem:{}", title.to_ascii_lowercase().replace(' ', "-")),
            title,
            status: status.as_u16(),
            detail,
            field: field.as_deref(),
            problems,
        };
        let mut response = (*status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
        }
        if *status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("X-API-Key"));
        }
        response
    }
}
