//! Writing the inventory: what matters at once and durably, the rest every few seconds, many hosts per flush.

use std::{collections::BTreeSet, mem, sync::Mutex, sync::PoisonError, time::Duration};

use protocol::AgentId;
use tokio::sync::{Notify, watch};

/// How long the time of a host's last request may be on its way to the disk. Hosts ask again sooner than anybody misses it.
pub(crate) const SEEN_INTERVAL: Duration = Duration::from_secs(30);
/// How long what a host applied may be on its way to the disk.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// Why a host is not durable.
#[derive(Debug, Clone)]
pub(crate) enum NotDurable {
    /// The flush failed, and why. It goes on to be tried.
    Failed(String),
    Stopping,
}

/// Hosts and keys that differ from what is on disk. Cheap to mark; a flush takes all of them.
pub(crate) struct Pending {
    marked: Mutex<Marked>,
    urgent: Notify,
    flushed: watch::Sender<Flushed>,
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Flushed {
    /// Number of the last flush that succeeded.
    done: u64,
    /// The last one that failed, and why.
    failed: (u64, String),
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Marked {
    pub(crate) hosts: BTreeSet<AgentId>,
    pub(crate) keys: BTreeSet<String>,
    /// Number of the flush that takes what is marked now.
    pub(crate) number: u64,
}

impl Pending {
    pub(crate) fn new() -> Self {
        let marked = Mutex::new(Marked { number: 1, ..Marked::default() });
        Self {
            marked,
            urgent: Notify::new(),
            flushed: watch::Sender::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn host(&self, agent: AgentId) {
        self.marked(|marked| marked.hosts.insert(agent));
    }

    pub(crate) fn hosts(&self, agents: Vec<AgentId>) {
        if !agents.is_empty() {
            self.marked(|marked| marked.hosts.extend(agents));
        }
    }

    pub(crate) fn key(&self, id: String) {
        self.marked(|marked| marked.keys.insert(id));
    }

    /// Mark hosts and wait until they are durable, or one flush has failed; many that wait share one.
    pub(crate) async fn durable(&self, agents: Vec<AgentId>) -> Result<(), NotDurable> {
        let mut flushed = self.flushed.subscribe();
        let number = self.marked(|marked| {
            marked.hosts.extend(agents);
            marked.number
        });
        self.flush();
        let ended = |f: &Flushed| f.closed || f.done >= number || f.failed.0 >= number;
        match flushed.wait_for(ended).await {
            Ok(flushed) if flushed.done >= number => Ok(()),
            Ok(flushed) if flushed.failed.0 >= number => Err(NotDurable::Failed(flushed.failed.1.clone())),
            _ => Err(NotDurable::Stopping),
        }
    }

    /// Flush at once.
    pub(crate) fn flush(&self) {
        self.urgent.notify_one();
    }

    pub(crate) async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// Nobody else writes the inventory while this is held.
    pub(crate) async fn writing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    pub(crate) fn take(&self) -> Marked {
        self.marked(|marked| {
            let number = marked.number;
            mem::replace(marked, Marked { number: number + 1, ..Marked::default() })
        })
    }

    pub(crate) fn done(&self, number: u64) {
        self.flushed.send_modify(|flushed| flushed.done = number);
    }

    /// There will be no further flush: nobody waits for one.
    pub(crate) fn close(&self) {
        self.flushed.send_modify(|flushed| flushed.closed = true);
    }

    /// The flush failed: all of it again with the next one.
    pub(crate) fn failed(&self, taken: Marked, reason: String) {
        self.marked(|marked| {
            marked.hosts.extend(taken.hosts);
            marked.keys.extend(taken.keys);
        });
        self.flushed.send_modify(|flushed| flushed.failed = (taken.number, reason));
    }

    fn marked<T>(&self, change: impl FnOnce(&mut Marked) -> T) -> T {
        change(&mut self.marked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
