//! The store against a simple model: a list of all results.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use proptest::{collection::vec, prelude::*};
use protocol::duration::millis;

use super::*;
use crate::{
    core::plan::Accounts,
    store::{
        Commit, LatestScan, NewResult, Position, Resolution, ResultStore, Retention, Sample, Scan,
        SeriesFilter, Span, engine::DAY_MS, read::push_samples, series,
    },
};

const TODAY: u64 = 20_000;

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u8, u64, i32)>),
    /// Each with the number of steps after which the process dies; most numbers are more than there are.
    Seal(u64),
    Merge(u64),
    RollUp(u64),
    /// Days that pass before.
    Expire(u64, u64),
    Reopen,
    NextDay,
}

fn step() -> impl Strategy<Value = Step> {
    let at = prop_oneof![
        8 => (TODAY * DAY_MS - DAY_MS)..(TODAY * DAY_MS + 2 * DAY_MS),
        1 => Just(0),
        1 => Just(u64::MAX),
        1 => Just(TODAY * DAY_MS),
    ];
    let result = (0u8..6, at, -50..50i32);
    let deaths = || prop_oneof![3 => Just(u64::MAX), 2 => 0u64..6];
    prop_oneof![
        4 => vec(result, 1..30).prop_map(Step::Commit),
        2 => deaths().prop_map(Step::Seal),
        2 => deaths().prop_map(Step::Merge),
        2 => deaths().prop_map(Step::RollUp),
        1 => (0u64..4, deaths()).prop_map(|(days, deaths)| Step::Expire(days, deaths)),
        1 => Just(Step::Reopen),
        1 => Just(Step::NextDay),
    ]
}

fn result(which: u8, at_ms: u64, tenths: i32, seq: u64) -> CheckResult {
    let (agent, check) = (which / 2, which % 2);
    // A numbered one, or one that equals others in all.
    let seq = if tenths % 7 == 0 { 0 } else { seq };
    let value = f64::from(tenths) / 10.0;
    let status = if tenths > 40 { "critical" } else { "ok" };
    let json = format!(
        r#"{{"v":1,"agent":"a{agent}","check":"c{check}","epoch":1,"seq":{seq},"at_ms":{at_ms},"status":"{status}",
        "value":{value},"metrics":[{{"name":"m","value":{tenths}}}],"output":"{status} {value}"}}"#
    );
    protocol::decode(json.as_bytes(), 1000).unwrap()
}

struct World {
    folder: tempfile::TempDir,
    store: Fjall,
    now_ms: u64,
    seq: u64,
    /// Each with the moment of storing.
    model: Vec<(u64, CheckResult)>,
    /// All that ever was, but for strays: what roll-ups tell.
    history: Vec<CheckResult>,
}

const RETENTION: Retention = Retention {
    hot: Duration::from_secs(3600),
    results: Duration::from_secs(2 * 86_400),
    five_minutes: Duration::from_secs(1000 * 86_400),
    hours: Duration::from_secs(1000 * 86_400),
    max_bytes: u64::MAX,
};

fn open(folder: &std::path::Path) -> Fjall {
    let store = Fjall::new(folder, 0, Counter::default()).unwrap();
    store.recover().unwrap();
    store
}

fn is_stray(at_ms: u64, stored_ms: u64) -> bool {
    let (day, today) = (at_ms / DAY_MS, stored_ms / DAY_MS);
    day + 31 < today || day > today + 1
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let now_ms = TODAY * DAY_MS + 1;
        Self { folder, store, now_ms, seq: 0, model: Vec::new(), history: Vec::new() }
    }

    fn reopen(self) -> Self {
        // One store a folder: the old one goes first.
        drop(self.store);
        Self { store: open(self.folder.path()), ..self }
    }

    fn run(mut self, step: &Step) -> Self {
        let is_dead = match step {
            Step::Reopen => true,
            Step::NextDay => {
                self.now_ms += DAY_MS;
                false
            }
            Step::Commit(results) => {
                self.commit(results);
                false
            }
            Step::Seal(deaths) => {
                self.dies(*deaths, |store| store.with_open(|open| store.seal_now(open, self.now_ms)))
            }
            Step::Merge(deaths) => {
                self.dies(*deaths, |store| store.with_open(|open| store.merge_all(open, self.now_ms, |_| {})))
            }
            Step::RollUp(deaths) => {
                self.dies(*deaths, |store| store.with_open(|open| store.roll_up(open, self.now_ms)))
            }
            Step::Expire(days, deaths) => {
                self.store.with_open(|open| self.store.seal_now(open, self.now_ms)).unwrap();
                self.now_ms += days * DAY_MS;
                let now_ms = self.now_ms;
                let is_dead = self
                    .dies(*deaths, |store| store.with_open(|open| store.expire(open, now_ms, &RETENTION)));
                if is_dead {
                    self = self.reopen();
                    let store = &self.store;
                    store.with_open(|open| store.expire(open, now_ms, &RETENTION)).unwrap();
                }
                self.expire();
                false
            }
        };
        if is_dead { self.reopen() } else { self }
    }

    /// Whether it died.
    fn dies<T>(&self, after: u64, work: impl FnOnce(&Fjall) -> Result<T, StoreError>) -> bool {
        self.store.dies_after.store(after, Ordering::Relaxed);
        let outcome = work(&self.store);
        self.store.dies_after.store(u64::MAX, Ordering::Relaxed);
        match outcome {
            Ok(_) => false,
            Err(StoreError::Closed { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    }

    fn commit(&mut self, results: &[(u8, u64, i32)]) {
        let mut new = Vec::new();
        for (which, at_ms, tenths) in results {
            self.seq += 1;
            new.push(result(*which, *at_ms, *tenths, self.seq));
        }
        let json: Vec<Vec<u8>> = new.iter().map(|result| protocol::encode(result).unwrap()).collect();
        let results = new.iter().zip(&json).map(|(result, json)| NewResult { result, json }).collect();
        let (accounts, ids) = (&Accounts::new(), &HashSet::new());
        self.store.commit(&Commit { now_ms: self.now_ms, results, accounts, ids }).unwrap();
        let known = new.iter().filter(|result| !is_stray(result.at_ms, self.now_ms));
        self.history.extend(known.cloned());
        self.model.extend(new.into_iter().map(|result| (self.now_ms, result)));
    }

    fn expire(&mut self) {
        let before = self.now_ms - millis(RETENTION.results);
        let partition = |stored: u64, result: &CheckResult| {
            if is_stray(result.at_ms, stored) {
                Partition::Stray(stored / DAY_MS)
            } else {
                Partition::Day(result.at_ms / DAY_MS)
            }
        };
        let mut youngest = BTreeMap::new();
        for (stored, result) in &self.model {
            let own = youngest.entry(partition(*stored, result)).or_insert(*stored);
            *own = (*own).max(*stored);
        }
        self.model.retain(|(stored, result)| {
            let partition = partition(*stored, result);
            let is_old = matches!(partition, Partition::Stray(_)) || partition.end_ms() <= before;
            // The rule looks at segments: a partition goes when its youngest result is old enough.
            !(is_old && youngest[&partition] < before)
        });
    }

    fn check(&self) {
        let sorted = |mut texts: Vec<String>| {
            texts.sort();
            texts
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        // Pages of a few, so that cursors are used.
        let mut scan = Scan {
            agent: None,
            check: None,
            from: Position::default(),
            until_ms: None,
            limit: 7,
            max_bytes: 1_000_000,
            deadline,
            fits: None,
        };
        let mut paged = Vec::new();
        loop {
            let page = self.store.page(&scan).unwrap();
            paged.extend(page.results);
            match page.next {
                Some(next) => scan.from = next.parse().unwrap(),
                None => break,
            }
        }
        assert!(paged.is_sorted_by_key(|result| result.at_ms));
        let texts = |results: &mut dyn Iterator<Item = &CheckResult>| {
            sorted(results.map(|result| format!("{result:?}")).collect())
        };
        assert_eq!(texts(&mut paged.iter()), texts(&mut self.model.iter().map(|(_, result)| result)));

        let mut newest: BTreeMap<(AgentId, CheckName), u64> = BTreeMap::new();
        for (_, result) in &self.model {
            let at_ms = newest.entry((result.agent.clone(), result.check.clone())).or_default();
            *at_ms = result.at_ms.max(*at_ms);
        }
        let scan = LatestScan {
            agent: None,
            check: None,
            after: None,
            since_ms: 0,
            statuses: Vec::new(),
            limit: 1_000,
            max_bytes: 1_000_000,
            deadline,
        };
        let latest = self.store.latest(&scan).unwrap().results;
        let latest: Vec<_> = latest.into_iter().map(|r| ((r.agent, r.check), r.at_ms)).collect();
        assert_eq!(latest, newest.into_iter().collect::<Vec<_>>());

        let span = Span { from_ms: 0, until_ms: u64::MAX, limit: 100_000, deadline };
        for meta in self.store.series(&SeriesFilter::default()).unwrap() {
            let metric = (!meta.metric.is_empty()).then_some(meta.metric.as_str());
            let own = |result: &&CheckResult| result.agent == meta.agent && result.check == meta.check;
            let mut expected = Vec::new();
            let results = self.model.iter().map(|(_, result)| result).filter(own);
            results
                .filter(|result| result.at_ms < u64::MAX)
                .for_each(|r| push_samples(r, metric, &mut expected));
            let text =
                |samples: &[Sample]| sorted(samples.iter().map(|sample| format!("{sample:?}")).collect());
            let samples = self.store.samples(meta.id, &span).unwrap();
            assert!(samples.is_sorted_by_key(|sample| sample.at_ms));
            assert_eq!(text(&samples), text(&expected));

            let mut ever = Vec::new();
            self.history.iter().filter(own).for_each(|result| push_samples(result, metric, &mut ever));
            ever.sort_by_key(|sample: &Sample| sample.at_ms);
            for resolution in Resolution::ALL {
                let within = Span {
                    from_ms: (TODAY - 20) * DAY_MS,
                    until_ms: (TODAY + 40) * DAY_MS,
                    limit: 100_000,
                    deadline,
                };
                let points = self.store.points(meta.id, &within, resolution).unwrap();
                let counts = |points: &[series::Point]| -> Vec<_> {
                    points.iter().map(|p| (p.at_ms, p.count, p.min, p.max, p.statuses)).collect()
                };
                assert_eq!(counts(&points), counts(&series::points(&ever, resolution)));
                if resolution == Resolution::Hour {
                    let sketches = self.store.sketches(meta.id, &within).unwrap();
                    let sketched: Vec<_> =
                        sketches.iter().map(|(at_ms, own)| (*at_ms, own.count())).collect();
                    assert_eq!(sketched, points.iter().map(|p| (p.at_ms, p.count)).collect::<Vec<_>>());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn g2_the_store_holds_what_a_list_holds_wherever_it_dies(steps in vec(step(), 1..14)) {
        let mut world = World::new();
        for step in &steps {
            world = world.run(step);
            world.check();
        }
    }
}

/// Results of one check, each with so much output, at so many seconds of a day.
fn commit_outputs(store: &Fjall, now_ms: u64, seconds: std::ops::Range<u64>, output: usize) {
    let results: Vec<CheckResult> = seconds
        .map(|second| {
            let mut result = result(0, TODAY * DAY_MS + second * 1000, 7 * 10 + 1, second + 1);
            result.output = format!("{second} ").repeat(output / 4);
            result
        })
        .collect();
    let json: Vec<Vec<u8>> = results.iter().map(|result| protocol::encode(result).unwrap()).collect();
    let results = results.iter().zip(&json).map(|(result, json)| NewResult { result, json }).collect();
    let (accounts, ids) = (&Accounts::new(), &HashSet::new());
    store.commit(&Commit { now_ms, results, accounts, ids }).unwrap();
}

/// A day of one check with large outputs, in several segments of several blocks.
const SEGMENTS: u64 = 6;
const EACH: u64 = 150;

fn large_day() -> (tempfile::TempDir, Fjall) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for segment in 0..SEGMENTS {
        let now_ms = TODAY * DAY_MS + segment;
        commit_outputs(&store, now_ms, segment * EACH..(segment + 1) * EACH, 40_000);
        store.with_open(|open| store.seal_now(open, now_ms)).unwrap();
    }
    (folder, store)
}

#[test]
fn g10_merging_and_rolling_up_hold_a_block_of_each_segment_however_large_the_day() {
    let (_folder, store) = large_day();
    let tomorrow = (TODAY + 1) * DAY_MS + 3 * 3_600_000;
    let whole = SEGMENTS * EACH * 40_000;
    let most = SEGMENTS * (BLOCK_TEXT as u64 + 200_000);
    assert!(most * 4 < whole, "the bound tells something");
    assert_eq!(store.with_open(|open| store.roll_up(open, tomorrow)).unwrap(), SEGMENTS * EACH);
    let rolling = store.most_in_hand.swap(0, Ordering::Relaxed);
    assert_eq!(store.with_open(|open| store.merge_all(open, tomorrow, |_| {})).unwrap(), SEGMENTS * EACH);
    let merging = store.most_in_hand.load(Ordering::Relaxed);
    for held in [rolling, merging] {
        assert!(held > BLOCK_TEXT as u64 / 2 && held < most, "{held} bytes in hand of {whole}");
    }
    let days = store.with_open(|open| Ok(merge::partitions(open))).unwrap();
    assert_eq!(days[&Partition::Day(TODAY)].len(), 1);
    assert!(days[&Partition::Day(TODAY)][0].meta.rolled_up);
}

#[test]
fn a_day_that_is_rolled_up_is_told_without_its_results() {
    let (_folder, store) = large_day();
    let meta = store.series(&SeriesFilter { metric: Some("m".into()), ..SeriesFilter::default() }).unwrap();
    let span = || Span {
        from_ms: 0,
        until_ms: u64::MAX,
        limit: 1000,
        deadline: Instant::now() + Duration::from_secs(60),
    };
    let read = || (store.points(meta[0].id, &span(), Resolution::Hour), store.sketches(meta[0].id, &span()));
    let before = format!("{:?}", read());
    let soon = (TODAY + 1) * DAY_MS + 3_600_000;
    assert_eq!(store.with_open(|open| store.roll_up(open, soon)).unwrap(), 0, "late results may still come");
    let later = soon + 3_600_000;
    assert_eq!(store.with_open(|open| store.roll_up(open, later)).unwrap(), SEGMENTS * EACH);
    assert_eq!(store.with_open(|open| store.roll_up(open, later)).unwrap(), 0, "once");
    assert_eq!(format!("{:?}", read()), before);
    // Nothing of the results is looked at any more: their files could as well be damaged.
    for segment in store.with_open(|open| Ok(open.view().segments)).unwrap() {
        if segment.meta.rolled_up {
            let path = segment::path(&store.blocks(), segment.number);
            fs::write(&path, vec![0; usize::try_from(segment.meta.bytes).unwrap()]).unwrap();
        }
    }
    assert_eq!(format!("{:?}", read()), before);
    assert_eq!(store.damaged.get(), 0);
}

#[test]
fn g2_a_death_while_rolling_up_counts_each_result_once() {
    for deaths in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let (store, later) = (open(folder.path()), (TODAY + 2) * DAY_MS);
        commit_outputs(&store, TODAY * DAY_MS, 0..50, 40);
        store.with_open(|open| store.seal_now(open, TODAY * DAY_MS)).unwrap();
        store.dies_after.store(deaths, Ordering::Relaxed);
        let _dead = store.with_open(|open| store.roll_up(open, later));
        drop(store);
        let store = open(folder.path());
        for _ in 0..2 {
            let meta = &store.series(&SeriesFilter::default()).unwrap()[0];
            let deadline = Instant::now() + Duration::from_secs(60);
            let span = Span { from_ms: 0, until_ms: u64::MAX, limit: 1000, deadline };
            let points = store.points(meta.id, &span, Resolution::Hour).unwrap();
            assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), 50, "{deaths} steps");
            store.with_open(|open| store.roll_up(open, later)).unwrap();
        }
    }
}
