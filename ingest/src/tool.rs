//! `store …`: what an operator does to a store that no process has open. The same in `dogwatch-ingest` and `dogwatch`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use prometheus_client::metrics::counter::Counter;
use protocol::{AgentId, CheckName, timestamp};
use serde::Serialize;

use crate::store::{
    Fjall, ResultStore, SeriesFilter,
    offline::{Damage, Findings, Stats},
};

/// Look after a store of results that no process has open
#[derive(Debug, Parser)]
#[command(name = "dogwatch-ingest store", version)]
pub struct StoreArgs {
    #[command(subcommand)]
    pub command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read everything and list what is damaged; exit code 1 when something is
    Check(Place),
    /// Seal all results and make one segment of each day
    Compact(Place),
    /// How much the store holds
    Stats(Place),
    /// Results as JSON, one per line, check by check in order of time; what is in the hot log is sealed first
    Export(Export),
}

#[derive(Debug, clap::Args)]
pub struct Place {
    /// Folder of the stored results; of `dogwatch up` it is .dogwatch/results
    #[arg(
        long,
        env = "DOGWATCH_INGEST_DATA",
        value_name = "DIR",
        default_value = "/var/lib/dogwatch/results"
    )]
    pub data: PathBuf,
    /// Form of the output; JSON is one object per line
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Debug, clap::Args)]
pub struct Export {
    /// Folder of the stored results; of `dogwatch up` it is .dogwatch/results
    #[arg(
        long,
        env = "DOGWATCH_INGEST_DATA",
        value_name = "DIR",
        default_value = "/var/lib/dogwatch/results"
    )]
    pub data: PathBuf,
    /// Only results of this agent
    #[arg(long, value_name = "ID")]
    pub agent: Option<AgentId>,
    /// Only results of this check
    #[arg(long, value_name = "NAME")]
    pub check: Option<CheckName>,
    /// Results from this time on, such as 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = timestamp::parse)]
    pub from: Option<u64>,
    /// Results before this time
    #[arg(long, value_name = "TIME", value_parser = timestamp::parse)]
    pub until: Option<u64>,
}

/// Whether all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Well,
    /// Something is damaged, and that is said.
    Damaged,
}

/// Data go to `out`, progress to `notes`.
///
/// # Errors
/// When there is no store, another process has it open, or the disk fails.
pub fn run(command: &StoreCommand, out: &mut dyn Write, notes: &mut dyn Write) -> anyhow::Result<Outcome> {
    match command {
        StoreCommand::Check(place) => {
            let findings = open(&place.data)?.0.check(&mut progress(notes, "blocks checked"))?;
            print_findings(&findings, place.output, out)?;
            Ok(if findings.damaged.is_empty() { Outcome::Well } else { Outcome::Damaged })
        }
        StoreCommand::Compact(place) => {
            let (store, _) = open(&place.data)?;
            store.compact(service_kit::now_ms(), &mut progress(notes, "results merged"))?;
            print_stats(&store.stats()?, place.output, out)
        }
        StoreCommand::Stats(place) => print_stats(&open(&place.data)?.0.stats()?, place.output, out),
        StoreCommand::Export(export) => {
            let filter =
                SeriesFilter { agent: export.agent.clone(), check: export.check.clone(), metric: None };
            let span = (export.from.unwrap_or(0), export.until.unwrap_or(u64::MAX));
            let mut out = io::BufWriter::new(out);
            let print = |result: &protocol::CheckResult| -> anyhow::Result<()> {
                serde_json::to_writer(&mut out, result).map_err(io::Error::from)?;
                Ok(out.write_all(b"\n")?)
            };
            let (store, damaged) = open(&export.data)?;
            let now_ms = service_kit::now_ms();
            store.export(now_ms, &filter, span, print, &mut progress(notes, "checks exported"))?;
            out.flush()?;
            if damaged.get() == 0 {
                return Ok(Outcome::Well);
            }
            let count = damaged.get();
            writeln!(notes, "{count} damaged parts of the store were left out: `store check` names them")?;
            Ok(Outcome::Damaged)
        }
    }
}

/// A folder without a store is not made one. The counter is that of damaged parts.
fn open(folder: &Path) -> anyhow::Result<(Fjall, Counter)> {
    ensure!(
        folder.join("db").is_dir(),
        "there is no store in {}: name its folder with --data",
        folder.display()
    );
    let damaged = Counter::default();
    let store = Fjall::new(folder, 0, damaged.clone())?;
    store.recover().context("cannot open the store")?;
    Ok((store, damaged))
}

/// Nobody reads more often.
const SAY_EVERY: Duration = Duration::from_secs(2);

fn progress<'a>(notes: &'a mut dyn Write, what: &'a str) -> impl FnMut(u64, u64) + 'a {
    let mut said = Instant::now();
    move |done, all| {
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            // Nobody is left to tell when stderr is closed.
            let _shown = writeln!(notes, "{done} of {all} {what}");
        }
    }
}

fn print_stats(stats: &Stats, format: Format, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    if format == Format::Json {
        print_json(stats, out)?;
        return Ok(Outcome::Well);
    }
    let rows: [(&str, u64, Option<u64>); 4] = [
        ("checks of agents", stats.checks, None),
        ("results in the hot log", stats.hot_results, Some(stats.hot_bytes)),
        ("results in blocks", stats.sealed_results, Some(stats.sealed_bytes)),
        ("points of roll-ups", stats.points, Some(stats.point_bytes)),
    ];
    writeln!(out, "{:<24}{:>16}{:>18}{:>12}", "WHAT", "COUNT", "BYTES", "BYTES EACH")?;
    for (what, count, bytes) in rows {
        let each = bytes.filter(|_| count > 0).map(|bytes| format!("{:.2}", ratio(bytes, count)));
        let bytes = bytes.map(|bytes| bytes.to_string());
        let (bytes, each) = (bytes.unwrap_or("-".into()), each.unwrap_or("-".into()));
        writeln!(out, "{what:<24}{count:>16}{bytes:>18}{each:>12}")?;
    }
    writeln!(out, "{:<24}{:>16}", "segments", stats.segments)?;
    Ok(Outcome::Well)
}

fn print_findings(findings: &Findings, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
    if format == Format::Json {
        return print_json(findings, out);
    }
    for damage in &findings.damaged {
        let Damage { place, agent, check, from_ms, until_ms, reason } = damage;
        let whose = agent.as_ref().zip(check.as_ref()).map(|(agent, check)| format!(", {agent} {check}"));
        let time = |at: &Option<u64>| at.map_or("?".to_owned(), timestamp::format);
        let when = from_ms.map(|_| format!(", {} to {}", time(from_ms), time(until_ms)));
        writeln!(out, "{place}{}{}: {reason}", whose.unwrap_or_default(), when.unwrap_or_default())?;
    }
    let (rows, blocks, damaged) = (findings.rows, findings.blocks, findings.damaged.len());
    Ok(writeln!(out, "{rows} rows and {blocks} blocks checked, {damaged} damaged")?)
}

fn print_json<T: Serialize>(value: &T, out: &mut dyn Write) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

#[allow(clippy::cast_precision_loss)] // for people
fn ratio(bytes: u64, count: u64) -> f64 {
    bytes as f64 / count as f64
}
