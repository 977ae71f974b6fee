//! `why`, `alert ack`, `silence …`: what people do about alerts.

use protocol::{
    alert::Alert,
    attend::{Predicted, SilenceInfo, SilenceList, Told, Why},
    operate::Silence,
    timestamp,
};
use serde::Serialize;
use service_kit::now_ms;

use super::http::Client;
use crate::{
    Usage,
    args::{AckArgs, Common, Format, SilenceAddArgs, SilenceExpireArgs, WhyArgs},
    output::{self, Column, age},
};

const SILENCES: [Column<SilenceInfo>; 6] = [
    Column { title: "SILENCE", cell: |info, _| info.silence.name.to_string() },
    Column { title: "NOW", cell: |info, _| if info.active { "mutes" } else { "rests" }.to_owned() },
    Column { title: "ENDS", cell: |info, _| ends(&info.silence) },
    Column { title: "WHAT", cell: |info, _| what(&info.silence) },
    Column {
        title: "BY",
        cell: |info, _| if info.document { "document".to_owned() } else { info.silence.author.clone() },
    },
    Column { title: "COMMENT", cell: |info, _| info.silence.comment.clone() },
];

const TOLD: [Column<Told>; 4] = [
    Column {
        title: "RECEIVER",
        cell: |told, _| told.receiver.as_ref().map(ToString::to_string).unwrap_or_default(),
    },
    Column { title: "STATE", cell: |told, _| told.state.clone() },
    Column { title: "AGE", cell: |told, now| told.at_ms.map(|at_ms| age(at_ms, now)).unwrap_or_default() },
    Column { title: "NOTIFICATION", cell: |told, _| told.reason.clone().unwrap_or_else(|| told.id.clone()) },
];

const PREDICTED: [Column<Predicted>; 3] = [
    Column { title: "PREDICTION", cell: |one, _| one.call.clone() },
    Column { title: "NOW", cell: |one, _| one.value.map(|value| format!("{value:.2}")).unwrap_or_default() },
    Column { title: "WHY", cell: |one, _| one.why.clone() },
];

const JOURNAL: [Column<protocol::alert::JournalEntry>; 2] = [
    Column { title: "WHEN", cell: |entry, _| timestamp::format(entry.at_ms) },
    Column { title: "WHAT AND WHY", cell: |entry, _| entry.text.clone() },
];

const ACKNOWLEDGED: [Column<Alert>; 4] = [
    Column { title: "HOST", cell: |alert, _| alert.agent.to_string() },
    Column { title: "RULE", cell: |alert, _| alert.rule.to_string() },
    Column { title: "STATE", cell: |alert, _| alert.state.to_string() },
    Column {
        title: "ACKNOWLEDGED",
        cell: |alert, _| match &alert.acknowledged {
            Some(ack) => format!("by {} until {}: {}", ack.by, timestamp::format(ack.until_ms), ack.note),
            None => "no more".to_owned(),
        },
    },
];

fn ends(silence: &Silence) -> String {
    match (&silence.cron, silence.ends) {
        (Some(cron), _) => format!("comes again: {cron}"),
        (None, Some(ends)) => timestamp::format(ends),
        (None, None) => String::new(),
    }
}

fn what(silence: &Silence) -> String {
    let names =
        |what: &str, names: Vec<String>| (!names.is_empty()).then(|| format!("{what} {}", names.join(",")));
    let parts = [
        silence.hosts.clone(),
        names("checks", silence.checks.iter().map(ToString::to_string).collect()),
        names("rules", silence.rules.iter().map(ToString::to_string).collect()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

pub(crate) async fn why(args: &WhyArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let why: Why = client.get(&["api", "v1", "alerts", &args.id, "why"], &[]).await?;
    if args.common.output != Format::Table {
        return output::print(&[why], &[], args.common.output);
    }
    output::note(&why.alert.summary);
    output::print(&why.journal, &JOURNAL, Format::Table)?;
    if !why.predictions.is_empty() {
        output::print(&why.predictions, &PREDICTED, Format::Table)?;
    }
    if why.notifications.is_empty() {
        output::note("nobody was told");
        return Ok(());
    }
    output::print(&why.notifications, &TOLD, Format::Table)
}

#[derive(Serialize)]
struct Acknowledge<'a> {
    for_ms: u64,
    note: &'a str,
}

pub(crate) async fn acknowledge(args: &AckArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let for_ms = if args.undo { 0 } else { protocol::duration::millis(args.duration) };
    let body = Acknowledge { for_ms, note: &args.note };
    let alert: Alert = client.post(&["api", "v1", "alerts", &args.id, "acknowledge"], &body).await?;
    output::print(&[alert], &ACKNOWLEDGED, args.common.output)
}

pub(crate) async fn add(args: &SilenceAddArgs) -> anyhow::Result<()> {
    let now = now_ms();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => protocol::SilenceName::new(format!("s{now}").as_str())?,
    };
    let mut hosts: Vec<String> = args.agents.iter().map(|agent| format!("agent == \"{agent}\"")).collect();
    hosts.extend(args.hosts.clone());
    let from = args.from.unwrap_or(now);
    let ends = match (args.until, args.duration, &args.cron) {
        (Some(until), _, _) => Some(until),
        (None, Some(duration), None) => Some(from.saturating_add(protocol::duration::millis(duration))),
        (None, Some(_), Some(_)) => None,
        (None, None, _) => {
            return Err(Usage("say how long: --for 2h, or --until 2026-11-21T22:00:00Z".to_owned()).into());
        }
    };
    let silence = Silence {
        name,
        comment: args.comment.clone(),
        author: String::new(),
        hosts: (!hosts.is_empty()).then(|| hosts.join(" || ")),
        checks: args.checks.clone(),
        rules: args.rules.clone(),
        starts: args.from,
        ends,
        cron: args.cron.clone(),
        duration: args.cron.as_ref().and(args.duration),
        timezone: args.timezone.clone(),
    };
    let made: SilenceInfo = Client::open(&args.common)?.post(&["api", "v1", "silences"], &silence).await?;
    output::print(&[made], &SILENCES, args.common.output)
}

pub(crate) async fn list(common: &Common) -> anyhow::Result<()> {
    let list: SilenceList = Client::open(common)?.get(&["api", "v1", "silences"], &[]).await?;
    output::print(&list.silences, &SILENCES, common.output)
}

pub(crate) async fn expire(args: &SilenceExpireArgs) -> anyhow::Result<()> {
    let ended: SilenceInfo =
        Client::open(&args.common)?.delete(&["api", "v1", "silences", args.name.as_str()]).await?;
    output::print(&[ended], &SILENCES, args.common.output)
}
