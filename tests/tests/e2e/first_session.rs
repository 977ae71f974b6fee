//! What a newcomer does in the first ten minutes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{WebhookSink, eventually};

use crate::{SOON, stack::Up};

#[tokio::test]
async fn the_first_start_shows_results_within_seconds_and_a_second_start_keeps_them() {
    let mut up = Up::start(&[]).await;
    let ready = up
        .program
        .stdout()
        .lines()
        .find(|line| line.starts_with("ready"))
        .expect("the ready line")
        .to_owned();
    assert!(ready.contains(&up.url()), "{ready}");

    let since = Instant::now();
    for check in ["cpu", "disk", "load", "memory", "uptime"] {
        let row = up.row(&format!("a result of {check}"), &["results", "--check", check], |_| true).await;
        for field in
            ["v", "agent", "check", "seq", "at_ms", "status", "value", "duration_ms", "revision", "origin"]
        {
            assert!(row.get(field).is_some(), "no {field} in {row}");
        }
        assert_eq!(row["origin"], "agent");
    }
    assert!(since.elapsed() < Duration::from_secs(15), "results took {:?}", since.elapsed());

    // G8: every host says what it runs.
    let host = up
        .row("the host runs what is wanted", &["hosts"], |host| {
            host["revision_applied"] == host["revision_wanted"]
        })
        .await;
    assert_eq!(host["facts"]["os"], std::env::consts::OS);
    let package_manager = &host["facts"]["package_manager"];
    let os_updates: Vec<Value> =
        up.rows(&["checks"]).into_iter().filter(|c| c["name"] == "os_updates").collect();
    assert_eq!(os_updates.len(), 1);
    assert_eq!(os_updates[0]["variants"].as_array().map(Vec::len), Some(7));
    let runs = host["checks"].as_array().expect("checks").contains(&json!("os_updates"));
    assert_eq!(runs, !package_manager.is_null(), "{host}");

    let before = up.rows(&["results"]).len();
    let (code, stderr) = up.interrupt().await;
    assert_eq!(code, Some(0), "{stderr}");
    let up = up.restart(&[]).await;
    let results = up.rows(&["results"]);
    assert!(results.len() >= before, "{before} results before the restart, {} after it", results.len());
    let loss = up.rows(&["audit", "loss"]);
    assert!(loss.iter().all(|row| row["missing"] == 0 && row["lost"] == 0), "{loss:?}");
}

#[tokio::test]
async fn empty_means_empty_and_no_agent_means_no_host() {
    let up = Up::start(&["--empty", "--no-agent"]).await;
    assert_eq!(up.rows(&["checks"]), [] as [Value; 0]);
    assert_eq!(up.rows(&["hosts"]), [] as [Value; 0]);
}

/// From a document to a webhook and back: the agent asks, runs, publishes; ingest stores; a rule fires and resolves.
#[tokio::test]
async fn a_changed_document_is_followed_and_a_rule_calls_the_webhook_and_calls_it_off() {
    let up = Up::start(&["--empty"]).await;
    let sink = WebhookSink::start().await;
    let documents = |command: &str| {
        format!(
            "kind: Check\nname: queue\nevery: 1s\ncommand: {command}\nunit: jobs\n---\n\
             kind: Rule\nname: queue_long\ncheck: queue\nwhen: value > 90\nseverity: critical\nnotify: [ops]\n---\n\
             kind: Receiver\nname: ops\nwebhook:\n  url: {}\n",
            sink.url()
        )
    };
    up.apply(&documents("echo 5"));
    up.row("a result", &["results", "--check", "queue"], |row| row["value"] == 5).await;
    assert_eq!(up.rows(&["alerts"]), [] as [Value; 0]);

    let changed = Instant::now();
    up.apply(&documents("echo 95.5"));
    let row =
        up.row("the changed check runs", &["results", "--check", "queue"], |row| row["value"] == 95.5).await;
    assert_eq!(row["unit"], "jobs");
    assert!(changed.elapsed() < Duration::from_secs(4), "followed after {:?}", changed.elapsed());
    let told = |count: usize| {
        let sink = &sink;
        async move {
            eventually("the webhook is called", SOON, || async {
                let received = sink.received();
                if received.len() == count { Ok(received) } else { Err(format!("{received:?}")) }
            })
            .await
        }
    };
    let firing = told(1).await.remove(0);
    assert_eq!(firing.body["state"], "firing");
    assert_eq!(firing.body["rule"], "queue_long");
    assert_eq!(firing.body["severity"], "critical");
    assert_eq!(firing.body["value"], 95.5);
    up.row("the alert is listed", &["alerts"], |alert| alert["state"] == "firing").await;

    up.apply(&documents("echo 5"));
    let resolved = told(2).await.remove(1);
    assert_eq!(resolved.body["state"], "resolved");
    assert_eq!(resolved.body["id"], firing.body["id"], "the same alert");
    assert_ne!(resolved.headers["webhook-id"], firing.headers["webhook-id"], "another message");
    eventually("the list is empty again", SOON, || async {
        let rows = up.rows(&["alerts"]);
        if rows.is_empty() { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
}

#[tokio::test]
async fn tables_are_for_people_and_json_and_yaml_for_programs() {
    let up = Up::start(&[]).await;
    up.row("a result", &["results", "--check", "load"], |_| true).await;
    for command in ["hosts", "checks", "results", "alerts"] {
        let table = up.output(&[command]);
        assert!(!table.contains('{'), "{table}");
        for line in up.output(&[command, "-o", "json"]).lines() {
            serde_json::from_str::<Value>(line).expect("one JSON object per line");
        }
        up.output(&[command, "-o", "yaml"]);
    }
    let key = up.output(&["key", "create", "--role", "viewer"]);
    assert_eq!(key.lines().count(), 1, "the key alone: {key}");
    let id =
        up.rows(&["key", "list"]).iter().find(|k| k["role"] == "viewer").expect("the new key")["id"].clone();
    up.output(&["key", "revoke", id.as_str().expect("an id")]);
    up.row("the key is revoked", &["key", "list"], |k| k["id"] == id && k["revoked_ms"].is_u64()).await;
}
