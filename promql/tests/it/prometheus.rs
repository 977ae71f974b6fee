//! The same query over the same samples: the same answer as the real Prometheus gives.

use promql::{Query, evaluate, json, parse};
use serde_json::Value;

use crate::{
    data::{HOUR, Memory, START, at, fleet, meter, over},
    peer::Prometheus,
};

/// One query a line.
const CORPUS: &str = include_str!("corpus.promql");

fn ours(text: &str, query: &Query, source: &Memory) -> (u16, Value) {
    let answer = parse(text).and_then(|expression| evaluate(&expression, query, source, &meter()));
    let (status, body) = match answer {
        Ok(answer) => (200, json::answer(&answer, &[])),
        Err(error) => (error.status(), json::error(&error)),
    };
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn the_same_answers_as_prometheus() {
    let samples = fleet();
    let Some(peer) = Prometheus::start(&samples) else {
        eprintln!("NOT TESTED: answers like those of Prometheus. Install it: apt-get install prometheus");
        return;
    };
    let source = Memory(samples);
    let mut wrong = Vec::new();
    let mut asked = 0;
    for text in CORPUS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let moments = [START + 2 * HOUR, START + HOUR + 777_777].map(at);
        let ranges = [
            over(START + 600_000, START + 3 * HOUR + 600_000, 77_000),
            over(START - 300_000, START + 2 * HOUR, 60_000),
            over(START + HOUR, START + HOUR + 60_000, 1_000),
        ];
        for query in moments.into_iter().chain(ranges) {
            let query = Query { semantics: peer.semantics, ..query };
            let mut parameters = vec![("query", text.to_owned())];
            let path = match query.step_ms {
                None => {
                    parameters.push(("time", seconds(query.start_ms)));
                    "/api/v1/query"
                }
                Some(step) => {
                    parameters.push(("start", seconds(query.start_ms)));
                    parameters.push(("end", seconds(query.end_ms)));
                    parameters.push(("step", seconds(step)));
                    "/api/v1/query_range"
                }
            };
            let (expected_status, expected) = peer.ask(path, &parameters);
            let (status, found) = ours(text, &query, &source);
            asked += 1;
            if let Some(difference) = difference((status, &found), (expected_status, &expected), text) {
                wrong.push(format!("{text}\n    {parameters:?}\n    {difference}"));
            }
        }
    }
    let shown: Vec<&String> = wrong.iter().take(40).collect();
    assert!(wrong.is_empty(), "{} of {asked} answers differ:\n{shown:#?}", wrong.len());
    assert!(asked >= 1_000, "only {asked} were asked");
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// What differs, if anything. The text of an error is ours; its kind is not.
fn difference(found: (u16, &Value), expected: (u16, &Value), text: &str) -> Option<String> {
    let fail = |what: &str| {
        Some(format!("{what}: ours {} {}, theirs {} {}", found.0, cut(found.1), expected.0, cut(expected.1)))
    };
    if found.0 != expected.0 || found.1["errorType"] != expected.1["errorType"] {
        return fail("status");
    }
    if found.0 != 200 {
        return None;
    }
    let (found_data, expected_data) = (&found.1["data"], &expected.1["data"]);
    if found_data["resultType"] != expected_data["resultType"] {
        return fail("type");
    }
    let (ours, theirs) = (&found_data["result"], &expected_data["result"]);
    if matches!(found_data["resultType"].as_str(), Some("scalar" | "string")) {
        return if same_pair(ours, theirs) { None } else { fail("value") };
    }
    let ordered = text.starts_with("sort") || text.starts_with("topk") || text.starts_with("bottomk");
    let (ours, theirs) = (list(ours, ordered), list(theirs, ordered));
    if ours.len() != theirs.len() {
        return fail("series");
    }
    for (ours, theirs) in ours.iter().zip(&theirs) {
        if ours["metric"] != theirs["metric"] {
            return fail("labels");
        }
        let pairs =
            |one: &Value| one["values"].as_array().cloned().unwrap_or_else(|| vec![one["value"].clone()]);
        let (our_pairs, their_pairs) = (pairs(ours), pairs(theirs));
        let differ = our_pairs.iter().zip(&their_pairs).find(|(a, b)| !same_pair(a, b));
        if let Some((a, b)) = differ {
            return Some(format!("{} ours {a}, theirs {b}", ours["metric"]));
        }
        if our_pairs.len() != their_pairs.len() {
            return Some(format!(
                "{} ours {} values, theirs {}",
                ours["metric"],
                our_pairs.len(),
                their_pairs.len()
            ));
        }
    }
    None
}

fn list(result: &Value, ordered: bool) -> Vec<Value> {
    let mut list = result.as_array().cloned().unwrap_or_default();
    if !ordered {
        list.sort_by_key(|one| one["metric"].to_string());
    }
    list
}

fn same_pair(ours: &Value, theirs: &Value) -> bool {
    let number = |text: &str| match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap_or(f64::NAN),
    };
    if ours[0] != theirs[0] {
        return false;
    }
    let (Some(a), Some(b)) = (ours[1].as_str(), theirs[1].as_str()) else { return ours == theirs };
    if a == b {
        return true;
    }
    let (a, b) = (number(a), number(b));
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3)
}

fn cut(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}
