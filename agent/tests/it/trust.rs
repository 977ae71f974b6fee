//! A config-service that lies to an agent that pins an operator's key: the agent as a real process, on a real
//! nats-server (G3).

use std::path::{Path, PathBuf};

use documents::{Outcome, Resolver};
use nkeys::KeyPair;
use protocol::{
    Facts, Labels, Status,
    admin::SourceFile,
    config::{AgentConfig, CheckSpec, ConfigReply},
    document::Document,
    signed::{SignedDocument, SigningKey, json},
};
use testkit::{NatsServer, Program};

use crate::{
    guard::command,
    rig::{Config, Ingest, id, of},
};

fn key() -> SigningKey {
    SigningKey::from_seed(&KeyPair::new_operator().seed().unwrap()).unwrap()
}

fn document(text: &str) -> Document {
    let file = SourceFile { path: "x".to_owned(), text: text.to_owned() };
    documents::read(&[file], |_, _| true).unwrap().remove(0)
}

fn signed(key: &SigningKey, document: &Document, revision: u64, fallback: Option<u64>) -> SignedDocument {
    let document = json(document).unwrap();
    let signature = Some(key.sign(&document, revision, fallback).unwrap());
    SignedDocument { document, signature }
}

/// What an honest service tells a Linux host with these labels.
fn told(document: &Document, labels: &Labels) -> CheckSpec {
    let facts: Facts = [("os".to_owned(), "linux".into())].into();
    let outcomes = Resolver::new([document]).outcomes(&id(), &facts, labels);
    let Some(Outcome::Runs(way)) = outcomes.into_values().next() else { panic!("{document:?} does not run") };
    way.spec().clone()
}

/// A host whose agent trusts `key`, and the service that it is told by.
struct Host {
    server: NatsServer,
    config: Config,
    ingest: Ingest,
    state: tempfile::TempDir,
    key: SigningKey,
    /// Made by a command that no operator signed.
    evil: PathBuf,
    revision: u64,
}

impl Host {
    async fn new() -> Self {
        let server = NatsServer::start().await;
        let ingest = Ingest::start(server.client().await).await;
        let config = Config::start(server.client().await, Vec::new()).await;
        let state = tempfile::tempdir().unwrap();
        let evil = state.path().join("evil");
        Self { server, config, ingest, state, key: key(), evil, revision: 1 }
    }

    fn folder(&self) -> PathBuf {
        self.state.path().join("agent")
    }

    fn start(&self, more: &[&str]) -> Program {
        let mut all = vec!["--label", "role=web", "--poll", "1s"];
        all.extend(more);
        Program::spawn("dogwatch-agent", command(&self.server.url(), &self.folder(), &all))
    }

    /// Tell it to run `checks`, and wait until it says what became of that.
    async fn tell(&mut self, checks: Vec<CheckSpec>, documents: Vec<SignedDocument>) -> Option<String> {
        self.revision += 1;
        let revision = self.revision;
        let config = AgentConfig { revision, etag: format!("e{revision}"), checks, documents };
        self.config.statuses.lock().unwrap().clear();
        self.config.set(ConfigReply::Full { config }).await;
        self.config.reported("what became of it", |status| status.revision == revision).await;
        let statuses = self.config.statuses.lock().unwrap().clone();
        statuses.into_iter().find(|status| status.revision == revision).unwrap().error
    }

    /// The newest result of a check is unknown for `reason`.
    async fn refused(&self, check: &str, reason: &str) {
        let what = format!("{check} is unknown: {reason}");
        self.ingest
            .wait(&what, |results| {
                of(results, check).last().is_some_and(|result| {
                    result.status == Status::Unknown
                        && result.output.starts_with("refused by this agent: ")
                        && result.output.contains(reason)
                })
            })
            .await;
        assert!(!self.evil.exists(), "{check}: what nobody signed was run");
    }

    async fn runs(&self, check: &str, value: f64) {
        let what = format!("{check} gives {value}");
        self.ingest
            .wait(&what, |results| {
                let last = of(results, check).last().and_then(|result| result.value.as_ref()?.as_f64());
                last == Some(value)
            })
            .await;
    }
}

fn echo(name: &str, value: u64) -> Document {
    document(&format!("kind: Check\nname: {name}\nevery: 1s\ncommand: echo {value}\n"))
}

#[tokio::test]
async fn g3_a_service_that_lies_makes_nothing_run() {
    let mut host = Host::new().await;
    let (stranger, revoked, expired) = (key(), key(), key());
    let pins = host.state.path().join("operators");
    let public = |key: &SigningKey| key.public().to_string();
    std::fs::write(
        &pins,
        format!("revoked {}\n{} until 2020-01-01T00:00:00Z\n", public(&revoked), public(&expired)),
    )
    .unwrap();
    let own = public(&host.key);
    let _agent = host.start(&["--trusted-key", &own, "--trusted-keys-file", pins.to_str().unwrap()]);
    let labels: Labels = [("role".to_owned(), "web".to_owned())].into();

    let honest = echo("honest", 1);
    let good = || (told(&honest, &labels), signed(&host.key, &honest, 2, None));
    let (check, proof) = good();
    assert_eq!(host.tell(vec![check], vec![proof]).await, None);
    host.runs("honest", 1.0).await;
    assert!(host.config.asked.lock().unwrap().iter().all(|request| request.signed));

    let evil = format!("touch {}", host.evil.display());
    type Lie<'a> = (&'a str, CheckSpec, Vec<SignedDocument>);
    let mut lies: Vec<Lie<'_>> = Vec::new();
    let key = &host.key;
    let with_command = |mut check: CheckSpec| {
        check.work.command = Some(evil.clone());
        check
    };

    let a = echo("tampered_check", 1);
    lies.push(("otherwise than the signed", with_command(told(&a, &labels)), vec![signed(key, &a, 2, None)]));

    let a = echo("tampered_document", 1);
    let mut proof = signed(key, &a, 2, None);
    proof.document["command"] = evil.clone().into();
    lies.push(("does not fit the document", with_command(told(&a, &labels)), vec![proof]));

    let a = document(&format!(
        "kind: Check\nname: swapped_variant\nevery: 1s\nvariants:\n\
         - {{when: facts.os == \"linux\", command: echo 1}}\n- {{when: facts.os == \"plan9\", command: {evil}}}\n"
    ));
    lies.push(("otherwise than the signed", with_command(told(&a, &labels)), vec![signed(key, &a, 2, None)]));

    let a = echo("other_user", 1);
    let mut check = told(&a, &labels);
    check.run.user = Some("root".to_owned());
    lies.push(("otherwise than the signed", check, vec![signed(key, &a, 2, None)]));

    let a = echo("other_check", 1);
    lies.push(("no signed document", with_command(told(&a, &labels)), vec![signed(key, &honest, 2, None)]));

    let a = echo("unsigned", 1);
    let bare = SignedDocument { document: json(&a).unwrap(), signature: None };
    lies.push(("is not signed", told(&a, &labels), vec![bare]));

    let a = echo("no_document", 1);
    lies.push(("no signed document", told(&a, &labels), Vec::new()));

    for (name, signer, reason) in [
        ("unknown_key", &stranger, "is none of those that this host trusts"),
        ("revoked_key", &revoked, "is revoked"),
        ("expired_key", &expired, "the time of key"),
    ] {
        let a = echo(name, 1);
        lies.push((reason, told(&a, &labels), vec![signed(signer, &a, 2, None)]));
    }

    // For another host: as it is, with the expression changed, and with labels lied about.
    let a = document(&format!(
        "kind: Check\nname: other_host\nevery: 1s\nhosts: agent == \"db-01\"\ncommand: {evil}\n"
    ));
    let here = document(&format!("kind: Check\nname: other_host\nevery: 1s\ncommand: {evil}\n"));
    lies.push(("does not select this host", told(&here, &labels), vec![signed(key, &a, 2, None)]));
    let a = document(&format!(
        "kind: Check\nname: other_hosts\nevery: 1s\nhosts: agent == \"db-01\"\ncommand: {evil}\n"
    ));
    let mut proof = signed(key, &a, 2, None);
    proof.document["hosts"] = "agent == \"web-01\"".into();
    let Document::Check(mut here) = a else { panic!() };
    here.hosts = None;
    lies.push(("does not fit the document", told(&Document::Check(here), &labels), vec![proof]));
    let a = document(&format!(
        "kind: Check\nname: other_labels\nevery: 1s\nhosts: labels.role == \"db\"\ncommand: {evil}\n"
    ));
    let lied: Labels = [("role".to_owned(), "db".to_owned())].into();
    lies.push(("does not select this host", told(&a, &lied), vec![signed(key, &a, 2, None)]));

    let count = lies.len();
    for (reason, check, documents) in lies {
        let name = check.name.to_string();
        let (honest, proof) = (told(&honest, &labels), signed(&host.key, &honest, 2, None));
        let documents = documents.into_iter().chain([proof]).collect();
        let error = host.tell(vec![check, honest], documents).await.unwrap_or_default();
        assert!(
            error.starts_with(&format!("{name}: refused by this agent: ")) && error.contains(reason),
            "{error}"
        );
        host.refused(&name, reason).await;
    }
    assert_eq!(count, 13);
    // Meanwhile what is honest went on.
    let results = host.ingest.results().await;
    assert!(of(&results, "honest").iter().all(|result| result.status == Status::Ok));
}

#[tokio::test]
async fn g3_an_older_revision_does_not_come_back_even_after_a_kill() {
    let mut host = Host::new().await;
    let own = host.key.public().to_string();
    let mut agent = host.start(&["--trusted-key", &own]);
    let (old, newer, newest) = (echo("c", 3), echo("c", 5), echo("c", 9));
    let labels = Labels::new();
    let at = |document: &Document, revision, fallback| {
        (vec![told(document, &labels)], vec![signed(&host.key, document, revision, fallback)])
    };
    let versions = [at(&old, 3, None), at(&newer, 5, Some(3)), at(&newest, 9, Some(5))];
    let [three, five, nine] = versions;

    assert_eq!(host.tell(three.0.clone(), three.1.clone()).await, None);
    assert_eq!(host.tell(five.0.clone(), five.1.clone()).await, None);
    host.runs("c", 5.0).await;
    // What a rollout takes back by itself: signed as the fallback.
    assert_eq!(host.tell(three.0.clone(), three.1.clone()).await, None);
    host.runs("c", 3.0).await;
    assert_eq!(host.tell(five.0.clone(), five.1.clone()).await, None);
    assert_eq!(host.tell(nine.0.clone(), nine.1.clone()).await, None);
    host.runs("c", 9.0).await;
    let error = host.tell(three.0.clone(), three.1.clone()).await.unwrap();
    assert!(error.contains("signed for revision 3, and this host accepted revision 9 before"), "{error}");
    host.refused("c", "accepted revision 9").await;
    assert_eq!(host.tell(nine.0.clone(), nine.1.clone()).await, None);

    // Killed, and told the old one first thing.
    agent.kill();
    host.revision += 1;
    let (checks, documents) = three.clone();
    let old = AgentConfig { revision: host.revision, etag: "old".into(), checks, documents };
    host.config.set(ConfigReply::Full { config: old }).await;
    let mut agent = host.start(&["--trusted-key", &own]);
    host.refused("c", "accepted revision 9").await;
    assert_eq!(host.tell(nine.0.clone(), nine.1.clone()).await, None);
    host.runs("c", 9.0).await;
    agent.kill();
    // A mark that cannot be read stops the agent, since nothing tells what is too old.
    std::fs::write(host.folder().join("accepted.json"), "{").unwrap();
    let mut agent = host.start(&["--trusted-key", &own]);
    agent.wait_for("which says what this host accepted", crate::rig::LIMIT).await;
}

#[tokio::test]
async fn g3_keys_change_with_overlap_and_hold_over_restarts() {
    let mut host = Host::new().await;
    let (old, new) = (host.key.public().to_string(), key());
    let pins = host.state.path().join("operators");
    let write = |text: &str| std::fs::write(&pins, text).unwrap();
    write(&old);
    let flags = ["--trusted-keys-file", pins.to_str().unwrap()];
    let mut agent = host.start(&flags);
    let (a, labels) = (echo("c", 1), Labels::new());
    let proof = signed(&host.key, &a, 2, None);
    assert_eq!(host.tell(vec![told(&a, &labels)], vec![proof]).await, None);
    host.runs("c", 1.0).await;

    // The service is gone; what runs from the disk is judged by the keys of now.
    host.config.set_raw(b"gone".to_vec()).await;
    agent.kill();
    let mut agent = host.start(&flags);
    let before = host.ingest.results().await.len();
    host.ingest.wait("it goes on", |results| results.len() > before + 2).await;
    write(&format!("revoked {old}"));
    agent.signal(1);
    host.refused("c", "is revoked").await;
    agent.kill();
    let mut agent = host.start(&flags);
    let before = host.ingest.results().await.len();
    host.ingest.wait("it goes on", |results| results.len() > before + 2).await;
    host.refused("c", "is revoked").await;

    // The next key is pinned beside the old one before it signs anything.
    write(&format!("{old}\n{}", new.public()));
    agent.signal(1);
    host.runs("c", 1.0).await;
    let proof = signed(&new, &a, 3, Some(2));
    assert_eq!(host.tell(vec![told(&a, &labels)], vec![proof]).await, None);
    write(&format!("revoked {old}\n{}", new.public()));
    agent.signal(1);
    let before = host.ingest.results().await.len();
    let results = host.ingest.wait("it goes on", |results| results.len() > before + 2).await;
    assert!(results[before..].iter().all(|result| result.status == Status::Ok), "{results:#?}");
    agent.kill();
}

#[tokio::test]
async fn g3_without_a_key_or_where_it_is_not_required_the_service_is_believed() {
    for (more, error) in
        [(vec![], None), (vec!["--require-signed", "true"], Some("no signed document of it"))]
    {
        let mut host = Host::new().await;
        let _agent = host.start(&more);
        let told = host.tell(vec![told(&echo("c", 1), &Labels::new())], Vec::new()).await;
        match error {
            None => assert_eq!(told, None),
            Some(error) => assert!(told.unwrap().contains(error)),
        }
    }
    // On the way there: what is signed is held to it, what is not runs.
    let mut host = Host::new().await;
    let own = host.key.public().to_string();
    let _agent = host.start(&["--trusted-key", &own, "--require-signed", "false"]);
    let (a, b, labels) = (echo("a", 1), echo("b", 2), Labels::new());
    let mut lie = told(&a, &labels);
    lie.work.command = Some(format!("touch {}", host.evil.display()));
    let error = host.tell(vec![lie, told(&b, &labels)], vec![signed(&host.key, &a, 2, None)]).await.unwrap();
    assert!(error.starts_with("a: ") && !error.contains("b: "), "{error}");
    host.runs("b", 2.0).await;
    host.refused("a", "otherwise than the signed").await;
}

#[test]
fn g3_keys_that_others_can_write_are_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let pins = folder.path().join("operators");
    std::fs::write(&pins, key().public().to_string()).unwrap();
    std::fs::set_permissions(&pins, std::fs::Permissions::from_mode(0o666)).unwrap();
    let run = |path: &Path| {
        let mut command = command("nats://127.0.0.1:1", &folder.path().join("agent"), &[]);
        let ran = command.arg("--trusted-keys-file").arg(path).output().unwrap();
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let (code, said) = run(&pins);
    assert!(code == Some(2) && said.contains("others can write it"), "{code:?} {said}");
    let (code, said) = run(&folder.path().join("none"));
    assert!(code == Some(2) && said.contains("file of trusted keys"), "{code:?} {said}");
}
