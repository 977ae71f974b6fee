//! The accounts of notifications, read and written for many at once: one write to disk settles all that wait for it.

use std::sync::Arc;

use service_kit::Context;
use tokio::sync::{mpsc, oneshot};

use crate::store::{Delivery, Settlement, Store, StoreError};

/// Most questions answered, and accounts settled, by one turn.
const BATCH: usize = 512;

/// What is asked of the ledger.
enum Ask {
    Read(Vec<String>, oneshot::Sender<Result<Vec<Option<Delivery>>, Failure>>),
    Settle(Box<Settlement>, oneshot::Sender<Result<(), Failure>>),
}

/// Why an account cannot be kept; one reason may be for many.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Store(Arc<StoreError>),
    #[error("the service is stopping")]
    Stopping,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Ledger(mpsc::Sender<Ask>);

impl Ledger {
    /// Its task ends when nobody can ask any more.
    #[must_use]
    pub fn start(ctx: &Context, store: Arc<Store>) -> Self {
        let (sender, asked) = mpsc::channel(2 * BATCH);
        let token = ctx.tasks.token();
        ctx.tasks.spawn("accounts of notifications", async move {
            run(asked, store).await;
            // Whoever asked is gone only when the service stops.
            token.cancelled().await;
            Ok(())
        });
        Self(sender)
    }

    /// The accounts of `ids`, in their order.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn read(&self, ids: Vec<String>) -> Result<Vec<Option<Delivery>>, Failure> {
        self.ask(|reply| Ask::Read(ids, reply)).await
    }

    /// Durable when this returns.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn settle(&self, settlement: Settlement) -> Result<(), Failure> {
        self.ask(|reply| Ask::Settle(Box::new(settlement), reply)).await
    }

    async fn ask<R>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<R, Failure>>) -> Ask,
    ) -> Result<R, Failure> {
        let (reply, answer) = oneshot::channel();
        self.0.send(ask(reply)).await.map_err(|_| Failure::Stopping)?;
        answer.await.map_err(|_| Failure::Stopping)?
    }
}

async fn run(mut asked: mpsc::Receiver<Ask>, store: Arc<Store>) {
    let mut batch = Vec::with_capacity(BATCH);
    while asked.recv_many(&mut batch, BATCH).await > 0 {
        let (store, batch) = (Arc::clone(&store), std::mem::take(&mut batch));
        // A panic drops the replies, which whoever waits for them sees.
        let _answered = tokio::task::spawn_blocking(move || answer(&store, batch)).await;
    }
}

fn answer(store: &Store, batch: Vec<Ask>) {
    let (mut settlements, mut replies) = (Vec::new(), Vec::new());
    let (mut wanted, mut readers) = (Vec::new(), Vec::new());
    for ask in batch {
        match ask {
            Ask::Read(ids, reply) => {
                readers.push((ids.len(), reply));
                wanted.extend(ids);
            }
            Ask::Settle(settlement, reply) => {
                settlements.push(*settlement);
                replies.push(reply);
            }
        }
    }
    // Reading first: it waits for no disk.
    if !readers.is_empty() {
        let mut found = store.deliveries(&wanted).map(Vec::into_iter).map_err(Arc::new);
        for (count, reply) in readers {
            let answer = match &mut found {
                Ok(found) => Ok(found.by_ref().take(count).collect()),
                Err(error) => Err(Failure::Store(Arc::clone(error))),
            };
            // Who asked may have been cut off.
            let _gone = reply.send(answer);
        }
    }
    if !settlements.is_empty() {
        let settled = store.settle(&settlements).map_err(Arc::new);
        for reply in replies {
            let _gone = reply.send(settled.clone().map_err(Failure::Store));
        }
    }
}
