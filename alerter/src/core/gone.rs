//! Hosts that were taken out of the inventory: nothing of them is news any more.

use std::collections::HashSet;

use protocol::AgentId;

use super::{alerts::Alerts, draft::Draft, event};

impl Alerts {
    /// End the alerts of these hosts, and forget what was seen of them.
    #[must_use]
    pub fn without_hosts(&mut self, gone: &HashSet<AgentId>, now_ms: u64) -> Draft {
        let mut draft = Draft::default();
        for (agent, host) in self.hosts.iter_mut().filter(|(agent, _)| gone.contains(*agent)) {
            host.series.clear();
            self.failing.retain(|key| key.agent != *agent);
            for tracker in host.trackers.values_mut().filter(|tracker| tracker.state.alert().is_some()) {
                event::end(&mut draft, tracker, now_ms, "the host was decommissioned");
            }
        }
        self.predictions.without_hosts(gone);
        self.note_firing(&draft, 0);
        draft
    }
}
