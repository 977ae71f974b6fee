//! Most series that one agent may have: what would bring more is refused, and nobody else notices.

use std::collections::{HashMap, HashSet};

use protocol::{AgentId, CheckName, CheckResult};

/// What a result would add to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSeries {
    /// Series of its agent that the store has.
    pub held: usize,
    /// Metrics of its check that the store does not have; the empty name stands for the result's own value.
    pub names: Vec<String>,
}

/// Decides for one batch.
#[derive(Debug)]
pub struct Quota {
    limit: usize,
    /// By place in the batch; results that are not in it bring nothing new.
    new: HashMap<usize, NewSeries>,
    added: HashMap<AgentId, HashSet<(CheckName, String)>>,
}

impl Quota {
    #[must_use]
    pub fn new(limit: usize, new: HashMap<usize, NewSeries>) -> Self {
        Self { limit, new, added: HashMap::new() }
    }

    /// Whether the result at this place may be stored. Call it once for each, in order.
    ///
    /// # Errors
    /// The reason why not.
    pub fn admit(&mut self, index: usize, result: &CheckResult) -> Result<(), String> {
        let Some(NewSeries { held, names }) = self.new.remove(&index) else { return Ok(()) };
        let added = self.added.entry(result.agent.clone()).or_default();
        let own = |name: String| (result.check.clone(), name);
        let fresh: HashSet<_> = names.into_iter().map(own).filter(|series| !added.contains(series)).collect();
        let held = held.saturating_add(added.len());
        if held.saturating_add(fresh.len()) > self.limit {
            return Err(format!(
                "it brings {} new series to the {held} of {}, {} are allowed: let its checks name fewer metrics, \
                 or raise --max-series",
                fresh.len(),
                result.agent,
                self.limit
            ));
        }
        added.extend(fresh);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(agent: &str, check: &str) -> CheckResult {
        let json = format!(r#"{{"v":1,"agent":"{agent}","check":"{check}","at_ms":1,"status":"ok"}}"#);
        protocol::decode(json.as_bytes(), 1000).unwrap()
    }

    #[test]
    fn what_is_beyond_the_limit_is_refused_and_the_rest_is_not() {
        let brings =
            |held, names: &[&str]| NewSeries { held, names: names.iter().map(ToString::to_string).collect() };
        let batch = [
            ("a", "c", Some(brings(7, &["", "x"])), true),
            // The same again: the batch has brought it already.
            ("a", "c", Some(brings(7, &["", "x"])), true),
            ("a", "d", Some(brings(7, &["", "x"])), false),
            ("a", "known", None, true),
            ("b", "d", Some(brings(0, &["", "x", "y"])), true),
            ("a", "d", Some(brings(7, &[""])), true),
            ("a", "e", Some(brings(7, &[""])), false),
        ];
        let new =
            batch.iter().enumerate().filter_map(|(i, (_, _, new, _))| Some((i, new.clone()?))).collect();
        let mut quota = Quota::new(10, new);
        for (index, (agent, check, _, expected)) in batch.iter().enumerate() {
            let admitted = quota.admit(index, &result(agent, check));
            assert_eq!(admitted.is_ok(), *expected, "{index}: {admitted:?}");
            if let Err(reason) = admitted {
                assert!(reason.contains("10 are allowed") && reason.contains("of a,"), "{reason}");
            }
        }
    }
}
