//! PromQL over roll-ups: the same answers as over the results that they were made of, where that can be.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use clap::Parser;
use ingest::{
    core::{parameters::Parameters, plan::Accounts},
    query::Prometheus,
    store::{Commit, Fjall, NewResult, ResultStore, Retention},
};
use protocol::{CheckResult, limits};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// When the results begin: a midnight.
const START: u64 = 20_000 * DAY;
const DAYS: u64 = 6;

fn results() -> Vec<CheckResult> {
    let mut all = Vec::new();
    let mut level = 50_i64;
    // Half a minute off the full hours, so that ranges hold the same results whichever end they leave out.
    for (n, at_ms) in (0..DAYS * DAY / 120_000).map(|n| (n, START + n * 120_000 + 30_000)) {
        level = (level * 31 + 7) % 97;
        for agent in ["a", "b"] {
            let status = if level > 90 { "critical" } else { "ok" };
            let value = if agent == "a" { level as f64 / 10.0 } else { n as f64 };
            let json = format!(
                r#"{{"v":1,"agent":"{agent}","check":"c","seq":{},"epoch":1,"at_ms":{at_ms},"status":"{status}","value":{value:?}}}"#,
                n + 1
            );
            all.push(protocol::decode(json.as_bytes(), limits::RESULT).unwrap());
        }
    }
    all
}

/// Results of so many days are kept, and roll-ups of five minutes of so many.
fn store(folder: &Path, results_days: u32, five_minutes_days: u32) -> Prometheus {
    let store = Fjall::new(folder, 0, Default::default()).unwrap();
    store.recover().unwrap();
    let all = results();
    let day = Duration::from_secs(86_400);
    let retention = Retention {
        hot: Duration::ZERO,
        results: day * results_days,
        five_minutes: day * five_minutes_days,
        hours: day * 1_000,
        max_bytes: u64::MAX,
    };
    for (number, chunk) in all.chunk_by(|a, b| a.at_ms / DAY == b.at_ms / DAY).enumerate() {
        let json: Vec<Vec<u8>> = chunk.iter().map(|result| protocol::encode(result).unwrap()).collect();
        let results = chunk.iter().zip(&json).map(|(result, json)| NewResult { result, json }).collect();
        let now_ms = START + (number as u64 + 1) * DAY;
        let (accounts, ids) = (Accounts::new(), HashSet::new());
        store.commit(&Commit { now_ms, results, accounts: &accounts, ids: &ids }).unwrap();
        store.maintain(now_ms, &retention).unwrap();
    }
    let settings = ingest::Settings::try_parse_from(["t"]).unwrap();
    let (_, hosts) = watch::channel(Arc::default());
    Prometheus::new(Arc::new(store), hosts, &settings, CancellationToken::new())
}

fn ask(prometheus: &Prometheus, query: &str, range: Option<(u64, u64, u64)>) -> (u16, Value) {
    let seconds = |ms: u64| (ms / 1_000).to_string();
    let mut parameters = vec![("query".to_owned(), query.to_owned())];
    let endpoint = match range {
        None => {
            parameters.push(("time".to_owned(), seconds(START + DAY)));
            "query"
        }
        Some((start, end, step)) => {
            for (name, ms) in [("start", start), ("end", end), ("step", step)] {
                parameters.push((name.to_owned(), seconds(ms)));
            }
            "query_range"
        }
    };
    let now_ms = START + DAYS * DAY;
    let canceled = CancellationToken::new();
    let (status, body) = prometheus.answer(endpoint, &Parameters(&parameters), now_ms, &canceled);
    (status, serde_json::from_str(&body).unwrap())
}

/// Numbers of all series and steps, in order.
fn numbers(body: &Value) -> Vec<f64> {
    let mut found = Vec::new();
    for series in body["data"]["result"].as_array().unwrap() {
        let one = std::slice::from_ref(&series["value"]);
        for pair in series["values"].as_array().map_or(one, Vec::as_slice) {
            found.push(pair[1].as_str().unwrap().parse().unwrap());
        }
    }
    found
}

#[test]
fn what_roll_ups_hold_is_answered_as_from_results() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let whole = store(folders[0].path(), 1_000, 2_000);
    let five_minutes = store(folders[1].path(), 2, 1_000);
    let hours = store(folders[2].path(), 2, 0);
    let days = Some((START + DAY, START + DAYS * DAY, 6 * HOUR));
    for (rolled, width) in [(&five_minutes, "five minutes"), (&hours, "an hour")] {
        for (query, tolerance) in [
            ("dogwatch_value", 1e-12),
            ("dogwatch_value offset 2h", 1e-12),
            ("min_over_time(dogwatch_value[3h])", 1e-12),
            ("max_over_time(dogwatch_value[1d])", 1e-12),
            ("sum_over_time(dogwatch_value[6h])", 1e-9),
            ("count_over_time(dogwatch_value[1d])", 1e-12),
            ("avg_over_time(dogwatch_value[1d])", 1e-9),
            ("last_over_time(dogwatch_value[1d])", 1e-12),
            ("present_over_time(dogwatch_value[1d])", 1e-12),
            ("sum by (agent) (avg_over_time(dogwatch_value[2h])) / 2", 1e-9),
            ("max_over_time(dogwatch_status[1d])", 1e-12),
            ("sum_over_time(dogwatch_status[1d])", 1e-9),
            ("avg_over_time(dogwatch_status[1d])", 1e-9),
            // From the last numbers.
            (r#"rate(dogwatch_value{agent="b"}[1d])"#, 0.05),
            (r#"increase(dogwatch_value{agent="b"}[1d])"#, 0.05),
        ] {
            let moments = [None, days];
            for range in moments {
                let ((expected_status, expected), (status, found)) =
                    (ask(&whole, query, range), ask(rolled, query, range));
                assert_eq!((expected_status, status), (200, 200), "{query}: {found}");
                let (expected_numbers, found_numbers) = (numbers(&expected), numbers(&found));
                assert!(!expected_numbers.is_empty(), "{query}");
                assert_eq!(
                    expected_numbers.len(),
                    found_numbers.len(),
                    "{query} {range:?}\n{expected}\n{found}"
                );
                for (expected, found) in expected_numbers.iter().zip(&found_numbers) {
                    let near = (expected - found).abs() <= tolerance * expected.abs().max(1e-3);
                    assert!(near, "{query} {range:?}: {found} instead of {expected}");
                }
                assert_eq!(expected.get("warnings"), None);
                let warning = found["warnings"][0].as_str().unwrap_or_default();
                assert!(warning.contains(width), "{query}: {warning:?} does not name {width}");
            }
        }
        let (status, found) = ask(rolled, "quantile_over_time(0.9, dogwatch_value[1d])", days);
        assert_eq!((status, &found["errorType"]), (422, &"execution".into()), "{found}");
        // What is kept one by one is read one by one.
        let last = Some((START + (DAYS - 1) * DAY, START + DAYS * DAY, HOUR));
        let query = "quantile_over_time(0.9, dogwatch_value[1h])";
        assert_eq!(ask(rolled, query, last), ask(&whole, query, last));
    }
}
