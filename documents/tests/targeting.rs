//! Groups, variables and overrides: what is wrong with them is said at once, and what they make of a host.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test reports by panicking

use documents::{Outcome, Resolver};
use protocol::{AgentId, CheckName, Facts, Labels, admin::SourceFile, config::CheckSpec, document::Document};
use serde_json::json;

fn files(text: &str) -> [SourceFile; 1] {
    [SourceFile { path: "a.yaml".into(), text: text.into() }]
}

fn read(text: &str) -> Vec<Document> {
    documents::read_beside(&files(text), []).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn problems(text: &str, beside: &[Document]) -> Vec<String> {
    let problems = documents::read_beside(&files(text), beside).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

struct Host {
    agent: AgentId,
    facts: Facts,
    labels: Labels,
}

fn host(agent: &str, labels: &[(&str, &str)]) -> Host {
    Host {
        agent: AgentId::new(agent).unwrap(),
        facts: [("os".to_owned(), json!("linux"))].into(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

fn outcome(documents: &[Document], host: &Host, check: &str) -> Option<Outcome> {
    let resolver = Resolver::new(documents);
    resolver.outcomes(&host.agent, &host.facts, &host.labels).remove(&CheckName::new(check).unwrap())
}

fn spec(documents: &[Document], host: &Host, check: &str) -> CheckSpec {
    match outcome(documents, host, check) {
        Some(Outcome::Runs(way)) => way.spec().clone(),
        other => panic!("{other:?}"),
    }
}

fn unfit(documents: &[Document], host: &Host, check: &str) -> String {
    match outcome(documents, host, check) {
        Some(Outcome::Unfit(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

const SET: &str = r#"
kind: Group
name: web
hosts: labels.role == "web"
members: [odd-01]
---
kind: Group
name: edge
hosts: '"web" in groups && labels.zone == "edge"'
---
kind: Variables
name: everywhere
vars: {max: 80, user: nobody, dirs: [/var, /srv], every: 1m}
---
kind: Variables
name: web_defaults
group: web
vars: {max: 90, user: "www data"}
---
kind: Variables
name: edge_first
group: edge
priority: 5
vars: {max: 70}
---
kind: Variables
name: one
host: web-02
vars: {max: 99}
---
kind: Check
name: c
every: ${vars.every}
timeout: 50s
hosts: '"web" in groups || vars.max == 80'
exec: [check, "${vars.dirs}", "-u${vars.user}"]
run: {environment: {LIMIT: "${vars.max}"}}
warning: "> ${vars.max}"
critical: "> 97"
overrides:
- {hosts: '"edge" in groups', every: 10s, critical: none}
- {hosts: '"web" in groups', every: 20s, critical: "> 98"}
---
kind: Check
name: b
cron: "0 6 * * *"
timezone: UTC
builtin: file
with: {path: "${vars.dirs}", most: "${vars.max}"}
overrides:
- {hosts: 'labels.zone == "edge"', timezone: Europe/Berlin}
"#;

#[test]
fn the_nearest_variable_wins_and_the_first_override() {
    let documents = read(SET);
    let of = |host: &Host| {
        let spec = spec(&documents, host, "c");
        let text = |threshold: Option<protocol::Threshold>| threshold.map(|threshold| threshold.to_string());
        (spec.every_ms, spec.timeout_ms, text(spec.warning), text(spec.critical), spec.work.exec.unwrap())
    };
    let text = |text: &str| Some(text.to_owned());
    let words =
        |user: &str| vec!["check".to_owned(), "/var".to_owned(), "/srv".to_owned(), format!("-u{user}")];
    assert_eq!(of(&host("db-01", &[])), (60_000, 50_000, text("> 80"), text("> 97"), words("nobody")));
    // What does not fit the schedule of an override any more is cut.
    assert_eq!(
        of(&host("web-01", &[("role", "web")])),
        (20_000, 16_000, text("> 90"), text("> 98"), words("www data"))
    );
    assert_eq!(of(&host("odd-01", &[])).2, text("> 90"), "a member");
    let edge = [("role", "web"), ("zone", "edge")];
    assert_eq!(of(&host("web-03", &edge)), (10_000, 8_000, text("> 70"), None, words("www data")));
    assert_eq!(of(&host("web-02", &edge)).2, text("> 99"));
    let b = spec(&documents, &host("web-03", &edge), "b");
    assert_eq!(
        b.work.with,
        [("most".to_owned(), json!(70)), ("path".to_owned(), json!(["/var", "/srv"]))].into()
    );
    assert_eq!((b.timezone.as_deref(), b.cron.as_deref()), (Some("Europe/Berlin"), Some("0 6 * * *")));
}

#[test]
fn a_document_names_where_each_value_is_from() {
    let documents = read(SET);
    let resolver = Resolver::new(&documents);
    let host = host("web-02", &[("role", "web"), ("zone", "edge")]);
    let told =
        resolver.explain(&CheckName::new("c").unwrap(), &host.agent, &host.facts, &host.labels).unwrap();
    assert_eq!(told.groups.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["edge", "web"]);
    let max = told.vars.iter().find(|var| var.name == "max").unwrap();
    assert_eq!((max.document.as_str(), max.host.as_ref()), ("one", Some(&host.agent)));
    assert_eq!(
        max.hidden.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        ["edge_first", "web_defaults", "everywhere"]
    );
    let values: Vec<_> = told
        .values
        .iter()
        .map(|value| {
            (value.field.as_str(), value.value.as_deref(), value.by_override, value.written.as_deref())
        })
        .collect();
    assert_eq!(
        values,
        [
            ("every", Some("10s"), Some(1), Some("10s")),
            ("timeout", Some("8s"), None, None),
            ("warning", Some("> 99"), None, Some("> ${vars.max}")),
            ("critical", None, Some(1), Some("none")),
        ]
    );
}

#[test]
fn g8_what_a_host_lacks_is_said_there() {
    let documents = read(
        r#"
kind: Variables
name: v
group: web
vars: {path: /srv, port: low}
---
kind: Group
name: web
hosts: facts.cpus > 3
---
kind: Check
name: c
every: 1m
command: ls ${vars.path}
---
kind: Check
name: g
every: 1m
hosts: '!("web" in groups)'
command: ls
---
kind: Check
name: w
every: 1m
hosts: vars.port > 3
builtin: cpu
"#,
    );
    let mut host = host("a", &[]);
    // It cannot be told whether the host is in the group: nothing that depends on it runs.
    let because = "group web: there is no \"cpus\" here";
    for check in ["c", "g", "w"] {
        assert!(unfit(&documents, &host, check).starts_with(because));
    }
    host.facts.insert("cpus".into(), json!(1));
    assert_eq!(unfit(&documents, &host, "c"), "the host has no variable \"path\"");
    assert!(unfit(&documents, &host, "w").starts_with("hosts: there is no \"port\" here"));
    assert_eq!(spec(&documents, &host, "g").work.command.as_deref(), Some("ls"));
    host.facts.insert("cpus".into(), json!(8));
    assert_eq!(
        spec(&documents, &host, "c").work.command.as_deref(),
        Some("vars_path='/srv'; ls ${vars_path}")
    );
    assert!(outcome(&documents, &host, "g").is_none());
    assert!(unfit(&documents, &host, "w").starts_with("hosts: the expression fails"));
}

#[test]
fn mistakes_are_named_with_their_places() {
    let known = read(
        "kind: Variables\nname: old\nvars: {kept: 1, gone: 1}\n---\nkind: Check\nname: uses\nevery: 1m\ncommand: echo ${vars.gone}\n---\nkind: Group\nname: a\nhosts: '\"b\" in groups'\n---\nkind: Group\nname: b\nmembers: [x]\n",
    );
    for (text, expected) in [
        ("kind: Group\nname: g\n", "1:1: a Group has \"hosts\""),
        ("kind: Group\nname: g\nhosts: vars.x == 1\n", "3:8: hosts: there is no variable \"vars\" here"),
        ("kind: Group\nname: g\nhosts: groups.size() > 1\n", "3:8: hosts: a Group asks for others by name"),
        (
            "kind: Group\nname: g\nhosts: '\"g\" in groups'\n",
            "3:9: groups ask for one another in a circle: g → g",
        ),
        ("kind: Group\nname: g\nhosts: '\"aa\" in groups'\n", "3:9: there is no Group \"aa\""),
        (
            "kind: Group\nname: b\nhosts: '\"a\" in groups'\n",
            "3:9: groups ask for one another in a circle: a → b → a",
        ),
        ("kind: Group\nname: g\nmembers: [A]\n", "3:11: members: \"A\" is not a valid agent id"),
        ("kind: Variables\nname: v\ngroup: none\nvars: {a: 1}\n", "3:8: there is no Group \"none\""),
        ("kind: Variables\nname: v\nvars: {a b: 1}\n", "3:8: vars: a variable's name has letters"),
        ("kind: Variables\nname: v\nvars: {a: {b: 1}}\n", "3:11: vars: a value is a text of at most"),
        (
            "kind: Variables\nname: v\ngroup: a\nhost: b\nvars: {a: 1}\n",
            "1:1: variables are for one \"group\" or",
        ),
        ("kind: Variables\nname: v\npriority: high\nvars: {a: 1}\n", "3:11: priority: it is a whole number"),
        (
            "kind: Variables\nname: old\nvars: {kept: 1}\n",
            "1:1: the variable \"gone\" is gone from here, and asked for by Check uses",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\ncommand: echo ${vars.kpet}\n",
            "4:10: no document gives the variable \"kpet\" (did you mean \"kept\"?)",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\nhosts: vars.none > 1\nbuiltin: cpu\n",
            "4:8: no document gives the variable \"none\"",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\ncommand: awk '{ print ${vars.kept} }'\n",
            "4:10: command: a ${vars…} stands in single quotes",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\ncommand: echo ${vars.kept:-1}\n",
            "4:10: \"${vars.kept:-1}\" is no variable: write it like",
        ),
        (
            "kind: Check\nname: c\nevery: ${vars.kept}\nbuiltin: cpu\n",
            "3:8: every: \"1\" is not a duration: write it like 30s, 5m, 1h or 1h 30m (with kept of the Variables \"old\")",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\ncron: ${vars.kept}\nbuiltin: cpu\n",
            "1:1: a Check has exactly one of \"every\" and \"cron\"",
        ),
        ("kind: Check\nname: c\nevery: 1m\nbuiltin: cpu\nhosts: labels.role\n", "5:"),
        (
            "kind: Check\nname: c\nevery: 1m\nbuiltin: cpu\nhosts: labels.port > 80\n",
            "5:20: hosts: a text and a number cannot be compared: write the number in quotes",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\nbuiltin: cpu\nhosts: agent == 1 || true\n",
            "5:14: hosts: a text and a number are never equal",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\nbuiltin: cpu\noverrides: [{every: 1m}]\n",
            "5:13: an override needs the key \"hosts\"",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\nbuiltin: cpu\noverrides: [{hosts: 'true'}]\n",
            "5:13: an override changes something",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\nbuiltin: cpu\noverrides: [{hosts: 'true', every: 0s}]\n",
            "5:36: every: it is 1s or more",
        ),
        (
            "kind: Check\nname: c\nevery: 1m\nbuiltin: cpu\noverrides: [{hosts: 'true', warning: '> x'}]\n",
            "5:38: warning: \"> x\" is not a threshold",
        ),
        (
            "kind: Silence\nname: s\nends: 2026-11-21T22:00:00Z\n",
            "1:1: a Silence has \"hosts\", \"checks\" or \"rules\"",
        ),
        ("kind: Silence\nname: s\nhosts: 'true'\n", "1:1: a Silence needs \"ends\""),
        (
            "kind: Silence\nname: s\nhosts: 'true'\nends: tomorrow\n",
            "4:7: ends: \"tomorrow\" is not a moment",
        ),
        (
            "kind: Silence\nname: s\nhosts: 'true'\ncron: '@daily'\n",
            "1:1: a Silence with \"cron\" needs \"duration\"",
        ),
        (
            "kind: Silence\nname: s\nchecks: [none]\nends: 2026-11-21T22:00:00Z\n",
            "3:10: there is no Check \"none\"",
        ),
        ("kind: Action\nname: a\n", "1:1: an Action has exactly one of"),
        ("kind: Action\nname: a\ncommand: echo ${vars.kept}\n", "3:10: variables stand in checks only"),
        (
            "kind: Action\nname: a\ncommand: x\nguard: {max_per_host: {count: 3}}\n",
            "4:23: max_per_host needs \"count\" and \"window\"",
        ),
        (
            "kind: Action\nname: a\ncommand: x\nguard: {max_percent: {percent: 0}}\n",
            "4:32: percent: it is a whole number from 1 to 100",
        ),
        (
            "kind: Action\nname: a\ncommand: x\nguard: {verify: {when: valu > 1}}\n",
            "4:24: when: there is no variable \"valu\"",
        ),
    ] {
        let told = problems(text, &known);
        assert!(
            told.iter().any(|problem| problem.starts_with(&format!("a.yaml:{expected}"))),
            "{text}\n{told:#?}"
        );
    }
}

#[test]
fn groups_that_turn_in_a_circle_hold_nothing_up() {
    // A server may hold documents that this version would not accept together.
    let mut documents = read(
        "kind: Group\nname: a\nmembers: [x]\n---\nkind: Group\nname: b\nhosts: '\"a\" in groups'\n---\nkind: Check\nname: c\nevery: 1m\nhosts: '\"a\" in groups'\nbuiltin: cpu\n",
    );
    let Document::Group(a) = &mut documents[0] else { panic!() };
    a.hosts = Some("\"b\" in groups".to_owned());
    assert_eq!(unfit(&documents, &host("x", &[]), "c"), "group a: groups ask for one another in a circle");
}
