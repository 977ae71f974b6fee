//! What the alerter remembers, handed out for an archive of the installation and taken in from one.
//!
//! What is brought becomes the file `restore` in the data folder before anything of it is written: a start that finds it
//! goes on with it.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use protocol::{
    ErrorCode, ErrorReply,
    archive::Line,
    subject,
    transfer::{TransferEnd, TransferEnded},
};
use service_kit::{Context, files::sync_folder, now_ms, report, respond, transfer};

use crate::{
    engine::Shared,
    store::{Entry, Store},
};

/// How long it may take to read, and to write, all that was brought.
const DEADLINE: Duration = Duration::from_secs(60);
const FILE: &str = "restore";

/// # Errors
/// When a subscription cannot be made.
pub async fn answer(ctx: &Context, engine: &Shared, store: &Arc<Store>, folder: &Path) -> anyhow::Result<()> {
    let shared = engine.clone();
    transfer::hand_out(ctx, subject::ALERTER_BACKUP, (folder, "out-"), move |file, _| {
        let shared = shared.clone();
        async move { shared.run(move |engine| engine.export(|store| write(store, &file), now_ms())).await? }
    })
    .await?;
    let incoming = transfer::take_in(ctx, subject::ALERTER_RESTORE, (folder, "in-")).await?;
    let end = subject::transfer_end(subject::ALERTER_RESTORE, incoming.replica());
    let limits = respond::Limits { concurrency: 1, deadline: DEADLINE };
    let (engine, store, folder) = (engine.clone(), Arc::clone(store), folder.to_owned());
    respond::respond(ctx, &end, limits, move |_, request: TransferEnd| {
        let (engine, store, folder) = (engine.clone(), Arc::clone(&store), folder.clone());
        let file = incoming.file(&request.transfer);
        async move {
            let file = file?;
            let work = move |engine: &mut crate::engine::Engine| {
                let entries = look(&file).map_err(|error| {
                    ErrorReply::invalid(format!("the alerts: {}", report(error.as_ref())))
                })?;
                if !request.look {
                    let restored = keep(&file, &folder)
                        .and_then(|()| finish(&store, &folder))
                        .and_then(|()| Ok(engine.reload()?));
                    restored
                        .map_err(|error| ErrorReply::new(ErrorCode::Unavailable, report(error.as_ref())))?;
                }
                Ok(TransferEnded { entries })
            };
            let done = engine.run(work).await;
            done.unwrap_or_else(|error| Err(ErrorReply::new(ErrorCode::Internal, report(error.as_ref()))))
        }
    })
    .await
}

fn write(store: &Store, file: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(transfer::private_file(file)?);
    store.export(|line| {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")
    })?;
    Ok(file.flush()?)
}

fn entries(file: &Path) -> io::Result<impl Iterator<Item = Result<Entry, String>> + use<>> {
    let lines = BufReader::new(File::open(file)?).lines().enumerate();
    Ok(lines.map(|(index, line)| {
        let entry = line.map_err(|error| error.to_string()).and_then(|line| {
            match serde_json::from_str(&line).map_err(|error| error.to_string())? {
                Line::Alerter { table, key, value } => Entry::new(&table, &key, &value),
                _ => Err("it is none of the alerter's".to_owned()),
            }
        });
        entry.map_err(|reason| format!("entry {}: {reason}", index + 1))
    }))
}

/// How many entries there are. All of them can be read.
fn look(file: &Path) -> anyhow::Result<u64> {
    let mut count = 0;
    for entry in entries(file)? {
        entry.map_err(anyhow::Error::msg)?;
        count += 1;
    }
    Ok(count)
}

/// From now on it is what counts, whatever happens.
fn keep(file: &Path, folder: &Path) -> anyhow::Result<()> {
    File::open(file)?.sync_all()?;
    fs::rename(file, folder.join(FILE))?;
    Ok(sync_folder(folder)?)
}

/// Put what was brought in the place of what is there, where something was brought.
///
/// # Errors
/// When the file cannot be read or the store cannot be written: the next start tries it again.
pub fn finish(store: &Store, folder: &Path) -> anyhow::Result<()> {
    let file: PathBuf = folder.join(FILE);
    if !file.exists() {
        return Ok(());
    }
    let failed = || format!("cannot restore the alerts from {}", file.display());
    store.import(entries(&file).with_context(failed)?).with_context(failed)?;
    fs::remove_file(&file).with_context(failed)?;
    tracing::info!("the alerts of the archive are in place");
    Ok(sync_folder(folder)?)
}
