//! Plans, history and the way back.

use protocol::{
    ErrorCode, ErrorReply,
    admin::{
        Applied, ApplyRequest, Change, DiffQuery, Difference, ExplainQuery, Explanation, HistoryPage,
        HistoryQuery, RollbackRequest, SourceFile, Touched,
    },
    document::Kind,
    subject,
};
use testkit::NatsServer;

use crate::harness::*;

const LINUX: &str = "kind: Check\nname: a\nevery: 1m\nhosts: facts.os == \"linux\"\ncommand: x\n";

fn given(text: &str) -> ApplyRequest {
    ApplyRequest::of(vec![SourceFile { path: "a.yaml".into(), text: text.into() }])
}

async fn send(client: &async_nats::Client, request: &ApplyRequest) -> Result<Applied, ErrorReply> {
    ask(client, subject::ADMIN_APPLY, request).await
}

async fn back(client: &async_nats::Client, revision: u64, dry_run: bool) -> Result<Applied, ErrorReply> {
    let (actor, message) = ("ops".to_owned(), String::new());
    let request = RollbackRequest {
        revision,
        actor,
        message,
        dry_run,
        base: None,
        effects: true,
        signatures: Vec::new(),
    };
    ask(client, subject::ADMIN_ROLLBACK, &request).await
}

fn told(applied: &[protocol::admin::DocumentChange]) -> Vec<(&'static str, Kind, &str)> {
    applied.iter().map(|change| (change.change.as_str(), change.kind, change.name.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_each_host_gains_and_loses_and_changes_nothing() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    for (name, os) in [("web-01", "linux"), ("web-02", "linux"), ("bsd-01", "freebsd")] {
        get(&client, name, &with_fact("os", os)).await;
    }
    send(&client, &given(LINUX)).await.unwrap();

    // Other hosts, another command for some of them, and a second check that goes.
    send(&client, &given("kind: Check\nname: b\nevery: 1m\nbuiltin: cpu\n")).await.unwrap();
    let next = "kind: Check\nname: a\nevery: 5m\nvariants:\n- {when: facts.os == \"freebsd\", command: y}\n- {when: agent == \"web-01\", command: x}\n";
    let plan = ApplyRequest { dry_run: true, effects: true, prune: true, ..given(next) };
    let planned = send(&client, &plan).await.unwrap();
    assert_eq!(told(&planned.changes), [("changed", Kind::Check, "a"), ("deleted", Kind::Check, "b")]);
    assert!(planned.changes[0].fields.iter().any(|field| field.field == "every"), "{planned:?}");
    let effects = planned.effects.unwrap();
    let counts = (effects.hosts, effects.gained, effects.lost, effects.changed, effects.unfit);
    // bsd-01: +a -b; web-01: ~a -b; web-02: -a (no variant) -b.
    assert_eq!(counts, (3, 1, 4, 1, 1), "{:?}", effects.details);
    let web = effects.details.iter().find(|effect| effect.agent == agent("web-02")).unwrap();
    assert_eq!((web.lost.len(), web.unfit[0].check.as_str()), (2, "a"));
    assert_eq!(documents(&client).await.revision, 2, "a plan changes nothing");

    // What was planned is what happens.
    let applied = send(&client, &ApplyRequest { prune: true, ..given(next) }).await.unwrap();
    assert_eq!((applied.revision, applied.effects), (3, None));
    assert_eq!(documents(&client).await.documents.len(), 1);
    assert_eq!(names(&full(&client, "bsd-01", &with_fact("os", "freebsd")).await), ["a"]);
    assert!(names(&full(&client, "web-02", &with_fact("os", "linux")).await).is_empty());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prune_deletes_is_nothing_to_refer_to() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    send(&client, &given(LINUX)).await.unwrap();
    let rule = "kind: Rule\nname: r\ncheck: a\nwhen: value > 1\n";
    let error = send(&client, &ApplyRequest { prune: true, ..given(rule) }).await.unwrap_err();
    assert!(error.problems[0].message.contains("there is no Check \"a\""), "{error:?}");
    send(&client, &given(rule)).await.unwrap();
    assert_eq!(documents(&client).await.documents.len(), 2);
    let nothing = send(&client, &ApplyRequest { prune: true, ..given("# nothing\n") }).await.unwrap_err();
    assert!(
        nothing.code == ErrorCode::Invalid && nothing.message.contains("would delete every"),
        "{nothing:?}"
    );
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_from_an_outdated_revision_is_refused_with_the_difference() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    send(&client, &ApplyRequest { actor: "anna".into(), ..given(LINUX) }).await.unwrap();
    let outdated = ApplyRequest { base: Some(0), ..given(CPU) };
    let error = send(&client, &outdated).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.contains("Check a (revision 1, anna)"), "{}", error.message);
    let future = send(&client, &ApplyRequest { base: Some(9), ..given(CPU) }).await.unwrap_err();
    assert_eq!(future.code, ErrorCode::Conflict);
    // A key is no document.
    create_key(&client, protocol::admin::Role::Viewer, None).await.unwrap();
    let applied = send(&client, &ApplyRequest { base: Some(1), ..given(CPU) }).await.unwrap();
    assert_eq!(applied.revision, 3);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_shows_who_changed_what_and_a_rollback_restores_it() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    get(&client, "web-01", &with_fact("os", "linux")).await;
    let by = |actor: &str, message: &str, text: &str| ApplyRequest {
        actor: actor.into(),
        message: message.into(),
        ..given(text)
    };
    send(&client, &by("anna", "first", LINUX)).await.unwrap();
    create_key(&client, protocol::admin::Role::Viewer, None).await.unwrap();
    send(&client, &by("ben", "slower", &LINUX.replace("1m", "5m"))).await.unwrap();
    send(&client, &by("ben", "more", CPU)).await.unwrap();

    let query = HistoryQuery { limit: 3, before: None };
    let page: HistoryPage = ask(&client, subject::ADMIN_HISTORY, &query).await.unwrap();
    let shown: Vec<_> = page.revisions.iter().map(|r| (r.revision, r.actor.as_str(), r.count)).collect();
    assert_eq!(shown, [(4, "ben", 1), (3, "ben", 1), (2, "test", 1)]);
    assert_eq!(page.revisions[1].changes, [Touched::Put { kind: Kind::Check, name: "a".into() }]);
    let query = HistoryQuery { limit: 3, before: page.next };
    let last: HistoryPage = ask(&client, subject::ADMIN_HISTORY, &query).await.unwrap();
    assert_eq!((last.revisions.len(), last.revisions[0].message.as_str(), last.next), (1, "first", None));

    let query = DiffQuery { from: 1, to: Some(3) };
    let difference: Difference = ask(&client, subject::ADMIN_DIFF, &query).await.unwrap();
    assert_eq!(told(&difference.changes), [("changed", Kind::Check, "a")]);
    let all: Difference = ask(&client, subject::ADMIN_DIFF, &DiffQuery { from: 0, to: None }).await.unwrap();
    assert_eq!((all.to, all.changes.len()), (4, 2));
    let none = ask::<_, Difference>(&client, subject::ADMIN_DIFF, &DiffQuery { from: 9, to: None }).await;
    assert_eq!(none.unwrap_err().code, ErrorCode::NotFound);

    let planned = back(&client, 1, true).await.unwrap();
    assert_eq!(told(&planned.changes), [("changed", Kind::Check, "a"), ("deleted", Kind::Check, "cpu")]);
    assert_eq!(planned.effects.unwrap().hosts, 1);
    assert_eq!(back(&client, 1, false).await.unwrap().revision, 5);
    let config = full(&client, "web-01", &with_fact("os", "linux")).await;
    assert_eq!((names(&config), config.checks[0].every_ms), (vec!["a"], 60_000));
    assert!(back(&client, 1, false).await.unwrap().changes.iter().all(|c| c.change == Change::Unchanged));
    assert_eq!(back(&client, 77, false).await.unwrap_err().code, ErrorCode::NotFound);

    // A rollback can be rolled back, also by a replica that reads it all from the stream.
    replica.stop().await;
    let empty = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), empty.path()).await;
    assert_eq!(back(&client, 4, false).await.unwrap().revision, 6);
    assert_eq!(documents(&client).await.documents.len(), 2);
    let page: HistoryPage =
        ask(&client, subject::ADMIN_HISTORY, &HistoryQuery { limit: 1, before: None }).await.unwrap();
    assert_eq!(page.revisions[0].message, "back to revision 4");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_explains_why_it_runs_a_check_or_why_not() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    get(&client, "web-01", &with_fact("os", "linux")).await;
    let text = "kind: Check\nname: a\nevery: 5m\nhosts: facts.os == \"linux\"\nvariants:\n- {when: facts.distro == \"x\", command: x}\n- {when: agent == \"web-01\", command: y}\n- {command: z}\n---\nkind: Check\nname: b\nevery: 5m\nhosts: facts.os == \"plan9\"\nbuiltin: cpu\n";
    send(&client, &given(text)).await.unwrap();
    let explain = async |check: &str| -> Result<Explanation, ErrorReply> {
        let query = ExplainQuery { agent: agent("web-01"), check: check.parse().unwrap() };
        ask(&client, subject::ADMIN_EXPLAIN, &query).await
    };
    let a = explain("a").await.unwrap();
    assert_eq!((a.hosts.holds, a.runs.unwrap().work.command.as_deref()), (Some(true), Some("y")));
    let verdicts: Vec<_> = a.variants.iter().map(|v| (v.holds, v.error.is_some())).collect();
    assert_eq!(verdicts, [(None, true), (Some(true), false), (None, false)]);
    let b = explain("b").await.unwrap();
    assert_eq!((b.hosts.holds, b.runs), (Some(false), None));
    assert_eq!(explain("c").await.unwrap_err().code, ErrorCode::NotFound);
    replica.stop().await;
}
