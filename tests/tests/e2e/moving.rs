//! An installation moves to another broker and another folder, and hosts leave it for good.

use std::os::unix::fs::PermissionsExt;

use testkit::eventually;

use crate::{
    SOON,
    enrolment::{CHECK, agent, agent_with, newer, now},
    stack::Up,
};

#[tokio::test]
async fn g3_an_installation_moves_and_its_agents_go_on_without_being_enrolled_anew() {
    let mut old = Up::start(&["--empty", "--no-agent"]).await;
    old.apply(CHECK);
    // The label comes with the token only, also to the host that pins a key.
    let probe = |n: u8| {
        format!("kind: Check\nname: probe\nhosts: labels.role == \"web\"\nevery: 1s\ncommand: echo {n}\n")
    };
    old.apply(&probe(1));
    old.apply(&probe(2));
    let first = old.rows(&["history", "--limit", "2"])[1]["revision"].to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let public = old.output(&["keygen", "--public", &old.signing_key()]);
    let pins = ["--trusted-key", public.trim()];
    let token = old.output(&["token", "create", "--uses", "2", "--label", "role=web"]);
    let mut one = agent_with(&old, folder.path(), ("web-01", Some(&token)), &pins);
    let mut two = agent(&old, folder.path(), "web-02", Some(&token));
    newer(&old, "web-01", 0).await;
    newer(&old, "web-02", 0).await;
    std::fs::write(path("viewer.key"), old.output(&["key", "create", "--role", "viewer"])).expect("a key");
    old.row("the token is told", &["audit"], |event| event["what"] == "POST /api/v1/tokens").await;
    let archive = path("installation.backup");
    old.output(&["backup", &archive]);
    let mode = std::fs::metadata(&archive).expect("an archive").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = old.run(&["backup", &archive]);
    assert_eq!(again.status.code(), Some(2), "{}", String::from_utf8_lossy(&again.stderr));
    old.output(&["backup", &archive, "--force"]);
    let named = old.output(&["backup", &path("")]);
    assert!(named.contains("entries"), "{named}");
    old.row("it is in the audit log", &["audit"], |event| event["what"] == "backup").await;
    let hosts = old.rows(&["hosts"]);
    let history = old.rows(&["history"]);
    one.signal(15);
    one.ended(SOON).await;
    two.signal(15);
    two.ended(SOON).await;
    let signing_key = std::fs::read(old.signing_key()).expect("a key");
    let (code, said) = old.interrupt().await;
    assert_eq!(code, Some(0), "{said}");

    // One byte of it is another: nothing happens.
    let new = Up::start(&["--empty", "--no-agent"]).await;
    let damaged = std::fs::read_to_string(&archive).expect("text").replace("echo 2", "echo 3");
    std::fs::write(path("damaged"), damaged).expect("write");
    let refused = new.run(&["restore", &path("damaged"), "--yes"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("checksum differs"), "{said}");
    new.output(&["restore", &archive, "--check"]);
    new.output(&["restore", &archive, "--yes"]);
    assert!(new.output(&["restore", "--state"]).contains("none"));
    std::fs::write(new.signing_key(), signing_key).expect("write");

    let after = new.rows(&["history"]);
    let kept = &after[after.len() - history.len()..];
    assert_eq!(kept, history, "the same history");
    let facts = |rows: &[serde_json::Value]| {
        rows.iter()
            .map(|row| (row["agent"].clone(), row["facts"].clone(), row["labels"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(facts(&new.rows(&["hosts"])), facts(&hosts));
    new.output(&["hosts", "--key-file", &path("viewer.key")]);
    let refused = new.run(&["restore", &archive, "--yes"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("is not empty"), "{said}");

    // By their own NKeys, without a token.
    let from = now();
    let _one = agent_with(&new, folder.path(), ("web-01", None), &pins);
    let mut two = agent(&new, folder.path(), "web-02", None);
    newer(&new, "web-01", from).await;
    newer(&new, "web-02", from).await;
    new.output(&["rollback", &first, "--yes"]);
    for id in ["web-01", "web-02"] {
        let args = ["results", "--agent", id, "--check", "probe", "--since", "3s"];
        new.row("what was before runs again", &args, |row| row["value"].as_f64() == Some(1.0)).await;
    }
    new.row("it is told", &["audit"], |event| event["what"] == "restore" && event["outcome"] == "done").await;
    new.row("and what was before it", &["audit"], |event| event["what"] == "POST /api/v1/tokens").await;

    // A change under way is replaced by a better one, signed as all of them.
    for (n, more) in [(5, None), (6, Some("--replace"))] {
        let file = path("change.yaml");
        std::fs::write(&file, probe(n)).expect("write");
        let mut args = vec!["apply", &file, "--yes", "--canary", "1,100%", "--bake", "1h"];
        args.extend(more);
        new.output(&args);
    }
    let states: Vec<_> = new.rows(&["rollout", "list"]).iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["running", "rolled_back"]);
    new.output(&["rollout", "promote"]);
    for id in ["web-01", "web-02"] {
        let args = ["results", "--agent", id, "--check", "probe", "--since", "3s"];
        new.row("the better one runs", &args, |row| row["value"].as_f64() == Some(6.0)).await;
    }

    // One of them leaves for good.
    let unsure = new.run(&["host", "decommission", "web-02"]);
    assert_eq!(unsure.status.code(), Some(2), "nobody was asked");
    let gone = new.rows(&["host", "decommission", "web-02", "--yes", "-m", "sold"]);
    assert_eq!(gone[0]["connections"], 1, "{gone:?}");
    two.wait_for("the broker refuses this agent", SOON).await;
    let left: Vec<_> = new.rows(&["hosts"]).iter().map(|host| host["agent"].clone()).collect();
    assert_eq!(left, ["web-01"]);
    assert!(!new.rows(&["results", "--agent", "web-02"]).is_empty(), "its results stay");
    new.row("who took it out, and why", &["audit"], |event| {
        event["detail"].as_str().is_some_and(|detail| detail.contains("decommission web-02"))
    })
    .await;
    eventually("nothing of it is an alert", SOON, || async {
        let alerts = new.try_rows(&["alerts"])?;
        if alerts.iter().all(|alert| alert["agent"] != "web-02") {
            Ok(())
        } else {
            Err(format!("{alerts:?}"))
        }
    })
    .await;
}
