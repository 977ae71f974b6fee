use std::fs::OpenOptions;

use proptest::prelude::*;

use super::*;

const WIDE: Limits = Limits { max_bytes: 1 << 30, max_age: Duration::from_secs(1_000) };

fn open(folder: &Path, limits: Limits) -> Spool {
    Spool::open(folder, limits, 1_000).unwrap().0
}

fn seqs(spool: &mut Spool) -> Vec<u64> {
    spool.read(1, usize::MAX).unwrap().into_iter().map(|entry| entry.seq).collect()
}

/// The bytes of the newest segment.
fn newest(folder: &Path) -> (PathBuf, Vec<u8>) {
    let path = segment::path(folder, *segment::list(folder).unwrap().last().unwrap());
    (path.clone(), fs::read(path).unwrap())
}

#[test]
fn g1_numbers_go_on_after_a_restart_even_when_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    let epoch = spool.epoch();
    let large = vec![b'x'; 100_000];
    for expected in 1..=3 {
        assert_eq!(spool.append(1_000, 0, &large).unwrap(), expected);
    }
    spool.stored(1_000, 3).unwrap();
    assert_eq!((spool.bytes(), spool.oldest().unwrap()), (0, 4));
    drop(spool);
    let mut spool = open(folder.path(), WIDE);
    assert_eq!((spool.epoch(), spool.append(1_000, 0, b"x").unwrap()), (epoch, 4));
    assert_eq!(seqs(&mut spool), [4]);
}

#[test]
fn g1_a_folder_that_was_removed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state").join("spool");
    let mut spool = open(&path, WIDE);
    let epoch = spool.epoch();
    spool.append(1_000, 0, b"a").unwrap();
    assert_eq!(seqs(&mut spool), [1]);
    fs::remove_dir_all(folder.path().join("state")).unwrap();
    assert_eq!(spool.append(1_000, 0, b"b").unwrap(), 2);
    assert_eq!(seqs(&mut spool), [1, 2]);
    drop(spool);
    let mut spool = open(&path, Limits { max_bytes: 1 << 20, ..WIDE });
    assert_eq!((spool.epoch(), seqs(&mut spool)), (epoch, vec![1, 2]));

    // Full segments are lost with it, and counted.
    for _ in 3..=5 {
        spool.append(1_000, 0, &[b'x'; 100_000]).unwrap();
    }
    fs::remove_dir_all(&path).unwrap();
    assert_eq!((seqs(&mut spool), spool.take_dropped(), spool.oldest().unwrap()), (vec![5], 4, 5));
}

#[test]
fn g1_a_watermark_removes_and_one_from_the_future_is_a_rollback() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    for _ in 0..5 {
        spool.append(1_000, 0, b"x").unwrap();
    }
    spool.stored(1_000, 2).unwrap();
    spool.stored(1_000, 1).unwrap();
    assert_eq!((spool.oldest().unwrap(), seqs(&mut spool)), (3, vec![3, 4, 5]));
    assert_eq!(spool.stored(1_000, 6), Err(RolledBack));
    let epoch = spool.epoch();
    spool.new_epoch(7).unwrap();
    assert!(spool.epoch() > epoch, "a clock that went back does not matter");
    assert_eq!((seqs(&mut spool), spool.next_seq()), (vec![1, 2, 3], 4));
    drop(spool);
    let mut spool = open(folder.path(), WIDE);
    assert_eq!((seqs(&mut spool), spool.epoch()), (vec![1, 2, 3], epoch + 1));
}

#[test]
fn g1_without_its_segments_or_its_epoch_the_spool_begins_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    spool.append(1_000, 0, b"a").unwrap();
    let epoch = spool.epoch();
    drop(spool);
    fs::write(folder.path().join(EPOCH_FILE), "{").unwrap();
    let (mut spool, repaired) = Spool::open(folder.path(), WIDE, 5_000).unwrap();
    assert!(repaired.new_epoch && spool.epoch() == 5_000);
    assert_eq!(seqs(&mut spool), [1], "what is here is kept");
    drop(spool);
    fs::remove_file(newest(folder.path()).0).unwrap();
    let (mut spool, repaired) = Spool::open(folder.path(), WIDE, 5_000).unwrap();
    assert!(repaired.new_epoch && spool.epoch() > 5_000 && spool.epoch() > epoch);
    assert_eq!(spool.append(1_000, 0, b"b").unwrap(), 1);
    assert_eq!(seqs(&mut spool), [1]);
}

#[test]
fn g10_a_full_spool_drops_its_oldest_and_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { max_bytes: 8_000, ..WIDE };
    let mut spool = open(folder.path(), limits);
    for _ in 0..200 {
        spool.append(1_000, 0, &[b'x'; 76]).unwrap();
        assert!(spool.bytes() <= limits.max_bytes);
    }
    let kept = seqs(&mut spool);
    assert_eq!(kept.last(), Some(&200));
    assert_eq!(spool.take_dropped() + kept.len() as u64, 200);
    assert!(kept.len() > 60, "{}", kept.len());
    assert_eq!((spool.oldest().unwrap(), spool.take_dropped()), (kept[0], 0));
}

#[test]
fn g10_what_is_too_old_goes_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    spool.append(1_000, 0, b"old").unwrap();
    spool.append(1_000, 0, b"old").unwrap();
    spool.stored(1_000, 1).unwrap();
    spool.expire(900_000);
    assert_eq!(seqs(&mut spool), [2]);
    spool.expire(1_002_000);
    assert_eq!((seqs(&mut spool), spool.take_dropped(), spool.next_seq()), (vec![], 1, 3));
    spool.expire(0);
    assert_eq!(spool.append(5, 0, b"new").unwrap(), 3, "a clock that went back harms nothing");
}

#[test]
fn a_hole_is_skipped_counted_and_not_claimed_to_be_here() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    for _ in 0..4 {
        spool.append(1_000, 0, b"abcd").unwrap();
    }
    drop(spool);
    let (path, mut bytes) = newest(folder.path());
    let length = bytes.len() / 4;
    bytes[length + 26] ^= 1;
    bytes[2] = 0xff;
    fs::write(path, bytes).unwrap();
    let (mut spool, repaired) = Spool::open(folder.path(), WIDE, 1_000).unwrap();
    assert_eq!(repaired, Repaired { torn_bytes: 2 * length as u64, new_epoch: false });
    assert_eq!((seqs(&mut spool), spool.oldest().unwrap(), spool.next_seq()), (vec![3, 4], 3, 5));
}

#[test]
fn g1_the_number_of_a_damaged_last_record_is_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    spool.append(1_000, 0, b"one").unwrap();
    spool.append(1_000, 0, b"two").unwrap();
    drop(spool);
    let (path, mut bytes) = newest(folder.path());
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    let mut spool = open(folder.path(), WIDE);
    assert_eq!(spool.append(1_000, 0, b"three").unwrap(), 3);
    assert_eq!(seqs(&mut spool), [1, 3]);
}

#[test]
fn a_result_that_is_too_large_is_refused_and_uses_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    let error = spool.append(1_000, 0, &vec![0; record::PAYLOAD + 1]).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
    assert_eq!(spool.append(1_000, 0, b"x").unwrap(), 1);
}

#[test]
fn g10_one_read_is_bounded_and_the_next_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    for _ in 0..30 {
        spool.append(1_000, 0, &[b'x'; 200_000]).unwrap();
    }
    let (mut next, mut reads) = (1, 0);
    while next <= 30 {
        let read = spool.read(next, usize::MAX).unwrap();
        assert!(read.len() <= 11 && read.first().unwrap().seq == next);
        next = read.last().unwrap().seq + 1;
        reads += 1;
    }
    assert_eq!(reads, 3);
}

#[test]
fn g1_a_watermark_is_kept_across_restarts_and_one_of_the_future_means_that_the_spool_was_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    for _ in 0..5 {
        spool.append(1_000, 0, b"x").unwrap();
    }
    spool.stored(1_000, 3).unwrap();
    spool.save_watermark().unwrap();
    drop(spool);
    let mut spool = open(folder.path(), WIDE);
    assert_eq!((spool.oldest().unwrap(), seqs(&mut spool)), (4, vec![4, 5]));
    let epoch = spool.epoch();
    drop(spool);
    fs::write(folder.path().join(STORED_FILE), "{\"epoch\":").unwrap();
    let mut spool = open(folder.path(), WIDE);
    assert_eq!((spool.epoch(), spool.oldest().unwrap()), (epoch, 1), "a damaged one is as good as none");
    drop(spool);
    for (of, seq, begun) in [(epoch - 1, 9, false), (epoch, 5, false), (epoch, 6, true)] {
        let saved = format!("{{\"epoch\":{of},\"seq\":{seq}}}");
        fs::write(folder.path().join(STORED_FILE), saved).unwrap();
        let (_, repaired) = Spool::open(folder.path(), WIDE, 1_000).unwrap();
        assert_eq!(repaired.new_epoch, begun, "{of} {seq}");
    }
}

#[test]
fn g1_lost_numbers_are_left_out_and_results_given_up_are_passed() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path(), WIDE);
    spool.append(1_000, 0, b"1").unwrap();
    assert_eq!(spool.append(1_000, 7, b"9").unwrap(), 9);
    spool.append(1_000, 0, b"10").unwrap();
    assert_eq!(seqs(&mut spool), [1, 9, 10]);
    drop(spool);
    let mut spool = open(folder.path(), WIDE);
    spool.give_up(1);
    spool.give_up(1);
    assert_eq!((spool.oldest().unwrap(), spool.take_dropped()), (9, 1));
    spool.stored(1_000, 9).unwrap();
    assert_eq!((spool.oldest().unwrap(), spool.next_seq()), (10, 11));
}

#[derive(Debug, Clone)]
enum Step {
    /// In one write.
    Append(Vec<usize>),
    Stored(prop::sample::Index),
    /// With or without the watermark kept.
    Restart(bool),
    /// The process dies inside a write: some bytes of a record, or zeros, are at the end.
    Torn(usize, bool),
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..3_000).prop_map(|size| Step::Append(vec![size])),
        4 => proptest::collection::vec(0_usize..2_000, 0..6).prop_map(Step::Append),
        2 => any::<prop::sample::Index>().prop_map(Step::Stored),
        1 => any::<bool>().prop_map(Step::Restart),
        1 => (1_usize..60, any::<bool>()).prop_map(|(bytes, zeros)| Step::Torn(bytes, zeros)),
        2 => (1_usize..20).prop_map(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Against a model: no number twice, nothing lost but what is counted or stored, order kept, size bounded.
    #[test]
    fn g1_the_spool_behaves_as_its_model(steps in proptest::collection::vec(step(), 1..120)) {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { max_bytes: 40_000, ..WIDE };
        let mut spool = open(folder.path(), limits);
        let epoch = spool.epoch();
        let mut model = Vec::<Entry>::new();
        let (mut stored, mut saved, mut dropped) = (0, 0, 0);
        for step in steps {
            match step {
                Step::Append(sizes) => {
                    let payload = |size: usize| vec![u8::try_from(size % 251).unwrap(); size];
                    let payloads: Vec<_> = sizes.into_iter().map(payload).collect();
                    let length: usize = payloads.iter().map(|payload| payload.len() + record::HEADER).sum();
                    let expected = model.len() as u64 + 1;
                    match spool.append_all(1_000, 0, &payloads) {
                        Ok(first) => {
                            prop_assert_eq!(first, expected);
                            let entry = |(payload, seq)| Entry { seq, at_ms: 1_000, payload };
                            model.extend(payloads.into_iter().zip(first..).map(entry));
                        }
                        // None of them has a number then.
                        Err(error) => {
                            prop_assert!(matches!(error, SpoolError::TooLarge(_)) && length > 5_000);
                            prop_assert_eq!(spool.next_seq(), expected);
                        }
                    }
                }
                Step::Stored(index) => {
                    let seq = index.index(model.len() + 1) as u64;
                    spool.stored(1_000, seq).unwrap();
                    stored = stored.max(seq);
                }
                Step::Torn(bytes, zeros) => {
                    dropped += spool.take_dropped();
                    drop(spool);
                    let path = newest(folder.path()).0;
                    let mut record = Vec::new();
                    record::encode(&Record { index: 9, at_ms: 9, payload: &[7; 100] }, &mut record).unwrap();
                    let tail = if zeros { vec![0; bytes] } else { record[..bytes].to_vec() };
                    let file = OpenOptions::new().write(true).open(&path).unwrap();
                    file.write_all_at(&tail, file.metadata().unwrap().len()).unwrap();
                    let (opened, repaired) = Spool::open(folder.path(), limits, 1_000).unwrap();
                    prop_assert_eq!(repaired, Repaired { torn_bytes: bytes as u64, new_epoch: false });
                    spool = opened;
                    stored = saved;
                }
                Step::Restart(save) => {
                    dropped += spool.take_dropped();
                    if save {
                        spool.save_watermark().unwrap();
                        saved = stored;
                    }
                    drop(spool);
                    spool = open(folder.path(), limits);
                    stored = saved;
                    prop_assert!(spool.oldest().unwrap() > saved);
                }
                Step::Read(count) => {
                    let oldest = spool.oldest().unwrap();
                    let read = spool.read(oldest, count).unwrap();
                    let kept = model.iter().filter(|entry| entry.seq >= oldest).take(count);
                    prop_assert!(read.iter().eq(kept));
                }
            }
            prop_assert!(spool.bytes() <= limits.max_bytes);
            prop_assert_eq!(spool.epoch(), epoch);
        }
        let oldest = spool.oldest().unwrap();
        prop_assert_eq!(spool.read(oldest, usize::MAX).unwrap(), &model[usize::try_from(oldest).unwrap() - 1..]);
        dropped += spool.take_dropped();
        // Lost at most what was counted; what was stored may be counted too after a restart forgot the watermark.
        prop_assert!(oldest > stored);
        prop_assert!(dropped < oldest);
    }
}
