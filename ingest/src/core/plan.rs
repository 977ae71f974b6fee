//! What one batch changes: which of its results are new, and how the accounts stand afterwards.
//!
//! Accounts are changed as copies; they count once the batch is durable.

use std::collections::{HashMap, HashSet};

use protocol::AgentId;

use super::{
    accept::{Accepted, Identity, Refused, Why},
    account::{Account, Epoch},
    ledger::Sighting,
    quota::Quota,
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
    /// What of the batch is not stored although it is new, by index, and why.
    pub rejected: HashMap<usize, (Why, String)>,
}

/// What a batch is planned on.
pub struct Before<'a> {
    pub accounts: &'a Accounts,
    pub quota: Quota,
    pub now_ms: u64,
}

/// What becomes of one result.
enum Decision {
    Fresh,
    Repeat,
    OverQuota(String),
}

/// Plan a batch. `knows_id` says whether an id was stored before this batch.
///
/// # Errors
/// Those of `knows_id`.
pub fn plan<E>(
    batch: &[Result<Accepted, Refused>],
    mut before: Before<'_>,
    mut knows_id: impl FnMut(&str) -> Result<bool, E>,
) -> Result<Plan, E> {
    let mut plan = Plan::default();
    for (index, message) in batch.iter().enumerate() {
        match message {
            Ok(accepted) => match plan.accepted(index, accepted, &mut before, &mut knows_id)? {
                Decision::Fresh => plan.fresh.push(index),
                Decision::Repeat => plan.duplicates += 1,
                Decision::OverQuota(reason) => {
                    plan.rejected.insert(index, (Why::Series, reason));
                }
            },
            Err(Refused { why, reason, agent, number }) => {
                plan.rejected.insert(index, (*why, reason.clone()));
                if let Some(agent) = agent {
                    plan.reject(&before, agent, *number, *why);
                }
            }
        }
    }
    Ok(plan)
}

impl Plan {
    fn accepted<E>(
        &mut self,
        index: usize,
        Accepted { result, identity }: &Accepted,
        before: &mut Before<'_>,
        knows_id: &mut impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<Decision, E> {
        let admit = |before: &mut Before<'_>| before.quota.admit(index, result);
        let decision = match identity {
            Identity::Numbered { epoch: number, seq } => {
                let id = || format!("{} n{number}:{seq}", result.agent);
                let Some(epoch) = self.epoch(before, &result.agent, *number) else {
                    // Of an epoch that is forgotten.
                    return self.named(id(), || admit(before), knows_id);
                };
                let sighting = epoch.sight(*seq);
                if sighting == Sighting::Duplicate {
                    epoch.repeat();
                    // Rejected before, and killed before it was kept in REJECTED: what is stored brings nothing new.
                    return Ok(admit(before).map_or_else(Decision::OverQuota, |()| Decision::Repeat));
                }
                // What a ledger cannot remember is remembered by an id, so that it is neither dropped nor stored twice.
                let id = (sighting == Sighting::NoRoom || epoch.has_unlisted()).then(id);
                let known = match &id {
                    Some(id) => self.ids.contains(id) || knows_id(id)?,
                    None => false,
                };
                if !known && let Err(reason) = admit(before) {
                    self.reject(before, &result.agent, Some((*number, *seq)), Why::Series);
                    return Ok(Decision::OverQuota(reason));
                }
                if !known && sighting == Sighting::NoRoom {
                    self.ids.extend(id);
                }
                self.count(before, &result.agent, (*number, *seq), (sighting, known));
                return Ok(if known { Decision::Repeat } else { Decision::Fresh });
            }
            Identity::Named(id) => {
                self.named(format!("{} {id}", result.agent), || admit(before), knows_id)?
            }
            Identity::Unknown => admit(before).map_or_else(Decision::OverQuota, |()| Decision::Fresh),
        };
        if matches!(decision, Decision::OverQuota(_)) {
            self.reject(before, &result.agent, None, Why::Series);
        }
        Ok(decision)
    }

    /// Enter a number that the ledger does not hold; `known`: it is stored all the same.
    fn count(
        &mut self,
        before: &Before<'_>,
        agent: &AgentId,
        (number, seq): (u64, u64),
        (sighting, known): (Sighting, bool),
    ) {
        let Some(epoch) = self.epoch(before, agent, number) else { return };
        match (sighting, known) {
            (Sighting::NoRoom, false) => epoch.store_unlisted(seq, before.now_ms),
            (Sighting::NoRoom, true) => epoch.repeat(),
            (_, true) => epoch.list(seq),
            (_, false) => epoch.store(seq, before.now_ms),
        }
    }

    fn named<E>(
        &mut self,
        id: String,
        admit: impl FnOnce() -> Result<(), String>,
        knows_id: &mut impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<Decision, E> {
        if self.ids.contains(&id) || knows_id(&id)? {
            return Ok(Decision::Repeat);
        }
        if let Err(reason) = admit() {
            return Ok(Decision::OverQuota(reason));
        }
        self.ids.insert(id);
        Ok(Decision::Fresh)
    }

    fn reject(&mut self, before: &Before<'_>, agent: &AgentId, number: Option<(u64, u64)>, why: Why) {
        let Some((epoch, seq)) = number else {
            if let Some(account) = self.account(before, agent) {
                account.reject_unnumbered(why);
            }
            return;
        };
        if let Some(epoch) = self.epoch(before, agent, epoch) {
            epoch.reject(seq, why, before.now_ms);
        }
    }

    fn epoch(&mut self, before: &Before<'_>, agent: &AgentId, epoch: u64) -> Option<&mut Epoch> {
        self.account(before, agent)?.epoch_mut(epoch)
    }

    /// The copy of an agent's account that the batch changes.
    fn account(&mut self, before: &Before<'_>, agent: &AgentId) -> Option<&mut Account> {
        if !self.accounts.contains_key(agent) {
            let account = before.accounts.get(agent).cloned().unwrap_or_default();
            self.accounts.insert(agent.clone(), account);
        }
        self.accounts.get_mut(agent)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::core::quota::NewSeries;

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
        let before = Before { accounts, quota: Quota::new(usize::MAX, HashMap::new()), now_ms: 1 };
        let plan = plan::<Infallible>(batch, before, |id| Ok(ids.contains(id))).unwrap();
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
        let agent = AgentId::new("a").unwrap();
        let loss = &accounts[&agent].losses(&agent)[0];
        assert_eq!((accounts[&agent].watermark(&agent, 1).seq, loss.stored, loss.missing), (100, 100, 0));
    }

    #[test]
    fn a_refused_message_with_a_number_is_rejected_and_not_lost() {
        let (mut accounts, mut ids) = (Accounts::new(), HashSet::new());
        let agent = AgentId::new("a").unwrap();
        let refused = |number| {
            let (why, reason, agent) = (Why::Invalid, "bad".into(), Some(agent.clone()));
            Err(Refused { why, reason, agent, number })
        };
        let batch =
            [numbered(1, 1), refused(Some((1, 2))), refused(Some((1, 2))), refused(None), numbered(1, 3)];
        assert_eq!(apply(&batch, &mut accounts, &mut ids), [0, 4]);
        let stored = accounts[&agent].watermark(&agent, 1);
        assert_eq!((stored.seq, stored.lost), (3, 0));
        let losses = accounts[&agent].losses(&agent);
        let rejected: Vec<_> = losses.iter().map(|loss| (loss.epoch, loss.rejected.get("invalid"))).collect();
        assert_eq!(rejected, [(1, Some(&1)), (0, Some(&1))]);
    }

    #[test]
    fn g1_what_is_over_the_quota_is_rejected_each_time_it_comes_and_stored_never() {
        let (accounts, agent) = (Accounts::new(), AgentId::new("a").unwrap());
        let named = result(Identity::Named("x".into()));
        let batch = [
            numbered(1, 1),
            numbered(1, 2),
            numbered(1, 2),
            named,
            result(Identity::Unknown),
            numbered(1, 3),
        ];
        let brings = |held| NewSeries { held, names: vec![String::new()] };
        let new = HashMap::from([(1, brings(9)), (2, brings(9)), (3, brings(9)), (4, brings(9))]);
        let before = Before { accounts: &accounts, quota: Quota::new(9, new), now_ms: 1 };
        let plan = plan::<Infallible>(&batch, before, |_| Ok(false)).unwrap();
        assert_eq!((plan.fresh, plan.duplicates), (vec![0, 5], 0));
        let mut rejected: Vec<_> = plan.rejected.iter().map(|(index, (why, _))| (*index, *why)).collect();
        rejected.sort_by_key(|(index, _)| *index);
        assert_eq!(rejected, [1, 2, 3, 4].map(|index| (index, Why::Series)));
        assert!(plan.ids.is_empty());
        let account = &plan.accounts[&agent];
        assert_eq!((account.watermark(&agent, 1).seq, account.watermark(&agent, 1).lost), (3, 0));
        assert_eq!(account.losses(&agent)[0].rejected["series"], 1, "the same number counts once");
        assert_eq!(account.losses(&agent)[1].rejected["series"], 2);
    }
}
