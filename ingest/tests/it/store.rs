//! The store on a real disk, without a broker.

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use ingest::{
    core::plan::Accounts,
    store::{Commit, Fjall, NewResult, Position, ResultStore, Scan, StoreError},
};
use prometheus_client::metrics::counter::Counter;
use protocol::CheckName;

use crate::fixture::{agent, json};

const DAY: u64 = 24 * 3_600_000;

fn open(folder: &Path) -> Fjall {
    let store = Fjall::new(folder, 0, Counter::default()).unwrap();
    store.recover().unwrap();
    store
}

fn commit(store: &Fjall, now_ms: u64, seq: u64, at_ms: u64, ids: &[&str]) -> Result<(), StoreError> {
    let (agent, check, json) =
        (agent("web-01"), CheckName::new("disk").unwrap(), json("web-01", "disk", seq, at_ms));
    let results = vec![NewResult { agent: &agent, check: &check, at_ms, json: json.as_bytes() }];
    let ids: HashSet<String> = ids.iter().map(ToString::to_string).collect();
    store.commit(&Commit { now_ms, results, accounts: &Accounts::new(), ids: &ids })
}

fn all(store: &Fjall) -> Vec<u64> {
    let scan = Scan {
        agent: None,
        check: None,
        from: Position::default(),
        until_ms: None,
        limit: 100,
        max_bytes: 1_000_000,
        deadline: Instant::now() + Duration::from_secs(10),
    };
    store.page(&scan).unwrap().results.into_iter().map(|result| result.seq).collect()
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
    store.expire(12 * DAY, Duration::from_secs(86_400 * 100)).unwrap();
    assert!(store.knows_id("x", 12 * DAY).unwrap());
    store.expire(13 * DAY, Duration::from_secs(86_400 * 100)).unwrap();
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
    let keep = Duration::from_secs(7 * 86_400);
    assert_eq!(store.expire(21 * DAY, keep).unwrap(), 2);
    assert_eq!(all(&store), [3, 2, 5]);
    assert_eq!(store.expire(28 * DAY, keep).unwrap(), 3);
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
