use std::time::Duration;

use futures_util::StreamExt;
use protocol::{
    ErrorReply,
    admin::Role,
    query::{PrometheusAnswer, PrometheusQuery, QueryCancel},
    subject,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use service_kit::respond;
use tokio::io::AsyncWriteExt;

use crate::harness::{Bridge, key};

/// Answers with what it was asked, as status 422 where the endpoint says so.
async fn echo(bridge: &Bridge) {
    let limits = respond::Limits::default();
    respond::respond(
        &bridge.behind,
        subject::QUERY_PROMETHEUS,
        limits,
        |_, question: PrometheusQuery| async move {
            let status = if question.endpoint == "query" { 200 } else { 422 };
            // Its name is another each time.
            let question = PrometheusQuery { id: question.id.map(|_| "some".to_owned()), ..question };
            let body = serde_json::to_string(&question).unwrap();
            Ok(PrometheusAnswer { status, body: serde_json::value::RawValue::from_string(body).unwrap() })
        },
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn parameters_of_url_and_form_are_handed_on_and_the_answer_handed_back() {
    let bridge = Bridge::start().await;
    echo(&bridge).await;
    let got = bridge.get("/prometheus/api/v1/query?query=a%2Bb&time=1", Role::Viewer).await;
    assert_eq!(got.headers()["content-type"], "application/json");
    assert_eq!(
        got.text().await.unwrap(),
        r#"{"endpoint":"query","parameters":[["query","a+b"],["time","1"]],"id":"some"}"#
    );

    let path = "/prometheus/api/v1/label/agent/values?a=1";
    let posted = bridge
        .request(Method::POST, path, &key(Role::Viewer))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("match%5B%5D=%7Bb%3D%22c+d%22%7D&match[]=e");
    let posted = posted.send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let body: Value = posted.json().await.unwrap();
    assert_eq!(
        body,
        json!({"endpoint": "label/agent/values",
            "parameters": [["a", "1"], ["match[]", "{b=\"c d\"}"], ["match[]", "e"]], "id": "some"})
    );
}

#[tokio::test]
async fn the_key_may_stand_where_grafana_puts_it_and_nowhere_else() {
    let bridge = Bridge::start().await;
    echo(&bridge).await;
    let url = |path: &str| format!("http://{}{path}", bridge.http);
    let query = url("/prometheus/api/v1/query");
    let (viewer, agent) = (key(Role::Viewer), key(Role::Agent));
    let status =
        |request: reqwest::RequestBuilder| async move { request.send().await.unwrap().status().as_u16() };
    let get = || bridge.client.get(&query);
    assert_eq!(status(get().bearer_auth(&viewer)).await, 200);
    assert_eq!(status(get().basic_auth("grafana", Some(&viewer))).await, 200);
    assert_eq!(status(get().bearer_auth(&agent)).await, 403);
    assert_eq!(status(get().bearer_auth("dw_wrong")).await, 401);
    assert_eq!(status(get().header("Authorization", "Basic !!!")).await, 401);
    let none = get().send().await.unwrap();
    assert_eq!(none.status(), 401);
    assert_eq!(none.headers()["www-authenticate"], "Bearer");
    let body: Value = none.json().await.unwrap();
    assert_eq!((&body["status"], &body["errorType"]), (&json!("error"), &json!("unauthorized")));
    // A browser remembers basic authentication and would send it along with requests of other pages.
    let hosts = bridge.client.get(url("/api/v1/hosts"));
    assert_eq!(status(hosts.basic_auth("grafana", Some(&viewer))).await, 401);
}

#[tokio::test]
async fn without_ingest_it_says_so_as_prometheus_would() {
    let bridge = Bridge::start().await;
    let answer = bridge.get("/prometheus/api/v1/query?query=1", Role::Viewer).await;
    assert_eq!(answer.status(), 503);
    let body: Value = answer.json().await.unwrap();
    assert_eq!((&body["status"], &body["errorType"]), (&json!("error"), &json!("unavailable")));
}

#[tokio::test]
async fn g10_a_client_that_goes_away_takes_its_question_back() {
    let bridge = Bridge::start().await;
    let mut canceled = bridge.behind.nats.subscribe(subject::QUERY_CANCEL).await.unwrap();
    respond::barrier(&bridge.behind.nats).await.unwrap();
    let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
    let limits = respond::Limits { deadline: Duration::from_secs(60), ..respond::Limits::default() };
    respond::respond(
        &bridge.behind,
        subject::QUERY_PROMETHEUS,
        limits,
        move |_, question: PrometheusQuery| {
            asked.send(question.id).unwrap();
            std::future::pending::<Result<PrometheusAnswer, ErrorReply>>()
        },
    )
    .await
    .unwrap();
    let mut client = tokio::net::TcpStream::connect(bridge.http).await.unwrap();
    let head = format!("X-API-Key: {}", key(Role::Viewer));
    let request = format!("GET /prometheus/api/v1/query?query=1 HTTP/1.1\r\nHost: b\r\n{head}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let id = asks.recv().await.unwrap().unwrap();
    drop(client);
    let message = tokio::time::timeout(Duration::from_secs(20), canceled.next()).await.unwrap().unwrap();
    let cancel: QueryCancel = protocol::decode(&message.payload, 1_000).unwrap();
    assert_eq!(cancel.id, id);
}
