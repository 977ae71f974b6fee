//! Rollouts in the model: the fold of what the log says of them, and what hosts run that the open one has not reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use documents::{HostView, Outcome, Resolver, Scope};
use protocol::{AgentId, CheckName, Origin, document::Kind, log::LogChange, rollout::Rollout};

use super::{
    model::{Known, Model, Touched},
    plan::Documents,
    signing::Signed,
};

/// Rollouts that are remembered.
const REMEMBERED: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Rollouts {
    all: BTreeMap<u64, Rollout>,
    former: Option<Former>,
}

/// The documents before the open rollout.
#[derive(Debug, Clone, Default)]
pub(crate) struct Before {
    pub(crate) documents: Arc<Documents>,
    pub(crate) signed: Arc<Signed>,
}

/// What was there before the open rollout.
#[derive(Debug)]
struct Former {
    rollout: u64,
    before: Before,
    resolver: Resolver,
    /// Checks in which it may differ from what is there now.
    changed: BTreeSet<CheckName>,
    /// Groups or variables differ too.
    targeting: bool,
}

/// Rollouts as they were stored, and for the open one the documents before it.
#[derive(Debug, Default)]
pub(crate) struct KeptRollouts {
    pub(crate) all: Vec<Rollout>,
    pub(crate) former: Option<(u64, Before)>,
}

/// How the hosts of a rollout fare.
#[derive(Debug, Default)]
pub(crate) struct Fare {
    pub(crate) reached: u64,
    /// Those that say that they run it.
    pub(crate) applied: u64,
    /// Those that fail since it reached them, and why.
    pub(crate) failed: Vec<(AgentId, String)>,
}

impl Rollouts {
    pub(super) fn load(kept: KeptRollouts, resolver: &Resolver, documents: &Documents) -> Self {
        let mut rollouts = Self::default();
        kept.all.into_iter().for_each(|rollout| rollouts.keep(rollout));
        rollouts.former = kept.former.map(|(rollout, before)| {
            let former = Resolver::new(before.documents.values());
            let (changed, targeting) = changed((&before.documents, &former), (documents, resolver));
            Former { rollout, before, resolver: former, changed, targeting }
        });
        rollouts
    }

    fn keep(&mut self, rollout: Rollout) {
        self.all.insert(rollout.revision, rollout);
        while self.all.len() > REMEMBERED {
            self.all.pop_first();
        }
    }

    fn open(&self) -> Option<&Rollout> {
        self.all.get(&self.former.as_ref()?.rollout)
    }

    /// What this host runs by, where that is not what is there now.
    pub(super) fn resolver(&self, agent: &AgentId) -> Option<&Resolver> {
        self.open()?.holds_back(agent).then_some(&self.former.as_ref()?.resolver)
    }

    /// The signed documents that this host runs by, where they are not those that are there now.
    pub(super) fn signed(&self, agent: &AgentId) -> Option<&Signed> {
        self.open()?.holds_back(agent).then_some(self.former.as_ref()?.before.signed.as_ref())
    }

    /// A rollout begins or moves. In the record that it begins with it stands before the documents: these here are
    /// those before it.
    pub(super) fn put(
        &mut self,
        rollout: Rollout,
        (before, resolver): (Before, &Resolver),
        touched: &mut Touched,
    ) {
        let revision = rollout.revision;
        match (&self.former, rollout.state.is_open()) {
            (None, true) => {
                let resolver = resolver.clone();
                let (changed, targeting) = (BTreeSet::new(), false);
                self.former = Some(Former { rollout: revision, before, resolver, changed, targeting });
            }
            (Some(former), false) if former.rollout == revision => {
                touched.checks.extend(former.changed.iter().cloned());
                touched.targeting |= former.targeting;
                self.former = None;
            }
            _ => {}
        }
        self.keep(rollout);
    }

    /// A whole record with documents, or of a rollout, is folded.
    pub(super) fn folded(&mut self, documents: &Documents, resolver: &Resolver, touched: &mut Touched) {
        if let Some(former) = &mut self.former {
            (former.changed, former.targeting) =
                changed((&former.before.documents, &former.resolver), (documents, resolver));
            touched.checks.extend(former.changed.iter().cloned());
            touched.targeting |= former.targeting;
        }
    }
}

impl Model {
    /// The rollout that some hosts have still to be reached by, and the documents before it.
    pub(crate) fn open_rollout(&self) -> Option<(Rollout, Before)> {
        Some((self.rollouts.open()?.clone(), self.rollouts.former.as_ref()?.before.clone()))
    }

    /// Checks that the open rollout changes.
    pub(crate) fn changed_checks(&self) -> BTreeSet<CheckName> {
        self.rollouts.former.as_ref().map(|former| former.changed.clone()).unwrap_or_default()
    }

    /// Newest first.
    pub(crate) fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.rollouts.all.values().rev()
    }

    /// How those of these hosts fare that the open rollout has reached.
    pub(crate) fn fare(&self, concerned: &[AgentId]) -> Fare {
        let mut fare = Fare::default();
        let Some(rollout) = self.rollouts.open() else { return fare };
        for agent in concerned {
            let (Some(record), Some(revision)) = (self.record(agent), rollout.reached_at(agent)) else {
                continue;
            };
            fare.reached += 1;
            let applied = match record.origin {
                // A script does not say what it runs; it asked since then.
                Origin::Http => record.last_seen_ms >= rollout.since_ms,
                _ => record.revision_applied >= Some(record.revision_wanted.max(revision)),
            };
            fare.applied += u64::from(applied);
            if let (Some(error), true) = (&record.error, record.failing_since >= Some(revision)) {
                fare.failed.push((agent.clone(), error.clone()));
            }
        }
        fare
    }

    /// Those of the hosts that the open rollout makes run something else.
    pub(crate) fn concerned(&self, agents: &[AgentId]) -> Vec<AgentId> {
        let Some(former) = &self.rollouts.former else { return Vec::new() };
        self.differing((&former.resolver, self.resolver()), &former.changed, agents)
    }

    /// Those of the hosts that run something else with these changes than with the documents alone.
    pub(crate) fn concerned_by(
        &self,
        documents: &Documents,
        changes: &[LogChange],
        agents: &[AgentId],
    ) -> Vec<AgentId> {
        let mut then = documents.clone();
        for change in changes {
            match change {
                LogChange::DocumentPut { document, .. } => {
                    then.insert((document.kind(), document.name().to_owned()), document.clone());
                }
                LogChange::DocumentDeleted { kind, name } => drop(then.remove(&(*kind, name.clone()))),
                _ => {}
            }
        }
        let (before, after) = (Resolver::new(documents.values()), Resolver::new(then.values()));
        let (names, _) = changed((documents, &before), (&then, &after));
        self.differing((&before, &after), &names, agents)
    }

    fn differing(
        &self,
        (old, new): (&Resolver, &Resolver),
        names: &BTreeSet<CheckName>,
        agents: &[AgentId],
    ) -> Vec<AgentId> {
        let differs = |agent: &AgentId| {
            let Some(Known { facts, labels, .. }) = self.view(agent) else { return false };
            let scope = |resolver: &Resolver| resolver.scope(agent, &facts, &labels);
            let (before, after) = (scope(old), scope(new));
            let views = (before.view(agent, &facts, &labels), after.view(agent, &facts, &labels));
            names.iter().any(|name| {
                let runs = |resolver: &Resolver, scope: &Scope, host: &HostView<'_>| {
                    let outcome = resolver.outcome(name, scope, host);
                    outcome.filter(|outcome| matches!(outcome, Outcome::Runs(_)))
                };
                runs(old, &before, &views.0) != runs(new, &after, &views.1)
            })
        };
        agents.iter().filter(|agent| differs(agent)).cloned().collect()
    }
}

/// Checks that may not be the same in both, and whether groups or variables are not.
fn changed(before: (&Documents, &Resolver), after: (&Documents, &Resolver)) -> (BTreeSet<CheckName>, bool) {
    let (mut names, mut targeting) = (BTreeSet::new(), false);
    for key in before.0.keys().chain(after.0.keys()) {
        if before.0.get(key) == after.0.get(key) {
            continue;
        }
        match key.0 {
            Kind::Check => names.extend(CheckName::new(&key.1)),
            // They may reach into any check.
            Kind::Group | Kind::Variables => {
                targeting = true;
                names.extend(before.1.checks().chain(after.1.checks()).cloned());
            }
            Kind::Receiver | Kind::Rule | Kind::Silence | Kind::Action => {}
        }
    }
    (names, targeting)
}
