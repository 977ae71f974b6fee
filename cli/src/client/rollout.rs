//! `dogwatch rollout …`, and what `plan` and `apply` say of stages.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use protocol::{
    admin::Applied,
    duration,
    rollout::{Canary, Rollout, RolloutList, RolloutOrder, RolloutState, RolloutStatus, Share},
};
use serde_json::json;

use super::http::{Client, ClientError};
use crate::{
    Usage,
    args::{Format, RolloutArgs, RolloutCommand, StagesArgs},
    output::{self, Column, age, note, shown},
};

const COLUMNS: [Column<RolloutStatus>; 6] = [
    Column { title: "REVISION", cell: |row, _| row.rollout.revision.to_string() },
    Column { title: "STATE", cell: |row, _| row.rollout.state.as_str().replace('_', " ") },
    Column {
        title: "HOSTS",
        cell: |row, _| {
            let reached = row.rollout.reached.last().map_or(0, |stage| stage.hosts);
            format!("{reached} of {}", row.rollout.concerned)
        },
    },
    Column { title: "SINCE", cell: |row, now| age(row.rollout.since_ms, now) },
    Column { title: "WHO", cell: |row, _| row.rollout.actor.clone() },
    Column { title: "REASON", cell: |row, _| row.rollout.reason.clone() },
];

/// What the flags of an apply say of stages.
///
/// # Errors
/// [`Usage`] for a stage of nobody.
pub(super) fn canary(args: &StagesArgs) -> anyhow::Result<Option<Canary>> {
    let mut stages = args.canary.clone();
    if stages.is_empty() {
        return Ok(None);
    }
    if stages.iter().any(|share| matches!(share, Share::Percent(0) | Share::Hosts(0))) {
        return Err(Usage("a stage of no host shows nothing: give --canary 1% or 1".to_owned()).into());
    }
    if stages.last() != Some(&Share::ALL) {
        stages.push(Share::ALL);
    }
    let bake_ms = duration::millis(args.bake);
    Ok(Some(Canary { stages, bake_ms, max_failures: args.max_failures }))
}

/// The stages that a change would reach its hosts in, as a line of a plan.
pub(super) fn stages(canary: Option<&Canary>, planned: &Applied) -> String {
    let (Some(canary), Some(effects)) = (canary, &planned.effects) else { return String::new() };
    if effects.hosts == 0 {
        return "stages     none: no host runs something else\n".to_owned();
    }
    let sizes: Vec<String> = canary.sizes(effects.hosts).iter().map(ToString::to_string).collect();
    let bake = duration::format(Duration::from_millis(canary.bake_ms));
    let sizes = sizes.join(", ");
    format!("stages     {sizes} of {} hosts, each watched for {bake}\n", effects.hosts)
}

/// What is said when a rollout began.
pub(super) fn began(rollout: &Rollout) -> String {
    let revision = rollout.revision;
    let hosts = rollout.reached.last().map_or(0, |stage| stage.hosts);
    let s = if hosts == 1 { "" } else { "s" };
    format!("it reaches {hosts} host{s} first: `dogwatch rollout show {revision}` tells how they fare")
}

/// # Errors
/// [`ClientError`], or that there is no rollout.
pub(super) async fn run(command: &RolloutCommand) -> anyhow::Result<()> {
    let (order, args) = match command {
        RolloutCommand::List(common) => {
            let list: RolloutList = Client::open(common)?.get(&["api", "v1", "rollouts"], &[]).await?;
            return output::print(&list.rollouts, &COLUMNS, common.output);
        }
        RolloutCommand::Show(args) => return show(args).await,
        RolloutCommand::Pause(args) => (RolloutOrder::Pause, args),
        RolloutCommand::Resume(args) => (RolloutOrder::Resume, args),
        RolloutCommand::Abort(args) => (RolloutOrder::Abort, args),
        RolloutCommand::Promote(args) => (RolloutOrder::Promote, args),
    };
    let client = Client::open(&args.common)?;
    let revision = find(&client, args).await?.rollout.revision.to_string();
    let body = json!({"order": order, "message": args.message});
    let rollout: Rollout = client.post(&["api", "v1", "rollouts", &revision], &body).await?;
    note(&format!("the rollout {revision} is {}", rollout.state.as_str().replace('_', " ")));
    if args.common.output == Format::Table {
        return Ok(());
    }
    output::print(&[rollout], &[], args.common.output)
}

async fn find(client: &Client, args: &RolloutArgs) -> anyhow::Result<RolloutStatus> {
    let revision = args.revision.map(|revision| revision.to_string());
    let mut path = vec!["api", "v1", "rollouts"];
    path.extend(revision.as_deref());
    let list: Result<RolloutList, ClientError> = client.get(&path, &[]).await;
    list?.rollouts.into_iter().next().ok_or_else(|| anyhow::anyhow!("there is no rollout yet"))
}

async fn show(args: &RolloutArgs) -> anyhow::Result<()> {
    let found = find(&Client::open(&args.common)?, args).await?;
    if args.common.output != Format::Table {
        return output::print(&[found], &[], args.common.output);
    }
    Ok(std::io::stdout().write_all(described(&found, service_kit::now_ms()).as_bytes())?)
}

fn described(status: &RolloutStatus, now: u64) -> String {
    let Rollout { revision, canary, actor, message, state, reason, since_ms, reached, .. } = &status.rollout;
    let mut text = format!("rollout    {revision}, by {}", shown(actor));
    if !message.is_empty() {
        let _infallible = write!(text, ": {}", shown(message));
    }
    let _infallible =
        write!(text, "\nstate      {} for {}", state.as_str().replace('_', " "), age(*since_ms, now));
    if !reason.is_empty() {
        let _infallible = write!(text, ": {}", shown(reason));
    }
    let bake = duration::format(Duration::from_millis(canary.bake_ms));
    let _infallible =
        writeln!(text, "\nstages     each watched for {bake}, {} failures allowed", canary.max_failures);
    for stage in reached {
        let share = canary.stages.get(stage.stage).copied().unwrap_or(Share::ALL);
        let (hosts, ago) = (stage.hosts, age(stage.at_ms, now));
        let _infallible = writeln!(text, "           {share}: {hosts} hosts, {ago} ago");
    }
    if let Some(applied) = status.applied {
        let _infallible = writeln!(text, "hosts      {applied} of {} run it", status.rollout.concerned);
    }
    if *state == RolloutState::Paused {
        let _infallible = writeln!(text, "next       `dogwatch rollout resume`, `abort` or `promote`");
    }
    for failure in &status.failures {
        let check = failure.check.as_ref().map_or("the configuration", |check| check.as_str());
        let _infallible = writeln!(text, "failed     {}, {check}: {}", failure.agent, shown(&failure.reason));
    }
    text
}
