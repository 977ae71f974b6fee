//! Prometheus' HTTP API over what was stored.

use protocol::{
    admin::{HostList, HostQuery},
    query::{PrometheusAnswer, PrometheusQuery},
    subject,
};
use serde_json::{Value, json};
use service_kit::{Context, Metrics, Readiness, Tasks, respond};
use testkit::{NatsServer, eventually};

use crate::fixture::{EPOCH, LIMIT, Running, ask, publish, stored_up_to};

const START: u64 = EPOCH + 1_000_000;

struct Asker {
    client: async_nats::Client,
}

impl Asker {
    async fn ask(&self, endpoint: &str, parameters: &[(&str, &str)]) -> (u16, Value) {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let question = PrometheusQuery {
            endpoint: endpoint.into(),
            parameters: parameters.iter().map(pair).collect(),
            id: None,
        };
        let answer: PrometheusAnswer = ask(&self.client, subject::QUERY_PROMETHEUS, &question).await.unwrap();
        (answer.status, serde_json::from_str(answer.body.get()).unwrap())
    }

    async fn data(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Value {
        let (status, body) = self.ask(endpoint, parameters).await;
        assert_eq!((status, &body["status"]), (200, &json!("success")), "{body}");
        body["data"].clone()
    }
}

/// Whoever says which labels hosts have.
async fn inventory(server: &NatsServer) -> Context {
    let ctx = Context {
        name: "config-service",
        nats: server.client().await,
        tasks: Tasks::new(),
        ready: Readiness::default(),
        metrics: Metrics::default(),
    };
    respond::respond(&ctx, subject::ADMIN_HOSTS, respond::Limits::default(), |_, _: HostQuery| async {
        let host = json!({"agent": "web-01", "labels": {"role": "web"}, "first_seen_ms": 1, "last_seen_ms": 1,
            "revision_wanted": 1, "checks": []});
        Ok(HostList { hosts: vec![serde_json::from_value(host).unwrap()], next: None })
    })
    .await
    .unwrap();
    ctx
}

/// Ten results of one check a minute apart, numbered 1 to 10, and one of another host.
async fn filled(server: &NatsServer) -> Asker {
    let client = server.client().await;
    for seq in 1..=10 {
        publish(&client, "web-01", "disk", seq, START + seq * 60_000).await;
    }
    publish(&client, "db-01", "load", 1, START + 60_000).await;
    stored_up_to(&client, "web-01", 10).await;
    stored_up_to(&client, "db-01", 1).await;
    Asker { client }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[tokio::test]
async fn results_are_asked_for_in_promql() {
    let server = NatsServer::start().await;
    let _inventory = inventory(&server).await;
    let folder = tempfile::tempdir().unwrap();
    let ingest = Running::start(&server, folder.path()).await;
    let asker = filled(&server).await;
    let last = seconds(START + 600_000);
    let at = |query: &'static str| [("query", query), ("time", last.as_str())];

    eventually("the host's label is known", LIMIT, || async {
        let found = asker.data("query", &at(r#"dogwatch_value{role="web"}"#)).await;
        if found["result"].as_array().unwrap().len() == 1 { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    let found = asker.data("query", &at("dogwatch_value")).await;
    assert_eq!(
        found["result"],
        json!([{"metric": {"__name__": "dogwatch_value", "agent": "web-01", "check": "disk", "role": "web"},
            "value": [(START + 600_000) / 1000, "10"]}]),
        "the one of db-01 is older than five minutes"
    );
    let found = asker.data("query", &at("sum by (agent) (count_over_time(dogwatch_status[1h]))")).await;
    let counts: Vec<&Value> =
        found["result"].as_array().unwrap().iter().map(|row| &row["value"][1]).collect();
    assert_eq!(counts.len(), 2);
    assert!(counts.contains(&&json!("10")) && counts.contains(&&json!("1")), "{counts:?}");

    let (start, end) = (seconds(START + 60_000), seconds(START + 180_000));
    let range =
        [("query", "dogwatch_value{check=\"disk\"} * 2"), ("start", &start), ("end", &end), ("step", "1m")];
    let found = asker.data("query_range", &range).await;
    let base = START / 1000;
    assert_eq!(found["resultType"], "matrix");
    assert_eq!(found["result"][0]["values"], json!([[base + 60, "2"], [base + 120, "4"], [base + 180, "6"]]));

    assert_eq!(asker.data("labels", &[]).await, json!(["__name__", "agent", "check", "role"]));
    assert_eq!(asker.data("label/agent/values", &[]).await, json!(["db-01", "web-01"]));
    let of_db = [("match[]", r#"dogwatch_value{agent="db-01"}"#)];
    assert_eq!(asker.data("label/check/values", &of_db).await, json!(["load"]));
    assert_eq!(
        asker.data("series", &of_db).await,
        json!([{"__name__": "dogwatch_value", "agent": "db-01", "check": "load"}])
    );
    assert_eq!(asker.data("label/__name__/values", &[]).await, json!(["dogwatch_status", "dogwatch_value"]));
    assert!(asker.data("status/buildinfo", &[]).await["version"].is_string());
    assert!(asker.data("metadata", &[]).await["dogwatch_value"].is_array());
    ingest.stop().await;
}

#[tokio::test]
async fn g10_what_is_wrong_or_too_much_is_refused_as_prometheus_refuses() {
    let server = NatsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let ingest = Running::start(&server, folder.path()).await;
    let asker = filled(&server).await;
    let long = "x".repeat(20_000);
    for (endpoint, parameters, status, kind) in [
        ("query", vec![], 400, "bad_data"),
        ("query", vec![("query", "sum(")], 400, "bad_data"),
        ("query", vec![("query", long.as_str())], 400, "bad_data"),
        ("query", vec![("query", "1"), ("time", "soon")], 400, "bad_data"),
        ("query", vec![("query", "histogram_quantile(0.9, dogwatch_value)")], 422, "execution"),
        ("query", vec![("query", "dogwatch_value"), ("timeout", "0")], 503, "timeout"),
        (
            "query_range",
            vec![("query", "1"), ("start", "0"), ("end", "4000000000"), ("step", "0.001")],
            400,
            "bad_data",
        ),
        ("query_range", vec![("query", "1"), ("start", "9"), ("end", "1"), ("step", "1")], 400, "bad_data"),
        ("query_range", vec![("query", "1"), ("start", "0"), ("end", "1"), ("step", "0")], 400, "bad_data"),
        ("query_range", vec![("query", "1"), ("start", "0"), ("end", "1")], 400, "bad_data"),
        ("query", vec![("query", "count_over_time(vector(1)[100y:1ms])")], 422, "execution"),
        (
            "query",
            vec![("query", "sum_over_time(sum_over_time(vector(1)[10d:1s])[10d:1s])"), ("timeout", "1")],
            503,
            "timeout",
        ),
        ("series", vec![], 400, "bad_data"),
        ("series", vec![("match[]", "1 + 1")], 400, "bad_data"),
        ("nosuch", vec![], 404, "not_found"),
        ("label//values", vec![], 404, "not_found"),
    ] {
        let (found, body) = asker.ask(endpoint, &parameters).await;
        let shown: String = format!("{endpoint} {parameters:?}").chars().take(200).collect();
        assert_eq!(
            (found, &body["status"], &body["errorType"]),
            (status, &json!("error"), &json!(kind)),
            "{shown}: {body}"
        );
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{shown}");
    }
    // A century at a coarse step is no trouble.
    let century = [("query", "dogwatch_value"), ("start", "0"), ("end", "4102444800"), ("step", "1000000")];
    let (status, body) = asker.ask("query_range", &century).await;
    assert_eq!(status, 200, "{body}");
    ingest.stop().await;
}
