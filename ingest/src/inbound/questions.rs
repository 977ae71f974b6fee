//! Questions and their answers: watermarks, losses, pages of results.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use protocol::{
    AgentId, ErrorCode, ErrorReply, limits,
    query::{ClockQuery, LatestQuery, LossList, LossQuery, ResultQuery},
    series::{AvailabilityQuery, SeriesQuery, TimelineQuery, TopQuery},
    stored::{Stored, StoredRequest},
    subject,
};
use service_kit::{
    Context,
    respond::{Limits, respond},
};

use crate::{
    core::clock::Clocks,
    query::{history, native},
    store::{ResultStore, StoreError},
    writer::{Writer, WriterError},
};

/// Time for one reading of the store, below that of the answer.
const READING: Duration = Duration::from_secs(3);
/// Readings at once: each may hold a thread and a page.
const READERS: usize = 4;

/// # Errors
/// When a subscription cannot be made.
pub async fn answer(
    ctx: &Context,
    writer: Writer,
    store: Arc<dyn ResultStore>,
    clocks: Arc<Mutex<Clocks>>,
) -> anyhow::Result<()> {
    let asked = writer.clone();
    respond(ctx, subject::STORED_GET_ALL, Limits::default(), move |subject, question| {
        stored(asked.clone(), subject::last_agent(&subject), question)
    })
    .await?;
    respond(ctx, subject::QUERY_LOSS, Limits::default(), move |_, question| loss(writer.clone(), question))
        .await?;
    respond(ctx, subject::QUERY_CLOCKS, Limits::default(), move |_, question: ClockQuery| {
        let list = clocks.lock().unwrap_or_else(PoisonError::into_inner).list(&question);
        async move { Ok(list) }
    })
    .await?;
    let readers = Limits { concurrency: READERS, ..Limits::default() };
    let of = Arc::clone(&store);
    respond(ctx, subject::QUERY_SERIES, readers, move |_, question: SeriesQuery| {
        reading(Arc::clone(&of), question, history::series)
    })
    .await?;
    let of = Arc::clone(&store);
    respond(ctx, subject::QUERY_AVAILABILITY, readers, move |_, question: AvailabilityQuery| {
        reading(Arc::clone(&of), question, history::availability)
    })
    .await?;
    let of = Arc::clone(&store);
    respond(ctx, subject::QUERY_LATEST, readers, move |_, question: LatestQuery| {
        reading(Arc::clone(&of), question, native::latest)
    })
    .await?;
    let of = Arc::clone(&store);
    respond(ctx, subject::QUERY_TIMELINE, readers, move |_, question: TimelineQuery| {
        reading(Arc::clone(&of), question, native::timeline)
    })
    .await?;
    let of = Arc::clone(&store);
    respond(ctx, subject::QUERY_TOP, readers, move |_, question: TopQuery| {
        reading(Arc::clone(&of), question, native::top)
    })
    .await?;
    respond(ctx, subject::QUERY_RESULTS, readers, move |_, question: ResultQuery| {
        reading(Arc::clone(&store), question, native::results)
    })
    .await
}

async fn stored(
    writer: Writer,
    agent: Option<AgentId>,
    StoredRequest { v, epoch, oldest }: StoredRequest,
) -> Result<Stored, ErrorReply> {
    let agent = agent.ok_or_else(|| ErrorReply::invalid("the subject does not end in an agent id"))?;
    if v != protocol::VERSION {
        return Err(ErrorReply::invalid(format!("version {v} is not known here")).at("v"));
    }
    if oldest == 0 {
        return Err(ErrorReply::invalid("sequence numbers begin at 1").at("oldest"));
    }
    if oldest > limits::SEQUENCE {
        let message = format!("{oldest} is no sequence number: they end at {}", limits::SEQUENCE);
        return Err(ErrorReply::invalid(message).at("oldest"));
    }
    Ok(writer.gone_below(agent, epoch, oldest).await?)
}

async fn loss(writer: Writer, question: LossQuery) -> Result<LossList, ErrorReply> {
    Ok(writer.losses(question).await?)
}

/// An answer that takes reading, apart from the threads that talk.
async fn reading<Q: Send + 'static, R: Send + 'static>(
    store: Arc<dyn ResultStore>,
    question: Q,
    read: impl FnOnce(&Arc<dyn ResultStore>, Q, Instant) -> Result<R, ErrorReply> + Send + 'static,
) -> Result<R, ErrorReply> {
    let deadline = Instant::now() + READING;
    let read = tokio::task::spawn_blocking(move || read(&store, question, deadline)).await;
    read.map_err(|error| ErrorReply::new(ErrorCode::Internal, error.to_string()))?
}

impl From<WriterError> for ErrorReply {
    fn from(error: WriterError) -> Self {
        let code = match error {
            WriterError::Store(StoreError::TooMuch) => ErrorCode::TooLarge,
            WriterError::Store(StoreError::Damaged { .. } | StoreError::Newer { .. }) => ErrorCode::Internal,
            _ => ErrorCode::Unavailable,
        };
        Self::new(code, service_kit::report(&error))
    }
}
