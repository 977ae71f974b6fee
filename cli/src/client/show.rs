//! The commands that show rows: `hosts`, `checks`, `results`, `alerts`.

use std::collections::VecDeque;

use protocol::{
    AgentId, CheckResult, Origin,
    admin::{DocumentList, Host, HostList},
    alert::Alert,
    document::{Check, Document},
    duration,
    query::{AlertList, ResultPage},
    work::Work,
};
use service_kit::now_ms;

use super::{http::Client, loss};
use crate::{
    args::{AlertsArgs, Common, HostsArgs, LatestArgs, ResultsArgs},
    output::{self, Column, age},
};

const HOSTS: [Column<Host>; 9] = [
    Column { title: "HOST", cell: |host, _| host.agent.to_string() },
    Column { title: "SEEN", cell: |host, now| age(host.last_seen_ms, now) },
    Column {
        title: "STATE",
        cell: |host, _| host.liveness.map(|liveness| liveness.as_str().to_owned()).unwrap_or_default(),
    },
    Column {
        title: "OS",
        cell: |host, _| fact(host, "distro").or_else(|| fact(host, "os")).unwrap_or_default(),
    },
    Column { title: "CHECKS", cell: |host, _| host.checks.len().to_string() },
    Column {
        title: "REVISION",
        cell: |host, _| match host.revision_applied {
            Some(applied) if applied >= host.revision_wanted => applied.to_string(),
            Some(applied) => format!("{applied} of {}", host.revision_wanted),
            // A script does not say what it runs.
            None if host.origin == Origin::Http => String::new(),
            None => format!("none of {}", host.revision_wanted),
        },
    },
    Column { title: "CLOCK", cell: |host, _| loss::clock(host.clock_ahead_ms) },
    Column {
        title: "LABELS",
        cell: |host, _| {
            let pairs: Vec<_> = host.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            pairs.join(",")
        },
    },
    Column {
        title: "PROBLEM",
        cell: |host, now| match (&host.error, host.unfit.first()) {
            _ if host.cloned_ms.is_some() => {
                let ago = age(host.cloned_ms.unwrap_or_default(), now);
                format!(
                    "two agents use this id, {ago} ago: give one of them another --agent-id and an empty --state"
                )
            }
            (Some(error), _) => error.clone(),
            _ if host.renamed_to.is_some() => {
                let now = host.renamed_to.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("is {now} now? then `dogwatch host decommission {}`", host.agent)
            }
            _ if host.same_machine.is_some() => {
                let other = host.same_machine.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("same machine id as {other}: a copy? then give one a new /etc/machine-id")
            }
            (None, Some(unfit)) => format!("{}: {}", unfit.check, unfit.reason),
            (None, None) => host.formerly.as_ref().map(|was| format!("was {was}")).unwrap_or_default(),
        },
    },
];

fn fact(host: &Host, name: &str) -> Option<String> {
    host.facts.get(name)?.as_str().map(str::to_owned)
}

const CHECKS: [Column<Check>; 5] = [
    Column { title: "CHECK", cell: |check, _| check.name.to_string() },
    Column {
        title: "EVERY",
        cell: |check, _| check.cron.clone().unwrap_or_else(|| duration::format(check.every)),
    },
    Column { title: "HOSTS", cell: |check, _| check.hosts.clone().unwrap_or_else(|| "all".to_owned()) },
    Column {
        title: "RUNS",
        cell: |check, _| match &check.work {
            Work { builtin: Some(builtin), .. } => format!("built-in {builtin}"),
            Work { command: Some(command), .. } => command.clone(),
            Work { exec: Some(words), .. } => words.join(" "),
            _ => format!("{} variants", check.variants.len()),
        },
    },
    Column { title: "DESCRIPTION", cell: |check, _| check.description.clone() },
];

const RESULTS: [Column<CheckResult>; 6] = [
    Column { title: "AGE", cell: |result, now| age(result.at_ms, now) },
    Column { title: "HOST", cell: |result, _| result.agent.to_string() },
    Column { title: "CHECK", cell: |result, _| result.check.to_string() },
    Column { title: "STATUS", cell: |result, _| result.status.to_string() },
    Column {
        title: "VALUE",
        cell: |result, _| {
            let value = result.value.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{value} {}", result.unit.as_deref().unwrap_or_default())
        },
    },
    Column { title: "OUTPUT", cell: |result, _| result.output.clone() },
];

const ALERTS: [Column<Alert>; 6] = [
    Column { title: "STATE", cell: |alert, _| alert.state.to_string() },
    Column { title: "SEVERITY", cell: |alert, _| alert.severity.to_string() },
    Column { title: "HOST", cell: |alert, _| alert.agent.to_string() },
    Column { title: "RULE", cell: |alert, _| alert.rule.to_string() },
    Column { title: "SINCE", cell: |alert, now| age(alert.started_ms, now) },
    Column { title: "SUMMARY", cell: |alert, _| alert.summary.clone() },
];

fn agent_query(agent: Option<&AgentId>) -> Vec<(&'static str, String)> {
    agent.map(|agent| ("agent", agent.to_string())).into_iter().collect()
}

/// # Errors
/// [`super::http::ClientError`], as for all of these.
pub(crate) async fn hosts(args: &HostsArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let mut hosts = Vec::new();
    let mut after = None;
    loop {
        let mut query = agent_query(args.agent.as_ref());
        query.extend(after.map(|after: AgentId| ("after", after.to_string())));
        let page: HostList = client.get(&["api", "v1", "hosts"], &query).await?;
        let more = !page.hosts.is_empty();
        hosts.extend(page.hosts);
        match page.next {
            Some(next) if more => after = Some(next),
            _ => break,
        }
    }
    output::print(&hosts, &HOSTS, args.common.output)
}

pub(crate) async fn checks(common: &Common) -> anyhow::Result<()> {
    let list: DocumentList = Client::open(common)?.get(&["api", "v1", "checks"], &[]).await?;
    let mut checks = Vec::new();
    for document in list.documents {
        if let Document::Check(check) = document {
            checks.push(*check);
        }
    }
    output::print(&checks, &CHECKS, common.output)
}

pub(crate) async fn results(args: &ResultsArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let since_ms = now_ms().saturating_sub(duration::millis(args.since));
    let mut query = agent_query(args.agent.as_ref());
    query.extend(args.check.as_ref().map(|check| ("check", check.to_string())));
    query.push(("since_ms", since_ms.to_string()));
    query.push(("status", args.status.join(",")));
    query.extend(args.contains.as_ref().map(|text| ("contains", text.clone())));
    query.extend(args.matches.as_ref().map(|regex| ("matches", regex.clone())));
    let mut newest = VecDeque::new();
    // Pages come oldest first; the newest are wanted, so all are read and the last ones kept.
    pages(&client, &["api", "v1", "results"], &query, |page| {
        newest.extend(page);
        newest.drain(..newest.len().saturating_sub(args.limit));
    })
    .await?;
    output::print(newest.make_contiguous(), &RESULTS, args.common.output)
}

pub(crate) async fn latest(args: &LatestArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let since_ms = now_ms().saturating_sub(duration::millis(args.since));
    let mut query = agent_query(args.agent.as_ref());
    query.extend(args.check.as_ref().map(|check| ("check", check.to_string())));
    query.push(("since_ms", since_ms.to_string()));
    query.push(("status", args.status.join(",")));
    let mut results = Vec::new();
    pages(&client, &["api", "v1", "results", "latest"], &query, |page| results.extend(page)).await?;
    output::print(&results, &RESULTS, args.common.output)
}

/// All pages of results, one after the other.
async fn pages(
    client: &Client,
    path: &[&str],
    query: &[(&'static str, String)],
    mut each: impl FnMut(Vec<CheckResult>),
) -> anyhow::Result<()> {
    let mut cursor = None;
    loop {
        let mut query = query.to_vec();
        query.extend(cursor.clone().map(|cursor| ("cursor", cursor)));
        let page: ResultPage = client.get(path, &query).await?;
        each(page.results);
        // A page without results may still have a next one: what was looked at fitted not.
        match page.next {
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            _ => return Ok(()),
        }
    }
}

pub(crate) async fn alerts(args: &AlertsArgs) -> anyhow::Result<()> {
    let mut query = agent_query(args.agent.as_ref());
    query.push(("resolved", args.all.to_string()));
    let list: AlertList = Client::open(&args.common)?.get(&["api", "v1", "alerts"], &query).await?;
    output::print(&list.alerts, &ALERTS, args.common.output)
}
