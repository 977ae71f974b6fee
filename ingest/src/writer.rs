//! The one thread that owns the accounts and writes to the store, one command after the other.
//!
//! Accounts in memory always equal those of the last durable batch. After a write that failed it is unknown whether
//! the batch is on disk, so they are forgotten and read again before anything else is done.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use protocol::{
    AgentId,
    query::{LossList, LossQuery},
    stored::Stored,
};
use service_kit::{consume::Rejected, now_ms};
use tokio::sync::{mpsc, oneshot};

use crate::{
    core::{
        accept::{Accepted, Refused, Why},
        account::Account,
        plan::{Accounts, Before, Plan, plan},
        quota::Quota,
    },
    counters::Counters,
    store::{Commit, NewResult, ResultStore, StoreError},
};

/// Commands that wait at most; whoever sends one more waits too.
const QUEUE: usize = 64;

/// Lines of one page of losses, about: each may have a few dozen gaps.
const LOSSES: usize = 500;

/// A batch of messages, and beside each what it was found to be.
#[derive(Debug, Default)]
pub struct Batch {
    pub messages: Vec<Result<Accepted, Refused>>,
    pub bodies: Vec<Bytes>,
}

#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store's writer has stopped")]
    Stopped,
}

type Done<T> = oneshot::Sender<Result<T, StoreError>>;

enum Command {
    Write { batch: Batch, done: Done<Rejected> },
    GoneBelow { agent: AgentId, epoch: u64, oldest: u64, done: Done<Stored> },
    Losses { query: LossQuery, done: Done<LossList> },
    Touched { done: Done<Vec<Stored>> },
}

/// Sends commands to the writer. The thread ends when the last handle is gone.
#[derive(Clone)]
pub struct Writer(mpsc::Sender<Command>);

impl Writer {
    /// Read the accounts, then start the thread. The second value resolves when the thread has ended.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be opened.
    pub async fn start(
        store: Arc<dyn ResultStore>,
        max_series: usize,
        counters: Counters,
    ) -> anyhow::Result<(Self, tokio::task::JoinHandle<()>)> {
        let (sender, mut commands) = mpsc::channel(QUEUE);
        let (opened, is_open) = oneshot::channel();
        let thread = tokio::task::spawn_blocking(move || {
            let mut work =
                Work { store, max_series, counters, accounts: None, missing: 0, touched: HashSet::new() };
            let first = work.accounts().map(|_| ());
            let failed = first.is_err();
            if opened.send(first).is_err() || failed {
                return;
            }
            while let Some(command) = commands.blocking_recv() {
                work.run(command);
            }
        });
        is_open.await??;
        Ok((Self(sender), thread))
    }

    /// Make a batch durable. Returns which of its messages are no results, and why.
    ///
    /// # Errors
    /// [`WriterError`]; none of the batch may be acknowledged.
    pub async fn write(&self, batch: Batch) -> Result<Rejected, WriterError> {
        self.ask(|done| Command::Write { batch, done }).await
    }

    /// The agent has nothing below `oldest` any more: count what is missing there as lost. Returns the watermark once
    /// that is durable.
    ///
    /// # Errors
    /// [`WriterError`].
    pub async fn gone_below(&self, agent: AgentId, epoch: u64, oldest: u64) -> Result<Stored, WriterError> {
        self.ask(|done| Command::GoneBelow { agent, epoch, oldest, done }).await
    }

    /// The account of one agent, or a page of all.
    ///
    /// # Errors
    /// [`WriterError`].
    pub async fn losses(&self, query: LossQuery) -> Result<LossList, WriterError> {
        self.ask(|done| Command::Losses { query, done }).await
    }

    /// The watermarks of all agents that results came from since the last call.
    ///
    /// # Errors
    /// [`WriterError`].
    pub async fn touched(&self) -> Result<Vec<Stored>, WriterError> {
        self.ask(|done| Command::Touched { done }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Done<T>) -> Command) -> Result<T, WriterError> {
        let (done, answer) = oneshot::channel();
        self.0.send(command(done)).await.map_err(|_| WriterError::Stopped)?;
        Ok(answer.await.map_err(|_| WriterError::Stopped)??)
    }
}

struct Work {
    store: Arc<dyn ResultStore>,
    counters: Counters,
    /// Most series of one agent.
    max_series: usize,
    /// `None` after a failed write, until the store is recovered.
    accounts: Option<Accounts>,
    /// Of all accounts.
    missing: u64,
    /// Agents whose watermarks are to be told.
    touched: HashSet<AgentId>,
}

impl Work {
    fn run(&mut self, command: Command) {
        // Whoever asked may have gone; what was done stays done.
        match command {
            Command::Write { batch, done } => drop(done.send(self.write(batch))),
            Command::GoneBelow { agent, epoch, oldest, done } => {
                drop(done.send(self.gone_below(&agent, epoch, oldest)));
            }
            Command::Losses { query, done } => drop(done.send(self.losses(&query))),
            Command::Touched { done } => drop(done.send(self.touched())),
        }
    }

    fn accounts(&mut self) -> Result<&Accounts, StoreError> {
        let accounts = match self.accounts.take() {
            Some(accounts) => accounts,
            None => {
                let accounts = self.store.recover()?;
                self.missing = accounts.values().map(Account::missing).fold(0, u64::saturating_add);
                self.counters.missing.set(i64::try_from(self.missing).unwrap_or(i64::MAX));
                accounts
            }
        };
        Ok(self.accounts.insert(accounts))
    }

    fn write(&mut self, Batch { messages, bodies }: Batch) -> Result<Rejected, StoreError> {
        let max_series = self.max_series;
        let (store, now_ms) = (Arc::clone(&self.store), now_ms());
        let accounts = self.accounts()?;
        let mut accepted = messages
            .iter()
            .enumerate()
            .filter_map(|(index, message)| Some((index, &message.as_ref().ok()?.result)));
        let new = if max_series == usize::MAX { HashMap::new() } else { store.new_series(&mut accepted)? };
        let quota = Quota::new(max_series, new);
        let plan = plan(&messages, Before { accounts, quota, now_ms }, |id| store.knows_id(id, now_ms))?;
        let results = plan.fresh.iter().filter_map(|index| {
            let (body, Ok(accepted)) = (bodies.get(*index)?, messages.get(*index)?) else { return None };
            Some(NewResult { result: &accepted.result, json: body })
        });
        let results: Vec<_> = results.collect();
        self.commit(&Commit { now_ms, results, accounts: &plan.accounts, ids: &plan.ids })?;
        self.counters.stored.inc_by(plan.fresh.len() as u64);
        self.counters.duplicates.inc_by(plan.duplicates);
        let rejected = self.apply(plan);
        Ok(rejected.into_iter().map(|(index, (_, reason))| (index, reason)).collect())
    }

    fn gone_below(&mut self, agent: &AgentId, epoch: u64, oldest: u64) -> Result<Stored, StoreError> {
        let known = self.accounts()?.get(agent);
        let mut account = known.cloned().unwrap_or_default();
        let before = account.watermark(agent, epoch);
        // Nothing to write down: an agent that has all it ever made, or said so before.
        if oldest <= before.seq.saturating_add(1) {
            return Ok(before);
        }
        let (results, now_ms) = (Vec::new(), now_ms());
        let Some(kept) = account.epoch_mut(epoch) else {
            // An epoch that is forgotten: its agent need not keep it.
            return Ok(Stored { seq: oldest.saturating_sub(1), ..before });
        };
        kept.gone_below(oldest, now_ms);
        let after = account.watermark(agent, epoch);
        let plan = Plan { accounts: HashMap::from([(agent.clone(), account)]), ..Plan::default() };
        self.commit(&Commit { now_ms, results, accounts: &plan.accounts, ids: &plan.ids })?;
        self.apply(plan);
        let lost = after.lost.saturating_sub(before.lost);
        self.counters.lost.inc_by(lost);
        tracing::warn!(%agent, epoch, oldest, lost, "results are lost: the agent no longer has them");
        Ok(after)
    }

    fn losses(&mut self, query: &LossQuery) -> Result<LossList, StoreError> {
        let accounts = self.accounts()?;
        if let Some(agent) = &query.agent {
            let agents = accounts.get(agent).map(|account| account.losses(agent)).unwrap_or_default();
            return Ok(LossList { agents, next: None });
        }
        let mut names: Vec<&AgentId> =
            accounts.keys().filter(|agent| query.after.as_ref() < Some(agent)).collect();
        names.sort_unstable();
        let mut list = LossList::default();
        for (index, agent) in names.iter().enumerate() {
            list.agents.extend(accounts.get(*agent).into_iter().flat_map(|account| account.losses(agent)));
            if list.agents.len() >= LOSSES && index + 1 < names.len() {
                list.next = Some((*agent).clone());
                break;
            }
        }
        Ok(list)
    }

    fn touched(&mut self) -> Result<Vec<Stored>, StoreError> {
        // After a failed write they stay marked, and are told once the store is back.
        let Some(accounts) = &self.accounts else { return Ok(Vec::new()) };
        let touched = std::mem::take(&mut self.touched);
        let known = touched.iter().filter_map(|agent| Some((agent, accounts.get(agent)?)));
        Ok(known.flat_map(|(agent, account)| account.watermarks(agent)).collect())
    }

    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), StoreError> {
        if commit.results.is_empty() && commit.accounts.is_empty() {
            return Ok(());
        }
        self.store.commit(commit).inspect_err(|error| {
            self.counters.failed_writes.inc();
            // A disk that was found nearly full was not written to.
            if !matches!(error, StoreError::NearlyFull { .. }) {
                self.accounts = None;
            }
        })
    }

    /// The plan is durable: make it so here. Returns what it rejected.
    fn apply(&mut self, plan: Plan) -> HashMap<usize, (Why, String)> {
        self.touched.extend(plan.accounts.keys().cloned());
        if let Some(accounts) = &mut self.accounts {
            for (agent, account) in plan.accounts {
                let (late, missing) = (account.late(), account.missing());
                let before = accounts.insert(agent, account).unwrap_or_default();
                self.counters.late.inc_by(late.saturating_sub(before.late()));
                self.missing = self.missing.saturating_sub(before.missing()).saturating_add(missing);
            }
            self.counters.missing.set(i64::try_from(self.missing).unwrap_or(i64::MAX));
        }
        for (why, _) in plan.rejected.values() {
            self.counters.rejected(*why).inc();
        }
        plan.rejected
    }
}
