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
    query::{Loss, LossList},
    stored::Stored,
};
use service_kit::{consume::Rejected, now_ms};
use tokio::sync::{mpsc, oneshot};

use crate::{
    core::{
        accept::{Accepted, Refused},
        plan::{Accounts, Plan, plan},
    },
    counters::Counters,
    store::{Commit, NewResult, ResultStore, StoreError},
};

/// Commands that wait at most; whoever sends one more waits too.
const QUEUE: usize = 64;

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
    Losses { agent: Option<AgentId>, done: Done<LossList> },
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
        counters: Counters,
    ) -> anyhow::Result<(Self, tokio::task::JoinHandle<()>)> {
        let (sender, mut commands) = mpsc::channel(QUEUE);
        let (opened, is_open) = oneshot::channel();
        let thread = tokio::task::spawn_blocking(move || {
            let mut work = Work { store, counters, accounts: None, touched: HashSet::new() };
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

    /// The account of one agent, or of all.
    ///
    /// # Errors
    /// [`WriterError`].
    pub async fn losses(&self, agent: Option<AgentId>) -> Result<LossList, WriterError> {
        self.ask(|done| Command::Losses { agent, done }).await
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
    /// `None` after a failed write, until the store is recovered.
    accounts: Option<Accounts>,
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
            Command::Losses { agent, done } => drop(done.send(self.losses(agent.as_ref()))),
            Command::Touched { done } => drop(done.send(self.touched())),
        }
    }

    fn accounts(&mut self) -> Result<&Accounts, StoreError> {
        let accounts = match self.accounts.take() {
            Some(accounts) => accounts,
            None => self.store.recover()?,
        };
        Ok(self.accounts.insert(accounts))
    }

    fn write(&mut self, Batch { messages, bodies }: Batch) -> Result<Rejected, StoreError> {
        let (store, now_ms) = (Arc::clone(&self.store), now_ms());
        let plan = plan(&messages, self.accounts()?, |id| store.knows_id(id, now_ms))?;
        let results = plan.fresh.iter().filter_map(|index| {
            let (body, Ok(accepted)) = (bodies.get(*index)?, messages.get(*index)?) else { return None };
            Some(NewResult { result: &accepted.result, json: body })
        });
        let results: Vec<_> = results.collect();
        self.commit(&Commit { now_ms, results, accounts: &plan.accounts, ids: &plan.ids })?;
        self.counters.stored.inc_by(plan.fresh.len() as u64);
        self.counters.duplicates.inc_by(plan.duplicates);
        self.apply(plan);
        let rejected = messages.into_iter().enumerate();
        Ok(rejected.filter_map(|(index, message)| Some((index, message.err()?.reason))).collect())
    }

    fn gone_below(&mut self, agent: &AgentId, epoch: u64, oldest: u64) -> Result<Stored, StoreError> {
        let known = self.accounts()?.get(agent);
        let mut account = known.cloned().unwrap_or_default();
        let before = account.watermark(agent, epoch);
        // Nothing to write down: an agent that has all it ever made, or said so before.
        if oldest <= before.seq.saturating_add(1) {
            return Ok(before);
        }
        let Some(ledger) = account.ledger_mut(epoch) else {
            // An epoch that is forgotten: its agent need not keep it.
            return Ok(Stored { seq: oldest.saturating_sub(1), ..before });
        };
        ledger.gone_below(oldest);
        let after = account.watermark(agent, epoch);
        let plan = Plan { accounts: HashMap::from([(agent.clone(), account)]), ..Plan::default() };
        let (results, now_ms) = (Vec::new(), now_ms());
        self.commit(&Commit { now_ms, results, accounts: &plan.accounts, ids: &plan.ids })?;
        self.apply(plan);
        let lost = after.lost.saturating_sub(before.lost);
        self.counters.lost.inc_by(lost);
        tracing::warn!(%agent, epoch, oldest, lost, "results are lost: the agent no longer has them");
        Ok(after)
    }

    fn losses(&mut self, agent: Option<&AgentId>) -> Result<LossList, StoreError> {
        let accounts = self.accounts()?;
        let mut agents: Vec<Loss> = match agent {
            Some(agent) => {
                accounts.get(agent).map(|account| account.losses(agent).collect()).unwrap_or_default()
            }
            None => accounts.iter().flat_map(|(agent, account)| account.losses(agent)).collect(),
        };
        agents.sort_by(|a, b| (&a.agent, b.epoch).cmp(&(&b.agent, a.epoch)));
        Ok(LossList { agents })
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

    /// The plan is durable: make it so here.
    fn apply(&mut self, plan: Plan) {
        self.touched.extend(plan.accounts.keys().cloned());
        if let Some(accounts) = &mut self.accounts {
            accounts.extend(plan.accounts);
        }
    }
}
