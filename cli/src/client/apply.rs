//! `dogwatch apply`: show what would change, ask, do it.

use std::io::{self, BufRead, IsTerminal, Write};

use protocol::admin::{Applied, ApplyRequest, Change, DocumentChange};

use super::{
    files,
    http::{Client, ClientError},
};
use crate::{
    Usage,
    args::ApplyArgs,
    output::{self, Column, note},
};

const COLUMNS: [Column<DocumentChange>; 3] = [
    Column { title: "CHANGE", cell: |row, _| word(row.change).to_owned() },
    Column { title: "KIND", cell: |row, _| row.kind.to_string() },
    Column { title: "NAME", cell: |row, _| row.name.clone() },
];

fn word(change: Change) -> &'static str {
    match change {
        Change::Created => "created",
        Change::Changed => "changed",
        Change::Unchanged => "unchanged",
    }
}

/// # Errors
/// [`Usage`] for documents with errors and where nobody can be asked, [`ClientError`] otherwise.
pub(crate) async fn apply(args: &ApplyArgs) -> anyhow::Result<()> {
    let files = files::read(&args.paths)?;
    let client = Client::open(&args.common)?;
    let mut request = ApplyRequest { files, actor: String::new(), message: String::new(), dry_run: true };
    let planned = send(&client, &request).await?;
    let changes: Vec<_> =
        planned.changes.iter().filter(|change| change.change != Change::Unchanged).collect();
    if changes.is_empty() {
        note(&format!("nothing to change: revision {} has all of it", planned.revision));
        return output::print(&planned.changes, &COLUMNS, args.common.output);
    }
    if !args.yes {
        for change in &changes {
            note(&format!("{:10} {} {}", word(change.change), change.kind, change.name));
        }
        confirm(changes.len())?;
    }
    request.dry_run = false;
    let applied = send(&client, &request).await?;
    note(&format!("applied as revision {}", applied.revision));
    output::print(&applied.changes, &COLUMNS, args.common.output)
}

async fn send(client: &Client, request: &ApplyRequest) -> anyhow::Result<Applied> {
    match client.post(&["api", "v1", "apply"], request).await {
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

fn confirm(changes: usize) -> anyhow::Result<()> {
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
