//! Delivers notifications from stream NOTIFY.
//!
//! Each has an account in the store from before it was sent. A settled one that comes again is dropped; one that is not
//! settled is tried until its receiver accepts it or it is given up with a reason. A crash between the receiver's answer
//! and the account repeats the attempt with the same `webhook-id`: to the receiver, delivery is at least once, and the
//! id tells repeats.
//!
//! The end of an alert waits until its firing is settled for the same receiver. A receiver that is slow or down holds
//! only its own share of the attempts.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use protocol::{
    ReceiverName,
    alert::{AlertState, Notification},
    limits, stream,
};
use service_kit::{
    Context, Verdict,
    consume::{self, ConsumerSpec},
    now_ms, report,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::webhook;
use crate::{
    core::{
        RuleBook,
        attempt::{Decision, decide},
    },
    metrics::Metrics,
    store::{Delivery, Store, StoreError},
};

/// Longest time in which one attempt is settled; a receiver's timeout is shorter.
const ACK_WAIT: Duration = Duration::from_secs(90);
/// Notifications under way and waiting for another attempt. High, so that those of one dead receiver keep none of another out.
const MAX_WAITING: i64 = 100_000;
/// Longest wait for a turn, before the notification is given back for as long.
const TURN: Duration = Duration::from_secs(2);
/// Wait for the notification that must go first.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long an attempt may go on after the service was told to stop.
const LAST_ATTEMPT: Duration = Duration::from_secs(3);
/// Notifications in memory, for each that is attempted: those waiting for one receiver must not keep another's out.
const WAITING_PER_ATTEMPT: usize = 8;

/// What every attempt needs.
pub struct Notifier {
    pub store: Arc<Store>,
    pub book: watch::Receiver<Arc<RuleBook>>,
    pub client: reqwest::Client,
    pub metrics: Metrics,
    pub retry_for: Duration,
    pub turns: Turns,
    pub stop: CancellationToken,
}

/// # Errors
/// When the stream or the consumer cannot be made.
pub async fn consume(ctx: &Context, notifier: Arc<Notifier>, concurrency: usize) -> anyhow::Result<()> {
    let spec = ConsumerSpec {
        stream: stream::NOTIFY,
        name: stream::consumer::NOTIFIER,
        ack_wait: ACK_WAIT,
        max_ack_pending: MAX_WAITING,
        ack_all: false,
    };
    consume::each(ctx, spec, concurrency.saturating_mul(WAITING_PER_ATTEMPT), move |delivery| {
        let notifier = Arc::clone(&notifier);
        async move {
            let notification = match protocol::decode(delivery.payload(), limits::MESSAGE) {
                Ok(notification) => notification,
                Err(error) => return Verdict::Reject { reason: error.to_string() },
            };
            let age = Duration::from_millis(now_ms().saturating_sub(delivery.published_ms));
            match notifier.handle(&notification, age).await {
                Ok(verdict) => verdict,
                Err(error) => {
                    let (id, error) = (notification.message_id(), report(error.as_ref()));
                    tracing::error!(id, error, "the account of a notification cannot be kept");
                    Verdict::Retry { after: Duration::from_secs(5) }
                }
            }
        }
    })
    .await
}

impl Notifier {
    async fn handle(&self, notification: &Notification, age: Duration) -> anyhow::Result<Verdict> {
        let id = notification.message_id();
        // Held until the account is written, so that a repeat finds either the claim or the account.
        let Some(_claim) = self.turns.claim(&id) else {
            return Ok(Verdict::Retry { after: jittered(TURN) });
        };
        match self.account(id.clone()).await? {
            Some(Delivery::Delivered { .. }) => {
                self.metrics.notifications_repeated.inc();
                return Ok(Verdict::Done);
            }
            // A crash may have come between the account and stream REJECTED.
            Some(Delivery::GaveUp { reason, .. }) => return Ok(Verdict::Reject { reason }),
            // Without an account: the store is newer than the stream. It is told rather than lost.
            Some(Delivery::Waiting { .. }) | None => {}
        }
        if self.must_wait(notification).await? {
            return Ok(Verdict::Retry { after: jittered(age.clamp(FIRST_WAIT, LONGEST_WAIT)) });
        }
        let Some(_turn) = self.turns.wait(&notification.receiver).await else {
            return Ok(Verdict::Retry { after: jittered(TURN) });
        };
        let receiver = self.book.borrow().receiver(&notification.receiver).cloned();
        let decision = match receiver {
            None => Decision::GiveUp { reason: "there is no receiver of that name any more".to_owned() },
            Some(receiver) => {
                let posted = webhook::post(&self.client, &receiver.webhook, notification, now_ms());
                let answer = tokio::select! {
                    answer = posted => answer,
                    () = self.stopped() => return Ok(Verdict::Retry { after: Duration::ZERO }),
                };
                decide(answer, age, self.retry_for, fraction())
            }
        };
        let (receiver, at_ms) = (&notification.receiver, now_ms());
        match decision {
            Decision::Delivered => {
                self.settle(id, Delivery::Delivered { at_ms }).await?;
                self.metrics.notifications_delivered.inc();
                Ok(Verdict::Done)
            }
            Decision::Retry { after, reason } => {
                self.metrics.attempts_failed.inc();
                tracing::warn!(id, %receiver, reason, ?after, "a notification was not delivered and will be tried again");
                Ok(Verdict::Retry { after })
            }
            Decision::GiveUp { reason } => {
                let reason = format!("notification {id} to receiver {receiver} given up: {reason}");
                self.settle(id, Delivery::GaveUp { at_ms, reason: reason.clone() }).await?;
                self.metrics.notifications_given_up.inc();
                Ok(Verdict::Reject { reason })
            }
        }
    }

    /// Resolves when the service has been stopping for so long that an attempt under way is cut off.
    async fn stopped(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(LAST_ATTEMPT).await;
    }

    /// Whether what came before `notification` is still to be told to its receiver: the firing that it ends or raises.
    async fn must_wait(&self, notification: &Notification) -> anyhow::Result<bool> {
        let mut before = notification.clone();
        match (notification.alert.state, notification.alert.raised) {
            (AlertState::Resolved, _) => before.alert.state = AlertState::Firing,
            (AlertState::Firing, raised @ 1..) => before.alert.raised = raised - 1,
            (AlertState::Firing | AlertState::Pending, _) => return Ok(false),
        }
        let account = self.account(before.message_id()).await?;
        Ok(account.is_some_and(|account| account.is_waiting()))
    }

    async fn account(&self, id: String) -> anyhow::Result<Option<Delivery>> {
        self.blocking(move |store| store.delivery(&id)).await
    }

    async fn settle(&self, id: String, outcome: Delivery) -> anyhow::Result<()> {
        self.blocking(move |store| store.settle(&id, &outcome)).await
    }

    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<R, StoreError> + Send + 'static,
    ) -> anyhow::Result<R> {
        let store = Arc::clone(&self.store);
        Ok(tokio::task::spawn_blocking(move || work(&store)).await??)
    }
}

/// Who may attempt: each notification once at a time, each receiver with half of all attempts at most.
pub struct Turns {
    all: Arc<Semaphore>,
    per_receiver: usize,
    receivers: Mutex<HashMap<ReceiverName, Arc<Semaphore>>>,
    under_way: Mutex<HashSet<String>>,
}

impl Turns {
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(concurrency.max(1))),
            per_receiver: concurrency.div_ceil(2).max(1),
            receivers: Mutex::default(),
            under_way: Mutex::default(),
        }
    }

    /// `None` while the notification is under way already.
    fn claim(&self, id: &str) -> Option<Claim<'_>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(id.to_owned()).then(|| Claim { turns: self, id: id.to_owned() })
    }

    /// Wait for a turn, for at most [`TURN`].
    async fn wait(&self, receiver: &ReceiverName) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let own = {
            let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
            let own = receivers.entry(receiver.clone());
            Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(self.per_receiver))))
        };
        let both = async {
            Some((own.acquire_owned().await.ok()?, Arc::clone(&self.all).acquire_owned().await.ok()?))
        };
        tokio::time::timeout(TURN, both).await.ok().flatten()
    }
}

/// A notification that is under way, until it is dropped.
struct Claim<'a> {
    turns: &'a Turns,
    id: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.turns.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.8 + 0.4 * fraction())
}

/// Drawn from 0..1; good enough to spread attempts.
fn fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    #[allow(clippy::cast_precision_loss)] // 16 bits
    let fraction = (RandomState::new().hash_one(0_u8) & 0xffff) as f64;
    fraction / 65_536.0
}
