//! Hosts that ask for their configuration, and that report how they fared with it.

use documents::Outcome;
use protocol::{
    AgentId, Facts, Origin,
    config::{AgentConfig, ConfigReply, ConfigRequest, ConfigStatus},
    limits,
};

use super::{Entry, HOST_BYTES, HostRecord, Model, Seen};
use crate::core::{presence, signing};

/// Longest text that is kept of an agent's words: its version, why it failed.
const TEXT: usize = 1_000;

impl Model {
    /// A host asks for its configuration and says what it is.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn seen(
        &mut self,
        agent: &AgentId,
        request: &ConfigRequest,
        now: u64,
    ) -> Result<Seen, String> {
        check_size(request)?;
        let known = self.hosts.contains_key(agent);
        if !known && self.hosts.len() >= self.max_hosts {
            return Err(format!("the inventory is full: {} hosts (--max-hosts)", self.max_hosts));
        }
        let entry = self.hosts.entry(agent.clone()).or_insert_with(|| {
            let (origin, first_seen_ms) = (request.origin, now);
            Entry {
                record: HostRecord { origin, first_seen_ms, ..HostRecord::default() },
                ..Entry::default()
            }
        });
        let record = &mut entry.record;
        let before = (record.facts.clone(), record.labels.clone());
        if let Some(facts) = &request.facts {
            record.facts.clone_from(facts);
        }
        // A script does not know its labels; an agent that has none lost those it had.
        if request.origin == Origin::Agent || !request.labels.is_empty() {
            record.labels.clone_from(&request.labels);
        }
        let differs = !known || before != (record.facts.clone(), record.labels.clone());
        if request.origin == Origin::Agent {
            record.origin = Origin::Agent;
        }
        if request.origin == Origin::Agent && record.signed != request.signed {
            (record.signed, record.signed_at) = (request.signed, self.revision);
        }
        if let Some(version) = &request.agent_version {
            record.agent_version = Some(short(version));
        }
        record.last_seen_ms = now;
        presence::asked(record, request.poll_ms, request.instance.as_deref(), now);
        entry.unsaved |= differs;
        if differs {
            self.resolve(agent, None);
        }
        let Some(entry) = self.hosts.get_mut(agent) else { return Err("try again".to_owned()) };
        let record = &mut entry.record;
        let revision = record.revision_wanted;
        let etag = match request.signed {
            true => format!("{}.{}", record.etag, record.signed_at),
            false => record.etag.clone(),
        };
        if request.etag.as_ref() == Some(&etag) {
            // An agent reports by itself what of it does not run.
            if record.error.is_none() || request.origin != Origin::Agent {
                (record.revision_applied, record.error) = (Some(revision), None);
            }
            return Ok(Seen { reply: ConfigReply::Unchanged { revision }, unsaved: entry.unsaved });
        }
        let checks = entry.outcomes.values().filter_map(|outcome| match outcome {
            Outcome::Runs(way) => Some(way.spec().clone()),
            Outcome::Unfit(_) => None,
        });
        let documents = match request.signed {
            true => {
                let signed = self.rollouts.signed(agent).unwrap_or(&self.signed);
                signing::needed(&entry.outcomes, signed).cloned().collect()
            }
            false => Vec::new(),
        };
        let config = AgentConfig { revision, etag, checks: checks.collect(), documents };
        Ok(Seen { reply: ConfigReply::Full { config }, unsaved: entry.unsaved })
    }

    /// This record of a host is on disk.
    pub(crate) fn saved(&mut self, agent: &AgentId, saved: &HostRecord) {
        if let Some(entry) = self.hosts.get_mut(agent) {
            let record = &entry.record;
            entry.unsaved &= (&saved.facts, &saved.labels) != (&record.facts, &record.labels);
        }
    }

    /// A host reports how it fared with a revision. `false`: there is no such host.
    pub(crate) fn reported(&mut self, status: &ConfigStatus) -> bool {
        let Some(entry) = self.hosts.get_mut(&status.agent) else { return false };
        let error = status.error.as_deref().map(short);
        if error != entry.record.error {
            entry.record.failing_since = error.is_some().then_some(status.revision);
        }
        entry.record.error = error;
        if status.error.is_none() {
            entry.record.revision_applied = Some(status.revision);
        }
        true
    }
}

fn check_size(request: &ConfigRequest) -> Result<(), String> {
    let facts = request.facts.as_ref();
    for (what, count) in [("facts", facts.map_or(0, Facts::len)), ("labels", request.labels.len())] {
        if count > limits::FACTS {
            return Err(format!("{count} {what} are more than the {} allowed", limits::FACTS));
        }
    }
    let size = protocol::encode(&(facts, &request.labels)).map_or(usize::MAX, |json| json.len());
    if size > HOST_BYTES {
        return Err(format!("facts and labels take {size} bytes, more than the {HOST_BYTES} allowed"));
    }
    Ok(())
}

fn short(text: &str) -> String {
    text.chars().take(TEXT).collect()
}
