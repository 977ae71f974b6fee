//! What `anomaly()` costs in rules: beside the same rules without it, on the same series.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use alerter::core::{Alerts, HostInfo, Incoming, Mutes, RuleBook, World};
use anyhow::{Context as _, ensure};
use protocol::{AgentId, CheckName, CheckResult, Scalar, Status, admin::DocumentList};
use serde_json::json;

use crate::figure::{Figure, NOBODY, Rounds};

/// As many as there are detectors where nobody says otherwise.
const SERIES: u64 = 20_000;
const CHECKS: u64 = 100;
/// Results of each series that are judged.
const RESULTS: u64 = 5;
const START_MS: u64 = 1_800_000_000_000;

/// # Errors
/// When a rule cannot be compiled.
pub(crate) fn detectors(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let hosts = if quick { SERIES / CHECKS / 10 } else { SERIES / CHECKS };
    let (plain, _) = run(hosts, "value > 1000")?;
    let (rates, bytes) = run(hosts, "anomaly() > 0.9999")?;
    let with = Rounds::of(&rates).context("no rounds")?;
    let without = Rounds::of(&plain).context("no rounds")?;
    let rate = Figure::beside(
        "alert",
        "anomaly_in_every_rule",
        ("rate", "evaluations/s"),
        &with,
        "value > 1000",
        Some(&without),
    );
    let mut figures = vec![rate.held_to(">= 200000", |figure| figure.value >= 200_000.0)];
    if let Some(bytes) = bytes.and_then(|bytes| Rounds::of(&[bytes])) {
        let memory = Figure::beside(
            "alert",
            "anomaly_in_every_rule",
            ("memory", "bytes/series"),
            &bytes,
            NOBODY,
            None,
        );
        figures.push(memory.held_to("<= 5120", |figure| figure.value <= 5_120.0));
    }
    Ok(figures)
}

/// Evaluations a second, and the memory that a detector takes over what a series takes without one.
fn run(hosts: u64, when: &str) -> anyhow::Result<(Vec<f64>, Option<f64>)> {
    let rules: Vec<_> = (0..CHECKS)
        .map(|check| json!({"kind": "Rule", "name": format!("r{check}"), "check": format!("c{check}"), "when": when}))
        .collect();
    let list = DocumentList { revision: 1, documents: serde_json::from_value(json!(rules))? };
    let book = RuleBook::new(list);
    ensure!(book.broken.is_empty(), "rules cannot be compiled: {:?}", book.broken);
    let agents: Vec<AgentId> =
        (0..hosts).map(|n| AgentId::new(&format!("host-{n}"))).collect::<Result<_, _>>()?;
    let known: HashMap<AgentId, HostInfo> =
        agents.iter().map(|agent| (agent.clone(), HostInfo::default())).collect();
    let checks: Vec<CheckName> =
        (0..CHECKS).map(|n| CheckName::new(format!("c{n}").as_str())).collect::<Result<_, _>>()?;
    let mutes = Mutes::default();
    let mut alerts = Alerts::default();
    let before = super::alert::resident();
    let mut rates = Vec::new();
    for round in 0..RESULTS + 1 {
        let at_ms = START_MS + round * 60_000;
        let world = World {
            book: &book,
            hosts: &known,
            mutes: &mutes,
            now_ms: at_ms,
            steady_ms: 0,
            freshness_ms: 300_000,
        };
        let (mut spent, mut count) = (Duration::ZERO, 0_u32);
        for agent in &agents {
            let batch: Vec<Incoming> = checks
                .iter()
                .map(|check| Incoming {
                    published_ms: at_ms,
                    stream: round + 1,
                    result: result(agent, check, round + 1, at_ms),
                })
                .collect();
            let began = Instant::now();
            let draft = alerts.evaluate(&world, &batch);
            spent += began.elapsed();
            count += u32::try_from(draft.evaluations)?;
            ensure!(draft.is_empty(), "an alert fires where none should");
        }
        // The first one makes the series.
        if round > 0 {
            rates.push(f64::from(count) / spent.as_secs_f64());
        }
    }
    let series = f64::from(u32::try_from(hosts * CHECKS)?);
    let bytes = super::alert::resident().zip(before).map(|(after, before)| (after - before) / series);
    Ok((rates, bytes))
}

fn result(agent: &AgentId, check: &CheckName, seq: u64, at_ms: u64) -> CheckResult {
    let value = 10.0 + f64::from(u32::try_from(seq % 7).unwrap_or_default());
    CheckResult {
        epoch: 1,
        seq,
        value: Scalar::number(value),
        ..CheckResult::new(agent.clone(), check.clone(), at_ms, Status::Ok)
    }
}
