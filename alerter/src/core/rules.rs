//! The rules and receivers of one revision, compiled.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use documents::{HostExpression, RuleExpression};
use protocol::{
    CheckName, ReceiverName, RuleName,
    admin::DocumentList,
    document::{Document, Receiver, Rule},
    duration,
};

use super::alert::Timing;

/// A rule with its expressions compiled.
#[derive(Debug)]
pub struct CompiledRule {
    pub rule: Rule,
    pub hosts: Option<HostExpression>,
    pub when: RuleExpression,
}

impl CompiledRule {
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing {
            hold_ms: duration::millis(self.rule.hold),
            keep_ms: duration::millis(self.rule.keep_firing_for),
        }
    }
}

/// All rules and receivers.
#[derive(Debug, Default)]
pub struct RuleBook {
    pub revision: u64,
    by_check: HashMap<CheckName, Vec<Arc<CompiledRule>>>,
    checks: HashMap<RuleName, CheckName>,
    receivers: HashMap<ReceiverName, Receiver>,
    /// Rules that this version cannot compile, and why. Their alerts stay as they are.
    pub broken: BTreeMap<RuleName, String>,
}

impl RuleBook {
    /// A rule that cannot be compiled is set aside and silences no other.
    #[must_use]
    pub fn new(list: DocumentList) -> Self {
        let mut book = Self { revision: list.revision, ..Self::default() };
        for document in list.documents {
            match document {
                Document::Rule(rule) => book.add(rule),
                Document::Receiver(receiver) => {
                    book.receivers.insert(receiver.name.clone(), receiver);
                }
                _ => {}
            }
        }
        book
    }

    fn add(&mut self, rule: Rule) {
        let (name, check) = (rule.name.clone(), rule.check.clone());
        let hosts = rule.hosts.as_deref().map(HostExpression::compile).transpose();
        let compiled = hosts
            .and_then(|hosts| Ok((hosts, RuleExpression::compile(&rule.when)?)))
            .map(|(hosts, when)| CompiledRule { rule, hosts, when });
        self.checks.insert(name.clone(), check.clone());
        match compiled {
            Ok(compiled) => self.by_check.entry(check).or_default().push(Arc::new(compiled)),
            Err(error) => {
                self.broken.insert(name, error.to_string());
            }
        }
    }

    #[must_use]
    pub fn of_check(&self, check: &CheckName) -> &[Arc<CompiledRule>] {
        self.by_check.get(check).map_or(&[], Vec::as_slice)
    }

    #[must_use]
    pub fn receiver(&self, name: &ReceiverName) -> Option<&Receiver> {
        self.receivers.get(name)
    }

    /// The check that a rule looks at. `None`: there is no such rule.
    #[must_use]
    pub fn check_of(&self, rule: &RuleName) -> Option<&CheckName> {
        self.checks.get(rule)
    }

    /// Number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.checks.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }
}
