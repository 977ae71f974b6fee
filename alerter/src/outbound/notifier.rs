//! Delivers notifications from stream NOTIFY.
//!
//! Each has an account in the store from before it was sent. A settled one that comes again is dropped; one that is not
//! settled is tried until its receiver accepts it or it is given up with a reason. A crash between the receiver's answer
//! and the account repeats the attempt with the same `webhook-id`: to the receiver, delivery is at least once, and the
//! id tells repeats.
//!
//! The end of an alert waits until its firing is settled for the same receiver. A receiver that is slow or down holds
//! only its own lane. What one receiver gives up its fallback is told, and then all that follows of that alert too.

use std::{collections::HashMap, sync::Arc, time::Duration};

use protocol::{
    ReceiverName,
    alert::{AlertState, Notification},
    limits,
    receiver::Receiver,
    stream,
};
use service_kit::{
    Context, Verdict,
    consume::{self, ConsumerSpec},
    now_ms, report,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    ledger::Ledger,
    sender::{Sender, Sent},
    turns::{Later, Turns},
};
use crate::{
    core::{
        RuleBook,
        attempt::{Answer, Decision, decide},
        notify::{Attempt, gate::Said},
    },
    metrics::Metrics,
    store::{Delivery, Disabled, Settlement, Store, StoreError},
};

/// Longest time in which one attempt is settled: the wait for a turn and a receiver's timeout together are shorter.
const ACK_WAIT: Duration = Duration::from_secs(90);
/// Notifications under way and waiting for another attempt. High, so that those of one dead receiver keep none of another out.
const MAX_WAITING: i64 = 100_000;
/// Notifications in memory, attempted or waiting for a turn.
pub const SLOTS: usize = 2_048;
/// Wait of a notification that is under way already.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// Wait for the notification that must go first.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Wait where a receiver has too much to do; longer for what waits longer, so that a long queue is not turned over and over.
const BUSY: Duration = Duration::from_secs(2);
const LONGEST_BUSY: Duration = Duration::from_secs(60);
/// How long an attempt may go on after the service was told to stop.
const LAST_ATTEMPT: Duration = Duration::from_secs(3);

/// What every attempt needs.
pub struct Notifier {
    pub store: Arc<Store>,
    pub ledger: Ledger,
    pub book: watch::Receiver<Arc<RuleBook>>,
    pub sender: Sender,
    pub metrics: Metrics,
    pub retry_for: Duration,
    pub turns: Turns,
    pub disabled: DisabledReceivers,
    /// Wakes the outbox.
    pub wake: Arc<tokio::sync::Notify>,
    pub stop: CancellationToken,
}

/// # Errors
/// When the stream or the consumer cannot be made.
pub async fn consume(ctx: &Context, notifier: Arc<Notifier>) -> anyhow::Result<()> {
    let spec = ConsumerSpec {
        stream: stream::NOTIFY,
        name: stream::consumer::NOTIFIER,
        ack_wait: ACK_WAIT,
        max_ack_pending: MAX_WAITING,
        ack_all: false,
    };
    consume::each(ctx, spec, SLOTS, move |delivery| {
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
            return Ok(Verdict::Retry { after: jittered(UNDER_WAY) });
        };
        let before = before(notification);
        let mut wanted = vec![id.clone()];
        wanted.extend(before.iter().cloned());
        let mut accounts = self.ledger.read(wanted).await?.into_iter();
        match accounts.next().flatten() {
            Some(Delivery::Delivered { .. }) => {
                self.metrics.notifications_repeated.inc();
                return Ok(Verdict::Done);
            }
            // A crash may have come between the account and stream REJECTED.
            Some(Delivery::GaveUp { reason, .. }) => return Ok(Verdict::Reject { reason }),
            // Without an account: the store is newer than the stream. It is told rather than lost.
            Some(Delivery::Waiting { .. }) | None => {}
        }
        let past: Vec<Delivery> = accounts.flatten().collect();
        if past.iter().any(Delivery::is_waiting) {
            return Ok(Verdict::Retry { after: jittered(age.clamp(FIRST_WAIT, LONGEST_WAIT)) });
        }
        let receiver = self.book.borrow().receiver(&notification.receiver).cloned();
        let case = Case { id, notification, past: &past, receiver: receiver.as_ref() };
        let Some(receiver) = case.receiver else {
            return self.give_up(&case, "there is no receiver of that name any more".to_owned()).await;
        };
        if let Some(disabled) = self.disabled.of(receiver) {
            let since = protocol::timestamp::format(disabled.at_ms);
            return self.give_up(&case, format!("it is disabled since {since}: {}", disabled.reason)).await;
        }
        let turn = tokio::select! {
            turn = self.turns.wait(&receiver.name, receiver.limit) => turn,
            // Given back, to be taken up after the restart.
            () = self.stop.cancelled() => return Ok(Verdict::Retry { after: Duration::ZERO }),
        };
        let _turn = match turn {
            Ok(turn) => turn,
            // Whoever is never well enough to be tried is given up as well.
            Err(_) if age >= self.retry_for => {
                let tried = protocol::duration::format(Duration::from_secs(self.retry_for.as_secs()));
                let reason = format!("its receiver was busy, limited or down for {tried}");
                return self.give_up(&case, reason).await;
            }
            Err(later) => return Ok(self.later(later, age)),
        };
        let opened = case.opened();
        let attempt = Attempt { notification, now_ms: now_ms(), opened };
        let Sent { answer, opened, .. } = tokio::select! {
            sent = self.sender.send(receiver, attempt) => sent,
            () = self.stopped() => return Ok(Verdict::Retry { after: Duration::ZERO }),
        };
        self.said(&receiver.name, &answer);
        match decide(answer, age, self.retry_for, fraction()) {
            Decision::Delivered => {
                self.settle(&case, Delivery::Delivered { at_ms: now_ms(), opened }, None).await?;
                self.metrics.notifications_delivered.inc();
                Ok(Verdict::Done)
            }
            Decision::Retry { after, reason } => {
                self.metrics.attempts_failed.inc();
                let (id, receiver) = (&case.id, &receiver.name);
                tracing::warn!(id, %receiver, reason, ?after, "a notification was not delivered and will be tried again");
                Ok(Verdict::Retry { after })
            }
            Decision::GiveUp { reason, gone } => {
                if gone {
                    let (store, kept) = (Arc::clone(&self.store), self.disabled.clone());
                    let (receiver, reason) = (receiver.clone(), reason.clone());
                    blocking(move || kept.disable(&store, &receiver, &reason)).await?;
                }
                self.give_up(&case, reason).await
            }
        }
    }

    fn said(&self, receiver: &ReceiverName, answer: &Answer) {
        if self.turns.said(receiver, answer.said(), fraction()) {
            tracing::warn!(%receiver, "a receiver failed again and again: its notifications wait, and one at a time tries it");
        }
        self.metrics.receivers_failing.set(i64::try_from(self.turns.open()).unwrap_or(i64::MAX));
        if matches!(answer.said(), Said::Failed | Said::Later(_)) {
            tracing::debug!(%receiver, ?answer, "a receiver is not well");
        }
    }

    fn later(&self, later: Later, age: Duration) -> Verdict {
        self.metrics.notifications_postponed.inc();
        let patience = (age / 4).min(LONGEST_BUSY);
        let wait = match later {
            Later::Busy => patience.max(BUSY),
            Later::Shut(wait) => patience.max(wait),
        };
        // Not all of them at the same moment.
        let after = wait.mul_f64(1.0 + 0.25 * fraction());
        Verdict::Retry { after }
    }

    /// Give up, and tell the fallback.
    async fn give_up(&self, case: &Case<'_>, reason: String) -> anyhow::Result<Verdict> {
        let (id, receiver) = (&case.id, &case.notification.receiver);
        let fallback = case.receiver.and_then(|receiver| receiver.fallback.clone());
        let told = fallback.as_ref().map(|name| format!("; {name} is told instead")).unwrap_or_default();
        let reason = format!("notification {id} to receiver {receiver} given up: {reason}{told}");
        let outcome = Delivery::GaveUp {
            at_ms: now_ms(),
            reason: reason.clone(),
            notification: Some(Box::new(case.notification.clone())),
            fallback: fallback.clone(),
        };
        self.settle(case, outcome, fallback).await?;
        self.metrics.notifications_given_up.inc();
        Ok(Verdict::Reject { reason })
    }

    /// Write the account. Whoever was told instead of this receiver before is told what follows.
    async fn settle(
        &self,
        case: &Case<'_>,
        outcome: Delivery,
        fallback: Option<ReceiverName>,
    ) -> anyhow::Result<()> {
        let instead = case.past.iter().filter_map(|past| match past {
            Delivery::GaveUp { fallback, .. } => fallback.clone(),
            Delivery::Waiting { .. } | Delivery::Delivered { .. } => None,
        });
        let follow: Vec<Notification> = instead
            .chain(fallback)
            .map(|receiver| Notification { receiver, ..case.notification.clone() })
            .collect();
        let others = !follow.is_empty();
        self.ledger.settle(Settlement { id: case.id.clone(), outcome, follow }).await?;
        if others {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Resolves when the service has been stopping for so long that an attempt under way is cut off.
    async fn stopped(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(LAST_ATTEMPT).await;
    }
}

/// One notification, and what is known about it.
struct Case<'a> {
    id: String,
    notification: &'a Notification,
    /// Accounts of what came before it, newest first.
    past: &'a [Delivery],
    receiver: Option<&'a Receiver>,
}

impl Case<'_> {
    /// What the receiver opened when it was told of the firing.
    fn opened(&self) -> Option<&str> {
        self.past.iter().find_map(|past| match past {
            Delivery::Delivered { opened, .. } => opened.as_deref(),
            Delivery::Waiting { .. } | Delivery::GaveUp { .. } => None,
        })
    }
}

/// Most times that an alert became worse whose accounts are looked at.
const RAISED: u32 = 16;

/// Ids of what its receiver was told of its alert before, newest first.
fn before(notification: &Notification) -> Vec<String> {
    let alert = &notification.alert;
    let raised = match alert.state {
        AlertState::Resolved => alert.raised.saturating_add(1),
        AlertState::Firing | AlertState::Pending => alert.raised,
    };
    let mut earlier = notification.clone();
    earlier.alert.state = AlertState::Firing;
    let levels = (0..raised).rev().take(RAISED as usize);
    levels
        .map(|level| {
            earlier.alert.raised = level;
            earlier.message_id()
        })
        .collect()
}

/// Receivers that said that they want nothing more. Cheap to clone.
#[derive(Clone)]
pub struct DisabledReceivers(Arc<std::sync::Mutex<HashMap<ReceiverName, Disabled>>>);

impl DisabledReceivers {
    /// # Errors
    /// [`StoreError`].
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(std::sync::Mutex::new(store.disabled()?.into_iter().collect()))))
    }

    /// `None` for a receiver in use; it is again when its document changes.
    fn of(&self, receiver: &Receiver) -> Option<Disabled> {
        let disabled = self.with(|all| all.get(&receiver.name).cloned())?;
        (disabled.document == hash(receiver)).then_some(disabled)
    }

    fn disable(&self, store: &Store, receiver: &Receiver, reason: &str) -> Result<(), StoreError> {
        let disabled = Disabled { at_ms: now_ms(), reason: reason.to_owned(), document: hash(receiver) };
        store.set_disabled(&receiver.name, Some(&disabled))?;
        tracing::error!(receiver = %receiver.name, reason, "a receiver is disabled");
        self.with(|all| all.insert(receiver.name.clone(), disabled));
        Ok(())
    }

    /// Take a receiver back into use.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn enable(&self, store: &Store, name: &ReceiverName) -> Result<(), StoreError> {
        if self.with(|all| all.contains_key(name)) {
            store.set_disabled(name, None)?;
            self.with(|all| all.remove(name));
        }
        Ok(())
    }

    fn with<R>(&self, work: impl FnOnce(&mut HashMap<ReceiverName, Disabled>) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// The same for the same document.
fn hash(receiver: &Receiver) -> String {
    let text = serde_json::to_vec(receiver).unwrap_or_default();
    protocol::hex(&Sha256::digest(text))
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, StoreError> + Send + 'static,
) -> anyhow::Result<R> {
    Ok(tokio::task::spawn_blocking(work).await??)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_is_all_that_was_told_of_the_alert() {
        let notification = |state: &str, raised: u32| -> Notification {
            serde_json::from_value(serde_json::json!({"v": 1, "receiver": "ops", "alert": {
                "v": 1, "id": "x", "agent": "a", "rule": "r", "check": "c", "state": state, "severity": "warning",
                "summary": "", "started_ms": 1, "at_ms": 1, "raised": raised,
            }}))
            .unwrap()
        };
        let ids = |state: &str, raised| before(&notification(state, raised)).join(" ");
        assert_eq!(ids("firing", 0), "");
        assert_eq!(ids("firing", 1), "x:firing:ops");
        assert_eq!(ids("resolved", 0), "x:firing:ops");
        assert_eq!(ids("resolved", 2), "x:firing-2:ops x:firing-1:ops x:firing:ops");
    }
}
