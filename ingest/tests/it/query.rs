//! The native queries, and what ends one early.

use std::time::Duration;

use async_nats::Client;
use protocol::{
    CheckName, Status,
    query::{LatestQuery, PrometheusAnswer, PrometheusQuery, QueryCancel, ResultPage, ResultQuery, Statuses},
    series::{Timeline, TimelineQuery, Top, TopBy, TopList, TopQuery},
    subject,
};
use serde_json::Value;
use service_kit::request::request;
use testkit::{NatsServer, eventually};

use crate::fixture::{EPOCH, LIMIT, Running, agent, ask, json, results, stored_up_to};

const MINUTE: u64 = 60_000;

fn check(name: &str) -> CheckName {
    CheckName::new(name).unwrap()
}

async fn send(client: &Client, of: &str, name: &str, seq: u64, (status, output): (&str, &str)) {
    let body = json(of, name, seq, EPOCH + seq * MINUTE)
        .replace(r#""status":"ok""#, &format!(r#""status":"{status}","output":"{output}""#));
    client.publish(format!("dogwatch.v1.result.{of}.{name}"), body.into()).await.unwrap();
}

/// Three hosts; the disk of the first is critical from its fourth minute to its sixth.
async fn fleet(client: &Client) {
    for seq in 1..=10 {
        let bad = (4..=6).contains(&seq);
        let disk = if bad { ("critical", "DISK Timed out (42 s)") } else { ("ok", "DISK fine") };
        send(client, "web-01", "disk", seq, disk).await;
    }
    send(client, "web-01", "load", 11, ("warning", "LOAD high")).await;
    for (host, last) in [("web-02", 5), ("web-03", 7)] {
        for seq in 1..=last {
            send(client, host, "disk", seq, ("ok", "DISK fine")).await;
        }
    }
    for (host, last) in [("web-01", 11), ("web-02", 5), ("web-03", 7)] {
        stored_up_to(client, host, last).await;
    }
}

async fn refused<Q: serde::Serialize>(client: &Client, subject: &str, question: &Q) -> String {
    ask::<_, Value>(client, subject, question).await.unwrap_err().to_string()
}

#[tokio::test]
async fn the_latest_of_each_check_comes_in_pages() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    fleet(&client).await;
    let find = async |mut question: LatestQuery| {
        let mut all = Vec::new();
        loop {
            let page: ResultPage = ask(&client, subject::QUERY_LATEST, &question).await.unwrap();
            assert!(page.results.len() <= question.limit.max(1) || question.limit == 0);
            all.extend(page.results);
            match page.next {
                Some(next) => question.cursor = Some(next),
                None => break,
            }
        }
        all.iter()
            .map(|result| format!("{} {} {}", result.agent, result.check, result.seq))
            .collect::<Vec<_>>()
    };
    let everything = ["web-01 disk 10", "web-01 load 11", "web-02 disk 5", "web-03 disk 7"];
    for limit in [0, 1, 2, 3, 4] {
        assert_eq!(find(LatestQuery { limit, ..LatestQuery::default() }).await, everything);
    }
    let bad = LatestQuery { status: Statuses(vec![Status::Warning]), ..LatestQuery::default() };
    assert_eq!(find(bad).await, everything[1..2]);
    let recent = LatestQuery { since_ms: EPOCH + 7 * MINUTE, ..LatestQuery::default() };
    assert_eq!(find(recent).await, [everything[0], everything[1], everything[3]]);
    let one =
        LatestQuery { agent: Some(agent("web-03")), check: Some(check("disk")), ..LatestQuery::default() };
    assert_eq!(find(one).await, everything[3..]);
    let none = LatestQuery { agent: Some(agent("web-09")), ..LatestQuery::default() };
    assert_eq!(find(none).await, [""; 0]);
    let wrong = LatestQuery { cursor: Some("x".into()), ..LatestQuery::default() };
    assert!(refused(&client, subject::QUERY_LATEST, &wrong).await.contains("cursor"));
    running.stop().await;
}

#[tokio::test]
async fn outputs_are_searched_page_by_page() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    fleet(&client).await;
    let none = ResultQuery::default;
    let found = async |question: ResultQuery| {
        results(&client, question).await.iter().map(|result| result.seq).collect::<Vec<_>>()
    };
    assert_eq!(found(ResultQuery { contains: Some("TIMED OUT (4".into()), ..none() }).await, [4, 5, 6]);
    assert_eq!(found(ResultQuery { contains: Some("timed".into()), limit: 1, ..none() }).await, [4, 5, 6]);
    assert_eq!(found(ResultQuery { matches: Some("^LOAD|[0-9]+ s".into()), ..none() }).await, [4, 5, 6, 11]);
    assert_eq!(found(ResultQuery { matches: Some("timed".into()), ..none() }).await, [0u64; 0]);
    let critical = Statuses(vec![Status::Critical, Status::Warning]);
    assert_eq!(found(ResultQuery { status: critical, limit: 2, ..none() }).await, [4, 5, 6, 11]);
    for (question, expected) in [
        (ResultQuery { matches: Some("(".into()), ..none() }, "regular expression"),
        (ResultQuery { matches: Some("((a{1000}){1000}){1000}".into()), ..none() }, "regular expression"),
        (ResultQuery { matches: Some("a".repeat(1_001)), ..none() }, "longer than 1000"),
        (ResultQuery { contains: Some("a".repeat(1_001)), ..none() }, "longer than 1000"),
        (ResultQuery { contains: Some("a".into()), matches: Some("a".into()), ..none() }, "one of"),
    ] {
        let text = refused(&client, subject::QUERY_RESULTS, &question).await;
        assert!(text.contains(expected), "{text}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_timeline_has_runs_and_gaps_in_pages() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    fleet(&client).await;
    let mut question = TimelineQuery {
        agent: agent("web-01"),
        check: check("disk"),
        from_ms: EPOCH,
        until_ms: EPOCH + 20 * MINUTE,
        limit: 2,
    };
    let mut found = Vec::new();
    loop {
        let page: Timeline = ask(&client, subject::QUERY_TIMELINE, &question).await.unwrap();
        found.extend(page.runs);
        match page.next_ms {
            Some(next) => question.from_ms = next,
            None => break,
        }
    }
    let minutes: Vec<_> = found
        .iter()
        .map(|run| (run.status, (run.from_ms - EPOCH) / MINUTE, (run.until_ms - EPOCH) / MINUTE, run.results))
        .collect();
    let (ok, bad) = (Some(Status::Ok), Some(Status::Critical));
    let expected = [(None, 0, 1, 0), (ok, 1, 4, 3), (bad, 4, 7, 3), (ok, 7, 13, 4), (None, 13, 20, 0)];
    assert_eq!(minutes, expected);
    question.check = check("none");
    assert!(refused(&client, subject::QUERY_TIMELINE, &question).await.contains("no results of none"));
    question.limit = 10_001;
    assert!(refused(&client, subject::QUERY_TIMELINE, &question).await.contains("at most"));
    running.stop().await;
}

#[tokio::test]
async fn hosts_are_ranked_by_a_number() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    fleet(&client).await;
    // Values are the sequence numbers: 1 to 10, 1 to 5, 1 to 7.
    let question = TopQuery {
        check: check("disk"),
        metric: String::new(),
        from_ms: EPOCH + 3 * MINUTE,
        until_ms: EPOCH + 9 * MINUTE,
        by: TopBy::Max,
        lowest: false,
        limit: 2,
    };
    let top = async |question: &TopQuery| {
        let list: TopList = ask(&client, subject::QUERY_TOP, question).await.unwrap();
        assert_eq!((list.of, list.width_ms), (3, 0));
        let row = |top: &Top| format!("{} {}", top.agent, top.value);
        list.hosts.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(top(&question).await, ["web-01 8", "web-03 7"]);
    assert_eq!(top(&TopQuery { by: TopBy::Mean, ..question.clone() }).await, ["web-01 5.5", "web-03 5"]);
    let lowest = TopQuery { by: TopBy::Last, lowest: true, limit: 1, ..question.clone() };
    assert_eq!(top(&lowest).await, ["web-02 5"]);
    let century = TopQuery { from_ms: 0, until_ms: u64::MAX, ..question.clone() };
    let list: TopList = ask(&client, subject::QUERY_TOP, &century).await.unwrap();
    assert_eq!((list.hosts[0].value, list.width_ms), (10.0, 3_600_000));
    let none = TopQuery { check: check("none"), ..question.clone() };
    assert!(refused(&client, subject::QUERY_TOP, &none).await.contains("no host"));
    let backwards = TopQuery { from_ms: 9, until_ms: 9, ..question };
    assert!(refused(&client, subject::QUERY_TOP, &backwards).await.contains("before it begins"));
    running.stop().await;
}

#[tokio::test]
async fn g10_an_evaluation_ends_when_nobody_waits_for_it() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let running = Running::start(&server, data.path()).await;
    let id = "nobody-waits".to_owned();
    // Without an end it takes until its time is over.
    let query = ("query".to_owned(), "sum_over_time(sum_over_time(vector(1)[10d:1s])[10d:1s])".to_owned());
    let question =
        PrometheusQuery { endpoint: "query".into(), parameters: vec![query], id: Some(id.clone()) };
    let asked = tokio::spawn({
        let client = client.clone();
        async move {
            let limit = Duration::from_secs(60);
            request::<_, PrometheusAnswer>(&client, subject::QUERY_PROMETHEUS, &question, limit)
                .await
                .unwrap()
        }
    });
    // It may not have begun when it is taken back the first time.
    eventually("it is taken back", LIMIT, || async {
        let body = protocol::encode(&QueryCancel { id: id.clone() }).unwrap();
        client.publish(subject::QUERY_CANCEL, body.into()).await.unwrap();
        if asked.is_finished() { Ok(()) } else { Err("it goes on") }
    })
    .await;
    let answer = asked.await.unwrap();
    let body: Value = serde_json::from_str(answer.body.get()).unwrap();
    assert_eq!((answer.status, body["errorType"].as_str()), (503, Some("canceled")), "{body}");
    running.stop().await;
}
