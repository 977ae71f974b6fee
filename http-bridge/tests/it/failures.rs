//! What is refused, what is away, what is too much.

use std::time::{Duration, Instant};

use protocol::{
    ErrorCode, ErrorReply,
    admin::Role,
    query::{AlertList, AlertQuery, LossQuery},
    subject,
};
use reqwest::Method;
use service_kit::respond::{self, Limits, respond};
use testkit::eventually;

use crate::harness::{Bridge, SOON, context, key, problem};

const GOOD: &str = r#"{"field":"a","value":1}"#;

#[tokio::test]
async fn each_refusal_has_its_status_and_says_why() {
    let bridge = Bridge::start().await;
    let url = |path: &str| format!("http://{}{path}", bridge.http);

    let nobody = bridge.client.post(url("/api/submit")).body(GOOD).send().await.unwrap();
    assert_eq!(nobody.headers()["www-authenticate"], "X-API-Key");
    assert!(problem(nobody, 401).await["detail"].as_str().unwrap().contains("header X-API-Key"));
    problem(bridge.request(Method::GET, "/api/agent/config", "dw_no").send().await.unwrap(), 401).await;
    problem(bridge.request(Method::GET, "/api/agent/config", &"x".repeat(5000)).send().await.unwrap(), 401)
        .await;
    problem(bridge.client.get(url("/nothing")).send().await.unwrap(), 404).await;
    let wrong_method = bridge.client.get(url("/api/submit")).send().await.unwrap();
    assert_eq!(wrong_method.headers()["allow"], "POST");
    problem(wrong_method, 405).await;
    problem(bridge.submit(vec![b' '; 1024 * 1024 + 1]).await, 413).await;
    let many = format!("[{}]", vec![GOOD; 1001].join(","));
    problem(bridge.submit(many).await, 413).await;
    let full = format!("[{}]", vec![GOOD; 1000].join(","));
    assert_eq!(bridge.submit(full).await.status(), 202);

    let about = bridge.client.get(url("/")).send().await.unwrap();
    assert!(about.headers().contains_key("x-request-id"));
    assert!(about.text().await.unwrap().contains("/api/submit"));
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(bridge.client.get(url(path)).send().await.unwrap().status(), 200, "{path}");
    }
}

#[tokio::test]
async fn the_second_address_serves_agents_only() {
    let bridge = Bridge::start().await;
    for (path, status) in [("/livez", 200), ("/api/v1/hosts", 404), ("/", 404)] {
        let url = format!("http://{}{path}", bridge.submit);
        let response = bridge.client.get(url).header("X-API-Key", key(Role::Admin)).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}

#[tokio::test]
async fn g10_too_many_requests_are_told_when_to_come_again() {
    let bridge = Bridge::start_with(&["--rate", "1", "--burst", "3"]).await;
    let mut response = bridge.submit(GOOD).await;
    for _ in 0..50 {
        if response.status() != 202 {
            break;
        }
        response = bridge.submit(GOOD).await;
    }
    let detail = problem(response, 429).await["detail"].to_string();
    assert!(detail.contains("too many requests with this key"), "{detail}");
    // Another key has a rate of its own.
    assert_ne!(bridge.get("/api/v1/hosts", Role::Viewer).await.status(), 429);
}

#[tokio::test]
async fn g10_who_guesses_keys_is_barred_and_good_keys_go_on() {
    let bridge = Bridge::start().await;
    assert_eq!(bridge.submit(GOOD).await.status(), 202);
    let mut last = None;
    for guess in 0..500 {
        let guess = format!("dw_guess_{guess}");
        let response = bridge.request(Method::GET, "/api/agent/config", &guess).send().await.unwrap();
        let barred = response.status() == 429;
        last = Some(response);
        if barred {
            break;
        }
    }
    problem(last.unwrap(), 429).await;
    assert_eq!(bridge.submit(GOOD).await.status(), 202);
}

#[tokio::test]
async fn a_broker_that_is_away_is_said_so_in_time_and_waited_out() {
    let mut bridge = Bridge::start().await;
    assert_eq!(bridge.submit(GOOD).await.status(), 202);
    bridge.nats.kill();
    for role in [Role::Agent, Role::Admin] {
        let started = Instant::now();
        let path = if role == Role::Agent { "/api/submit" } else { "/api/v1/apply" };
        let response = bridge.post(path, role, r#"{"field":"a","value":1,"files":[]}"#).await;
        problem(response, 503).await;
        assert!(started.elapsed() < Duration::from_secs(6), "{role}: {:?}", started.elapsed());
    }
    bridge.nats.restart().await;
    eventually("submissions are taken again", SOON * 3, async || {
        let status = bridge.submit(GOOD).await.status();
        if status == 202 { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_service_that_is_away_and_a_stream_that_is_gone_are_503() {
    let bridge = Bridge::start().await;
    let answer = problem(bridge.get("/api/v1/alerts", Role::Viewer).await, 503).await;
    assert!(answer["detail"].as_str().unwrap().contains("nobody answers on dogwatch.v1.query.alerts"));
    bridge.behind.jetstream().delete_stream("RESULTS").await.unwrap();
    let answer = problem(bridge.submit(GOOD).await, 503).await;
    assert!(answer["detail"].as_str().unwrap().contains("no stream takes"), "{answer}");
    // The config-service stops: nobody can tell whose an unseen key is.
    bridge.behind.tasks.finish(SOON).await.unwrap();
    problem(bridge.get("/api/v1/keys", Role::Editor).await, 503).await;
}

#[tokio::test]
async fn an_internal_error_shows_nothing_of_the_inside() {
    let bridge = Bridge::start().await;
    let limits = Limits::default();
    respond(&bridge.behind, subject::QUERY_ALERTS, limits, |_, _: AlertQuery| async move {
        Err::<AlertList, _>(ErrorReply::new(ErrorCode::Internal, "row 7 of /var/lib/x is broken"))
    })
    .await
    .unwrap();
    respond(&bridge.behind, subject::QUERY_LOSS, limits, |_, _: LossQuery| async move { Ok("not a list") })
        .await
        .unwrap();
    for path in ["/api/v1/alerts", "/api/v1/loss"] {
        let detail = problem(bridge.get(path, Role::Viewer).await, 500).await["detail"].to_string();
        assert!(detail.contains("internal error") && !detail.contains("row 7"), "{detail}");
    }
}

#[tokio::test]
async fn g10_requests_beyond_the_limit_are_shed_while_health_answers() {
    let bridge = Bridge::start_with(&["--concurrency", "1"]).await;
    let _silence = bridge.behind.nats.subscribe(subject::QUERY_ALERTS).await.unwrap();
    respond::barrier(&bridge.behind.nats).await.unwrap();
    let slow = bridge.get("/api/v1/alerts", Role::Viewer);
    let others = async {
        eventually("one is shed", SOON, async || {
            let response = bridge.get("/api/v1/hosts", Role::Viewer).await;
            let detail = problem(response, 503).await["detail"].to_string();
            if detail.contains("too many requests at once") { Ok(()) } else { Err(detail) }
        })
        .await;
        let health = bridge.client.get(format!("http://{}/livez", bridge.http)).send().await.unwrap();
        assert_eq!(health.status(), 200);
    };
    let (slow, ()) = tokio::join!(slow, others);
    problem(slow, 503).await;
}

#[tokio::test]
async fn documents_may_be_larger_than_submissions() {
    let bridge = Bridge::start_with(&["--body-limit", "100"]).await;
    problem(bridge.submit(vec![b' '; 101]).await, 413).await;
    let apply = |spaces: usize| bridge.post("/api/v1/apply", Role::Editor, vec![b' '; spaces]);
    problem(apply(2 * 1024 * 1024).await, 400).await;
    problem(apply(4 * 1024 * 1024).await, 413).await;
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_flag() {
    use clap::Parser;
    let bridge = Bridge::start().await;
    let (taken, free) = (bridge.http.to_string(), testkit::free_address().to_string());
    for (http, submit, flag) in [(&taken, &free, "--http"), (&free, &taken, "--submit")] {
        let args = ["x", "--http", http, "--submit", submit];
        let settings = http_bridge::Settings::try_parse_from(args).unwrap();
        let ctx = context("http-bridge", bridge.nats.client().await);
        let error = format!("{:#}", http_bridge::start(settings, ctx).await.unwrap_err());
        for part in ["cannot listen on", taken.as_str(), flag, "in use"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn a_stop_waits_for_nobody_who_is_idle() {
    let bridge = Bridge::start().await;
    let _silent = tokio::net::TcpStream::connect(bridge.http).await.unwrap();
    let mut half = tokio::net::TcpStream::connect(bridge.http).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut half, b"POST /api/submit HTTP/1.1\r\nHo").await.unwrap();
    assert_eq!(bridge.submit(GOOD).await.status(), 202);
    bridge.ctx.tasks.finish(Duration::from_secs(8)).await.unwrap();
    assert!(bridge.client.get(format!("http://{}/livez", bridge.http)).send().await.is_err());
}
