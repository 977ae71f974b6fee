//! `dogwatch library`: ready-made documents, which are part of the program.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    Usage,
    args::LibraryCommand,
    output::{self, Column, note},
};

const LIBRARY: [(&str, &str); 6] = [
    ("docker", include_str!("../../../library/docker.yaml")),
    ("linux", include_str!("../../../library/linux.yaml")),
    ("nats", include_str!("../../../library/nats.yaml")),
    ("nginx", include_str!("../../../library/nginx.yaml")),
    ("postgresql", include_str!("../../../library/postgresql.yaml")),
    ("redis", include_str!("../../../library/redis.yaml")),
];

#[derive(Debug, Serialize)]
struct Entry {
    name: &'static str,
    checks: usize,
    description: &'static str,
}

const COLUMNS: [Column<Entry>; 3] = [
    Column { title: "NAME", cell: |entry, _| entry.name.to_owned() },
    Column { title: "CHECKS", cell: |entry, _| entry.checks.to_string() },
    Column { title: "DESCRIPTION", cell: |entry, _| entry.description.to_owned() },
];

/// # Errors
/// [`Usage`] for a name that there is not; what a file cannot be written for.
pub(crate) fn run(command: &LibraryCommand) -> anyhow::Result<()> {
    match command {
        LibraryCommand::List { output } => {
            let entries: Vec<Entry> = LIBRARY.into_iter().map(|(name, text)| entry(name, text)).collect();
            output::print(&entries, &COLUMNS, *output)
        }
        LibraryCommand::Show { name } => Ok(io::stdout().write_all(named(name)?.as_bytes())?),
        LibraryCommand::Add { names, to } => {
            // All names are looked up before anything is written.
            let found: Result<Vec<_>, Usage> = names.iter().map(|name| Ok((name, named(name)?))).collect();
            for (name, text) in found? {
                add(&to.join(format!("{name}.yaml")), text)?;
            }
            note(&format!("look with `dogwatch plan {0}`, then `dogwatch apply {0}`", to.display()));
            Ok(())
        }
    }
}

fn entry(name: &'static str, text: &'static str) -> Entry {
    let checks = text.lines().filter(|line| *line == "kind: Check").count();
    // The first line says what it is for.
    let description = text.lines().next().unwrap_or_default().trim_start_matches("# ");
    Entry { name, checks, description }
}

fn named(name: &str) -> Result<&'static str, Usage> {
    LIBRARY.into_iter().find(|(known, _)| *known == name).map(|(_, text)| text).ok_or_else(|| {
        let names = LIBRARY.map(|(name, _)| name).join(", ");
        Usage(format!("there is no {name:?} in the library: it has {names}"))
    })
}

fn add(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let cannot = || format!("cannot write {}", path.display());
    match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).with_context(cannot)?;
            Ok(writeln!(io::stdout(), "{}", path.display())?)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let same = fs::read_to_string(path).is_ok_and(|there| there == text);
            if same {
                note(&format!("{} is there already, with the same content", path.display()));
                return Ok(());
            }
            anyhow::bail!(
                "{} is there already and differs: move it away, or write --to elsewhere",
                path.display()
            )
        }
        Err(error) => Err(error).with_context(cannot),
    }
}
