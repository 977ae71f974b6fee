//! The store on a real disk, without a broker.

mod concurrent;
mod formats;
mod space;

use std::{
    collections::HashSet,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use ingest::{
    core::plan::Accounts,
    store::{
        Commit, Fjall, NewResult, Position, Resolution, ResultStore, Retention, Scan, SeriesFilter, Span,
        StoreError,
    },
};
use prometheus_client::metrics::counter::Counter;
use protocol::limits;

use crate::fixture::json;

const DAY: u64 = 24 * 3_600_000;

fn open(folder: &Path) -> Fjall {
    let store = Fjall::new(folder, 0, Counter::default()).unwrap();
    store.recover().unwrap();
    store
}

fn commit(store: &Fjall, now_ms: u64, seq: u64, at_ms: u64, ids: &[&str]) -> Result<(), StoreError> {
    let json = json("web-01", "disk", seq, at_ms);
    let result = protocol::decode(json.as_bytes(), limits::RESULT).unwrap();
    let results = vec![NewResult { result: &result, json: json.as_bytes() }];
    let ids: HashSet<String> = ids.iter().map(ToString::to_string).collect();
    store.commit(&Commit { now_ms, results, accounts: &Accounts::new(), ids: &ids })
}

fn keep(days: u64) -> Retention {
    let results = Duration::from_secs(days * 86_400);
    Retention {
        hot: Duration::from_secs(3600),
        results,
        five_minutes: 2 * results,
        hours: 4 * results,
        max_bytes: u64::MAX,
    }
}

fn scan() -> Scan {
    Scan {
        agent: None,
        check: None,
        from: Position::default(),
        until_ms: None,
        limit: 100,
        max_bytes: 1_000_000,
        deadline: Instant::now() + Duration::from_secs(10),
        fits: None,
    }
}

fn all(store: &Fjall) -> Vec<u64> {
    store.page(&scan()).unwrap().results.into_iter().map(|result| result.seq).collect()
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    for seq in 1..=3 {
        let store = open(folder.path());
        commit(&store, 10 * DAY, seq, seq, &[]).unwrap();
        assert_eq!(all(&store), (1..=seq).collect::<Vec<_>>());
    }
}

#[test]
fn an_id_is_known_for_two_days_and_forgotten_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    commit(&store, 10 * DAY, 1, 1, &["x"]).unwrap();
    assert!(store.knows_id("x", 12 * DAY).unwrap());
    assert!(store.knows_id("x", 10 * DAY - 1).unwrap(), "the clock was set back");
    assert!(!store.knows_id("y", 10 * DAY).unwrap());
    store.maintain(12 * DAY, &keep(100)).unwrap();
    assert!(store.knows_id("x", 12 * DAY).unwrap());
    store.maintain(13 * DAY, &keep(100)).unwrap();
    assert!(!store.knows_id("x", 11 * DAY).unwrap());
}

#[test]
fn retention_deletes_what_was_stored_too_long_ago() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    commit(&store, 10 * DAY, 1, 10 * DAY, &[]).unwrap();
    commit(&store, 20 * DAY, 2, 20 * DAY, &[]).unwrap();
    // Hosts with a wrong clock: far behind, far ahead.
    commit(&store, 20 * DAY, 3, 0, &[]).unwrap();
    commit(&store, 10 * DAY, 4, u64::MAX, &[]).unwrap();
    commit(&store, 20 * DAY, 5, u64::MAX, &[]).unwrap();
    assert_eq!(store.maintain(21 * DAY, &keep(7)).unwrap().expired, 2);
    assert_eq!(all(&store), [3, 2, 5]);
    assert_eq!(store.maintain(28 * DAY, &keep(7)).unwrap().expired, 3);
    assert_eq!(all(&store), [0u64; 0]);
}

#[test]
fn a_nearly_full_disk_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = Fjall::new(folder.path(), u64::MAX, Counter::default()).unwrap();
    store.recover().unwrap();
    let error = commit(&store, 1, 1, 1, &[]).unwrap_err().to_string();
    assert!(error.contains("make room, or lower --keep-free"), "{error}");
    assert_eq!(all(&store), [0u64; 0]);
}

#[test]
fn a_folder_has_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let second = Fjall::new(folder.path(), 0, Counter::default());
    assert!(second.err().unwrap().to_string().contains("is in use by another process"));
}

#[test]
fn a_damaged_row_is_counted_and_the_rest_still_serves() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for seq in 1..=3 {
        commit(&store, DAY, seq, seq, &[]).unwrap();
    }
    drop(store);
    let database = fjall::Database::builder(folder.path().join("db")).open().unwrap();
    let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).unwrap();
    let (key, value) = rows.iter().nth(1).unwrap().into_inner().unwrap();
    let mut damaged = value.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    rows.insert(key, damaged).unwrap();
    drop((rows, database));

    let count = Counter::default();
    let store = Fjall::new(folder.path(), 0, count.clone()).unwrap();
    store.recover().unwrap();
    assert_eq!(all(&store), [1, 3]);
    assert_eq!(count.get(), 1);
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let database = fjall::Database::builder(folder.path().join("db")).open().unwrap();
    let meta = database.keyspace("meta", fjall::KeyspaceCreateOptions::default).unwrap();
    meta.insert("format", [4]).unwrap();
    drop((meta, database));
    let store = Fjall::new(folder.path(), 0, Counter::default()).unwrap();
    let error = store.recover().unwrap_err().to_string();
    assert!(error.contains("are of format 4, this version reads up to 3"), "{error}");
}

/// A small disk of a test's own, gone with its value. `None` where mounting is not allowed.
pub(crate) struct SmallDisk(pub(crate) tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(folder.path())
            .output();
        mount.is_ok_and(|mount| mount.status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn g2_a_disk_that_is_full_loses_nothing_that_was_committed() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("*** a full disk was NOT TESTED: mounting a tmpfs is not allowed here ***");
        return;
    };
    let filler = disk.0.path().join("filler");
    std::fs::write(&filler, vec![7; 16 << 20]).unwrap();
    let store = Fjall::new(&disk.0.path().join("data"), 0, Counter::default()).unwrap();
    store.recover().unwrap();
    let write = |from: u64| {
        // Output that does not shrink, so that the disk fills.
        let mut seed = from + 1;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + u8::try_from((seed >> 33) % 26).unwrap())
        };
        let output: String = (0..60_000).map(|_| noise()).collect();
        let json = json("web-01", "disk", from, from)
            .replace("\"unknown\":true", &format!("\"output\":\"{output}\""));
        let result = protocol::decode(json.as_bytes(), limits::RESULT).unwrap();
        let results = vec![NewResult { result: &result, json: json.as_bytes() }];
        store.commit(&Commit { now_ms: DAY, results, accounts: &Accounts::new(), ids: &HashSet::new() })
    };
    let mut committed = 0;
    let error = loop {
        match write(committed + 1) {
            Ok(()) => committed += 1,
            Err(error) => break service_kit::report(&error),
        }
        assert!(committed < 10_000, "the disk never got full");
    };
    assert!(error.contains("cannot write the results in"), "{error}");
    assert!(committed > 10);
    // Opening again may free a little; what is then committed counts like the rest. Soon it is refused for good.
    let mut refused = 0;
    while refused < 3 {
        match store.recover().map(drop).and_then(|()| write(committed + 1)) {
            Ok(()) => committed += 1,
            Err(_) => refused += 1,
        }
        assert!(committed < 10_000, "the disk never got full");
    }
    std::fs::remove_file(&filler).unwrap();
    store.recover().unwrap();
    write(committed + 1).unwrap();
    let scan_all = |limit| {
        let mut scan = scan();
        (scan.limit, scan.max_bytes) = (limit, usize::MAX);
        store.page(&scan).unwrap().results
    };
    let seen: Vec<u64> = scan_all(10_000).iter().map(|result| result.seq).collect();
    assert_eq!(seen, (1..=committed + 1).collect::<Vec<_>>());
}

fn span() -> Span {
    Span { from_ms: 0, until_ms: u64::MAX, limit: 1_000, deadline: Instant::now() + Duration::from_secs(10) }
}

#[test]
fn series_are_listed_and_read_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    for seq in 1..=3 {
        commit(&open(folder.path()), DAY, seq, seq * 200_000, &[]).unwrap();
    }
    let store = open(folder.path());
    let found = store.series(&SeriesFilter::default()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].agent.as_str(), found[0].check.as_str(), found[0].metric.as_str()),
        ("web-01", "disk", "")
    );
    let samples = store.samples(found[0].id, &span()).unwrap();
    assert_eq!(
        samples.iter().map(|s| (s.at_ms, s.value)).collect::<Vec<_>>(),
        [(200_000, 1.0), (400_000, 2.0), (600_000, 3.0)]
    );
    let points = store.points(found[0].id, &span(), Resolution::FiveMinutes).unwrap();
    assert_eq!(
        points.iter().map(|p| (p.at_ms, p.count, p.sum)).collect::<Vec<_>>(),
        [(0, 1, 1.0), (300_000, 1, 2.0), (600_000, 1, 3.0)]
    );
    let few = Span { limit: 2, ..span() };
    assert!(matches!(store.samples(found[0].id, &few), Err(StoreError::TooMuch)));
    let other = SeriesFilter { metric: Some("x".into()), ..SeriesFilter::default() };
    assert!(store.series(&other).unwrap().is_empty());
}
