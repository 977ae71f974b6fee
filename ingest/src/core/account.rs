//! All that is known of one agent's sequences: a ledger and an audit for each of its last epochs.

use protocol::{AgentId, query::Loss, stored::Stored};

use super::{
    accept::Why,
    audit::{Audit, Rejections},
    ledger::{Ledger, Sighting},
};

/// Epochs kept for each agent. A reinstalled agent starts a new one while results of the old may still be under way.
pub const MAX_EPOCHS: usize = 4;

/// The form of what follows the ledgers.
const AUDITS: u8 = 1;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Ascending.
    epochs: Vec<Epoch>,
    /// Of results that the agent did not number.
    unnumbered: Rejections,
}

/// One sequence of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epoch {
    number: u64,
    ledger: Ledger,
    audit: Audit,
}

impl Account {
    #[must_use]
    pub fn epoch(&self, number: u64) -> Option<&Epoch> {
        self.epochs.iter().find(|known| known.number == number)
    }

    /// The epoch of this number, begun if need be. `None` for one older than all those kept: it is forgotten.
    pub fn epoch_mut(&mut self, number: u64) -> Option<&mut Epoch> {
        let mut at = self.epochs.partition_point(|known| known.number < number);
        if self.epochs.get(at).is_none_or(|known| known.number != number) {
            let full = self.epochs.len() >= MAX_EPOCHS;
            if full && at == 0 {
                return None;
            }
            self.epochs.insert(at, Epoch { number, ..Epoch::default() });
            if full {
                let oldest = self.epochs.remove(0);
                if let Some(heir) = self.epochs.first_mut() {
                    heir.ledger.inherit(&oldest.ledger);
                    heir.audit.inherit(&oldest.audit);
                }
                at -= 1;
            }
        }
        self.epochs.get_mut(at)
    }

    /// A result without a number was rejected.
    pub fn reject_unnumbered(&mut self, why: Why) {
        self.unnumbered.add(why);
    }

    /// The durable watermark of an epoch; 0 where nothing is known of it.
    #[must_use]
    pub fn watermark(&self, agent: &AgentId, epoch: u64) -> Stored {
        let (seq, lost) = self.epoch(epoch).map_or((0, 0), |known| (known.ledger.watermark(), known.lost()));
        Stored { v: protocol::VERSION, agent: agent.clone(), epoch, seq, lost }
    }

    /// The watermarks of all epochs kept.
    pub fn watermarks(&self, agent: &AgentId) -> impl Iterator<Item = Stored> {
        self.epochs.iter().map(|epoch| self.watermark(agent, epoch.number))
    }

    /// Results below the highest numbers that are neither stored nor lost.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.epochs.iter().fold(0, |sum, epoch| sum.saturating_add(epoch.ledger.missing()))
    }

    /// Stored after a higher number.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.epochs.iter().fold(0, |sum, epoch| sum.saturating_add(epoch.audit.late))
    }

    /// One line for each epoch, the newest first, and one for rejected results without numbers if there were any.
    #[must_use]
    pub fn losses(&self, agent: &AgentId) -> Vec<Loss> {
        let mut losses: Vec<Loss> = self.epochs.iter().rev().map(|epoch| epoch.loss(agent)).collect();
        if self.unnumbered.total() > 0 {
            let none = Epoch::default().loss(agent);
            losses.push(Loss { rejected: self.unnumbered.by_reason(), ..none });
        }
        losses
    }

    /// What is written to disk: the ledgers, as they always were, and behind them what older versions do not know and
    /// pass over.
    ///
    /// # Errors
    /// Those of `postcard`.
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        let ledgers: Vec<(u64, &Ledger)> = self.epochs.iter().map(|e| (e.number, &e.ledger)).collect();
        let audits: Vec<(u64, &Audit)> = self.epochs.iter().map(|e| (e.number, &e.audit)).collect();
        let bytes = postcard::to_extend(&ledgers, Vec::new())?;
        postcard::to_extend(&(AUDITS, self.unnumbered, audits), bytes)
    }

    /// # Errors
    /// Those of `postcard`, when the ledgers cannot be read. Audits of a form that is not known here begin anew.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let (ledgers, rest): (Vec<(u64, Ledger)>, _) = postcard::take_from_bytes(bytes)?;
        let audits = postcard::from_bytes::<(u8, Rejections, Vec<(u64, Audit)>)>(rest);
        let known = audits.ok().filter(|(form, ..)| *form == AUDITS);
        let (_, unnumbered, mut audits) = known.unwrap_or_default();
        let mut epoch = |(number, ledger)| {
            let at = audits.iter().position(|(of, _)| *of == number);
            let audit = at.map(|at| audits.swap_remove(at).1).unwrap_or_default();
            Epoch { number, ledger, audit }
        };
        Ok(Self { epochs: ledgers.into_iter().map(&mut epoch).collect(), unnumbered })
    }
}

impl Epoch {
    #[must_use]
    pub fn sight(&self, seq: u64) -> Sighting {
        self.ledger.sight(seq)
    }

    #[must_use]
    pub fn has_unlisted(&self) -> bool {
        self.ledger.has_unlisted()
    }

    /// As [`Ledger::store`].
    pub fn store(&mut self, seq: u64, now_ms: u64) {
        self.audit.stored(seq, self.ledger.highest(), now_ms);
        self.ledger.store(seq);
    }

    /// As [`Ledger::store_unlisted`].
    pub fn store_unlisted(&mut self, seq: u64, now_ms: u64) {
        self.audit.stored(seq, self.ledger.highest(), now_ms);
        self.ledger.store_unlisted(seq);
    }

    /// As [`Ledger::list`].
    pub fn list(&mut self, seq: u64) {
        self.ledger.list(seq);
    }

    /// As [`Ledger::repeat`].
    pub fn repeat(&mut self) {
        self.ledger.repeat();
    }

    /// The result is kept in REJECTED instead of being stored: the sequence goes on without it.
    pub fn reject(&mut self, seq: u64, why: Why, now_ms: u64) {
        let highest = self.ledger.highest();
        if self.ledger.write_off(seq) {
            self.audit.rejected(seq, highest, why, now_ms);
        }
    }

    /// As [`Ledger::gone_below`].
    pub fn gone_below(&mut self, oldest: u64, now_ms: u64) {
        self.audit.gone(oldest.saturating_sub(1), self.ledger.highest(), now_ms);
        self.ledger.gone_below(oldest);
    }

    /// Neither stored nor kept in REJECTED, and never to come.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ledger.lost().saturating_sub(self.audit.rejected.total())
    }

    fn loss(&self, agent: &AgentId) -> Loss {
        let Self { number, ledger, audit } = self;
        let (stored, missing, lost) = (ledger.stored(), ledger.missing(), self.lost());
        let here = stored.saturating_add(audit.rejected.total());
        Loss {
            agent: agent.clone(),
            epoch: *number,
            highest: ledger.highest(),
            stored,
            duplicates: ledger.duplicates(),
            missing,
            lost,
            expected: here.saturating_add(missing).saturating_add(lost),
            late: audit.late,
            rejected: audit.rejected.by_reason(),
            stored_ms: audit.stored_ms,
            gaps: audit.gaps(ledger).collect(),
            gaps_forgotten: audit.forgotten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn agent() -> AgentId {
        AgentId::new("a").unwrap()
    }

    #[test]
    fn a_new_epoch_is_not_loss_and_the_old_one_may_still_arrive() {
        let mut account = Account::default();
        account.epoch_mut(100).unwrap().store(7, 1);
        account.epoch_mut(200).unwrap().store(1, 2);
        account.epoch_mut(100).unwrap().store(8, 3);
        let losses = account.losses(&agent());
        let losses: Vec<_> = losses.iter().map(|l| (l.epoch, l.stored, l.missing, l.lost)).collect();
        assert_eq!(losses, [(200, 1, 0, 0), (100, 2, 6, 0)]);
        assert_eq!(account.watermark(&agent(), 200).seq, 1);
        assert_eq!(account.watermark(&agent(), 300).seq, 0);
    }

    #[test]
    fn the_oldest_epoch_is_forgotten_but_its_counts_are_not() {
        let mut account = Account::default();
        account.epoch_mut(1).unwrap().store(3, 1);
        account.epoch_mut(1).unwrap().reject(2, Why::Ahead, 1);
        for epoch in 2..=5 {
            account.epoch_mut(epoch).unwrap().store(1, 1);
        }
        assert!(account.epoch_mut(1).is_none());
        let oldest = &account.losses(&agent())[3];
        assert_eq!((oldest.epoch, oldest.stored, oldest.lost, oldest.expected), (2, 2, 1, 4));
        assert_eq!(
            (&oldest.rejected, oldest.gaps_forgotten),
            (&BTreeMap::from([("ahead".to_owned(), 1)]), 1)
        );
        assert_eq!(account.watermark(&agent(), 2).seq, 1);
        assert!(account.epoch_mut(0).is_none());
    }

    #[test]
    fn a_gap_tells_when_it_was_seen_and_what_became_of_it() {
        let mut account = Account::default();
        let epoch = account.epoch_mut(1).unwrap();
        epoch.store(1, 10);
        epoch.store(6, 20);
        epoch.store(3, 30);
        epoch.reject(4, Why::Series, 40);
        epoch.store(9, 50);
        epoch.gone_below(3, 60);
        epoch.gone_below(13, 70);
        epoch.store(2, 80);
        let loss = &account.losses(&agent())[0];
        let gap = |gap: &protocol::query::Gap| {
            (
                (gap.first, gap.last, gap.seen_ms),
                (gap.filled, gap.filled_ms),
                gap.rejected,
                gap.missing,
                (gap.lost, gap.gone_ms),
            )
        };
        let gaps: Vec<_> = loss.gaps.iter().map(gap).collect();
        assert_eq!(
            gaps,
            [
                ((2, 5, 20), (2, 80), 1, 0, (1, 60)),
                ((7, 8, 50), (0, 0), 0, 0, (2, 70)),
                ((10, 12, 70), (0, 0), 0, 0, (3, 70)),
            ]
        );
        assert_eq!((loss.stored, loss.late, loss.lost, loss.missing, loss.expected), (5, 2, 6, 0, 12));
    }

    #[test]
    fn an_account_of_an_older_version_is_read_and_its_reader_passes_over_what_is_new() {
        let mut account = Account::default();
        account.epoch_mut(7).unwrap().store(5, 1);
        account.reject_unnumbered(Why::Invalid);
        let bytes = account.to_bytes().unwrap();
        assert_eq!(Account::from_bytes(&bytes).unwrap(), account);
        // What was written before there were audits, and what a reader of then takes.
        let (ledgers, _): (Vec<(u64, Ledger)>, _) = postcard::take_from_bytes(&bytes).unwrap();
        let old = postcard::to_stdvec(&ledgers).unwrap();
        let read = Account::from_bytes(&old).unwrap();
        assert_eq!(
            (read.watermark(&agent(), 7), read.losses(&agent())[0].stored),
            (account.watermark(&agent(), 7), 1)
        );
        assert_eq!(postcard::from_bytes::<Vec<(u64, Ledger)>>(&bytes).unwrap(), ledgers);
        assert!(Account::from_bytes(&[]).is_err());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Result(u64),
        Rejected(u64),
        Gone(u64),
    }

    proptest! {
        /// Each number is stored, rejected, missing or lost, in the counts and within each gap.
        #[test]
        fn g1_every_number_is_in_one_count(steps in proptest::collection::vec(prop_oneof![
            10 => (1u64..40).prop_map(Step::Result),
            2 => (1u64..40).prop_map(Step::Rejected),
            1 => (1u64..40).prop_map(Step::Gone),
        ], 0..60)) {
            let mut account = Account::default();
            for (now, step) in (1..).zip(steps) {
                let epoch = account.epoch_mut(1).unwrap();
                match step {
                    Step::Result(seq) => if epoch.sight(seq) == Sighting::New { epoch.store(seq, now) },
                    Step::Rejected(seq) => epoch.reject(seq, Why::Ahead, now),
                    Step::Gone(oldest) => epoch.gone_below(oldest, now),
                }
                let loss = &account.losses(&agent())[0];
                prop_assert_eq!(loss.expected, loss.highest);
                for gap in &loss.gaps {
                    prop_assert_eq!(gap.filled + gap.rejected + gap.missing + gap.lost, gap.last - gap.first + 1);
                }
                let bytes = account.to_bytes().unwrap();
                prop_assert_eq!(&Account::from_bytes(&bytes).unwrap(), &account);
            }
        }
    }
}
