//! Who may attempt: each notification once at a time, and each receiver in a lane of its own, so that a slow one holds up
//! nobody else.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use protocol::{ReceiverName, operate::Rate};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::notify::gate::{Gate, Said};

/// Longest wait for a turn, before the notification is given back.
pub(super) const TURN: Duration = Duration::from_secs(20);

pub struct Turns {
    per_receiver: usize,
    /// Notifications in memory, attempted or waiting.
    slots: usize,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: HashSet<String>,
    lanes: HashMap<ReceiverName, Lane>,
    /// Of all lanes.
    waiting: usize,
}

struct Lane {
    gate: Gate,
    turns: Arc<Semaphore>,
    /// Attempted or waiting for a turn.
    waiting: usize,
}

/// Why there is no turn now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Later {
    /// Its receiver has enough to do.
    Busy,
    /// Its receiver is left alone for so long.
    Shut(Duration),
}

impl Turns {
    /// At most `per_receiver` attempts at once for each receiver, and `slots` notifications in memory.
    #[must_use]
    pub fn new(per_receiver: usize, slots: usize) -> Self {
        let state = Mutex::default();
        Self { per_receiver: per_receiver.max(1), slots, started: Instant::now(), state }
    }

    /// `None` while the notification is under way already.
    pub(super) fn claim(&self, id: &str) -> Option<Claim<'_>> {
        self.with(|state| state.under_way.insert(id.to_owned()))
            .then(|| Claim { turns: self, id: id.to_owned() })
    }

    /// Wait for a turn, for at most [`TURN`].
    pub(super) async fn wait(&self, receiver: &ReceiverName, limit: Option<Rate>) -> Result<Turn<'_>, Later> {
        let (place, turns) = self.line_up(receiver)?;
        let waited = tokio::time::timeout(TURN, turns.acquire_owned()).await;
        let Ok(Ok(permit)) = waited else { return Err(Later::Busy) };
        let now = self.started.elapsed();
        let passed = self.with(|state| match state.lanes.get_mut(receiver) {
            Some(lane) => lane.gate.pass(limit, now),
            None => Ok(()),
        });
        passed.map_err(Later::Shut)?;
        Ok(Turn { _place: place, _permit: permit })
    }

    /// A place in the receiver's lane. A lane may take half of what the others leave free.
    fn line_up(&self, receiver: &ReceiverName) -> Result<(Place<'_>, Arc<Semaphore>), Later> {
        let now = self.started.elapsed();
        self.with(|state| {
            let free = self.slots.saturating_sub(state.waiting);
            let lane = state.lanes.entry(receiver.clone()).or_insert_with(|| Lane {
                gate: Gate::default(),
                turns: Arc::new(Semaphore::new(self.per_receiver)),
                waiting: 0,
            });
            let shut = lane.gate.shut(now);
            if !shut.is_zero() {
                return Err(Later::Shut(shut));
            }
            if lane.waiting >= free.max(self.per_receiver) {
                return Err(Later::Busy);
            }
            lane.waiting += 1;
            state.waiting += 1;
            Ok((Place { turns: self, receiver: receiver.clone() }, Arc::clone(&lane.turns)))
        })
    }

    /// What an attempt said of the receiver. Whether its breaker opened by that.
    pub(super) fn said(&self, receiver: &ReceiverName, said: Said, fraction: f64) -> bool {
        let now = self.started.elapsed();
        self.with(|state| {
            let Some(lane) = state.lanes.get_mut(receiver) else { return false };
            let before = lane.gate.is_open();
            lane.gate.said(said, now, fraction);
            !before && lane.gate.is_open()
        })
    }

    /// Receivers whose breaker is open.
    pub(super) fn open(&self) -> usize {
        self.with(|state| state.lanes.values().filter(|lane| lane.gate.is_open()).count())
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One attempt, until it is dropped.
pub(super) struct Turn<'a> {
    _place: Place<'a>,
    _permit: OwnedSemaphorePermit,
}

struct Place<'a> {
    turns: &'a Turns,
    receiver: ReceiverName,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.with(|state| {
            state.waiting = state.waiting.saturating_sub(1);
            if let Some(lane) = state.lanes.get_mut(&self.receiver) {
                lane.waiting = lane.waiting.saturating_sub(1);
                // Of a receiver at rest nothing is remembered.
                if lane.waiting == 0 && lane.gate.is_at_rest(self.turns.started.elapsed()) {
                    state.lanes.remove(&self.receiver);
                }
            }
        });
    }
}

/// A notification that is under way, until it is dropped.
pub(super) struct Claim<'a> {
    turns: &'a Turns,
    id: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.turns.with(|state| state.under_way.remove(&self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ReceiverName {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn a_lane_that_is_full_leaves_room_for_others() {
        let turns = Turns::new(2, 100);
        let slow: Vec<_> = (0..100).filter_map(|_| turns.line_up(&name("slow")).ok()).collect();
        assert_eq!(slow.len(), 50);
        let other: Vec<_> = (0..100).filter_map(|_| turns.line_up(&name("other")).ok()).collect();
        assert_eq!(other.len(), 25);
        let third = turns.wait(&name("third"), None).await;
        assert!(third.is_ok());
        drop((slow, other, third));
        assert_eq!(turns.with(|state| (state.waiting, state.lanes.len())), (0, 0));
    }

    #[tokio::test]
    async fn a_notification_is_under_way_once() {
        let turns = Turns::new(1, 10);
        let claim = turns.claim("a");
        assert!(claim.is_some() && turns.claim("a").is_none() && turns.claim("b").is_some());
        drop(claim);
        assert!(turns.claim("a").is_some());
    }

    #[tokio::test]
    async fn a_receiver_that_failed_again_and_again_is_left_alone() {
        let turns = Turns::new(4, 10);
        let held = turns.wait(&name("r"), None).await.unwrap();
        let opened: Vec<bool> = (0..6).map(|_| turns.said(&name("r"), Said::Failed, 0.5)).collect();
        assert_eq!(opened, [false, false, false, false, true, false]);
        assert!(matches!(turns.wait(&name("r"), None).await.err(), Some(Later::Shut(_))));
        drop(held);
        assert_eq!(turns.open(), 1, "it is remembered");
    }
}
