//! The one place where results wait: the spool, and a small queue in memory for when the disk takes nothing.
//!
//! A full disk is when results matter most, so those of the queue are sent too. They carry no sequence number but an
//! id: a number that is not on disk could be given a second time after a crash. When the queue is full its oldest go
//! and are counted.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use protocol::{CheckResult, limits};
use tokio::sync::Notify;

use super::spool::{Limits, Spool, SpoolError};
use crate::{core::output::fit, metrics::Metrics};

/// Results in memory at most while the spool cannot be written.
const OVERFLOW: usize = 1_000;

/// Cheap to clone. Every call does its I/O on a thread where it may block.
#[derive(Debug, Clone)]
pub struct Results {
    inner: Arc<Mutex<Inner>>,
    added: Arc<Notify>,
}

#[derive(Debug)]
struct Inner {
    spool: Spool,
    overflow: VecDeque<CheckResult>,
    /// Makes the ids of results without a number.
    unnumbered: u64,
    failing: bool,
    metrics: Metrics,
}

/// A result that is to be sent, as it stands in the spool.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub seq: u64,
    pub result: CheckResult,
}

impl Results {
    /// # Errors
    /// [`SpoolError`] when the spool cannot be opened.
    pub fn open(folder: &Path, limits: Limits, now_ms: u64, metrics: Metrics) -> Result<Self, SpoolError> {
        let (spool, repaired) = Spool::open(folder, limits, now_ms)?;
        metrics.spool_torn_bytes.inc_by(repaired.torn_bytes);
        if repaired.torn_bytes > 0 {
            tracing::warn!(bytes = repaired.torn_bytes, "a damaged part of the spool was cut out");
        }
        if repaired.new_epoch {
            tracing::info!(epoch = spool.epoch(), "a new sequence of results begins");
        }
        let inner = Inner { spool, overflow: VecDeque::new(), unnumbered: 0, failing: false, metrics };
        Ok(Self { inner: Arc::new(Mutex::new(inner)), added: Arc::new(Notify::new()) })
    }

    /// Keep a result. It is in the spool when this returns, or in memory when the disk takes nothing.
    pub async fn add(&self, now_ms: u64, mut result: CheckResult) {
        self.with(move |inner| {
            fit(&mut result);
            inner.add(now_ms, result);
        })
        .await;
        self.added.notify_one();
    }

    /// Resolves after results were added.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// Work with the spool on a thread where that may block.
    pub async fn spool<R: Send + 'static>(&self, work: impl FnOnce(&mut Spool) -> R + Send + 'static) -> R {
        self.with(move |inner| {
            let outcome = work(&mut inner.spool);
            inner.measure();
            outcome
        })
        .await
    }

    /// Results to send from `seq` on, at most `count`, each with its epoch and number. What cannot be read is counted
    /// and left out.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn read(&self, seq: u64, count: usize) -> Result<Vec<Kept>, SpoolError> {
        self.with(move |inner| {
            let epoch = inner.spool.epoch();
            let mut kept = Vec::new();
            for (seq, payload) in inner.spool.read(seq, count)? {
                match protocol::decode::<CheckResult>(&payload, limits::RESULT) {
                    Ok(result) => kept.push(Kept { seq, result: CheckResult { epoch, seq, ..result } }),
                    Err(error) => {
                        inner.metrics.spool_errors.inc();
                        tracing::error!(seq, %error, "a result in the spool cannot be read and is lost");
                    }
                }
            }
            Ok(kept)
        })
        .await
    }

    /// Take results that have no number, oldest first.
    pub async fn take_unnumbered(&self, count: usize) -> Vec<CheckResult> {
        self.with(move |inner| {
            let count = count.min(inner.overflow.len());
            inner.overflow.drain(..count).collect()
        })
        .await
    }

    /// Give back one that could not be sent.
    pub async fn put_back(&self, result: CheckResult) {
        self.with(move |inner| inner.queue(result, true)).await;
    }

    async fn with<R: Send + 'static>(&self, work: impl FnOnce(&mut Inner) -> R + Send + 'static) -> R {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut inner.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match done.await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Inner {
    fn add(&mut self, now_ms: u64, mut result: CheckResult) {
        let appended = protocol::encode(&result)
            .map_err(|error| error.to_string())
            .and_then(|body| self.spool.append(now_ms, &body).map_err(|error| service_kit::report(&error)));
        match appended {
            Ok(_) if self.failing => {
                self.failing = false;
                tracing::info!("the spool can be written again");
            }
            Ok(_) => {}
            Err(reason) => {
                self.metrics.spool_errors.inc();
                if !self.failing {
                    tracing::error!(reason, "results are kept in memory: the spool cannot be written");
                }
                self.failing = true;
                self.unnumbered += 1;
                result.id = Some(format!("unspooled:{}:{}:{}", result.check, result.at_ms, self.unnumbered));
                self.queue(result, false);
            }
        }
        self.measure();
    }

    fn queue(&mut self, result: CheckResult, front: bool) {
        if self.overflow.len() >= OVERFLOW {
            self.metrics.overflow_dropped.inc();
            if front {
                return;
            }
            self.overflow.pop_front();
        }
        if front { self.overflow.push_front(result) } else { self.overflow.push_back(result) }
    }

    fn measure(&mut self) {
        self.metrics.spool_bytes.set(self.spool.bytes());
        let dropped = self.spool.take_dropped();
        if dropped > 0 {
            self.metrics.spool_dropped.inc_by(dropped);
            tracing::warn!(dropped, "the spool's limits dropped the oldest results");
        }
    }
}
