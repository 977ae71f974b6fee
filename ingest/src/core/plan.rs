//! What one batch changes: which of its results are new, and how the accounts stand afterwards.
//!
//! Accounts are changed as copies; they count once the batch is durable.

use std::collections::{HashMap, HashSet};

use protocol::AgentId;

use super::{
    accept::{Accepted, Identity, Refused},
    account::Account,
    ledger::{Ledger, Sighting},
};

pub type Accounts = HashMap<AgentId, Account>;

/// What has to become durable at once.
#[derive(Debug, Default)]
pub struct Plan {
    /// Indexes of the results to store, in order.
    pub fresh: Vec<usize>,
    /// The accounts that change, as they are afterwards.
    pub accounts: Accounts,
    /// Ids to remember.
    pub ids: HashSet<String>,
    pub duplicates: u64,
}

/// Plan a batch. `knows_id` says whether an id was stored before this batch.
///
/// # Errors
/// Those of `knows_id`.
pub fn plan<E>(
    batch: &[Result<Accepted, Refused>],
    accounts: &Accounts,
    mut knows_id: impl FnMut(&str) -> Result<bool, E>,
) -> Result<Plan, E> {
    let mut plan = Plan::default();
    for (index, message) in batch.iter().enumerate() {
        match message {
            Ok(Accepted { result, identity: Identity::Numbered { epoch, seq } }) => {
                let is_new = plan.numbered(accounts, &result.agent, (*epoch, *seq), &mut knows_id)?;
                plan.decided(index, is_new);
            }
            Ok(Accepted { result, identity: Identity::Named(id) }) => {
                let is_new = plan.named(format!("{} {id}", result.agent), &mut knows_id)?;
                plan.decided(index, is_new);
            }
            Ok(Accepted { identity: Identity::Unknown, .. }) => plan.decided(index, true),
            Err(Refused { place: Some((agent, epoch, seq)), .. }) => {
                if let Some(ledger) = plan.ledger(accounts, agent, *epoch) {
                    ledger.write_off(*seq);
                }
            }
            Err(Refused { place: None, .. }) => {}
        }
    }
    Ok(plan)
}

impl Plan {
    fn decided(&mut self, index: usize, is_new: bool) {
        if is_new {
            self.fresh.push(index);
        } else {
            self.duplicates += 1;
        }
    }

    /// Whether the result is new. What a ledger cannot remember is remembered by an id, so that it is neither dropped
    /// nor stored twice.
    fn numbered<E>(
        &mut self,
        accounts: &Accounts,
        agent: &AgentId,
        (epoch, seq): (u64, u64),
        knows_id: &mut impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let id = || format!("{agent} n{epoch}:{seq}");
        let Some(ledger) = self.ledger(accounts, agent, epoch) else {
            return self.named(id(), knows_id);
        };
        match ledger.sight(seq) {
            Sighting::Duplicate => {
                ledger.repeat();
                Ok(false)
            }
            Sighting::New if !ledger.has_unlisted() => {
                ledger.store(seq);
                Ok(true)
            }
            sighting => {
                let id = id();
                let known = self.ids.contains(&id) || knows_id(&id)?;
                let Some(ledger) = self.ledger(accounts, agent, epoch) else { return Ok(!known) };
                match (sighting, known) {
                    (Sighting::NoRoom, false) => {
                        ledger.store_unlisted(seq);
                        self.ids.insert(id);
                    }
                    (Sighting::NoRoom, true) => ledger.repeat(),
                    (_, true) => ledger.list(seq),
                    (_, false) => ledger.store(seq),
                }
                Ok(!known)
            }
        }
    }

    fn named<E>(
        &mut self,
        id: String,
        knows_id: &mut impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<bool, E> {
        if self.ids.contains(&id) || knows_id(&id)? {
            return Ok(false);
        }
        self.ids.insert(id);
        Ok(true)
    }

    fn ledger(&mut self, accounts: &Accounts, agent: &AgentId, epoch: u64) -> Option<&mut Ledger> {
        if !self.accounts.contains_key(agent) {
            let account = accounts.get(agent).cloned().unwrap_or_default();
            self.accounts.insert(agent.clone(), account);
        }
        self.accounts.get_mut(agent)?.ledger_mut(epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn result(identity: Identity) -> Result<Accepted, Refused> {
        let json = br#"{"v":1,"agent":"a","check":"c","at_ms":1,"status":"ok"}"#;
        Ok(Accepted { result: protocol::decode(json, 1000).unwrap(), identity })
    }

    fn numbered(epoch: u64, seq: u64) -> Result<Accepted, Refused> {
        result(Identity::Numbered { epoch, seq })
    }

    /// Plan and make durable, as a store would.
    fn apply(
        batch: &[Result<Accepted, Refused>],
        accounts: &mut Accounts,
        ids: &mut HashSet<String>,
    ) -> Vec<usize> {
        let plan = plan::<Infallible>(batch, accounts, |id| Ok(ids.contains(id))).unwrap();
        accounts.extend(plan.accounts);
        ids.extend(plan.ids);
        plan.fresh
    }

    #[test]
    fn g1_repeats_are_dropped_inside_a_batch_and_across_batches() {
        let (mut accounts, mut ids) = (Accounts::new(), HashSet::new());
        let named = |id: &str| result(Identity::Named(id.into()));
        let batch = [
            numbered(1, 1),
            numbered(1, 1),
            numbered(2, 1),
            named("x"),
            named("x"),
            result(Identity::Unknown),
            numbered(1, 2),
        ];
        assert_eq!(apply(&batch, &mut accounts, &mut ids), [0, 2, 3, 5, 6]);
        assert_eq!(apply(&batch, &mut accounts, &mut ids), [5]);
    }

    #[test]
    fn g1_a_result_of_a_forgotten_epoch_is_stored_once() {
        let (mut accounts, mut ids) = (Accounts::new(), HashSet::new());
        let newer: Vec<_> = (10..14).map(|epoch| numbered(epoch, 1)).collect();
        apply(&newer, &mut accounts, &mut ids);
        assert_eq!(apply(&[numbered(3, 1), numbered(3, 1)], &mut accounts, &mut ids), [0]);
        assert_eq!(apply(&[numbered(3, 1)], &mut accounts, &mut ids), [0usize; 0]);
    }

    #[test]
    fn g1_an_agent_that_sends_only_gaps_is_stored_once_and_never_dropped() {
        let (mut accounts, mut ids) = (Accounts::new(), HashSet::new());
        let batch: Vec<_> = (1..=50).map(|n| numbered(1, 2 * n)).collect();
        let all: Vec<usize> = (0..50).collect();
        assert_eq!(apply(&batch, &mut accounts, &mut ids), all);
        assert_eq!(apply(&batch, &mut accounts, &mut ids), [0usize; 0]);
        let gaps: Vec<_> = (0..50).map(|n| numbered(1, 2 * n + 1)).collect();
        assert_eq!(apply(&gaps, &mut accounts, &mut ids), all);
        // Sent again above the watermark, as an agent does, each finds its place in the end.
        for _ in 0..5 {
            assert_eq!(apply(&gaps, &mut accounts, &mut ids), [0usize; 0]);
            assert_eq!(apply(&batch, &mut accounts, &mut ids), [0usize; 0]);
        }
        let ledger = accounts[&AgentId::new("a").unwrap()].ledger(1).unwrap();
        assert_eq!((ledger.watermark(), ledger.stored(), ledger.missing()), (100, 100, 0));
    }

    #[test]
    fn a_refused_message_with_a_number_is_written_off() {
        let (mut accounts, mut ids) = (Accounts::new(), HashSet::new());
        let agent = AgentId::new("a").unwrap();
        let refused = Err(Refused { reason: "bad".into(), place: Some((agent.clone(), 1, 2)) });
        apply(&[numbered(1, 1), refused, numbered(1, 3)], &mut accounts, &mut ids);
        let stored = accounts[&agent].watermark(&agent, 1);
        assert_eq!((stored.seq, stored.lost), (3, 1));
    }
}
