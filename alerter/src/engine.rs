//! The one owner of the alerts: decides by `core`, writes by `store`, and only then shows or sends anything.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use protocol::{
    AgentId,
    alert::{Alert, AlertState},
    query::AlertQuery,
};
use tokio::sync::Notify;

use crate::{
    core::{AlertKey, Alerts, Draft, Incoming, RuleBook, evaluate::HostInfo},
    metrics::Metrics,
    store::{Store, StoreError},
};

/// Most alerts in one answer.
const LISTED: usize = 5_000;
/// Most pairs of rule and host of which a failing expression is remembered as logged.
const FAILING: usize = 10_000;
/// An agent that config-service did not know is asked for again after this time, in milliseconds.
const ASK_AGAIN_MS: u64 = 30_000;
/// Most agents asked for at once.
const ASKED_AT_ONCE: usize = 64;
/// The account of a settled notification is kept longer than the broker keeps the notification: 8 days, in milliseconds.
const SETTLED_KEPT_MS: u64 = 8 * 86_400_000;

pub struct Engine {
    store: Arc<Store>,
    alerts: Alerts,
    book: Arc<RuleBook>,
    hosts: HashMap<AgentId, HostInfo>,
    /// Agents that config-service was asked for, and when.
    asked: HashMap<AgentId, u64>,
    failing: HashSet<AlertKey>,
    freshness_ms: u64,
    metrics: Metrics,
    outbox: Arc<Notify>,
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
        let alerts = Alerts::new(store.trackers()?);
        let engine = Self {
            store,
            alerts,
            book: Arc::default(),
            hosts: HashMap::new(),
            asked: HashMap::new(),
            failing: HashSet::new(),
            freshness_ms,
            metrics,
            outbox,
        };
        engine.count_alerts();
        Ok(engine)
    }

    /// Evaluate results; what follows from them is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: nothing has changed.
    pub fn evaluate(&mut self, batch: &[Incoming], now_ms: u64) -> Result<(), StoreError> {
        let draft = self.alerts.evaluate(&self.book, &self.hosts, batch, now_ms, self.freshness_ms);
        self.metrics.results.inc_by(batch.len() as u64);
        self.metrics.results_late.inc_by(draft.late);
        self.report_failures(&draft);
        self.commit(draft)
    }

    /// # Errors
    /// [`StoreError`]: the rules before are still in force.
    pub fn set_rules(&mut self, book: Arc<RuleBook>, now_ms: u64) -> Result<(), StoreError> {
        self.commit(self.alerts.without_rules(&book, now_ms))?;
        if book.revision != self.book.revision {
            self.failing.clear();
            self.metrics.rules_failing.set(0);
            for (rule, reason) in &book.broken {
                tracing::error!(%rule, reason, "a rule cannot be used: correct its expressions");
            }
        }
        self.metrics.rules.set(gauge(book.len() - book.broken.len()));
        self.metrics.rules_broken.set(gauge(book.broken.len()));
        self.book = book;
        Ok(())
    }

    pub fn set_hosts(&mut self, hosts: HashMap<AgentId, HostInfo>) {
        self.asked.clear();
        self.hosts = hosts;
    }

    pub fn add_hosts(&mut self, hosts: impl IntoIterator<Item = (AgentId, HostInfo)>) {
        for (agent, host) in hosts {
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
            if self.hosts.contains_key(agent) || self.book.of_check(&result.check).is_empty() {
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
            alerts.extend(self.store.resolved()?.into_iter().filter(wanted));
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
        self.asked.retain(|_, asked| now_ms.abs_diff(*asked) <= ASK_AGAIN_MS);
        Ok(())
    }

    fn commit(&mut self, draft: Draft) -> Result<(), StoreError> {
        if draft.is_empty() {
            self.alerts.apply(draft);
            return Ok(());
        }
        self.store.commit(&draft)?;
        for transition in &draft.transitions {
            let alert = &transition.alert;
            tracing::info!(agent = %alert.agent, rule = %alert.rule, id = alert.id, state = %alert.state, "alert");
        }
        self.metrics.transitions.inc_by(draft.transitions.len() as u64);
        self.alerts.apply(draft);
        self.count_alerts();
        self.outbox.notify_one();
        Ok(())
    }

    fn count_alerts(&self) {
        let count = |state| gauge(self.alerts.active().filter(|alert| alert.state == state).count());
        self.metrics.alerts_pending.set(count(AlertState::Pending));
        self.metrics.alerts_firing.set(count(AlertState::Firing));
    }

    /// Each pair of rule and host is logged once, until it has an answer or the rules change.
    fn report_failures(&mut self, draft: &Draft) {
        for key in &draft.answered {
            self.failing.remove(key);
        }
        for (key, error) in &draft.failed {
            self.metrics.expression_errors.inc();
            if self.failing.len() < FAILING && self.failing.insert(key.clone()) {
                tracing::warn!(agent = %key.agent, rule = %key.rule, %error, "a rule has no answer on this host");
            }
        }
        self.metrics.rules_failing.set(gauge(self.failing.len()));
    }
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
