//! What people do about an alert, from the command line through the bridge to the alerter: silence, acknowledge, ask why.

use serde_json::{Value, json};
use testkit::{WebhookSink, eventually};

use crate::{SOON, stack::Up};

#[tokio::test]
async fn g5_an_alert_is_silenced_acknowledged_explained_and_told_when_the_silence_is_over() {
    let up = Up::start(&["--empty"]).await;
    let sink = WebhookSink::start().await;
    let silence = up.rows(&[
        "silence",
        "add",
        "--name",
        "work",
        "--rule",
        "queue_long",
        "--for",
        "2h",
        "--comment",
        "new disk",
    ]);
    assert_eq!((&silence[0]["name"], &silence[0]["active"]), (&json!("work"), &json!(true)));
    assert!(silence[0]["author"].as_str().is_some_and(|author| !author.is_empty()), "{silence:?}");
    up.apply(&format!(
        "kind: Check\nname: queue\nevery: 1s\ncommand: echo 95\nunit: jobs\n---\n\
         kind: Rule\nname: queue_long\ncheck: queue\nwhen: value > 90\nseverity: critical\nnotify: [ops]\n---\n\
         kind: Receiver\nname: ops\nwebhook:\n  url: {}\n---\n\
         kind: Silence\nname: night\nchecks: [queue]\nstarts: 2099-01-01T00:00:00Z\nends: 2099-01-02T00:00:00Z\n",
        sink.url()
    ));

    let alert = up.row("the alert fires, muted", &["alerts"], |alert| alert["state"] == "firing").await;
    assert_eq!(alert["muted"], "silence work (new disk)");
    let id = alert["id"].as_str().expect("an id").to_owned();
    let short = &id[..8];

    let acknowledged = up.rows(&["alert", "ack", short, "--for", "2h", "--note", "on it"]);
    assert_eq!(acknowledged[0]["acknowledged"]["note"], "on it");
    assert_eq!(up.rows(&["alerts"])[0]["acknowledged"]["note"], "on it");
    assert!(up.output(&["alert", "ack", short, "--undo"]).contains("no more"));
    assert_eq!(up.rows(&["alerts"])[0].get("acknowledged"), None);

    let names = |rows: &[Value]| rows.iter().map(|row| row["name"].clone()).collect::<Vec<_>>();
    up.row("the silence of the document", &["silence", "list"], |row| row["document"] == true).await;
    let mut listed = names(&up.rows(&["silence", "list"]));
    listed.sort_by_key(ToString::to_string);
    assert_eq!(listed, ["night", "work"]);
    let refused = up.run(&["silence", "expire", "night"]);
    assert_eq!(refused.status.code(), Some(1), "a document's silence ends with the document: {refused:?}");
    assert_eq!(sink.received().len(), 0, "nobody is told while it is muted");

    assert_eq!(up.rows(&["silence", "expire", "work"])[0]["active"], false);
    let why = eventually("told, and accepted", SOON, || async {
        let why = up.try_rows(&["why", short])?.remove(0);
        let delivered = why["notifications"][0]["state"] == "delivered";
        if delivered { Ok(why) } else { Err(why.to_string()) }
    })
    .await;
    assert_eq!(sink.received().len(), 1);
    assert_eq!(sink.received()[0].body["id"], *id);
    assert_eq!(why["notifications"][0]["receiver"], "ops");
    let journal: Vec<&str> = why["journal"]
        .as_array()
        .expect("a journal")
        .iter()
        .filter_map(|entry| entry["text"].as_str())
        .collect();
    let wanted = [
        "firing, and nobody is told: silence work (new disk): ",
        "acknowledged by key ",
        "the acknowledgement was taken back",
        "told now: what muted it is over",
    ];
    assert_eq!(journal.len(), wanted.len(), "{journal:?}");
    for (text, wanted) in journal.iter().zip(wanted) {
        assert!(text.starts_with(wanted), "{journal:?}");
    }
    let table = up.output(&["why", &id]);
    assert!(table.contains("told now: what muted it is over") && table.contains("delivered"), "{table}");
}

#[tokio::test]
async fn what_cannot_be_done_about_alerts_is_refused_with_a_reason() {
    let up = Up::start(&["--empty", "--no-agent"]).await;
    let refused = |args: &[&str], code: i32, reason: &str| {
        let output = up.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(reason), "{args:?}: {said}");
    };
    refused(&["why", "nosuch"], 1, "nosuch");
    refused(&["alert", "ack", "nosuch"], 1, "nosuch");
    refused(&["silence", "add", "--rule", "queue_long"], 2, "--for 2h");
    refused(&["silence", "add", "--for", "2h"], 1, "names hosts, checks or rules");
    refused(&["silence", "add", "--hosts", "agnt == 1", "--for", "2h"], 1, "agnt");
    refused(&["silence", "expire", "nosuch"], 1, "nosuch");
    // A viewer may look and not touch.
    let key = up.folder.path().join("viewer.key");
    std::fs::write(&key, up.output(&["key", "create", "--role", "viewer"])).expect("write the key");
    let key = key.to_string_lossy();
    up.output(&["silence", "list", "--key-file", &key]);
    refused(&["silence", "add", "--rule", "r", "--for", "2h", "--key-file", &key], 1, "editor");
    refused(&["alert", "ack", "x", "--key-file", &key], 1, "editor");
}
