use documents::Outcome;
use proptest::prelude::*;
use protocol::{
    admin::{HostList, HostQuery, SourceFile},
    config::ConfigRequest,
    document::Kind,
    limits,
    log::{LogChange, LogRecord},
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
