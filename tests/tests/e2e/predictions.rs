//! Rules that look ahead and rules that know what is usual, from the command line to the webhook, over restarts.

use std::process::Command;

use serde_json::{Value, json};
use testkit::{WebhookSink, eventually};

use crate::{SOON, stack::Up};

const MINUTE_MS: u64 = 60_000;

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("milliseconds")
}

/// Submit values as a script does, as many as fit into one request at a time.
fn submit(up: &Up, key: &str, field: &str, values: &[(u64, f64)]) {
    for part in values.chunks(1_000) {
        let body: Vec<Value> =
            part.iter().map(|(at, value)| json!({"field": field, "value": value, "at": at})).collect();
        let file = up.folder.path().join("submission.json");
        std::fs::write(&file, Value::from(body).to_string()).expect("write the submission");
        let status = Command::new("curl")
            .args(["-sf", "-H", "Content-Type: application/json", "-H", &format!("X-API-Key: {key}"), "-d"])
            .arg(format!("@{}", file.display()))
            .arg(format!("http://{}/api/submit", up.submit))
            .status()
            .expect("run curl");
        assert!(status.success(), "{field}: {status}");
    }
}

/// Between -1 and 1, the same in every run.
fn noise(n: u64) -> f64 {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// A disk that fills by 6 % a day and is at 85 % now: full in 40 hours.
fn disk(now: u64, minutes_ago: u64) -> (u64, f64) {
    let days = minutes_ago as f64 / 1440.0;
    (now - minutes_ago * MINUTE_MS, 85.0 - 6.0 * days + 0.05 * noise(minutes_ago))
}

/// A load that follows the day.
fn load(now: u64, minutes_ago: u64) -> (u64, f64) {
    let days = minutes_ago as f64 / 1440.0;
    let value = 4.0 + 2.0 * (std::f64::consts::TAU * days).sin() + 0.1 * noise(minutes_ago);
    (now - minutes_ago * MINUTE_MS, value)
}

fn documents(sink: &WebhookSink, more: &str) -> String {
    let checks = ["disk_used", "load", "calm_load"]
        .map(|name| format!("kind: Check\nname: {name}\nevery: 1h\nhosts: 'false'\ncommand: 'true'\n---\n"));
    let rule = |name: &str, check: &str, when: &str| {
        format!("kind: Rule\nname: {name}\ncheck: {check}\nwhen: {when}\nnotify: [ops]\n---\n")
    };
    let mut all = checks.concat();
    all.push_str(&rule("odd_load", "load", "anomaly() > 0.9"));
    all.push_str(&rule("odd_calm_load", "calm_load", "anomaly() > 0.9"));
    if !more.is_empty() {
        all.push_str(&rule("disk_fills", "disk_used", more));
        all.push_str(&rule("load_fills", "calm_load", more));
    }
    format!("{all}kind: Receiver\nname: ops\nwebhook:\n  url: {}\n", sink.url())
}

#[tokio::test]
async fn a_filling_disk_and_an_odd_value_are_told_and_a_restart_in_between_forgets_nothing() {
    const EVERY: u64 = 10;
    const VALUES: u64 = 8 * 144;
    let sink = WebhookSink::start().await;
    let up = Up::start(&["--empty", "--no-agent"]).await;
    up.apply(&documents(&sink, ""));
    let key = up.output(&["key", "create", "--role", "agent", "--agent", "web-01"]).trim().to_owned();
    let now = now_ms();
    let history: Vec<u64> = (1..=VALUES).rev().map(|n| n * EVERY).collect();
    let values = |of: fn(u64, u64) -> (u64, f64), minutes: &[u64]| -> Vec<(u64, f64)> {
        minutes.iter().map(|ago| of(now, *ago)).collect()
    };
    submit(&up, &key, "disk_used", &values(disk, &history[history.len() - 500..]));
    let (before, after) = history.split_at(history.len() / 2);
    for check in ["load", "calm_load"] {
        submit(&up, &key, check, &values(load, before));
    }
    // Killed, wherever it stands.
    let up = up.restart(&["--empty", "--no-agent"]).await;
    for check in ["load", "calm_load"] {
        submit(&up, &key, check, &values(load, after));
    }
    let limit = ["predict", "web-01", "disk_used", "--limit", "> 95"];
    let predicted = up.row("when the disk is full", &limit, |row| row["time_to"]["hours"].is_number()).await;
    let hours = predicted["time_to"]["hours"].as_f64().expect("hours");
    assert!((40.0 / 1.25..40.0 * 1.25).contains(&hours), "{hours} hours: {predicted}");
    let drawn = up.output(&limit);
    assert!(drawn.contains("^ now") && drawn.contains("> 95: in "), "{drawn}");

    up.apply(&documents(&sink, "time_to(\"> 95\") < 72"));
    // A rule asks for its forecast from the first result on that it judges.
    let told = eventually("the disk is told", SOON, || async {
        let at = now_ms();
        submit(&up, &key, "disk_used", &[(at, 85.0)]);
        submit(&up, &key, "calm_load", &[(at, load(now, 0).1)]);
        sink.received().first().cloned().ok_or("nothing")
    })
    .await;
    assert_eq!((&told.body["rule"], &told.body["state"]), (&json!("disk_fills"), &json!("firing")));
    let summary = told.body["summary"].as_str().expect("a summary");
    assert!(summary.contains("time_to(\"> 95\") is in "), "{summary}");
    let why = up.rows(&["why", told.body["id"].as_str().expect("an id")]).remove(0);
    assert_eq!(why["predictions"][0]["call"], "time_to(\"> 95\")");
    assert!(why["predictions"][0]["why"].as_str().is_some_and(|why| why.contains("a day")), "{why}");

    submit(&up, &key, "load", &[(now_ms(), load(now, 0).1)]);
    submit(&up, &key, "load", &[(now_ms(), 60.0)]);
    let told = eventually("the odd value is told", SOON, || async {
        sink.received().get(1).cloned().ok_or("nothing")
    })
    .await;
    assert_eq!((&told.body["rule"], &told.body["state"]), (&json!("odd_load"), &json!("firing")));
    let summary = told.body["summary"].as_str().expect("a summary");
    // All values of before and after the restart, and the usual one.
    assert!(summary.contains(&format!("60.0000 is above all {} values before", VALUES + 1)), "{summary}");
    let rows = up.rows(&["alerts"]);
    assert_eq!(rows.len(), 2, "what is quiet raises nothing: {rows:?}");
}
