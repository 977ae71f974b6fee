//! One agent's sequence of one epoch: which numbers are here, which are missing, which are lost.
//!
//! The ledger holds the set of stored numbers as closed ranges, and the `floor`: the agent has nothing at or below it
//! any more. All else follows from the two:
//!
//! ```text
//! stored   ######    ####    ##########     ###
//! number   1    6    9  12   15       24    30
//! floor ------------------^ (13)
//! lost: 7 8 13     missing: 14, 25–29     watermark: 13
//! ```
//!
//! A gap below the floor is lost until its result arrives after all (it was still in the stream): then it is stored
//! and the loss is taken back. Nothing that is new is ever taken for a repeat, except in gaps that were written off.

use serde::{Deserialize, Serialize};

/// Most ranges that a ledger keeps: a sequence without gaps needs one, each gap one more. When they are used up, the
/// lowest gap that the agent itself gave up is written off; failing that, a result that needs a new range is unlisted.
pub const MAX_RANGES: usize = if cfg!(test) { 8 } else { 1024 };

/// What a ledger says about a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    New,
    Duplicate,
    /// Not in the set, and the set has no room for a further gap: this ledger cannot remember it.
    NoRoom,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Sorted, disjoint, not adjacent.
    ranges: Vec<(u64, u64)>,
    floor: u64,
    highest: u64,
    stored: u64,
    duplicates: u64,
    /// Numbers inside `ranges` whose results are not stored and never will be.
    written_off: u64,
    /// How many results were stored that had no room in `ranges`.
    unlisted: u64,
}

impl Ledger {
    #[must_use]
    pub fn sight(&self, seq: u64) -> Sighting {
        match self.place(seq) {
            Place::Inside => Sighting::Duplicate,
            Place::Apart(_) if self.ranges.len() >= MAX_RANGES && self.closable().is_none() => {
                Sighting::NoRoom
            }
            _ => Sighting::New,
        }
    }

    /// The result is stored. Call it for what [`Self::sight`] found to be new.
    pub fn store(&mut self, seq: u64) {
        self.insert(seq);
        self.stored = self.stored.saturating_add(1);
    }

    /// The result is stored without a place in the set; someone else has to know it when it comes again.
    pub fn store_unlisted(&mut self, seq: u64) {
        self.highest = self.highest.max(seq);
        self.stored = self.stored.saturating_add(1);
        self.unlisted = self.unlisted.saturating_add(1);
    }

    /// A result that [`Self::store_unlisted`] took has come again, and now there is room.
    pub fn list(&mut self, seq: u64) {
        self.insert(seq);
        self.unlisted = self.unlisted.saturating_sub(1);
        self.duplicates = self.duplicates.saturating_add(1);
    }

    /// A repeat was dropped.
    pub fn repeat(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
    }

    /// The result can never be stored (it was rejected): the sequence goes on without it. `false` when it was known, or
    /// there is no room to know it.
    pub fn write_off(&mut self, seq: u64) -> bool {
        let new = self.sight(seq) == Sighting::New;
        if new {
            self.insert(seq);
            self.written_off = self.written_off.saturating_add(1);
        }
        new
    }

    /// The agent has nothing below `oldest` any more.
    pub fn gone_below(&mut self, oldest: u64) {
        self.floor = self.floor.max(oldest.saturating_sub(1));
        self.highest = self.highest.max(self.floor);
    }

    /// Up to this number every result is stored or lost.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        let next = self.floor.saturating_add(1);
        let at = self.ranges.partition_point(|range| range.0 <= next);
        at.checked_sub(1).and_then(|i| self.ranges.get(i)).map_or(self.floor, |range| range.1.max(self.floor))
    }

    #[must_use]
    pub fn lost(&self) -> u64 {
        let here = self.ranges.iter().take_while(|range| range.0 <= self.floor);
        let here = here.fold(0u64, |sum, range| sum.saturating_add(length(range.0, range.1.min(self.floor))));
        self.floor.saturating_sub(here).saturating_add(self.written_off)
    }

    /// Neither stored nor lost, below the highest number seen.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let above = self.ranges.iter().rev().take_while(|range| range.1 > self.floor);
        let here = above.fold(0u64, |sum, range| {
            sum.saturating_add(length(range.0.max(self.floor.saturating_add(1)), range.1))
        });
        self.highest.saturating_sub(self.floor).saturating_sub(here)
    }

    /// Neither stored nor lost, from `first` to `last`, both of them numbers below the highest.
    #[must_use]
    pub fn missing_within(&self, first: u64, last: u64) -> u64 {
        let first = first.max(self.floor.saturating_add(1));
        let here = self.ranges.iter().filter(|range| range.1 >= first && range.0 <= last);
        let here =
            here.fold(0u64, |sum, range| sum.saturating_add(length(range.0.max(first), range.1.min(last))));
        length(first, last).saturating_sub(here)
    }

    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Whether some results are stored that the set does not know.
    #[must_use]
    pub fn has_unlisted(&self) -> bool {
        self.unlisted > 0
    }

    /// Take over the counts of an older epoch that is forgotten; what it missed is lost now.
    pub fn inherit(&mut self, older: &Self) {
        self.stored = self.stored.saturating_add(older.stored);
        self.duplicates = self.duplicates.saturating_add(older.duplicates);
        let lost = older.lost().saturating_add(older.missing());
        self.written_off = self.written_off.saturating_add(lost);
    }

    fn insert(&mut self, seq: u64) {
        self.highest = self.highest.max(seq);
        match self.place(seq) {
            Place::Inside => {}
            Place::After(i) => {
                let right =
                    self.ranges.get(i + 1).filter(|right| seq.checked_add(1) == Some(right.0)).copied();
                if let Some(left) = self.ranges.get_mut(i) {
                    left.1 = right.map_or(seq, |right| right.1);
                }
                if right.is_some() {
                    self.ranges.remove(i + 1);
                }
            }
            Place::Before(i) => {
                if let Some(right) = self.ranges.get_mut(i) {
                    right.0 = seq;
                }
            }
            Place::Apart(at) if self.ranges.len() < MAX_RANGES => self.ranges.insert(at, (seq, seq)),
            Place::Apart(at) => {
                let Some(gap) = self.closable() else { return };
                // The number may lie in the very gap that is closed: then it is not lost with it.
                let lost = gap.saturating_sub(u64::from(at == 1));
                self.written_off = self.written_off.saturating_add(lost);
                let first = self.ranges.remove(0).0;
                if let Some(merged) = self.ranges.first_mut() {
                    merged.0 = first;
                }
                if at != 1 {
                    self.ranges.insert(at.saturating_sub(1), (seq, seq));
                }
            }
        }
    }

    /// Size of the lowest gap between two ranges, if the agent can no longer fill it.
    fn closable(&self) -> Option<u64> {
        let (first, second) = (self.ranges.first()?, self.ranges.get(1)?);
        let gap = (first.1.checked_add(1)?, second.0.checked_sub(1)?);
        (gap.1 <= self.floor).then(|| length(gap.0, gap.1))
    }

    fn place(&self, seq: u64) -> Place {
        let at = self.ranges.partition_point(|range| range.0 <= seq);
        if let Some(i) = at.checked_sub(1)
            && let Some(left) = self.ranges.get(i)
        {
            if left.1 >= seq {
                return Place::Inside;
            }
            if left.1.checked_add(1) == Some(seq) {
                return Place::After(i);
            }
        }
        match self.ranges.get(at) {
            Some(right) if seq.checked_add(1) == Some(right.0) => Place::Before(at),
            _ => Place::Apart(at),
        }
    }
}

/// Where a number stands among the ranges.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Inside,
    /// Directly after the range of this index.
    After(usize),
    /// Directly before the range of this index, and not directly after another.
    Before(usize),
    /// Alone; the index its own range would get.
    Apart(usize),
}

fn length(first: u64, last: u64) -> u64 {
    last.saturating_sub(first).saturating_add(u64::from(first <= last))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn ledger(stored: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        stored.iter().for_each(|seq| ledger.store(*seq));
        ledger
    }

    #[test]
    fn the_watermark_stops_at_the_first_gap_that_may_still_be_filled() {
        let mut ledger = ledger(&[1, 2, 3, 5, 6, 9]);
        assert_eq!((ledger.watermark(), ledger.missing(), ledger.lost()), (3, 3, 0));
        ledger.store(4);
        assert_eq!((ledger.watermark(), ledger.missing(), ledger.highest()), (6, 2, 9));
        ledger.gone_below(8);
        assert_eq!((ledger.watermark(), ledger.missing(), ledger.lost()), (7, 1, 1));
        ledger.gone_below(9);
        assert_eq!((ledger.watermark(), ledger.missing(), ledger.lost()), (9, 0, 2));
    }

    #[test]
    fn a_lost_result_that_arrives_after_all_is_stored_and_no_longer_lost() {
        let mut ledger = Ledger::default();
        ledger.gone_below(4);
        assert_eq!((ledger.watermark(), ledger.lost(), ledger.highest()), (3, 3, 3));
        assert_eq!(ledger.sight(2), Sighting::New);
        ledger.store(2);
        assert_eq!((ledger.watermark(), ledger.lost(), ledger.stored()), (3, 2, 1));
        assert_eq!(ledger.sight(2), Sighting::Duplicate);
    }

    #[test]
    fn what_can_never_be_stored_does_not_hold_the_watermark() {
        let mut ledger = ledger(&[1, 3]);
        ledger.write_off(2);
        ledger.write_off(2);
        assert_eq!((ledger.watermark(), ledger.lost(), ledger.stored()), (3, 1, 2));
    }

    #[test]
    fn without_room_a_result_is_unlisted_until_it_comes_again() {
        let odd: Vec<u64> = (0..MAX_RANGES as u64).map(|n| 2 * n + 1).collect();
        let mut ledger = ledger(&odd);
        assert_eq!(ledger.sight(100), Sighting::NoRoom);
        assert_eq!(ledger.sight(16), Sighting::New, "it extends a range");
        ledger.store_unlisted(100);
        ledger.store(2);
        assert_eq!(ledger.sight(100), Sighting::New);
        assert!(ledger.has_unlisted());
        ledger.list(100);
        assert!(!ledger.has_unlisted());
        assert_eq!(ledger.stored(), MAX_RANGES as u64 + 2);
    }

    #[test]
    fn the_ends_of_the_numbers_do_not_overflow() {
        let mut ledger = ledger(&[u64::MAX, 1, u64::MAX - 1]);
        assert_eq!((ledger.watermark(), ledger.missing()), (1, u64::MAX - 3));
        ledger.gone_below(u64::MAX);
        assert_eq!((ledger.watermark(), ledger.missing(), ledger.lost()), (u64::MAX, 0, u64::MAX - 3));
        assert_eq!(ledger.sight(u64::MAX), Sighting::Duplicate);
        assert_eq!(ledger.sight(5), Sighting::New);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Result(u64),
        Gone(u64),
        Rejected(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            20 => (1u64..60).prop_map(Step::Result),
            1 => (1u64..60).prop_map(Step::Gone),
            1 => (1u64..60).prop_map(Step::Rejected),
        ];
        proptest::collection::vec(step, 0..300)
    }

    proptest! {
        /// Against sets: each result is stored once or its loss is counted, whatever the order, with few ranges.
        #[test]
        fn g1_each_number_is_stored_once_or_counted(steps in steps()) {
            let mut ledger = Ledger::default();
            let (mut stored, mut unlisted, mut rejected) = (HashSet::new(), HashSet::new(), HashSet::new());
            let (mut floor, mut highest) = (0, 0);
            for step in steps {
                match step {
                    Step::Result(seq) => match ledger.sight(seq) {
                        // Never dropped while it is new: it is here, or its loss is counted.
                        Sighting::Duplicate => {
                            prop_assert!(stored.contains(&seq) || rejected.contains(&seq) || seq <= floor);
                            ledger.repeat();
                        }
                        Sighting::New if unlisted.remove(&seq) => ledger.list(seq),
                        Sighting::New => {
                            prop_assert!(stored.insert(seq), "{seq} stored twice");
                            ledger.store(seq);
                        }
                        Sighting::NoRoom if unlisted.contains(&seq) => ledger.repeat(),
                        Sighting::NoRoom => {
                            prop_assert!(stored.insert(seq));
                            unlisted.insert(seq);
                            ledger.store_unlisted(seq);
                        }
                    },
                    Step::Gone(oldest) => {
                        ledger.gone_below(oldest);
                        floor = floor.max(oldest - 1);
                    }
                    Step::Rejected(seq) => {
                        if ledger.sight(seq) == Sighting::New && !unlisted.contains(&seq) {
                            ledger.write_off(seq);
                            rejected.insert(seq);
                        }
                    }
                }
                highest = highest.max(floor).max(stored.iter().chain(&rejected).copied().max().unwrap_or(0));
                prop_assert!(ledger.ranges.len() <= MAX_RANGES);
                prop_assert!(ledger.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
                prop_assert_eq!(ledger.stored(), stored.len() as u64);
                prop_assert_eq!(ledger.highest(), highest);
                let watermark = ledger.watermark();
                prop_assert!(watermark >= floor);
                prop_assert!((floor + 1..=watermark).all(|seq| stored.contains(&seq) || rejected.contains(&seq)));
                // Every number is stored, lost, or missing, and only one of them.
                let listed = ledger.stored() - ledger.unlisted;
                prop_assert_eq!(listed + ledger.lost() + ledger.missing(), ledger.highest());
            }
        }
    }
}
