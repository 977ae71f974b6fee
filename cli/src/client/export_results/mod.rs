//! `dogwatch export-results`: results as files for other programs, page by page, so that memory does not grow with them.

mod parquet;
mod row;
mod tables;

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

use protocol::{CheckResult, duration::millis, query::ResultPage};
use service_kit::now_ms;

use super::http::Client;
use crate::{
    Usage,
    args::{ExportResultsArgs, FileFormat},
    output::note,
};

type Out = Box<dyn Write + Send>;

/// A file that is written result by result.
trait Table {
    fn write(&mut self, result: &CheckResult) -> anyhow::Result<()>;
    /// What is still held goes out.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// # Errors
/// [`Usage`] for what cannot be written to, [`super::http::ClientError`] otherwise.
pub(crate) async fn export(args: &ExportResultsArgs) -> anyhow::Result<()> {
    let binary = args.format == FileFormat::Parquet;
    if binary && args.to.is_none() && io::stdout().is_terminal() {
        return Err(Usage("Parquet is not for a terminal: give --to FILE".to_owned()).into());
    }
    let client = Client::open(&args.common)?;
    let now = now_ms();
    let since_ms = args.from.unwrap_or_else(|| now.saturating_sub(millis(args.since)));
    let mut query = vec![("since_ms", since_ms.to_string())];
    // What comes meanwhile is for the next export, or this one would not end.
    query.push(("until_ms", args.until.unwrap_or(now).to_string()));
    query.extend(args.agent.as_ref().map(|agent| ("agent", agent.to_string())));
    query.extend(args.check.as_ref().map(|check| ("check", check.to_string())));

    let (file, out) = Target::open(args.to.as_deref())?;
    let mut table: Box<dyn Table> = match args.format {
        FileFormat::Csv => Box::new(tables::Csv::new(out)?),
        FileFormat::Ndjson => Box::new(tables::Ndjson::new(out)),
        FileFormat::Parquet => Box::new(parquet::Parquet::new(out)?),
    };
    let (mut cursor, mut count) = (None::<String>, 0_u64);
    loop {
        let mut query = query.clone();
        query.extend(cursor.clone().map(|cursor| ("cursor", cursor)));
        let page: ResultPage = client.get(&["api", "v1", "results"], &query).await?;
        let more = !page.results.is_empty();
        for result in &page.results {
            table.write(result)?;
            count = count.saturating_add(1);
        }
        match page.next {
            // A page may hold nothing although more follow; a cursor that stays would go round for ever.
            Some(next) if more || Some(&next) != cursor.as_ref() => cursor = Some(next),
            _ => break,
        }
    }
    table.finish()?;
    file.done()?;
    note(&format!("{count} results"));
    Ok(())
}

/// Where the file goes: it has its name only when it is whole.
struct Target(Option<(PathBuf, PathBuf)>);

impl Target {
    fn open(path: Option<&Path>) -> anyhow::Result<(Self, Out)> {
        let Some(path) = path else { return Ok((Self(None), Box::new(BufWriter::new(io::stdout())))) };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let file = File::create(&partial)
            .map_err(|error| Usage(format!("cannot write {}: {error}", partial.display())))?;
        Ok((Self(Some((partial, path.to_owned()))), Box::new(BufWriter::new(file))))
    }

    fn done(mut self) -> anyhow::Result<()> {
        let Some((partial, path)) = self.0.take() else { return Ok(()) };
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, &path)?;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((partial, _)) = &self.0 {
            // The failure that led here is told; this one would hide it.
            let _gone = fs::remove_file(partial);
        }
    }
}
