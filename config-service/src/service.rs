//! The config-service, wired.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::StreamExt;
use prometheus_client::metrics::gauge::Gauge;
use protocol::{AgentId, ErrorCode, ErrorReply, log::KeyRecord, log::LogChange, subject};
use service_kit::{Context, audit::Audit, now_ms, report};

use crate::{
    backup::Backup,
    changes::Changes,
    core::{
        keys,
        model::{HostRecord, Model},
        rollouts::{Before, KeptRollouts},
        signing,
    },
    history::History,
    inbound::{
        access::Access,
        agents::Agents,
        callout::{self, Callout},
        operators::Operators,
    },
    inventory::{self, Pending},
    outbound::connections::Connections,
    restore::Restore,
    rollouts,
    settings::Settings,
    store::{Store, StoreError},
};

/// How long at most until a change that another replica made, and whose news was lost, is noticed.
const LOOK: Duration = Duration::from_secs(10);
/// While something is wrong with stream or store.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Start the service: returns once it answers. With the broker's JetStream away it answers from its store, and
/// changes are refused until JetStream is back.
///
/// # Errors
/// When the store cannot be opened, the admin key file cannot be read, or subscriptions cannot be made.
pub async fn start(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let issuer = settings.issuer_seed_file.as_deref().map(callout::issuer).transpose()?;
    let connections = settings
        .system_nkey_file
        .clone()
        .map(|nkey_file| Connections { nats: settings.common.nats.clone(), nkey_file });
    let admin_key = settings.admin_key_file.as_deref().map(admin_key).transpose()?;
    let (data, folder, max_hosts) = (settings.data.clone(), settings.data.clone(), settings.max_hosts);
    let opened = tokio::task::spawn_blocking(move || open(&folder, max_hosts)).await?;
    let (store, Loaded { model, position, used, changed }) = opened?;
    let model = Arc::new(RwLock::new(model));
    let (pending, used) = (Arc::new(Pending::new()), Arc::new(Mutex::new(used)));
    let revision = position.revision;
    let changes = Changes::new(&ctx, Arc::clone(&store), Arc::clone(&model), Arc::clone(&pending), position);
    let changes = Arc::new(changes);

    spawn_inventory(&ctx, Arc::clone(&store), Arc::clone(&model), Arc::clone(&pending), Arc::clone(&used));
    if !changed.is_empty() {
        changes.tell(revision, &changed).await;
    }
    let audit = Audit::start(&ctx);
    let restore = Restore {
        ctx: ctx.clone(),
        model: Arc::clone(&model),
        changes: Arc::clone(&changes),
        used: Arc::clone(&used),
        audit: audit.clone(),
        folder: data.clone(),
        max_hosts,
        state: Arc::default(),
        wake: Arc::default(),
    };
    restore.prepare()?;
    let mut news = ctx.nats.subscribe(subject::CONFIG_LOG).await?;
    let follow = Follow {
        ctx: ctx.clone(),
        changes: Arc::clone(&changes),
        admin_key,
        audited: AtomicBool::new(false),
    };
    let mut in_step = follow.step().await;
    let token = ctx.tasks.token();
    ctx.tasks.spawn("stream CONFIG", async move {
        loop {
            tokio::select! {
                message = news.next() => anyhow::ensure!(message.is_some(), "the subscription ended"),
                () = tokio::time::sleep(if in_step { LOOK } else { LOOK_AGAIN }) => {}
                () = token.cancelled() => return Ok(()),
            }
            in_step = follow.step().await;
        }
    });

    rollouts::serve(&ctx, Arc::clone(&model), Arc::clone(&changes)).await?;
    Agents::new(&ctx, Arc::clone(&model), Arc::clone(&changes), Arc::clone(&pending)).serve(&ctx).await?;
    let access =
        Access { ctx: ctx.clone(), model: Arc::clone(&model), changes: Arc::clone(&changes), connections };
    access.serve(&ctx).await?;
    if let Some(issuer) = issuer {
        let (model, changes) = (Arc::clone(&model), Arc::clone(&changes));
        Callout { model, changes, audit: audit.clone(), issuer }.serve(&ctx).await?;
    }
    restore.serve().await?;
    let backup = Backup {
        ctx: ctx.clone(),
        model: Arc::clone(&model),
        changes: Arc::clone(&changes),
        used: Arc::clone(&used),
        audit,
    };
    backup.serve(&data).await?;
    Operators { model, changes, pending, used, machines: Arc::default() }.serve(&ctx).await
}

/// The key in the file, as it is kept.
fn admin_key(path: &Path) -> anyhow::Result<KeyRecord> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read --admin-key-file {name}: check the path and its permissions")
    })?;
    keys::bring(text.trim(), now_ms()).with_context(|| format!("--admin-key-file {name} is no key"))
}

/// What the store holds, ready to be answered from.
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) position: crate::store::Position,
    pub(crate) used: BTreeMap<String, u64>,
    /// Hosts that run something else than they were told before.
    pub(crate) changed: Vec<AgentId>,
}

fn open(folder: &Path, max_hosts: usize) -> anyhow::Result<(Arc<Store>, Loaded)> {
    let store = Arc::new(Store::open(folder)?);
    let loaded = load(&store, max_hosts)?;
    Ok((store, loaded))
}

/// # Errors
/// When the store cannot be read.
pub(crate) fn load(store: &Arc<Store>, max_hosts: usize) -> anyhow::Result<Loaded> {
    let mut loaded = store.load()?;
    if loaded.position.revision == 0 && !(loaded.documents.is_empty() && loaded.keys.is_empty()) {
        // A rebuild was cut short: the stream tells all of it again.
        store.forget_log()?;
        loaded = store.load()?;
    }
    let revision = loaded.position.revision;
    let open = loaded.rollouts.iter().find(|rollout| rollout.state.is_open()).map(|open| open.revision);
    let former = open.map(|rollout| {
        let history = History { store: Arc::clone(store), newest: revision };
        let before = rollout.saturating_sub(1);
        let known = history.documents_at("rollout", before).and_then(|documents| {
            let mut documents = documents;
            let mut signed = history.signed_at(before)?;
            // One that took the place of another stands behind what took that one back.
            let record = history.record(rollout)?;
            for change in record.changes {
                match change {
                    LogChange::RolloutPut { rollout: put } if put.revision == rollout => break,
                    LogChange::DocumentPut { document, signature } => {
                        let key = (document.kind(), document.name().to_owned());
                        match signing::signed(&document, signature.as_ref()) {
                            Some(one) => drop(signed.insert(key.clone(), one)),
                            None => drop(signed.remove(&key)),
                        }
                        documents.insert(key, document);
                    }
                    LogChange::DocumentDeleted { kind, name } => drop(documents.remove(&(kind, name))),
                    _ => {}
                }
            }
            signed.retain(|key, _| documents.contains_key(key));
            Ok((rollout, Before { documents: documents.into(), signed: signed.into() }))
        });
        known.context("what was there before a rollout is not known")
    });
    let rollouts = KeptRollouts { all: loaded.rollouts, former: former.transpose()? };
    let (mut model, mut changed) =
        Model::load(revision, loaded.documents, loaded.keys, loaded.hosts, rollouts, max_hosts);
    model.signed = loaded.signed.into();
    changed.extend(model.with_sign_ins(loaded.sign_ins));
    // Before the stream was read, an empty store says nothing about what a host is to run.
    let changed = if revision == 0 { Vec::new() } else { changed };
    Ok(Loaded { model, position: loaded.position, used: loaded.used, changed })
}

/// Keeps in step with the stream.
struct Follow {
    ctx: Context,
    changes: Arc<Changes>,
    admin_key: Option<KeyRecord>,
    /// Whether stream AUDIT is there.
    audited: AtomicBool,
}

impl Follow {
    /// Whether stream and store are in step.
    async fn step(&self) -> bool {
        let condition = format!("{} stream CONFIG", self.ctx.name);
        let outcome = match self.changes.sync().await {
            Ok(()) => match self.make_audit_log().await {
                Ok(()) => self.bring_admin_key().await,
                failed => failed,
            },
            Err(error) => Err(report(&error)),
        };
        match outcome {
            Ok(()) => self.ctx.ready.met(&condition),
            Err(ref reason) => {
                // Said once, not every second.
                let new = !self.ctx.ready.problems().iter().any(|p| *p == format!("{condition}: {reason}"));
                if new {
                    tracing::warn!(reason, "not in step with stream CONFIG; answering from the store");
                }
                self.ctx.ready.unmet(&condition, reason.clone());
            }
        }
        outcome.is_ok()
    }

    /// Whoever tells the audit log waits for its stream.
    async fn make_audit_log(&self) -> Result<(), String> {
        if !self.audited.load(Ordering::Relaxed) {
            crate::audit::stream(&self.ctx).await?;
            self.audited.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A key that was ever known, a revoked one too, stays as it is.
    async fn bring_admin_key(&self) -> Result<(), String> {
        let Some(key) = &self.admin_key else { return Ok(()) };
        if self.changes.knows_key(&key.hash) {
            return Ok(());
        }
        let key = key.clone();
        let plan = move |snapshot: &crate::changes::Snapshot| match snapshot.keys.get(&key.id) {
            Some(known) if known.hash != key.hash => {
                let message =
                    format!("the admin key of the file has the id {} of another key: make a new one", key.id);
                Err(ErrorReply::new(ErrorCode::Conflict, message))
            }
            Some(_) => Ok((Vec::new(), ())),
            None => Ok((vec![LogChange::KeyCreated { key: key.clone() }], ())),
        };
        let message = "the admin key given at the start".to_owned();
        self.changes.make(self.ctx.name.to_owned(), message, plan).await.map(|_| ()).map_err(|e| e.message)
    }
}

/// Writes the inventory: every few seconds, and at once when somebody waits for it.
fn spawn_inventory(
    ctx: &Context,
    store: Arc<Store>,
    model: Arc<RwLock<Model>>,
    pending: Arc<Pending>,
    used: Arc<Mutex<BTreeMap<String, u64>>>,
) {
    let hosts = Gauge::<i64>::default();
    ctx.metrics.register(ctx.name, |registry| {
        registry.register("hosts", "Hosts in the inventory", hosts.clone());
    });
    let (token, ready) = (ctx.tasks.token(), ctx.ready.clone());
    let condition = format!("{} store", ctx.name);
    ctx.tasks.spawn("store of the inventory", async move {
        let writer = Writer { store, model, pending, used };
        let mut failing = String::new();
        let mut seen = Instant::now();
        loop {
            tokio::select! {
                () = writer.pending.urgent(), if failing.is_empty() => {}
                () = tokio::time::sleep(if failing.is_empty() { inventory::INTERVAL } else { LOOK_AGAIN }) => {}
                () = token.cancelled() => {}
            }
            let stopping = token.is_cancelled();
            let with_times = stopping || seen.elapsed() >= inventory::SEEN_INTERVAL;
            if with_times {
                seen = Instant::now();
            }
            match writer.flush(with_times).await {
                Ok(()) => {
                    if !std::mem::take(&mut failing).is_empty() {
                        tracing::info!("the store can be written again");
                    }
                    ready.met(&condition);
                }
                Err(error) => {
                    let reason = report(error.as_ref());
                    if reason != failing {
                        tracing::error!(reason, "the inventory cannot be written and is tried again and again");
                    }
                    ready.unmet(&condition, reason.clone());
                    failing = reason;
                }
            }
            let count = writer.model.read().unwrap_or_else(PoisonError::into_inner).host_count();
            hosts.set(i64::try_from(count).unwrap_or(i64::MAX));
            if stopping {
                writer.pending.close();
                return Ok(());
            }
        }
    });
}

struct Writer {
    store: Arc<Store>,
    model: Arc<RwLock<Model>>,
    pending: Arc<Pending>,
    used: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Writer {
    async fn flush(&self, with_times: bool) -> anyhow::Result<()> {
        let _writing = self.pending.writing().await;
        let taken = self.pending.take();
        let seen = match with_times {
            true => self.model.write().unwrap_or_else(PoisonError::into_inner).unsaved_times(),
            false => Vec::new(),
        };
        let hosts: Vec<(AgentId, HostRecord)> = {
            let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
            taken
                .hosts
                .iter()
                .filter_map(|agent| Some((agent.clone(), model.record(agent)?.clone())))
                .collect()
        };
        let used: Vec<(String, u64)> = {
            let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            taken.keys.iter().filter_map(|id| Some((id.clone(), *used.get(id)?))).collect()
        };
        let store = Arc::clone(&self.store);
        let write = move || {
            // With nothing to write this still notices when a disk that was full has room again.
            let idle = hosts.is_empty() && used.is_empty() && seen.is_empty();
            if idle {
                store.check()?
            } else {
                store.write_hosts(&hosts, &used, &seen)?
            }
            Ok::<_, StoreError>(hosts)
        };
        let written = tokio::task::spawn_blocking(write).await.map_err(anyhow::Error::from);
        match written.and_then(|written| Ok(written?)) {
            Ok(hosts) => {
                let mut model = self.model.write().unwrap_or_else(PoisonError::into_inner);
                hosts.iter().for_each(|(agent, record)| model.saved(agent, record));
                drop(model);
                self.pending.done(taken.number);
                Ok(())
            }
            Err(error) => {
                self.pending.failed(taken, report(error.as_ref()));
                Err(error)
            }
        }
    }
}
