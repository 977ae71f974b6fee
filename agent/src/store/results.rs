//! The one place where results wait: the spool, and a small queue in memory for when the disk takes nothing.
//!
//! A full disk is when results matter most, so those of the queue are sent too. They carry no sequence number but an
//! id: a number that is not on disk could be given a second time after a crash. When the queue is full its oldest go
//! and are counted; as soon as the disk takes results again as many numbers are left out, so that ingest's account has
//! them as lost.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::{CheckResult, limits};
use tokio::sync::{Notify, oneshot};

use super::spool::{Entry, Limits, RolledBack, Spool, SpoolError};
use crate::{core::output::fit, metrics::Metrics};

/// Results, and bytes of them, in memory at most while the spool cannot be written.
const OVERFLOW: usize = 1_000;
const OVERFLOW_BYTES: usize = 8 * 1024 * 1024;

/// Results that come within this time of one another are written together. In a burst a thread for each would cost more
/// than all else that is done with it.
const TOGETHER: Duration = Duration::from_millis(5);

/// Cheap to clone. Every call does its I/O on a thread where it may block.
#[derive(Debug, Clone)]
pub struct Results {
    inner: Arc<Mutex<Inner>>,
    added: Arc<Notify>,
    seen: Arc<Seen>,
    /// As many as there are runs at their end, at most.
    arrived: Arc<Mutex<Vec<Arrived>>>,
    /// When results were last written.
    written: Arc<Mutex<Option<Instant>>>,
}

/// A result on its way into the spool.
#[derive(Debug)]
struct Arrived {
    now_ms: u64,
    result: CheckResult,
    kept: oneshot::Sender<CheckResult>,
}

/// What can be known without waiting for the disk.
#[derive(Debug, Default)]
struct Seen {
    next_seq: AtomicU64,
    unsynced: AtomicBool,
    lost: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    spool: Spool,
    overflow: VecDeque<CheckResult>,
    overflow_bytes: usize,
    /// Makes the ids of results without a number.
    unnumbered: u64,
    /// Results that were dropped and have no number yet that ingest could miss.
    unaccounted: u64,
    /// Something was dropped, which `Seen` is to show.
    lost: bool,
    failing: bool,
    metrics: Metrics,
}

/// A result that is to be sent, as it stands in the spool.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub seq: u64,
    /// When it was spooled, by the agent's clock in milliseconds since 1970.
    pub kept_ms: u64,
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
            unaccounted: 0,
            lost: false,
            failing: false,
            metrics,
        };
        let seen = Arc::new(Seen::default());
        seen.look(&inner.spool);
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            added: Arc::new(Notify::new()),
            seen,
            arrived: Arc::default(),
            written: Arc::default(),
        })
    }

    /// Keep a result. It is in the spool when this returns, or in memory when the disk takes nothing. Returns it as it
    /// is kept: cut to its limits, with its number.
    pub async fn add(&self, now_ms: u64, result: CheckResult) -> CheckResult {
        let (kept, done) = oneshot::channel();
        let first = {
            let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            arrived.push(Arrived { now_ms, result, kept });
            arrived.len() == 1
        };
        if first {
            // A task of its own: the caller may stop waiting, and those that came after it do not.
            tokio::spawn(self.clone().write_arrived());
        }
        match done.await {
            Ok(result) => result,
            Err(_) => std::panic::resume_unwind(Box::new("the write of a result panicked")),
        }
    }

    /// One thread writes all that came until it had the spool. More of them would only wait for the disk.
    async fn write_arrived(self) {
        let recent = |written: Instant| written.elapsed() < 4 * TOGETHER;
        let burst = self.written.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(recent);
        if burst {
            tokio::time::sleep(TOGETHER).await;
        }
        let (arrived, written, added) =
            (Arc::clone(&self.arrived), Arc::clone(&self.written), Arc::clone(&self.added));
        self.with(move |inner| {
            let all = std::mem::take(&mut *arrived.lock().unwrap_or_else(PoisonError::into_inner));
            for Arrived { now_ms, mut result, kept } in all {
                fit(&mut result);
                // Whoever does not wait any more does not need it.
                let _gone = kept.send(inner.add(now_ms, result));
            }
            *written.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            added.notify_one();
        })
        .await;
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
            let (epoch, mut seq, mut kept) = (inner.spool.epoch(), seq, Vec::new());
            while kept.is_empty() {
                let entries = inner.spool.read(seq, count)?;
                let Some(last) = entries.last() else { break };
                seq = last.seq + 1;
                for Entry { seq, at_ms, payload } in entries {
                    match protocol::decode::<CheckResult>(&payload, limits::RESULT) {
                        Ok(result) => {
                            let result = CheckResult { epoch, seq, ..result };
                            kept.push(Kept { seq, kept_ms: at_ms, result });
                        }
                        Err(error) => {
                            inner.spool.give_up(seq);
                            tracing::error!(seq, %error, "a result in the spool cannot be read and is lost");
                        }
                    }
                }
            }
            inner.measure();
            Ok(kept)
        })
        .await
    }

    /// The number that the next result will get.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.seen.next_seq.load(Ordering::Relaxed)
    }

    /// Whether some of the spool would not survive a power cut yet.
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        self.seen.unsynced.load(Ordering::Relaxed)
    }

    /// Whether results were lost since the last call: ingest should be told.
    #[must_use]
    pub fn take_lost(&self) -> bool {
        self.seen.lost.swap(false, Ordering::Relaxed)
    }

    /// Take results that have no number, oldest first.
    pub async fn take_unnumbered(&self, count: usize) -> Vec<CheckResult> {
        if self.sees(|inner| inner.overflow.is_empty()) {
            return Vec::new();
        }
        self.with(move |inner| {
            let count = count.min(inner.overflow.len());
            let taken: Vec<_> = inner.overflow.drain(..count).collect();
            inner.overflow_bytes -= taken.iter().map(size).sum::<usize>();
            taken
        })
        .await
    }

    /// Drop what is too old.
    pub async fn expire(&self, now_ms: u64) {
        if !self.sees(|inner| !inner.spool.has_expired(now_ms)) {
            self.spool(move |spool| spool.expire(now_ms)).await;
        }
    }

    /// One of those that have no number will never be sent.
    pub async fn drop_unnumbered(&self) {
        self.with(|inner| {
            inner.metrics.overflow_dropped.inc();
            inner.unaccounted += 1;
        })
        .await;
    }

    /// Give back one that could not be sent.
    pub async fn put_back(&self, result: CheckResult) {
        self.with(move |inner| inner.queue(result, true)).await;
    }

    /// Everything up to the number `seq` is stored elsewhere: it may go.
    ///
    /// # Errors
    /// [`RolledBack`] when `seq` was never given.
    pub async fn stored(&self, now_ms: u64, seq: u64) -> Result<(), RolledBack> {
        // As a rule it is a number to be noted, and no file to be removed.
        if let Ok(mut inner) = self.inner.try_lock()
            && !inner.spool.would_let_go(seq)
        {
            return inner.spool.stored(now_ms, seq);
        }
        self.spool(move |spool| spool.stored(now_ms, seq)).await
    }

    /// Whether some results have no number, or may have none: `true` while somebody works here.
    #[must_use]
    pub fn may_hold_unnumbered(&self) -> bool {
        !self.sees(|inner| inner.overflow.is_empty())
    }

    /// Whether nothing is to be done, found out without another thread: most of the time this host is idle. `false`
    /// while somebody works here.
    fn sees(&self, idle: impl FnOnce(&Inner) -> bool) -> bool {
        self.inner.try_lock().is_ok_and(|inner| idle(&inner))
    }

    async fn with<R: Send + 'static>(&self, work: impl FnOnce(&mut Inner) -> R + Send + 'static) -> R {
        let (inner, seen) = (Arc::clone(&self.inner), Arc::clone(&self.seen));
        let done = tokio::task::spawn_blocking(move || {
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            let outcome = work(&mut inner);
            seen.look(&inner.spool);
            if std::mem::take(&mut inner.lost) {
                seen.lost.store(true, Ordering::Relaxed);
            }
            outcome
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

impl Seen {
    fn look(&self, spool: &Spool) {
        self.next_seq.store(spool.next_seq(), Ordering::Relaxed);
        self.unsynced.store(spool.is_unsynced(), Ordering::Relaxed);
    }
}

impl Inner {
    fn add(&mut self, now_ms: u64, mut result: CheckResult) -> CheckResult {
        let appended = protocol::encode(&result).map_err(|error| error.to_string()).and_then(|body| {
            let appended = self.spool.append(now_ms, self.unaccounted, &body);
            appended.map_err(|error| service_kit::report(&error))
        });
        match appended {
            Ok(seq) => {
                let lost = std::mem::take(&mut self.unaccounted);
                self.lost |= lost > 0;
                if std::mem::take(&mut self.failing) {
                    tracing::info!(lost, "the spool can be written again");
                }
                (result.epoch, result.seq) = (self.spool.epoch(), seq);
            }
            Err(reason) => {
                self.metrics.spool_errors.inc();
                if !self.failing {
                    tracing::error!(reason, "results are kept in memory: the spool cannot be written");
                }
                self.failing = true;
                self.unnumbered += 1;
                result.id = Some(format!("unspooled:{}:{}:{}", result.check, result.at_ms, self.unnumbered));
                self.queue(result.clone(), false);
            }
        }
        self.measure();
        result
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
            self.unaccounted += 1;
        }
    }

    fn measure(&mut self) {
        self.metrics.spool_bytes.set(self.spool.bytes());
        let dropped = self.spool.take_dropped();
        if dropped > 0 {
            self.lost = true;
            self.metrics.spool_dropped.inc_by(dropped);
            tracing::warn!(dropped, "results were dropped from the spool");
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
    use protocol::{AgentId, CheckName, Status};

    use super::*;

    fn result(output: &str) -> CheckResult {
        CheckResult {
            output: output.to_owned(),
            ..CheckResult::new(AgentId::new("a").unwrap(), CheckName::new("c").unwrap(), 5, Status::Ok)
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
        std::fs::write(&path, "in the way").unwrap();
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

        std::fs::remove_file(&path).unwrap();
        results.add(1, result("again")).await;
        assert_eq!(results.take_unnumbered(1).await, []);
        let again = results.read(1, 9).await.unwrap().pop().unwrap();
        assert_eq!(again.result.output, "again");
        let dropped = metrics.overflow_dropped.get();
        assert!(dropped > 60 && results.take_lost());
        assert_eq!(again.seq, 2 + dropped, "those that were dropped are missing in the numbers");
        results.add(1, result("and on")).await;
        assert_eq!(results.read(again.seq, 9).await.unwrap().pop().unwrap().seq, again.seq + 1);
    }

    /// All that arrive together are kept, each with a number of its own, whoever of them stops waiting.
    #[tokio::test]
    async fn g1_results_that_come_at_once_are_kept_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { max_bytes: 1 << 20, max_age: Duration::from_secs(60) };
        let results = Results::open(folder.path(), limits, 1, Metrics::default()).unwrap();
        let adds = (0..100).map(|n| {
            let results = results.clone();
            tokio::spawn(async move { results.add(1, result(&n.to_string())).await })
        });
        let adds: Vec<_> = adds.collect();
        // The first takes the others along: it has begun by then, and its end is not theirs.
        tokio::task::yield_now().await;
        adds[0].abort();
        let mut seqs = Vec::new();
        for add in adds {
            seqs.extend(add.await.ok().map(|kept| kept.seq));
        }
        let kept = results.read(1, 1_000).await.unwrap();
        assert_eq!(kept.len(), 100);
        assert!(kept.iter().zip(1..).all(|(kept, seq)| kept.seq == seq));
        seqs.sort_unstable();
        seqs.dedup();
        assert!(seqs.len() >= 99, "{}", seqs.len());
    }
}
