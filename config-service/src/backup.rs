//! The archive of a whole installation: written here, from what this replica knows, stream AUDIT and the alerter.
//!
//! What is written is the state of one moment for each of its parts; hosts and alerts may be a little newer than the
//! newest change.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use anyhow::Context as _;
use protocol::{
    AgentId,
    archive::{FORMAT, Line, Manifest, Writer},
    audit::AuditOutcome,
    subject,
};
use service_kit::{
    Context,
    audit::Audit,
    now_ms, report,
    request::RequestError,
    transfer::{self, private_file},
};

use crate::{
    changes::Changes,
    core::model::{HostRecord, Model},
    outbound::audit_log,
};

/// In front of the names of files that are being made.
const PREFIX: &str = "backup-";

#[derive(Clone)]
pub(crate) struct Backup {
    pub(crate) ctx: Context,
    pub(crate) model: Arc<RwLock<Model>>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) used: Arc<Mutex<BTreeMap<String, u64>>>,
    pub(crate) audit: Audit,
}

impl Backup {
    /// Hand out an archive to whoever asks, until the service stops.
    pub(crate) async fn serve(self, folder: &Path) -> anyhow::Result<()> {
        let ctx = self.ctx.clone();
        transfer::hand_out(&ctx, subject::ADMIN_BACKUP, (folder, PREFIX), move |file, actor| {
            let this = self.clone();
            async move {
                let written = this.write(&file).await;
                let (outcome, detail) = match &written {
                    Ok(revision) => (AuditOutcome::Done, format!("up to revision {revision}")),
                    Err(error) => (AuditOutcome::Failed, report(error.as_ref())),
                };
                this.audit.tell_each(&actor, None, "backup", outcome, &detail);
                written.map(|_| ())
            }
        })
        .await
    }

    /// Write the archive. Its newest revision.
    async fn write(&self, file: &Path) -> anyhow::Result<u64> {
        anyhow::ensure!(self.changes.known(), "stream CONFIG was not read yet: try again in a moment");
        let alerts = self.alerts(file).await?;
        let snapshot = self.changes.snapshot();
        let revision = snapshot.history.newest;
        let manifest = Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            created_ms: now_ms(),
            revision,
            alerts: alerts.is_some(),
        };
        let mut archive = Archive::new(file)?;
        archive.line(&Line::Archive(manifest))?;
        let (this, store) = (self.clone(), snapshot.history.store);
        let mut archive = tokio::task::spawn_blocking(move || {
            for revision in 1..=revision {
                let record = store.record(revision)?;
                let record = record
                    .with_context(|| format!("revision {revision} is not kept here: ask another replica"))?;
                archive.line(&Line::Change { record })?;
            }
            for (agent, record) in this.hosts() {
                archive.line(&Line::Host { agent, host: serde_json::to_value(record)? })?;
            }
            let used = this.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for (id, at_ms) in used {
                archive.line(&Line::KeyUsed { id, at_ms })?;
            }
            anyhow::Ok(archive)
        })
        .await??;
        audit_log::read(&self.ctx, |event| archive.line(&Line::Audit { event })).await?;
        tokio::task::spawn_blocking(move || {
            if let Some(alerts) = alerts {
                for line in BufReader::new(File::open(&alerts)?).lines() {
                    archive.line(&serde_json::from_str(&line?)?)?;
                }
                fs::remove_file(alerts)?;
            }
            archive.end()
        })
        .await??;
        Ok(revision)
    }

    fn hosts(&self) -> Vec<(AgentId, HostRecord)> {
        let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
        let agents = model.agents().into_iter();
        agents.filter_map(|agent| model.record(&agent).cloned().map(|record| (agent, record))).collect()
    }

    /// What the alerter remembers, in a file. `None`: there is no alerter.
    async fn alerts(&self, file: &Path) -> anyhow::Result<Option<PathBuf>> {
        let path = file.with_extension("alerts");
        let mut alerts = BufWriter::new(private_file(&path)?);
        match transfer::fetch(&self.ctx.nats, subject::ALERTER_BACKUP, &mut alerts).await {
            Ok(()) => {
                alerts.flush()?;
                Ok(Some(path))
            }
            Err(error) => {
                fs::remove_file(&path)?;
                match error.downcast_ref::<RequestError>() {
                    Some(RequestError::NoResponder { .. }) => Ok(None),
                    _ => Err(error.context("what the alerter remembers cannot be had")),
                }
            }
        }
    }
}

/// A file that becomes an archive.
struct Archive {
    file: BufWriter<File>,
    writer: Writer,
}

impl Archive {
    fn new(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { file: BufWriter::new(private_file(path)?), writer: Writer::default() })
    }

    fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        Ok(self.file.write_all(&self.writer.line(line)?)?)
    }

    fn end(mut self) -> anyhow::Result<()> {
        self.file.write_all(&self.writer.end()?)?;
        Ok(self.file.flush()?)
    }
}
