//! What an operator wants to know of one sequence beside its counts: which numbers were missing, when that was seen, and
//! what became of them.
//!
//! It explains the ledger and decides nothing: with an audit that is empty the same results are stored.

use protocol::query::Gap as Told;
use serde::{Deserialize, Serialize};

use super::{accept::Why, ledger::Ledger};

/// Gaps kept for each epoch. Of more, those that are settled go first.
pub const MAX_GAPS: usize = if cfg!(test) { 4 } else { 32 };

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Stored after a higher number.
    pub late: u64,
    pub rejected: Rejections,
    pub stored_ms: u64,
    gaps: Vec<Gap>,
    forgotten: u64,
}

/// How many results were rejected, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejections([u64; Why::ALL.len()]);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Gap {
    first: u64,
    last: u64,
    seen_ms: u64,
    filled: u64,
    filled_ms: u64,
    rejected: u64,
    /// When the agent first said that it no longer has some of them; 0: it did not.
    gone_ms: u64,
}

impl Audit {
    /// A result was stored; `highest` is the highest number before it.
    pub fn stored(&mut self, seq: u64, highest: u64, now_ms: u64) {
        self.stored_ms = self.stored_ms.max(now_ms);
        if seq <= highest {
            self.late = self.late.saturating_add(1);
        }
        if let Some(gap) = self.seen(seq, highest, now_ms) {
            gap.filled = gap.filled.saturating_add(1);
            gap.filled_ms = now_ms;
        }
    }

    /// A numbered result was rejected; `highest` as for [`Self::stored`].
    pub fn rejected(&mut self, seq: u64, highest: u64, why: Why, now_ms: u64) {
        self.rejected.add(why);
        if let Some(gap) = self.seen(seq, highest, now_ms) {
            gap.rejected = gap.rejected.saturating_add(1);
        }
    }

    /// The agent has nothing up to `floor` any more.
    pub fn gone(&mut self, floor: u64, highest: u64, now_ms: u64) {
        if floor > highest {
            self.open(highest.saturating_add(1), floor, now_ms);
        }
        for gap in self.gaps.iter_mut().filter(|gap| gap.first <= floor && gap.gone_ms == 0 && !gap.settled())
        {
            gap.gone_ms = now_ms;
        }
    }

    /// Take over the counts of an epoch that is forgotten.
    pub fn inherit(&mut self, older: &Self) {
        self.late = self.late.saturating_add(older.late);
        self.rejected.merge(older.rejected);
        self.forgotten =
            self.forgotten.saturating_add(older.forgotten).saturating_add(older.gaps.len() as u64);
    }

    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The gaps, oldest first, with what the ledger says of them.
    pub fn gaps(&self, ledger: &Ledger) -> impl Iterator<Item = Told> {
        self.gaps.iter().map(|gap| {
            let missing = ledger.missing_within(gap.first, gap.last);
            let Gap { first, last, seen_ms, filled, filled_ms, rejected, gone_ms } = *gap;
            let lost = gap.size().saturating_sub(filled).saturating_sub(rejected).saturating_sub(missing);
            Told { first, last, seen_ms, filled, filled_ms, rejected, missing, lost, gone_ms }
        })
    }

    /// A number has come: the gap that it shows, or the one that it lies in.
    fn seen(&mut self, seq: u64, highest: u64, now_ms: u64) -> Option<&mut Gap> {
        if seq > highest {
            let first = highest.saturating_add(1);
            if first < seq {
                self.open(first, seq.saturating_sub(1), now_ms);
            }
            return None;
        }
        self.gaps.iter_mut().find(|gap| (gap.first..=gap.last).contains(&seq))
    }

    fn open(&mut self, first: u64, last: u64, now_ms: u64) {
        if self.gaps.len() >= MAX_GAPS {
            let settled = self.gaps.iter().position(Gap::settled);
            self.gaps.remove(settled.unwrap_or(0));
            self.forgotten = self.forgotten.saturating_add(1);
        }
        let none = Gap { first, last, seen_ms: now_ms, filled: 0, filled_ms: 0, rejected: 0, gone_ms: 0 };
        self.gaps.push(none);
    }
}

impl Gap {
    fn size(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// Every number of it has come.
    fn settled(&self) -> bool {
        self.filled.saturating_add(self.rejected) >= self.size()
    }
}

impl Rejections {
    pub fn add(&mut self, why: Why) {
        if let Some(count) = self.0.get_mut(why.index()) {
            *count = count.saturating_add(1);
        }
    }

    pub fn merge(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Those that there were, by reason.
    #[must_use]
    pub fn by_reason(&self) -> std::collections::BTreeMap<String, u64> {
        let counts = Why::ALL.iter().zip(self.0).filter(|(_, count)| *count > 0);
        counts.map(|(why, count)| (why.as_str().to_owned(), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_forgets_what_is_settled_first() {
        let mut audit = Audit::default();
        // 1, gap 2, 3, gap 4, 5, …
        let mut highest = 0;
        for seq in [1, 3, 5, 7, 9] {
            audit.stored(seq, highest, seq);
            highest = seq;
        }
        audit.stored(6, highest, 20);
        audit.stored(11, highest, 21);
        let firsts: Vec<u64> = audit.gaps.iter().map(|gap| gap.first).collect();
        assert_eq!((firsts, audit.forgotten(), audit.late), (vec![2, 4, 8, 10], 1, 1));
        audit.stored(13, 11, 22);
        assert_eq!((audit.gaps.len(), audit.gaps[0].first, audit.forgotten()), (MAX_GAPS, 4, 2));
    }
}
