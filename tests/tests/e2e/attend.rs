//! What people do about alerts, from the command line through the bridge to the alerter: what is refused, and why.

use crate::stack::Up;

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
