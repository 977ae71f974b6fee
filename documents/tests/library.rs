//! The library of checks: read without a problem, right by the schema, and with something to run on each kind of host.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test reports by panicking

use std::{collections::BTreeSet, fs, path::Path};

use documents::{Outcome, Resolver};
use protocol::{
    AgentId, Facts, Labels,
    admin::SourceFile,
    document::{Document, Kind},
};
use serde_json::{Value, json};

fn files() -> Vec<SourceFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("library");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<SourceFile> = paths
        .map(|path| SourceFile {
            path: path.file_name().unwrap().to_string_lossy().into_owned(),
            text: fs::read_to_string(&path).unwrap(),
        })
        .collect();
    assert!(files.len() >= 6);
    files
}

fn documents() -> Vec<Document> {
    documents::read_beside(&files(), []).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn each_file_stands_alone_and_fits_the_schema_and_the_starter_documents() {
    let schema = jsonschema::validator_for(&serde_json::from_str(documents::SCHEMA).unwrap()).unwrap();
    let starter =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/checks.yaml")).unwrap();
    let starter = [SourceFile { path: "checks.yaml".into(), text: starter }];
    let starter = documents::read_beside(&starter, []).unwrap();
    for file in files() {
        for value in serde_saphyr::from_multiple::<Value>(&file.text).unwrap() {
            let errors: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}\n{value}", file.path);
        }
        let read = documents::read_beside(std::slice::from_ref(&file), []);
        let read = read.unwrap_or_else(|problems| panic!("{problems:#?}"));
        for document in &read {
            let again = documents::write(document).unwrap();
            let again = SourceFile { path: "again.yaml".into(), text: again };
            assert_eq!(documents::read(&[again], |_, _| true).unwrap(), std::slice::from_ref(document));
            let same = |other: &&Document| (other.kind(), other.name()) == (document.kind(), document.name());
            assert!(starter.iter().find(same).is_none(), "{} is a starter document too", document.name());
        }
    }
}

/// Facts as an agent reports them; a script on FreeBSD has what it was given.
fn facts(os: &str, family: &str, manager: &str) -> Facts {
    let mut facts: Facts = [("os", os), ("package_manager", manager)]
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .into();
    if !family.is_empty() {
        facts.insert("os_family".into(), json!(family));
        facts.insert("virtualization".into(), json!("kvm"));
    }
    facts
}

#[test]
fn every_check_runs_on_every_host_that_it_is_for() {
    let documents = documents();
    let resolver = Resolver::new(&documents);
    let agent = AgentId::new("a").unwrap();
    let services = ["postgresql", "redis", "nats", "nginx", "docker"];
    let labels: Labels = services.map(|name| (name.to_owned(), "true".to_owned())).into();
    let runs = |facts: &Facts, labels: &Labels| -> BTreeSet<String> {
        let outcomes = resolver.outcomes(&agent, facts, labels);
        let names = outcomes.iter().map(|(name, outcome)| match outcome {
            Outcome::Runs(_) => name.to_string(),
            Outcome::Unfit(reason) => panic!("{name} on {facts:?}: {reason}"),
        });
        names.collect()
    };
    let all: BTreeSet<String> = documents
        .iter()
        .filter(|document| document.kind() == Kind::Check)
        .map(|document| document.name().to_owned())
        .collect();
    for (family, manager) in [("debian", "apt"), ("redhat", "dnf"), ("suse", "zypper")] {
        assert_eq!(runs(&facts("linux", family, manager), &labels), all, "{family}");
    }
    let without = |names: &[&str]| -> BTreeSet<String> {
        all.iter().filter(|name| !names.contains(&name.as_str())).cloned().collect()
    };
    // No systemd there; Arch writes no log of logins.
    assert_eq!(runs(&facts("linux", "alpine", "apk"), &labels), without(&["linux_services"]));
    assert_eq!(runs(&facts("linux", "arch", "pacman"), &labels), without(&["linux_failed_logins"]));
    let freebsd = runs(&facts("freebsd", "", "pkg"), &labels);
    assert_eq!(freebsd, all.iter().filter(|name| !name.starts_with("linux_")).cloned().collect());
    assert!(
        runs(&facts("linux", "debian", "apt"), &Labels::new()).iter().all(|name| name.starts_with("linux_"))
    );
}
