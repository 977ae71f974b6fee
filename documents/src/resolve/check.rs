//! One check, ready to be asked about hosts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use protocol::{
    CheckName, Vars,
    config::CheckSpec,
    document::{Check, Variant},
    duration::millis,
    targeting::Override,
    work::{Output, RunSettings, Work},
};
use sha2::{Digest, Sha256};

use super::Scope;
use crate::{EvalError, HostExpression, HostView, expression::Uses, template, tuning};

/// Most forms of one check that are kept to be shared.
const KEPT: usize = 10_000;

/// One check with its expressions compiled.
#[derive(Debug)]
pub(super) struct CompiledCheck {
    pub(super) document: Check,
    pub(super) hosts: Option<HostExpression>,
    pub(super) variants: Vec<CompiledVariant>,
    pub(super) overrides: Vec<HostExpression>,
    /// Why no host can run it: an expression that a former version accepted.
    broken: Option<String>,
    pub(super) wants: Wants,
    made: Mutex<HashMap<Form, Result<Arc<Way>, String>>>,
}

#[derive(Debug)]
pub(super) struct CompiledVariant {
    pub(super) when: Option<HostExpression>,
    work: Work,
    /// Where nothing differs from host to host.
    way: Option<Arc<Way>>,
}

/// What a check asks for of groups and variables.
#[derive(Debug, Default)]
pub(super) struct Wants {
    groups: BTreeSet<String>,
    any_group: bool,
    /// In expressions and in texts.
    pub(super) vars: BTreeSet<String>,
    any_var: bool,
    /// In texts: what a host runs depends on these.
    filled: BTreeSet<String>,
}

/// All that a form of a check depends on: the variant, the overrides, and the variables in its texts.
type Form = (usize, Vec<usize>, Vec<Option<String>>);

/// One form of a check, shared by all hosts that run it.
#[derive(Debug)]
pub struct Way {
    spec: CheckSpec,
    digest: [u8; 32],
    json: OnceLock<Box<[u8]>>,
}

/// What becomes of one check on one host that it selects.
#[derive(Debug, Clone)]
pub enum Outcome {
    Runs(Arc<Way>),
    /// Why it cannot run there, though it selects the host.
    Unfit(String),
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Runs(a), Self::Runs(b)) => a.digest == b.digest,
            (Self::Unfit(a), Self::Unfit(b)) => a == b,
            _ => false,
        }
    }
}

/// Outcome of each check that selects a host; those that do not are not in it.
pub type Outcomes = BTreeMap<CheckName, Outcome>;

impl Wants {
    fn expression(&mut self, uses: &Uses) {
        self.groups.extend(uses.groups.iter().map(|(name, _)| name.clone()));
        self.any_group |= uses.any_group.is_some();
        self.vars.extend(uses.vars.iter().map(|(name, _)| name.clone()));
        self.any_var |= uses.any_var;
    }

    fn text(&mut self, text: &str) {
        let names = template::names(text).unwrap_or_default();
        self.filled.extend(names.iter().map(|name| (*name).to_owned()));
        self.vars.extend(names.into_iter().map(ToOwned::to_owned));
    }

    fn work(&mut self, work: &Work) {
        work.command.iter().for_each(|text| self.text(text));
        work.exec.iter().flatten().for_each(|text| self.text(text));
        for option in work.with.values() {
            let items = option.as_array().map_or(std::slice::from_ref(option), Vec::as_slice);
            items.iter().filter_map(|item| item.as_str()).for_each(|text| self.text(text));
        }
    }

    /// Whether it is to be asked anew about a host that was in another scope.
    pub(super) fn concerned(&self, before: &Scope, after: &Scope, vars: &BTreeSet<&str>) -> bool {
        let groups = (self.any_group || !self.groups.is_empty())
            && (before.groups() != after.groups() || before.failed != after.failed);
        groups
            || (self.any_var && !vars.is_empty())
            || self.vars.iter().any(|name| vars.contains(name.as_str()))
    }

    /// Why it cannot be told what the host runs: a group that it asks for, or that would give a variable.
    fn doubt(&self, scope: &Scope) -> Option<String> {
        let mut asked = scope.failed.iter();
        let failed = asked.find(|(group, _)| self.any_group || self.groups.contains(group.as_str()));
        let mut given = self.vars.iter().filter_map(|name| scope.doubtful.get(name));
        let (group, reason) =
            failed.or_else(|| given.next().and_then(|group| scope.failed.get_key_value(group)))?;
        Some(format!("group {group}: {reason}"))
    }
}

impl CompiledCheck {
    pub(super) fn new(check: &Check) -> Self {
        let (mut broken, mut wants) = (None, Wants::default());
        let mut compile = |what: &str, text: &str, wants: &mut Wants| match HostExpression::compile(text) {
            Ok(expression) => {
                wants.expression(expression.uses());
                Some(expression)
            }
            Err(error) => {
                broken = Some(format!("{what}: {error}"));
                None
            }
        };
        let hosts = check.hosts.as_ref().and_then(|text| compile("hosts", text, &mut wants));
        let overrides =
            check.overrides.iter().filter_map(|one| compile("overrides: hosts", &one.hosts, &mut wants));
        let overrides = overrides.collect();
        let alone = [Variant { when: None, work: check.work.clone() }];
        let given = if check.variants.is_empty() { &alone[..] } else { &check.variants };
        let mut variants = Vec::new();
        for variant in given {
            let when = variant.when.as_ref().and_then(|text| compile("when", text, &mut wants));
            wants.work(&variant.work);
            variants.push(CompiledVariant { when, work: variant.work.clone(), way: None });
        }
        let run = &check.run;
        let texts =
            run.environment.values().chain(&run.directory).chain(&run.stdin).chain(&check.output.metric);
        texts.for_each(|text| wants.text(text));
        tuning::texts(&check.templates).for_each(|text| wants.text(text));
        for one in &check.overrides {
            tuning::texts(&one.tuning).for_each(|text| wants.text(text));
        }
        let mut compiled = Self {
            document: check.clone(),
            hosts,
            variants,
            overrides,
            broken,
            wants,
            made: Mutex::default(),
        };
        if compiled.wants.filled.is_empty() && compiled.overrides.is_empty() {
            let ways: Vec<_> = compiled
                .variants
                .iter()
                .map(|variant| compiled.make(variant, &[], &Vars::new()).ok())
                .collect();
            compiled.variants.iter_mut().zip(ways).for_each(|(variant, way)| variant.way = way);
        }
        compiled
    }

    /// `None`: the check does not select the host.
    pub(super) fn outcome(&self, host: &HostView<'_>, scope: &Scope) -> Option<Outcome> {
        if let Some(reason) = &self.broken {
            return Some(Outcome::Unfit(reason.clone()));
        }
        // What is in doubt may be what would not select the host.
        if let Some(reason) = self.wants.doubt(scope) {
            return Some(Outcome::Unfit(reason));
        }
        match self.hosts.as_ref().map_or(Ok(true), |hosts| hosts.matches(host)) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Outcome::Unfit(format!("hosts: {error}"))),
        }
        let way = self.variant(host).and_then(|index| self.way(index, host));
        Some(way.map_or_else(Outcome::Unfit, Outcome::Runs))
    }

    /// The first variant that fits.
    fn variant(&self, host: &HostView<'_>) -> Result<usize, String> {
        let mut missing = None;
        for (index, variant) in self.variants.iter().enumerate() {
            match variant.when.as_ref().map_or(Ok(true), |when| when.matches(host)) {
                Ok(true) => return Ok(index),
                Ok(false) => {}
                // Another variant may still fit a host that lacks this fact.
                Err(EvalError::Missing { name }) => {
                    missing.get_or_insert(name);
                }
                Err(error) => return Err(format!("when: {error}")),
            }
        }
        Err(match missing {
            Some(name) if self.wants.vars.contains(&name) => {
                format!("no variant fits: the host has no variable {name:?}")
            }
            Some(name) => format!("no variant fits: the host has no fact {name:?}"),
            None if host.facts.is_empty() => "no variant fits: the host's facts are not known".to_owned(),
            None => "no variant fits".to_owned(),
        })
    }

    /// The overrides that hold, by their places.
    pub(super) fn held(&self, host: &HostView<'_>) -> Result<Vec<usize>, String> {
        let mut held = Vec::new();
        for (index, hosts) in self.overrides.iter().enumerate() {
            match hosts.matches(host) {
                Ok(true) => held.push(index),
                Ok(false) => {}
                Err(error) => return Err(format!("override {}: hosts: {error}", index + 1)),
            }
        }
        Ok(held)
    }

    fn way(&self, index: usize, host: &HostView<'_>) -> Result<Arc<Way>, String> {
        let variant = self.variants.get(index).ok_or("no variant fits")?;
        if let Some(way) = &variant.way {
            return Ok(Arc::clone(way));
        }
        let held = self.held(host)?;
        let values = self.wants.filled.iter().map(|name| host.vars.get(name).map(ToString::to_string));
        let form = (index, held, values.collect());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = made.get(&form) {
            return way.clone();
        }
        let way = self.make(variant, &form.1, host.vars);
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(form, way.clone());
        way
    }

    /// Overrides by their places, for a host on which these hold.
    pub(super) fn overriding(&self, held: &[usize]) -> Vec<(usize, &Override)> {
        held.iter().filter_map(|index| Some((*index, self.document.overrides.get(*index)?))).collect()
    }

    fn make(&self, variant: &CompiledVariant, held: &[usize], vars: &Vars) -> Result<Arc<Way>, String> {
        let check = &self.document;
        let fill = |text: &str| template::fill(text, vars);
        let tuned = tuning::tuned(check, &self.overriding(held), fill)?;
        let spec = CheckSpec {
            name: check.name.clone(),
            work: filled_work(&variant.work, vars)?,
            run: filled_run(&check.run, vars)?,
            every_ms: millis(tuned.every),
            cron: tuned.cron,
            timezone: tuned.timezone,
            timeout_ms: millis(tuned.timeout),
            output: Output {
                metric: check.output.metric.as_deref().map(fill).transpose()?,
                ..check.output.clone()
            },
            unit: check.unit.clone(),
            warning: tuned.warning,
            critical: tuned.critical,
        };
        // Wire types always encode; were one not to, its form would count as unchanged.
        let encoded = protocol::encode(&spec).unwrap_or_default();
        Ok(Arc::new(Way { spec, digest: Sha256::digest(encoded).into(), json: OnceLock::new() }))
    }
}

fn filled_work(work: &Work, vars: &Vars) -> Result<Work, String> {
    let fill = |(name, option): (&String, &serde_json::Value)| {
        Ok::<_, String>((name.clone(), template::fill_option(option, vars)?))
    };
    let filled = Work {
        command: work.command.as_deref().map(|text| template::fill_command(text, vars)).transpose()?,
        exec: work.exec.as_deref().map(|words| template::fill_words(words, vars)).transpose()?,
        builtin: work.builtin.clone(),
        with: work.with.iter().map(fill).collect::<Result<_, _>>()?,
    };
    if filled.exec.as_ref().is_some_and(|words| words.first().is_none_or(String::is_empty)) {
        return Err("exec: its variables leave no program to run".to_owned());
    }
    Ok(filled)
}

fn filled_run(run: &RunSettings, vars: &Vars) -> Result<RunSettings, String> {
    let fill = |text: &str| template::fill(text, vars);
    let entry =
        |(name, value): (&String, &String)| Ok::<_, String>((name.clone(), template::fill(value, vars)?));
    let directory = run.directory.as_deref().map(fill).transpose()?;
    if let Some(directory) = directory.as_ref().filter(|directory| !directory.starts_with('/')) {
        return Err(format!("directory: {directory:?} is no whole path, such as /var/lib/app"));
    }
    Ok(RunSettings {
        directory,
        environment: run.environment.iter().map(entry).collect::<Result<_, _>>()?,
        stdin: run.stdin.as_deref().map(fill).transpose()?,
        ..run.clone()
    })
}

impl Way {
    /// What the host is told to run.
    #[must_use]
    pub fn spec(&self) -> &CheckSpec {
        &self.spec
    }

    /// The same as JSON, made once.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        self.json.get_or_init(|| protocol::encode(&self.spec).unwrap_or_default().into())
    }
}

/// SHA-256 over the checks that run, in order of their names: it changes exactly when they do.
#[must_use]
pub fn etag(outcomes: &Outcomes) -> String {
    let mut hash = Sha256::new();
    for outcome in outcomes.values() {
        if let Outcome::Runs(way) = outcome {
            hash.update(way.digest);
        }
    }
    protocol::hex(&hash.finalize())
}
