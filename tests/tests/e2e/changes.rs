//! What an operator does with documents: look before, change, look back, go back.

use std::path::Path;

use crate::stack::Up;

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("write");
    path.to_string_lossy().into_owned()
}

/// Standard output, and the exit code.
fn run(up: &Up, args: &[&str]) -> (String, Option<i32>) {
    let output = up.run(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code().is_some_and(|code| code != 1), "{args:?}: {said}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

#[tokio::test]
async fn plan_apply_export_history_diff_and_rollback() {
    let up = Up::start(&["--empty"]).await;
    up.row("the host", &["hosts"], |_| true).await;
    let folder = up.folder.path().join("checks");
    std::fs::create_dir(&folder).expect("a folder");
    let checks = folder.to_string_lossy().into_owned();
    let check = folder.join("load.yaml");
    write(&check, "kind: Check\nname: load\nevery: 10s\nbuiltin: load\nwarning: \"> 90\"\n");

    let (plan, code) = run(&up, &["plan", &checks]);
    assert_eq!(code, Some(2), "{plan}");
    assert!(plan.starts_with("documents  1 created, 0 changed, 0 deleted, 0 unchanged\nhosts      1 runs something else: 1 check gained, 0 lost, 0 changed\n"), "{plan}");
    assert!(up.rows(&["checks"]).is_empty());
    run(&up, &["apply", &checks, "--yes", "-m", "first"]);
    assert_eq!(run(&up, &["plan", &checks]).1, Some(0));

    write(
        &check,
        "kind: Check\nname: load\nevery: 30s\nbuiltin: load\n---\nkind: Check\nname: cpu\nevery: 10s\nbuiltin: cpu\n",
    );
    let (details, _) = run(&up, &["plan", &checks, "--details"]);
    for part in [
        "changed    Check load",
        "every: \"10s\" → \"30s\"",
        "warning: \"> 90\" → nothing",
        "host ",
        "+cpu ~load",
    ] {
        assert!(details.contains(part), "no {part:?} in {details}");
    }
    run(&up, &["apply", &checks, "--yes", "-m", "slower"]);

    let host = up.row("the host", &["hosts"], |_| true).await;
    let (why, _) = run(&up, &["explain", host["agent"].as_str().expect("an id"), "load"]);
    assert!(
        why.contains(
            " runs load\nhosts      yes        every host\nruns       built-in load\nevery      30s"
        ),
        "{why}"
    );

    // What is exported applies to no change, and prune finds nothing to delete.
    let exported = up.folder.path().join("exported").to_string_lossy().into_owned();
    run(&up, &["export", &exported]);
    assert_eq!(run(&up, &["plan", &exported, "--prune"]).1, Some(0));
    assert_eq!(up.run(&["export", &exported]).status.code(), Some(2), "not over what is there");
    assert!(run(&up, &["export"]).0.contains("name: cpu"));

    let history = up.rows(&["history"]);
    assert_eq!(
        (history[0]["message"].as_str(), history[1]["message"].as_str()),
        (Some("slower"), Some("first"))
    );
    let first = history[1]["revision"].to_string();
    let (diff, _) = run(&up, &["diff", &first]);
    assert!(
        diff.contains("created    Check cpu\nchanged    Check load\n             every: \"10s\" → \"30s\""),
        "{diff}"
    );

    run(&up, &["rollback", &first, "--yes"]);
    let now = up.rows(&["checks"]);
    assert_eq!((now.len(), now[0]["every"].as_str()), (1, Some("10s")));
    let host = up
        .row("the host follows", &["hosts"], |h| {
            h["revision_applied"] == h["revision_wanted"] && h["checks"] == serde_json::json!(["load"])
        })
        .await;
    assert_eq!(host["error"], serde_json::Value::Null);
    assert_eq!(up.rows(&["history", "--limit", "1"])[0]["message"], format!("back to revision {first}"));
}
