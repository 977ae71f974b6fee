//! What the store takes on disk: space of what was sealed or dropped is given back, and old formats are read.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use ingest::{
    core::plan::Accounts,
    store::{Commit, Fjall, NewResult, Position, ResultStore, Retention, Scan, SeriesFilter},
};
use prometheus_client::metrics::counter::Counter;
use protocol::{AgentId, CheckResult, limits};

use crate::fixture::{LIMIT, json};

const DAY: u64 = 24 * 3_600_000;
const MIB: u64 = 1 << 20;

pub(super) fn open(folder: &Path) -> (Fjall, Accounts) {
    let store = Fjall::new(folder, 0, Counter::default()).unwrap();
    let accounts = store.recover().unwrap();
    (store, accounts)
}

pub(super) fn keep(days: u64) -> Retention {
    let results = Duration::from_secs(days * 86_400);
    Retention { hot: Duration::ZERO, results, five_minutes: results, hours: results, max_bytes: u64::MAX }
}

fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes(&entry.path()),
            Ok(meta) => meta.len(),
            // A table that was just replaced.
            Err(_) => 0,
        })
        .sum()
}

/// Text that does not shrink.
fn noise(seed: &mut u64, len: usize) -> String {
    let mut letter = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + 3 + u8::try_from((*seed >> 33) % 57).unwrap())
    };
    (0..len).map(|_| letter()).collect()
}

/// One batch of results of one check with as many bytes of output each.
pub(super) fn commit(
    store: &Fjall,
    now_ms: u64,
    seqs: std::ops::Range<u64>,
    output: &mut dyn FnMut() -> String,
) {
    let texts: Vec<String> = seqs
        .map(|seq| {
            let json = json("web-01", "disk", seq, now_ms - DAY + seq);
            json.replace("\"unknown\":true", &format!("\"output\":\"{}\"", output()))
        })
        .collect();
    let results: Vec<CheckResult> =
        texts.iter().map(|json| protocol::decode(json.as_bytes(), limits::RESULT).unwrap()).collect();
    let new = results.iter().zip(&texts).map(|(result, json)| NewResult { result, json: json.as_bytes() });
    let (accounts, ids) = (&Accounts::new(), &HashSet::new());
    store.commit(&Commit { now_ms, results: new.collect(), accounts, ids }).unwrap();
}

pub(super) fn page_all(store: &Fjall) -> Vec<CheckResult> {
    let mut scan = Scan {
        agent: None,
        check: None,
        from: Position::default(),
        until_ms: None,
        limit: 10_000,
        max_bytes: 64 << 20,
        deadline: Instant::now() + Duration::from_secs(120),
        fits: None,
    };
    let mut all = Vec::new();
    loop {
        let page = store.page(&scan).unwrap();
        all.extend(page.results);
        match page.next {
            Some(next) => scan.from = next.parse().unwrap(),
            None => return all,
        }
    }
}

#[tokio::test]
async fn what_was_sealed_or_dropped_is_gone_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let (mut seed, mut seq, mut now_ms) = (1, 1, 20_000 * DAY);
    // 100 MiB in three rounds: more than one journal, more than one table.
    for _ in 0..3 {
        for _ in 0..8 {
            commit(&store, now_ms, seq..seq + 70, &mut || noise(&mut seed, 60_000));
            seq += 70;
        }
        now_ms += 1000;
        let (before, held) = (bytes(&folder.path().join("db")), seq);
        assert_eq!(store.maintain(now_ms, &keep(1000)).unwrap().sealed, 8 * 70);
        let after = bytes(&folder.path().join("db"));
        eprintln!("db/: {} MiB before sealing, {} MiB after; {held} results", before / MIB, after / MIB);
    }
    // The journal in use stays, of 64 MiB. One before it may stay until results are sealed again.
    let db = folder.path().join("db");
    testkit::eventually("sealed rows are gone from db/", LIMIT, || {
        now_ms += 1000;
        commit(&store, now_ms, seq..seq + 1, &mut || "one more".into());
        seq += 1;
        assert_eq!(store.maintain(now_ms, &keep(1000)).unwrap().sealed, 1);
        let left = bytes(&db);
        async move { if left < 80 * MIB { Ok(()) } else { Err(format!("{} MiB are left", left / MIB)) } }
    })
    .await;
    assert_eq!(store.stats().unwrap().sealed_results, seq - 1);
    store.maintain(now_ms + 9 * DAY, &keep(7)).unwrap();
    assert!(page_all(&store).is_empty());
    assert!(bytes(&folder.path().join("blocks")) < MIB, "only points are left");
}

/// A store as it was before sealed blocks: `keyspace key value` in hexadecimal, written by the last program without
/// them. Three agents; web-02 lacks its third result; ids of four submissions; one result from 1970.
const FORMAT_1: &str = include_str!("../../data/store-format-1.txt");

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn g1_a_store_of_format_1_opens_keeps_all_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // The folder is made as the program makes it.
    drop(Fjall::new(folder.path(), 0, Counter::default()).unwrap());
    let database = fjall::Database::builder(folder.path().join("db")).open().unwrap();
    for line in FORMAT_1.lines() {
        let [name, key, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let keyspace = database.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap();
        keyspace.insert(unhex(key), unhex(value)).unwrap();
    }
    database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop(database);

    let (store, accounts) = open(folder.path());
    let old = page_all(&store);
    assert_eq!(old.len(), 47);
    assert_eq!((old[0].at_ms, old[0].agent.as_str()), (DAY, "web-02"));
    let agent = AgentId::new("web-02").unwrap();
    let stored = accounts[&agent].watermark(&agent, 5);
    assert_eq!((stored.seq, stored.lost), (2, 0), "the gap is still open");
    let day = 1_795_200_000_000;
    assert!(store.knows_id("web-01 iid-3", day).unwrap());
    let names: Vec<_> = store.series(&SeriesFilter::default()).unwrap();
    assert_eq!(names.len(), 12, "three agents, two checks, each with a value of its own and /var");

    // It goes on: more is stored, all is sealed, and still there after opening again.
    commit(&store, day + DAY, 1..3, &mut || "new".into());
    let text = |results: Vec<CheckResult>| results.iter().map(|r| format!("{r:?}")).collect::<HashSet<_>>();
    let before = text(page_all(&store));
    assert_eq!(before.len(), 49);
    assert!(text(old).is_subset(&before));
    assert_eq!(store.maintain(day + DAY + 1, &keep(1000)).unwrap().sealed, 49);
    drop(store);
    let (store, again) = open(folder.path());
    assert_eq!(text(page_all(&store)), before);
    assert_eq!(again.len(), accounts.len());
    assert_eq!(store.check(&mut |_, _| {}).unwrap().damaged, []);
}
