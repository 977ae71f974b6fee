//! A store of format 2 becomes one of the present format.

use std::{fs, time::Duration};

use ingest::store::{Fjall, Point, Resolution, ResultStore, SeriesFilter, Span};
use prometheus_client::metrics::counter::Counter;

use super::space::{commit, open, page_all, unhex};

const DAY: u64 = 86_400_000;

/// As the last program of format 2 left it: `keyspace key value`, or `file name bytes`, in hexadecimal. Two agents with
/// two checks, 120 results on each of five days. The first two are rolled up and gone, the last lies in rows.
const FORMAT_2: &str = include_str!("../../data/store-format-2.txt");

fn points(store: &Fjall, resolution: Resolution) -> Vec<Point> {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let span = Span { from_ms: 0, until_ms: u64::MAX, limit: 10_000, deadline };
    let series = store.series(&SeriesFilter::default()).unwrap();
    series.iter().flat_map(|meta| store.points(meta.id, &span, resolution).unwrap()).collect()
}

#[test]
fn g1_a_store_of_format_2_opens_keeps_all_and_is_rolled_up() {
    let folder = tempfile::tempdir().unwrap();
    // The folder is made as the program makes it.
    drop(Fjall::new(folder.path(), 0, Counter::default()).unwrap());
    let database = fjall::Database::builder(folder.path().join("db")).open().unwrap();
    fs::create_dir(folder.path().join("blocks")).unwrap();
    for line in FORMAT_2.lines() {
        let [name, key, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if name == "file" {
            let name = String::from_utf8(unhex(key)).unwrap();
            fs::write(folder.path().join("blocks").join(name), unhex(value)).unwrap();
            continue;
        }
        let keyspace = database.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap();
        keyspace.insert(unhex(key), unhex(value)).unwrap();
    }
    database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop(database);

    let (store, _) = open(folder.path());
    let mut seqs: Vec<u64> = page_all(&store).iter().map(|result| result.seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (241..=600).collect::<Vec<_>>());
    let text = |store: &Fjall| format!("{:?}", Resolution::ALL.map(|resolution| points(store, resolution)));
    let before = text(&store);
    let counted: u64 = points(&store, Resolution::Hour).iter().map(|point| point.count).sum();
    assert_eq!(counted, 2 * 600, "a value and a metric of each result that ever was");

    // Opened once more it is of the present format; its days are rolled up, and tell the same.
    drop(store);
    let (store, _) = open(folder.path());
    assert_eq!(text(&store), before);
    commit(&store, 20_010 * DAY, 601..602, &mut || "new".into());
    let keep = super::space::keep(1000);
    assert_eq!(store.maintain(20_010 * DAY + 1, &keep).unwrap().sealed, 121);
    // A day each time, so that sealing is not held up.
    while store.maintain(20_010 * DAY + 1, &keep).unwrap().rolled_up > 0 {}
    let after: u64 = points(&store, Resolution::Hour).iter().map(|point| point.count).sum();
    assert_eq!(after, counted + 1);
    assert_eq!(store.check(&mut |_, _| {}).unwrap().damaged, []);
}
