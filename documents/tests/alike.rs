//! Hosts are resolved once for all that are alike: what that gives is what each of them would get alone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test reports by panicking

use std::{collections::BTreeSet, sync::Arc};

use documents::{Resolved, Resolver, Step};
use proptest::prelude::*;
use protocol::{AgentId, CheckName, Facts, Labels, admin::SourceFile, document::Document, document::Kind};
use serde_json::{Value, json};

/// Every way in which an expression may read a host.
const EXPRESSIONS: [&str; 17] = [
    "facts.os == \"linux\"",
    "facts[\"os\"] == \"linux\" || labels[\"role\"] == \"db\"",
    "labels.role == \"db\"",
    "labels.role == facts.role",
    "facts.cpus > 2",
    "has(facts.cpus) && facts.cpus >= 4",
    "has(labels.role)",
    "agent == \"h1\"",
    "agent.startsWith(\"h\") && facts.os != \"linux\"",
    "\"os\" in facts",
    "size(labels) > 1",
    "labels.exists(l, labels[l] == \"db\")",
    "\"g0\" in groups",
    "groups.exists(g, g == \"g1\")",
    "vars.x == \"linux\"",
    "has(vars.x)",
    "facts[labels.role] == 1",
];

fn read(text: &str) -> Vec<Document> {
    documents::read(&[SourceFile { path: "x".into(), text: text.into() }], |_, _| true).unwrap()
}

/// One document of a few that stand for all.
fn document() -> impl Strategy<Value = String> {
    let expression = prop::sample::select(EXPRESSIONS.to_vec());
    let of_group =
        prop::sample::select(EXPRESSIONS.iter().filter(|e| !e.contains("vars")).copied().collect::<Vec<_>>());
    prop_oneof![
        4 => (0..4u8, expression.clone()).prop_map(|(n, hosts)| {
            format!("kind: Check\nname: c{n}\nevery: 1m\nbuiltin: cpu\nhosts: '{hosts}'\n")
        }),
        4 => (0..4u8, expression.clone(), expression.clone()).prop_map(|(n, one, other)| format!(
            "kind: Check\nname: c{n}\nevery: 1m\nvariants: [{{when: '{one}', command: a}}, {{when: '{other}', command: b}}]\n"
        )),
        3 => (0..4u8, expression).prop_map(|(n, hosts)| format!(
            "kind: Check\nname: c{n}\nevery: 1m\ncommand: echo ${{vars.x}}\noverrides: [{{hosts: '{hosts}', every: 5m}}]\n"
        )),
        2 => (0..2u8, of_group).prop_filter("asks for itself, or for all groups", |(n, hosts)| !(hosts.contains("groups.") || *n == 0 && hosts.contains("g0"))).prop_map(
            |(n, hosts)| format!("kind: Group\nname: g{n}\nhosts: '{hosts}'\nmembers: [h{n}]\n")
        ),
        1 => (0..2u8).prop_map(|n| format!("kind: Variables\nname: v{n}\ngroup: g{n}\nvars: {{x: linux}}\n")),
        1 => (0..3u8).prop_map(|n| format!("kind: Variables\nname: own\nhost: h{n}\nvars: {{x: own}}\n")),
    ]
}

type Host = (AgentId, Facts, Labels);

fn host() -> impl Strategy<Value = Host> {
    let value = |all: &[Value]| prop::option::of(prop::sample::select(all.to_vec()));
    (
        0..4u8,
        value(&[json!("linux"), json!("bsd"), json!(3), json!(null)]),
        value(&[json!(1), json!(4), json!("4")]),
        value(&[json!("db"), json!("web")]),
        value(&[json!("db"), json!("os"), json!("")]),
        prop::bool::ANY,
    )
        .prop_map(|(n, os, cpus, fact_role, role, more)| {
            let facts = [("os", os), ("cpus", cpus), ("role", fact_role)];
            let facts = facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            let role = role.map(|role| ("role".to_owned(), role.as_str().unwrap().to_owned()));
            let more = more.then(|| ("more".to_owned(), "yes".to_owned()));
            (AgentId::new(&format!("h{n}")).unwrap(), facts.collect(), role.into_iter().chain(more).collect())
        })
}

/// What a host gets with nothing remembered of any other.
fn alone(documents: &[Document], (agent, facts, labels): &Host) -> Resolved {
    let resolver = Resolver::new(documents);
    let scope = resolver.scope(agent, facts, labels);
    let outcomes = resolver.outcomes(agent, facts, labels);
    Resolved { scope, etag: documents::etag(&outcomes), outcomes }
}

fn same(found: &Resolved, wanted: &Resolved) -> bool {
    (&found.scope, &found.outcomes, &found.etag) == (&wanted.scope, &wanted.outcomes, &wanted.etag)
}

/// Documents of which the later ones win.
fn set(texts: &[String]) -> Vec<Document> {
    let mut all = std::collections::BTreeMap::new();
    for document in texts.iter().flat_map(|text| read(text)) {
        all.insert((document.kind(), document.name().to_owned()), document);
    }
    all.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn no_host_gets_what_is_another_ones_or_what_was(
        before in prop::collection::vec(document(), 1..8),
        change in prop::collection::vec(document(), 1..3),
        gone in prop::option::of(0..4u8),
        hosts in prop::collection::vec(host(), 1..25),
    ) {
        let (before, change) = (set(&before), set(&change));
        let mut resolver = Resolver::new(&before);
        let mut ran: Vec<Arc<Resolved>> = Vec::new();
        for host in &hosts {
            let resolved = resolver.resolve(&host.0, &host.1, &host.2);
            prop_assert!(same(&resolved, &alone(&before, host)), "{host:?} {resolved:?}");
            ran.push(resolved);
        }
        let mut after: Vec<Document> = before.clone();
        let key = |document: &Document| (document.kind(), document.name().to_owned());
        after.retain(|document| !change.iter().any(|other| key(other) == key(document)));
        after.extend(change.iter().cloned());
        let gone = gone.map(|n| format!("c{n}"));
        after.retain(|document| document.kind() != Kind::Check || Some(document.name()) != gone.as_deref());
        change.iter().for_each(|document| resolver.put(document));
        gone.iter().for_each(|name| resolver.remove(Kind::Check, name));
        let checks = change.iter().filter(|document| document.kind() == Kind::Check).map(Document::name);
        let checks: BTreeSet<CheckName> =
            checks.chain(gone.as_deref()).map(|name| CheckName::new(name).unwrap()).collect();
        let targeting = change.iter().any(|d| matches!(d.kind(), Kind::Group | Kind::Variables));
        let mut step = Step::new(&resolver, checks, targeting);
        for (host, ran) in hosts.iter().zip(&ran) {
            let wanted = alone(&after, host);
            let (agent, facts, labels) = host;
            let stepped = step.resolve(&resolver, ran, agent, facts, labels);
            prop_assert!(same(&stepped, &wanted), "{host:?}: {stepped:?} instead of {wanted:?}");
            let resolved = resolver.resolve(agent, facts, labels);
            prop_assert!(same(&resolved, &wanted), "{host:?}: {resolved:?} instead of {wanted:?}");
        }
    }
}

#[test]
fn hosts_that_differ_in_what_nobody_asks_for_share_what_they_run() {
    let resolver = Resolver::new(&read(
        "kind: Check\nname: c\nevery: 1m\nbuiltin: cpu\nhosts: facts.cpus > 2 && labels.role == \"db\"\n",
    ));
    let resolve = |name: &str, cpus: u8, kernel: &str| {
        let facts = [("cpus".to_owned(), json!(cpus)), ("kernel".to_owned(), json!(kernel))].into();
        let labels = [("role".to_owned(), "db".to_owned())].into();
        resolver.resolve(&AgentId::new(name).unwrap(), &facts, &labels)
    };
    let first = resolve("a", 4, "6.1");
    assert!(Arc::ptr_eq(&first, &resolve("b", 4, "6.2")));
    // Another value, and the same answer.
    assert!(Arc::ptr_eq(&first, &resolve("c", 8, "6.1")));
    assert!(!Arc::ptr_eq(&first, &resolve("d", 1, "6.1")));
}
