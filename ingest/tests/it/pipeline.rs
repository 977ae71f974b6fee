use std::time::Duration;

use futures_util::StreamExt;
use protocol::{
    CheckName,
    query::{ResultPage, ResultQuery},
    stored::{Stored, StoredRequest},
    stream::{REJECTED, rejected_header},
    subject,
};
use testkit::{NatsServer, eventually};

use crate::fixture::*;

#[tokio::test]
async fn g1_repeats_are_dropped_and_the_watermark_is_told() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let mut told = client.subscribe("dogwatch.v1.stored.web-01").await.unwrap();
    let running = Running::start(&server, data.path()).await;
    for seq in [1, 2, 4] {
        publish(&client, "web-01", "disk", seq, seq).await;
    }
    stored_up_to(&client, "web-01", 2).await;
    // Without the id by which the broker knows repeats: as after its window of two minutes.
    for seq in [1, 2, 2, 3] {
        client
            .publish("dogwatch.v1.result.web-01.disk", json("web-01", "disk", seq, seq).into())
            .await
            .unwrap();
    }
    let last = tokio::time::timeout(LIMIT, async {
        loop {
            let stored: Stored = serde_json::from_slice(&told.next().await.unwrap().payload).unwrap();
            if stored.seq == 4 {
                break stored;
            }
        }
    });
    assert_eq!(last.await.unwrap(), Stored { v: 1, agent: agent("web-01"), epoch: EPOCH, seq: 4, lost: 0 });
    assert_each_once(&client, &["web-01"], 4).await;
    let loss = &losses(&client).await[0];
    assert_eq!((loss.stored, loss.duplicates, loss.missing, loss.lost), (4, 3, 0, 0));
    assert_eq!((running.count("results_stored"), running.count("results_duplicate")), (4, 3));
    running.stop().await;

    let running = Running::start(&server, data.path()).await;
    assert_eq!(losses(&client).await[0].stored, 4, "the account survives a restart");
    running.stop().await;
}

#[tokio::test]
async fn g1_what_the_agent_no_longer_has_is_counted_as_lost() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    assert_eq!(watermark(&client, "new").await.unwrap().seq, 0);
    assert!(losses(&client).await.is_empty(), "a question opens no account");
    publish(&client, "web-01", "disk", 3, 1).await;
    publish(&client, "web-01", "disk", 6, 1).await;
    let get = |oldest| {
        let client = client.clone();
        async move {
            let question = StoredRequest { v: 1, epoch: EPOCH, oldest };
            ask::<_, Stored>(&client, "dogwatch.v1.stored.get.web-01", &question).await
        }
    };
    eventually("both are stored", LIMIT, || async {
        let stored = losses(&client).await.first().map_or(0, |loss| loss.stored);
        (stored == 2).then_some(()).ok_or(stored)
    })
    .await;
    let stored = get(6).await.unwrap();
    assert_eq!((stored.seq, stored.lost), (6, 4));
    assert_eq!(running.count("results_lost"), 4);
    // One of them was still under way.
    publish(&client, "web-01", "disk", 5, 1).await;
    eventually("the loss is taken back", LIMIT, || async {
        let lost = losses(&client).await[0].lost;
        (lost == 3).then_some(()).ok_or(lost)
    })
    .await;
    let error = get(0).await.unwrap_err().to_string();
    assert_eq!(error, "sequence numbers begin at 1");
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_result_goes_whole_to_rejected_and_blocks_nothing() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    let long = "x".repeat(65_537);
    let bad = [
        ("dogwatch.v1.result.web-01.disk", "not JSON \u{1F415}".to_owned()),
        ("dogwatch.v1.result.web-01.disk", json("web-02", "disk", 1, 1)),
        ("dogwatch.v1.result.Web-01.disk", json("web-01", "disk", 1, 1)),
        ("dogwatch.v1.result.web-01.disk", json("web-01", "disk", 2, 1).replace("\"v\":1", "\"v\":9")),
        (
            "dogwatch.v1.result.web-01.disk",
            json("web-01", "disk", 3, 1).replace("\"unknown\":true", &format!("\"output\":\"{long}\"")),
        ),
        ("dogwatch.v1.result.web-01.disk", String::new()),
    ];
    for (subject, body) in &bad {
        client.publish(*subject, body.clone().into()).await.unwrap();
    }
    publish(&client, "web-01", "disk", 4, 1).await;
    // Their numbers are passed over, so that their agent does not send them for ever.
    stored_up_to(&client, "web-01", 4).await;
    assert_eq!(watermark(&client, "web-01").await.unwrap().lost, 0);
    let losses = losses(&client).await;
    let web = losses.iter().find(|loss| loss.epoch == EPOCH).unwrap();
    assert_eq!((web.rejected["invalid"], web.lost, web.expected), (3, 0, 4));

    let jetstream = service_kit::publish::jetstream(&client);
    let stream = eventually("all are rejected", LIMIT, || async {
        let mut stream = jetstream.get_stream(REJECTED.name).await.map_err(|error| error.to_string())?;
        let held = stream.info().await.map_err(|error| error.to_string())?.state.messages;
        if held == 6 { Ok(stream) } else { Err(held.to_string()) }
    })
    .await;
    let mut kept = Vec::new();
    for sequence in 1..=6 {
        let message = stream.get_raw_message(sequence).await.unwrap();
        assert_eq!(message.subject.as_str(), "dogwatch.v1.rejected.ingest");
        assert!(!message.headers.get(rejected_header::REASON).unwrap().as_str().is_empty());
        let subject = message.headers.get(rejected_header::SUBJECT).unwrap().to_string();
        kept.push((subject, String::from_utf8(message.payload.to_vec()).unwrap()));
    }
    let mut sent = bad.map(|(subject, body)| (subject.to_owned(), body));
    kept.sort();
    sent.sort();
    assert_eq!(kept, sent);
    assert_eq!(running.count("messages_rejected"), 6);
    running.stop().await;
}

#[tokio::test]
async fn a_submission_is_stored_once_by_its_id() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    for (id, at) in [("a", 1), ("a", 2), ("b", 3)] {
        let body = format!(
            r#"{{"v":1,"agent":"sh-01","check":"os_updates","at_ms":{at},"status":"ok","value":12,"origin":"http","id":"{id}"}}"#
        );
        client.publish("dogwatch.v1.result.sh-01.os_updates", body.into()).await.unwrap();
    }
    eventually("all came", LIMIT, || async {
        let done = running.count("messages_done");
        (done == 3).then_some(()).ok_or(done)
    })
    .await;
    let ids: Vec<_> =
        results(&client, ResultQuery::default()).await.into_iter().map(|result| result.id.unwrap()).collect();
    assert_eq!(ids, ["a", "b"]);
    running.stop().await;
}

#[tokio::test]
async fn results_are_found_by_host_check_and_time_page_by_page() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    const HOUR: u64 = 3_600_000;
    // Backwards, over three hours, so that the order is that of measurement and not of arrival.
    for seq in (1..=60u64).rev() {
        publish(&client, "web-01", if seq % 2 == 0 { "disk" } else { "load" }, seq, seq * HOUR / 20).await;
    }
    publish(&client, "web-02", "disk", 1, HOUR).await;
    stored_up_to(&client, "web-01", 60).await;
    stored_up_to(&client, "web-02", 1).await;

    let find = |question: ResultQuery| {
        let client = client.clone();
        async move { results(&client, question).await.into_iter().map(|r| r.seq).collect::<Vec<_>>() }
    };
    let web = ResultQuery { agent: Some(agent("web-01")), ..ResultQuery::default() };
    assert_eq!(find(web.clone()).await, (1..=60).collect::<Vec<_>>());
    assert_eq!(find(ResultQuery { limit: 7, ..web.clone() }).await, (1..=60).collect::<Vec<_>>());
    let disk = ResultQuery { check: Some(CheckName::new("disk").unwrap()), limit: 4, ..web.clone() };
    assert_eq!(find(disk.clone()).await, (1..=30).map(|n| 2 * n).collect::<Vec<_>>());
    let hour = ResultQuery { since_ms: HOUR, until_ms: Some(2 * HOUR), ..web.clone() };
    assert_eq!(find(hour).await, (20..40).collect::<Vec<_>>());
    let all_disks = ResultQuery { agent: None, until_ms: Some(HOUR + 1), ..disk };
    assert_eq!(find(all_disks).await.len(), 11);
    assert_eq!(find(ResultQuery { agent: Some(agent("none")), ..web.clone() }).await, [0u64; 0]);
    assert_eq!(find(ResultQuery { until_ms: Some(0), ..web.clone() }).await, [0u64; 0]);
    assert_eq!(find(ResultQuery { since_ms: u64::MAX, ..web.clone() }).await, [0u64; 0]);

    let bad = [ResultQuery { cursor: Some("x".into()), ..web.clone() }, ResultQuery { limit: 1001, ..web }];
    for question in bad {
        let answer = ask::<_, ResultPage>(&client, subject::QUERY_RESULTS, &question).await;
        assert!(answer.unwrap_err().to_string().len() > 10);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_page_of_large_results_fits_into_a_message() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    let output = "o".repeat(60_000);
    for seq in 1..=100 {
        let body =
            json("web-01", "disk", seq, 1).replace("\"unknown\":true", &format!("\"output\":\"{output}\""));
        client.publish("dogwatch.v1.result.web-01.disk", body.into()).await.unwrap();
    }
    stored_up_to(&client, "web-01", 100).await;
    let page: ResultPage = ask(&client, subject::QUERY_RESULTS, &ResultQuery::default()).await.unwrap();
    assert!(page.results.len() < 100 && page.next.is_some());
    assert_each_once(&client, &["web-01"], 100).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_a_wiped_broker_under_load_loses_nothing() {
    let (mut server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    let agents = ["a-1", "a-2", "a-3", "a-4"];
    let mut sending = tokio::task::JoinSet::new();
    for name in agents {
        sending.spawn(deliver(server.client().await, name, 3_000));
    }
    for part in 1..=3 {
        eventually("some are stored", LIMIT, || async {
            let stored: u64 = losses(&client).await.iter().map(|loss| loss.stored).sum();
            (stored >= part * 2_000).then_some(()).ok_or(stored)
        })
        .await;
        server.wipe();
        server.restart().await;
        eventually("ingest answers again", LIMIT, || watermark(&client, "a-1")).await;
    }
    while let Some(done) = tokio::time::timeout(LIMIT, sending.join_next()).await.unwrap() {
        done.unwrap();
    }
    assert_each_once(&client, &agents, 3_000).await;
    assert!(losses(&client).await.iter().all(|loss| loss.missing == 0 && loss.lost == 0));
    running.ctx.tasks.finish(Duration::from_secs(10)).await.unwrap();
}
