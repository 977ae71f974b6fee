//! An archive in the place of what there is.
//!
//! It is looked at whole before anything is written. Then it becomes a file of the data folder with an order beside it,
//! and from that moment on it will be put in place, whatever happens: each step is repeated until it succeeds, over
//! restarts too, and the order says which ones are done. Until documents, keys and hosts are in place nothing is
//! answered; agents go on with what they have.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use protocol::{
    ErrorCode, ErrorReply, VERSION,
    admin::Role,
    archive::{Check, Contents, LINE, Line, RestoreQuery, RestoreRequest, RestoreState},
    audit::AuditOutcome,
    log::LogRecord,
    subject, timestamp,
    transfer::{TransferEnd, TransferEnded},
};
use serde::{Deserialize, Serialize};
use service_kit::{
    Context,
    audit::Audit,
    files::{sync_folder, write_private},
    now_ms, report, request, respond,
    transfer::{self, Incoming, private_file},
};
use tokio::sync::Notify;

use crate::{
    changes::{Changes, Snapshot, replace::Inventory, replace::Records},
    core::model::Model,
    outbound::audit_log,
    random,
};

/// How long an archive may be looked at, or the alerter may take for its part.
const DEADLINE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);
/// Revisions that are passed over, at most.
const PASSED_OVER: u64 = 100_000;
/// In front of the names of files that are brought.
const PREFIX: &str = "restore-in-";
const ARCHIVE: &str = "restore.archive";
const ORDER: &str = "restore.order";
/// The audit log of before.
const AUDIT: &str = "restore.audit";
/// The alerter's part.
const ALERTS: &str = "restore.alerts";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Changes,
    Alerts,
    Audit,
}

/// What is to be done with the archive, and what of it is left.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    /// Random: part of the ids of the revisions that are passed over.
    id: String,
    /// The newest revision afterwards.
    revision: u64,
    contents: Contents,
    actor: String,
    at_ms: u64,
    next: Step,
}

#[derive(Clone)]
pub(crate) struct Restore {
    pub(crate) ctx: Context,
    pub(crate) model: Arc<RwLock<Model>>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) used: Arc<Mutex<BTreeMap<String, u64>>>,
    pub(crate) audit: Audit,
    pub(crate) folder: PathBuf,
    pub(crate) max_hosts: usize,
    pub(crate) state: Arc<Mutex<RestoreState>>,
    pub(crate) wake: Arc<Notify>,
}

impl Restore {
    /// Hold back everything when an archive is still to be put in place. To be called before anything is answered.
    ///
    /// # Errors
    /// When the order of one cannot be read.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        if self.path(ARCHIVE).exists() {
            self.state().running = true;
            if self.order()?.next == Step::Changes {
                self.changes.hold();
            }
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Take archives in until the service stops.
    ///
    /// # Errors
    /// When a subscription cannot be made.
    pub(crate) async fn serve(self) -> anyhow::Result<()> {
        let ctx = self.ctx.clone();
        let incoming = transfer::take_in(&ctx, subject::ADMIN_RESTORE, (&self.folder, PREFIX)).await?;
        let end = subject::transfer_end(subject::ADMIN_RESTORE, incoming.replica());
        let limits = respond::Limits { concurrency: 1, deadline: 2 * DEADLINE };
        let this = self.clone();
        respond::respond(&ctx, &end, limits, move |_, request| {
            let (this, incoming) = (this.clone(), incoming.clone());
            async move { this.accept(&incoming, request).await }
        })
        .await?;
        let this = self.clone();
        let limits = respond::Limits::default();
        respond::respond(&ctx, subject::ADMIN_RESTORE_STATE, limits, move |_, _: RestoreQuery| {
            let revision = this.changes.snapshot().history.newest;
            let state = RestoreState { revision, ..this.state().clone() };
            std::future::ready(Ok(state))
        })
        .await?;
        let token = ctx.tasks.token();
        ctx.tasks.spawn("restore", async move {
            loop {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = token.cancelled() => return Ok(()),
                }
                self.until_done(&token).await;
                if token.is_cancelled() {
                    return Ok(());
                }
            }
        });
        Ok(())
    }

    async fn until_done(&self, token: &tokio_util::sync::CancellationToken) {
        let condition = format!("{} restore", self.ctx.name);
        loop {
            let outcome = tokio::select! {
                outcome = self.go_on() => outcome,
                () = token.cancelled() => return,
            };
            let Err(error) = outcome else {
                self.ctx.ready.met(&condition);
                *self.state() = RestoreState::default();
                return;
            };
            let reason = report(error.as_ref());
            if self.state().waits_for.replace(reason.clone()).as_ref() != Some(&reason) {
                tracing::error!(
                    reason,
                    "the archive cannot be put in place yet and is tried again and again"
                );
            }
            self.ctx.ready.unmet(&condition, reason);
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = token.cancelled() => return,
            }
        }
    }

    /// Look at an archive, and decide that it is put in place.
    async fn accept(&self, incoming: &Incoming, request: RestoreRequest) -> Result<RestoreState, ErrorReply> {
        let conflict = |message: String| Err(ErrorReply::new(ErrorCode::Conflict, message));
        let file = incoming.file(&request.transfer)?;
        if self.state().running {
            return conflict("another archive is being put in place: wait for its end".to_owned());
        }
        self.changes.answerable()?;
        let alerts = self.path(ALERTS);
        let (looked_at, part) = (file.clone(), alerts.clone());
        let contents = blocking(move || look(&looked_at, &part)).await;
        let contents = contents.map_err(|error| ErrorReply::invalid(report(error.as_ref())))?;
        let snapshot = self.changes.snapshot();
        let hosts = self.model.read().unwrap_or_else(PoisonError::into_inner).host_count();
        if let (Some(what), false) = (occupied(&snapshot, hosts), request.replace) {
            return conflict(format!(
                "this installation is not empty, it has {what}: restore into a new one, or say --replace to lose that"
            ));
        }
        let least = request.newest.unwrap_or(0).max(snapshot.next());
        let revision = contents.manifest.revision.max(least);
        if revision.saturating_sub(contents.manifest.revision) > PASSED_OVER {
            let message = format!("that is more than {PASSED_OVER} revisions beyond those of the archive");
            return Err(ErrorReply::invalid(message).at("newest"));
        }
        let unavailable = |error: anyhow::Error| {
            let message = format!("nothing was changed: {}", report(error.as_ref()));
            ErrorReply::new(ErrorCode::Unavailable, message)
        };
        if contents.manifest.alerts {
            let refused = "the alerter cannot take its part";
            self.bring_alerts(true).await.context(refused).map_err(unavailable)?;
        }
        self.keep_audit().await.map_err(unavailable)?;
        let id = random::hex(16).map_err(|error| unavailable(error.into()))?;
        let (actor, at_ms) = (request.actor, now_ms());
        let order = Order { id, revision, contents, actor, at_ms, next: Step::Changes };
        let this = self.clone();
        blocking(move || this.commit(&file, &order)).await.map_err(unavailable)?;
        *self.state() = RestoreState { running: true, waits_for: None, revision: 0 };
        self.changes.hold();
        self.wake.notify_one();
        tracing::warn!(revision, "an archive takes the place of all documents, keys and hosts");
        Ok(RestoreState { running: true, waits_for: None, revision })
    }

    /// From here on it happens.
    fn commit(&self, file: &Path, order: &Order) -> anyhow::Result<()> {
        write_private(&self.path(ORDER), &protocol::encode(order)?)?;
        File::open(file)?.sync_all()?;
        fs::rename(file, self.path(ARCHIVE))?;
        Ok(sync_folder(&self.folder)?)
    }

    fn order(&self) -> anyhow::Result<Order> {
        let path = self.path(ORDER);
        let order = fs::read(&path).map_err(anyhow::Error::from);
        order.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)).with_context(|| {
            format!("{} cannot be read: remove it and {ARCHIVE} beside it, and restore again", path.display())
        })
    }

    /// The steps that are left.
    async fn go_on(&self) -> anyhow::Result<()> {
        let this = self.clone();
        let mut order = blocking(move || this.order()).await?;
        if order.next == Step::Changes {
            let this = self.clone();
            let inventory = blocking(move || inventory(&this.path(ARCHIVE))).await?;
            let used = inventory.used.clone();
            order.next = Step::Alerts;
            let records = || records(&self.path(ARCHIVE), &order);
            let done = || Ok(write_private(&self.path(ORDER), &protocol::encode(&order)?)?);
            self.changes.replace(records, inventory, self.max_hosts, done).await?;
            *self.used.lock().unwrap_or_else(PoisonError::into_inner) = used;
        }
        if order.next == Step::Alerts {
            if order.contents.manifest.alerts {
                let this = self.clone();
                blocking(move || look(&this.path(ARCHIVE), &this.path(ALERTS))).await?;
                self.bring_alerts(false).await.context("the alerter cannot take its part")?;
            }
            order.next = Step::Audit;
            write_private(&self.path(ORDER), &protocol::encode(&order)?)?;
        }
        let audit = lines(&self.path(ARCHIVE))?.chain(lines(&self.path(AUDIT))?);
        audit_log::replace(&self.ctx, audit).await?;
        let this = self.clone();
        blocking(move || this.clear()).await?;
        let Order { contents, actor, revision, .. } = order;
        let made = timestamp::format(contents.manifest.created_ms);
        let detail =
            format!("an archive of {made} with {} changes; now at revision {revision}", contents.changes);
        self.audit.tell_each(&actor, None, "restore", AuditOutcome::Done, &detail);
        tracing::warn!(revision, "the archive is in place");
        Ok(())
    }

    /// The archive goes first: without it the rest means nothing.
    fn clear(&self) -> anyhow::Result<()> {
        for name in [ARCHIVE, ORDER, AUDIT, ALERTS] {
            match fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(sync_folder(&self.folder)?)
    }

    /// Bring the alerter its part, to look at or to take.
    async fn bring_alerts(&self, look: bool) -> anyhow::Result<()> {
        let client = &self.ctx.nats;
        let mut file = File::open(self.path(ALERTS))?;
        let transfer = transfer::bring(client, subject::ALERTER_RESTORE, &mut file).await?;
        let end = subject::transfer_end(subject::ALERTER_RESTORE, transfer.replica());
        let request = TransferEnd { transfer, look };
        let _: TransferEnded = request::request(client, &end, &request, DEADLINE).await?;
        Ok(())
    }

    /// Keep what the audit log says so far.
    async fn keep_audit(&self) -> anyhow::Result<()> {
        let mut file = BufWriter::new(private_file(&self.path(AUDIT))?);
        audit_log::read(&self.ctx, |event| {
            serde_json::to_writer(&mut file, &Line::Audit { event })?;
            Ok(file.write_all(b"\n")?)
        })
        .await?;
        file.flush()?;
        Ok(file.get_ref().sync_all()?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, RestoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// What a new installation does not have. A key that it was given at its start counts for nothing.
fn occupied(snapshot: &Snapshot, hosts: usize) -> Option<String> {
    let keys = snapshot.keys.values().filter(|key| key.role != Role::Admin).count();
    let counts = [
        (snapshot.documents.len(), "documents"),
        (hosts, "hosts"),
        (keys, "keys that are not of role admin"),
        (snapshot.sign_ins.infos().len(), "tokens"),
    ];
    let found: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// Each line as it stands in the file, its end included.
fn raw_lines(path: &Path) -> std::io::Result<impl Iterator<Item = std::io::Result<Vec<u8>>> + Send + use<>> {
    let mut reader = BufReader::new(File::open(path)?);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE as u64).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    }))
}

/// The lines of a file that was looked at.
fn lines(path: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>> + Send + use<>> {
    Ok(raw_lines(path)?.map(|line| Ok(serde_json::from_slice(&line?)?)))
}

/// Whether an archive is whole and can be understood to its last line. The alerter's part goes to `alerts`.
fn look(path: &Path, alerts: &Path) -> anyhow::Result<Contents> {
    let mut check = Check::default();
    let mut alerts = BufWriter::new(private_file(alerts)?);
    for line in raw_lines(path)? {
        let line = line?;
        match check.line(&line)? {
            Line::Host { agent, host } => {
                serde_json::from_value::<crate::core::model::HostRecord>(host)
                    .with_context(|| format!("the host {agent} of the archive cannot be understood"))?;
            }
            Line::Alerter { .. } => alerts.write_all(&line)?,
            _ => {}
        }
    }
    alerts.flush()?;
    Ok(check.end()?)
}

fn inventory(path: &Path) -> anyhow::Result<Inventory> {
    let mut inventory = Inventory::default();
    for line in lines(path)? {
        match line? {
            Line::Host { agent, host } => inventory.hosts.push((agent, serde_json::from_value(host)?)),
            Line::KeyUsed { id, at_ms } => drop(inventory.used.insert(id, at_ms)),
            _ => {}
        }
    }
    Ok(inventory)
}

/// The changes of the archive, and behind them the revisions that are passed over: no revision that agents may have
/// seen is given a second time.
fn records(path: &Path, order: &Order) -> anyhow::Result<Records> {
    let changes = lines(path)?.filter_map(|line| match line {
        Ok(Line::Change { record }) => Some(Ok(record)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    let Order { id, revision, contents, actor, at_ms, .. } = order.clone();
    let empty = (contents.manifest.revision + 1..=revision).map(move |revision| {
        Ok(LogRecord {
            v: VERSION,
            id: format!("{id}-{revision}"),
            revision,
            at_ms,
            actor: actor.clone(),
            message: "restored from an archive".to_owned(),
            changes: Vec::new(),
        })
    });
    Ok(Box::new(changes.chain(empty)))
}

#[cfg(test)]
mod tests {
    use protocol::archive::{FORMAT, Manifest, Writer};

    use super::*;

    #[test]
    fn an_archive_with_a_host_that_cannot_be_understood_is_refused_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (path, alerts) = (folder.path().join("a"), folder.path().join("b"));
        let write = |host: serde_json::Value| {
            let mut writer = Writer::default();
            let version = String::new();
            let manifest = Manifest { format: FORMAT, version, created_ms: 1, revision: 0, alerts: true };
            let agent = protocol::AgentId::new("web-01").unwrap();
            let value = serde_json::json!({});
            let (table, key) = ("silences".to_owned(), "00".to_owned());
            let mut bytes = writer.line(&Line::Archive(manifest)).unwrap();
            bytes.extend(writer.line(&Line::Host { agent, host }).unwrap());
            bytes.extend(writer.line(&Line::Alerter { table, key, value }).unwrap());
            bytes.extend(writer.end().unwrap());
            fs::write(&path, bytes).unwrap();
        };
        let record = serde_json::to_value(crate::core::model::HostRecord::default()).unwrap();
        write(record);
        let contents = look(&path, &alerts).unwrap();
        assert_eq!((contents.hosts, contents.alerter), (1, 1));
        assert_eq!(lines(&alerts).unwrap().count(), 1);
        assert_eq!(inventory(&path).unwrap().hosts.len(), 1);
        write(serde_json::json!({"facts": 5}));
        let error = report(look(&path, &alerts).unwrap_err().as_ref());
        assert!(error.contains("the host web-01 of the archive cannot be understood"), "{error}");
    }

    #[test]
    fn revisions_that_agents_may_have_seen_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"").unwrap();
        let version = String::new();
        let manifest = protocol::archive::Manifest {
            format: FORMAT,
            version,
            created_ms: 1,
            revision: 3,
            alerts: false,
        };
        let contents = Contents { manifest, changes: 3, hosts: 0, audit: 0, alerter: 0 };
        let (id, actor) = ("x".to_owned(), String::new());
        let order = Order { id, revision: 5, contents, actor, at_ms: 1, next: Step::Changes };
        let all: Vec<_> = records(&path, &order).unwrap().map(|record| record.unwrap()).collect();
        assert_eq!(all.iter().map(|record| record.revision).collect::<Vec<_>>(), [4, 5]);
        let again: Vec<_> = records(&path, &order).unwrap().map(|record| record.unwrap()).collect();
        assert_eq!(all, again);
    }
}
