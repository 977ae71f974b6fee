//! `dogwatch run`, from the command line to a host's check and back.

use serde_json::Value;

use crate::stack::Up;

#[tokio::test]
async fn a_check_runs_now_its_output_is_shown_and_its_result_is_kept() {
    let up = Up::start(&["--empty"]).await;
    up.apply(
        "kind: Check\nname: queue\nevery: 1h\ncommand: echo 7; echo aside >&2\nunit: jobs\nwarning: \"> 5\"\n---\n\
         kind: Check\nname: fine\nevery: 1h\nbuiltin: uptime\n",
    );
    for check in ["queue", "fine"] {
        up.row("the schedule's run", &["results", "--check", check], |_| true).await;
    }
    let host = up.rows(&["hosts"])[0]["agent"].as_str().expect("a host").to_owned();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");

    let ran = up.run(&["run", "--host", &host, "queue"]);
    assert_eq!(ran.status.code(), Some(1), "a warning is no success");
    assert_eq!(text(&ran.stdout), "7\n");
    let said = text(&ran.stderr);
    assert!(said.starts_with("aside\n"), "{said}");
    assert!(
        said.contains(&format!("{host} queue: warning after ")) && said.contains("value 7 jobs"),
        "{said}"
    );

    let ran = up.run(&["run", "--host", &host, "fine"]);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).starts_with("UPTIME OK"), "{}", text(&ran.stdout));

    let events = up.run(&["run", "--host", &host, "fine", "-o", "json"]);
    let events: Vec<Value> =
        text(&events.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events[0]["event"], "started");
    let last = events.last().expect("events");
    assert_eq!((&last["event"], &last["last"]), (&"ended".into(), &true.into()));
    let seq = &last["result"]["seq"];
    up.row("the result is stored", &["results", "--check", "fine"], |row| &row["seq"] == seq).await;

    for (args, code, reason) in [
        (&["run", "--host", &host, "nothing"][..], 1, "has no check nothing"),
        (&["run", "--host", "nobody", "fine"], 1, "there is no host nobody"),
        (&["run", "--host", &host, "fine", "-o", "yaml"], 2, "-o json"),
        (&["run", "fine"], 2, "--host"),
    ] {
        let ran = up.run(args);
        assert_eq!(ran.status.code(), Some(code), "{args:?}");
        assert!(text(&ran.stderr).contains(reason), "{args:?}: {}", text(&ran.stderr));
    }
    let key = up.folder.path().join("viewer.key");
    std::fs::write(&key, up.output(&["key", "create", "--role", "viewer"])).expect("write");
    let ran = up.run(&["run", "--host", &host, "fine", "--key-file", &key.to_string_lossy()]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(text(&ran.stderr).contains("refused with status 403"), "{}", text(&ran.stderr));

    let loss = up.row("nothing is missing", &["audit", "loss"], |row| row["missing"] == 0).await;
    assert_eq!(loss["lost"], 0);
}
