//! Who may depend on whom. The table is the rule; the manifests are held against it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, run::output};

struct Rule {
    name: &'static str,
    /// Crates of this workspace that it may use.
    may_use: &'static [&'static str],
    /// Other crates that must not stand in its manifest.
    never: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        name: "protocol",
        may_use: &[],
        never: &["tokio", "async-nats", "axum", "sled", "fjall", "tracing"],
    },
    Rule {
        name: "documents",
        may_use: &["protocol"],
        never: &["tokio", "async-nats", "axum", "sled", "fjall"],
    },
    Rule { name: "service-kit", may_use: &["protocol"], never: &["sled", "fjall", "reqwest", "cel"] },
    Rule {
        name: "agent",
        may_use: &["protocol", "documents", "service-kit"],
        never: &["sled", "fjall", "axum", "reqwest"],
    },
    Rule {
        name: "config-service",
        may_use: &["protocol", "documents", "service-kit"],
        never: &["axum", "reqwest", "fjall"],
    },
    Rule { name: "ingest", may_use: &["protocol", "promql", "service-kit"], never: &["axum", "sled"] },
    Rule { name: "alerter", may_use: &["protocol", "documents", "service-kit"], never: &["axum", "fjall"] },
    Rule { name: "http-bridge", may_use: &["protocol", "service-kit"], never: &["sled", "fjall"] },
    Rule {
        name: "cli",
        may_use: &[
            "protocol",
            "documents",
            "service-kit",
            "agent",
            "config-service",
            "ingest",
            "alerter",
            "http-bridge",
        ],
        never: &["sled", "fjall", "axum"],
    },
    Rule {
        name: "predict",
        may_use: &[],
        never: &["tokio", "async-nats", "axum", "sled", "fjall", "tracing", "reqwest", "rand"],
    },
    Rule {
        name: "promql",
        may_use: &[],
        never: &["tokio", "async-nats", "axum", "sled", "fjall", "tracing", "reqwest"],
    },
    Rule { name: "testkit", may_use: &["protocol"], never: &["sled", "fjall"] },
    Rule {
        name: "bench",
        may_use: &[
            "protocol",
            "documents",
            "service-kit",
            "agent",
            "alerter",
            "config-service",
            "http-bridge",
            "ingest",
            "predict",
            "testkit",
        ],
        never: &["sled"],
    },
    Rule { name: "xtask", may_use: &[], never: &["tokio"] },
];

pub fn check() -> Result<()> {
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata: packages")?;
    let members: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut broken = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
            broken.push(format!("{name} is not in the table of xtask/src/deps.rs: say what it may use"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        // `testkit` is for tests: as a dev-dependency everybody may use it.
        let normal = dependencies.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        for used in normal.filter_map(|dependency| dependency["name"].as_str()) {
            if members.contains(used) && !rule.may_use.contains(&used) {
                broken.push(format!("{name} must not depend on {used}"));
            }
            if rule.never.contains(&used) {
                broken.push(format!("{name} must not use {used}"));
            }
        }
    }
    if !broken.is_empty() {
        bail!("the dependency direction is broken:\n  {}", broken.join("\n  "));
    }
    println!("{} crates follow the table in xtask/src/deps.rs", members.len());
    Ok(())
}
