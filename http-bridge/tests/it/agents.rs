//! The two endpoints for scripts.

use protocol::{Scalar, Status, admin::Role};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Bridge, key, problem};

#[tokio::test]
async fn g9_a_script_gets_the_checks_that_it_can_run() {
    let bridge = Bridge::start().await;
    for address in [bridge.http, bridge.submit] {
        let url = format!("http://{address}/api/agent/config");
        let get = || bridge.client.get(&url).header("X-API-Key", key(Role::Agent));
        let response = get().send().await.unwrap();
        assert_eq!(response.status(), 200);
        let tag = response.headers()["etag"].clone();
        assert_eq!(tag, "\"e7\"");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["revision"], 7);
        assert_eq!(body["checks"].as_array().unwrap().len(), 1);
        assert_eq!(body["checks"][0]["name"], "os_updates");
        assert_eq!(body["checks"][0]["command"], "echo 12");

        let again = get().header("If-None-Match", &tag).send().await.unwrap();
        assert_eq!((again.status().as_u16(), again.content_length()), (304, Some(0)));
        assert_eq!(again.headers()["etag"], tag);
    }
    bridge.script.config.lock().unwrap().as_mut().unwrap().etag = "e8".into();
    let request = bridge.request(Method::GET, "/api/agent/config", &key(Role::Agent));
    assert_eq!(request.header("If-None-Match", "\"e7\"").send().await.unwrap().status(), 200);
    *bridge.script.config.lock().unwrap() = None;
    let refused = problem(bridge.get("/api/agent/config", Role::Agent).await, 403).await;
    assert_eq!(refused["detail"], "no configuration for web-01: not enrolled");
}

#[tokio::test]
async fn g9_a_submission_is_accepted_once_the_broker_has_it() {
    let bridge = Bridge::start().await;
    let response = bridge.submit(r#"{"field":"os_updates","value":"12\n"}"#).await;
    assert_eq!(response.status(), 202);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"accepted": 1}));
    let url = format!("http://{}/api/submit", bridge.submit);
    let many =
        r#"[{"field":"a","value":1.5,"unit":"s"},{"field":"b","value":null,"at":1,"status":"critical"}]"#;
    let response =
        bridge.client.post(url).header("X-API-Key", key(Role::Agent)).body(many).send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"accepted": 2}));

    let mut results = bridge.results().await;
    results.sort_by(|a, b| a.check.cmp(&b.check));
    let [a, b, updates] = results.as_slice() else { panic!("{results:?}") };
    assert_eq!((a.value.clone(), a.unit.as_deref(), a.status), (Scalar::number(1.5), Some("s"), Status::Ok));
    assert_eq!((b.value.clone(), b.at_ms, b.status, b.replayed), (None, 1, Status::Critical, true));
    assert_eq!(updates.value, Scalar::number(12.0));
    assert_eq!((updates.status, updates.unit.as_deref()), (Status::Warning, Some("packages")));
    for result in &results {
        assert_eq!((result.agent.as_str(), result.seq, result.epoch), ("web-01", 0, 0));
        assert!(result.id.is_some());
    }
}

#[tokio::test]
async fn g1_a_repeat_with_the_same_idempotency_key_changes_nothing() {
    let bridge = Bridge::start().await;
    let send = |key_: &'static str| {
        bridge
            .request(Method::POST, "/api/submit", &key(Role::Agent))
            .header("Idempotency-Key", key_)
            .body(r#"[{"field":"a","value":1},{"field":"b","value":2}]"#)
            .send()
    };
    for _ in 0..3 {
        assert_eq!(send("one").await.unwrap().status(), 202);
    }
    assert_eq!(bridge.results().await.len(), 2);
    assert_eq!(send("two").await.unwrap().status(), 202);
    assert_eq!(bridge.results().await.len(), 4);
    assert_eq!(problem(send("").await.unwrap(), 400).await["status"], 400);
}

#[tokio::test]
async fn what_cannot_be_understood_is_kept_whole_with_the_reason() {
    let bridge = Bridge::start().await;
    let bad = r#"[{"field":"a","value":1},{"field":"a b","value":2}]"#;
    let answer = problem(bridge.submit(bad).await, 400).await;
    assert_eq!(answer["field"], "/1/field");
    // Not JSON, not even text.
    problem(bridge.submit(vec![0xff, 0, 0x7b]).await, 400).await;
    // Who sends no good key leaves nothing behind.
    let stranger = bridge.request(Method::POST, "/api/submit", "dw_wrong").body("{").send().await.unwrap();
    problem(stranger, 401).await;

    let kept = bridge.stored("REJECTED").await;
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].1, bad.as_bytes());
    assert_eq!(kept[1].1, [0xff, 0, 0x7b]);
    assert!(kept[0].0["Dogwatch-Reason"].contains("\"a b\" is not a valid check name"), "{kept:?}");
    assert_eq!(kept[0].0["Dogwatch-Subject"], "POST /api/submit by web-01");
    assert!(bridge.results().await.is_empty(), "nothing of a refused submission is stored");
    assert!(bridge.ctx.metrics.encode().contains("dogwatch_http_bridge_submissions_rejected_total 2"));
}

#[tokio::test]
async fn a_deployed_script_need_not_say_that_it_sends_json() {
    let bridge = Bridge::start().await;
    let request = bridge.request(Method::POST, "/api/submit", &key(Role::Agent));
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(request.body(r#"{"field":"a","value":1}"#).send().await.unwrap().status(), 202);
}
