//! Receivers from the command line: tried, listed, and their secrets nowhere but in their file.

use testkit::WebhookSink;

use crate::stack::Up;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAAAAAAAAA=";

// The sink answers while a command is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_tried_and_its_secrets_stand_in_no_document() {
    let up = Up::start(&["--empty", "--no-agent"]).await;
    let sink = WebhookSink::start().await;
    let secrets = up.folder.path().join("secrets");
    std::fs::create_dir(&secrets).expect("a folder");
    std::fs::write(secrets.join("hook_key"), format!("{SECRET}\n")).expect("a secret");
    std::fs::write(secrets.join("token"), "s3cret-token").expect("a secret");
    up.apply(&format!(
        "kind: Receiver\nname: me\nwebhook:\n  url: {}\n  sign: [{{file: hook_key}}]\n  bearer: {{file: token}}\n",
        sink.url()
    ));
    let tested = up.output(&["receiver", "test", "me"]);
    assert!(tested.contains("webhook-signature: ***") && tested.contains("--- 200 after"), "{tested}");
    let came = sink.received().remove(0);
    assert_eq!(came.headers["authorization"], "Bearer s3cret-token");
    assert!(came.headers["webhook-signature"].to_str().expect("text").starts_with("v1,"));
    let seen =
        [tested, up.output(&["export"]), up.output(&["history", "-o", "json"]), up.program.stderr()].concat();
    assert!(!seen.contains("s3cret") && !seen.contains("MfKQ9r8"), "{seen}");

    sink.answer(&[404]);
    let refused = up.run(&["receiver", "test", "me"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("--- 404 after"));
    for (args, code, reason) in [
        (vec!["receiver", "test", "nobody"], 1, "there is no receiver nobody"),
        (vec!["notifications", "retry"], 2, "not provided:\n  <ID>..."),
        (vec!["notifications", "retry", "x", "--all"], 2, "cannot be used with"),
        (vec!["notifications", "retry", "x"], 1, "there is no dead letter of that id"),
        (vec!["notifications", "drop", "x"], 1, "there is none of that id"),
    ] {
        let output = up.run(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(reason), "{args:?}: {said}");
    }
    up.output(&["notifications", "drop", "--all"]);
    assert_eq!(up.rows(&["notifications", "list"]).len(), 0);

    // A viewer may look and not touch.
    let key = up.folder.path().join("viewer.key");
    std::fs::write(&key, up.output(&["key", "create", "--role", "viewer"])).expect("write the key");
    let key = key.to_string_lossy();
    up.output(&["notifications", "list", "--key-file", &key]);
    for args in [vec!["receiver", "test", "me"], vec!["notifications", "drop", "--all"]] {
        let output = up.run(&[args, vec!["--key-file", &key]].concat());
        assert!(String::from_utf8_lossy(&output.stderr).contains("editor"), "{output:?}");
    }
}
