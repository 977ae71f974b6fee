//! `dogwatch history`, `diff` and `export`: what was changed, and what there is, as files.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
};

use protocol::{
    admin::{Difference, DocumentChange, DocumentList, HistoryPage, Revision, Touched},
    document::Document,
};

use super::{change, http::Client};
use crate::{
    Usage,
    args::{DiffArgs, ExportArgs, Format, HistoryArgs},
    output::{self, Column, note},
};

const REVISIONS: [Column<Revision>; 5] = [
    Column { title: "REVISION", cell: |row, _| row.revision.to_string() },
    Column { title: "AGE", cell: |row, now| output::age(row.at_ms, now) },
    Column { title: "WHO", cell: |row, _| row.actor.clone() },
    Column { title: "CHANGES", cell: |row, _| touched(row) },
    Column { title: "WHY", cell: |row, _| row.message.clone() },
];

fn touched(revision: &Revision) -> String {
    const NAMED: usize = 4;
    let names = revision.changes.iter().take(NAMED).map(|touched| match touched {
        Touched::Put { kind, name } => format!("{kind} {name}"),
        Touched::Deleted { kind, name } => format!("-{kind} {name}"),
        Touched::KeyCreated { id } => format!("key {id}"),
        Touched::KeyRevoked { id } => format!("-key {id}"),
        Touched::TokenCreated { id } => format!("token {id}"),
        Touched::TokenRevoked { id } => format!("-token {id}"),
        Touched::AgentEnrolled { agent } => format!("host {agent}"),
        Touched::AgentRevoked { agent } => format!("-host {agent}"),
        Touched::HostDecommissioned { agent } => format!("-inventory {agent}"),
        Touched::Unknown => "?".to_owned(),
        Touched::Rollout { revision, state } => {
            format!("rollout {revision} {}", state.as_str().replace('_', " "))
        }
    });
    let named = names.collect::<Vec<_>>().join(", ");
    let more = usize::try_from(revision.count).unwrap_or(usize::MAX).saturating_sub(NAMED);
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// # Errors
/// [`super::http::ClientError`].
pub(crate) async fn history(args: &HistoryArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let (mut revisions, mut before) = (Vec::new(), None::<u64>);
    while revisions.len() < args.limit {
        let mut query =
            vec![("limit", (args.limit - revisions.len()).min(protocol::limits::PAGE).to_string())];
        query.extend(before.map(|before| ("before", before.to_string())));
        let page: HistoryPage = client.get(&["api", "v1", "history"], &query).await?;
        revisions.extend(page.revisions);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    output::print(&revisions, &REVISIONS, args.common.output)
}

/// # Errors
/// [`super::http::ClientError`].
pub(crate) async fn diff(args: &DiffArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let mut query = vec![("from", args.from.to_string())];
    query.extend(args.to.map(|to| ("to", to.to_string())));
    let difference: Difference = client.get(&["api", "v1", "diff"], &query).await?;
    if args.common.output != Format::Table {
        return output::print(&difference.changes, &[], args.common.output);
    }
    let text = |change: &DocumentChange| {
        format!("{:10} {} {}\n{}", change.change.as_str(), change.kind, change.name, change::fields(change))
    };
    note(&format!("from revision {} to {}", difference.from, difference.to));
    io::stdout().write_all(difference.changes.iter().map(text).collect::<String>().as_bytes())?;
    Ok(())
}

/// One file for each kind, which applied again change nothing.
///
/// # Errors
/// [`Usage`] for a folder that holds such files already, [`super::http::ClientError`] otherwise.
pub(crate) async fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let list: DocumentList = Client::open(&args.common)?.get(&["api", "v1", "documents"], &[]).await?;
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for document in &list.documents {
        let text = files.entry(file_of(document)).or_default();
        if !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&documents::write(document)?);
    }
    let Some(folder) = &args.folder else {
        let all = files.into_values().collect::<Vec<_>>().join("---\n");
        io::stdout().write_all(all.as_bytes())?;
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    if !args.force {
        let mut there = fs::read_dir(folder).map_err(|error| failed(folder, &error))?;
        if there.next().is_some() {
            let folder = folder.display();
            return Err(Usage(format!("{folder} is not empty: give another folder, or --force")).into());
        }
    }
    for (name, text) in &files {
        let path = folder.join(name);
        // Receivers may hold secrets in their addresses.
        service_kit::files::write_private(&path, text.as_bytes()).map_err(|error| failed(&path, &error))?;
        note(&path.display().to_string());
    }
    note(&format!("{} documents of revision {}", list.documents.len(), list.revision));
    Ok(())
}

fn file_of(document: &Document) -> String {
    format!("{}s.yaml", document.kind().as_str().to_ascii_lowercase())
}

fn failed(path: &Path, error: &io::Error) -> Usage {
    Usage(format!("cannot write {}: {error}", path.display()))
}
