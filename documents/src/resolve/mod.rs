//! What a host runs by a set of documents.
//!
//! Agents decide this for themselves from signed documents, and the config-service for all of its hosts: both by this.

mod alike;
mod check;
mod explain;
mod scope;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use protocol::{
    AgentId, CheckName, Facts, GroupName, Labels, VariablesName,
    admin::Explanation,
    document::{Document, Kind},
    targeting::Variables,
};

pub(crate) use scope::in_order;
pub use {
    alike::{Resolved, Step},
    check::{Outcome, Outcomes, Way, etag},
    scope::Scope,
};

use crate::HostView;
use alike::Classes;
use check::CompiledCheck;
use scope::{CompiledGroup, Targeting};

/// A set of documents with its expressions compiled; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    checks: BTreeMap<CheckName, Arc<CompiledCheck>>,
    groups: BTreeMap<GroupName, Arc<CompiledGroup>>,
    variables: BTreeMap<VariablesName, Arc<Variables>>,
    /// Made from groups and variables when it is first asked for.
    targeting: OnceLock<Arc<Targeting>>,
    /// Hosts that are alike by these documents.
    classes: OnceLock<Arc<Mutex<Classes>>>,
}

impl Resolver {
    pub fn new<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Self {
        let mut resolver = Self::default();
        documents.into_iter().for_each(|document| resolver.put(document));
        resolver
    }

    /// Take a document in, instead of the one of this kind and name that there was.
    pub fn put(&mut self, document: &Document) {
        self.classes.take();
        match document {
            Document::Check(check) => {
                self.checks.insert(check.name.clone(), Arc::new(CompiledCheck::new(check)));
            }
            Document::Group(group) => {
                self.groups.insert(group.name.clone(), Arc::new(CompiledGroup::new(group)));
                self.targeting.take();
            }
            Document::Variables(variables) => {
                self.variables.insert(variables.name.clone(), Arc::new(variables.clone()));
                self.targeting.take();
            }
            _ => {}
        }
    }

    pub fn remove(&mut self, kind: Kind, name: &str) {
        self.classes.take();
        match kind {
            Kind::Check => drop(CheckName::new(name).map(|name| self.checks.remove(&name))),
            Kind::Group => {
                drop(GroupName::new(name).map(|name| self.groups.remove(&name)));
                self.targeting.take();
            }
            Kind::Variables => {
                drop(VariablesName::new(name).map(|name| self.variables.remove(&name)));
                self.targeting.take();
            }
            _ => {}
        }
    }

    /// Names of all checks, in order.
    pub fn checks(&self) -> impl Iterator<Item = &CheckName> {
        self.checks.keys()
    }

    /// Groups and variables of a host.
    #[must_use]
    pub fn scope(&self, agent: &AgentId, facts: &Facts, labels: &Labels) -> Arc<Scope> {
        self.targeting().scope(agent, facts, labels)
    }

    /// Which checks select this host, and what becomes of each.
    #[must_use]
    pub fn outcomes(&self, agent: &AgentId, facts: &Facts, labels: &Labels) -> Outcomes {
        self.outcomes_in(&self.scope(agent, facts, labels), agent, facts, labels)
    }

    /// As [`Self::outcomes`], for a host whose scope is known.
    #[must_use]
    pub fn outcomes_in(&self, scope: &Scope, agent: &AgentId, facts: &Facts, labels: &Labels) -> Outcomes {
        let host = scope.view(agent, facts, labels);
        let outcome = |(name, check): (&CheckName, &Arc<CompiledCheck>)| {
            Some((name.clone(), check.outcome(&host, scope)?))
        };
        self.checks.iter().filter_map(outcome).collect()
    }

    /// As [`Self::outcomes`], shared with all hosts that run the same: for many hosts.
    #[must_use]
    pub fn resolve(&self, agent: &AgentId, facts: &Facts, labels: &Labels) -> Arc<Resolved> {
        let classes = self.classes.get_or_init(|| Arc::new(Mutex::new(Classes::new(self))));
        classes.lock().unwrap_or_else(PoisonError::into_inner).resolve(self, agent, facts, labels)
    }

    /// What becomes of one check on a host as its [scope](Scope::view) shows it. `None`: there is none, or it does not
    /// select the host.
    #[must_use]
    pub fn outcome(&self, check: &CheckName, scope: &Scope, host: &HostView<'_>) -> Option<Outcome> {
        self.checks.get(check)?.outcome(host, scope)
    }

    /// Checks that may become something else on a host whose scope changed.
    pub fn concerned<'a>(
        &'a self,
        before: &'a Scope,
        after: &'a Scope,
    ) -> impl Iterator<Item = &'a CheckName> {
        let vars = before.changed_vars(after);
        self.checks
            .iter()
            .filter(move |(_, check)| check.wants.concerned(before, after, &vars))
            .map(|(name, _)| name)
    }

    /// Why a host runs a check as it does, or why not. `None`: there is no such check.
    #[must_use]
    pub fn explain(
        &self,
        check: &CheckName,
        agent: &AgentId,
        facts: &Facts,
        labels: &Labels,
    ) -> Option<Explanation> {
        let check = self.checks.get(check)?;
        let scope = self.scope(agent, facts, labels);
        Some(explain::explain(check, &scope.view(agent, facts, labels), &scope, self.targeting()))
    }

    fn targeting(&self) -> &Targeting {
        self.targeting.get_or_init(|| Arc::new(Targeting::new(&self.groups, &self.variables)))
    }
}

#[cfg(test)]
mod tests;
