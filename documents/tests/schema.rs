//! The schema for editors says what the reader says.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test reports by panicking

use std::{collections::BTreeSet, fs, path::Path};

use jsonschema::Validator;
use protocol::admin::SourceFile;
use serde_json::Value;

fn schema() -> Validator {
    jsonschema::validator_for(&serde_json::from_str(documents::SCHEMA).unwrap()).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let files = [SourceFile { path: "a.yaml".into(), text: text.into() }];
    let problems = documents::read(&files, |_, _| true).err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.message).collect()
}

fn values(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// Every example that there is, as text.
fn examples() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let yaml = fs::read_dir(root.join("examples")).unwrap().map(|file| file.unwrap().path());
    let mut texts: Vec<String> = yaml.map(|path| fs::read_to_string(path).unwrap()).collect();
    for manual in fs::read_dir(root.join("docs")).unwrap() {
        let manual = fs::read_to_string(manual.unwrap().path()).unwrap();
        let blocks = manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        texts.extend(blocks.filter(|block| block.starts_with("kind: ")).map(str::to_owned));
    }
    texts
}

#[test]
fn every_example_is_right_by_the_schema() {
    let (schema, mut seen) = (schema(), 0);
    for text in examples() {
        for value in values(&text) {
            let errors: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?}\n{value}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} documents");
}

/// The reader names all keys when it meets one that it does not know.
#[test]
fn the_schema_has_the_keys_that_the_reader_has() {
    let schema: Value = serde_json::from_str(documents::SCHEMA).unwrap();
    for (text, at) in [
        ("kind: Check\nzzzz: 1\n", "/$defs/Check"),
        ("kind: Rule\nzzzz: 1\n", "/$defs/Rule"),
        ("kind: Receiver\nzzzz: 1\n", "/$defs/Receiver"),
        ("kind: Receiver\nwebhook: {zzzz: 1}\n", "/$defs/webhook"),
        ("kind: Receiver\nemail: {zzzz: 1}\n", "/$defs/email"),
        ("kind: Receiver\nwebhook: {tls: {zzzz: 1}}\n", "/$defs/webhook/properties/tls"),
        ("kind: Receiver\nwebhook: {bearer: {zzzz: 1}}\n", "/$defs/secret"),
        ("kind: Receiver\nwebhook: {basic: {zzzz: 1}}\n", "/$defs/login"),
        ("kind: Check\nvariants: [{zzzz: 1}]\n", "/$defs/variant"),
        ("kind: Check\nrun: {zzzz: 1}\n", "/$defs/run"),
        ("kind: Check\nrun: {limits: {zzzz: 1}}\n", "/$defs/limits"),
        ("kind: Check\noverrides: [{zzzz: 1}]\n", "/$defs/override"),
        ("kind: Group\nzzzz: 1\n", "/$defs/Group"),
        ("kind: Variables\nzzzz: 1\n", "/$defs/Variables"),
        ("kind: Silence\nzzzz: 1\n", "/$defs/Silence"),
        ("kind: Action\nzzzz: 1\n", "/$defs/Action"),
        ("kind: Action\nguard: {zzzz: 1}\n", "/$defs/guard"),
    ] {
        let told = problems(text);
        let known = told.iter().find_map(|problem| problem.split_once("\"zzzz\"; its keys are "));
        let reader: BTreeSet<&str> = known.unwrap_or_else(|| panic!("{told:?}")).1.split(", ").collect();
        let properties = schema.pointer(at).unwrap()["properties"].as_object().unwrap();
        let here: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(here, reader, "{at}");
    }
}

#[test]
fn what_is_wrong_by_form_is_wrong_by_both() {
    let schema = schema();
    for text in [
        "kind: Check\nname: a\n",
        "kind: Check\nname: a b\nevery: 1m\nbuiltin: cpu\n",
        "kind: Check\nname: a\nevery: often\nbuiltin: cpu\n",
        "kind: Check\nname: a\nevery: 1m\nbuiltin: cpu\ncommand: x\n",
        "kind: Check\nname: a\nevery: 1m\nexec: []\n",
        "kind: Check\nname: a\nevery: 1m\ncron: '@daily'\nbuiltin: cpu\n",
        "kind: Check\nname: a\nevery: 1m\ntimezone: UTC\nbuiltin: cpu\n",
        "kind: Check\nname: a\ncron: 1 2 3\nbuiltin: cpu\n",
        "kind: Check\nname: a\nevery: 1m\nbuiltin: cpu\noutput: xml\n",
        "kind: Check\nname: a\nevery: 1m\ncommand: x\nrun: {nice: 77}\n",
        "kind: Check\nname: a\nevery: 1m\ncommand: x\nrun: {directory: here}\n",
        "kind: Check\nname: a\nevery: 1m\ncommand: x\nrun: {limits: {memory: much}}\n",
        "kind: Rule\nname: a\ncheck: c\n",
        "kind: Rule\nname: a\ncheck: c\nwhen: value > 1\nseverity: bad\n",
        "kind: Rule\nname: a\ncheck: c\nwhen: value > 1\nattempts: 0\n",
        "kind: Rule\nname: a\ncheck: c\nwhen: value > 1\nflapping: {start: 101}\n",
        "kind: Receiver\nname: a\ndefault: maybe\nwebhook: {url: http://x}\n",
        "kind: Receiver\nname: a\nwebhook: {url: ftp://x}\n",
        "kind: Receiver\nname: a\n",
        "kind: Receiver\nname: a\nwebhook: {url: http://x, format: telegraph}\n",
        "kind: Receiver\nname: a\nwebhook: {url: http://x, bearer: s3cret}\n",
        "kind: Receiver\nname: a\nwebhook: {url: http://x, bearer: {file: /etc/shadow}}\n",
        "kind: Receiver\nname: a\nwebhook: {url: http://x, bearer: {env: PATH}}\n",
        "kind: Receiver\nname: a\nwebhook: {url: http://x, sign: [{file: a}, {file: b}, {file: c}]}\n",
        "kind: Receiver\nname: a\nwebhook: {url: http://x, tls: {key: {file: a}}}\n",
        "kind: Receiver\nname: a\nwebhook: {url: http://x, method: GET}\n",
        "kind: Receiver\nname: a\nlimit: {count: 0, window: 1m}\nwebhook: {url: http://x}\n",
        "kind: Receiver\nname: a\nemail: {server: x, from: a@b, to: []}\n",
        "kind: Receiver\nname: a\nemail: {server: x, from: nobody, to: [a@b]}\n",
        "kind: Receiver\nname: a\nwebhook: {url: http://x}\nemail: {server: x, from: a@b, to: [a@b]}\n",
        "kind: Check\nname: a\nevery: 1m\nbuiltin: cpu\noverrides: [{every: 5m}]\n",
        "kind: Check\nname: a\nevery: 1m\nbuiltin: cpu\noverrides: [{hosts: 'true'}]\n",
        "kind: Group\nname: a\n",
        "kind: Group\nname: a\nmembers: [A]\n",
        "kind: Variables\nname: a\n",
        "kind: Variables\nname: a\ngroup: a\nhost: b\nvars: {a: 1}\n",
        "kind: Variables\nname: a\nvars: {a-b: 1}\n",
        "kind: Silence\nname: a\nhosts: 'true'\n",
        "kind: Silence\nname: a\nends: 2026-11-21T22:00:00Z\n",
        "kind: Silence\nname: a\nhosts: 'true'\ncron: '@daily'\n",
        "kind: Action\nname: a\n",
        "kind: Action\nname: a\ncommand: x\nguard: {max_percent: {percent: 0}}\n",
        "kind: Nothing\nname: a\n",
    ] {
        assert!(!problems(text).is_empty(), "{text}");
        assert!(values(text).iter().all(|value| !schema.is_valid(value)), "{text}");
    }
}
