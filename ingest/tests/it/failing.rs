//! A disk that fails: the seam is the store's trait, the store behind it is the real one.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use ingest::{
    core::plan::Accounts,
    store::{
        Commit, Fjall, Horizon, LatestScan, Maintained, Part, Point, Resolution, ResultStore, Retention,
        Sample, Scan, SeriesFilter, SeriesId, SeriesMeta, Sketch, Span, StoreError,
    },
};
use protocol::query::ResultPage;
use testkit::{NatsServer, eventually};

use crate::fixture::*;

const SOUND: u8 = 0;
/// Writes fail and nothing is on disk.
const FULL: u8 = 1;
/// Writes reach the disk, and the error comes afterwards (a failed fsync): nobody knows.
const UNSURE: u8 = 2;
/// Nothing can be opened either.
const AWAY: u8 = 3;

struct Faulty {
    inner: Fjall,
    fault: AtomicU8,
}

impl Faulty {
    fn full() -> StoreError {
        StoreError::Engine { what: "write", folder: "x".into(), source: "no space left on device".into() }
    }
}

impl ResultStore for Faulty {
    fn recover(&self) -> Result<Accounts, StoreError> {
        if self.fault.load(Ordering::SeqCst) == AWAY { Err(Self::full()) } else { self.inner.recover() }
    }
    fn knows_id(&self, id: &str, now_ms: u64) -> Result<bool, StoreError> {
        self.inner.knows_id(id, now_ms)
    }
    fn commit(&self, batch: &Commit<'_>) -> Result<(), StoreError> {
        match self.fault.load(Ordering::SeqCst) {
            SOUND => self.inner.commit(batch),
            UNSURE => {
                self.inner.commit(batch)?;
                Err(Self::full())
            }
            _ => Err(Self::full()),
        }
    }
    fn page(&self, scan: &Scan) -> Result<ResultPage, StoreError> {
        self.inner.page(scan)
    }
    fn series(&self, filter: &SeriesFilter) -> Result<Vec<SeriesMeta>, StoreError> {
        self.inner.series(filter)
    }
    fn find_series(&self, fits: &dyn Fn(Part<'_>) -> bool) -> Result<Vec<SeriesMeta>, StoreError> {
        self.inner.find_series(fits)
    }
    fn latest(&self, scan: &LatestScan) -> Result<ResultPage, StoreError> {
        self.inner.latest(scan)
    }
    fn horizon(&self) -> Result<Horizon, StoreError> {
        self.inner.horizon()
    }
    fn samples(&self, series: SeriesId, span: &Span) -> Result<Vec<Sample>, StoreError> {
        self.inner.samples(series, span)
    }
    fn points(
        &self,
        series: SeriesId,
        span: &Span,
        resolution: Resolution,
    ) -> Result<Vec<Point>, StoreError> {
        self.inner.points(series, span, resolution)
    }
    fn sketches(&self, series: SeriesId, span: &Span) -> Result<Vec<(u64, Sketch)>, StoreError> {
        self.inner.sketches(series, span)
    }
    fn maintain(&self, now_ms: u64, retention: &Retention) -> Result<Maintained, StoreError> {
        self.inner.maintain(now_ms, retention)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_disk_that_fails_stops_acknowledging_and_recovers_by_itself() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let inner = Fjall::new(data.path(), 0, Default::default()).unwrap();
    let store = Arc::new(Faulty { inner, fault: AtomicU8::new(SOUND) });
    let running = Running::start_with(&server, store.clone()).await;
    let mut next = 1;
    for fault in [FULL, UNSURE, AWAY] {
        publish(&client, "web-01", "disk", next, 1).await;
        stored_up_to(&client, "web-01", next).await;
        // The watermark is told before the acknowledgement is counted. Each number was published once.
        eventually("all that was published is acknowledged", LIMIT, || async {
            let done = running.count("messages_done");
            if done >= next { Ok(()) } else { Err(format!("{done} of {next}")) }
        })
        .await;
        let (acknowledged, failed) = (running.count("messages_done"), running.count("writes_failed"));
        store.fault.store(fault, Ordering::SeqCst);
        for seq in next + 1..=next + 5 {
            publish(&client, "web-01", "disk", seq, 1).await;
        }
        eventually("the failure is counted and makes it unready", LIMIT, || async {
            let count = running.count("writes_failed");
            let problems = running.ctx.ready.problems().join(" ");
            if count > failed && problems.contains("no space left") {
                Ok(())
            } else {
                Err(format!("{count} {problems}"))
            }
        })
        .await;
        // An unsure write that turns out to be on disk may be acknowledged when it comes again.
        if fault != UNSURE {
            assert_eq!(running.count("messages_done"), acknowledged);
        }
        store.fault.store(SOUND, Ordering::SeqCst);
        next += 6;
        publish(&client, "web-01", "disk", next - 1 + 1, 1).await;
        stored_up_to(&client, "web-01", next).await;
        assert!(running.ctx.ready.problems().is_empty());
        next += 1;
    }
    assert_each_once(&client, &["web-01"], next - 1).await;
    running.stop().await;
}
