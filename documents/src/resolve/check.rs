//! One check, ready to be asked about hosts.

use std::{collections::BTreeMap, sync::Arc};

use protocol::{
    CheckName,
    admin::{Explanation, Verdict},
    config::CheckSpec,
    document::{Check, Variant},
    duration::millis,
};
use sha2::{Digest, Sha256};

use crate::{EvalError, HostExpression, HostView};

/// One check with its expressions compiled, and every form in which a host may run it.
#[derive(Debug)]
pub(super) struct CompiledCheck {
    hosts: Option<HostExpression>,
    ways: Vec<(Option<HostExpression>, Arc<Way>)>,
    /// Why no host can run it: an expression that a former version accepted.
    broken: Option<String>,
}

/// One form of a check, shared by all hosts that run it.
#[derive(Debug)]
pub struct Way {
    spec: CheckSpec,
    digest: [u8; 32],
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

impl CompiledCheck {
    pub(super) fn new(check: &Check) -> Self {
        let mut broken = None;
        let mut compile = |what: &str, text: &Option<String>| {
            let compiled = HostExpression::compile(text.as_ref()?);
            compiled.map_err(|error| broken = Some(format!("{what}: {error}"))).ok()
        };
        let hosts = compile("hosts", &check.hosts);
        let alone = [Variant { when: None, work: check.work.clone() }];
        let variants = if check.variants.is_empty() { &alone[..] } else { &check.variants };
        let ways = variants
            .iter()
            .map(|variant| (compile("when", &variant.when), Arc::new(Way::new(check, variant))))
            .collect();
        Self { hosts, ways, broken }
    }

    /// `None`: the check does not select the host.
    pub(super) fn outcome(&self, host: &HostView<'_>) -> Option<Outcome> {
        if let Some(reason) = &self.broken {
            return Some(Outcome::Unfit(reason.clone()));
        }
        match self.hosts.as_ref().map_or(Ok(true), |hosts| hosts.matches(host)) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Outcome::Unfit(format!("hosts: {error}"))),
        }
        let mut missing = None;
        for (when, way) in &self.ways {
            match when.as_ref().map_or(Ok(true), |when| when.matches(host)) {
                Ok(true) => return Some(Outcome::Runs(Arc::clone(way))),
                Ok(false) => {}
                // Another variant may still fit a host that lacks this fact.
                Err(EvalError::Missing { name }) => {
                    missing.get_or_insert(name);
                }
                Err(error) => return Some(Outcome::Unfit(format!("when: {error}"))),
            }
        }
        Some(Outcome::Unfit(match missing {
            Some(name) => format!("no variant fits: the host has no fact {name:?}"),
            None if host.facts.is_empty() => "no variant fits: the host's facts are not known".to_owned(),
            None => "no variant fits".to_owned(),
        }))
    }
}

/// Why a host runs `check` as it does, or why not: each expression that was asked, and what it said.
pub(super) fn explain(check: &Check, compiled: &CompiledCheck, host: &HostView<'_>) -> Explanation {
    let verdict = |expression: Option<&String>| {
        let asked = expression.map(|text| {
            let compiled = HostExpression::compile(text).map_err(|error| error.to_string())?;
            compiled.matches(host).map_err(|error| error.to_string())
        });
        let (holds, error) = match asked {
            None => (Some(true), None),
            Some(Ok(holds)) => (Some(holds), None),
            Some(Err(reason)) => (None, Some(reason)),
        };
        Verdict { expression: expression.cloned(), holds, error }
    };
    let hosts = verdict(check.hosts.as_ref());
    let mut decided = hosts.holds != Some(true);
    let variants = check.variants.iter().map(|variant| {
        if decided {
            return Verdict { expression: variant.when.clone(), holds: None, error: None };
        }
        let verdict = verdict(variant.when.as_ref());
        decided = verdict.holds == Some(true);
        verdict
    });
    let variants = variants.collect();
    let runs = match compiled.outcome(host) {
        Some(Outcome::Runs(way)) => Some(way.spec.clone()),
        Some(Outcome::Unfit(_)) | None => None,
    };
    Explanation { agent: host.agent.clone(), check: check.name.clone(), hosts, variants, runs }
}

impl Way {
    /// What the host is told to run.
    #[must_use]
    pub fn spec(&self) -> &CheckSpec {
        &self.spec
    }

    fn new(check: &Check, variant: &Variant) -> Self {
        let spec = CheckSpec {
            name: check.name.clone(),
            work: variant.work.clone(),
            run: check.run.clone(),
            every_ms: millis(check.every),
            cron: check.cron.clone(),
            timezone: check.timezone.clone(),
            timeout_ms: millis(check.timeout),
            output: check.output.clone(),
            unit: check.unit.clone(),
            warning: check.warning.clone(),
            critical: check.critical.clone(),
        };
        // Wire types always encode; were one not to, its form would count as unchanged.
        let encoded = protocol::encode(&spec).unwrap_or_default();
        Self { spec, digest: Sha256::digest(encoded).into() }
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
