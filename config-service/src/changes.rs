//! The way of a change: planned on the newest state, appended to stream CONFIG, folded into the store and the model,
//! then answered. And the way back: whichever of stream and store is behind is healed from the other.

pub(crate) mod replace;

use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::StreamExt;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use protocol::{
    AgentId, ErrorCode, ErrorReply, VERSION,
    log::{LogChange, LogRecord},
    rollout::Rollout,
};
use service_kit::{Context, now_ms, report};

use crate::{
    core::{
        model::Keys, model::Model, model::Touched, plan::Documents, rollouts::Before, sign_in::SignIns,
        signing::Signed,
    },
    history::History,
    inventory::Pending,
    outbound::{
        log::{Appended, Entry, Log, LogError},
        nudge,
    },
    random,
    store::{self, Position, Store, StoreError},
};

/// How often a change is planned anew because another replica was first.
const ATTEMPTS: usize = 8;
/// Records folded in one step.
const BATCH: usize = 256;
/// Hosts resolved anew without letting go of the model.
const HOSTS_AT_ONCE: usize = 256;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "stream CONFIG lacks the revisions {from} to {to}, and so does the store here: start the replica that has them"
    )]
    Gap { from: u64, to: u64 },
    #[error(
        "the change is in stream CONFIG as revision {revision} and takes effect by itself, do not make it again"
    )]
    Later { revision: u64, source: StoreError },
    /// Somebody appends all the time.
    #[error("other replicas change too much at once: try again")]
    Busy,
    #[error("an archive is being put in place: see `dogwatch restore --state`")]
    Held,
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<SyncError> for ErrorReply {
    fn from(error: SyncError) -> Self {
        let (code, what) = match error {
            SyncError::Internal(_) => (ErrorCode::Internal, "no change is possible now"),
            SyncError::Later { .. } => (ErrorCode::Unavailable, "accepted, but not in force yet"),
            _ => (ErrorCode::Unavailable, "no change is possible now"),
        };
        Self::new(code, format!("{what}: {}", report(&error)))
    }
}

/// What a change is planned on.
pub(crate) struct Snapshot {
    pub(crate) documents: Arc<Documents>,
    pub(crate) signed: Arc<Signed>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) sign_ins: Arc<SignIns>,
    pub(crate) history: History,
    /// The open rollout, and the documents before it.
    pub(crate) rollout: Option<(Rollout, Before)>,
}

impl Snapshot {
    /// The revision that a change planned on this becomes.
    pub(crate) fn next(&self) -> u64 {
        self.history.newest + 1
    }
}

/// Model, store and log as one.
pub(crate) struct Changes {
    ctx: Context,
    store: Arc<Store>,
    model: Arc<RwLock<Model>>,
    pending: Arc<Pending>,
    /// One change, or one look at the stream, at a time.
    turn: tokio::sync::Mutex<()>,
    position: Mutex<Position>,
    /// Whether the stream was read at least once: before that an empty store says nothing.
    synced: AtomicBool,
    /// What is here is about to be replaced: nothing is answered from it, and nothing changes.
    held: AtomicBool,
    /// Place of the last message in the stream that was told to be no change.
    told: AtomicU64,
    metrics: Metrics,
}

#[derive(Default)]
struct Metrics {
    accepted: Counter,
    foreign: Counter,
    republished: Counter,
    discarded: Counter,
    revision: Gauge,
}

impl Metrics {
    fn new(ctx: &Context) -> Self {
        let metrics = Self::default();
        ctx.metrics.register(ctx.name, |registry| {
            registry.register("changes", "Changes accepted by this replica", metrics.accepted.clone());
            registry.register(
                "log_foreign",
                "Messages of stream CONFIG that are no change and were passed over",
                metrics.foreign.clone(),
            );
            registry.register(
                "log_republished",
                "Changes that the broker had lost and got back",
                metrics.republished.clone(),
            );
            registry.register(
                "log_discarded",
                "Changes dropped because the stream has another history",
                metrics.discarded.clone(),
            );
            registry.register("revision", "Newest revision", metrics.revision.clone());
        });
        metrics
    }
}

impl Changes {
    pub(crate) fn new(
        ctx: &Context,
        store: Arc<Store>,
        model: Arc<RwLock<Model>>,
        pending: Arc<Pending>,
        position: Position,
    ) -> Self {
        Self {
            ctx: ctx.clone(),
            store,
            model,
            pending,
            turn: tokio::sync::Mutex::default(),
            position: Mutex::new(position),
            synced: AtomicBool::new(false),
            held: AtomicBool::new(false),
            told: AtomicU64::new(0),
            metrics: Metrics::new(ctx),
        }
    }

    /// Whether the state here may be answered from.
    pub(crate) fn known(&self) -> bool {
        !self.held.load(Ordering::Relaxed)
            && (self.synced.load(Ordering::Relaxed) || self.position().revision > 0)
    }

    /// # Errors
    /// `unavailable` while it may not.
    pub(crate) fn answerable(&self) -> Result<(), ErrorReply> {
        if self.known() {
            return Ok(());
        }
        let message = "stream CONFIG was not read yet: ask again in a moment";
        Err(ErrorReply::new(ErrorCode::Unavailable, message))
    }

    /// Whether a key with this hash exists, be it revoked.
    pub(crate) fn knows_key(&self, hash: &str) -> bool {
        self.snapshot().keys.values().any(|key| key.hash == hash)
    }

    /// Bring stream and store together.
    ///
    /// # Errors
    /// [`SyncError`] when one of them is away, or neither has all.
    pub(crate) async fn sync(&self) -> Result<(), SyncError> {
        let _turn = self.turn.lock().await;
        self.free()?;
        self.catch_up().await.map(|_| ())
    }

    /// # Errors
    /// [`SyncError::Held`].
    fn free(&self) -> Result<(), SyncError> {
        if self.held.load(Ordering::Relaxed) { Err(SyncError::Held) } else { Ok(()) }
    }

    /// Make a change. `plan` says what it is, and the answer to it; it is asked again when another replica was first.
    /// A plan without changes changes nothing. Done when the change is durable here and in the stream; it goes on to
    /// its end even if the caller no longer waits.
    ///
    /// # Errors
    /// The plan's own, or `unavailable`.
    pub(crate) async fn make<T, P>(
        self: &Arc<Self>,
        actor: String,
        message: String,
        plan: P,
    ) -> Result<(u64, T), ErrorReply>
    where
        T: Send + 'static,
        P: Fn(&Snapshot) -> Result<(Vec<LogChange>, T), ErrorReply> + Send + Sync + 'static,
    {
        let this = Arc::clone(self);
        let work = tokio::spawn(async move { this.attempt(actor, message, Arc::new(plan)).await });
        work.await.map_err(|error| SyncError::Internal(error.to_string()))?
    }

    async fn attempt<T, P>(
        &self,
        actor: String,
        message: String,
        plan: Arc<P>,
    ) -> Result<(u64, T), ErrorReply>
    where
        T: Send + 'static,
        P: Fn(&Snapshot) -> Result<(Vec<LogChange>, T), ErrorReply> + Send + Sync + 'static,
    {
        let _turn = self.turn.lock().await;
        self.free()?;
        for _ in 0..ATTEMPTS {
            let log = self.catch_up().await?;
            let (snapshot, plan) = (self.snapshot(), Arc::clone(&plan));
            let planned = blocking(move || plan(&snapshot)).await?;
            let (changes, answer) = planned?;
            let revision = self.position().revision;
            if changes.is_empty() {
                return Ok((revision, answer));
            }
            let id = random::hex(16).map_err(|error| SyncError::Internal(error.to_string()))?;
            let record = LogRecord {
                v: VERSION,
                id,
                revision: revision + 1,
                at_ms: now_ms(),
                actor: actor.clone(),
                message: message.clone(),
                changes,
            };
            // What does not fit on the disk is refused before it is in the stream.
            let store = Arc::clone(&self.store);
            let (record, room) = blocking(move || {
                let room = store.room_for(&record);
                (record, room)
            })
            .await?;
            if let Err(error) = room {
                // Its failure is what the readiness shows.
                self.pending.flush();
                return Err(SyncError::from(error).into());
            }
            match log.append(&record, log.last).await {
                Ok(Appended::At(sequence)) => {
                    self.fold(vec![(sequence, record)]).await.map_err(|error| match error {
                        SyncError::Store(source) => SyncError::Later { revision: revision + 1, source },
                        other => other,
                    })?;
                    self.metrics.accepted.inc();
                    return Ok((revision + 1, answer));
                }
                Ok(Appended::Conflict) => {}
                // It may be in the stream all the same.
                Err(error) => {
                    let id = record.id;
                    if self.catch_up().await.is_ok() && self.has(revision + 1, &id).await? {
                        self.metrics.accepted.inc();
                        return Ok((revision + 1, answer));
                    }
                    return Err(SyncError::Log(error).into());
                }
            }
        }
        Err(SyncError::Busy.into())
    }

    /// Fold what the store lacks; give the stream what it lost. Returns the log as it is then.
    async fn catch_up(&self) -> Result<Log, SyncError> {
        for _ in 0..ATTEMPTS {
            let log = Log::open(self.ctx.jetstream()).await?;
            let position = self.position();
            let ours = self.is_ours(&log, &position).await?;
            let (from, newest) =
                if ours { (position.sequence + 1, position.revision) } else { (log.first, 0) };
            let Some(newest) = self.read(&log, from, newest).await? else {
                // Another history, which holds from now on: read it from its beginning.
                self.discard(&position).await?;
                continue;
            };
            if newest == self.position().revision {
                if !self.synced.swap(true, Ordering::Relaxed) {
                    tracing::info!(revision = newest, "in step with stream CONFIG");
                }
                return Ok(log);
            }
            self.republish(&log, newest).await?;
        }
        Err(SyncError::Busy)
    }

    /// Whether the stream holds our last record where we know it. If not, it was wiped, cut or replaced.
    async fn is_ours(&self, log: &Log, position: &Position) -> Result<bool, SyncError> {
        if position.revision == 0 || position.sequence > log.last {
            return Ok(position.revision == 0 && position.sequence <= log.last);
        }
        let entry = log.get(position.sequence).await?;
        Ok(matches!(entry, Entry::Record(record) if record.id == position.id))
    }

    /// Read the stream from `from` on, before which it holds revisions up to `newest`, and fold what is new. The newest
    /// revision that it holds; `None` when it tells another history than the store.
    async fn read(&self, log: &Log, from: u64, mut newest: u64) -> Result<Option<u64>, SyncError> {
        // A stream that is shorter than it was is another one.
        self.told.fetch_min(log.last, Ordering::Relaxed);
        let mut next = self.position().revision + 1;
        let mut batch = Vec::new();
        let mut moved = None;
        let mut entries = std::pin::pin!(log.from(from));
        while let Some((sequence, entry)) = entries.next().await {
            let record = match entry? {
                Entry::Record(record) => record,
                Entry::Missing => continue,
                Entry::Foreign(reason) => {
                    // It is read again until a change follows it.
                    if self.told.fetch_max(sequence, Ordering::Relaxed) < sequence {
                        self.metrics.foreign.inc();
                        tracing::error!(
                            sequence,
                            reason,
                            "a message in stream CONFIG is no change, passed over"
                        );
                    }
                    continue;
                }
            };
            newest = newest.max(record.revision);
            if record.revision < next {
                if !self.has(record.revision, &record.id).await? {
                    return Ok(None);
                }
                moved = Some(store::position(sequence, &record));
            } else if record.revision == next {
                next += 1;
                batch.push((sequence, record));
                if batch.len() == BATCH {
                    self.fold(std::mem::take(&mut batch)).await?;
                }
            } else {
                return Err(SyncError::Gap { from: next, to: record.revision - 1 });
            }
        }
        if batch.is_empty() {
            if let Some(moved) = moved.filter(|moved| moved.revision == self.position().revision) {
                let (store, position) = (Arc::clone(&self.store), moved.clone());
                blocking(move || store.set_position(&position)).await??;
                self.set_position(moved);
            }
        } else {
            self.fold(batch).await?;
        }
        Ok(Some(newest))
    }

    /// Give the stream the records after `newest` from the store's copy.
    async fn republish(&self, log: &Log, newest: u64) -> Result<(), SyncError> {
        let own = self.position().revision;
        tracing::warn!(
            from = newest + 1,
            to = own,
            "the broker lost changes of stream CONFIG: giving them back"
        );
        let mut last = log.last;
        for revision in newest + 1..=own {
            let store = Arc::clone(&self.store);
            let Some(record) = blocking(move || store.record(revision)).await?? else {
                return Err(SyncError::Gap { from: revision, to: own });
            };
            match log.append(&record, last).await? {
                Appended::At(sequence) => {
                    last = sequence;
                    self.metrics.republished.inc();
                }
                // Another replica heals it too; look again.
                Appended::Conflict => return Ok(()),
            }
        }
        Ok(())
    }

    /// The stream is the truth that all replicas share: a store with another history gives way, loudly.
    async fn discard(&self, position: &Position) -> Result<(), SyncError> {
        tracing::error!(
            revision = position.revision,
            "stream CONFIG has another history than the store here: the store is rebuilt from the stream"
        );
        self.metrics.discarded.inc_by(position.revision);
        // Until the other history is read nothing is known: an empty configuration would stop every check.
        self.synced.store(false, Ordering::Relaxed);
        let (store, model) = (Arc::clone(&self.store), Arc::clone(&self.model));
        blocking(move || {
            store.forget_log()?;
            model.write().unwrap_or_else(PoisonError::into_inner).forget_log();
            Ok::<_, StoreError>(())
        })
        .await??;
        self.set_position(Position::default());
        Ok(())
    }

    /// Store, then model, then the nudges.
    async fn fold(&self, records: Vec<(u64, LogRecord)>) -> Result<(), SyncError> {
        let Some((sequence, last)) = records.last() else { return Ok(()) };
        let position = store::position(*sequence, last);
        let (store, model) = (Arc::clone(&self.store), Arc::clone(&self.model));
        let changed = blocking(move || {
            let sign_ins = Arc::clone(&model.read().unwrap_or_else(PoisonError::into_inner).sign_ins);
            let kept = sign_ins.effects(records.iter().map(|(_, record)| record));
            drop(sign_ins);
            store.commit(&records, &kept)?;
            let write = || model.write().unwrap_or_else(PoisonError::into_inner);
            let mut touched = Touched::default();
            records.iter().for_each(|(_, record)| write().fold(record, &mut touched));
            let affected = write().affected(&touched);
            // Between the portions agents get their answers.
            let changed =
                affected.chunks(HOSTS_AT_ONCE).flat_map(|agents| write().refresh(agents, &mut touched));
            Ok::<_, StoreError>(changed.collect::<Vec<_>>())
        })
        .await??;
        let revision = position.revision;
        self.set_position(position);
        self.tell(revision, &changed).await;
        Ok(())
    }

    /// Nudge hosts, and keep what changed for them.
    pub(crate) async fn tell(&self, revision: u64, changed: &[AgentId]) {
        for agent in changed {
            self.pending.host(agent.clone());
        }
        nudge::nudge(&self.ctx.nats, revision, changed).await;
    }

    async fn has(&self, revision: u64, id: &str) -> Result<bool, SyncError> {
        let store = Arc::clone(&self.store);
        let record = blocking(move || store.record(revision)).await??;
        Ok(record.is_some_and(|record| record.id == id))
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
        let history = History { store: Arc::clone(&self.store), newest: model.revision };
        let rollout = model.open_rollout();
        Snapshot {
            documents: Arc::clone(&model.documents),
            signed: Arc::clone(&model.signed),
            keys: Arc::clone(&model.keys),
            sign_ins: Arc::clone(&model.sign_ins),
            history,
            rollout,
        }
    }

    fn position(&self) -> Position {
        self.position.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_position(&self, position: Position) {
        self.metrics.revision.set(i64::try_from(position.revision).unwrap_or(i64::MAX));
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SyncError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| SyncError::Internal(error.to_string()))
}
