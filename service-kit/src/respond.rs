//! Answering requests: a queue group, a limit on how many at once, a deadline for each.

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::{Client, Subject};
use futures_util::StreamExt;
use protocol::{ErrorCode, ErrorReply, Reply, limits};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

use crate::Context;

/// Limits of one responder.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests worked on at once.
    pub concurrency: usize,
    /// How long one may take, waiting for its turn included.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrency: 64, deadline: Duration::from_secs(4) }
    }
}

/// Answer every request on `subject` with `handler`, as one of the queue group named after the service. Returns once
/// the broker knows the subscription; the answering goes on as a task of the service until it stops.
///
/// The handler gets the subject (its last token may name an agent) and the decoded body. A body that cannot be read
/// is answered with `invalid`, a full house with `overloaded`, a missed deadline with `unavailable`.
///
/// # Errors
/// When the subscription cannot be made.
pub async fn respond<Q, R, H, F>(
    ctx: &Context,
    subject: &str,
    limits: Limits,
    handler: H,
) -> anyhow::Result<()>
where
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    H: Fn(Subject, Q) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, ErrorReply>> + Send + 'static,
{
    let encoded = move |subject, question| {
        let answer = handler(subject, question);
        async move {
            let internal = |error: serde_json::Error| ErrorReply::new(ErrorCode::Internal, error.to_string());
            protocol::encode(&Reply::Ok(answer.await?)).map_err(internal)
        }
    };
    respond_encoded(ctx, subject, limits, encoded).await
}

/// [`respond`] where the handler gives the bytes of the whole good [`Reply`].
///
/// # Errors
/// As [`respond`].
pub async fn respond_encoded<Q, H, F>(
    ctx: &Context,
    subject: &str,
    limits: Limits,
    handler: H,
) -> anyhow::Result<()>
where
    Q: DeserializeOwned + Send + 'static,
    H: Fn(Subject, Q) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Vec<u8>, ErrorReply>> + Send + 'static,
{
    let mut requests = ctx.nats.queue_subscribe(subject.to_owned(), ctx.name.to_owned()).await?;
    barrier(&ctx.nats).await?;
    let (client, token) = (ctx.nats.clone(), ctx.tasks.token());
    let permits = Arc::new(Semaphore::new(limits.concurrency));
    let handler = Arc::new(handler);
    let name = format!("answers on {subject}");
    ctx.tasks.spawn(name, async move {
        loop {
            let message = tokio::select! {
                message = requests.next() => message,
                () = token.cancelled() => break,
            };
            let Some(message) = message else { anyhow::bail!("the subscription ended") };
            let Some(reply) = message.reply else { continue };
            let received = tokio::time::Instant::now();
            let waiting = Arc::clone(&permits).acquire_owned();
            let Ok(Ok(permit)) = tokio::time::timeout(limits.deadline / 2, waiting).await else {
                let error =
                    ErrorReply::new(ErrorCode::Overloaded, "too many requests at once: try again later");
                send(&client, reply, Err(error)).await;
                continue;
            };
            let (client, handler) = (client.clone(), Arc::clone(&handler));
            // The permit is taken before the task and dropped with it, also by a panic.
            tokio::spawn(async move {
                let _permit = permit;
                let work = async {
                    let question = protocol::decode(&message.payload, limits::MESSAGE)
                        .map_err(|error| ErrorReply::invalid(error.to_string()))?;
                    handler(message.subject, question).await
                };
                let answer =
                    tokio::time::timeout_at(received + limits.deadline, work).await.unwrap_or_else(|_| {
                        let text = format!("not done within {:?}: try again later", limits.deadline);
                        Err(ErrorReply::new(ErrorCode::Unavailable, text))
                    });
                send(&client, reply, answer).await;
            });
        }
        // What is under way gets its answer.
        let all = u32::try_from(limits.concurrency).unwrap_or(u32::MAX);
        let _done = permits.acquire_many(all).await;
        crate::process::flush(&client).await;
        Ok(())
    });
    Ok(())
}

async fn send(client: &Client, to: Subject, answer: Result<Vec<u8>, ErrorReply>) {
    let fits = answer.and_then(|body| {
        let too_large = || ErrorReply::new(ErrorCode::TooLarge, "the answer is too large: ask for less");
        if body.len() <= limits::MESSAGE { Ok(body) } else { Err(too_large()) }
    });
    let body = fits.or_else(|error| protocol::encode(&Reply::<()>::Error(error)));
    let sent = match body {
        Ok(body) => client.publish(to, body.into()).await.map_err(|error| crate::report(&error)),
        Err(error) => Err(error.to_string()),
    };
    if let Err(reason) = sent {
        tracing::warn!(reason, "an answer could not be sent");
    }
}

/// Wait until the broker has taken in all that this connection sent so far, subscriptions too. (`flush` only empties
/// the client's own buffer.)
///
/// # Errors
/// When the broker does not echo within 10 seconds.
pub async fn barrier(client: &Client) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, bytes::Bytes::new()).await?;
    let echoed = tokio::time::timeout(Duration::from_secs(10), echo.next()).await;
    anyhow::ensure!(matches!(echoed, Ok(Some(_))), "the broker did not confirm a subscription within 10 s");
    Ok(())
}
