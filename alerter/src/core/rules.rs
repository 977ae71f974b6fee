//! The rules and receivers of one revision, compiled. Every check has a rule of its own besides those that operators
//! write, and every host has one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use documents::{ExpressionError, HostExpression, RuleExpression};
use protocol::{
    CheckName, ReceiverName, RuleName, Threshold,
    admin::DocumentList,
    alert::Severity,
    document::{Check, Document, Receiver, Rule},
    duration,
    operate::Silence,
};

use super::alert::Timing;

/// Name of the rule, and of its check, that a host of which nothing comes breaks.
pub const HOST_DOWN: &str = "host_down";
/// Added to the time in which a result is expected: what delivery may take.
const GRACE: Duration = Duration::from_secs(30);

/// What makes a rule hold.
#[derive(Debug)]
pub enum Condition {
    Expression {
        when: RuleExpression,
        clear: Option<RuleExpression>,
    },
    /// The check's own: its status, where `thresholds` is set, and that nothing comes.
    Own {
        thresholds: bool,
    },
    HostDown,
}

/// A rule with its expressions compiled.
#[derive(Debug)]
pub struct CompiledRule {
    pub rule: Rule,
    pub hosts: Option<HostExpression>,
    pub condition: Condition,
}

impl CompiledRule {
    /// # Errors
    /// What is wrong with its expressions.
    pub fn new(rule: Rule) -> Result<Self, ExpressionError> {
        let hosts = rule.hosts.as_deref().map(HostExpression::compile).transpose()?;
        let when = RuleExpression::compile(&rule.when)?;
        let clear = rule.clear_when.as_deref().map(RuleExpression::compile).transpose()?;
        Ok(Self { rule, hosts, condition: Condition::Expression { when, clear } })
    }

    #[must_use]
    pub fn timing(&self) -> Timing {
        let in_a_row = match &self.condition {
            Condition::Expression { when, .. } => when.in_a_row(),
            Condition::Own { .. } | Condition::HostDown => 1,
        };
        Timing {
            hold_ms: duration::millis(self.rule.hold),
            keep_ms: duration::millis(self.rule.keep_firing_for),
            attempts: self.rule.attempts.max(in_a_row),
        }
    }

    /// Whether it may hold because nothing comes.
    #[must_use]
    pub fn judges_silence(&self) -> bool {
        matches!(&self.condition, Condition::Expression { when, .. } if when.judges_silence())
    }

    /// The longest window that it asks for.
    fn window(&self) -> Duration {
        let Condition::Expression { when, clear } = &self.condition else { return Duration::ZERO };
        let calls = when.windows().chain(clear.iter().flat_map(|clear| clear.windows()));
        calls.map(|call| call.over).max().unwrap_or_default()
    }
}

/// What concerns one check.
#[derive(Debug, Default)]
pub struct CheckRules {
    pub rules: Vec<Arc<CompiledRule>>,
    /// Its own rule, which is among `rules` too.
    pub own: Option<Arc<CompiledRule>>,
    /// How far back its rules look, in milliseconds. 0: they do not.
    pub window_ms: u64,
    /// A host that runs it gives a result in this time. `None`: nobody knows.
    pub expected_ms: Option<u64>,
    /// The check's thresholds, as far as they are the same on all hosts.
    pub warning: Option<Threshold>,
    pub critical: Option<Threshold>,
}

/// All rules and receivers.
#[derive(Debug, Default)]
pub struct RuleBook {
    pub revision: u64,
    by_check: HashMap<CheckName, CheckRules>,
    checks: HashMap<RuleName, CheckName>,
    receivers: HashMap<ReceiverName, Box<Receiver>>,
    pub host_down: Option<Arc<CompiledRule>>,
    /// Rules that may hold because nothing comes, with their checks.
    judging_silence: Vec<(CheckName, Arc<CompiledRule>)>,
    /// Silences that stand in documents.
    pub silences: Vec<Silence>,
    /// Rules that operators wrote.
    written: usize,
    /// Rules that this version cannot compile, and why. Their alerts stay as they are.
    pub broken: BTreeMap<RuleName, String>,
}

impl RuleBook {
    /// A rule that cannot be compiled is set aside and silences no other.
    #[must_use]
    pub fn new(list: DocumentList) -> Self {
        let mut book = Self { revision: list.revision, ..Self::default() };
        let mut checks = Vec::new();
        for document in list.documents {
            match document {
                Document::Rule(rule) => book.write(rule),
                Document::Receiver(receiver) => {
                    book.receivers.insert(receiver.name.clone(), receiver);
                }
                Document::Check(check) => checks.push(check),
                Document::Silence(silence) => book.silences.push(silence),
                _ => {}
            }
        }
        let receivers = book.receivers.values().filter(|receiver| receiver.default);
        let mut defaults: Vec<_> = receivers.map(|receiver| receiver.name.clone()).collect();
        defaults.sort();
        for check in checks {
            book.add_own(&check, &defaults);
        }
        book.add_host_down(defaults);
        book
    }

    fn write(&mut self, rule: Rule) {
        let (name, check) = (rule.name.clone(), rule.check.clone());
        self.written += 1;
        match CompiledRule::new(rule) {
            Ok(compiled) => self.add(Arc::new(compiled)),
            Err(error) => {
                self.checks.insert(name.clone(), check);
                self.broken.insert(name, error.to_string());
            }
        }
    }

    fn add(&mut self, rule: Arc<CompiledRule>) {
        let check = rule.rule.check.clone();
        self.checks.insert(rule.rule.name.clone(), check.clone());
        if rule.judges_silence() {
            self.judging_silence.push((check.clone(), Arc::clone(&rule)));
        }
        let all = self.by_check.entry(check).or_default();
        all.window_ms = all.window_ms.max(duration::millis(rule.window()));
        all.rules.push(rule);
    }

    /// A rule that operators wrote under the check's name stands for the check's own. Where others look at the check,
    /// its thresholds raise no second alert, unless it names receivers of its own.
    fn add_own(&mut self, check: &Check, defaults: &[ReceiverName]) {
        let others = self.by_check.entry(check.name.clone()).or_default();
        others.warning.clone_from(&check.warning);
        others.critical.clone_from(&check.critical);
        // A schedule that differs from host to host is not known here.
        if check.cron.is_none() && check.templates.is_empty() && check.overrides.is_empty() {
            // One run may be missed.
            let expected = check.every.saturating_mul(2).saturating_add(check.timeout).saturating_add(GRACE);
            others.expected_ms = Some(duration::millis(expected));
        }
        let has_thresholds = check.warning.is_some() || check.critical.is_some();
        let thresholds = !check.notify.is_empty() || has_thresholds && others.rules.is_empty();
        let Ok(name) = RuleName::new(check.name.as_str()) else { return };
        if self.checks.contains_key(&name) {
            return;
        }
        let notify = if check.notify.is_empty() { defaults.to_vec() } else { check.notify.clone() };
        let own = Arc::new(CompiledRule {
            rule: built_in(name, check.name.clone(), "its own thresholds", Severity::Warning, notify),
            hosts: None,
            condition: Condition::Own { thresholds },
        });
        self.add(Arc::clone(&own));
        self.by_check.entry(check.name.clone()).or_default().own = Some(own);
    }

    fn add_host_down(&mut self, defaults: Vec<ReceiverName>) {
        let (Ok(name), Ok(check)) = (RuleName::new(HOST_DOWN), CheckName::new(HOST_DOWN)) else { return };
        if self.checks.contains_key(&name) {
            return;
        }
        self.checks.insert(name.clone(), check.clone());
        self.host_down = Some(Arc::new(CompiledRule {
            rule: built_in(name, check, "nothing comes from the host", Severity::Critical, defaults),
            hosts: None,
            condition: Condition::HostDown,
        }));
    }

    /// `None`: nothing is known of the check.
    #[must_use]
    pub fn of_check(&self, check: &CheckName) -> Option<&CheckRules> {
        self.by_check.get(check)
    }

    /// A rule that looks at `check`.
    #[must_use]
    pub fn rule(&self, check: &CheckName, name: &RuleName) -> Option<&Arc<CompiledRule>> {
        let rules = self.of_check(check).into_iter().flat_map(|rules| &rules.rules).chain(&self.host_down);
        rules.into_iter().find(|rule| rule.rule.name == *name)
    }

    /// Rules that may hold because nothing comes, with their checks.
    #[must_use]
    pub fn judging_silence(&self) -> &[(CheckName, Arc<CompiledRule>)] {
        &self.judging_silence
    }

    /// How far back any rule looks, in milliseconds.
    #[must_use]
    pub fn longest_window_ms(&self) -> u64 {
        self.by_check.values().map(|rules| rules.window_ms).max().unwrap_or_default()
    }

    #[must_use]
    pub fn receiver(&self, name: &ReceiverName) -> Option<&Receiver> {
        self.receivers.get(name).map(Box::as_ref)
    }

    /// The check that a rule looks at. `None`: there is no such rule.
    #[must_use]
    pub fn check_of(&self, rule: &RuleName) -> Option<&CheckName> {
        self.checks.get(rule)
    }

    /// Number of rules that operators wrote.
    #[must_use]
    pub fn len(&self) -> usize {
        self.written
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }
}

fn built_in(
    name: RuleName,
    check: CheckName,
    when: &str,
    severity: Severity,
    notify: Vec<ReceiverName>,
) -> Rule {
    Rule {
        name,
        description: String::new(),
        check,
        hosts: None,
        when: when.to_owned(),
        hold: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        attempts: 1,
        clear_when: None,
        flapping: None,
        depends_on: Vec::new(),
        severity,
        notify,
    }
}
