//! All that is known of one agent's sequences: a ledger for each of its last epochs.

use protocol::{AgentId, query::Loss, stored::Stored};
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;

/// Epochs kept for each agent. A reinstalled agent starts a new one while results of the old may still be under way.
pub const MAX_EPOCHS: usize = 4;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// By epoch, ascending.
    ledgers: Vec<(u64, Ledger)>,
}

impl Account {
    #[must_use]
    pub fn ledger(&self, epoch: u64) -> Option<&Ledger> {
        self.ledgers.iter().find(|(known, _)| *known == epoch).map(|(_, ledger)| ledger)
    }

    /// The ledger of `epoch`, begun if need be. `None` for an epoch older than all those kept: it is forgotten.
    pub fn ledger_mut(&mut self, epoch: u64) -> Option<&mut Ledger> {
        let mut at = self.ledgers.partition_point(|(known, _)| *known < epoch);
        if self.ledgers.get(at).is_none_or(|(known, _)| *known != epoch) {
            let full = self.ledgers.len() >= MAX_EPOCHS;
            if full && at == 0 {
                return None;
            }
            self.ledgers.insert(at, (epoch, Ledger::default()));
            if full {
                let (_, oldest) = self.ledgers.remove(0);
                if let Some((_, heir)) = self.ledgers.first_mut() {
                    heir.inherit(&oldest);
                }
                at -= 1;
            }
        }
        self.ledgers.get_mut(at).map(|(_, ledger)| ledger)
    }

    /// The durable watermark of `epoch`; 0 where nothing is known of it.
    #[must_use]
    pub fn watermark(&self, agent: &AgentId, epoch: u64) -> Stored {
        let (seq, lost) = self.ledger(epoch).map_or((0, 0), |ledger| (ledger.watermark(), ledger.lost()));
        Stored { v: protocol::VERSION, agent: agent.clone(), epoch, seq, lost }
    }

    /// The watermarks of all epochs kept.
    pub fn watermarks(&self, agent: &AgentId) -> impl Iterator<Item = Stored> {
        self.ledgers.iter().map(|(epoch, _)| self.watermark(agent, *epoch))
    }

    /// One line for each epoch, the newest first.
    pub fn losses(&self, agent: &AgentId) -> impl Iterator<Item = Loss> {
        self.ledgers.iter().rev().map(|(epoch, ledger)| Loss {
            agent: agent.clone(),
            epoch: *epoch,
            highest: ledger.highest(),
            stored: ledger.stored(),
            duplicates: ledger.duplicates(),
            missing: ledger.missing(),
            lost: ledger.lost(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_epoch_is_not_loss_and_the_old_one_may_still_arrive() {
        let mut account = Account::default();
        account.ledger_mut(100).unwrap().store(7);
        account.ledger_mut(200).unwrap().store(1);
        account.ledger_mut(100).unwrap().store(8);
        let agent = AgentId::new("a").unwrap();
        let losses: Vec<_> = account.losses(&agent).map(|l| (l.epoch, l.stored, l.missing, l.lost)).collect();
        assert_eq!(losses, [(200, 1, 0, 0), (100, 2, 6, 0)]);
        assert_eq!(account.watermark(&agent, 200).seq, 1);
        assert_eq!(account.watermark(&agent, 300).seq, 0);
    }

    #[test]
    fn the_oldest_epoch_is_forgotten_but_its_counts_are_not() {
        let mut account = Account::default();
        account.ledger_mut(1).unwrap().store(3);
        for epoch in 2..=5 {
            account.ledger_mut(epoch).unwrap().store(1);
        }
        assert!(account.ledger_mut(1).is_none());
        let oldest = account.ledger(2).unwrap();
        assert_eq!((oldest.stored(), oldest.lost(), oldest.watermark()), (2, 2, 1));
        assert!(account.ledger_mut(0).is_none());
    }
}
