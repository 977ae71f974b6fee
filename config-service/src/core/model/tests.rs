use documents::Outcome;
use proptest::prelude::*;
use protocol::{
    Reply,
    admin::{HostList, HostQuery, SourceFile},
    config::{AgentConfig, ConfigReply, ConfigRequest},
    document::Kind,
    limits,
    log::{LogChange, LogRecord},
    rollout::{Canary, PLACES, Rollout, RolloutState, Stage},
};

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
    let changes = documents.into_iter().map(|document| LogChange::DocumentPut { document, signature: None });
    fold(model, changes.collect())
}

fn fold(model: &mut Model, changes: Vec<LogChange>) -> Vec<AgentId> {
    let (actor, message, revision) = (String::new(), String::new(), model.revision + 1);
    let mut touched = Touched::default();
    let record = LogRecord { v: 1, id: String::new(), revision, at_ms: 1, actor, message, changes };
    model.fold(&record, &mut touched);
    model.refresh(&model.affected(&touched), &mut touched)
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
    let mut prospect = crate::core::effects::Prospect::new(&model, &changes);
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
    let mut outcomes = documents::Outcomes::new();
    for n in 0..limits::CHECKS {
        let name = CheckName::new(&format!("{}{n:05}", "c".repeat(59))).unwrap();
        outcomes.insert(name, Outcome::Unfit("why ".repeat(250)));
    }
    entry.resolved = Resolved { outcomes, ..Resolved::default() }.into();
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

/// What a host gets with nothing remembered: from its documents, its facts and labels, and its own record.
fn afresh(model: &Model, agent: &AgentId, signed: bool) -> AgentConfig {
    let entry = &model.hosts[agent];
    let held_back = model.open_rollout().filter(|(rollout, _)| rollout.holds_back(agent));
    let (documents, signatures) = match held_back {
        Some((_, before)) => (before.documents, before.signed),
        None => (Arc::clone(&model.documents), Arc::clone(&model.signed)),
    };
    let (facts, labels) = entry.known();
    let outcomes = Resolver::new(documents.values()).outcomes(agent, &facts, &labels);
    let mut etag = documents::etag(&outcomes);
    let runs = outcomes.values().filter_map(|outcome| match outcome {
        Outcome::Runs(way) => Some(way.spec().clone()),
        Outcome::Unfit(_) => None,
    });
    let (checks, mut documents) = (runs.collect(), Vec::new());
    if signed {
        etag = format!("{etag}.{}", entry.record.signed_at);
        documents.extend(crate::core::signing::needed(&outcomes, &signatures).cloned());
    }
    AgentConfig { revision: entry.record.revision_wanted, etag, checks, documents }
}

/// Every document as a change, signed or not.
fn changes(text: &str, signed: Option<u64>) -> Vec<LogChange> {
    let file = SourceFile { path: "x".to_owned(), text: text.to_owned() };
    let documents = documents::read(&[file], |_, _| true).unwrap();
    // Whether it is the right one is the agent's to say.
    let signature = signed.map(|revision| protocol::signed::Signature {
        key: nkeys::KeyPair::new_operator().public_key().parse().unwrap(),
        revision,
        fallback: None,
        signature: "00".repeat(64),
    });
    let put = |document| LogChange::DocumentPut { document, signature: signature.clone() };
    documents.into_iter().map(put).collect()
}

fn rollout(revision: u64, state: RolloutState, limits: &[u64]) -> LogChange {
    let stage = |(stage, limit): (usize, &u64)| Stage { stage, hosts: 1, limit: *limit, revision, at_ms: 1 };
    let stages = vec!["1".parse().unwrap(), "100%".parse().unwrap()];
    let canary = Canary { stages, bake_ms: 1, max_failures: "0".parse().unwrap() };
    let (actor, message, reason) = (String::new(), String::new(), String::new());
    let reached = limits.iter().enumerate().map(stage).collect();
    let (started_ms, since_ms, concerned) = (1, 1, 4);
    let rollout =
        Rollout { revision, canary, actor, message, started_ms, state, reason, since_ms, concerned, reached };
    LogChange::RolloutPut { rollout }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// Whatever was asked, changed, rolled out and rolled back before: an answer is the host's own, and of now.
    #[test]
    fn g3_no_answer_is_another_hosts_or_of_before(
        steps in prop::collection::vec((0..14u8, 0..3u8, 0..4u8, prop::bool::ANY), 1..40)
    ) {
        let mut model = empty();
        let mut open: Option<(u64, u8)> = None;
        let mut etags = std::collections::BTreeMap::new();
        for (step, n, host, signed) in steps {
            let sign = signed.then_some(model.revision + 1);
            let check = |every: u8| format!("kind: Check\nname: c{n}\nevery: {every}m\nbuiltin: cpu\nhosts: facts.os != \"x{host}\"\n");
            match step {
                // A change, also one of the signature or of the description alone.
                0 => drop(fold(&mut model, changes(&check(1 + host), sign))),
                1 => drop(fold(&mut model, changes(&format!("{}description: {host}\n", check(1)), sign))),
                2 => drop(fold(&mut model, changes(&format!("kind: Group\nname: g\nhosts: labels.role == \"r{n}\"\n---\nkind: Variables\nname: v\ngroup: g\nvars: {{x: {host}}}\n---\nkind: Check\nname: v\nevery: 1m\ncommand: echo ${{vars.x}}\n"), sign))),
                3 => drop(fold(&mut model, vec![LogChange::DocumentDeleted { kind: Kind::Check, name: format!("c{n}") }])),
                4 => {
                    // An operator gives a label by key.
                    let key = KeyRecord {
                        id: format!("k{n}{host}"), hash: format!("k{n}{host}"), role: protocol::admin::Role::Agent,
                        agent: Some(agent(&format!("h{host}"))), labels: [("role".to_owned(), format!("r{n}"))].into(),
                        facts: Facts::new(), created_ms: 1, revoked_ms: None, expires_ms: None, hosts: None,
                    };
                    drop(fold(&mut model, vec![LogChange::KeyCreated { key }]));
                }
                5 => if open.is_none() {
                    let revision = model.revision + 1;
                    open = Some((revision, 0));
                    let mut all = vec![rollout(revision, RolloutState::Running, &[PLACES / 3])];
                    all.extend(changes(&check(9), sign));
                    drop(fold(&mut model, all));
                },
                6 => if let Some((revision, stage)) = open {
                    let limits = if stage == 0 { vec![PLACES / 3, PLACES / 3 * 2] } else { vec![PLACES / 3, PLACES] };
                    open = Some((revision, 1));
                    drop(fold(&mut model, vec![rollout(revision, RolloutState::Running, &limits)]));
                },
                7 => if let Some((revision, _)) = open.take() {
                    let state = if signed { RolloutState::Finished } else { RolloutState::RolledBack };
                    let mut all = vec![rollout(revision, state, &[PLACES / 3])];
                    if !signed {
                        let before = model.open_rollout().unwrap().1.documents;
                        all.extend(crate::core::plan::changes(&model.documents, &before));
                    }
                    drop(fold(&mut model, all));
                },
                8 => model.forget_log(),
                _ => {
                    let name = agent(&format!("h{host}"));
                    let mut asked = request(["linux", "x0", "x1"][usize::from(n)]);
                    asked.signed = signed;
                    asked.labels = (step > 10).then(|| ("role".to_owned(), format!("r{n}"))).into_iter().collect();
                    if step % 2 == 0 {
                        asked.etag = etags.get(&name).cloned();
                    }
                    let bytes = protocol::encode(&asked).unwrap();
                    // Twice: the second time it is known.
                    for at_ms in 1..3 {
                        let seen = model.asked(&name, &bytes, at_ms).unwrap();
                        let wanted = afresh(&model, &name, signed);
                        prop_assert_eq!(model.record(&name).unwrap().last_seen_ms, at_ms);
                        match seen.answer {
                            Answer::Unchanged { revision } => {
                                prop_assert_eq!((asked.etag.as_ref(), revision), (Some(&wanted.etag), wanted.revision));
                            }
                            Answer::Full(body) => {
                                prop_assert_ne!(asked.etag.as_ref(), Some(&wanted.etag));
                                let plain = Reply::Ok(ConfigReply::Full { config: wanted.clone() });
                                prop_assert_eq!(&body, &protocol::encode(&plain).unwrap());
                                etags.insert(name.clone(), wanted.etag);
                            }
                        }
                    }
                }
            }
            if step == 8 {
                open = None;
            }
        }
    }
}

#[test]
fn a_request_that_cannot_be_read_is_not_remembered() {
    let (mut model, a) = (empty(), agent("a"));
    for _ in 0..2 {
        let Err(Refusal::Malformed(reason)) = model.asked(&a, b"nonsense", 1) else { panic!("it was read") };
        assert!(reason.starts_with("not a valid ConfigRequest"), "{reason}");
    }
    let bytes = protocol::encode(&request("linux")).unwrap();
    assert!(model.asked(&a, &bytes, 1).unwrap().unsaved);
    assert!(model.asked(&a, &bytes, 2).unwrap().unsaved, "it is not on disk, asked again or not");
    let record = model.record(&a).unwrap().clone();
    model.saved(&a, &record);
    let seen = model.asked(&a, &bytes, 3).unwrap();
    assert!(!seen.unsaved && !seen.news);
    assert_eq!(model.unsaved_times(), [(a.clone(), 3)]);
    assert_eq!(model.unsaved_times(), []);
}
