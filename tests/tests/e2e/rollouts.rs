//! A change that cannot run anywhere reaches one host, and no other.

use std::{path::Path, process::Command};

use testkit::{Program, eventually, program};

use crate::{SOON, stack::Up};

/// An agent that `up` does not know; it signs in as the services do.
fn agent(up: &Up, name: &str, state: &Path) -> Program {
    let mut command: Command = program::command("dogwatch-agent");
    command.args(["--agent-id", name, "--nats-url", &format!("nats://{}", up.nats)]);
    command.arg("--nats-nkey-file").arg(up.folder.path().join("nats/services.nk")).arg("--state").arg(state);
    Program::spawn(name, command)
}

#[tokio::test]
async fn a_bad_command_is_rolled_back_by_itself_and_the_others_never_ran_it() {
    let up = Up::start(&["--empty", "--no-agent"]).await;
    let states = tempfile::tempdir().expect("a folder");
    let names = ["web-1", "web-2", "web-3", "web-4"];
    let agents: Vec<Program> = names.iter().map(|name| agent(&up, name, &states.path().join(name))).collect();
    up.apply("kind: Check\nname: queue\nevery: 1s\ncommand: echo 5\noutput: number\n");
    for name in names {
        up.row("a result", &["results", "--agent", name], |row| row["value"] == 5).await;
    }

    let bad = up.folder.path().join("bad.yaml");
    std::fs::write(&bad, "kind: Check\nname: queue\nevery: 1s\ncommand: no-such-program 5\noutput: number\n")
        .expect("write");
    let bad = bad.to_string_lossy().into_owned();
    let plan = up.run(&["plan", &bad, "--canary", "1,50%"]);
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("stages     1, 2, 4 of 4 hosts, each watched for 10m"), "{plan}");
    up.output(&["apply", &bad, "--yes", "--canary", "1,50%", "--bake", "1h"]);

    let rollout =
        up.row("it goes back", &["rollout", "list"], |rollout| rollout["state"] == "rolled_back").await;
    let reason = rollout["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("1 of 1 hosts failed") && reason.contains("exit code 127"), "{reason}");
    let shown = up.output(&["rollout", "show"]);
    assert!(shown.contains("state      rolled back") && shown.contains(reason), "{shown}");
    let newest = up.rows(&["history", "--limit", "1"]).remove(0);
    assert_eq!(newest["actor"], "rollout", "{newest}");
    assert_eq!(up.rows(&["checks"])[0]["command"], "echo 5");

    // The one host runs the old command again.
    eventually("all run what is wanted", SOON, || async {
        let hosts = up.rows(&["hosts"]);
        let fine = hosts.iter().all(|host| host["revision_applied"] == host["revision_wanted"]);
        if fine && hosts.len() == names.len() { Ok(()) } else { Err(format!("{hosts:#?}")) }
    })
    .await;
    let results = up.rows(&["results", "--limit", "100000"]);
    let mut ran: Vec<&str> = results
        .iter()
        .filter(|result| result["exit_code"] == 127)
        .map(|result| result["agent"].as_str().expect("an id"))
        .collect();
    ran.dedup();
    assert_eq!(ran.len(), 1, "{ran:?}");
    drop(agents);
}
