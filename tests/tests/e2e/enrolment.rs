//! A second host joins a running `up` with a token, stays over restarts, and is thrown out.

use std::{path::Path, time::Duration};

use serde_json::Value;
use testkit::{Program, eventually, program};

use crate::{SOON, stack::Up};

pub(crate) fn agent(up: &Up, folder: &Path, id: &str, token: Option<&str>) -> Program {
    agent_with(up, folder, (id, token), &[])
}

pub(crate) fn agent_with(
    up: &Up,
    folder: &Path,
    (id, token): (&str, Option<&str>),
    args: &[&str],
) -> Program {
    let mut command = program::command("dogwatch-agent");
    command.args(["--nats-url", &format!("nats://{}", up.nats), "--agent-id", id, "--poll", "1s"]);
    command.arg("--state").arg(folder.join(format!("{id}-state"))).args(args);
    if let Some(token) = token {
        let file = folder.join(format!("{id}.token"));
        std::fs::write(&file, token).expect("write the token");
        command.arg("--enrol-token-file").arg(file);
    }
    Program::spawn("dogwatch-agent", command)
}

pub(crate) async fn newer(up: &Up, id: &str, than: u64) -> u64 {
    let what = format!("a result of {id}");
    let row = up.row(&what, &["results", "--agent", id], |row| row["at_ms"].as_u64() > Some(than)).await;
    row["at_ms"].as_u64().expect("a time")
}

pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    u64::try_from(since.as_millis()).expect("a time")
}

pub(crate) const CHECK: &str = "kind: Check\nname: tick\nevery: 1s\ncommand: echo 1\n";

#[tokio::test]
async fn g4_a_host_enrols_by_a_token_stays_over_restarts_and_is_revoked() {
    let up = Up::start(&["--empty"]).await;
    up.apply(CHECK);
    let folder = tempfile::tempdir().expect("a folder");
    let token = up.output(&["token", "create", "--label", "role=web"]);
    let mut first = agent(&up, folder.path(), "web-02", Some(&token));
    newer(&up, "web-02", 0).await;
    let host = up.row("it is in the inventory", &["hosts", "--agent", "web-02"], |_| true).await;
    assert_eq!(host["labels"]["role"], "web", "the label of the token");
    let state = folder.path().join("web-02-state");
    first.wait_for("enrolled: from now on", SOON).await;
    assert!(state.join("agent.nk").exists() && !state.join("enrolling.nk").exists());
    let secret = token.lines().next().expect("a token");
    assert!(!first.stderr().contains(secret), "the token is in the log");
    let used = up.rows(&["token", "list"]);
    assert_eq!((used.len(), &used[0]["used"]), (1, &Value::from(1)));

    // Used up, and a name that is taken: both are refused, and the operator sees why.
    let mut late = agent(&up, folder.path(), "web-03", Some(&token));
    late.wait_for("the broker refuses this agent", SOON).await;
    drop(late);
    let other = up.output(&["token", "create"]);
    let twin = tempfile::tempdir().expect("a folder");
    let mut twin_agent = agent(&up, twin.path(), "web-02", Some(&other));
    twin_agent.wait_for("`dogwatch audit` on the server says which", SOON).await;
    drop(twin_agent);
    for reason in ["is used up", "the name web-02 is taken"] {
        up.row(reason, &["audit"], |event| {
            event["outcome"] == "refused"
                && event["detail"].as_str().is_some_and(|text| text.contains(reason))
        })
        .await;
    }

    // Everything starts again; the token is not needed any more.
    first.signal(15);
    first.ended(SOON).await;
    std::fs::remove_file(folder.path().join("web-02.token")).expect("remove the token");
    let up = up.restart(&["--empty"]).await;
    let mut first = agent(&up, folder.path(), "web-02", None);
    newer(&up, "web-02", now()).await;

    let revoked = up.rows(&["host", "revoke", "web-02"]);
    assert_eq!(revoked[0]["connections"], 1, "{revoked:?}");
    first.wait_for("the broker refuses this agent", SOON).await;
    let silent = now();
    up.row("the refusal is told", &["audit"], |event| {
        event["detail"].as_str().is_some_and(|text| text.contains("is revoked: to enrol the host again"))
    })
    .await;
    let after: Vec<Value> = up.rows(&["results", "--agent", "web-02"]);
    assert!(
        after.iter().all(|row| row["at_ms"].as_u64() <= Some(silent)),
        "results came after it was revoked"
    );
    for (actor, what) in [("agent web-02", "enrol web-02"), ("key ", "revoke web-02")] {
        up.row(what, &["audit", "--actor", actor], |event| {
            event["detail"].as_str().is_some_and(|text| text.contains(what))
        })
        .await;
    }
    let from = up.row("the operator's request", &["audit"], |event| {
        event["what"] == "POST /api/v1/hosts/web-02/revoke"
    });
    assert_eq!(from.await["from"], "127.0.0.1");
}

#[tokio::test]
async fn an_agent_that_enrols_while_nobody_answers_waits_and_loses_nothing() {
    let up = Up::start(&["--empty", "--no-agent"]).await;
    up.apply(CHECK);
    let folder = tempfile::tempdir().expect("a folder");
    let token = up.output(&["token", "create", "--expires", "1d"]);
    let (nats, data) = (up.nats, up.folder.path().to_owned());
    let mut up = up;
    let (code, stderr) = up.interrupt().await;
    assert_eq!(code, Some(0), "{stderr}");
    let mut waiting = agent(&up, folder.path(), "db-01", Some(&token));
    waiting.wait_for("the broker cannot be reached", SOON).await;
    assert!(data.join("nats/issuer.nk").exists() && nats.port() > 0);
    let up = up.restart(&["--empty", "--no-agent"]).await;
    newer(&up, "db-01", 0).await;
    eventually("nothing is lost", Duration::from_secs(60), || async {
        let loss = up.try_rows(&["audit", "loss"])?;
        let good = loss.iter().any(|row| row["agent"] == "db-01" && row["lost"] == 0 && row["missing"] == 0);
        if good { Ok(()) } else { Err(format!("{loss:?}")) }
    })
    .await;
}
