//! Readers while results come, are sealed and merged.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use ingest::store::{ResultStore, SeriesFilter, Span};

use super::{DAY, commit, keep, open};

#[test]
fn a_reader_sees_each_sample_once_while_they_are_sealed() {
    const LAST: u64 = 1_500;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    commit(&store, DAY, 1, 1_000, &[]).unwrap();
    let id = store.series(&SeriesFilter::default()).unwrap()[0].id;
    let committed = AtomicU64::new(1);
    let done = || committed.load(Ordering::SeqCst) >= LAST;
    thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 2..=LAST {
                commit(&store, DAY, seq, seq * 1_000, &[]).unwrap();
                committed.store(seq, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while !done() {
                let mut now = keep(100);
                now.hot = Duration::ZERO;
                store.maintain(DAY, &now).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !done() {
                    let before = committed.load(Ordering::SeqCst);
                    let deadline = Instant::now() + Duration::from_secs(60);
                    let span = Span { from_ms: 0, until_ms: u64::MAX, limit: 10_000, deadline };
                    let samples = store.samples(id, &span).unwrap();
                    let times: Vec<u64> = samples.iter().map(|sample| sample.at_ms / 1_000).collect();
                    assert!(times.len() as u64 >= before, "{} of {before}", times.len());
                    assert_eq!(times, (1..=times.len() as u64).collect::<Vec<_>>());
                }
            });
        }
    });
}
