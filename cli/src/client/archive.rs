//! `dogwatch backup` and `dogwatch restore`

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use protocol::{
    archive::{Check, Contents, LINE, RestoreRequest, RestoreState, file_name},
    timestamp,
    transfer::{Bytes, PIECE, Piece, PiecePut, PieceTaken, Transfer},
};
use reqwest::StatusCode;
use service_kit::{files::sync_folder, transfer::private_file};

use super::http::{Client, ClientError};
use crate::{
    Usage,
    args::{BackupArgs, RestoreArgs},
    output::{self, Column, note},
};

/// While the archive is being made, and while it is being put in place.
const AGAIN: Duration = Duration::from_millis(300);
/// How long a restore is watched. It goes on without being watched.
const WATCHED: Duration = Duration::from_secs(600);

const CONTENTS: [Column<Contents>; 7] = [
    Column { title: "MADE", cell: |contents, _| timestamp::format(contents.manifest.created_ms) },
    Column { title: "VERSION", cell: |contents, _| contents.manifest.version.clone() },
    Column { title: "REVISION", cell: |contents, _| contents.manifest.revision.to_string() },
    Column { title: "HOSTS", cell: |contents, _| contents.hosts.to_string() },
    Column { title: "AUDIT", cell: |contents, _| contents.audit.to_string() },
    Column { title: "ALERTS", cell: |contents, _| alerts(contents) },
    Column { title: "FORMAT", cell: |contents, _| contents.manifest.format.to_string() },
];

fn alerts(contents: &Contents) -> String {
    if contents.manifest.alerts { format!("{} entries", contents.alerter) } else { "not in it".to_owned() }
}

/// # Errors
/// [`Usage`] for a file that is there already, [`ClientError`], or why the file cannot be written.
pub(crate) async fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let into_folder = args.to.is_dir();
    let there = |path: &Path| {
        let message = format!("{} is there already: give another name, or --force", path.display());
        if path.exists() && !args.force { Err(Usage(message)) } else { Ok(()) }
    };
    if !into_folder {
        there(&args.to)?;
    }
    let partial = match into_folder {
        true => args.to.join(format!(".dogwatch-{}.partial", std::process::id())),
        false => with_suffix(&args.to, ".partial"),
    };
    let written = fetch(&client, &partial).await.and_then(|()| check(&partial));
    let written = written.and_then(|contents| {
        if !contents.manifest.alerts && !args.without_alerts {
            anyhow::bail!(
                "the alerter does not answer, so its alerts would be missing: start it, or give --without-alerts"
            );
        }
        let path = match into_folder {
            true => args.to.join(file_name(contents.manifest.created_ms)),
            false => args.to.clone(),
        };
        there(&path)?;
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, &path)?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        Ok((path, contents))
    });
    let (path, contents) = written.inspect_err(|_| {
        // What is there of it is of no use.
        let _gone = fs::remove_file(&partial);
    })?;
    note(&format!("written to {}: whole, and readable by its owner only", path.display()));
    output::print(&[contents], &CONTENTS, args.common.output)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

async fn fetch(client: &Client, path: &Path) -> anyhow::Result<()> {
    let mut file =
        private_file(path).with_context(|| format!("cannot write {}: check the folder", path.display()))?;
    let (mut transfer, mut offset) = (None::<Transfer>, 0_u64);
    loop {
        let mut query = vec![("offset", offset.to_string())];
        query.extend(transfer.as_ref().map(|transfer| ("transfer", transfer.to_string())));
        let piece: Piece = client.get(&["api", "v1", "backup"], &query).await?;
        let Bytes(data) = &piece.data;
        file.write_all(data).with_context(|| format!("cannot write {}", path.display()))?;
        offset += data.len() as u64;
        match piece.total {
            None => tokio::time::sleep(AGAIN).await,
            Some(total) if offset >= total && data.is_empty() => return Ok(()),
            Some(_) => {}
        }
        transfer = Some(piece.transfer);
    }
}

/// Whether the archive is whole.
fn check(path: &Path) -> anyhow::Result<Contents> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut reader, mut check) = (BufReader::new(file), Check::default());
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE as u64).read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {}", path.display()))? == 0 {
            break;
        }
        check.line(&line).with_context(|| format!("{} cannot be used", path.display()))?;
    }
    check.end().with_context(|| format!("{} cannot be used", path.display()))
}

/// # Errors
/// [`Usage`] where nobody can be asked, [`ClientError`], or what is wrong with the archive.
pub(crate) async fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    if args.state {
        let state: RestoreState = Client::open(&args.common)?.get(&["api", "v1", "restore"], &[]).await?;
        return output::print(&[state], &STATE, args.common.output);
    }
    let Some(file) = &args.file else { return Err(Usage("which archive?".to_owned()).into()) };
    let contents = check(file)?;
    if args.check {
        note("the archive is whole");
        return output::print(&[contents], &CONTENTS, args.common.output);
    }
    let client = Client::open(&args.common)?;
    confirm(&contents, args)?;
    let transfer = bring(&client, file).await?;
    let request = RestoreRequest {
        transfer,
        replace: args.replace,
        newest: args.newest_revision,
        actor: String::new(),
    };
    let begun: RestoreState = client.post(&["api", "v1", "restore"], &request).await?;
    note("the archive was accepted and is being put in place");
    watch(&client, begun.revision).await?;
    note(&format!("in place: the newest revision is {}", begun.revision));
    output::print(&[contents], &CONTENTS, args.common.output)
}

const STATE: [Column<RestoreState>; 3] = [
    Column { title: "RESTORE", cell: |state, _| if state.running { "under way" } else { "none" }.to_owned() },
    Column { title: "WAITS FOR", cell: |state, _| state.waits_for.clone().unwrap_or_default() },
    Column { title: "REVISION", cell: |state, _| state.revision.to_string() },
];

fn confirm(contents: &Contents, args: &RestoreArgs) -> anyhow::Result<()> {
    if args.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(
            Usage("nobody to ask, since this is no terminal: give --yes to restore".to_owned()).into()
        );
    }
    let made = timestamp::format(contents.manifest.created_ms);
    let lost = if args.replace { "; what is there now is lost" } else { "" };
    write!(
        io::stderr(),
        "restore the archive of {made} with {} revisions and {} hosts{lost}? [y/N] ",
        contents.changes,
        contents.hosts
    )?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    anyhow::bail!("not restored")
}

async fn bring(client: &Client, path: &Path) -> anyhow::Result<Transfer> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut put = PiecePut { transfer: None, offset: 0, data: Bytes::default() };
    loop {
        let mut data = Vec::new();
        Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut data)?;
        if let (Some(transfer), true) = (&put.transfer, data.is_empty()) {
            return Ok(transfer.clone());
        }
        put.data = Bytes(data);
        let taken: PieceTaken = client.post(&["api", "v1", "restore", "pieces"], &put).await?;
        (put.offset, put.transfer) = (taken.total, Some(taken.transfer));
    }
}

/// Until it is done. Keys change on the way, the one that is used here too.
async fn watch(client: &Client, revision: u64) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + WATCHED;
    let mut told = String::new();
    loop {
        tokio::time::sleep(AGAIN).await;
        let waits_for = match client.get::<RestoreState>(&["api", "v1", "restore"], &[]).await {
            Ok(state) if !state.running && state.revision >= revision => return Ok(()),
            Ok(state) => state.waits_for.unwrap_or_default(),
            Err(ClientError::Refused { status, .. })
                if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN =>
            {
                note("documents and keys are in place, and your key is none of the archive: use one that is");
                return Ok(());
            }
            Err(ClientError::Refused { status, .. }) if status == StatusCode::SERVICE_UNAVAILABLE => {
                String::new()
            }
            Err(error) => return Err(error.into()),
        };
        if waits_for != told {
            note(&format!("it waits: {waits_for}"));
            told = waits_for;
        }
        anyhow::ensure!(
            tokio::time::Instant::now() < deadline,
            "it is still under way after {WATCHED:?}: it goes on by itself, see `dogwatch restore --state`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_archive_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (text, expected) in
            [("", "ends too early"), ("kind: Check\n", "no archive"), ("\u{0}\u{1}", "no archive")]
        {
            fs::write(&path, text).unwrap();
            let error = service_kit::report(check(&path).unwrap_err().as_ref());
            assert!(error.contains(expected) && error.contains(&path.display().to_string()), "{error}");
        }
        assert_eq!(with_suffix(Path::new("a/b.c"), ".partial"), Path::new("a/b.c.partial"));
    }
}
