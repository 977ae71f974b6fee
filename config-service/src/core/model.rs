//! All that the service knows, in memory: the fold of the log, and the inventory of hosts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use documents::{HostExpression, Outcome, Outcomes, Resolver, Scope};
use protocol::{
    AgentId, CheckName, Facts, Labels, Origin,
    admin::{Explanation, Host, HostList, HostQuery, UnfitCheck},
    config::{AgentConfig, ConfigReply, ConfigRequest, ConfigStatus},
    document::{Document, Kind},
    limits,
    log::{KeyRecord, LogChange, LogRecord},
};
use serde::{Deserialize, Serialize};

use super::{
    plan::Documents,
    presence,
    rollouts::{Before, KeptRollouts, Rollouts},
    sign_in::SignIns,
    signing::{self, Signed},
};

/// Most bytes of one host's facts and labels together.
pub(super) const HOST_BYTES: usize = 64 * 1024;
/// Longest text that is kept of an agent's words: its version, why it failed.
const TEXT: usize = 1_000;
/// What is left of each reason why a check does not fit when there are too many for one message, in characters.
const REASON: usize = 40;
/// Hosts of one page as JSON; the rest of the message is what is around them.
const PAGE_BYTES: usize = limits::MESSAGE - 1_024;

pub(crate) type Keys = BTreeMap<String, KeyRecord>;

/// What is kept of a host on disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    pub(crate) facts: Facts,
    pub(crate) labels: Labels,
    pub(crate) origin: Origin,
    pub(crate) agent_version: Option<String>,
    pub(crate) first_seen_ms: u64,
    pub(crate) last_seen_ms: u64,
    pub(crate) revision_wanted: u64,
    pub(crate) etag: String,
    pub(crate) revision_applied: Option<u64>,
    pub(crate) error: Option<String>,
    /// Revision with which `error` came.
    #[serde(default)]
    pub(crate) failing_since: Option<u64>,
    #[serde(default)]
    pub(crate) poll_ms: Option<u64>,
    /// The agent that asked last, and the one before it.
    #[serde(default)]
    pub(crate) instance: Option<String>,
    #[serde(default)]
    pub(crate) instance_before: Option<String>,
    #[serde(default)]
    pub(crate) cloned_ms: Option<u64>,
    /// It checks signatures.
    #[serde(default)]
    pub(crate) signed: bool,
    /// Newest revision of a document that it needs for that.
    #[serde(default)]
    pub(crate) signed_at: u64,
}

#[derive(Debug, Default)]
struct Entry {
    record: HostRecord,
    /// What an operator gave by key: wins over what the host says.
    given: (Facts, Labels),
    outcomes: Outcomes,
    /// Groups and variables for which the outcomes are.
    scope: Arc<Scope>,
    /// Facts and labels as the host said them are not on disk yet. It may never say them again, all else it repeats.
    unsaved: bool,
}

impl Entry {
    /// What the host says of itself, and over it what an operator gave.
    fn known(&self) -> (Facts, Labels) {
        let (mut facts, mut labels) = (self.record.facts.clone(), self.record.labels.clone());
        facts.extend(self.given.0.clone());
        labels.extend(self.given.1.clone());
        (facts, labels)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) revision: u64,
    pub(crate) documents: Arc<Documents>,
    /// Those of them that are signed.
    pub(crate) signed: Arc<Signed>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) sign_ins: Arc<SignIns>,
    hashes: HashMap<String, String>,
    resolver: Resolver,
    pub(super) rollouts: Rollouts,
    hosts: BTreeMap<AgentId, Entry>,
    max_hosts: usize,
}

/// What folded changes concern.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(super) checks: BTreeSet<CheckName>,
    /// Groups or variables are among them.
    pub(super) targeting: bool,
    /// Hosts whose own facts or labels were given anew.
    hosts: BTreeSet<AgentId>,
}

/// What a host's request led to.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) reply: ConfigReply,
    /// Its facts and labels are not on disk yet, be they from this request or one before.
    pub(crate) unsaved: bool,
}

impl Model {
    /// The state as it was stored. Hosts whose configuration came out different than it was stored are `changed`.
    pub(crate) fn load(
        revision: u64,
        documents: Documents,
        keys: Keys,
        hosts: Vec<(AgentId, HostRecord)>,
        rollouts: KeptRollouts,
        max_hosts: usize,
    ) -> (Self, Vec<AgentId>) {
        let resolver = Resolver::new(documents.values());
        let rollouts = Rollouts::load(rollouts, &resolver, &documents);
        let documents = Arc::new(documents);
        let mut model = Self { revision, documents, resolver, rollouts, max_hosts, ..Self::default() };
        for (agent, record) in hosts {
            model.hosts.insert(agent, Entry { record, ..Entry::default() });
        }
        let mut in_order: Vec<KeyRecord> = keys.into_values().collect();
        in_order.sort_by_key(|key| key.created_ms);
        for key in in_order {
            model.key_created(key);
        }
        let agents: Vec<AgentId> = model.hosts.keys().cloned().collect();
        let changed = agents.into_iter().filter(|agent| model.resolve(agent, None)).collect();
        (model, changed)
    }

    /// Take in the sign-ins as they were stored. Hosts whose configuration came out different are returned.
    pub(crate) fn with_sign_ins(&mut self, sign_ins: SignIns) -> Vec<AgentId> {
        let mut hosts = BTreeSet::new();
        for enrolled in sign_ins.in_order() {
            // A host whose agent is revoked may be gone from the inventory.
            if enrolled.revoked_ms.is_none() || self.hosts.contains_key(&enrolled.agent) {
                hosts.insert(self.enrolled(enrolled.agent.clone(), enrolled.labels.clone(), enrolled.at_ms));
            }
        }
        self.sign_ins = Arc::new(sign_ins);
        hosts.into_iter().filter(|agent| self.resolve(agent, None)).collect()
    }

    /// Fold one accepted change. Hosts run what they ran until they are [refreshed](Self::refresh).
    pub(crate) fn fold(&mut self, record: &LogRecord, touched: &mut Touched) {
        self.revision = record.revision;
        let mut moved = false;
        for change in &record.changes {
            match change {
                LogChange::DocumentPut { document, signature } => {
                    self.resolver.put(document);
                    touched.targeting |= matches!(document.kind(), Kind::Group | Kind::Variables);
                    if let Document::Check(check) = document {
                        touched.checks.insert(check.name.clone());
                    }
                    let key = (document.kind(), document.name().to_owned());
                    let signed = Arc::make_mut(&mut self.signed);
                    match signing::signed(document, signature.as_ref()) {
                        Some(document) => drop(signed.insert(key.clone(), document)),
                        None => drop(signed.remove(&key)),
                    }
                    Arc::make_mut(&mut self.documents).insert(key, document.clone());
                }
                LogChange::DocumentDeleted { kind, name } => {
                    self.resolver.remove(*kind, name);
                    touched.targeting |= matches!(kind, Kind::Group | Kind::Variables);
                    if *kind == Kind::Check
                        && let Ok(name) = CheckName::new(name)
                    {
                        touched.checks.insert(name);
                    }
                    Arc::make_mut(&mut self.signed).remove(&(*kind, name.clone()));
                    Arc::make_mut(&mut self.documents).remove(&(*kind, name.clone()));
                }
                LogChange::KeyCreated { key } => touched.hosts.extend(self.key_created(key.clone())),
                LogChange::TokenCreated { .. }
                | LogChange::TokenRevoked { .. }
                | LogChange::AgentEnrolled { .. }
                | LogChange::AgentRevoked { .. } => {
                    let given = Arc::make_mut(&mut self.sign_ins).fold(change);
                    touched
                        .hosts
                        .extend(given.map(|(agent, labels)| self.enrolled(agent, labels, record.at_ms)));
                }
                LogChange::KeyRevoked { id, at_ms } => {
                    if let Some(key) = Arc::make_mut(&mut self.keys).get_mut(id) {
                        key.revoked_ms = Some(*at_ms);
                    }
                }
                LogChange::RolloutPut { rollout } => {
                    let (documents, signed) = (Arc::clone(&self.documents), Arc::clone(&self.signed));
                    let before = (Before { documents, signed }, &self.resolver);
                    self.rollouts.put(rollout.clone(), before, touched);
                    moved = true;
                }
            }
        }
        if moved {
            self.rollouts.folded(&self.documents, &self.resolver, touched);
        }
    }

    /// The hosts that may run something else now.
    pub(crate) fn affected(&self, touched: &Touched) -> Vec<AgentId> {
        if touched.checks.is_empty() && !touched.targeting {
            touched.hosts.iter().cloned().collect()
        } else {
            self.hosts.keys().cloned().collect()
        }
    }

    /// Resolve these hosts anew. Returns those that do run something else.
    pub(crate) fn refresh(&mut self, agents: &[AgentId], touched: &Touched) -> Vec<AgentId> {
        let mut changed = agents.to_vec();
        changed.retain(|agent| {
            let some = (!touched.hosts.contains(agent)).then_some(touched);
            let resolved = self.resolve(agent, some);
            self.signed_anew(agent, touched) || resolved
        });
        changed
    }

    /// Whether a host that checks signatures has to look at documents again, be it that it goes on to run the same.
    fn signed_anew(&mut self, agent: &AgentId, touched: &Touched) -> bool {
        let Some(Entry { record, outcomes, .. }) = self.hosts.get_mut(agent) else { return false };
        let concerned =
            || touched.targeting || touched.checks.iter().any(|check| outcomes.contains_key(check));
        if !record.signed || !concerned() {
            return false;
        }
        (record.signed_at, record.revision_wanted) = (self.revision, self.revision);
        true
    }

    /// Forget all that came from the log; hosts stay.
    pub(crate) fn forget_log(&mut self) {
        let hosts = self.records();
        let nothing = KeptRollouts::default();
        *self = Self::load(0, Documents::new(), Keys::new(), hosts, nothing, self.max_hosts).0;
    }

    /// A key of a host puts that host into the inventory.
    fn key_created(&mut self, key: KeyRecord) -> Option<AgentId> {
        let agent = key.agent.clone();
        if let Some(agent) = &agent {
            let entry = self.hosts.entry(agent.clone()).or_insert_with(|| {
                let (origin, first_seen_ms) = (Origin::Http, key.created_ms);
                Entry {
                    record: HostRecord { origin, first_seen_ms, ..HostRecord::default() },
                    ..Entry::default()
                }
            });
            entry.given.0.extend(key.facts.clone());
            entry.given.1.extend(key.labels.clone());
        }
        self.hashes.insert(key.hash.clone(), key.id.clone());
        Arc::make_mut(&mut self.keys).insert(key.id.clone(), key);
        agent
    }

    /// An agent that is enrolled is in the inventory, with the labels of its token.
    fn enrolled(&mut self, agent: AgentId, labels: Labels, now: u64) -> AgentId {
        let entry = self.hosts.entry(agent.clone()).or_insert_with(|| {
            let record = HostRecord { origin: Origin::Agent, first_seen_ms: now, ..HostRecord::default() };
            Entry { record, ..Entry::default() }
        });
        entry.given.1.extend(labels);
        agent
    }

    /// Whether an expression holds for a host; not where it fails.
    pub(crate) fn matches(&self, agent: &AgentId, expression: &HostExpression) -> bool {
        self.view(agent).is_some_and(|(facts, labels, scope, _)| {
            expression.matches(&scope.view(agent, &facts, &labels)).unwrap_or(false)
        })
    }

    pub(crate) fn has_host(&self, agent: &AgentId) -> bool {
        self.hosts.contains_key(agent)
    }

    /// Evaluate on one host what is touched, or all. Whether what it runs has changed.
    fn resolve(&mut self, agent: &AgentId, some: Option<&Touched>) -> bool {
        let Some(entry) = self.hosts.get_mut(agent) else { return false };
        let (facts, labels) = entry.known();
        let resolver = self.rollouts.resolver(agent).unwrap_or(&self.resolver);
        match some {
            None => {
                entry.scope = resolver.scope(agent, &facts, &labels);
                entry.outcomes = resolver.outcomes_in(&entry.scope, agent, &facts, &labels);
            }
            Some(touched) => {
                let before = Arc::clone(&entry.scope);
                if touched.targeting {
                    entry.scope = resolver.scope(agent, &facts, &labels);
                }
                let scope = &entry.scope;
                let host = scope.view(agent, &facts, &labels);
                let mut set = |name: &CheckName| {
                    match resolver.outcome(name, scope, &host) {
                        Some(outcome) => entry.outcomes.insert(name.clone(), outcome),
                        None => entry.outcomes.remove(name),
                    };
                };
                touched.checks.iter().for_each(&mut set);
                resolver.concerned(&before, scope).for_each(&mut set);
            }
        }
        let etag = documents::etag(&entry.outcomes);
        if etag == entry.record.etag {
            return false;
        }
        entry.record.etag = etag;
        entry.record.revision_wanted = self.revision;
        true
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

    pub(crate) fn key_by_hash(&self, hash: &str) -> Option<&KeyRecord> {
        self.keys.get(self.hashes.get(hash)?).filter(|key| key.hash == hash)
    }

    pub(crate) fn record(&self, agent: &AgentId) -> Option<&HostRecord> {
        self.hosts.get(agent).map(|entry| &entry.record)
    }

    fn records(&self) -> Vec<(AgentId, HostRecord)> {
        self.hosts.iter().map(|(agent, entry)| (agent.clone(), entry.record.clone())).collect()
    }

    /// Facts and labels of a host, its groups and variables, and what it runs.
    pub(super) fn view(&self, agent: &AgentId) -> Option<(Facts, Labels, &Arc<Scope>, &Outcomes)> {
        let entry = self.hosts.get(agent)?;
        let (facts, labels) = entry.known();
        Some((facts, labels, &entry.scope, &entry.outcomes))
    }

    /// `None`: there is no such host, or no such check.
    pub(crate) fn explain(&self, agent: &AgentId, check: &CheckName) -> Option<Explanation> {
        let (facts, labels, _, _) = self.view(agent)?;
        let resolver = self.rollouts.resolver(agent).unwrap_or(&self.resolver);
        resolver.explain(check, agent, &facts, &labels)
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub(crate) fn agents(&self) -> Vec<AgentId> {
        self.hosts.keys().cloned().collect()
    }

    pub(crate) fn host_count(&self) -> usize {
        self.hosts.len()
    }

    /// One host, or a page of all that fits into one message, as operators see them.
    pub(crate) fn hosts(&self, query: &HostQuery, now: u64) -> HostList {
        let mut list = HostList::default();
        if let Some(agent) = &query.agent {
            list.hosts.extend(self.hosts.get(agent).map(|entry| host(agent, entry, now).0));
            return list;
        }
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let after = query.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut size = 0_usize;
        for (agent, entry) in self.hosts.range::<AgentId, _>((after, Bound::Unbounded)) {
            let (host, bytes) = host(agent, entry, now);
            size += bytes + 1;
            if list.hosts.len() == limit || size > PAGE_BYTES {
                list.next = list.hosts.last().map(|host| host.agent.clone());
                break;
            }
            list.hosts.push(host);
        }
        list
    }
}

/// A host as operators see it, and its size as JSON, which a page always has room for.
fn host(agent: &AgentId, entry: &Entry, now: u64) -> (Host, usize) {
    let record = entry.record.clone();
    let (facts, labels) = entry.known();
    let mut checks = Vec::new();
    let mut unfit = Vec::new();
    for (name, outcome) in &entry.outcomes {
        match outcome {
            Outcome::Runs(_) => checks.push(name.clone()),
            Outcome::Unfit(reason) => unfit.push(UnfitCheck { check: name.clone(), reason: reason.clone() }),
        }
    }
    let mut host = Host {
        agent: agent.clone(),
        facts,
        labels,
        origin: record.origin,
        agent_version: record.agent_version.clone(),
        first_seen_ms: record.first_seen_ms,
        last_seen_ms: record.last_seen_ms,
        revision_wanted: record.revision_wanted,
        revision_applied: record.revision_applied,
        error: record.error.clone(),
        liveness: None,
        liveness_since_ms: None,
        cloned_ms: None,
        checks,
        unfit,
        groups: entry.scope.groups().to_vec(),
        vars: entry.scope.vars().clone(),
        clock_ahead_ms: None,
    };
    presence::judge(&mut host, &record, now);
    let size = |host: &Host| protocol::encode(host).map_or(usize::MAX, |json| json.len());
    let mut bytes = size(&host);
    if bytes > limits::MESSAGE / 2 {
        // Only thousands of reasons make it so large.
        for unfit in &mut host.unfit {
            unfit.reason = unfit.reason.chars().take(REASON).collect();
        }
        bytes = size(&host);
    }
    (host, bytes)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::admin::SourceFile;

    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    fn request(os: &str) -> ConfigRequest {
        ConfigRequest {
            v: 1,
            facts: Some([("os".to_owned(), os.into())].into()),
            labels: Labels::new(),
            etag: None,
            agent_version: None,
            origin: Origin::Agent,
            poll_ms: None,
            instance: None,
            signed: false,
        }
    }

    fn put(model: &mut Model, text: &str) -> Vec<AgentId> {
        let file = SourceFile { path: "x".to_owned(), text: text.to_owned() };
        let documents = documents::read(&[file], |_, _| true).unwrap();
        let changes =
            documents.into_iter().map(|document| LogChange::DocumentPut { document, signature: None });
        fold(model, changes.collect())
    }

    fn fold(model: &mut Model, changes: Vec<LogChange>) -> Vec<AgentId> {
        let (actor, message, revision) = (String::new(), String::new(), model.revision + 1);
        let mut touched = Touched::default();
        let record = LogRecord { v: 1, id: String::new(), revision, at_ms: 1, actor, message, changes };
        model.fold(&record, &mut touched);
        model.refresh(&model.affected(&touched), &touched)
    }

    fn empty() -> Model {
        Model::load(0, Documents::new(), Keys::new(), Vec::new(), KeptRollouts::default(), 10).0
    }

    #[test]
    fn a_host_is_unsaved_until_what_it_said_is_on_disk() {
        let (mut model, a) = (empty(), agent("a"));
        assert!(model.seen(&a, &request("linux"), 1).unwrap().unsaved);
        let written = model.record(&a).unwrap().clone();
        // A repeat says nothing new, but the first is not on disk: its answer has to wait as well.
        assert!(model.seen(&a, &request("linux"), 2).unwrap().unsaved);
        model.saved(&a, &written);
        assert!(!model.seen(&a, &request("linux"), 3).unwrap().unsaved);
        assert!(model.seen(&a, &request("freebsd"), 4).unwrap().unsaved);
        model.saved(&a, &written);
        assert!(model.seen(&a, &request("freebsd"), 5).unwrap().unsaved, "another state was written");
    }

    #[test]
    fn a_revision_is_wanted_by_those_whose_checks_it_changed() {
        let mut model = empty();
        for (name, os) in [("a", "linux"), ("b", "freebsd")] {
            model.seen(&agent(name), &request(os), 1).unwrap();
        }
        assert_eq!(put(&mut model, "kind: Check\nname: c\nevery: 1m\nbuiltin: cpu\n").len(), 2);
        let linux = "kind: Check\nname: l\nevery: 1m\nbuiltin: cpu\nhosts: facts.os == \"linux\"\n";
        assert_eq!(put(&mut model, linux), [agent("a")]);
        assert_eq!(put(&mut model, "kind: Receiver\nname: r\nwebhook: {url: \"http://x\"}\n"), []);
        let wanted: Vec<u64> =
            model.hosts(&HostQuery::default(), 1).hosts.iter().map(|host| host.revision_wanted).collect();
        assert_eq!((wanted, model.revision), (vec![2, 1], 3));
        let deleted = LogChange::DocumentDeleted { kind: Kind::Check, name: "l".to_owned() };
        assert_eq!(fold(&mut model, vec![deleted]), [agent("a")]);
        let query = HostQuery { agent: Some(agent("a")), ..HostQuery::default() };
        assert_eq!(model.hosts(&query, 1).hosts[0].checks.len(), 1);
    }

    #[test]
    fn a_change_of_variables_concerns_the_hosts_whose_checks_it_changes() {
        let mut model = empty();
        for (name, os) in [("a", "linux"), ("b", "freebsd")] {
            model.seen(&agent(name), &request(os), 1).unwrap();
        }
        let before = "kind: Group\nname: l\nhosts: facts.os == \"linux\"\n---\nkind: Variables\nname: all\nvars: {max: 5, other: 1}\n---\nkind: Check\nname: c\nevery: 1m\nbuiltin: cpu\nwarning: '> ${vars.max}'\n";
        assert_eq!(put(&mut model, before).len(), 2);
        let variables = |text: &str| format!("kind: Variables\n{text}\n");
        assert_eq!(put(&mut model, &variables("name: all\nvars: {max: 5, other: 2}")), []);
        let near = variables("name: near\ngroup: l\nvars: {max: 9}");
        let changes: Vec<LogChange> =
            documents::read(&[SourceFile { path: "x".into(), text: near.clone() }], |_, _| true)
                .unwrap()
                .into_iter()
                .map(|document| LogChange::DocumentPut { document, signature: None })
                .collect();
        let mut prospect = super::super::effects::Prospect::new(&model, &changes);
        prospect.look_at(&model, &model.agents());
        let effects = prospect.effects();
        assert_eq!((effects.hosts, effects.changed, &effects.details[0].agent), (1, 1, &agent("a")));
        assert_eq!(put(&mut model, &near), [agent("a")]);
        assert_eq!(put(&mut model, "kind: Group\nname: l\nmembers: [b]\n"), [agent("a"), agent("b")]);
        let query = HostQuery { agent: Some(agent("b")), ..HostQuery::default() };
        let host = model.hosts(&query, 1).hosts.remove(0);
        assert_eq!((host.groups.len(), host.vars.get("max")), (1, Some(&9.into())));
    }

    /// All pages, each of which goes into one message.
    fn pages(model: &Model, limit: usize) -> Vec<HostList> {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = model.hosts(&HostQuery { limit, after, ..HostQuery::default() }, 1);
            let reply = protocol::encode(&protocol::Reply::Ok(&page)).unwrap();
            assert!(reply.len() <= limits::MESSAGE, "{}", reply.len());
            after = page.next.clone();
            pages.push(page);
            if after.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn g10_hosts_are_listed_whole_in_pages_that_fit() {
        let mut model =
            Model::load(0, Documents::new(), Keys::new(), Vec::new(), KeptRollouts::default(), 5_000).0;
        assert_eq!(pages(&model, 0), [HostList::default()]);
        for n in 0..40 {
            // The largest that a host may say of itself.
            let mut large = request("linux");
            large.facts.as_mut().unwrap().insert("x".to_owned(), "y".repeat(HOST_BYTES - 100).into());
            let large = if n < 20 { large } else { request("linux") };
            model.seen(&agent(&format!("h{n:02}")), &large, 1).unwrap();
        }
        let names = |pages: &[HostList]| -> Vec<String> {
            pages.iter().flat_map(|page| &page.hosts).map(|host| host.agent.to_string()).collect()
        };
        let all: Vec<String> = (0..40).map(|n| format!("h{n:02}")).collect();
        for (limit, count) in [(0, 1), (1, 40), (7, 6), (20, 2), (39, 2), (40, 1), (1_000, 1)] {
            let pages = pages(&model, limit);
            assert_eq!((pages.len(), names(&pages)), (count, all.clone()), "limit {limit}");
        }
        for n in 0..100 {
            let mut large = request("linux");
            large.facts.as_mut().unwrap().insert("x".to_owned(), "y".repeat(HOST_BYTES - 100).into());
            model.seen(&agent(&format!("k{n:02}")), &large, 1).unwrap();
        }
        let pages = pages(&model, 0);
        assert_eq!((pages.len(), names(&pages).len()), (2, 140));
    }

    #[test]
    fn a_host_with_thousands_of_reasons_fits_into_a_page() {
        let mut model = empty();
        model.seen(&agent("a"), &request("linux"), 1).unwrap();
        let entry = model.hosts.get_mut(&agent("a")).unwrap();
        for n in 0..limits::CHECKS {
            let name = CheckName::new(&format!("{}{n:05}", "c".repeat(59))).unwrap();
            entry.outcomes.insert(name, Outcome::Unfit("why ".repeat(250)));
        }
        assert_eq!(pages(&model, 0)[0].hosts[0].unfit.len(), limits::CHECKS);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(80))]

        /// Folding step by step ends where loading the same state from disk does.
        #[test]
        fn the_fold_and_a_restart_agree(
            steps in prop::collection::vec((0..9u8, 0..4u8, prop::sample::select(vec!["linux", "freebsd", "x"])), 1..14)
        ) {
            let mut model = empty();
            for (step, n, os) in steps {
                match step {
                    0 => drop(model.seen(&agent(&format!("h{n}")), &request(os), 1)),
                    1 => drop(fold(&mut model, vec![LogChange::DocumentDeleted { kind: Kind::Check, name: format!("c{n}") }])),
                    2 => drop(put(&mut model, &format!("kind: Check\nname: c{n}\nevery: 1m\nvariants: [{{when: facts.os == \"{os}\", command: x{n}}}]\n"))),
                    3 => drop(put(&mut model, &format!("kind: Check\nname: c{n}\nevery: 1m\nbuiltin: cpu\nhosts: facts.os != \"{os}\"\n"))),
                    4 => drop(put(&mut model, &format!("kind: Group\nname: g{n}\nhosts: facts.os == \"{os}\"\nmembers: [h{n}]\n"))),
                    5 => drop(put(&mut model, &format!("kind: Variables\nname: v{n}\ngroup: g{n}\nvars: {{x: {os}}}\n"))),
                    6 => drop(put(&mut model, &format!("kind: Check\nname: c{n}\nevery: 1m\nhosts: '\"g{n}\" in groups'\ncommand: echo ${{vars.x}}\noverrides: [{{hosts: vars.x == \"{os}\", every: 5m}}]\n"))),
                    7 => drop(fold(&mut model, vec![LogChange::DocumentDeleted { kind: Kind::Group, name: format!("g{n}") }])),
                    _ => drop(fold(&mut model, vec![LogChange::DocumentDeleted { kind: Kind::Variables, name: format!("v{n}") }])),
                }
            }
            let documents = (*model.documents).clone();
            let (again, changed) =
                Model::load(model.revision, documents, Keys::new(), model.records(), KeptRollouts::default(), 10);
            prop_assert_eq!(changed, Vec::<AgentId>::new());
            prop_assert_eq!(again.hosts(&HostQuery::default(), 1), model.hosts(&HostQuery::default(), 1));
        }
    }
}
