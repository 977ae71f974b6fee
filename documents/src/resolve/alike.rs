//! Many hosts at once. Hosts of which all expressions read the same run the same, so that a fleet is a few classes: each
//! is resolved once, and shared.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use protocol::{AgentId, CheckName, Facts, Labels};
use serde::Serialize;

use super::{Outcomes, Resolver, Scope, check::CompiledCheck, etag};
use crate::{
    HostExpression, HostView,
    expression::{Names, Uses},
};

/// Most bytes that are kept to find classes by.
const KEPT: usize = 64 * 1024 * 1024;
/// What a place in a map takes, about, besides its key.
const ENTRY: usize = 64;

/// What a host runs, and in which scope; shared by all hosts of a class.
#[derive(Debug, Default)]
pub struct Resolved {
    pub scope: Arc<Scope>,
    pub outcomes: Outcomes,
    /// [`etag`] of the outcomes.
    pub etag: String,
}

/// What several expressions read of a host, each value of which may decide.
#[derive(Debug, Default)]
struct Reads {
    agent: bool,
    facts: Names,
    labels: Names,
}

impl Reads {
    fn add(&mut self, uses: &Uses) {
        self.agent |= uses.agent;
        self.facts.join(&uses.facts);
        self.labels.join(&uses.labels);
    }

    /// Append what they read. Equal bytes: they answer the same, in the same scope.
    fn write(&self, facts: &Facts, labels: &Labels, into: &mut Vec<u8>) {
        // Not to know any is not the same as to lack one.
        into.push(u8::from(facts.is_empty()));
        write_named(&self.facts, facts, into);
        write_named(&self.labels, labels, into);
    }
}

/// JSON has no control characters, so what begins with one cannot be part of what stands before it.
fn write_named<V: Serialize>(names: &Names, values: &BTreeMap<String, V>, into: &mut Vec<u8>) {
    if names.all {
        for (name, value) in values {
            write(1, name, into);
            write(1, value, into);
        }
        into.push(2);
        return;
    }
    for name in &names.some {
        match values.get(name) {
            Some(value) => write(1, value, into),
            None => into.push(0),
        }
    }
}

fn write<V: Serialize + ?Sized>(mark: u8, value: &V, into: &mut Vec<u8>) {
    into.push(mark);
    // Neither the value nor the vector refuses.
    drop(serde_json::to_writer(into, value));
}

/// Some of the checks, or all, with what their expressions read.
#[derive(Debug, Default)]
struct Part {
    /// Each once.
    expressions: BTreeMap<Arc<str>, HostExpression>,
    reads: Reads,
}

impl Part {
    fn add(&mut self, check: &CompiledCheck) {
        let whens = check.variants.iter().filter_map(|variant| variant.when.as_ref());
        for expression in check.hosts.iter().chain(whens).chain(&check.overrides) {
            if !self.expressions.contains_key(expression.text()) {
                self.reads.add(expression.uses());
                self.expressions.insert(Arc::clone(expression.text()), expression.clone());
            }
        }
    }

    /// Append what each of them answers.
    fn write_answers(&self, host: &HostView<'_>, into: &mut Vec<u8>) {
        into.push(u8::from(host.facts.is_empty()));
        for expression in self.expressions.values() {
            match expression.matches(host) {
                Ok(holds) => into.push(3 + u8::from(holds)),
                Err(error) => write(5, &error.to_string(), into),
            }
        }
    }
}

/// The classes that were met. It is for one set of documents, and does not outlive a change of it.
#[derive(Debug, Default)]
pub(super) struct Classes {
    all: Part,
    /// Hosts that documents name, so that they are like no other.
    named: BTreeSet<AgentId>,
    by_reads: HashMap<Vec<u8>, Arc<Resolved>>,
    by_answers: HashMap<Vec<u8>, Arc<Resolved>>,
    bytes: usize,
}

impl Classes {
    pub(super) fn new(resolver: &Resolver) -> Self {
        let mut classes = Self::default();
        resolver.checks.values().for_each(|check| classes.all.add(check));
        for group in resolver.groups.values() {
            group.expression().into_iter().for_each(|hosts| classes.all.reads.add(hosts.uses()));
            classes.named.extend(group.members().iter().cloned());
        }
        classes.named.extend(resolver.variables.values().filter_map(|one| one.host.clone()));
        classes
    }

    /// What a host runs.
    pub(super) fn resolve(
        &mut self,
        resolver: &Resolver,
        agent: &AgentId,
        facts: &Facts,
        labels: &Labels,
    ) -> Arc<Resolved> {
        let mut reads = Vec::new();
        let unlike = self.all.reads.agent || self.named.contains(agent);
        if !unlike {
            self.all.reads.write(facts, labels, &mut reads);
            if let Some(known) = self.by_reads.get(&reads) {
                return Arc::clone(known);
            }
        }
        let scope = resolver.scope(agent, facts, labels);
        let resolved = self.in_scope(resolver, scope, agent, facts, labels);
        if !unlike {
            self.keep(reads.len());
            self.by_reads.insert(reads, Arc::clone(&resolved));
        }
        resolved
    }

    /// As [`Self::resolve`], in a scope that is known.
    fn in_scope(
        &mut self,
        resolver: &Resolver,
        scope: Arc<Scope>,
        agent: &AgentId,
        facts: &Facts,
        labels: &Labels,
    ) -> Arc<Resolved> {
        let view = scope.view(agent, facts, labels);
        // What is kept for it holds the scope: no other one gets its place in memory.
        let mut answers = Arc::as_ptr(&scope).addr().to_ne_bytes().to_vec();
        self.all.write_answers(&view, &mut answers);
        if let Some(known) = self.by_answers.get(&answers) {
            return Arc::clone(known);
        }
        let outcomes: Outcomes = resolver
            .checks
            .iter()
            .filter_map(|(name, check)| Some((name.clone(), check.outcome(&view, &scope)?)))
            .collect();
        let etag = etag(&outcomes);
        self.keep(answers.len() + outcomes.len() * ENTRY);
        let resolved = Arc::new(Resolved { scope: Arc::clone(&scope), outcomes, etag });
        self.by_answers.insert(answers, Arc::clone(&resolved));
        resolved
    }

    /// Make room.
    fn keep(&mut self, bytes: usize) {
        self.bytes += bytes + ENTRY;
        if self.bytes > KEPT {
            self.by_reads.clear();
            self.by_answers.clear();
            self.bytes = bytes + ENTRY;
        }
    }
}

/// From what hosts ran to what they run once some checks, or groups and variables, are others.
#[derive(Debug, Default)]
pub struct Step {
    checks: BTreeSet<CheckName>,
    /// Groups or variables differ too.
    targeting: bool,
    some: Part,
    /// By what the expressions read, or answer. With what was there before, so that no other gets its place in memory.
    known: HashMap<Vec<u8>, (Arc<Resolved>, Arc<Resolved>)>,
    bytes: usize,
}

impl Step {
    /// To these documents, of which those checks may be others than before.
    #[must_use]
    pub fn new(resolver: &Resolver, checks: BTreeSet<CheckName>, targeting: bool) -> Self {
        let mut some = Part::default();
        checks.iter().filter_map(|name| resolver.checks.get(name)).for_each(|check| some.add(check));
        Self { checks, targeting, some, ..Self::default() }
    }

    /// What a host runs that ran `before`, as the same host: with the facts and labels that it had then.
    pub fn resolve(
        &mut self,
        resolver: &Resolver,
        before: &Arc<Resolved>,
        agent: &AgentId,
        facts: &Facts,
        labels: &Labels,
    ) -> Arc<Resolved> {
        if self.targeting {
            let scope = resolver.scope(agent, facts, labels);
            if scope != before.scope {
                return resolver.resolve(agent, facts, labels);
            }
        }
        let place = || Arc::as_ptr(before).addr().to_ne_bytes().to_vec();
        let mut reads = place();
        if !self.some.reads.agent {
            reads.push(0);
            self.some.reads.write(facts, labels, &mut reads);
            if let Some((_, known)) = self.known.get(&reads) {
                return Arc::clone(known);
            }
        }
        let view = before.scope.view(agent, facts, labels);
        let mut answers = place();
        answers.push(1);
        self.some.write_answers(&view, &mut answers);
        let known = self.known.get(&answers).map(|(_, known)| Arc::clone(known));
        let resolved = known.unwrap_or_else(|| {
            let resolved = self.stepped(resolver, before, &view);
            self.keep(answers, resolved.outcomes.len() * ENTRY, before, &resolved);
            resolved
        });
        if !self.some.reads.agent {
            self.keep(reads, 0, before, &resolved);
        }
        resolved
    }

    fn stepped(&self, resolver: &Resolver, before: &Arc<Resolved>, view: &HostView<'_>) -> Arc<Resolved> {
        let mut outcomes = before.outcomes.clone();
        for name in &self.checks {
            match resolver.outcome(name, &before.scope, view) {
                Some(outcome) => outcomes.insert(name.clone(), outcome),
                None => outcomes.remove(name),
            };
        }
        if outcomes == before.outcomes {
            return Arc::clone(before);
        }
        let etag = etag(&outcomes);
        Arc::new(Resolved { scope: Arc::clone(&before.scope), outcomes, etag })
    }

    fn keep(&mut self, key: Vec<u8>, more: usize, before: &Arc<Resolved>, after: &Arc<Resolved>) {
        let bytes = key.len() + more + ENTRY;
        self.bytes += bytes;
        if self.bytes > KEPT {
            self.known.clear();
            self.bytes = bytes;
        }
        self.known.insert(key, (Arc::clone(before), Arc::clone(after)));
    }
}
