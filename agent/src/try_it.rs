//! `--print-config`, `--dry-run` and `--once`: looking and trying, on stdout, beside an agent that may be running. They
//! touch neither its state folder nor its sequence of results.

use std::{collections::BTreeMap, io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use futures_util::StreamExt;
use protocol::{CheckResult, VERSION, config::ConfigRequest, subject};
use serde::Serialize;
use serde_json::json;
use service_kit::{
    Metrics, Readiness, Tasks, nats,
    nats::Wait,
    process::ServiceSettings,
    report,
    request::{TIMEOUT, request},
    settings::{Effective, effective},
    telemetry,
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{
        check::{At, Check, Plan, WireReply, Work, phase_seed},
        guard::time,
        schedule::Schedule,
    },
    inbound::{judge::Judge, local::Local},
    outbound::{
        checks::{result, zone},
        probe::{Prober, own_facts::HostFacts},
        resolver::Resolver,
    },
    settings::{Format, Mode, Settings},
    store::{self, config::Saved},
};

/// How long the broker may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest text in a table, in characters.
const WIDTH: usize = 100;

/// Exit codes: 0 all is well, 1 something cannot run or nobody answered, 2 wrong settings.
#[must_use]
pub fn main(settings: Settings, mode: Mode) -> ExitCode {
    match run(&settings, mode) {
        Ok((text, true)) => say(&text, ExitCode::SUCCESS),
        Ok((text, false)) => say(&text, ExitCode::FAILURE),
        Err(error) => {
            tracing::error!("{}", report(error.as_ref()));
            let usage = error.is::<service_kit::settings::WrongSettings>();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn say(text: &str, code: ExitCode) -> ExitCode {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_or(ExitCode::FAILURE, |()| code)
}

/// What to print, and whether all is well.
fn run(settings: &Settings, mode: Mode) -> anyhow::Result<(String, bool)> {
    telemetry::init(&settings.common.log)?;
    let local = Local::load(settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let done = runtime.block_on(async {
        if mode == Mode::PrintConfig {
            return print_config(settings, &local).await;
        }
        let plan = ask(settings, &local).await?;
        match mode {
            Mode::Once => once(settings, &plan).await,
            _ => Ok(rows(settings, &plan)?),
        }
    });
    // A reading that hangs is not waited for.
    runtime.shutdown_background();
    done
}

/// The configuration that the service has for this host, as the policy lets it run.
async fn ask(settings: &Settings, local: &Local) -> anyhow::Result<Plan> {
    let agent = settings.id()?;
    // It enrols nobody, but signs in with the NKey that there is.
    let mut settings = Settings { enrol_token_file: None, ..settings.clone() };
    settings.prepare()?;
    let (tasks, ready, metrics) = (Tasks::new(), Readiness::default(), Metrics::default());
    let (connection, prefix) = (&settings.common.nats, settings.inbox_prefix());
    let token = tasks.token();
    let connected = nats::connect(connection, "agent", prefix, Wait::ForBroker, (&metrics, &ready), &token);
    let client = tokio::time::timeout(CONNECT, connected)
        .await
        .map_err(|_| anyhow::anyhow!("the broker at {} does not answer", hidden(&connection.nats_url)))??;
    let (facts, problems) = HostFacts::default().look(&local.facts_dir, true).await;
    problems.iter().for_each(|problem| tracing::warn!("facts left out: {problem}"));
    let question = ConfigRequest {
        v: VERSION,
        facts: Some(facts.clone()),
        labels: local.labels.clone(),
        etag: None,
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        origin: protocol::Origin::Agent,
        poll_ms: None,
        instance: None,
        signed: local.trust.is_on(),
    };
    let subject = subject::config_get(&agent);
    let reply = request::<_, WireReply>(&client, &subject, &question, TIMEOUT).await?;
    service_kit::process::leave(&client).await;
    match reply {
        WireReply::Full { config } => judged(&settings, local, &Saved { wire: config, facts }).await,
        WireReply::Refused { reason } => anyhow::bail!("the config-service refuses this agent: {reason}"),
        WireReply::Unchanged { .. } => anyhow::bail!("the config-service sent no configuration"),
    }
}

/// What of a configuration this host believes and lets run. What it accepts by that is not kept.
async fn judged(settings: &Settings, local: &Local, saved: &Saved) -> anyhow::Result<Plan> {
    let mut accepted = store::trust::load(&settings.state).map_err(anyhow::Error::msg)?;
    let judge = Judge { trust: &local.trust, resolver: &Resolver::beside()?, agent: &settings.id()? };
    let plan = judge.plan(saved, local.labels.clone(), &mut accepted, service_kit::now_ms()).await;
    Ok(plan.map_err(anyhow::Error::msg)?.under(&local.policy))
}

/// One check as it would run.
#[derive(Debug, Serialize)]
struct Row {
    check: String,
    runs: String,
    every_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    timeout_ms: u64,
    /// Milliseconds since 1970: the next time that is its own, after the first run.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cannot_run: Option<String>,
}

fn rows(settings: &Settings, plan: &Plan) -> anyhow::Result<(String, bool)> {
    let (agent, now) = (settings.id()?, service_kit::now_ms());
    let row = |check: &Arc<Check>| {
        let (runs, cannot_run) = work(check);
        Row {
            check: check.name.to_string(),
            runs,
            every_ms: check.every_ms,
            cron: check.at.as_ref().map(|at| at.cron.to_string()),
            timeout_ms: check.timeout_ms,
            next_ms: next(check, now, phase_seed(&agent, &check.name)),
            user: check.run.user.clone(),
            cannot_run,
        }
    };
    let rows: Vec<Row> = plan.checks.values().map(row).collect();
    let text = match settings.try_it.output {
        Format::Json => lines(&rows)?,
        Format::Table => {
            let head = ["CHECK", "EVERY", "NEXT", "USER", "RUNS", "POLICY"].map(str::to_owned);
            let every = |row: &Row| match &row.cron {
                Some(cron) => format!("cron {cron}"),
                None => protocol::duration::format(Duration::from_millis(row.every_ms)),
            };
            let cells = |row: &Row| {
                [
                    row.check.clone(),
                    every(row),
                    row.next_ms.map(time).unwrap_or_default(),
                    row.user.clone().unwrap_or_else(|| "-".to_owned()),
                    row.runs.clone(),
                    row.cannot_run.clone().unwrap_or_else(|| "may run".to_owned()),
                ]
            };
            table([head].into_iter().chain(rows.iter().map(cells)))
        }
    };
    plan.problems.iter().for_each(|problem| tracing::warn!("{problem}"));
    Ok((text, plan.problems.is_empty()))
}

/// When it is its turn next.
fn next(check: &Check, now: u64, seed: u64) -> Option<u64> {
    if let Some(At { cron, timezone }) = &check.at {
        return cron.next_after(now, &zone(timezone.as_deref()));
    }
    let mut schedule = Schedule::default();
    schedule.add(now, check.name.clone(), check.every_ms, seed);
    // Its first run comes at once; the one after that is at the check's own time.
    let first = schedule.next_wake()?;
    drop(schedule.due(first));
    schedule.next_wake()
}

/// What it runs, and why it cannot.
fn work(check: &Check) -> (String, Option<String>) {
    match &check.work {
        Work::Command(command) => (command.clone(), None),
        Work::Exec(words) => (words.join(" "), None),
        Work::Builtin(builtin, _) => (format!("builtin {}", builtin.name), None),
        Work::Impossible(reason) => ("-".to_owned(), Some(reason.clone())),
    }
}

async fn once(settings: &Settings, plan: &Plan) -> anyhow::Result<(String, bool)> {
    let (agent, prober, cancel) = (settings.id()?, Prober::default(), CancellationToken::new());
    let stop = cancel.clone();
    tokio::spawn(async move {
        service_kit::process::stop_signal().await;
        stop.cancel();
    });
    let runs = plan.checks.values().map(async |check| {
        let (at_ms, started) = (service_kit::now_ms(), std::time::Instant::now());
        let ran = prober.run(check, &cancel).await?;
        let whole = !ran.timed_out && !matches!(check.work, Work::Impossible(_));
        Some((result(agent.clone(), plan.revision, check, at_ms, started.elapsed(), ran), whole))
    });
    let ran: Vec<_> =
        futures_util::stream::iter(runs).buffered(usize::from(settings.concurrency)).collect().await;
    let all = ran.iter().all(|ran| matches!(ran, Some((_, true))));
    let results: Vec<CheckResult> = ran.into_iter().flatten().map(|(result, _)| result).collect();
    let text = match settings.try_it.output {
        Format::Json => lines(&results)?,
        Format::Table => {
            let head = ["CHECK", "STATUS", "VALUE", "MS", "OUTPUT"].map(str::to_owned);
            let value = |result: &CheckResult| {
                let value = serde_json::to_value(&result.value).unwrap_or_default();
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                if value.is_null() {
                    "-".to_owned()
                } else {
                    text + result.unit.as_deref().unwrap_or_default()
                }
            };
            let cells = |result: &CheckResult| {
                let (check, status) = (result.check.to_string(), result.status.to_string());
                [check, status, value(result), result.duration_ms.to_string(), result.output.clone()]
            };
            table([head].into_iter().chain(results.iter().map(cells)))
        }
    };
    plan.problems.iter().for_each(|problem| tracing::warn!("{problem}"));
    Ok((text, all && plan.problems.is_empty() && !cancel.is_cancelled()))
}

async fn print_config(settings: &Settings, local: &Local) -> anyhow::Result<(String, bool)> {
    let all = effective::<Settings>(std::env::args_os()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let kept = store::config::load(&settings.state).map_err(|error| {
        anyhow::anyhow!("the configuration in {} cannot be read: {error}", settings.state.display())
    })?;
    let plan = match kept {
        Some(kept) => Some(judged(settings, local, &kept).await?),
        None => None,
    };
    // Not settings, but what was asked for.
    let trial = ["print_config", "dry_run", "once", "output", "config"];
    let all: Vec<Effective> = all
        .into_iter()
        .filter(|one| !trial.contains(&one.key.as_str()))
        .map(|one| Effective { values: one.values.iter().map(|value| hidden(value)).collect(), ..one })
        .collect();
    let checks = plan.as_ref().map(|plan| rows(settings, plan)).transpose()?;
    let checks = checks.map(|(text, _)| text).unwrap_or_default();
    let revision = plan.as_ref().map(|plan| plan.revision);
    if settings.try_it.output == Format::Json {
        let values: BTreeMap<_, _> =
            all.iter().map(|one| (&one.key, json!({"values": one.values, "from": one.from}))).collect();
        return Ok((format!("{}\n{checks}", json!({"settings": values, "revision": revision})), true));
    }
    let mut text = String::new();
    for one in &all {
        let value = match one.values.as_slice() {
            [value] => toml::Value::from(value.as_str()),
            values => toml::Value::from(values.to_vec()),
        };
        let note = if one.from == "default" { String::new() } else { format!("  # {}", one.from) };
        text.push_str(&format!("{} = {value}{note}\n", one.key));
    }
    match revision {
        None => text.push_str("\n# There is no last good configuration.\n"),
        Some(revision) => {
            text.push_str(&format!("\n# Checks of the last good configuration, revision {revision}:\n"));
            checks.lines().for_each(|line| text.push_str(&format!("#   {line}\n")));
        }
    }
    Ok((text, true))
}

/// `value`, without the user and password that an address may have.
fn hidden(value: &str) -> String {
    let one = |address: &str| match address.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}"),
            None => address.to_owned(),
        },
        None => address.to_owned(),
    };
    value.split(',').map(one).collect::<Vec<_>>().join(",")
}

fn lines(values: &[impl Serialize]) -> anyhow::Result<String> {
    let lines: Result<Vec<String>, _> = values.iter().map(serde_json::to_string).collect();
    Ok(lines?.into_iter().map(|line| line + "\n").collect())
}

/// Columns as wide as what is in them, the last as it comes; each cell one line of bounded length.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let cell = |text: String| -> String {
        let line = text.lines().next().unwrap_or_default();
        line.chars().filter(|c| !c.is_control()).take(WIDTH).collect()
    };
    let rows: Vec<[String; N]> = rows.map(|row| row.map(cell)).collect();
    let wide = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(wide).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_passwords() {
        for (value, expected) in [
            ("nats://u:p@a:1,tls://b:2", "nats://***@a:1,tls://b:2"),
            ("nats://a@b:p@c:1", "nats://***@c:1"),
            ("/etc/x", "/etc/x"),
        ] {
            assert_eq!(hidden(value), expected);
        }
    }

    #[test]
    fn tables_have_columns_of_single_lines() {
        let rows = [["A", "B"], ["long\nmore", "x"], ["s", "a\u{1b}b"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(rows.into_iter()), "A     B\nlong  x\ns     ab\n");
    }
}
