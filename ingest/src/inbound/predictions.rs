//! Questions about what comes next and who is unlike the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{
    ErrorCode, ErrorReply,
    predict::{OutlierQuery, PredictQuery, SuggestQuery},
    subject,
};
use service_kit::{
    Context, now_ms,
    respond::{Limits, respond},
};

use crate::{
    query::{prediction, suggest},
    store::ResultStore,
};

/// Predictions at once: each takes a core for some milliseconds, a large group for longer.
const AT_ONCE: usize = 2;
const DEADLINE: Duration = Duration::from_secs(9);
/// Time for reading, below that of the answer.
const READING: Duration = Duration::from_secs(6);

/// # Errors
/// When a subscription cannot be made.
pub async fn answer(ctx: &Context, store: &Arc<dyn ResultStore>) -> anyhow::Result<()> {
    let limits = Limits { concurrency: AT_ONCE, deadline: DEADLINE };
    let of = Arc::clone(store);
    respond(ctx, subject::QUERY_PREDICT, limits, move |_, query: PredictQuery| {
        let store = Arc::clone(&of);
        apart(move || prediction::predict(&store, &query, now_ms(), Instant::now() + READING))
    })
    .await?;
    let of = Arc::clone(store);
    respond(ctx, subject::QUERY_OUTLIERS, limits, move |_, query: OutlierQuery| {
        let store = Arc::clone(&of);
        apart(move || prediction::compare(&store, &query, now_ms(), Instant::now() + READING))
    })
    .await?;
    let of = Arc::clone(store);
    let one = Limits { concurrency: 1, ..limits };
    respond(ctx, subject::QUERY_SUGGEST, one, move |_, query: SuggestQuery| {
        let store = Arc::clone(&of);
        apart(move || suggest::suggest(&store, &query, now_ms(), Instant::now() + READING))
    })
    .await
}

/// Apart from the threads that talk.
async fn apart<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, ErrorReply> + Send + 'static,
) -> Result<R, ErrorReply> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ErrorReply::new(ErrorCode::Internal, error.to_string()))?
}
