//! What a change of documents would mean for each host, before it is made.

use std::{collections::BTreeSet, sync::Arc};

use documents::{Outcome, Resolver};
use protocol::{
    AgentId, CheckName,
    admin::{Effects, HostEffect, UnfitCheck},
    document::{Document, Kind},
    limits,
    log::LogChange,
};

use super::model::Model;

/// Bytes of what is told host by host: an answer fits into one message.
const BYTES: usize = limits::MESSAGE / 2;

/// Documents as they would be, and the checks that differ.
pub(crate) struct Prospect {
    pub(super) resolver: Resolver,
    pub(super) checks: BTreeSet<CheckName>,
    /// Groups or variables differ too.
    targeting: bool,
    effects: Effects,
    /// Hosts that would run something else.
    concerned: Vec<AgentId>,
    bytes: usize,
}

impl Prospect {
    pub(crate) fn new(model: &Model, changes: &[LogChange]) -> Self {
        let mut resolver = model.resolver().clone();
        let mut checks = BTreeSet::new();
        let mut targeting = false;
        for change in changes {
            match change {
                LogChange::DocumentPut { document, .. } => {
                    resolver.put(document);
                    targeting |= matches!(document.kind(), Kind::Group | Kind::Variables);
                    if let Document::Check(check) = document {
                        checks.insert(check.name.clone());
                    }
                }
                LogChange::DocumentDeleted { kind, name } => {
                    resolver.remove(*kind, name);
                    targeting |= matches!(kind, Kind::Group | Kind::Variables);
                    if *kind == Kind::Check {
                        checks.extend(CheckName::new(name));
                    }
                }
                _ => {}
            }
        }
        Self { resolver, checks, targeting, effects: Effects::default(), concerned: Vec::new(), bytes: 0 }
    }

    /// Look at some hosts. Of one that is gone meanwhile there is nothing to say.
    pub(crate) fn look_at(&mut self, model: &Model, agents: &[AgentId]) {
        for agent in agents {
            let Some((facts, labels, before, outcomes)) = model.view(agent) else { continue };
            let after =
                if self.targeting { self.resolver.scope(agent, &facts, &labels) } else { Arc::clone(before) };
            let mut effect = HostEffect {
                agent: agent.clone(),
                gained: Vec::new(),
                lost: Vec::new(),
                changed: Vec::new(),
                unfit: Vec::new(),
            };
            let view = after.view(agent, &facts, &labels);
            let concerned: BTreeSet<&CheckName> =
                self.checks.iter().chain(self.resolver.concerned(before, &after)).collect();
            for name in concerned {
                let before = outcomes.get(name);
                let after = self.resolver.outcome(name, &after, &view);
                if before == after.as_ref() {
                    continue;
                }
                let runs = |outcome: Option<&Outcome>| matches!(outcome, Some(Outcome::Runs(_)));
                match (runs(before), runs(after.as_ref())) {
                    (true, true) => effect.changed.push(name.clone()),
                    (true, false) => effect.lost.push(name.clone()),
                    (false, true) => effect.gained.push(name.clone()),
                    (false, false) => {}
                }
                if let Some(Outcome::Unfit(reason)) = after {
                    effect.unfit.push(UnfitCheck { check: name.clone(), reason });
                }
            }
            self.add(effect);
        }
    }

    fn add(&mut self, effect: HostEffect) {
        let count = |names: usize| u64::try_from(names).unwrap_or(u64::MAX);
        let all = &mut self.effects;
        let runs_else = effect.gained.len() + effect.lost.len() + effect.changed.len() > 0;
        if !runs_else && effect.unfit.is_empty() {
            return;
        }
        if runs_else {
            self.concerned.push(effect.agent.clone());
        }
        all.hosts += u64::from(runs_else);
        all.gained += count(effect.gained.len());
        all.lost += count(effect.lost.len());
        all.changed += count(effect.changed.len());
        all.unfit += count(effect.unfit.len());
        if self.bytes < BYTES {
            let size = protocol::encode(&effect).map_or(BYTES, |json| json.len());
            self.bytes += size;
            if self.bytes < BYTES {
                all.details.push(effect);
            }
        }
    }

    pub(crate) fn effects(self) -> Effects {
        self.effects
    }

    pub(crate) fn concerned(self) -> Vec<AgentId> {
        self.concerned
    }
}
