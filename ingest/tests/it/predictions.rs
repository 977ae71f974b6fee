//! What comes next and who is unlike the others, asked over NATS of what was stored.

use std::f64::consts::TAU;

use protocol::{
    ErrorCode,
    predict::{Limit, OutlierList, OutlierQuery, PredictQuery, Prediction},
    subject,
};
use service_kit::{now_ms, request::RequestError};
use testkit::{NatsServer, eventually};

use crate::fixture::{EPOCH, LIMIT, Running, agent, ask};

const MINUTE_MS: u64 = 60_000;

/// Between -1 and 1, the same in every run.
fn noise(n: u64) -> f64 {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// Store values of one host, each so many minutes ago.
async fn publish(client: &async_nats::Client, of: &str, check: &str, values: &[(u64, f64)]) {
    let jetstream = service_kit::publish::jetstream(client);
    let now = now_ms();
    for (seq, (minutes_ago, value)) in (1_u64..).zip(values) {
        let at_ms = now - minutes_ago * MINUTE_MS;
        let body = format!(
            r#"{{"v":1,"agent":"{of}","check":"{check}","epoch":{EPOCH},"seq":{seq},"at_ms":{at_ms},"status":"ok","value":{value},"unit":"%"}}"#
        );
        let subject = format!("dogwatch.v1.result.{of}.{check}");
        let sent = jetstream.publish(subject, body.into()).await.unwrap();
        if seq % 100 == 0 || seq == values.len() as u64 {
            sent.await.unwrap();
        }
    }
}

fn query(check: &str) -> PredictQuery {
    PredictQuery {
        agent: agent("web-01"),
        check: check.parse().unwrap(),
        metric: String::new(),
        horizon_ms: 0,
        limit: None,
        history_ms: 0,
    }
}

#[tokio::test]
async fn history_forecast_anomalies_and_the_time_to_a_limit_come_in_one_answer() {
    let server = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let ingest = Running::start(&server, data.path()).await;
    let client = server.client().await;
    // Three days every quarter of an hour: rises by 5 a day to 85, with a wave; one value is far off.
    let values: Vec<(u64, f64)> = (0..=288_u64)
        .rev()
        .map(|n| {
            let days = n as f64 / 96.0;
            let off = if n == 20 { 14.0 } else { 0.0 };
            (n * 15, 85.0 - 5.0 * days + 0.3 * (TAU * days).sin() + 0.05 * noise(n) + off)
        })
        .collect();
    publish(&client, "web-01", "disk", &values).await;
    let question = PredictQuery {
        horizon_ms: 24 * 60 * MINUTE_MS,
        limit: Some(Limit::Above(95.0)),
        history_ms: 24 * 60 * MINUTE_MS,
        ..query("disk")
    };
    let answer = eventually("all is stored", LIMIT, || async {
        let answer: Prediction =
            ask(&client, subject::QUERY_PREDICT, &question).await.map_err(|e| e.to_string())?;
        if answer.history.len() >= 96 { Ok(answer) } else { Err(format!("{} values", answer.history.len())) }
    })
    .await;
    assert_eq!(answer.unit.as_deref(), Some("%"));
    let forecast = answer.forecast.unwrap();
    let last = forecast.steps.last().unwrap();
    let ahead_ms = last.at_ms.saturating_sub(now_ms());
    assert!(ahead_ms.abs_diff(24 * 60 * MINUTE_MS) < 60 * MINUTE_MS, "{ahead_ms}");
    assert!(
        last.lower < last.value && last.value < last.upper && (84.0..98.0).contains(&last.value),
        "{last:?}"
    );
    assert!(last.upper <= 100.0, "percents end at 100: {last:?}");
    let time_to = answer.time_to.unwrap();
    let hours = time_to.hours.unwrap();
    assert!((48.0 / 1.25..48.0 * 1.25).contains(&hours), "{time_to:?}");
    assert!(!time_to.unknown && time_to.why.contains("a day"), "{time_to:?}");
    let [odd] = answer.anomalies.as_slice() else { panic!("one value is odd: {:?}", answer.anomalies) };
    assert!(odd.score > 0.5 && odd.value > 90.0 && odd.why.contains("above all"), "{odd:?}");

    // A limit that is not approached, and a check of which nothing is known.
    let far = PredictQuery { limit: Some(Limit::Below(10.0)), ..query("disk") };
    let answer: Prediction = ask(&client, subject::QUERY_PREDICT, &far).await.unwrap();
    assert!(answer.time_to.is_some_and(|time_to| time_to.hours.is_none() && !time_to.unknown));
    for (question, code) in [
        (query("nosuch"), None),
        (PredictQuery { horizon_ms: 1, ..query("nosuch") }, Some(ErrorCode::NotFound)),
        (PredictQuery { horizon_ms: u64::MAX, ..query("disk") }, Some(ErrorCode::Invalid)),
        (PredictQuery { history_ms: u64::MAX, ..query("disk") }, Some(ErrorCode::Invalid)),
    ] {
        let answer = ask::<_, Prediction>(&client, subject::QUERY_PREDICT, &question).await;
        let found = match answer {
            Err(RequestError::Refused(error)) => Some(error.code),
            _ => None,
        };
        assert_eq!(found, code, "{question:?}");
    }
    ingest.stop().await;
}

#[tokio::test]
async fn the_host_unlike_its_group_is_found_whenever_each_is_measured() {
    let server = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let ingest = Running::start(&server, data.path()).await;
    let client = server.client().await;
    let names: Vec<String> = (0..6).map(|n| format!("web-0{n}")).collect();
    for (host, name) in (0_u64..).zip(&names) {
        // Every ten minutes, each host at its own.
        let values: Vec<(u64, f64)> = (0..144_u64)
            .rev()
            .map(|n| {
                let shared = 50.0 + 10.0 * (TAU * n as f64 / 144.0).sin();
                let level = if host == 3 { 30.0 } else { 0.0 };
                (n * 10 + host, shared + level + noise(n * 10 + host))
            })
            .collect();
        publish(&client, name, "cpu", &values).await;
    }
    let mut agents: Vec<_> = names.iter().map(|name| agent(name)).collect();
    agents.push(agent("new"));
    let question = OutlierQuery { agents, check: "cpu".parse().unwrap(), metric: String::new(), over_ms: 0 };
    let list = eventually("the odd host is found", LIMIT, || async {
        let list: OutlierList =
            ask(&client, subject::QUERY_OUTLIERS, &question).await.map_err(|e| e.to_string())?;
        // Until all that was sent is there, others look odd too.
        let odd: Vec<_> =
            list.hosts.iter().filter(|host| host.score >= 0.5).map(|host| &host.agent).collect();
        if odd == [&agent("web-03")] { Ok(list) } else { Err(format!("{list:?}")) }
    })
    .await;
    assert_eq!(list.hosts[3].way.as_deref(), Some("level"), "{list:?}");
    assert!(list.hosts[3].why.contains("above the group"), "{list:?}");
    assert_eq!(list.hosts[6].score, 0.0, "a host without values is compared with nobody");
    let many = OutlierQuery { agents: vec![agent("a"); 1_001], ..question };
    let refused = ask::<_, OutlierList>(&client, subject::QUERY_OUTLIERS, &many).await.unwrap_err();
    assert!(refused.to_string().contains("at most 1000 hosts"), "{refused}");
    ingest.stop().await;
}
