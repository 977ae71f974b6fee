//! Writing the inventory: what matters at once and durably, the rest every few seconds, many hosts per flush.

use std::{collections::BTreeSet, mem, sync::Mutex, sync::PoisonError, time::Duration};

use protocol::AgentId;
use tokio::sync::{Notify, watch};

/// How long the time of a host's last request may be on its way to the disk.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

const CLOSED: u64 = u64::MAX;

/// Hosts and keys that differ from what is on disk. Cheap to mark; a flush takes all of them.
pub(crate) struct Pending {
    marked: Mutex<Marked>,
    urgent: Notify,
    /// Number of the last flush that succeeded.
    flushed: watch::Sender<u64>,
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
        Self { marked, urgent: Notify::new(), flushed: watch::Sender::new(0) }
    }

    pub(crate) fn host(&self, agent: AgentId) {
        self.marked(|marked| marked.hosts.insert(agent));
    }

    pub(crate) fn key(&self, id: String) {
        self.marked(|marked| marked.keys.insert(id));
    }

    /// Mark a host and wait until it is durable; many that wait share one flush. `false`: the service stops.
    pub(crate) async fn durable(&self, agent: AgentId) -> bool {
        let mut flushed = self.flushed.subscribe();
        let number = self.marked(|marked| {
            marked.hosts.insert(agent);
            marked.number
        });
        self.urgent.notify_one();
        flushed.wait_for(|done| *done >= number).await.is_ok_and(|done| *done != CLOSED)
    }

    pub(crate) async fn urgent(&self) {
        self.urgent.notified().await;
    }

    pub(crate) fn take(&self) -> Marked {
        self.marked(|marked| {
            let number = marked.number;
            mem::replace(marked, Marked { number: number + 1, ..Marked::default() })
        })
    }

    pub(crate) fn done(&self, number: u64) {
        self.flushed.send_replace(number);
    }

    /// There will be no further flush: nobody waits for one.
    pub(crate) fn close(&self) {
        self.flushed.send_replace(CLOSED);
    }

    /// The flush failed: all of it again with the next one.
    pub(crate) fn put_back(&self, taken: Marked) {
        self.marked(|marked| {
            marked.hosts.extend(taken.hosts);
            marked.keys.extend(taken.keys);
        });
    }

    fn marked<T>(&self, change: impl FnOnce(&mut Marked) -> T) -> T {
        change(&mut self.marked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
