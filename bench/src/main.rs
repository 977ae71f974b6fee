//! `cargo xtask bench [NAME…] [--json] [--quick]`: what dogwatch does in a second, beside what its parts allow.
//!
//! Every figure has a peer or limit that ran on the same machine, in the same run, in turns with it.

mod agent;
mod alert;
mod config;
mod drain;
mod figure;
mod ingest;
mod machine;
mod predict;
mod query;
mod store;

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::{Parser, builder::PossibleValuesParser};
use figure::Figure;

/// Measure dogwatch beside the limits of its parts.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Args {
    /// Benchmarks to run; all when none is named
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(["ingest", "agent", "agent_work", "agent_drain", "predict", "store", "alert", "config", "query"]))]
    names: Vec<String>,
    /// One JSON object per figure and line, instead of a table
    #[arg(long)]
    json: bool,
    /// A tenth of the work: shows that it runs, not how fast
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|first| first == agent::bare::WORD) {
        return agent::bare::main(std::env::args().skip(2));
    }
    if let Some(ended) = config::child::main(std::env::args().skip(1)) {
        return ended;
    }
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _lost = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
    let mut figures: Vec<Figure> = Vec::new();
    if wanted("ingest") {
        figures.extend(runtime.block_on(ingest::run(args.quick)).context("ingest")?);
    }
    // The second is a part of the first.
    let named = |name: &str| args.names.iter().any(|named| named == name);
    let part = if wanted("agent") {
        Some(agent::Part::All)
    } else {
        named("agent_work").then_some(agent::Part::Work)
    };
    if let Some(part) = part {
        figures.extend(runtime.block_on(agent::run(args.quick, part)).context("agent")?);
    }
    if wanted("agent_drain") {
        figures.extend(runtime.block_on(drain::run(args.quick)).context("agent_drain")?);
    }
    if wanted("config") {
        figures.extend(runtime.block_on(config::run(args.quick)).context("config")?);
    }
    if wanted("predict") {
        figures.extend(predict::run().context("predict")?);
    }
    if wanted("store") {
        figures.extend(store::run(args.quick).context("store")?);
    }
    if wanted("query") {
        figures.extend(runtime.block_on(query::run(args.quick)).context("query")?);
    }
    if wanted("alert") {
        figures.extend(runtime.block_on(alert::run(args.quick)).context("alert")?);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        for figure in &figures {
            writeln!(out, "{}", serde_json::to_string(figure)?)?;
        }
    } else {
        writeln!(out, "{}\n{}", machine::line(args.quick), figure::table(&figures))?;
    }
    Ok(())
}

/// Progress, on stderr.
fn progress(text: &str) {
    let _lost = writeln!(std::io::stderr(), "{text}");
}
