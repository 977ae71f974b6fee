//! Rollouts over a real broker, with agents that do what the protocol says.

use std::time::Duration;

use futures_util::StreamExt;
use protocol::{
    AgentId, CheckResult, ErrorCode, ErrorReply,
    admin::{Applied, ApplyRequest, HistoryPage, HistoryQuery, SourceFile},
    config::{ConfigReply, ConfigRequest, ConfigStatus},
    log::{LogChange, LogRecord},
    rollout::{
        Canary, Rollout, RolloutChange, RolloutList, RolloutOrder, RolloutQuery, RolloutState, RolloutStatus,
    },
    subject,
};
use testkit::{NatsServer, eventually};

use crate::harness::*;

const OLD: &str = "kind: Check\nname: queue\ncommand: echo 1\nevery: 10s\n";
const NEW: &str = "kind: Check\nname: queue\ncommand: ecko 1\nevery: 10s\n";

/// An agent that follows its configuration and sends one result of each check of a revision that it applies.
struct Agent {
    task: tokio::task::JoinHandle<()>,
}

impl Agent {
    /// `result` makes the result of a command.
    fn start(
        client: &async_nats::Client,
        name: &str,
        result: impl Fn(&str) -> (&'static str, i32) + Send + 'static,
    ) -> Self {
        let (client, name) = (client.clone(), agent(name));
        Self { task: tokio::spawn(async move { follow(client, name, result).await }) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    client: async_nats::Client,
    name: AgentId,
    result: impl Fn(&str) -> (&'static str, i32) + Send,
) {
    let mut nudges = client.subscribe(subject::config_changed(&name)).await.unwrap();
    let (mut etag, mut seq) = (None, 0);
    loop {
        let request = ConfigRequest { etag: etag.clone(), ..request() };
        let reply: Result<ConfigReply, ErrorReply> =
            ask(&client, &subject::config_get(&name), &request).await;
        if let Ok(ConfigReply::Full { config }) = reply {
            etag = Some(config.etag.clone());
            let status = ConfigStatus { v: 1, agent: name.clone(), revision: config.revision, error: None };
            report(&client, &status).await;
            for check in &config.checks {
                let (word, code) = result(check.work.command.as_deref().unwrap_or_default());
                seq += 1;
                let result: CheckResult = serde_json::from_value(serde_json::json!({
                    "v": 1, "agent": name, "check": check.name, "epoch": 1, "seq": seq, "at_ms": 1, "status": word,
                    "exit_code": code, "output": "sh: not found", "revision": config.revision,
                }))
                .unwrap();
                let body = protocol::encode(&result).unwrap();
                client.publish(subject::result(&name, &check.name), body.into()).await.unwrap();
            }
        }
        // A nudge may be lost with a replica.
        let _nudged = tokio::time::timeout(Duration::from_secs(1), nudges.next()).await;
    }
}

fn healthy(_: &str) -> (&'static str, i32) {
    ("ok", 0)
}

fn honest(command: &str) -> (&'static str, i32) {
    if command.contains("ecko") { ("unknown", 127) } else { ("ok", 0) }
}

fn request_of(text: &str, stages: &[&str], bake_ms: u64) -> ApplyRequest {
    let stages = stages.iter().map(|share| share.parse().unwrap()).collect();
    let canary = Canary { stages, bake_ms, max_failures: "0".parse().unwrap() };
    let files = vec![SourceFile { path: "a.yaml".to_owned(), text: text.to_owned() }];
    ApplyRequest { actor: "test".to_owned(), canary: Some(canary), ..ApplyRequest::of(files) }
}

async fn begin(client: &async_nats::Client, text: &str, stages: &[&str], bake_ms: u64) -> Rollout {
    let request = request_of(text, stages, bake_ms);
    let applied: Applied = ask(client, subject::ADMIN_APPLY, &request).await.unwrap();
    applied.rollout.expect("a rollout")
}

async fn status(client: &async_nats::Client, revision: u64) -> RolloutStatus {
    let query = RolloutQuery { revision: Some(revision) };
    let mut list: RolloutList = ask(client, subject::ADMIN_ROLLOUT_LIST, &query).await.unwrap();
    list.rollouts.remove(0)
}

async fn reaches(client: &async_nats::Client, revision: u64, state: RolloutState) -> RolloutStatus {
    eventually("the rollout's state", LIMIT, || async {
        let status = status(client, revision).await;
        if status.rollout.state == state { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

async fn order(
    client: &async_nats::Client,
    revision: u64,
    order: RolloutOrder,
) -> Result<Rollout, ErrorReply> {
    let change = RolloutChange { revision, order, actor: "me".to_owned(), message: String::new() };
    ask(client, subject::ADMIN_ROLLOUT_CHANGE, &change).await
}

/// Start agents and wait until all of them run what is there.
async fn fleet(
    client: &async_nats::Client,
    count: usize,
    result: fn(&str) -> (&'static str, i32),
) -> Vec<Agent> {
    // In an installation ingest has made it.
    let jetstream = service_kit::publish::jetstream(client);
    service_kit::streams::ensure_stream(&jetstream, &protocol::stream::RESULTS).await.unwrap();
    let agents = (0..count).map(|n| Agent::start(client, &format!("web-{n}"), result)).collect();
    eventually("all agents run it", LIMIT, || async {
        let hosts = hosts(client).await;
        let applied = hosts.iter().filter(|host| host.revision_applied == Some(host.revision_wanted)).count();
        if applied == count { Ok(()) } else { Err(format!("{applied} of {}", hosts.len())) }
    })
    .await;
    agents
}

/// The command that each host is told to run.
async fn commands(client: &async_nats::Client, count: usize) -> Vec<String> {
    let mut commands = Vec::new();
    for n in 0..count {
        let config = full(client, &format!("web-{n}"), &request()).await;
        commands.push(config.checks[0].work.command.clone().unwrap());
    }
    commands
}

fn new_ones(commands: &[String]) -> usize {
    commands.iter().filter(|command| command.contains("ecko")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_change_reaches_every_host_in_stages() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, OLD).await.unwrap();
    let _agents = fleet(&client, 8, healthy).await;
    let rollout = begin(&client, NEW, &["1", "50%", "100%"], 500).await;
    assert_eq!((rollout.revision, rollout.reached[0].hosts), (2, 1));
    let done = reaches(&client, 2, RolloutState::Finished).await;
    let hosts: Vec<u64> = done.rollout.reached.iter().map(|stage| stage.hosts).collect();
    assert_eq!(hosts, [1, 4, 8]);
    assert_eq!(new_ones(&commands(&client, 8).await), 8);
    let page: HistoryPage = ask(&client, subject::ADMIN_HISTORY, &HistoryQuery::default()).await.unwrap();
    let actors: Vec<&str> = page.revisions.iter().map(|revision| revision.actor.as_str()).collect();
    assert_eq!(actors, ["rollout", "rollout", "rollout", "test", "test"]);
    assert_eq!(replica.metric("rollout_stages_total"), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_run_is_rolled_back_and_the_others_never_get_it() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, OLD).await.unwrap();
    let _agents = fleet(&client, 6, honest).await;
    // Long enough that only the failure can end it.
    begin(&client, NEW, &["1", "100%"], 600_000).await;
    let back = reaches(&client, 2, RolloutState::RolledBack).await;
    assert!(
        back.rollout.reason.contains("1 of 1 hosts failed") && back.rollout.reason.contains("exit code 127"),
        "{}",
        back.rollout.reason
    );
    assert_eq!(new_ones(&commands(&client, 6).await), 0);
    let list = documents(&client).await;
    let protocol::document::Document::Check(check) = &list.documents[0] else { panic!("{list:?}") };
    assert_eq!((list.revision, check.work.command.as_deref()), (3, Some("echo 1")));
    assert_eq!(replica.metric("rollouts_rolled_back_total"), 1.0);
    // Nobody but the one host was ever told to run it.
    let stream = async_nats::jetstream::new(client.clone()).get_stream("RESULTS").await.unwrap();
    let mut ran = std::collections::BTreeSet::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let result: CheckResult = serde_json::from_slice(&message.payload).unwrap();
        if result.exit_code == Some(127) {
            ran.insert(result.agent);
        }
    }
    assert_eq!(ran.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_hosts_that_were_not_reached_are_served_what_they_had_also_after_a_restart() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, OLD).await.unwrap();
    for n in 0..9 {
        full(&client, &format!("web-{n}"), &request()).await;
    }
    let rollout = begin(&client, NEW, &["3", "100%"], 600_000).await;
    let before = commands(&client, 9).await;
    assert_eq!(new_ones(&before), 3);
    // A host whose facts change stays where it is, and another replica says the same.
    let place = |n: usize| rollout.holds_back(&agent(&format!("web-{n}")));
    for (n, command) in before.iter().enumerate() {
        let config = full(&client, &format!("web-{n}"), &with_fact("role", "db")).await;
        assert_eq!(config.checks[0].work.command.as_deref(), Some(command.as_str()));
        assert_eq!(place(n), command.contains("echo"));
    }
    replica.stop().await;
    let replica = Replica::start(&nats.url(), data.path()).await;
    assert_eq!(commands(&client, 9).await, before);
    assert_eq!(status(&client, 2).await.rollout, rollout);
    replica.stop().await;
    let other = tempfile::tempdir().unwrap();
    let _replica = Replica::start(&nats.url(), other.path()).await;
    assert_eq!(commands(&client, 9).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_survives_restarts_and_two_replicas_take_each_step_once() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, OLD).await.unwrap();
    let _agents = fleet(&client, 8, healthy).await;
    begin(&client, NEW, &["1", "2", "4", "100%"], 1_000).await;
    // In the middle of it.
    replica.stop().await;
    let other = tempfile::tempdir().unwrap();
    let _one = Replica::start(&nats.url(), data.path()).await;
    let _two = Replica::start(&nats.url(), other.path()).await;
    let done = reaches(&client, 2, RolloutState::Finished).await;
    let hosts: Vec<u64> = done.rollout.reached.iter().map(|stage| stage.hosts).collect();
    assert_eq!(hosts, [1, 2, 4, 8]);
    let stream = async_nats::jetstream::new(client.clone()).get_stream("CONFIG").await.unwrap();
    let mut states = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let record: LogRecord = serde_json::from_slice(&message.payload).unwrap();
        for change in record.changes {
            if let LogChange::RolloutPut { rollout } = change {
                states.push((rollout.reached.len(), rollout.state));
            }
        }
    }
    use RolloutState::{Finished, Running};
    assert_eq!(states, [(1, Running), (2, Running), (3, Running), (4, Running), (4, Finished)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_pause_resume_abort_and_promote() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let _replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, OLD).await.unwrap();
    for n in 0..4 {
        full(&client, &format!("web-{n}"), &request()).await;
    }
    let rollout = begin(&client, NEW, &["1", "100%"], 600_000).await.revision;
    // While it is open no other change gets in, and keys do.
    let error = apply(&client, CPU).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.starts_with("the rollout 2 is running: wait for its end"), "{error}");
    create_key(&client, protocol::admin::Role::Viewer, None).await.unwrap();

    assert_eq!(order(&client, rollout, RolloutOrder::Pause).await.unwrap().state, RolloutState::Paused);
    assert_eq!(order(&client, rollout, RolloutOrder::Pause).await.unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(new_ones(&commands(&client, 4).await), 1);
    assert_eq!(order(&client, rollout, RolloutOrder::Resume).await.unwrap().state, RolloutState::Running);
    let aborted = order(&client, rollout, RolloutOrder::Abort).await.unwrap();
    assert_eq!((aborted.state, aborted.reason.as_str()), (RolloutState::RolledBack, "by me"));
    assert_eq!(new_ones(&commands(&client, 4).await), 0);
    assert_eq!(order(&client, rollout, RolloutOrder::Promote).await.unwrap_err().code, ErrorCode::Conflict);

    let rollout = begin(&client, NEW, &["1", "100%"], 600_000).await.revision;
    assert_eq!(order(&client, rollout, RolloutOrder::Promote).await.unwrap().state, RolloutState::Finished);
    assert_eq!(new_ones(&commands(&client, 4).await), 4);
    assert_eq!(order(&client, 99, RolloutOrder::Abort).await.unwrap_err().code, ErrorCode::NotFound);
    let list: RolloutList =
        ask(&client, subject::ADMIN_ROLLOUT_LIST, &RolloutQuery::default()).await.unwrap();
    assert_eq!(list.rollouts.len(), 2);

    // What concerns nobody needs no stages, and what makes no sense is refused.
    let nobody = "kind: Check\nname: db\nhosts: facts.os == \"plan9\"\ncommand: echo\nevery: 10s\n";
    let applied: Applied =
        ask(&client, subject::ADMIN_APPLY, &request_of(nobody, &["1", "100%"], 1)).await.unwrap();
    assert_eq!(applied.rollout, None);
    let wrong: Result<Applied, _> = ask(&client, subject::ADMIN_APPLY, &request_of(OLD, &["1"], 1)).await;
    assert_eq!(wrong.unwrap_err().field.as_deref(), Some("canary.stages"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_takes_the_place_of_the_open_rollout_in_one_revision() {
    const BETTER: &str = "kind: Check\nname: queue\ncommand: better 1\nevery: 10s\n";
    const OTHER: &str = "kind: Check\nname: other\ncommand: other 1\nevery: 10s\n";
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, OLD).await.unwrap();
    for n in 0..9 {
        full(&client, &format!("web-{n}"), &request()).await;
    }
    // A document that only the replaced one brings goes with it.
    begin(&client, &format!("{NEW}---\n{OTHER}"), &["3", "100%"], 600_000).await;
    let request_of = |stages: &[&str]| ApplyRequest { replace: true, ..request_of(BETTER, stages, 600_000) };
    let first: Applied = ask(&client, subject::ADMIN_APPLY, &request_of(&["2", "100%"])).await.unwrap();
    let rollout = first.rollout.expect("a rollout");
    assert_eq!((first.revision, rollout.revision, rollout.concerned), (3, 3, 9));
    let old = status(&client, 2).await.rollout;
    assert_eq!(old.state, RolloutState::RolledBack);
    assert!(old.reason.contains("by test: revision 3 takes its place"), "{}", old.reason);
    let count = |commands: &[String], text: &str| commands.iter().filter(|c| c.contains(text)).count();
    let before = commands(&client, 9).await;
    let counts = ["better", "ecko", "echo"].map(|text| count(&before, text));
    assert_eq!(counts, [2, 0, 7], "{before:?}");
    assert_eq!(documents(&client).await.documents.len(), 1);
    // After a restart, and on a replica that has only the stream, those held back run the same.
    replica.stop().await;
    let replica = Replica::start(&nats.url(), data.path()).await;
    assert_eq!(commands(&client, 9).await, before);
    replica.stop().await;
    let other = tempfile::tempdir().unwrap();
    let _replica = Replica::start(&nats.url(), other.path()).await;
    for n in 0..9 {
        full(&client, &format!("web-{n}"), &request()).await;
    }
    assert_eq!(commands(&client, 9).await, before);
    // Without stages it is for everybody, and an abort leads to what was before all of it.
    order(&client, 3, RolloutOrder::Abort).await.unwrap();
    assert_eq!(count(&commands(&client, 9).await, "echo"), 9);
    begin(&client, NEW, &["3", "100%"], 600_000).await;
    let all = ApplyRequest { canary: None, ..request_of(&["1"]) };
    let applied: Applied = ask(&client, subject::ADMIN_APPLY, &all).await.unwrap();
    assert_eq!(applied.rollout, None);
    assert_eq!(count(&commands(&client, 9).await, "better"), 9);
    // With none open it is an apply as any other.
    let again: Applied = ask(&client, subject::ADMIN_APPLY, &all).await.unwrap();
    assert_eq!(again.revision, applied.revision);
    let limited = ApplyRequest { within: Some("agent == \"web-1\"".to_owned()), ..all };
    let refused: Result<Applied, _> = ask(&client, subject::ADMIN_APPLY, &limited).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::Forbidden);
}
