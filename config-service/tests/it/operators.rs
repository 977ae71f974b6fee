use futures_util::StreamExt;
use protocol::{
    ErrorCode, ErrorReply, Reply,
    admin::{Applied, Change, HostQuery},
    subject,
};
use testkit::NatsServer;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_is_whole_or_nothing_and_names_every_problem() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;

    let files = [
        ("cpu.yaml", CPU),
        ("bad.yaml", "kind: Check\nname: x\nevery: soon\nbuiltin: cpu\n"),
        ("worse.yaml", "kind: Rule\nname: r\ncheck: nope\nwhen: value >\n"),
    ];
    let error = apply_files(&client, &files, false).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    let problems: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("bad.yaml:3:8: every: \"soon\" is not a duration"), "{problems:?}");
    assert!(problems[1].starts_with("worse.yaml:3:8: there is no Check \"nope\""), "{problems:?}");
    assert!(problems[2].starts_with("worse.yaml:4:14: when: this is not an expression"), "{problems:?}");
    let list = documents(&client).await;
    assert_eq!((list.revision, list.documents.len()), (0, 0));

    let tried = apply_files(&client, &[("cpu.yaml", CPU)], true).await.unwrap();
    assert_eq!((tried.revision, tried.changes[0].change), (0, Change::Created));
    assert_eq!(documents(&client).await.documents.len(), 0);

    assert_eq!(apply(&client, CPU).await.unwrap().revision, 1);
    let again = apply(&client, CPU).await.unwrap();
    assert_eq!((again.revision, again.changes[0].change), (1, Change::Unchanged));
    let rule = "kind: Rule\nname: r\ncheck: cpu\nwhen: value > 1\n";
    assert_eq!(apply(&client, rule).await.unwrap().revision, 2);
    assert_eq!(documents(&client).await.documents.len(), 2);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_is_answered_with_invalid() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let _replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    for subject in [
        subject::ADMIN_APPLY,
        subject::ADMIN_DOCUMENTS,
        subject::ADMIN_HOSTS,
        subject::ADMIN_KEY_CREATE,
        subject::ADMIN_KEY_REVOKE,
        subject::ADMIN_KEY_VERIFY,
        &subject::config_get(&agent("a")),
        "dogwatch.v1.config.get.NOT-AN-ID",
    ] {
        let body = if subject.ends_with("ID") {
            protocol::encode(&request()).unwrap()
        } else {
            b"nonsense".to_vec()
        };
        let answer = client.request(subject.to_owned(), body.into()).await.unwrap();
        let reply: Reply<serde_json::Value> = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(reply.into_result().unwrap_err().code, ErrorCode::Invalid, "{subject}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_on_two_replicas_all_happen_and_both_tell_the_same() {
    let nats = NatsServer::start().await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Replica::start(&nats.url(), one.path()).await;
    let second = Replica::start(&nats.url(), two.path()).await;
    let client = nats.client().await;
    let mut work = tokio::task::JoinSet::new();
    for n in 0..12 {
        let client = client.clone();
        work.spawn(async move {
            let text = format!("kind: Check\nname: c{n}\nbuiltin: cpu\nevery: 10s\n");
            // A change that lost its place too often says so and is made again.
            loop {
                match apply(&client, &text).await {
                    Ok(Applied { revision, .. }) => return revision,
                    Err(ErrorReply { code: ErrorCode::Unavailable, .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let mut revisions = work.join_all().await;
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=12).collect::<Vec<u64>>());
    // A host that asks one replica is in the inventory of both.
    full(&client, "web-01", &request()).await;
    testkit::eventually("both replicas agree", LIMIT, || async {
        for replica in [&first, &second] {
            let (revision, _) = (replica.metric("revision"), ());
            if revision < 12.0 {
                return Err(format!("revision {revision}"));
            }
        }
        Ok(())
    })
    .await;
    second.stop().await;
    assert_eq!(documents(&client).await.documents.len(), 12);
    assert_eq!(host(&client, "web-01").await.unwrap().checks.len(), 12);
    let second = Replica::start(&nats.url(), two.path()).await;
    first.stop().await;
    assert_eq!(documents(&client).await.documents.len(), 12);
    assert_eq!(host(&client, "web-01").await.unwrap().checks.len(), 12);
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_three_thousand_hosts_with_large_facts_are_listed_page_by_page() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let _replica = Replica::start(&nats.url(), data.path()).await;
    let client = nats.client().await;
    apply(&client, CPU).await.unwrap();
    let (text, names) = ("x".repeat(8 * 1024), (0..3_000).map(|n| format!("h{n:04}")).collect::<Vec<_>>());
    let request = with_fact("text", &text);
    futures_util::stream::iter(&names)
        .for_each_concurrent(256, |name| async {
            full(&client, name, &request).await;
        })
        .await;
    for limit in [0, 100] {
        let (mut listed, mut pages) = (Vec::new(), 0);
        let mut query = HostQuery { limit, ..HostQuery::default() };
        loop {
            let page = host_page(&client, &query).await;
            pages += 1;
            listed.extend(page.hosts.iter().map(|host| host.agent.to_string()));
            assert!(page.hosts.iter().all(|host| host.facts["text"] == text));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(listed, names);
        assert!(if limit == 0 { (6..10).contains(&pages) } else { pages == 30 }, "{pages} pages");
    }
}
