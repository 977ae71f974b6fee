//! Hosts that are one machine by what it says of itself (fact `machine_id`): renamed, or copied.
//!
//! A machine that got another id is silent under the old one from then on. Two that ask at the same time are copies of one
//! disk, or two agents on one machine. It is a hint for people and decides nothing: a host may say what it likes.

use std::collections::HashMap;

use protocol::{AgentId, admin::Host};

use super::model::Model;

/// The fact.
const MACHINE_ID: &str = "machine_id";
/// Hosts of one machine that are looked at: copies of one image may be thousands.
const LOOKED_AT: usize = 16;

#[derive(Debug, Clone)]
struct Seen {
    agent: AgentId,
    first_ms: u64,
    last_ms: u64,
}

/// The hosts of each machine that has several.
#[derive(Debug, Default)]
pub(crate) struct Machines(HashMap<String, Vec<Seen>>);

impl Machines {
    pub(crate) fn of(model: &Model) -> Self {
        let mut all: HashMap<String, Vec<Seen>> = HashMap::new();
        for agent in model.agents() {
            let Some(record) = model.record(&agent) else { continue };
            let Some(machine) = record.facts.get(MACHINE_ID).and_then(|id| id.as_str()) else { continue };
            let (first_ms, last_ms) = (record.first_seen_ms, record.last_seen_ms);
            all.entry(machine.to_owned()).or_default().push(Seen { agent, first_ms, last_ms });
        }
        all.retain(|_, hosts| hosts.len() > 1);
        // The last that was heard of first.
        all.values_mut().for_each(|hosts| {
            hosts.sort_by_key(|host| std::cmp::Reverse(host.last_ms));
            hosts.truncate(LOOKED_AT);
        });
        Self(all)
    }

    /// Say of a host which other one is the same machine.
    pub(crate) fn tell(&self, host: &mut Host) {
        let machine = host.facts.get(MACHINE_ID).and_then(|id| id.as_str());
        let Some(hosts) = machine.and_then(|machine| self.0.get(machine)) else { return };
        let mut others = hosts.iter().filter(|other| other.agent != host.agent);
        let (first_ms, last_ms) = (host.first_seen_ms, host.last_seen_ms);
        // In the order of when they were last heard of, so the first that fits is the nearest.
        host.same_machine = others
            .clone()
            .find(|other| other.last_ms > first_ms && other.first_ms < last_ms)
            .map(|other| other.agent.clone());
        host.renamed_to =
            others.clone().find(|other| other.first_ms >= last_ms).map(|other| other.agent.clone());
        host.formerly = others.find(|other| other.last_ms <= first_ms).map(|other| other.agent.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, first_ms: u64, last_ms: u64) -> Host {
        serde_json::from_value(serde_json::json!({
            "agent": name, "facts": {"machine_id": "m"}, "first_seen_ms": first_ms, "last_seen_ms": last_ms,
            "revision_wanted": 0, "checks": [],
        }))
        .unwrap()
    }

    fn told(hosts: &[(&str, u64, u64)]) -> Vec<String> {
        let mut seen: Vec<Seen> = hosts
            .iter()
            .map(|(name, first_ms, last_ms)| Seen {
                agent: AgentId::new(name).unwrap(),
                first_ms: *first_ms,
                last_ms: *last_ms,
            })
            .collect();
        seen.sort_by_key(|host| std::cmp::Reverse(host.last_ms));
        let machines = Machines([("m".to_owned(), seen)].into());
        let of = |(name, first_ms, last_ms): &(&str, u64, u64)| {
            let mut host = host(name, *first_ms, *last_ms);
            machines.tell(&mut host);
            let text = |what: &str, agent: &Option<AgentId>| {
                agent.as_ref().map(|agent| format!("{what} {agent}")).unwrap_or_default()
            };
            let parts = [
                text("was", &host.formerly),
                text("now", &host.renamed_to),
                text("with", &host.same_machine),
            ];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
        };
        hosts.iter().map(of).collect()
    }

    #[test]
    fn a_machine_that_was_renamed_is_told_from_one_that_was_copied() {
        assert_eq!(told(&[("web-01", 1, 50), ("www", 60, 90)]), ["now www", "was web-01"]);
        assert_eq!(told(&[("web-01", 1, 80), ("web-02", 60, 90)]), ["with web-02", "with web-01"]);
        // Renamed twice: each knows its neighbours in time.
        let twice = told(&[("a", 1, 10), ("b", 20, 30), ("c", 40, 50)]);
        assert_eq!(twice, ["now c", "was a, now c", "was b"]);
        // A host that never asked, such as one of a key, is none of it.
        assert_eq!(told(&[("alone", 1, 5)]), [""]);
    }
}
