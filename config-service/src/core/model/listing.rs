//! Hosts as operators see them, in pages that fit into one message.

use std::ops::Bound;

use documents::Outcome;
use protocol::{
    AgentId,
    admin::{Host, HostList, HostQuery, UnfitCheck},
    limits,
};

use super::{Entry, Model};
use crate::core::presence;

/// What is left of each reason why a check does not fit when there are too many for one message, in characters.
const REASON: usize = 40;
/// Hosts of one page as JSON; the rest of the message is what is around them.
const PAGE_BYTES: usize = limits::MESSAGE - 1_024;

impl Model {
    /// One host, or a page of all that fits into one message, as operators see them.
    pub(crate) fn hosts(&self, query: &HostQuery, now: u64) -> HostList {
        let mut list = HostList::default();
        if let Some(agent) = &query.agent {
            list.hosts.extend(self.hosts.get(agent).map(|entry| host(agent, entry, now).0));
            return list;
        }
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let after = query.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut size = 0_usize;
        for (agent, entry) in self.hosts.range::<AgentId, _>((after, Bound::Unbounded)) {
            let (host, bytes) = host(agent, entry, now);
            size += bytes + 1;
            if list.hosts.len() == limit || size > PAGE_BYTES {
                list.next = list.hosts.last().map(|host| host.agent.clone());
                break;
            }
            list.hosts.push(host);
        }
        list
    }
}

/// A host as operators see it, and its size as JSON, which a page always has room for.
fn host(agent: &AgentId, entry: &Entry, now: u64) -> (Host, usize) {
    let record = entry.record.clone();
    let (facts, labels) = entry.known();
    let mut checks = Vec::new();
    let mut unfit = Vec::new();
    for (name, outcome) in &entry.resolved.outcomes {
        match outcome {
            Outcome::Runs(_) => checks.push(name.clone()),
            Outcome::Unfit(reason) => unfit.push(UnfitCheck { check: name.clone(), reason: reason.clone() }),
        }
    }
    let mut host = Host {
        agent: agent.clone(),
        facts: facts.into_owned(),
        labels: labels.into_owned(),
        origin: record.origin,
        agent_version: record.agent_version.clone(),
        first_seen_ms: record.first_seen_ms,
        last_seen_ms: record.last_seen_ms,
        revision_wanted: record.revision_wanted,
        revision_applied: record.revision_applied,
        error: record.error.clone(),
        liveness: None,
        liveness_since_ms: None,
        cloned_ms: None,
        formerly: None,
        renamed_to: None,
        same_machine: None,
        checks,
        unfit,
        groups: entry.resolved.scope.groups().to_vec(),
        vars: entry.resolved.scope.vars().clone(),
        clock_ahead_ms: None,
    };
    presence::judge(&mut host, &record, now);
    let size = |host: &Host| protocol::encode(host).map_or(usize::MAX, |json| json.len());
    let mut bytes = size(&host);
    if bytes > limits::MESSAGE / 2 {
        // Only thousands of reasons make it so large.
        for unfit in &mut host.unfit {
            unfit.reason = unfit.reason.chars().take(REASON).collect();
        }
        bytes = size(&host);
    }
    (host, bytes)
}
