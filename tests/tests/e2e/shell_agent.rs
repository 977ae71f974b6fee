//! The documented HTTP endpoints, as shell scripts use them (G9).

use std::process::Command;

use crate::stack::Up;

/// The whole agent that the HTTP contract promises: curl, jq and bash.
const TEN_LINES: &str = r#"
set -eu
curl -sf -H "X-API-Key: $KEY" "$SERVER/api/agent/config" | jq -c '.checks[]' | while read -r check; do
  name=$(jq -r .name <<<"$check"); command=$(jq -r .command <<<"$check")
  output=$(bash -c "$command" || true)
  jq -n --arg field "$name" --arg value "$output" '{$field, $value}' |
    curl -sf -H "X-API-Key: $KEY" -H 'Content-Type: application/json' -d @- "$SUBMIT/api/submit"
done
"#;

const DOCUMENTS: &str = r#"
kind: Check
name: answer
every: 1m
hosts: labels.role == "old"
command: echo 42
warning: "> 40"
---
kind: Check
name: kernel
every: 1m
hosts: labels.role == "old"
command: uname -r
output: text
---
kind: Check
name: not_for_scripts
every: 1m
hosts: labels.role == "old"
builtin: load
---
kind: Check
name: not_for_this_host
every: 1m
hosts: labels.role == "new"
command: echo 1
"#;

async fn up_with_key() -> (Up, String) {
    let up = Up::start(&["--empty", "--no-agent"]).await;
    up.apply(DOCUMENTS);
    let key = up.output(&["key", "create", "--role", "agent", "--agent", "old-01", "--label", "role=old"]);
    (up, key.trim().to_owned())
}

#[tokio::test]
async fn g9_ten_lines_of_shell_are_an_agent_on_both_ports() {
    let (up, key) = up_with_key().await;
    for port in [up.http, up.submit] {
        let status = Command::new("bash")
            .args(["-c", TEN_LINES])
            .env("KEY", &key)
            .env("SERVER", up.url())
            .env("SUBMIT", format!("http://{port}"))
            .status()
            .expect("run bash");
        assert!(status.success());
    }
    let answers = ["results", "--agent", "old-01", "--check", "answer"];
    let answer = up.row("a stored submission", &answers, |_| true).await;
    assert_eq!((&answer["value"], &answer["origin"]), (&42.into(), &"http".into()));
    let kernel = up.row("a text", &["results", "--check", "kernel"], |_| true).await;
    let uname = Command::new("uname").arg("-r").output().expect("uname").stdout;
    assert_eq!(
        kernel["value"].as_str(),
        String::from_utf8(uname).ok().map(|s| s.trim().to_owned()).as_deref()
    );
    for check in ["not_for_scripts", "not_for_this_host"] {
        assert!(up.rows(&["results", "--check", check]).is_empty(), "{check}");
    }
}

#[tokio::test]
async fn g9_the_shipped_script_works_as_it_is() {
    let (up, key) = up_with_key().await;
    let file = up.folder.path().join("old-01.key");
    std::fs::write(&file, &key).expect("write the key");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/shell-agent.sh");
    let run = |key_file: &std::path::Path| {
        Command::new("bash")
            .arg(&script)
            .env("DOGWATCH_SERVER", up.url())
            .env("DOGWATCH_API_KEY_FILE", key_file)
            .output()
            .expect("run the script")
    };
    let output = run(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for check in ["answer", "kernel"] {
        up.row(&format!("a result of {check}"), &["results", "--agent", "old-01", "--check", check], |_| {
            true
        })
        .await;
    }

    let wrong = up.folder.path().join("wrong.key");
    std::fs::write(&wrong, "dw_wrong").expect("write the key");
    let output = run(&wrong);
    assert!(!output.status.success(), "a wrong key must fail");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("401"), "{said}");
}
