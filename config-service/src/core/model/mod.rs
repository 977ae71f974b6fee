//! All that the service knows, in memory: the fold of the log, and the inventory of hosts.

mod answers;
mod asking;
mod folding;
mod listing;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use documents::{HostExpression, Resolved, Resolver, Step};
use protocol::{AgentId, CheckName, Facts, Labels, Origin, admin::Explanation, log::KeyRecord};
use serde::{Deserialize, Serialize};

use super::{
    plan::Documents,
    rollouts::{KeptRollouts, Rollouts},
    sign_in::SignIns,
    signing::Signed,
};
use answers::Bodies;
use asking::Asked;
pub(crate) use asking::{Answer, Refusal, Seen};

/// Most bytes of one host's facts and labels together.
pub(super) const HOST_BYTES: usize = 64 * 1024;

pub(crate) type Keys = BTreeMap<String, KeyRecord>;

/// What is kept of a host on disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    pub(crate) facts: Facts,
    pub(crate) labels: Labels,
    pub(crate) origin: Origin,
    pub(crate) agent_version: Option<String>,
    pub(crate) first_seen_ms: u64,
    pub(crate) last_seen_ms: u64,
    pub(crate) revision_wanted: u64,
    pub(crate) etag: String,
    pub(crate) revision_applied: Option<u64>,
    pub(crate) error: Option<String>,
    /// Revision with which `error` came.
    #[serde(default)]
    pub(crate) failing_since: Option<u64>,
    #[serde(default)]
    pub(crate) poll_ms: Option<u64>,
    /// The agent that asked last, and the one before it.
    #[serde(default)]
    pub(crate) instance: Option<String>,
    #[serde(default)]
    pub(crate) instance_before: Option<String>,
    #[serde(default)]
    pub(crate) cloned_ms: Option<u64>,
    /// It checks signatures.
    #[serde(default)]
    pub(crate) signed: bool,
    /// Newest revision of a document that it needs for that.
    #[serde(default)]
    pub(crate) signed_at: u64,
}

#[derive(Debug, Default)]
struct Entry {
    record: HostRecord,
    /// What an operator gave by key: wins over what the host says.
    given: (Facts, Labels),
    /// Shared by all hosts that run the same.
    resolved: Arc<Resolved>,
    /// What it asked last, if it may ask the same again.
    asked: Option<Asked>,
    /// When it was seen, as it is on disk.
    saved_ms: u64,
    /// Facts and labels as the host said them are not on disk yet. It may never say them again, all else it repeats.
    unsaved: bool,
}

impl Entry {
    /// What the host says of itself, and over it what an operator gave.
    fn known(&self) -> (Cow<'_, Facts>, Cow<'_, Labels>) {
        (over(&self.record.facts, &self.given.0), over(&self.record.labels, &self.given.1))
    }
}

fn over<'a, V: Clone>(
    said: &'a BTreeMap<String, V>,
    given: &BTreeMap<String, V>,
) -> Cow<'a, BTreeMap<String, V>> {
    let mut all = Cow::Borrowed(said);
    if !given.is_empty() {
        all.to_mut().extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    all
}

/// What is known of a host, and what it runs.
pub(super) struct Known<'a> {
    pub(super) facts: Cow<'a, Facts>,
    pub(super) labels: Cow<'a, Labels>,
    pub(super) resolved: &'a Arc<Resolved>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) revision: u64,
    pub(crate) documents: Arc<Documents>,
    /// Those of them that are signed.
    pub(crate) signed: Arc<Signed>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) sign_ins: Arc<SignIns>,
    hashes: HashMap<String, String>,
    resolver: Resolver,
    pub(super) rollouts: Rollouts,
    hosts: BTreeMap<AgentId, Entry>,
    max_hosts: usize,
    bodies: Bodies,
}

/// What folded changes concern.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(super) checks: BTreeSet<CheckName>,
    /// Groups or variables are among them.
    pub(super) targeting: bool,
    /// Hosts whose own facts or labels were given anew.
    hosts: BTreeSet<AgentId>,
    /// To what there is now, and to what hosts run that a rollout has not reached.
    steps: (Option<Step>, Option<Step>),
}

impl Model {
    /// The state as it was stored. Hosts whose configuration came out different than it was stored are `changed`.
    pub(crate) fn load(
        revision: u64,
        documents: Documents,
        keys: Keys,
        hosts: Vec<(AgentId, HostRecord)>,
        rollouts: KeptRollouts,
        max_hosts: usize,
    ) -> (Self, Vec<AgentId>) {
        let resolver = Resolver::new(documents.values());
        let rollouts = Rollouts::load(rollouts, &resolver, &documents);
        let documents = Arc::new(documents);
        let mut model = Self { revision, documents, resolver, rollouts, max_hosts, ..Self::default() };
        for (agent, record) in hosts {
            let saved_ms = record.last_seen_ms;
            model.hosts.insert(agent, Entry { record, saved_ms, ..Entry::default() });
        }
        let mut in_order: Vec<KeyRecord> = keys.into_values().collect();
        in_order.sort_by_key(|key| key.created_ms);
        for key in in_order {
            model.key_created(key);
        }
        let agents: Vec<AgentId> = model.hosts.keys().cloned().collect();
        let changed = agents.into_iter().filter(|agent| model.resolve(agent, None)).collect();
        (model, changed)
    }

    /// Take in the sign-ins as they were stored. Hosts whose configuration came out different are returned.
    pub(crate) fn with_sign_ins(&mut self, sign_ins: SignIns) -> Vec<AgentId> {
        let mut hosts = BTreeSet::new();
        for enrolled in sign_ins.in_order() {
            // A host whose agent is revoked may be gone from the inventory.
            if enrolled.revoked_ms.is_none() || self.hosts.contains_key(&enrolled.agent) {
                hosts.insert(self.enrolled(enrolled.agent.clone(), enrolled.labels.clone(), enrolled.at_ms));
            }
        }
        hosts.extend(self.without_gone(&sign_ins));
        self.sign_ins = Arc::new(sign_ins);
        hosts.into_iter().filter(|agent| self.resolve(agent, None)).collect()
    }

    /// Whether an expression holds for a host; not where it fails.
    pub(crate) fn matches(&self, agent: &AgentId, expression: &HostExpression) -> bool {
        self.view(agent).is_some_and(|host| {
            let view = host.resolved.scope.view(agent, &host.facts, &host.labels);
            expression.matches(&view).unwrap_or(false)
        })
    }

    pub(crate) fn has_host(&self, agent: &AgentId) -> bool {
        self.hosts.contains_key(agent)
    }

    /// Evaluate on one host what is touched, or all. Whether what it runs has changed.
    fn resolve(&mut self, agent: &AgentId, some: Option<&mut Touched>) -> bool {
        let Some(entry) = self.hosts.get_mut(agent) else { return false };
        let former = self.rollouts.resolver(agent);
        let resolver = former.unwrap_or(&self.resolver);
        let (facts, labels) = entry.known();
        let resolved = match some {
            None => resolver.resolve(agent, &facts, &labels),
            Some(Touched { checks, targeting, steps, .. }) => {
                let step = if former.is_some() { &mut steps.1 } else { &mut steps.0 };
                let step = step.get_or_insert_with(|| Step::new(resolver, checks.clone(), *targeting));
                step.resolve(resolver, &entry.resolved, agent, &facts, &labels)
            }
        };
        entry.resolved = resolved;
        let etag = &entry.resolved.etag;
        if *etag == entry.record.etag {
            return false;
        }
        entry.record.etag.clone_from(etag);
        entry.record.revision_wanted = self.revision;
        true
    }

    pub(crate) fn key_by_hash(&self, hash: &str) -> Option<&KeyRecord> {
        self.keys.get(self.hashes.get(hash)?).filter(|key| key.hash == hash)
    }

    pub(crate) fn record(&self, agent: &AgentId) -> Option<&HostRecord> {
        self.hosts.get(agent).map(|entry| &entry.record)
    }

    fn records(&self) -> Vec<(AgentId, HostRecord)> {
        self.hosts.iter().map(|(agent, entry)| (agent.clone(), entry.record.clone())).collect()
    }

    /// Facts and labels of a host, its groups and variables, and what it runs.
    pub(super) fn view(&self, agent: &AgentId) -> Option<Known<'_>> {
        let entry = self.hosts.get(agent)?;
        let (facts, labels) = entry.known();
        Some(Known { facts, labels, resolved: &entry.resolved })
    }

    /// `None`: there is no such host, or no such check.
    pub(crate) fn explain(&self, agent: &AgentId, check: &CheckName) -> Option<Explanation> {
        let host = self.view(agent)?;
        let resolver = self.rollouts.resolver(agent).unwrap_or(&self.resolver);
        resolver.explain(check, agent, &host.facts, &host.labels)
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub(crate) fn agents(&self) -> Vec<AgentId> {
        self.hosts.keys().cloned().collect()
    }

    pub(crate) fn host_count(&self) -> usize {
        self.hosts.len()
    }
}

#[cfg(test)]
mod tests;
