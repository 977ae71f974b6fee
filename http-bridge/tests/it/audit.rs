//! What the bridge tells the audit log, and editors that are limited to some hosts.

use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use protocol::{
    ErrorCode, ErrorReply,
    admin::{Applied, ApplyRequest, HostList, HostQuery, Role},
    audit::{AuditEvent, AuditOutcome},
    limits, stream, subject,
};
use service_kit::{
    respond::{Limits, respond},
    streams,
};

use crate::harness::*;

/// The entry that fits; others are passed over.
async fn told(log: &mut Subscriber, fits: impl Fn(&AuditEvent) -> bool) -> AuditEvent {
    let next = async {
        loop {
            let message = log.next().await.unwrap();
            let event: AuditEvent = protocol::decode(&message.payload, limits::MESSAGE).unwrap();
            if fits(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(SOON, next).await.expect("an entry of the audit log")
}

#[tokio::test]
async fn refusals_and_actions_are_told_with_key_and_address() {
    let bridge = Bridge::start().await;
    streams::ensure_stream(&bridge.behind.jetstream(), &stream::AUDIT).await.unwrap();
    let mut log = bridge.behind.nats.subscribe(subject::audit("http-bridge")).await.unwrap();
    bridge.behind.nats.flush().await.unwrap();
    let guess =
        bridge.request(reqwest::Method::GET, "/api/v1/hosts", "dw_secret_guess").send().await.unwrap();
    assert_eq!(guess.status(), 401);
    let event = told(&mut log, |event| event.outcome == AuditOutcome::Refused).await;
    assert_eq!((event.actor.as_str(), event.from.as_deref()), ("", Some("127.0.0.1")));
    assert_eq!(event.what, "GET /api/v1/hosts");
    assert!(
        event.detail.starts_with("401: the key is unknown") && !event.detail.contains("guess"),
        "{event:?}"
    );

    assert_eq!(bridge.get("/api/v1/keys", Role::Viewer).await.status(), 403);
    let event = told(&mut log, |event| event.detail.starts_with("403")).await;
    assert_eq!((event.actor.as_str(), event.what.as_str()), ("key viewer", "GET /api/v1/keys"));

    // Nobody answers: it failed, and whoever tried is told.
    bridge.request(reqwest::Method::DELETE, "/api/v1/keys/k1", &key(Role::Admin)).send().await.unwrap();
    let event = told(&mut log, |event| event.outcome == AuditOutcome::Failed).await;
    assert_eq!((event.actor.as_str(), event.what.as_str()), ("key admin", "DELETE /api/v1/keys"));

    let response = bridge.get("/api/agent/config", Role::Agent).await;
    assert_eq!(response.status(), 200);
    let event = told(&mut log, |event| event.what == "use key").await;
    assert_eq!((event.actor.as_str(), event.outcome), ("key agent", AuditOutcome::Done));
}

#[tokio::test]
async fn g10_a_flood_of_refusals_is_a_few_entries() {
    let bridge = Bridge::start().await;
    streams::ensure_stream(&bridge.behind.jetstream(), &stream::AUDIT).await.unwrap();
    for n in 0..300 {
        let path = format!("/api/v1/keys/{n}");
        bridge.request(reqwest::Method::DELETE, &path, &format!("dw_{n}")).send().await.unwrap();
    }
    bridge.ctx.tasks.finish(Duration::from_secs(8)).await.unwrap();
    let audit = streams::ensure_stream(&bridge.behind.jetstream(), &stream::AUDIT).await.unwrap();
    let (mut count, state) = (0, audit.cached_info().state.clone());
    for sequence in 1..=state.last_sequence {
        let message = audit.get_raw_message(sequence).await.unwrap();
        count += protocol::decode::<AuditEvent>(&message.payload, limits::MESSAGE).unwrap().count;
    }
    assert_eq!(count, 300, "each is counted");
    assert!(state.messages <= 4, "{} entries", state.messages);
}

#[tokio::test]
async fn an_editor_that_is_limited_passes_its_limit_on_and_may_do_no_more() {
    let bridge = Bridge::start().await;
    if let Some(info) = bridge.script.keys.lock().unwrap().values_mut().find(|key| key.role == Role::Editor) {
        info.hosts = Some("labels.team == \"db\"".to_owned());
    }
    respond(&bridge.behind, subject::ADMIN_APPLY, Limits::default(), |_, request: ApplyRequest| async move {
        let message = request.within.unwrap_or_default();
        Err::<Applied, _>(ErrorReply::new(ErrorCode::Forbidden, message))
    })
    .await
    .unwrap();
    respond(&bridge.behind, subject::ADMIN_HOSTS, Limits::default(), |_, query: HostQuery| async move {
        assert_eq!(query.within.as_deref(), Some("labels.team == \"db\""));
        Err::<HostList, _>(ErrorReply::new(ErrorCode::NotFound, "no such host"))
    })
    .await
    .unwrap();
    // What the caller says of its limit does not count.
    let body = r#"{"files":[],"within":"true"}"#;
    let refused = problem(bridge.post("/api/v1/apply", Role::Editor, body).await, 403).await;
    assert_eq!(refused["detail"], "labels.team == \"db\"");
    let refused = problem(bridge.post("/api/v1/apply", Role::Admin, body).await, 403).await;
    assert_eq!(refused["detail"], "", "an admin is not limited");
    let run = bridge.post("/api/v1/hosts/web-01/checks/disk/run", Role::Editor, "").await;
    let refused = problem(run, 403).await;
    assert_eq!(refused["detail"], "web-01 is not one of the hosts of your key");
    let refused = problem(bridge.get("/api/v1/documents", Role::Editor).await, 403).await;
    assert!(refused["detail"].as_str().unwrap().contains("limited to some hosts"), "{refused}");
}
