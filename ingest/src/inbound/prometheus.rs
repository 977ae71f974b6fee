//! Questions of Prometheus' HTTP API, on `dogwatch.v1.query.prometheus`.

use std::time::Duration;

use protocol::{
    ErrorCode, ErrorReply,
    query::{PrometheusAnswer, PrometheusQuery},
    subject,
};
use serde_json::value::RawValue;
use service_kit::{
    Context, now_ms,
    respond::{Limits, respond},
};

use crate::{core::parameters::Parameters, query::Prometheus};

/// Evaluations at once: each may hold a thread and its samples.
const AT_ONCE: usize = 4;
/// For what comes before and behind an evaluation.
const MARGIN: Duration = Duration::from_secs(2);

/// # Errors
/// When the subscription cannot be made.
pub async fn answer(ctx: &Context, prometheus: Prometheus, timeout: Duration) -> anyhow::Result<()> {
    let limits = Limits { concurrency: AT_ONCE, deadline: timeout.saturating_add(MARGIN) };
    respond(ctx, subject::QUERY_PROMETHEUS, limits, move |_, question: PrometheusQuery| {
        let prometheus = prometheus.clone();
        async move {
            let evaluated = tokio::task::spawn_blocking(move || {
                let PrometheusQuery { endpoint, parameters } = question;
                let (status, body) = prometheus.answer(&endpoint, &Parameters(&parameters), now_ms());
                RawValue::from_string(body).map(|body| PrometheusAnswer { status, body })
            });
            let internal = |reason: String| ErrorReply::new(ErrorCode::Internal, reason);
            let answer = evaluated.await.map_err(|error| internal(error.to_string()))?;
            answer.map_err(|error| internal(format!("the answer is no JSON: {error}")))
        }
    })
    .await
}
