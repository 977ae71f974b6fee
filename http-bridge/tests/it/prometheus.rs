use protocol::{
    admin::Role,
    query::{PrometheusAnswer, PrometheusQuery},
    subject,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use service_kit::respond;

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
        r#"{"endpoint":"query","parameters":[["query","a+b"],["time","1"]]}"#
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
            "parameters": [["a", "1"], ["match[]", "{b=\"c d\"}"], ["match[]", "e"]]})
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
