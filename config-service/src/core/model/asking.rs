//! Hosts that ask for their configuration, and that report how they fared with it.

use bytes::Bytes;
use protocol::{
    AgentId, Facts, Origin,
    config::{ConfigRequest, ConfigStatus},
    limits,
};
use sha2::{Digest, Sha256};

use super::{Entry, HOST_BYTES, HostRecord, Model, answers::Key};
use crate::core::presence;

/// Longest text that is kept of an agent's words: its version, why it failed.
const TEXT: usize = 1_000;

/// What a host gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Unchanged {
        revision: u64,
    },
    /// A reply with the whole configuration, as JSON.
    Full(Bytes),
}

/// What a host's request led to.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) answer: Answer,
    /// More is to be kept of the host than that it was seen.
    pub(crate) news: bool,
    /// Its facts and labels are not on disk yet, be they from this request or one before.
    pub(crate) unsaved: bool,
}

/// Why a host gets nothing.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// Not to be read as a request.
    Malformed(String),
    Refused(String),
}

/// The last request of a host. The same once more says nothing new of it, so that it need not be read again.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    digest: [u8; 32],
    by: Asking,
}

/// What of a request decides the answer, besides what the host is.
#[derive(Debug, Clone)]
struct Asking {
    etag: Option<String>,
    signed: bool,
    origin: Origin,
}

impl Model {
    /// A host asks for its configuration by these bytes.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn asked(&mut self, agent: &AgentId, request: &[u8], now: u64) -> Result<Seen, Refusal> {
        let digest: [u8; 32] = Sha256::digest(request).into();
        if let Some(entry) = self.hosts.get_mut(agent)
            && let Some(asked) = entry.asked.take_if(|asked| asked.digest == digest)
        {
            entry.record.last_seen_ms = now;
            let seen = self.answer(agent, &asked.by, false).map_err(Refusal::Refused);
            if let Some(entry) = self.hosts.get_mut(agent) {
                entry.asked = Some(asked);
            }
            return seen;
        }
        let request: ConfigRequest = protocol::decode(request, limits::MESSAGE)
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let seen = self.seen(agent, &request, now).map_err(Refusal::Refused)?;
        if let Some(entry) = self.hosts.get_mut(agent) {
            entry.asked = Some(Asked { digest, by: Asking::of(&request) });
        }
        Ok(seen)
    }

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
        if self.sign_ins.is_gone(agent) {
            return Err(format!(
                "the host was decommissioned: to take {agent} in again, delete agent.nk in the agent's state folder and \
                 enrol it with `dogwatch token create --agent {agent}`"
            ));
        }
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
        self.answer(agent, &Asking::of(request), true)
    }

    fn answer(&mut self, agent: &AgentId, by: &Asking, news: bool) -> Result<Seen, String> {
        let Some(entry) = self.hosts.get_mut(agent) else { return Err("try again".to_owned()) };
        let Entry { record, resolved, unsaved, .. } = entry;
        let (revision, unsaved) = (record.revision_wanted, *unsaved);
        let etag = match by.signed {
            true => format!("{}.{}", record.etag, record.signed_at),
            false => record.etag.clone(),
        };
        if by.etag.as_ref() == Some(&etag) {
            let mut news = news;
            // An agent reports by itself what of it does not run.
            if record.error.is_none() || by.origin != Origin::Agent {
                news |= record.error.is_some() || record.revision_applied != Some(revision);
                (record.revision_applied, record.error) = (Some(revision), None);
            }
            return Ok(Seen { answer: Answer::Unchanged { revision }, news, unsaved });
        }
        let former = self.rollouts.signed(agent).filter(|_| by.signed);
        let key = Key { revision, etag, held_back: former.is_some() };
        let signed = by.signed.then(|| former.unwrap_or(&self.signed));
        let answer = Answer::Full(self.bodies.get(key, resolved, signed));
        Ok(Seen { answer, news, unsaved })
    }

    /// When hosts were seen whose time on disk is an older one, which it then is no more.
    pub(crate) fn unsaved_times(&mut self) -> Vec<(AgentId, u64)> {
        let mut times = Vec::new();
        for (agent, entry) in &mut self.hosts {
            if entry.record.last_seen_ms > entry.saved_ms {
                entry.saved_ms = entry.record.last_seen_ms;
                times.push((agent.clone(), entry.saved_ms));
            }
        }
        times
    }

    /// This record of a host is on disk.
    pub(crate) fn saved(&mut self, agent: &AgentId, saved: &HostRecord) {
        if let Some(entry) = self.hosts.get_mut(agent) {
            entry.saved_ms = entry.saved_ms.max(saved.last_seen_ms);
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

impl Asking {
    fn of(request: &ConfigRequest) -> Self {
        Self { etag: request.etag.clone(), signed: request.signed, origin: request.origin }
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
