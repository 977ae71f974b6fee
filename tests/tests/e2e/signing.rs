//! Signed from the operator's file to the host that runs it (G3), every part a real process. How an agent meets a
//! config-service that lies is shown in `agent/tests/it/trust.rs`.

use std::{os::unix::fs::PermissionsExt, process::Command};

use testkit::program;

use crate::stack::Up;

fn check(command: &str) -> String {
    format!("kind: Check\nname: probe\nevery: 1s\ncommand: {command}\n")
}

/// Apply with another signing key, or with none.
fn apply(up: &Up, text: &str, key: Option<&str>, more: &[&str]) -> (Option<i32>, String) {
    let file = up.folder.path().join("documents.yaml");
    std::fs::write(&file, text).expect("write documents");
    let mut command: Command = program::command("dogwatch");
    command.args(["apply", &file.to_string_lossy(), "--yes"]).args(more);
    command.env("DOGWATCH_SERVER", up.url()).env("DOGWATCH_KEY_FILE", up.key_file());
    command.args(key.map(|key| ["--signing-key", key]).into_iter().flatten());
    let output = command.output().expect("run dogwatch");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn problem(up: &Up, reason: &str) {
    let what = format!("the host says {reason:?}");
    up.row(&what, &["hosts"], |host| host["error"].as_str().is_some_and(|error| error.contains(reason)))
        .await;
}

async fn runs(up: &Up, value: f64) {
    up.row("the host is content", &["hosts"], |host| {
        host["error"].is_null() && host["revision_applied"] == host["revision_wanted"]
    })
    .await;
    let what = format!("probe gives {value}");
    up.row(&what, &["results", "--check", "probe", "--since", "3s"], |r| r["value"].as_f64() == Some(value))
        .await;
}

#[tokio::test]
async fn g3_what_is_signed_runs_and_what_is_not_does_not() {
    let up = Up::start(&[]).await;
    let mode = std::fs::metadata(up.signing_key()).expect("a signing key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let host = up.row("the starter documents run", &["hosts"], |h| h["revision_applied"].is_u64()).await;
    assert!(host["error"].is_null() && !host["checks"].as_array().expect("checks").is_empty(), "{host}");

    up.apply(&check("echo 1"));
    runs(&up, 1.0).await;
    let first = up.rows(&["history", "--limit", "1"])[0]["revision"].to_string();

    let evil = up.folder.path().join("evil");
    let touch = format!("touch {}; echo 2", evil.display());
    let (code, said) = apply(&up, &check(&touch), None, &[]);
    assert!(code == Some(0) && said.contains("not signed, since there is no key"), "{said}");
    problem(&up, "probe: refused by this agent: there is no signed document of it").await;
    let unsigned = up.rows(&["history", "--limit", "1"])[0]["revision"].to_string();

    let other = up.folder.path().join("other.key").to_string_lossy().into_owned();
    let public = up.output(&["keygen", &other]);
    assert_eq!(up.output(&["keygen", "--public", &other]), public);
    assert_eq!(up.run(&["keygen", &other]).status.code(), Some(1), "a key is not overwritten");
    let (code, said) = apply(&up, &check(&touch), Some(&other), &["--sign-again"]);
    assert_eq!(code, Some(0), "{said}");
    problem(&up, &format!("key {} is none of those that this host trusts", &public[..12])).await;
    up.row("unknown, and why", &["results", "--check", "probe"], |result| {
        result["status"] == "unknown"
            && result["output"].as_str().is_some_and(|o| o.contains("refused by this"))
    })
    .await;
    assert!(!evil.exists());

    // Back to what was signed: signed anew, for the revision that this makes.
    up.output(&["rollback", &first, "--yes"]);
    runs(&up, 1.0).await;
    let back = up.run(&["rollback", &unsigned, "--yes"]);
    let said = String::from_utf8_lossy(&back.stderr).into_owned();
    assert!(back.status.code() == Some(1) && said.contains("cannot be signed anew"), "{said}");

    // What was applied without a key is signed later, without a change of it.
    assert_eq!(apply(&up, &check("echo 3"), None, &[]).0, Some(0));
    problem(&up, "probe: refused by this agent").await;
    let key = up.signing_key();
    let (code, said) = apply(&up, &check("echo 3"), Some(&key), &["--sign-again"]);
    assert_eq!(code, Some(0), "{said}");
    runs(&up, 3.0).await;

    // Killed and started again it trusts the same key, and the same revisions.
    let accepted = || std::fs::read_to_string(up.folder.path().join("agent/accepted.json")).expect("marks");
    assert!(accepted().contains("\"Check/probe\""));
    let up = up.restart(&[]).await;
    runs(&up, 3.0).await;
    assert!(!evil.exists());
}
