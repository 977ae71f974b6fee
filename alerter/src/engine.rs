//! The one owner of the alerts: decides by `core`, writes by `store`, and only then shows or sends anything.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use protocol::{
    AgentId, ReceiverName, SilenceName,
    alert::{Acknowledgement, Alert, AlertState},
    attend::{SilenceInfo, Told, Why},
    operate::Silence,
    query::AlertQuery,
};
use tokio::sync::Notify;

use crate::{
    core::{Alerts, Draft, HostInfo, Incoming, Mutes, RuleBook, World, mute::CompiledSilence},
    metrics::Metrics,
    store::{Delivery, Store, StoreError},
};

/// Most alerts in one answer.
const LISTED: usize = 5_000;
/// An agent that config-service did not know is asked for again after this time, in milliseconds.
const ASK_AGAIN_MS: u64 = 30_000;
/// Most agents asked for at once.
const ASKED_AT_ONCE: usize = 64;
/// The account of a settled notification is kept longer than the broker keeps the notification: 8 days, in milliseconds.
const SETTLED_KEPT_MS: u64 = 8 * DAY_MS;
/// A series of which nothing comes is forgotten after this time.
const SERIES_KEPT_MS: u64 = 2 * DAY_MS;
const DAY_MS: u64 = 86_400_000;

pub struct Engine {
    store: Arc<Store>,
    alerts: Alerts,
    /// What the store refused: it is written before anything else happens.
    unwritten: Option<Draft>,
    book: Arc<RuleBook>,
    hosts: HashMap<AgentId, HostInfo>,
    mutes: Mutes,
    /// Silences that were made by hand.
    by_hand: BTreeMap<SilenceName, Silence>,
    /// Hosts that were taken out of the inventory.
    gone: HashSet<AgentId>,
    /// Agents that config-service was asked for, and when.
    asked: HashMap<AgentId, u64>,
    freshness_ms: u64,
    started: Instant,
    metrics: Metrics,
    outbox: Arc<Notify>,
}

/// The world as an engine sees it. Not a method: the alerts change meanwhile.
macro_rules! world {
    ($engine:expr, $now_ms:expr) => {
        World {
            book: &$engine.book,
            hosts: &$engine.hosts,
            mutes: &$engine.mutes,
            now_ms: $now_ms,
            steady_ms: steady_ms($engine.started),
            freshness_ms: $engine.freshness_ms,
        }
    };
}

fn steady_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// # Errors
    /// When the alerts cannot be read from the store.
    pub fn new(
        store: Arc<Store>,
        freshness_ms: u64,
        metrics: Metrics,
        outbox: Arc<Notify>,
    ) -> Result<Self, StoreError> {
        let (alerts, by_hand) = kept(&store)?;
        let mut engine = Self {
            store,
            alerts,
            unwritten: None,
            book: Arc::default(),
            hosts: HashMap::new(),
            gone: HashSet::new(),
            mutes: Mutes::default(),
            by_hand,
            asked: HashMap::new(),
            freshness_ms,
            started: Instant::now(),
            metrics,
            outbox,
        };
        engine.compile_mutes();
        engine.count_alerts();
        Ok(engine)
    }

    /// Hand the store, with nothing unwritten, to whoever exports it.
    ///
    /// # Errors
    /// When the store cannot be written, or `export` fails.
    pub fn export(
        &mut self,
        export: impl FnOnce(&Store) -> anyhow::Result<()>,
        now_ms: u64,
    ) -> anyhow::Result<()> {
        self.evaluate(&[], now_ms)?;
        export(&self.store)
    }

    /// Go on from what the store holds now. Rules and hosts stay.
    ///
    /// # Errors
    /// When the alerts cannot be read from the store.
    pub fn reload(&mut self) -> Result<(), StoreError> {
        (self.alerts, self.by_hand) = kept(&self.store)?;
        self.unwritten = None;
        self.compile_mutes();
        self.count_alerts();
        self.outbox.notify_one();
        Ok(())
    }

    /// These hosts are no more: their alerts end, and nothing of them is judged.
    ///
    /// # Errors
    /// [`StoreError`]: to be said again.
    pub fn set_gone(&mut self, gone: HashSet<AgentId>, now_ms: u64) -> Result<(), StoreError> {
        self.commit(Draft::default())?;
        let draft = self.alerts.without_hosts(&gone, now_ms);
        self.hosts.retain(|agent, _| !gone.contains(agent));
        self.gone = gone;
        self.commit(draft)
    }

    #[must_use]
    pub fn is_gone(&self, agent: &AgentId) -> bool {
        self.gone.contains(agent)
    }

    /// Evaluate results; what follows from them is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it was sent, and it is written first when this is called again.
    pub fn evaluate(&mut self, batch: &[Incoming], now_ms: u64) -> Result<(), StoreError> {
        // What was refused goes first: this batch may be the one that it came from.
        self.commit(Draft::default())?;
        let draft = self.alerts.evaluate(&world!(self, now_ms), batch);
        self.metrics.results.inc_by(batch.len() as u64);
        self.commit(draft)
    }

    /// What the passing of time does: silence is noticed, and alerts that were muted are told.
    ///
    /// # Errors
    /// As [`Engine::evaluate`].
    pub fn tick(&mut self, now_ms: u64) -> Result<(), StoreError> {
        self.commit(Draft::default())?;
        let draft = self.alerts.tick(&world!(self, now_ms));
        self.commit(draft)
    }

    /// Whether results come as they are published, so that silence means something.
    pub fn watch(&mut self, watching: bool) {
        if watching {
            self.alerts.watch(steady_ms(self.started));
        } else {
            self.alerts.look_away();
        }
        self.metrics.watching.set(i64::from(watching));
    }

    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.alerts.is_watching()
    }

    /// Results that were judged before, for the windows of `book`.
    pub fn remember(&mut self, book: &RuleBook, batch: &[Incoming]) {
        self.alerts.remember(book, batch, steady_ms(self.started));
    }

    /// # Errors
    /// [`StoreError`]: the rules before are still in force.
    pub fn set_rules(&mut self, book: Arc<RuleBook>, now_ms: u64) -> Result<(), StoreError> {
        self.commit(Draft::default())?;
        let draft = self.alerts.without_rules(&book, now_ms);
        self.commit(draft)?;
        if book.revision != self.book.revision {
            self.alerts.forget_failing();
            for (rule, reason) in &book.broken {
                tracing::error!(%rule, reason, "a rule cannot be used: correct its expressions");
            }
        }
        self.metrics.rules.set(gauge(book.len() - book.broken.len()));
        self.metrics.rules_broken.set(gauge(book.broken.len()));
        self.metrics.rules_failing.set(gauge(self.alerts.failing()));
        self.book = book;
        self.compile_mutes();
        Ok(())
    }

    /// Silences of documents and of hands. One that cannot be compiled mutes nothing.
    fn compile_mutes(&mut self) {
        let mut silences = Vec::new();
        for silence in self.book.silences.iter().chain(self.by_hand.values()) {
            match CompiledSilence::new(silence.clone()) {
                Ok(compiled) => silences.push(compiled),
                Err(error) => tracing::error!(silence = %silence.name, %error, "a silence cannot be used"),
            }
        }
        self.metrics.silences.set(gauge(silences.len()));
        self.mutes = Mutes { silences };
    }

    pub fn set_hosts(&mut self, hosts: HashMap<AgentId, HostInfo>) {
        self.asked.clear();
        self.hosts = hosts;
        self.hosts.retain(|agent, _| !self.gone.contains(agent));
    }

    pub fn add_hosts(&mut self, hosts: impl IntoIterator<Item = (AgentId, HostInfo)>) {
        for (agent, host) in hosts {
            if self.gone.contains(&agent) {
                continue;
            }
            self.asked.remove(&agent);
            self.hosts.insert(agent, host);
        }
    }

    /// Agents of `batch` that rules concern and of which nothing is known, and that are to be asked for now.
    pub fn unknown_hosts(&mut self, batch: &[Incoming], now_ms: u64) -> Vec<AgentId> {
        let mut unknown = Vec::new();
        for Incoming { result, .. } in batch {
            let agent = &result.agent;
            if unknown.len() == ASKED_AT_ONCE {
                break;
            }
            if self.hosts.contains_key(agent) || self.book.of_check(&result.check).is_none() {
                continue;
            }
            if self.asked.get(agent).is_none_or(|asked| now_ms.abs_diff(*asked) > ASK_AGAIN_MS) {
                self.asked.insert(agent.clone(), now_ms);
                unknown.push(agent.clone());
            }
        }
        unknown
    }

    /// Alerts as they stand, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn list(&self, query: &AlertQuery) -> Result<Vec<Alert>, StoreError> {
        let wanted = |alert: &Alert| query.agent.as_ref().is_none_or(|agent| alert.agent == *agent);
        let mut alerts: Vec<Alert> = self.alerts.active().filter(|alert| wanted(alert)).cloned().collect();
        if query.resolved {
            alerts.extend(self.store.resolved()?.into_iter().map(|record| record.alert).filter(wanted));
        }
        alerts.sort_by(|a, b| b.at_ms.cmp(&a.at_ms).then_with(|| a.id.cmp(&b.id)));
        alerts.truncate(LISTED);
        Ok(alerts)
    }

    /// Forget what nothing depends on any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sweep(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let forgettable = self.alerts.forgettable(now_ms.saturating_sub(self.freshness_ms.saturating_mul(2)));
        self.store.forget(&forgettable, now_ms.saturating_sub(SETTLED_KEPT_MS))?;
        self.alerts.forget(&forgettable);
        self.alerts.forget_series(steady_ms(self.started).saturating_sub(SERIES_KEPT_MS));
        self.asked.retain(|_, asked| now_ms.abs_diff(*asked) <= ASK_AGAIN_MS);
        let over = |silence: &&Silence| silence.ends.is_some_and(|ends| ends.saturating_add(DAY_MS) < now_ms);
        let over: Vec<SilenceName> =
            self.by_hand.values().filter(over).map(|silence| silence.name.clone()).collect();
        if !over.is_empty() {
            self.store.remove_silences(&over)?;
            self.by_hand.retain(|name, _| !over.contains(name));
            self.compile_mutes();
        }
        Ok(())
    }

    /// Why an alert is as it is. `None`: there is none of that id, or several begin with it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn why(&self, id: &str) -> Result<Option<Why>, StoreError> {
        let active = self
            .alerts
            .tracker_of(id)
            .and_then(|(_, tracker)| Some((tracker.state.alert()?.clone(), tracker.journal.clone())));
        let found = match active {
            Some(found) => Some(found),
            None => {
                let mut fitting =
                    self.store.resolved()?.into_iter().filter(|record| record.alert.id.starts_with(id));
                fitting
                    .next()
                    .filter(|_| fitting.next().is_none())
                    .map(|record| (record.alert, record.journal))
            }
        };
        let Some((alert, journal)) = found else { return Ok(None) };
        let deliveries = self.store.deliveries_of(&alert.id)?;
        let notifications = deliveries.into_iter().map(|(id, delivery)| told(id, delivery)).collect();
        Ok(Some(Why { alert, journal, notifications }))
    }

    /// Somebody looks after an alert until `until_ms`; `None` takes that back. The alert, or `None`: there is none of that
    /// id that is pending or firing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn acknowledge(
        &mut self,
        id: &str,
        acknowledgement: Option<Acknowledgement>,
        now_ms: u64,
    ) -> Result<Option<Alert>, StoreError> {
        self.commit(Draft::default())?;
        let Some((alert, draft)) = self.alerts.acknowledge(id, acknowledgement, now_ms) else {
            return Ok(None);
        };
        self.commit(draft)?;
        Ok(Some(alert))
    }

    #[must_use]
    pub fn silences(&self, now_ms: u64) -> Vec<SilenceInfo> {
        let info = |compiled: &CompiledSilence| SilenceInfo {
            active: compiled.is_active(now_ms),
            document: !self
                .by_hand
                .get(&compiled.silence.name)
                .is_some_and(|silence| *silence == compiled.silence),
            silence: compiled.silence.clone(),
        };
        self.mutes.silences.iter().map(info).collect()
    }

    /// Whether a document has a silence of this name.
    #[must_use]
    pub fn is_in_documents(&self, name: &SilenceName) -> bool {
        self.book.silences.iter().any(|silence| silence.name == *name)
    }

    /// Number of silences made by hand.
    #[must_use]
    pub fn by_hand(&self) -> usize {
        self.by_hand.len()
    }

    #[must_use]
    pub fn silence(&self, name: &SilenceName) -> Option<&Silence> {
        self.by_hand.get(name)
    }

    /// Keep a silence that was made by hand; it is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: nothing changed.
    pub fn put_silence(&mut self, silence: Silence) -> Result<(), StoreError> {
        self.store.put_silence(&silence)?;
        self.by_hand.insert(silence.name.clone(), silence);
        self.compile_mutes();
        Ok(())
    }

    /// Make durable what changed. What is refused is kept and goes first the next time.
    fn commit(&mut self, draft: Draft) -> Result<(), StoreError> {
        self.report(&draft);
        let draft = match self.unwritten.take() {
            Some(mut earlier) => {
                earlier.extend(draft);
                earlier
            }
            None => draft,
        };
        if draft.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.store.commit(&draft) {
            self.unwritten = Some(draft);
            return Err(error);
        }
        for transition in &draft.transitions {
            let alert = &transition.alert;
            tracing::info!(agent = %alert.agent, rule = %alert.rule, id = alert.id, state = %alert.state, "alert");
        }
        self.metrics.transitions.inc_by(draft.transitions.len() as u64);
        self.count_alerts();
        self.outbox.notify_one();
        Ok(())
    }

    fn count_alerts(&self) {
        let count = |state| gauge(self.alerts.active().filter(|alert| alert.state == state).count());
        self.metrics.alerts_pending.set(count(AlertState::Pending));
        self.metrics.alerts_firing.set(count(AlertState::Firing));
        self.metrics.series.set(gauge(self.alerts.series()));
    }

    /// Each pair of rule and host is logged once, until it has an answer or the rules change.
    fn report(&self, draft: &Draft) {
        self.metrics.results_late.inc_by(draft.late);
        self.metrics.evaluations.inc_by(draft.evaluations);
        self.metrics.expression_errors.inc_by(draft.failures);
        self.metrics.dropped.inc_by(draft.dropped);
        for (key, error) in &draft.failed {
            tracing::warn!(agent = %key.agent, rule = %key.rule, %error, "a rule has no answer on this host");
        }
        self.metrics.rules_failing.set(gauge(self.alerts.failing()));
    }
}

/// What outlives a restart.
type Kept = (Alerts, BTreeMap<SilenceName, Silence>);

fn kept(store: &Store) -> Result<Kept, StoreError> {
    let silences = store.silences()?.into_iter().map(|silence| (silence.name.clone(), silence));
    Ok((Alerts::new(store.trackers()?), silences.collect()))
}

fn told(id: String, delivery: Delivery) -> Told {
    let receiver = id.rsplit(':').next().and_then(|name| ReceiverName::new(name).ok());
    let (state, at_ms, reason) = match delivery {
        Delivery::Waiting { .. } => ("waiting", None, None),
        Delivery::Delivered { at_ms, .. } => ("delivered", Some(at_ms), None),
        Delivery::GaveUp { at_ms, reason, .. } => ("gave_up", Some(at_ms), Some(reason)),
    };
    Told { id, receiver, state: state.to_owned(), at_ms, reason }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The engine as all tasks share it. It writes to disk, so every use runs on a blocking thread.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Engine>>);

impl Shared {
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self(Arc::new(Mutex::new(engine)))
    }

    /// # Errors
    /// When `work` panics or the runtime stops.
    pub async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> R + Send + 'static,
    ) -> anyhow::Result<R> {
        let engine = Arc::clone(&self.0);
        let locked = move || work(&mut engine.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(tokio::task::spawn_blocking(locked).await?)
    }
}
