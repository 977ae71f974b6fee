//! The fold of the log: what each change makes of the model, and whom it concerns.

use std::sync::Arc;

use protocol::{
    AgentId, CheckName, Facts, Labels, Origin,
    document::{Document, Kind},
    log::{KeyRecord, LogChange, LogRecord},
};

use super::{Entry, HostRecord, Model, Touched};
use crate::core::{
    model::Keys,
    plan::Documents,
    rollouts::{Before, KeptRollouts},
    sign_in::SignIns,
    signing,
};

impl Model {
    /// Fold one accepted change. Hosts run what they ran until they are [refreshed](Self::refresh).
    pub(crate) fn fold(&mut self, record: &LogRecord, touched: &mut Touched) {
        self.revision = record.revision;
        self.bodies.clear();
        // What the open rollout holds back may differ in other documents than before.
        let mut moved = false;
        for change in &record.changes {
            match change {
                LogChange::DocumentPut { document, signature } => {
                    moved = true;
                    self.resolver.put(document);
                    touched.targeting |= matches!(document.kind(), Kind::Group | Kind::Variables);
                    if let Document::Check(check) = document {
                        touched.checks.insert(check.name.clone());
                    }
                    let key = (document.kind(), document.name().to_owned());
                    let signed = Arc::make_mut(&mut self.signed);
                    match signing::signed(document, signature.as_ref()) {
                        Some(document) => drop(signed.insert(key.clone(), document)),
                        None => drop(signed.remove(&key)),
                    }
                    Arc::make_mut(&mut self.documents).insert(key, document.clone());
                }
                LogChange::DocumentDeleted { kind, name } => {
                    moved = true;
                    self.resolver.remove(*kind, name);
                    touched.targeting |= matches!(kind, Kind::Group | Kind::Variables);
                    if *kind == Kind::Check
                        && let Ok(name) = CheckName::new(name)
                    {
                        touched.checks.insert(name);
                    }
                    Arc::make_mut(&mut self.signed).remove(&(*kind, name.clone()));
                    Arc::make_mut(&mut self.documents).remove(&(*kind, name.clone()));
                }
                LogChange::KeyCreated { key } => {
                    if key.agent.as_ref().is_some_and(|agent| self.sign_ins.is_gone(agent)) {
                        Arc::make_mut(&mut self.sign_ins).fold(change);
                    }
                    touched.hosts.extend(self.key_created(key.clone()));
                }
                LogChange::HostDecommissioned { agent, .. } => {
                    Arc::make_mut(&mut self.sign_ins).fold(change);
                    self.hosts.remove(agent);
                }
                LogChange::TokenCreated { .. }
                | LogChange::TokenRevoked { .. }
                | LogChange::AgentEnrolled { .. }
                | LogChange::AgentRevoked { .. } => {
                    let given = Arc::make_mut(&mut self.sign_ins).fold(change);
                    touched
                        .hosts
                        .extend(given.map(|(agent, labels)| self.enrolled(agent, labels, record.at_ms)));
                }
                LogChange::KeyRevoked { id, at_ms } => {
                    if let Some(key) = Arc::make_mut(&mut self.keys).get_mut(id) {
                        key.revoked_ms = Some(*at_ms);
                    }
                }
                LogChange::RolloutPut { rollout } => {
                    let (documents, signed) = (Arc::clone(&self.documents), Arc::clone(&self.signed));
                    let before = (Before { documents, signed }, &self.resolver);
                    self.rollouts.put(rollout.clone(), before, touched);
                    moved = true;
                }
            }
        }
        if moved {
            self.rollouts.folded(&self.documents, &self.resolver, touched);
        }
    }

    /// The hosts that may run something else now.
    pub(crate) fn affected(&self, touched: &Touched) -> Vec<AgentId> {
        if touched.checks.is_empty() && !touched.targeting {
            touched.hosts.iter().cloned().collect()
        } else {
            self.hosts.keys().cloned().collect()
        }
    }

    /// Resolve these hosts anew. Returns those that do run something else.
    pub(crate) fn refresh(&mut self, agents: &[AgentId], touched: &mut Touched) -> Vec<AgentId> {
        self.bodies.clear();
        let mut changed = agents.to_vec();
        changed.retain(|agent| {
            let own = touched.hosts.contains(agent);
            let resolved = self.resolve(agent, (!own).then_some(&mut *touched));
            self.signed_anew(agent, touched) || resolved
        });
        changed
    }

    /// Whether a host that checks signatures has to look at documents again, be it that it goes on to run the same.
    fn signed_anew(&mut self, agent: &AgentId, touched: &Touched) -> bool {
        let Some(Entry { record, resolved, .. }) = self.hosts.get_mut(agent) else { return false };
        let concerned =
            || touched.targeting || touched.checks.iter().any(|check| resolved.outcomes.contains_key(check));
        if !record.signed || !concerned() {
            return false;
        }
        (record.signed_at, record.revision_wanted) = (self.revision, self.revision);
        true
    }

    /// Forget all that came from the log; hosts stay.
    pub(crate) fn forget_log(&mut self) {
        let hosts = self.records();
        let nothing = KeptRollouts::default();
        *self = Self::load(0, Documents::new(), Keys::new(), hosts, nothing, self.max_hosts).0;
    }

    /// A key of a host puts that host into the inventory.
    pub(super) fn key_created(&mut self, key: KeyRecord) -> Option<AgentId> {
        let agent = key.agent.clone();
        if let Some(agent) = &agent {
            let entry = self.hosts.entry(agent.clone()).or_insert_with(|| {
                let (origin, first_seen_ms) = (Origin::Http, key.created_ms);
                Entry {
                    record: HostRecord { origin, first_seen_ms, ..HostRecord::default() },
                    ..Entry::default()
                }
            });
            entry.given.0.extend(key.facts.clone());
            entry.given.1.extend(key.labels.clone());
        }
        self.hashes.insert(key.hash.clone(), key.id.clone());
        Arc::make_mut(&mut self.keys).insert(key.id.clone(), key);
        agent
    }

    /// An agent that is enrolled is in the inventory, with the labels of its token.
    pub(super) fn enrolled(&mut self, agent: AgentId, labels: Labels, now: u64) -> AgentId {
        let entry = self.hosts.entry(agent.clone()).or_insert_with(|| {
            let record = HostRecord { origin: Origin::Agent, first_seen_ms: now, ..HostRecord::default() };
            Entry { record, ..Entry::default() }
        });
        entry.given.1.extend(labels);
        agent
    }

    /// Of hosts that were decommissioned those leave that did not come back; of the others what was given before does
    /// not count. Those are returned.
    pub(super) fn without_gone(&mut self, sign_ins: &SignIns) -> Vec<AgentId> {
        let mut back = Vec::new();
        let in_order = sign_ins.in_order();
        for (agent, gone) in sign_ins.gone() {
            if !gone.back {
                self.hosts.remove(agent);
                continue;
            }
            let Some(entry) = self.hosts.get_mut(agent) else { continue };
            let before = |revoked_ms: Option<u64>| revoked_ms.is_some_and(|at_ms| at_ms <= gone.at_ms);
            entry.given = (Facts::new(), Labels::new());
            let mut keys: Vec<&KeyRecord> =
                self.keys.values().filter(|key| key.agent.as_ref() == Some(agent)).collect();
            keys.sort_by_key(|key| key.created_ms);
            for key in keys.into_iter().filter(|key| !before(key.revoked_ms)) {
                entry.given.0.extend(key.facts.clone());
                entry.given.1.extend(key.labels.clone());
            }
            for enrolled in &in_order {
                if enrolled.agent == *agent && !before(enrolled.revoked_ms) {
                    entry.given.1.extend(enrolled.labels.clone());
                }
            }
            back.push(agent.clone());
        }
        back
    }
}
