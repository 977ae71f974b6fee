//! `dogwatch audit loss` against a scripted bridge.

use std::collections::HashMap;

use axum::{Json, Router, extract::Query, routing::get};
use serde_json::{Value, json};
use testkit::program;

/// Two pages, one agent each.
async fn page(Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let line = |agent: &str| {
        json!({"agent": agent, "epoch": 5, "highest": 9, "stored": 5, "duplicates": 1, "missing": 1, "lost": 1, "expected": 9,
            "late": 2, "rejected": {"ahead": 2}, "gaps": [{"first": 3, "last": 6, "seen_ms": 1_000, "filled": 2, "missing": 1, "lost": 1}]})
    };
    Json(match query.get("after").map(String::as_str) {
        None => json!({"agents": [line("a-1")], "next": "a-1"}),
        Some(_) => json!({"agents": [line("a-2")]}),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_losses_is_shown_with_its_gaps() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/api/v1/loss", get(page));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "dw_test\n").unwrap();
    let run = async |args: &[&str]| {
        let mut command = program::command("dogwatch");
        command.args(["audit", "loss"]).args(args).env("DOGWATCH_SERVER", &server);
        command.env("DOGWATCH_KEY_FILE", folder.path().join("key"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    };
    let (table, said) = run(&[]).await;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("2 ahead") && table.contains("1, the last open one 3 to 6, seen"), "{table}");
    assert_eq!(said, "2 missing, 2 lost of 18 expected\n");
    let (lines, said) = run(&["-o", "json"]).await;
    let agents: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["agent"].clone()).collect();
    assert_eq!((agents, said.as_str()), (vec![json!("a-1"), json!("a-2")], ""));
    let (gaps, _) = run(&["--gaps", "-o", "json"]).await;
    let first: Value = serde_json::from_str(gaps.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["agent"], &first["first"], &first["last"], &first["lost"]),
        (&json!("a-1"), &json!(3), &json!(6), &json!(1))
    );
}
