//! Questions of Prometheus' HTTP API, on `dogwatch.v1.query.prometheus`, and who takes one back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use protocol::{
    ErrorCode, ErrorReply, limits,
    query::{PrometheusAnswer, PrometheusQuery, QueryCancel},
    subject,
};
use service_kit::{
    Context, now_ms,
    respond::{Limits, respond_encoded},
};
use tokio_util::sync::CancellationToken;

use crate::{core::parameters::Parameters, query::Prometheus};

/// Evaluations at once: each may hold a thread and its samples.
const AT_ONCE: usize = 4;
/// For what comes before and behind an evaluation.
const MARGIN: Duration = Duration::from_secs(2);
/// Longest name of a question, in bytes.
const LONGEST_ID: usize = 64;

/// # Errors
/// When a subscription cannot be made.
pub async fn answer(ctx: &Context, prometheus: Prometheus, timeout: Duration) -> anyhow::Result<()> {
    let limits = Limits { concurrency: AT_ONCE, deadline: timeout.saturating_add(MARGIN) };
    let under_way = UnderWay::default();
    cancel(ctx, under_way.clone()).await?;
    respond_encoded(ctx, subject::QUERY_PROMETHEUS, limits, move |_, question: PrometheusQuery| {
        let prometheus = prometheus.clone();
        let place = under_way.begin(question.id);
        async move {
            let evaluated = tokio::task::spawn_blocking(move || {
                let parameters = Parameters(&question.parameters);
                let (status, body) =
                    prometheus.answer(&question.endpoint, &parameters, now_ms(), &place.canceled);
                PrometheusAnswer::reply(status, &body)
            });
            evaluated.await.map_err(|error| ErrorReply::new(ErrorCode::Internal, error.to_string()))
        }
    })
    .await
}

/// End what nobody waits for.
async fn cancel(ctx: &Context, under_way: UnderWay) -> anyhow::Result<()> {
    let mut canceled = ctx.nats.subscribe(subject::QUERY_CANCEL).await?;
    let token = ctx.tasks.token();
    ctx.tasks.spawn("queries taken back", async move {
        while let Some(Some(message)) = token.run_until_cancelled(canceled.next()).await {
            if let Ok(QueryCancel { id }) = protocol::decode(&message.payload, limits::MESSAGE) {
                under_way.cancel(&id);
            }
        }
        Ok(())
    });
    Ok(())
}

/// The questions that are being answered, by their names.
#[derive(Clone, Default)]
struct UnderWay(Arc<Mutex<HashMap<String, CancellationToken>>>);

/// A question under way, until it is dropped.
struct Place {
    canceled: CancellationToken,
    id: Option<String>,
    of: UnderWay,
}

impl UnderWay {
    fn begin(&self, id: Option<String>) -> Place {
        let canceled = CancellationToken::new();
        let id = id.filter(|id| id.len() <= LONGEST_ID);
        if let Some(id) = &id {
            self.all().insert(id.clone(), canceled.clone());
        }
        Place { canceled, id, of: self.clone() }
    }

    fn cancel(&self, id: &str) {
        if let Some(canceled) = self.all().get(id) {
            canceled.cancel();
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.of.all().remove(id);
        }
    }
}
