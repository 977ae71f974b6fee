//! What a host runs by a set of documents.
//!
//! Agents decide this for themselves from signed documents, and the config-service for all of its hosts: both by this.

mod check;

use std::{collections::BTreeMap, sync::Arc};

use protocol::{
    AgentId, CheckName, Facts, Labels,
    admin::Explanation,
    document::{Check, Document, Kind},
};

pub use check::{Outcome, Outcomes, Way, etag};

use crate::HostView;
use check::CompiledCheck;

/// A set of documents with its expressions compiled; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    checks: BTreeMap<CheckName, (Arc<Check>, Arc<CompiledCheck>)>,
}

impl Resolver {
    pub fn new<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Self {
        let mut resolver = Self::default();
        documents.into_iter().for_each(|document| resolver.put(document));
        resolver
    }

    /// Take a document in, instead of the one of this kind and name that there was.
    pub fn put(&mut self, document: &Document) {
        if let Document::Check(check) = document {
            let compiled = Arc::new(CompiledCheck::new(check));
            self.checks.insert(check.name.clone(), (Arc::new((**check).clone()), compiled));
        }
    }

    pub fn remove(&mut self, kind: Kind, name: &str) {
        if let (Kind::Check, Ok(name)) = (kind, CheckName::new(name)) {
            self.checks.remove(&name);
        }
    }

    /// Names of all checks, in order.
    pub fn checks(&self) -> impl Iterator<Item = &CheckName> {
        self.checks.keys()
    }

    /// Which checks select this host, and what becomes of each.
    #[must_use]
    pub fn outcomes(&self, agent: &AgentId, facts: &Facts, labels: &Labels) -> Outcomes {
        let host = HostView::new(agent, facts, labels);
        let outcome = |name: &CheckName| Some((name.clone(), self.outcome(name, &host)?));
        self.checks().filter_map(outcome).collect()
    }

    /// What becomes of one check. `None`: there is none, or it does not select the host.
    #[must_use]
    pub fn outcome(&self, check: &CheckName, host: &HostView<'_>) -> Option<Outcome> {
        self.checks.get(check)?.1.outcome(host)
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
        let (check, compiled) = self.checks.get(check)?;
        Some(check::explain(check, compiled, &HostView::new(agent, facts, labels)))
    }
}

#[cfg(test)]
mod tests;
