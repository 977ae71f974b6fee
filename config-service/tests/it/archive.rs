//! A whole installation moves to another broker and another folder.

use std::path::Path;

use async_nats::Client;
use protocol::{
    ErrorCode, ErrorReply,
    admin::{Applied, HistoryPage, HistoryQuery, Role, RollbackRequest},
    archive::{Check, Contents, Line, RestoreQuery, RestoreRequest, RestoreState},
    audit::{AuditPage, AuditQuery},
    config::{ConfigReply, ConfigRequest},
    sign_in::{TokenCreate, TokenCreated, TokenList, TokenQuery},
    subject,
    transfer::Transfer,
};
use service_kit::transfer;
use testkit::{NatsServer, Program, eventually};

use crate::harness::*;

async fn backup(client: &Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    transfer::fetch(client, subject::ADMIN_BACKUP, &mut bytes).await.unwrap();
    bytes
}

fn look(bytes: &[u8]) -> (Contents, Vec<Line>) {
    let mut check = Check::default();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| check.line(line).unwrap()).collect();
    (check.end().unwrap(), lines)
}

async fn bring(client: &Client, bytes: &[u8]) -> Transfer {
    transfer::bring(client, subject::ADMIN_RESTORE, &mut &bytes[..]).await.unwrap()
}

async fn restore(
    client: &Client,
    bytes: &[u8],
    replace: bool,
    newest: Option<u64>,
) -> Result<u64, ErrorReply> {
    let transfer = bring(client, bytes).await;
    let end = subject::transfer_end(subject::ADMIN_RESTORE, transfer.replica());
    let request = RestoreRequest { transfer, replace, newest, actor: "test".to_owned() };
    Ok(ask::<_, RestoreState>(client, &end, &request).await?.revision)
}

/// Wait until the archive is in place up to this revision.
async fn in_place(client: &Client, revision: u64) {
    eventually("the archive is in place", LIMIT, || async {
        let state: Result<RestoreState, _> =
            ask(client, subject::ADMIN_RESTORE_STATE, &RestoreQuery {}).await;
        match state {
            Ok(state) if !state.running && state.revision == revision => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn history(client: &Client) -> HistoryPage {
    ask(client, subject::ADMIN_HISTORY, &HistoryQuery::default()).await.unwrap()
}

fn check(command: &str) -> String {
    format!("kind: Check\nname: probe\nevery: 1m\ncommand: {command}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_an_installation_moves_whole_and_no_revision_is_given_twice() {
    let (old_nats, old_data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let old = Replica::start(&old_nats.url(), old_data.path()).await;
    let client = old_nats.client().await;
    apply(&client, &check("echo 1")).await.unwrap();
    apply(&client, &check("echo 2")).await.unwrap();
    let key = create_key(&client, Role::Viewer, None).await.unwrap();
    let revoked = create_key(&client, Role::Agent, Some("script")).await.unwrap();
    let revoke = protocol::admin::KeyRevoke { id: revoked.info.id.clone(), actor: String::new() };
    let _: protocol::admin::KeyInfo = ask(&client, subject::ADMIN_KEY_REVOKE, &revoke).await.unwrap();
    let token: TokenCreated =
        ask(&client, subject::ADMIN_TOKEN_CREATE, &TokenCreate::default()).await.unwrap();
    let config = full(&client, "web-01", &with_fact("os", "linux")).await;
    let host_before = host(&client, "web-01").await.unwrap();
    verify(&client, &key.key).await.unwrap();
    let history_before = history(&client).await;

    let bytes = backup(&client).await;
    let (contents, lines) = look(&bytes);
    assert_eq!((contents.manifest.revision, contents.changes, contents.hosts), (6, 6, 2));
    assert!(!contents.manifest.alerts, "there is no alerter here");
    assert!(lines.iter().any(|line| matches!(line, Line::KeyUsed { id, .. } if *id == key.info.id)));
    for secret in [&key.key, &revoked.key, &token.token] {
        assert!(!String::from_utf8_lossy(&bytes).contains(secret.as_str()), "a secret is in the archive");
    }
    old.stop().await;

    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let admin = data.path().join("admin.key");
    let admin_key = config_service::new_key().unwrap();
    std::fs::write(&admin, &admin_key).unwrap();
    let folder = data.path().join("config");
    let flags = ["--admin-key-file", admin.to_str().unwrap()];
    let new = Replica::start_with(&nats.url(), &folder, &flags).await.unwrap();
    let client = nats.client().await;
    eventually("the new one has its admin key", LIMIT, || async { verify(&client, &admin_key).await }).await;
    assert_eq!(restore(&client, &bytes, false, Some(9)).await.unwrap(), 9);
    in_place_at_least(&client, 9).await;
    // The new admin key comes back behind all that the old installation may have given.
    eventually("the admin key is known again", LIMIT, || async { verify(&client, &admin_key).await }).await;

    let moved = |client: Client| {
        let (key, revoked, etag) = (key.clone(), revoked.clone(), config.etag.clone());
        let (host_before, history_before) = (host_before.clone(), history_before.clone());
        async move {
            assert_eq!(documents(&client).await.documents.len(), 1);
            assert_eq!(host(&client, "web-01").await.unwrap(), host_before);
            assert_eq!(verify(&client, &key.key).await.unwrap().id, key.info.id);
            assert_eq!(verify(&client, &revoked.key).await.unwrap_err().code, ErrorCode::Unauthorized);
            let tokens: TokenList = ask(&client, subject::ADMIN_TOKEN_LIST, &TokenQuery {}).await.unwrap();
            assert_eq!(tokens.tokens.len(), 1);
            let after = history(&client).await;
            let first = after.revisions.len() - history_before.revisions.len();
            assert_eq!(&after.revisions[first..], &history_before.revisions[..]);
            // What the agent runs is what it is to run: it does not even have to be sent.
            let same = ConfigRequest { etag: Some(etag), ..with_fact("os", "linux") };
            assert!(matches!(get(&client, "web-01", &same).await, ConfigReply::Unchanged { .. }));
        }
    };
    moved(client.clone()).await;
    let newest = documents(&client).await.revision;
    assert!(newest >= 9, "revision {newest}");
    let rollback = RollbackRequest {
        revision: 1,
        actor: String::new(),
        message: String::new(),
        dry_run: false,
        base: None,
        effects: false,
        signatures: Vec::new(),
        within: None,
    };
    let applied: Applied = ask(&client, subject::ADMIN_ROLLBACK, &rollback).await.unwrap();
    assert_eq!(applied.revision, newest + 1);
    let back = full(&client, "web-01", &with_fact("os", "linux")).await;
    assert!(serde_json::to_string(&back).unwrap().contains("echo 1"), "{back:?}");
    let page: AuditPage = ask(&client, subject::ADMIN_AUDIT, &AuditQuery::default()).await.unwrap();
    let told = |what: &str| page.events.iter().any(|event| event.what == what);
    assert!(told("revision 1") && told("revision 10"), "{page:?}");
    new.stop().await;
    // Another replica, and this one again, know the same.
    let again = Replica::start_with(&nats.url(), &folder, &flags).await.unwrap();
    assert_eq!(documents(&client).await.revision, applied.revision);
    again.stop().await;
    let other = tempfile::tempdir().unwrap();
    let _rebuilt = Replica::start(&nats.url(), other.path()).await;
    assert_eq!(documents(&client).await.revision, applied.revision);
    assert!(verify(&client, &key.key).await.is_ok());
}

async fn in_place_at_least(client: &Client, revision: u64) {
    eventually("the archive is in place", LIMIT, || async {
        let state: Result<RestoreState, _> =
            ask(client, subject::ADMIN_RESTORE_STATE, &RestoreQuery {}).await;
        match state {
            Ok(state) if !state.running && state.revision >= revision => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_would_lose_something_changes_nothing() {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let _replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, CPU).await.unwrap();
    let good = backup(&client).await;
    apply(&client, &check("echo 1")).await.unwrap();

    let error = restore(&client, &good, false, None).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.contains("it has 2 documents") && error.message.contains("--replace"), "{error}");
    let text = String::from_utf8(good.clone()).unwrap();
    for (bad, expected) in [
        (text.replace("\"10s\"", "\"20s\""), "checksum differs"),
        (text[..text.len() / 2].to_owned(), "archive"),
        (text.replace("\"format\":1", "\"format\":9"), "newer than 1"),
        (String::new(), "ends too early"),
    ] {
        assert_ne!(bad, text);
        let error = restore(&client, bad.as_bytes(), true, None).await.unwrap_err();
        assert!(error.code == ErrorCode::Invalid && error.message.contains(expected), "{error}");
    }
    let far = restore(&client, &good, true, Some(10_000_000)).await.unwrap_err();
    assert_eq!(far.field.as_deref(), Some("newest"));
    assert_eq!((documents(&client).await.revision, documents(&client).await.documents.len()), (2, 2));

    // Agents have seen revision 2: it is not given again.
    assert_eq!(restore(&client, &good, true, None).await.unwrap(), 3);
    in_place(&client, 3).await;
    assert_eq!(documents(&client).await.documents.len(), 1);
    assert_eq!(apply(&client, &check("echo 2")).await.unwrap().revision, 4);
}

/// An archive of so many revisions.
async fn long_archive(revisions: usize) -> Vec<u8> {
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    for n in 0..revisions {
        apply(&client, &check(&format!("echo {n}"))).await.unwrap();
    }
    full(&client, "web-01", &request()).await;
    let bytes = backup(&client).await;
    replica.stop().await;
    bytes
}

fn program(nats: &NatsServer, data: &Path) -> Program {
    let args = ["--nats-url", &nats.url(), "--data", data.to_str().unwrap(), "--log", "warn"];
    Program::start("dogwatch-config-service", &args)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_is_finished_by_the_next_start_and_answers_nothing_before() {
    const REVISIONS: usize = 60;
    let bytes = long_archive(REVISIONS).await;
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = nats.client().await;
    let mut service = program(&nats, data.path());
    let ready =
        || async { ask::<_, RestoreState>(&client, subject::ADMIN_RESTORE_STATE, &RestoreQuery {}).await };
    eventually("it answers", LIMIT, ready).await;
    eventually("it is in step", LIMIT, || async { restore(&client, &bytes, false, None).await }).await;
    // Killed while it is under way, again and again, each time a little later.
    for _ in 0..4 {
        service.kill();
        service = program(&nats, data.path());
        let answered = eventually("it answers", LIMIT, ready).await;
        // Either all of it is there, or nothing is told of it.
        let query = protocol::admin::DocumentQuery::default();
        let list: Result<protocol::admin::DocumentList, _> =
            ask(&client, subject::ADMIN_DOCUMENTS, &query).await;
        match list {
            Ok(list) => {
                assert_eq!((list.revision, list.documents.len()), (REVISIONS as u64, 1), "{answered:?}")
            }
            Err(error) => assert_eq!(error.code, ErrorCode::Unavailable, "{error}"),
        }
    }
    in_place(&client, REVISIONS as u64).await;
    let newest = format!("echo {}", REVISIONS - 1);
    let config = full(&client, "web-01", &request()).await;
    assert!(serde_json::to_string(&config).unwrap().contains(&newest), "{config:?}");
    assert_eq!(host(&client, "web-01").await.unwrap().facts["os"], "linux");
    assert_eq!(apply(&client, &check("echo done")).await.unwrap().revision, REVISIONS as u64 + 1);
    assert!(!data.path().join("restore.archive").exists() && !data.path().join("restore.order").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_half_done_is_finished_whatever_is_in_stream_and_store() {
    const REVISIONS: usize = 6;
    let bytes = long_archive(REVISIONS).await;
    let (contents, lines) = look(&bytes);
    let (nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = nats.client().await;
    // The store holds another history, the stream the half of the new one.
    let replica = Replica::start(&nats.url(), data.path()).await;
    apply(&client, CPU).await.unwrap();
    replica.stop().await;
    let stream = async_nats::jetstream::new(client.clone()).get_stream("CONFIG").await.unwrap();
    stream.purge().await.unwrap();
    for line in &lines[..REVISIONS / 2] {
        let Line::Change { record } = line else { continue };
        let sent = async_nats::jetstream::new(client.clone())
            .publish(subject::CONFIG_LOG, protocol::encode(record).unwrap().into())
            .await
            .unwrap();
        sent.await.unwrap();
    }
    let order = serde_json::json!({
        "id": "0123", "revision": REVISIONS + 2, "contents": contents, "actor": "test", "at_ms": 1, "next": "changes",
    });
    std::fs::write(data.path().join("restore.order"), order.to_string()).unwrap();
    std::fs::write(data.path().join("restore.audit"), "").unwrap();
    std::fs::write(data.path().join("restore.archive"), &bytes).unwrap();
    let _replica = Replica::start(&nats.url(), data.path()).await;
    in_place(&client, REVISIONS as u64 + 2).await;
    let list = documents(&client).await;
    assert_eq!((list.documents.len(), list.documents[0].name()), (1, "probe"));
    assert_eq!(host(&client, "web-01").await.unwrap().facts["os"], "linux");
    assert_eq!(history(&client).await.revisions.len(), REVISIONS + 2);
    assert!(!data.path().join("restore.archive").exists());
}
