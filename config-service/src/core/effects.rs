//! What a change of documents would mean for each host, before it is made.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use documents::{Outcome, Resolved, Resolver, Step};
use protocol::{
    AgentId, CheckName,
    admin::{Effects, HostEffect, UnfitCheck},
    document::{Document, Kind},
    limits,
    log::LogChange,
};

use super::model::{Known, Model};

/// Bytes of what is told host by host: an answer fits into one message.
const BYTES: usize = limits::MESSAGE / 2;

/// Pairs of what hosts run now and would run that are remembered.
const KNOWN: usize = 10_000;

/// Documents as they would be, and the checks that differ.
pub(crate) struct Prospect {
    pub(super) resolver: Resolver,
    pub(super) checks: BTreeSet<CheckName>,
    step: Step,
    /// What becomes of hosts that run the same now, and would run the same, by the places of both in memory.
    known: HashMap<(usize, usize), Pair>,
    effects: Effects,
    /// Hosts that would run something else.
    concerned: Vec<AgentId>,
    bytes: usize,
}

/// What hosts run now, and would run; held, so that nothing else gets their places.
struct Pair {
    _before: Arc<Resolved>,
    _after: Arc<Resolved>,
    effect: HostEffect,
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
        let step = Step::new(&resolver, checks.clone(), targeting);
        let (known, effects) = (HashMap::new(), Effects::default());
        Self { resolver, checks, step, known, effects, concerned: Vec::new(), bytes: 0 }
    }

    /// Look at some hosts. Of one that is gone meanwhile there is nothing to say.
    pub(crate) fn look_at(&mut self, model: &Model, agents: &[AgentId]) {
        for agent in agents {
            let Some(Known { facts, labels, resolved }) = model.view(agent) else { continue };
            let after = self.step.resolve(&self.resolver, resolved, agent, &facts, &labels);
            let place = |resolved: &Arc<Resolved>| Arc::as_ptr(resolved).addr();
            let pair = (place(resolved), place(&after));
            if pair.0 == pair.1 {
                continue;
            }
            let known = self.known.remove(&pair);
            let known = known.unwrap_or_else(|| {
                let effect = effect(agent, resolved, &after);
                Pair { _before: Arc::clone(resolved), _after: after, effect }
            });
            self.add(agent, &known.effect);
            if self.known.len() < KNOWN {
                self.known.insert(pair, known);
            }
        }
    }

    fn add(&mut self, agent: &AgentId, effect: &HostEffect) {
        let count = |names: usize| u64::try_from(names).unwrap_or(u64::MAX);
        let all = &mut self.effects;
        let runs_else = effect.gained.len() + effect.lost.len() + effect.changed.len() > 0;
        if !runs_else && effect.unfit.is_empty() {
            return;
        }
        if runs_else {
            self.concerned.push(agent.clone());
        }
        all.hosts += u64::from(runs_else);
        all.gained += count(effect.gained.len());
        all.lost += count(effect.lost.len());
        all.changed += count(effect.changed.len());
        all.unfit += count(effect.unfit.len());
        if self.bytes < BYTES {
            let effect = HostEffect { agent: agent.clone(), ..effect.clone() };
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

fn effect(agent: &AgentId, before: &Resolved, after: &Resolved) -> HostEffect {
    let (gained, lost, changed, unfit) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut effect = HostEffect { agent: agent.clone(), gained, lost, changed, unfit };
    let names: BTreeSet<&CheckName> = before.outcomes.keys().chain(after.outcomes.keys()).collect();
    for name in names {
        let (before, after) = (before.outcomes.get(name), after.outcomes.get(name));
        if before == after {
            continue;
        }
        let runs = |outcome: Option<&Outcome>| matches!(outcome, Some(Outcome::Runs(_)));
        match (runs(before), runs(after)) {
            (true, true) => effect.changed.push(name.clone()),
            (true, false) => effect.lost.push(name.clone()),
            (false, true) => effect.gained.push(name.clone()),
            (false, false) => {}
        }
        if let Some(Outcome::Unfit(reason)) = after {
            effect.unfit.push(UnfitCheck { check: name.clone(), reason: reason.clone() });
        }
    }
    effect
}
