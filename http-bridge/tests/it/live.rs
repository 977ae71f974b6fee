//! Live results: what is wanted comes, a slow reader loses the oldest and is told.

use protocol::{CheckResult, Status, admin::Role, subject};
use reqwest::Response;
use serde_json::Value;

use crate::harness::{Bridge, SOON, problem};

fn result(agent: &str, seq: u64, status: Status, output: String) -> CheckResult {
    let text = serde_json::json!({"v": 1, "agent": agent, "check": "disk", "seq": seq, "at_ms": 1, "status": status.as_str(),
        "output": output});
    serde_json::from_value(text).unwrap()
}

async fn publish(bridge: &Bridge, result: &CheckResult) {
    let body = protocol::encode(result).unwrap();
    bridge.behind.nats.publish(subject::result(&result.agent, &result.check), body.into()).await.unwrap();
}

/// Events of a stream, one by one.
struct Events {
    response: Response,
    buffer: String,
}

impl Events {
    async fn open(bridge: &Bridge, query: &str) -> Self {
        let response = bridge.get(&format!("/api/v1/results/live{query}"), Role::Viewer).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// Name and data of the next event.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let found = field("event")
                    .map(|name| (name.to_owned(), serde_json::from_str(field("data").unwrap()).unwrap()));
                self.buffer = rest.to_owned();
                if found.is_some() {
                    return found;
                }
                continue;
            }
            let chunk =
                tokio::time::timeout(2 * SOON, self.response.chunk()).await.expect("an event").unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn results_come_as_they_are_published_and_only_those_that_are_wanted() {
    let bridge = Bridge::start().await;
    let mut all = Events::open(&bridge, "").await;
    let mut some = Events::open(&bridge, "?agent=web-02&status=warning,critical").await;
    publish(&bridge, &result("web-01", 1, Status::Critical, "a\nb\r\n\ndata: x".into())).await;
    bridge.behind.nats.publish("dogwatch.v1.result.web-02.disk", "no JSON".into()).await.unwrap();
    publish(&bridge, &result("web-02", 2, Status::Ok, String::new())).await;
    publish(&bridge, &result("web-02", 3, Status::Warning, String::new())).await;
    for seq in 1..=3 {
        let (name, data) = all.next().await.unwrap();
        assert_eq!((name.as_str(), &data["seq"]), ("result", &Value::from(seq)));
        if seq == 1 {
            assert_eq!(data["output"], "a\nb\r\n\ndata: x");
        }
    }
    let (_, data) = some.next().await.unwrap();
    assert_eq!(data["seq"], 3);
    let wrong = bridge.get("/api/v1/results/live?status=bad", Role::Viewer).await;
    assert_eq!(problem(wrong, 400).await["field"], "status");
    problem(bridge.get("/api/v1/results/live", Role::Agent).await, 403).await;
    // The end of the service is the end of the stream.
    bridge.ctx.tasks.token().cancel();
    assert_eq!(all.next().await, None);
}

#[tokio::test]
async fn g10_a_slow_reader_loses_the_oldest_and_is_told_how_many() {
    let bridge = Bridge::start().await;
    let mut slow = Events::open(&bridge, "").await;
    let mut other = Events::open(&bridge, "?agent=web-02").await;
    // Far more than the buffers of a connection and of the bridge hold together.
    let (count, output) = (700, "x".repeat(50_000));
    for seq in 1..=count {
        publish(&bridge, &result("web-01", seq, Status::Ok, output.clone())).await;
    }
    publish(&bridge, &result("web-02", count + 1, Status::Ok, String::new())).await;
    // Others are not held up. What came before this is out or in the tail.
    assert_eq!(other.next().await.unwrap().1["seq"], count + 1);
    testkit::eventually("the bridge has seen all", 4 * SOON, || async {
        let text = bridge.ctx.metrics.encode();
        let line = text.lines().find(|line| line.contains("live_results_dropped_total "));
        let dropped: u64 = line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap();
        if dropped > 50 { Ok(()) } else { Err(format!("{dropped} dropped")) }
    })
    .await;
    let (mut seen, mut dropped, mut last) = (0, 0, 0);
    while last <= count {
        let (name, data) = slow.next().await.unwrap();
        if name == "dropped" {
            dropped += data["dropped"].as_u64().unwrap();
            last += data["dropped"].as_u64().unwrap();
        } else {
            assert_eq!(data["seq"], last + 1, "in order, and every gap is told");
            (seen, last) = (seen + 1, last + 1);
        }
    }
    assert_eq!(seen + dropped, count + 1);
    assert!(dropped > 0);
}

#[tokio::test]
async fn g10_readers_are_limited_and_who_leaves_makes_room() {
    let bridge = Bridge::start_with(&["--live-readers", "1"]).await;
    let first = Events::open(&bridge, "").await;
    problem(bridge.get("/api/v1/results/live", Role::Viewer).await, 503).await;
    drop(first);
    testkit::eventually("there is room again", 4 * SOON, || async {
        let status = bridge.get("/api/v1/results/live", Role::Viewer).await.status();
        if status == 200 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}
