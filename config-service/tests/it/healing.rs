use std::time::Duration;

use protocol::{ErrorCode, config::ConfigReply, config::ConfigRequest, log::LogRecord, subject};
use service_kit::streams::ensure_stream;
use testkit::{NatsServer, Program, eventually};

use crate::harness::*;

fn check(name: &str) -> String {
    format!("kind: Check\nname: {name}\nbuiltin: cpu\nevery: 10s\n")
}

async fn in_step(replica: &Replica) {
    eventually("in step with the stream", LIMIT, || async {
        let problems = replica.ctx.ready.problems();
        if problems.is_empty() { Ok(()) } else { Err(problems.join(", ")) }
    })
    .await;
}

async fn stream(client: &async_nats::Client) -> async_nats::jetstream::stream::Stream {
    ensure_stream(&async_nats::jetstream::new(client.clone()), &protocol::stream::CONFIG).await.unwrap()
}

async fn revisions(client: &async_nats::Client) -> Vec<u64> {
    let stream = stream(client).await;
    let mut revisions = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        if let Ok(message) = stream.get_raw_message(sequence).await {
            revisions.push(serde_json::from_slice::<LogRecord>(&message.payload).unwrap().revision);
        }
    }
    revisions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_documents_hosts_and_what_they_run() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, CPU).await.unwrap();
    let config = full(&client, "a", &request()).await;
    let before = host(&client, "a").await.unwrap();
    replica.stop().await;
    let _replica = Replica::start(&nats.url(), data.path()).await;
    assert_eq!(host(&client, "a").await.unwrap(), before);
    let same = ConfigRequest { etag: Some(config.etag), ..request() };
    assert_eq!(get(&client, "a", &same).await, ConfigReply::Unchanged { revision: 1 });
    assert_eq!(documents(&client).await.revision, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_disk_is_rebuilt_from_the_stream() {
    let nats = NatsServer::start().await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), one.path()).await;
    let client = nats.client().await;
    for n in 0..5 {
        apply(&client, &check(&format!("c{n}"))).await.unwrap();
    }
    let key = create_key(&client, protocol::admin::Role::Agent, Some("web")).await.unwrap();
    replica.stop().await;
    let _replica = Replica::start(&nats.url(), two.path()).await;
    let list = documents(&client).await;
    assert_eq!((list.revision, list.documents.len()), (6, 5));
    assert!(verify(&client, &key.key).await.is_ok());
    assert_eq!(host(&client, "web").await.unwrap().checks.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_broker_gets_its_log_back() {
    let mut nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    {
        let client = nats.client().await;
        for n in 0..5 {
            apply(&client, &check(&format!("c{n}"))).await.unwrap();
        }
    }
    // While the service runs.
    nats.wipe();
    nats.restart().await;
    let client = nats.client().await;
    let applied = eventually("changes are possible again", LIMIT, || async {
        apply(&client, &check("after")).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(applied.revision, 6);
    assert_eq!(revisions(&client).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(replica.metric("log_republished_total"), 5.0);
    replica.stop().await;
    // And while it does not.
    nats.wipe();
    nats.restart().await;
    let client = nats.client().await;
    let replica = Replica::start(&nats.url(), data.path()).await;
    in_step(&replica).await;
    assert_eq!(revisions(&client).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(documents(&client).await.documents.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lost_its_newest_changes_or_was_purged_gets_them_back() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    for n in 0..4 {
        apply(&client, &check(&format!("c{n}"))).await.unwrap();
    }
    replica.stop().await;
    // A purge keeps the count of sequences: the log begins anew behind it.
    stream(&client).await.purge().await.unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    in_step(&replica).await;
    assert_eq!(revisions(&client).await, [1, 2, 3, 4]);
    assert_eq!(apply(&client, &check("c9")).await.unwrap().revision, 5);
    // And another replica can be built from it.
    let other = tempfile::tempdir().unwrap();
    replica.stop().await;
    let _replica = Replica::start(&nats.url(), other.path()).await;
    assert_eq!(documents(&client).await.documents.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_reached_the_stream_but_not_the_store_is_folded_at_the_start() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, &check("one")).await.unwrap();
    replica.stop().await;
    // Exactly what a process leaves that is killed between its append and its fold.
    let first = stream(&client).await.get_raw_message(1).await.unwrap();
    let mut record: LogRecord = serde_json::from_slice(&first.payload).unwrap();
    (record.revision, record.id) = (2, "killed".to_owned());
    let protocol::log::LogChange::DocumentPut {
        document: protocol::document::Document::Check(check), ..
    } = &mut record.changes[0]
    else {
        panic!("{record:?}")
    };
    check.name = protocol::CheckName::new("two").unwrap();
    let jetstream = async_nats::jetstream::new(client.clone());
    for body in [serde_json::to_vec(&record).unwrap(), b"garbage is passed over".to_vec()] {
        jetstream.publish(subject::CONFIG_LOG, body.into()).await.unwrap().await.unwrap();
    }
    let replica = Replica::start(&nats.url(), data.path()).await;
    let list = documents(&client).await;
    assert_eq!((list.revision, list.documents.len()), (2, 2));
    assert_eq!(apply(&client, CPU).await.unwrap().revision, 3);
    assert_eq!(
        replica.metric("log_foreign_total") as u64,
        1,
        "told and counted once, however often it is read"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_another_history_gives_way_to_the_stream() {
    let (mut nats, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, &check("old")).await.unwrap();
    full(&client, "a", &request()).await;
    replica.stop().await;
    nats.wipe();
    nats.restart().await;
    let client = nats.client().await;
    let other = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), other.path()).await;
    for name in ["new1", "new2"] {
        apply(&client, &check(name)).await.unwrap();
    }
    replica.stop().await;
    let replica = Replica::start(&nats.url(), data.path()).await;
    let names: Vec<String> =
        documents(&client).await.documents.iter().map(|document| document.name().to_owned()).collect();
    assert_eq!(names, ["new1", "new2"]);
    assert_eq!(host(&client, "a").await.unwrap().checks.len(), 2);
    assert_eq!(replica.metric("log_discarded_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_with_jetstream_away_agents_are_served_and_changes_refused() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    apply(&nats.client().await, CPU).await.unwrap();
    replica.stop().await;

    let bare = testkit::free_address();
    let address = bare.to_string();
    let mut server = std::process::Command::new(testkit::nats::binary());
    server.args(["-a", "127.0.0.1", "-p", &bare.port().to_string()]);
    let _server = Program::spawn("nats-server", server);
    let url = format!("nats://{address}");
    let client = eventually("a broker without JetStream", LIMIT, || async_nats::connect(url.clone())).await;
    let replica = Replica::start(&url, data.path()).await;
    assert_eq!(names(&full(&client, "a", &request()).await), ["cpu"]);
    let error = apply(&client, &check("x")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.starts_with("no change is possible now: "), "{error}");
    assert!(replica.ctx.ready.problems()[0].contains("stream CONFIG"), "{:?}", replica.ctx.ready.problems());
    replica.stop().await;

    // A store that never saw the stream does not tell a fleet to stop checking.
    let empty = tempfile::tempdir().unwrap();
    let _replica = Replica::start(&url, empty.path()).await;
    let answer: Result<ConfigReply, _> = ask(&client, &subject::config_get(&agent("a")), &request()).await;
    assert_eq!(answer.unwrap_err().code, ErrorCode::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_what_was_answered_survives_kill_9_of_the_service() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let client = nats.client().await;
    let (url, path) = (nats.url(), data.path().to_str().unwrap().to_owned());
    let args = ["--nats-url", &url, "--data", &path];
    let mut accepted = 0;
    for round in 0..4 {
        let mut program = Program::start("dogwatch-config-service", &args);
        program.wait_for("started", LIMIT).await;
        let list = documents(&client).await;
        // At most the one change that was under way when the process was killed is there unanswered.
        let there = list.documents.len();
        assert!(there == accepted || there == accepted + 1, "round {round}: {there} after {accepted}");
        accepted = there;
        for _ in 0..8 {
            apply(&client, &check(&format!("c{accepted}"))).await.unwrap();
            accepted += 1;
        }
        let (killed, text) = (client.clone(), check(&format!("c{accepted}")));
        let last = tokio::spawn(async move {
            let files = vec![protocol::admin::SourceFile { path: "x".to_owned(), text }];
            let request = protocol::admin::ApplyRequest::of(files);
            let limit = Duration::from_secs(1);
            service_kit::request::request::<_, protocol::admin::Applied>(
                &killed,
                subject::ADMIN_APPLY,
                &request,
                limit,
            )
            .await
            .is_ok()
        });
        tokio::task::yield_now().await;
        program.kill();
        if last.await.unwrap() {
            accepted += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_in_order_while_the_broker_is_away() {
    let mut nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let args = ["--nats-url", &nats.url(), "--data", data.path().to_str().unwrap()];
    let mut program = Program::start("dogwatch-config-service", &args);
    program.wait_for("started", LIMIT).await;
    nats.kill();
    program.wait_for("lost the broker", LIMIT).await;
    program.signal(15);
    assert!(program.ended(Duration::from_secs(10)).await.success(), "{}", program.stderr());
}
