//! `deploy/shell-agent.sh`, as it is shipped.

use std::{path::Path, process::Output};

use protocol::{Scalar, Status, admin::Role};
use serde_json::json;
use tokio::process::Command;

use crate::harness::{Bridge, key};

async fn run(bridge: &Bridge, key: &str, second_port: bool) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, format!("{key}\n")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/shell-agent.sh");
    let mut command = Command::new(script);
    command.env("DOGWATCH_SERVER", format!("http://{}/", bridge.http)).env("DOGWATCH_API_KEY_FILE", key_file);
    if second_port {
        command.env("DOGWATCH_SUBMIT_URL", format!("http://{}/api/submit", bridge.submit));
    }
    command.output().await.unwrap()
}

#[tokio::test]
async fn g9_the_shipped_script_is_a_full_agent() {
    let bridge = Bridge::start().await;
    let check = |name: &str, command: &str, output: &str| {
        json!({"name": name, "command": command, "every_ms": 1000, "timeout_ms": 1000, "output": output,
               "warning": "> 10"})
    };
    let config = json!({"revision": 1, "etag": "e1", "checks": [
        check("number", "echo 12", "number"),
        check("quotes", "printf '%s\\n' \"it's\" '\"two\"'; cat", "text"),
        check("slow", "sleep 60", "number"),
        check("nagios", "echo 'DISK CRITICAL'; exit 2", "nagios"),
        check("broken", "no-such-command-anywhere", "number"),
    ]});
    *bridge.script.config.lock().unwrap() = Some(serde_json::from_value(config).unwrap());
    for second_port in [false, true] {
        let output = run(&bridge, &key(Role::Agent), second_port).await;
        assert!(output.status.success(), "{output:?}");
    }
    let results = bridge.results().await;
    let seen: Vec<_> =
        results.iter().map(|result| (result.check.as_str(), result.status, result.value.clone())).collect();
    let text = |text: &str| Some(Scalar::Text(text.into()));
    let expected = [
        ("number", Status::Warning, Scalar::number(12.0)),
        ("quotes", Status::Ok, text("it's\n\"two\"")),
        ("slow", Status::Unknown, text("no result within 1 s")),
        ("nagios", Status::Critical, text("DISK CRITICAL")),
        ("broken", Status::Unknown, text("")),
    ];
    assert_eq!(seen, [expected.clone(), expected].concat());
}

#[tokio::test]
async fn the_script_says_what_is_wrong() {
    let bridge = Bridge::start().await;
    let output = run(&bridge, "dw_wrong", false).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("no configuration: status 401: the key is unknown, revoked or expired"),
        "{stderr}"
    );
    assert!(!stderr.contains("dw_wrong"), "{stderr}");
    let output = run(&bridge, "", false).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
