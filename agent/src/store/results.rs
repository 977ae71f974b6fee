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

/// Results, and bytes of them, in memory at most while the spool cannot be written.
const OVERFLOW: usize = 1_000;
const OVERFLOW_BYTES: usize = 8 * 1024 * 1024;

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
    overflow_bytes: usize,
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
        let inner = Inner {
            spool,
            overflow: VecDeque::new(),
            overflow_bytes: 0,
            unnumbered: 0,
            failing: false,
            metrics,
        };
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
            let taken: Vec<_> = inner.overflow.drain(..count).collect();
            inner.overflow_bytes -= taken.iter().map(size).sum::<usize>();
            taken
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
        self.overflow_bytes += size(&result);
        if front {
            self.overflow.push_front(result)
        } else {
            self.overflow.push_back(result)
        }
        while self.overflow.len() > OVERFLOW || self.overflow_bytes > OVERFLOW_BYTES {
            let Some(oldest) = self.overflow.pop_front() else { return };
            self.overflow_bytes -= size(&oldest);
            self.metrics.overflow_dropped.inc();
        }
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

/// About how much memory a result takes.
fn size(result: &CheckResult) -> usize {
    size_of::<CheckResult>()
        + result.output.len()
        + result.metrics.iter().map(|metric| size_of_val(metric) + metric.name.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::{AgentId, CheckName, Origin, Status};

    use super::*;

    fn result(output: &str) -> CheckResult {
        CheckResult {
            v: 1,
            agent: AgentId::new("a").unwrap(),
            check: CheckName::new("c").unwrap(),
            epoch: 0,
            seq: 0,
            at_ms: 5,
            status: Status::Ok,
            value: None,
            unit: None,
            metrics: Vec::new(),
            output: output.to_owned(),
            exit_code: None,
            signal: None,
            usage: None,
            duration_ms: 0,
            skipped: 0,
            revision: 0,
            origin: Origin::Agent,
            replayed: false,
            id: None,
        }
    }

    /// Each result begins a segment, which fails while the folder is away.
    #[tokio::test]
    async fn g10_without_a_disk_the_newest_results_wait_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let metrics = Metrics::default();
        let limits = Limits { max_bytes: 8, max_age: Duration::from_secs(60) };
        let results = Results::open(&path, limits, 1, metrics.clone()).unwrap();
        results.add(1, result("on disk")).await;
        std::fs::remove_dir_all(&path).unwrap();
        let count = OVERFLOW + 10;
        for n in 0..count {
            results.add(1, result(&n.to_string())).await;
        }
        assert_eq!((metrics.overflow_dropped.get(), metrics.spool_errors.get()), (10, count as u64));
        let taken = results.take_unnumbered(2).await;
        assert_eq!((taken[0].output.as_str(), taken[0].seq), ("10", 0));
        assert_ne!(taken[0].message_id(), taken[1].message_id());
        results.put_back(taken[1].clone()).await;
        assert_eq!(results.take_unnumbered(1).await, taken[1..]);
        results.take_unnumbered(OVERFLOW).await;
        for _ in 0..200 {
            results.add(1, result(&"x".repeat(60_000))).await;
        }
        let kept = results.take_unnumbered(OVERFLOW).await;
        assert!((100..150).contains(&kept.len()), "bounded by bytes too: {}", kept.len());

        std::fs::create_dir(&path).unwrap();
        results.add(1, result("again")).await;
        assert_eq!(results.take_unnumbered(1).await, []);
        assert_eq!(results.read(1, 9).await.unwrap().last().unwrap().result.output, "again");
    }
}
