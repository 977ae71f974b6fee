//! Which checks a host runs, and how.

use std::{collections::BTreeMap, sync::Arc};

use documents::{EvalError, HostExpression, HostView};
use protocol::{
    CheckName,
    admin::{Explanation, Verdict},
    config::CheckSpec,
    document::{Check, Variant},
    duration::millis,
};
use sha2::{Digest, Sha256};

/// One check with its expressions compiled, and every form in which a host may run it.
#[derive(Debug)]
pub(crate) struct CompiledCheck {
    hosts: Option<HostExpression>,
    ways: Vec<(Option<HostExpression>, Arc<Way>)>,
    /// Why no host can run it: an expression that a former version accepted.
    broken: Option<String>,
}

/// One form of a check, shared by all hosts that run it.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) spec: CheckSpec,
    digest: [u8; 32],
}

/// What becomes of one check on one host that it selects.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Runs(Arc<Way>),
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

/// Outcome of each check that selects a host.
pub(crate) type Outcomes = BTreeMap<CheckName, Outcome>;

impl CompiledCheck {
    pub(crate) fn new(check: &Check) -> Self {
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
    pub(crate) fn outcome(&self, host: &HostView<'_>) -> Option<Outcome> {
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
pub(crate) fn explain(check: &Check, host: &HostView<'_>) -> Explanation {
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
    let runs = match CompiledCheck::new(check).outcome(host) {
        Some(Outcome::Runs(way)) => Some(way.spec.clone()),
        Some(Outcome::Unfit(_)) | None => None,
    };
    Explanation { agent: host.agent.clone(), check: check.name.clone(), hosts, variants, runs }
}

impl Way {
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
pub(crate) fn etag(outcomes: &Outcomes) -> String {
    let mut hash = Sha256::new();
    for outcome in outcomes.values() {
        if let Outcome::Runs(way) = outcome {
            hash.update(way.digest);
        }
    }
    protocol::hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use protocol::{AgentId, Facts, Labels, admin::SourceFile, document::Document};
    use serde_json::json;

    use super::*;

    fn checks(text: &str) -> BTreeMap<CheckName, CompiledCheck> {
        let file = SourceFile { path: "x".to_owned(), text: text.to_owned() };
        let documents = documents::read(&[file], |_, _| true).unwrap();
        let checks = documents.into_iter().filter_map(|document| match document {
            Document::Check(check) => Some((check.name.clone(), CompiledCheck::new(&check))),
            _ => None,
        });
        checks.collect()
    }

    fn resolve(checks: &BTreeMap<CheckName, CompiledCheck>, facts: &Facts) -> Outcomes {
        let agent = AgentId::new("a").unwrap();
        let view = HostView { agent: &agent, facts, labels: &Labels::new() };
        checks.iter().filter_map(|(name, check)| Some((name.clone(), check.outcome(&view)?))).collect()
    }

    fn facts(pairs: &[(&str, &str)]) -> Facts {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    }

    #[test]
    fn os_updates_runs_the_command_of_the_hosts_package_manager() {
        let checks = checks(include_str!("../../../examples/checks.yaml"));
        for (manager, tool) in [
            ("apt", "apt-get "),
            ("dnf", "dnf "),
            ("yum", "yum "),
            ("zypper", "zypper "),
            ("apk", "apk "),
            ("pacman", "pacman "),
            ("pkg", "pkg "),
        ] {
            let outcomes = resolve(&checks, &facts(&[("package_manager", manager)]));
            let name = CheckName::new("os_updates").unwrap();
            let Some(Outcome::Runs(way)) = outcomes.get(&name) else { panic!("{manager}: {outcomes:?}") };
            assert!(way.spec.work.command.as_ref().unwrap().contains(tool), "{manager}: {:?}", way.spec);
        }
    }

    #[test]
    fn g8_a_check_that_fits_nowhere_says_why() {
        let checks = checks(
            "kind: Check\nname: u\nevery: 1m\nvariants: [{when: facts.pm == \"apt\", command: x}]\n---\n\
             kind: Check\nname: t\nevery: 1m\nhosts: facts.os > 3\nbuiltin: cpu\n---\n\
             kind: Check\nname: other\nevery: 1m\nhosts: labels.role == \"db\"\nbuiltin: cpu\n",
        );
        let unfit = |facts: &Facts| -> Vec<String> {
            let outcomes = resolve(&checks, facts);
            outcomes.into_iter().map(|(name, outcome)| format!("{name} {outcome:?}")).collect()
        };
        assert_eq!(unfit(&facts(&[("pm", "nix"), ("os", "linux")]))[1], "u Unfit(\"no variant fits\")");
        let without = unfit(&facts(&[("os", "linux")]));
        assert_eq!(without.len(), 2, "{without:?}");
        assert!(without[0].starts_with("t Unfit(\"hosts: the expression fails: "), "{without:?}");
        assert_eq!(without[1], "u Unfit(\"no variant fits: the host has no fact \\\"pm\\\"\")");
        assert_eq!(unfit(&Facts::new())[0], "u Unfit(\"no variant fits: the host's facts are not known\")");
    }

    #[test]
    fn the_etag_changes_exactly_when_the_checks_do() {
        let base = "kind: Check\nname: a\nevery: 1m\nbuiltin: cpu\n";
        let of = |text: &str| etag(&resolve(&checks(text), &Facts::new()));
        assert_eq!(of(base), of(&format!("{base}description: other\n")));
        assert_eq!(
            of(base),
            of(&format!("{base}---\nkind: Check\nname: b\nevery: 1m\nhosts: \"false\"\nbuiltin: cpu\n"))
        );
        for other in
            ["timeout: 2s\n", "warning: '> 1'\n", "---\nkind: Check\nname: b\nevery: 1m\nbuiltin: cpu\n"]
        {
            assert_ne!(of(base), of(&format!("{base}{other}")), "{other}");
        }
    }
}
