//! A check run on request, over HTTP: events as lines while they come, and every reason why it may not run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::StreamExt;
use protocol::{
    AgentId, ErrorCode, ErrorReply,
    admin::{HostList, HostQuery, Role},
    run::{OutputStream, RunEvent, RunReply, RunRequest},
    subject,
};
use reqwest::Method;
use serde_json::Value;
use service_kit::respond::{Limits, respond};

use crate::harness::{Bridge, key, problem};

const PATH: &str = "/api/v1/hosts/web-01/checks/disk/run";

/// An agent that answers with these events, and with the rest of them once it may.
async fn agent(bridge: &Bridge, now: Vec<RunEvent>, later: Vec<RunEvent>) -> Arc<AtomicBool> {
    let client = bridge.nats.client().await;
    let mut requests = client.subscribe(subject::run(&AgentId::new("web-01").unwrap())).await.unwrap();
    service_kit::respond::barrier(&client).await.unwrap();
    let go = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&go);
    tokio::spawn(async move {
        while let Some(message) = requests.next().await {
            let request: RunRequest = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!((request.v, request.check.as_str(), request.by.as_str()), (1, "disk", "key editor"));
            let send = async |event: &RunEvent| {
                let body = protocol::encode(&RunReply::from(event.clone())).unwrap();
                client.publish(message.reply.clone().unwrap(), body.into()).await.unwrap();
            };
            for event in &now {
                send(event).await;
            }
            while !may.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
            for event in &later {
                send(event).await;
            }
        }
    });
    go
}

fn ended() -> RunEvent {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../protocol/test-data/check_result/v1.json"
    ));
    RunEvent::Ended { result: serde_json::from_str(&text.unwrap()).unwrap(), dropped: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_lines_while_the_check_runs() {
    let bridge = Bridge::start().await;
    let output = RunEvent::Output { stream: OutputStream::Stdout, text: "half\n".into() };
    let started = RunEvent::Started { revision: 4, timeout_ms: 1_000 };
    let go = agent(&bridge, vec![started, output], vec![ended()]).await;
    let mut response = bridge.post(PATH, Role::Editor, "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut text = String::new();
    while text.lines().count() < 2 {
        text += std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
    }
    go.store(true, Ordering::Relaxed);
    text += &response.text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["started", "output", "ended"]);
    assert_eq!((&lines[1]["text"], &lines[2]["result"]["status"]), (&"half\n".into(), &"warning".into()));
    assert_eq!((&lines[1]["last"], &lines[2]["last"]), (&Value::Null, &true.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_refuses_is_a_status() {
    for (code, status) in [
        (ErrorCode::NotFound, 404),
        (ErrorCode::Conflict, 409),
        (ErrorCode::Overloaded, 429),
        (ErrorCode::Unavailable, 503),
    ] {
        let bridge = Bridge::start().await;
        agent(&bridge, vec![RunEvent::Refused { code, reason: "so it is".into() }], vec![]).await;
        let body = problem(bridge.post(PATH, Role::Editor, "").await, status).await;
        assert_eq!(body["detail"], "so it is");
    }
}

#[tokio::test]
async fn who_is_not_there_is_told_from_who_is_not_known() {
    let bridge = Bridge::start().await;
    respond(&bridge.behind, subject::ADMIN_HOSTS, Limits::default(), |_, query: HostQuery| async move {
        match query.agent {
            Some(agent) if agent.as_str() == "web-01" => Ok(HostList::default()),
            _ => Err(ErrorReply::new(ErrorCode::NotFound, "there is no host web-09")),
        }
    })
    .await
    .unwrap();
    let body = problem(bridge.post(PATH, Role::Editor, "").await, 503).await;
    assert_eq!(body["detail"], "web-01 does not answer: its agent is away, or too old for this");
    let unknown = bridge.post("/api/v1/hosts/web-09/checks/disk/run", Role::Editor, "").await;
    assert_eq!(problem(unknown, 404).await["detail"], "there is no host web-09");
    for bad in ["/api/v1/hosts/WEB/checks/disk/run", "/api/v1/hosts/web-01/checks/a.b/run"] {
        problem(bridge.post(bad, Role::Editor, "").await, 400).await;
    }
    problem(bridge.post(PATH, Role::Viewer, "").await, 403).await;
    problem(bridge.request(Method::GET, PATH, &key(Role::Editor)).send().await.unwrap(), 405).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_vanishes_or_a_bridge_that_stops_ends_the_answer_with_a_reason() {
    let bridge = Bridge::start().await;
    agent(&bridge, vec![RunEvent::Started { revision: 4, timeout_ms: 86_400_000 }], vec![]).await;
    let mut response = bridge.post(PATH, Role::Editor, "").await;
    let first = response.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(br#"{"v":1,"event":"started""#));
    bridge.ctx.tasks.finish(std::time::Duration::from_secs(8)).await.unwrap();
    let rest = response.text().await.unwrap();
    assert!(rest.contains("the bridge is stopping; the run goes on"), "{rest}");
}
