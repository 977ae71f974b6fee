//! `--print-config`, `--dry-run` and `--once`, as a person calls them.

use std::{path::Path, process::Output};

use serde_json::Value;
use testkit::NatsServer;

use crate::{
    guard::{builtin, command, write},
    rig::{Agent, Config, Ingest, check, id},
};

async fn agent(url: &str, state: &Path, more: &[&str]) -> (String, String, i32) {
    let mut command = command(url, state, more);
    let Output { stdout, stderr, status } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr), status.code().unwrap())
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn print_config_shows_settings_without_secrets_and_the_last_good_checks() {
    let folder = tempfile::tempdir().unwrap();
    let (state, file) = (folder.path().join("state"), folder.path().join("agent.toml"));
    write(&file, "poll = '7s'\nlabel = ['role=web', 'site=b']\n");
    let flags = ["--print-config", "--config", file.to_str().unwrap(), "--concurrency", "3"];
    let (out, _, code) = agent("nats://u:secret@127.0.0.1:1", &state, &flags).await;
    assert_eq!(code, 0, "{out}");
    for line in [
        "nats_url = \"nats://***@127.0.0.1:1\"  # flag",
        "poll = \"7s\"  # file",
        "label = [\"role=web\", \"site=b\"]  # file",
        "concurrency = \"3\"  # flag",
        "max_memory = \"256MiB\"",
        "# There is no last good configuration.",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}\n{out}");
    }
    assert!(!out.contains("secret") && !state.exists());
    // What it prints is a settings file.
    write(&file, &out);
    let (again, said, _) =
        agent("nats://x:1", &state, &["--print-config", "--config", file.to_str().unwrap()]).await;
    assert!(again.contains("concurrency = \"3\"  # file"), "{again}{said}");

    let server = NatsServer::start().await;
    let config = Config::start(server.client().await, vec![check("kept", 60_000, "echo 1")]).await;
    let running = Agent::start(&server.url(), &state, &[]).await;
    config.reported("it runs", |status| status.error.is_none()).await;
    let (out, ..) = agent(&server.url(), &state, &["--print-config"]).await;
    assert!(out.contains("# Checks of the last good configuration, revision 1:\n#   CHECK"), "{out}");
    assert!(out.lines().any(|line| line.starts_with("#   kept   1m ") && line.contains("echo 1")), "{out}");
    let (out, ..) = agent(&server.url(), &state, &["--print-config", "-o", "json"]).await;
    let lines = json(&out);
    assert_eq!(lines[0]["settings"]["poll"]["values"][0], "60s");
    assert_eq!((&lines[1]["check"], &lines[1]["every_ms"]), (&"kept".into(), &60_000.into()));
    running.stop().await;
}

#[tokio::test]
async fn a_dry_run_shows_what_would_run_and_runs_nothing() {
    let server = NatsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (state, mark, policy) =
        (folder.path().join("state"), folder.path().join("mark"), folder.path().join("policy.toml"));
    let touch = check("touch", 60_000, &format!("touch {}", mark.display()));
    let mut load = builtin("load", "load");
    (load.cron, load.timezone) = (Some("0 3 * * *".parse().unwrap()), Some("UTC".into()));
    let config = Config::start(server.client().await, vec![touch, load]).await;
    let (out, said, code) = agent(&server.url(), &state, &["--dry-run"]).await;
    assert_eq!(code, 0, "{said}");
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("CHECK  EVERY ") && lines.len() == 3, "{out}");
    assert!(lines[1].starts_with("load") && lines[1].contains("builtin load"), "{out}");
    assert!(lines[1].contains("cron 0 3 * * *") && lines[1].contains("T03:00:00Z"), "{out}");
    assert!(lines[2].contains(" 1m ") && lines[2].ends_with("may run"), "{out}");

    write(&policy, "no_shell = true");
    let flags = ["--dry-run", "-o", "json", "--policy", policy.to_str().unwrap()];
    let (out, said, code) = agent(&server.url(), &state, &flags).await;
    assert_eq!(code, 1, "{said}");
    let lines = json(&out);
    assert!(lines[0].get("cannot_run").is_none() && lines[0]["next_ms"].as_u64().is_some(), "{out}");
    let refused = "refused by this host's policy: no_shell: it may not use a shell";
    assert_eq!(lines[1]["cannot_run"], refused);
    assert!(!mark.exists() && !state.exists());
    assert_eq!(config.asked.lock().unwrap().len(), 2);

    let nobody = format!("nats://{}", testkit::free_address());
    let (out, said, code) = agent(&nobody, &state, &["--dry-run"]).await;
    assert_eq!((out.as_str(), code), ("", 1));
    assert!(said.contains("does not answer"), "{said}");
}

#[tokio::test]
async fn once_runs_every_check_once_and_sends_nothing() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut seven = check("seven", 60_000, "echo 7");
    (seven.unit, seven.warning) = (Some("files".into()), Some("> 5".parse().unwrap()));
    let config = Config::start(server.client().await, vec![seven.clone(), builtin("load", "load")]).await;
    let (out, said, code) = agent(&server.url(), &state, &["--once"]).await;
    assert_eq!(code, 0, "{said}");
    let seven_line = out.lines().find(|line| line.starts_with("seven")).unwrap();
    assert!(seven_line.contains("warning") && seven_line.contains("7files"), "{out}");
    let (out, ..) = agent(&server.url(), &state, &["--once", "-o", "json"]).await;
    let lines = json(&out);
    assert_eq!((lines[1]["value"].as_f64(), &lines[1]["status"]), (Some(7.0), &"warning".into()));
    assert_eq!(lines[1]["agent"], id().as_str());

    let mut slow = check("slow", 60_000, "sleep 60");
    slow.timeout_ms = 300;
    config.apply(2, vec![seven, slow]).await;
    let (out, _, code) = agent(&server.url(), &state, &["--once"]).await;
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("timed out after 300ms") && out.contains("seven"), "{out}");
    assert_eq!(ingest.results().await, []);
    assert!(!state.exists());
}
