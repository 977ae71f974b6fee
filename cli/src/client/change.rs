//! `dogwatch plan`, `apply` and `rollback`: show what would change, ask, do it.

use std::{
    fmt::Write as _,
    io::{self, BufRead, IsTerminal, Write as _},
};

use protocol::admin::{Applied, ApplyRequest, Change, DocumentChange, Effects, HostEffect, RollbackRequest};
use serde::Serialize;

use super::{
    files,
    http::{Client, ClientError},
    rollout, sign,
};
use crate::{
    Usage,
    args::{ApplyArgs, Format, PlanArgs, RollbackArgs},
    output::{self, Column, note, shown},
    signing,
};

const COLUMNS: [Column<DocumentChange>; 3] = [
    Column { title: "CHANGE", cell: |row, _| row.change.as_str().to_owned() },
    Column { title: "KIND", cell: |row, _| row.kind.to_string() },
    Column { title: "NAME", cell: |row, _| row.name.clone() },
];

/// Whether there is something to change.
///
/// # Errors
/// [`Usage`] for documents with errors, [`ClientError`] otherwise.
pub(crate) async fn plan(args: &PlanArgs) -> anyhow::Result<bool> {
    let request = ApplyRequest {
        dry_run: true,
        effects: true,
        prune: args.prune,
        canary: rollout::canary(&args.stages)?,
        replace: args.stages.replace,
        ..ApplyRequest::of(files::read(&args.paths)?)
    };
    let planned = send(&Client::open(&args.common)?, "apply", &request).await?;
    if args.common.output == Format::Table {
        let mut text = described(&planned, args.details);
        text.push_str(&rollout::stages(request.canary.as_ref(), &planned));
        io::stdout().write_all(text.as_bytes())?;
    } else {
        output::print(std::slice::from_ref(&planned), &[], args.common.output)?;
    }
    Ok(!pending(&planned).is_empty())
}

/// # Errors
/// [`Usage`] for documents with errors and where nobody can be asked, [`ClientError`] otherwise.
pub(crate) async fn apply(args: &ApplyArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let key = sign::key(&args.signing, &client)?;
    if args.sign_again && key.is_none() {
        return Err(Usage("there is no key to sign with: give --signing-key FILE".to_owned()).into());
    }
    let request = ApplyRequest {
        message: args.message.clone(),
        dry_run: true,
        effects: true,
        prune: args.prune,
        canary: rollout::canary(&args.stages)?,
        replace: args.stages.replace,
        ..ApplyRequest::of(files::read(&args.paths)?)
    };
    let planned = send(&client, "apply", &request).await?;
    if pending(&planned).is_empty() && !args.sign_again {
        note(&format!("nothing to change: revision {} has all of it", planned.revision));
        return output::print(&planned.changes, &COLUMNS, args.common.output);
    }
    if !args.yes {
        write!(io::stderr(), "{}", rollout::stages(request.canary.as_ref(), &planned))?;
    }
    confirm(&planned, args.yes)?;
    sign::warn_unsigned(key.as_ref(), &planned);
    let applied = signed(planned, |base| {
        let (client, key) = (&client, key.as_ref());
        let mut request = ApplyRequest { effects: false, ..request.clone() };
        async move {
            let Some(planned) = base else { return send(client, "apply", &request).await };
            if let Some(key) = key {
                request.signatures = signing::of_files(key, &request.files, &planned, args.sign_again)?;
            }
            (request.dry_run, request.base) = (false, Some(planned.revision));
            send(client, "apply", &request).await
        }
    });
    done(&applied.await?, args.common.output)
}

/// # Errors
/// [`Usage`] where nobody can be asked, [`ClientError`] otherwise.
pub(crate) async fn rollback(args: &RollbackArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let key = sign::key(&args.signing, &client)?;
    let request = RollbackRequest {
        revision: args.revision,
        actor: String::new(),
        message: args.message.clone(),
        dry_run: true,
        base: None,
        effects: true,
        within: None,
        signatures: Vec::new(),
    };
    let planned = send(&client, "rollback", &request).await?;
    if pending(&planned).is_empty() {
        note(&format!("nothing to change: revision {} has the same documents", planned.revision));
        return Ok(());
    }
    confirm(&planned, args.yes)?;
    sign::warn_unsigned(key.as_ref(), &planned);
    // The documents themselves come with a look without effects.
    let request = RollbackRequest { effects: false, ..request };
    let planned = send(&client, "rollback", &request).await?;
    let applied = signed(planned, |base| {
        let (client, key) = (&client, key.as_ref());
        let mut request = request.clone();
        async move {
            let Some(planned) = base else { return send(client, "rollback", &request).await };
            if let Some(key) = key {
                request.signatures = signing::of_past(key, &args.trusted_keys, args.revision, &planned)?;
            }
            (request.dry_run, request.base) = (false, Some(planned.revision));
            send(client, "rollback", &request).await
        }
    });
    done(&applied.await?, args.common.output)
}

/// Make what was planned. `step` signs and makes it from a plan, or without one looks at it again: the revision that is
/// signed is certain only until somebody makes another, be it a key.
async fn signed<F: Future<Output = anyhow::Result<Applied>>>(
    planned: Applied,
    step: impl Fn(Option<Applied>) -> F,
) -> anyhow::Result<Applied> {
    let mut now = planned.clone();
    for _ in 1..signing::TRIES {
        match step(Some(now)).await {
            Err(error) if sign::signed_too_late(&error) => {}
            done => return done,
        }
        now = step(None).await?;
        if now.changes != planned.changes {
            anyhow::bail!("the documents changed meanwhile: look at it again with `dogwatch plan`");
        }
    }
    step(Some(now)).await
}

fn done(applied: &Applied, format: Format) -> anyhow::Result<()> {
    note(&format!("applied as revision {}", applied.revision));
    if let Some(rollout) = &applied.rollout {
        note(&rollout::began(rollout));
    }
    output::print(&applied.changes, &COLUMNS, format)
}

fn pending(planned: &Applied) -> Vec<&DocumentChange> {
    planned.changes.iter().filter(|change| change.change != Change::Unchanged).collect()
}

async fn send(client: &Client, endpoint: &str, request: &impl Serialize) -> anyhow::Result<Applied> {
    match client.post(&["api", "v1", endpoint], request).await {
        Ok(applied) => Ok(applied),
        Err(ClientError::Refused { problem, .. }) if !problem.problems.is_empty() => {
            for problem in &problem.problems {
                note(&problem.to_string());
            }
            let count = problem.problems.len();
            let s = if count == 1 { "" } else { "s" };
            Err(Usage(format!("{count} problem{s} in the documents: nothing was applied")).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Counts first, then the documents that change; with `details` each field, and each host.
pub(super) fn described(planned: &Applied, details: bool) -> String {
    let mut text = format!("documents  {}\n", counted(&planned.changes));
    if let Some(effects) = &planned.effects {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "hosts      {}", reached(effects));
    }
    for change in pending(planned) {
        text.push_str(&line(change));
        if details {
            text.push_str(&fields(change));
        }
    }
    if let (true, Some(effects)) = (details, &planned.effects) {
        effects.details.iter().for_each(|effect| text.push_str(&host(effect)));
        let runs_else = |effect: &&HostEffect| {
            !(effect.gained.is_empty() && effect.lost.is_empty() && effect.changed.is_empty())
        };
        // Hosts that only lack a fitting variant are told as well, and are not among those counted.
        let told: u64 = effects.details.iter().filter(runs_else).count().try_into().unwrap_or(u64::MAX);
        match effects.hosts.saturating_sub(told) {
            0 => {}
            1 => text.push_str("… and 1 host more\n"),
            more => {
                let _infallible = writeln!(text, "… and {more} hosts more");
            }
        }
    }
    text
}

fn counted(changes: &[DocumentChange]) -> String {
    let all = [Change::Created, Change::Changed, Change::Deleted, Change::Unchanged];
    let counts = all.into_iter().map(|kind| {
        let count = changes.iter().filter(|change| change.change == kind).count();
        format!("{count} {}", kind.as_str())
    });
    counts.collect::<Vec<_>>().join(", ")
}

fn reached(effects: &Effects) -> String {
    let Effects { hosts, gained, lost, changed, unfit, .. } = effects;
    let runs = if *hosts == 1 { "1 runs" } else { &format!("{hosts} run") };
    let unfit = if *unfit == 0 { String::new() } else { format!("; {unfit} without a fitting variant") };
    let checks = if *gained == 1 { "check" } else { "checks" };
    format!("{runs} something else: {gained} {checks} gained, {lost} lost, {changed} changed{unfit}")
}

fn line(change: &DocumentChange) -> String {
    format!("{:10} {} {}\n", change.change.as_str(), change.kind, change.name)
}

pub(super) fn fields(change: &DocumentChange) -> String {
    let value = |value: &Option<serde_json::Value>| {
        value.as_ref().map_or("nothing".to_owned(), |value| shown(&value.to_string()))
    };
    let lines = change.fields.iter().map(|field| {
        format!("             {}: {} → {}\n", field.field, value(&field.before), value(&field.after))
    });
    lines.collect()
}

fn host(effect: &HostEffect) -> String {
    let mut parts = Vec::new();
    for (what, names) in [("+", &effect.gained), ("-", &effect.lost), ("~", &effect.changed)] {
        parts.extend(names.iter().map(|name| format!("{what}{name}")));
    }
    let unfit = effect.unfit.iter().map(|unfit| format!("!{} ({})", unfit.check, shown(&unfit.reason)));
    parts.extend(unfit);
    format!("host       {}: {}\n", effect.agent, parts.join(" "))
}

fn confirm(planned: &Applied, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    let changes = pending(planned).len();
    write!(io::stderr(), "{}", described(planned, false))?;
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Usage("nobody to ask, since this is no terminal: give --yes to apply".to_owned()).into());
    }
    write!(io::stderr(), "apply {changes} change{}? [y/N] ", if changes == 1 { "" } else { "s" })?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    anyhow::bail!("not applied")
}
