//! The accounts of notifications: settled together, listed, sent again and dropped by hand; and receivers that are disabled.

use std::collections::HashSet;

use protocol::{
    ReceiverName,
    alert::{AlertState, Notification},
};
use sled::{
    Batch, Transactional,
    transaction::{ConflictableTransactionError, TransactionalTree},
};

use super::{
    Store, StoreError,
    disk::{Failure, Trees, decode},
    record::{Delivery, Disabled, OutboxRecord, Settlement},
};

/// What became of the wish to send something again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeue {
    /// So many are sent again: it, and what followed it.
    Sent(usize),
    /// There is no dead letter of that id.
    Unknown,
    /// The end of its alert was delivered: sent again it would never end.
    Over,
}

impl Store {
    /// What became of these notifications, in their order. `None`: it is not of this store, or long over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn deliveries(&self, ids: &[String]) -> Result<Vec<Option<Delivery>>, StoreError> {
        self.0.with(|trees| ids.iter().map(|id| account(trees, id)).collect())
    }

    /// Notifications are delivered or given up, and others follow; durable when this returns, all at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn settle(&self, settlements: &[Settlement]) -> Result<(), StoreError> {
        self.0.with(|trees| {
            let mut changes = Changes::default();
            let mut followed = HashSet::new();
            for Settlement { id, outcome, follow } in settlements {
                changes.accounts.insert(id.as_bytes(), protocol::encode(outcome)?);
                for notification in follow {
                    let id = notification.message_id();
                    if trees.deliveries.get(&id)?.is_none() && followed.insert(id) {
                        changes.send(trees, notification, None)?;
                    }
                }
            }
            changes.apply(trees)
        })
    }

    /// Notifications that wait or were given up and are kept, with their ids: `fits` is asked for each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn letters(
        &self,
        fits: impl Fn(&str, &Delivery) -> bool,
        limit: usize,
    ) -> Result<Vec<(String, Delivery)>, StoreError> {
        self.0.with(|trees| {
            let mut found = Vec::new();
            for entry in &trees.deliveries {
                let (key, value) = entry?;
                let delivery: Delivery = decode("deliveries", &value)?;
                let id = String::from_utf8_lossy(&key).into_owned();
                if (delivery.is_waiting() || delivery.is_dead_letter()) && fits(&id, &delivery) {
                    found.push((id, delivery));
                }
                if found.len() == limit {
                    break;
                }
            }
            Ok(found)
        })
    }

    /// Send a dead letter again, and those that followed it to the same receiver. `now_ms` tells this time from others.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn requeue(&self, id: &str, now_ms: u64) -> Result<Requeue, StoreError> {
        self.0.with(|trees| {
            let Some(Delivery::GaveUp { notification: Some(first), .. }) = account(trees, id)? else {
                return Ok(Requeue::Unknown);
            };
            let mut end = (*first).clone();
            end.alert.state = AlertState::Resolved;
            if first.alert.state == AlertState::Firing
                && let Some(Delivery::Delivered { .. }) = account(trees, &end.message_id())?
            {
                return Ok(Requeue::Over);
            }
            let mut changes = Changes::default();
            let mut sent = 0;
            for entry in trees.deliveries.scan_prefix(format!("{}:", first.alert.id)) {
                let Delivery::GaveUp { notification: Some(letter), .. } = decode("deliveries", &entry?.1)?
                else {
                    continue;
                };
                let later = order(&letter) >= order(&first);
                if letter.receiver == first.receiver && later {
                    changes.send(trees, &letter, Some(now_ms))?;
                    sent += 1;
                }
            }
            changes.apply(trees)?;
            Ok(Requeue::Sent(sent))
        })
    }

    /// Try no more, and keep no letter. `false`: there is none of that id that waits or is kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn drop_letter(&self, id: &str, now_ms: u64, why: &str) -> Result<bool, StoreError> {
        self.0.with(|trees| {
            let dropped = match account(trees, id)? {
                Some(Delivery::Waiting { .. }) => Delivery::GaveUp {
                    at_ms: now_ms,
                    reason: why.to_owned(),
                    notification: None,
                    fallback: None,
                },
                Some(Delivery::GaveUp { at_ms, reason, notification: Some(_), fallback }) => {
                    Delivery::GaveUp {
                        at_ms,
                        reason: format!("{reason}; {why}"),
                        notification: None,
                        fallback,
                    }
                }
                _ => return Ok(false),
            };
            trees.deliveries.insert(id, protocol::encode(&dropped)?)?;
            trees.sync()?;
            Ok(true)
        })
    }

    /// Receivers that are disabled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn disabled(&self) -> Result<Vec<(ReceiverName, Disabled)>, StoreError> {
        self.0.with(|trees| {
            let mut all = Vec::new();
            for entry in &trees.disabled {
                let (key, value) = entry?;
                if let Ok(name) = ReceiverName::new(&String::from_utf8_lossy(&key)) {
                    all.push((name, decode("disabled", &value)?));
                }
            }
            Ok(all)
        })
    }

    /// Disable a receiver, or take it back into use; durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_disabled(&self, name: &ReceiverName, disabled: Option<&Disabled>) -> Result<(), StoreError> {
        self.0.with(|trees| {
            match disabled {
                Some(disabled) => trees.disabled.insert(name.as_str(), protocol::encode(disabled)?)?,
                None => trees.disabled.remove(name.as_str())?,
            };
            trees.sync()
        })
    }
}

fn account(trees: &Trees, id: &str) -> Result<Option<Delivery>, Failure> {
    let value = trees.deliveries.get(id)?;
    value.map(|value| decode("deliveries", &value)).transpose()
}

/// Where a notification stands among those of its alert.
fn order(notification: &Notification) -> (bool, u32) {
    (notification.alert.state == AlertState::Resolved, notification.alert.raised)
}

/// Accounts and what is to be published, written together.
#[derive(Default)]
struct Changes {
    accounts: Batch,
    outbox: Batch,
}

impl Changes {
    fn send(
        &mut self,
        trees: &Trees,
        notification: &Notification,
        again: Option<u64>,
    ) -> Result<(), Failure> {
        let waiting = Delivery::Waiting { notification: Box::new(notification.clone()), stream: None };
        self.accounts.insert(notification.message_id().as_bytes(), protocol::encode(&waiting)?);
        let number = trees.db.generate_id()?;
        self.outbox.insert(&number.to_be_bytes(), protocol::encode(&OutboxRecord::of(notification, again))?);
        Ok(())
    }

    fn apply(&self, trees: &Trees) -> Result<(), Failure> {
        let both = (&trees.deliveries, &trees.outbox);
        both.transaction(|(accounts, outbox): &(TransactionalTree, TransactionalTree)| {
            accounts.apply_batch(&self.accounts)?;
            outbox.apply_batch(&self.outbox)?;
            Ok::<(), ConflictableTransactionError<Failure>>(())
        })?;
        trees.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn notification(alert: &str, state: &str, receiver: &str) -> Notification {
        serde_json::from_value(json!({"v": 1, "receiver": receiver, "alert": {
            "v": 1, "id": alert, "agent": "a", "rule": "r", "check": "c", "state": state, "severity": "warning",
            "summary": "", "started_ms": 1, "at_ms": 1,
        }}))
        .unwrap()
    }

    fn gave_up(notification: &Notification) -> Settlement {
        let outcome = Delivery::GaveUp {
            at_ms: 1,
            reason: "tried".into(),
            notification: Some(Box::new(notification.clone())),
            fallback: None,
        };
        Settlement { id: notification.message_id(), outcome, follow: Vec::new() }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("alerts")).unwrap();
        (folder, store)
    }

    #[test]
    fn g5_a_dead_letter_is_sent_again_with_what_followed_it() {
        let (_folder, store) = store();
        let (firing, end) = (notification("x", "firing", "ops"), notification("x", "resolved", "ops"));
        let other = notification("x", "firing", "other");
        store.settle(&[gave_up(&firing), gave_up(&end), gave_up(&other)]).unwrap();
        assert_eq!(store.letters(|_, _| true, 10).unwrap().len(), 3);
        assert_eq!(store.requeue(&firing.message_id(), 7).unwrap(), Requeue::Sent(2));
        assert_eq!(store.requeue(&firing.message_id(), 8).unwrap(), Requeue::Unknown);
        let sent = store.unpublished(10).unwrap();
        let ids: HashSet<String> = sent
            .iter()
            .flat_map(|(_, record)| {
                record.notifications().map(|one| record.broker_id(&one)).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(ids, HashSet::from(["x:firing:ops@7".to_owned(), "x:resolved:ops@7".to_owned()]));
        assert_eq!(super::super::notification_id("x:firing:ops@7"), "x:firing:ops");
        assert!(store.delivery("x:firing:ops").unwrap().unwrap().is_waiting());
    }

    #[test]
    fn g5_a_firing_is_not_sent_again_after_its_end() {
        let (_folder, store) = store();
        let (firing, end) = (notification("x", "firing", "ops"), notification("x", "resolved", "ops"));
        let delivered = Delivery::Delivered { at_ms: 2, opened: None };
        let ended = Settlement { id: end.message_id(), outcome: delivered, follow: Vec::new() };
        store.settle(&[gave_up(&firing), ended]).unwrap();
        assert_eq!(store.requeue(&firing.message_id(), 7).unwrap(), Requeue::Over);
        assert!(store.drop_letter(&firing.message_id(), 9, "dropped by me").unwrap());
        assert!(!store.drop_letter(&firing.message_id(), 9, "dropped by me").unwrap());
        assert_eq!(store.letters(|_, _| true, 10).unwrap(), []);
        let Some(Delivery::GaveUp { reason, .. }) = store.delivery(&firing.message_id()).unwrap() else {
            panic!()
        };
        assert_eq!(reason, "tried; dropped by me");
    }

    #[test]
    fn g5_who_follows_is_told_once() {
        let (_folder, store) = store();
        let (firing, follow) = (notification("x", "firing", "ops"), notification("x", "firing", "night"));
        let settlement = Settlement { follow: vec![follow.clone()], ..gave_up(&firing) };
        for _ in 0..2 {
            store.settle(std::slice::from_ref(&settlement)).unwrap();
        }
        store.settle(&[settlement.clone(), settlement]).unwrap();
        let sent = store.unpublished(10).unwrap();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].1.notifications().collect::<Vec<_>>(), [follow]);
    }

    #[test]
    fn a_disabled_receiver_stays_so_over_a_restart() {
        let (folder, store) = store();
        let name: ReceiverName = "ops".parse().unwrap();
        let disabled = Disabled { at_ms: 1, reason: "gone".into(), document: "d".into() };
        store.set_disabled(&name, Some(&disabled)).unwrap();
        drop(store);
        let store = Store::open(&folder.path().join("alerts")).unwrap();
        assert_eq!(store.disabled().unwrap(), [(name.clone(), disabled)]);
        store.set_disabled(&name, None).unwrap();
        assert_eq!(store.disabled().unwrap(), []);
    }

    /// Accounts of before know neither letters nor what was opened.
    #[test]
    fn former_accounts_are_read() {
        for text in [r#"{"state":"delivered","at_ms":1}"#, r#"{"state":"gave_up","at_ms":1,"reason":"x"}"#] {
            let delivery: Delivery = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&delivery).unwrap(), text);
            assert!(!delivery.is_waiting() && !delivery.is_dead_letter());
        }
    }
}
