//! What stays when the agent is killed, or when its folder is taken away under it.

use std::{fs, path::Path};

use protocol::config::CheckSpec;
use testkit::{NatsServer, Program};

use crate::{
    guard,
    rig::{Agent, Config, Ingest, LIMIT, check, config},
};

/// Processes whose command line has this text.
fn alive(mark: &str) -> Vec<String> {
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(mark)).collect()
}

async fn are(what: &str, mark: &str, count: usize) {
    testkit::eventually(what, LIMIT, async || {
        let alive = alive(mark);
        if alive.len() == count { Ok(()) } else { Err(format!("{alive:?}")) }
    })
    .await;
}

/// An agent without a broker, that runs `checks` from its last good configuration.
fn start(state: &Path, checks: Vec<CheckSpec>) -> Program {
    fs::create_dir_all(state).unwrap();
    fs::write(state.join("config.json"), serde_json::to_vec(&config(1, checks)).unwrap()).unwrap();
    let url = format!("nats://{}", testkit::free_address());
    Program::spawn("dogwatch-agent", guard::command(&url, state, &[]))
}

#[tokio::test]
async fn g10_commands_of_a_killed_agent_are_ended_at_its_next_start_and_those_of_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let id = std::process::id();
    let (mine, others) = (format!("life-mine-{id}"), format!("life-others-{id}"));
    let sleeps = |mark: &str| {
        // One that leaves the process group, and one that hides its environment besides the first.
        let command = format!("setsid sleep 600 & env -i sleep 600 & sleep 600; : {mark}");
        vec![check(
            "long",
            3_600_000,
            &command.replace("sleep 600", &format!("sh -c \"sleep 600; : {mark}\"")),
        )]
    };
    let mut first = start(&folder.path().join("one"), sleeps(&mine));
    let mut other = start(&folder.path().join("two"), sleeps(&others));
    are("the first agent's commands run", &mine, 4).await;
    are("the other agent's commands run", &others, 4).await;
    first.kill();
    assert_eq!(alive(&mine).len(), 4, "nobody ends them");
    let mut again = start(&folder.path().join("one"), Vec::new());
    are("the first agent's commands are gone", &mine, 0).await;
    assert_eq!(alive(&others).len(), 4);

    // A start in order finds nothing to end.
    again.signal(15);
    again.ended(LIMIT).await;
    other.kill();
    let _cleans_up = start(&folder.path().join("two"), Vec::new());
    are("the other agent's commands are gone", &others, 0).await;
}

#[tokio::test]
async fn g7_a_state_folder_that_was_removed_comes_back_whole() {
    let server = NatsServer::start().await;
    let _ingest = Ingest::start(server.client().await).await;
    let service = Config::start(server.client().await, vec![check("seven", 300, "echo 7")]).await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let agent = Agent::start(&server.url(), &state, &["--poll", "100ms"]).await;
    service.reported("it runs", |status| status.error.is_none()).await;
    fs::remove_dir_all(&state).unwrap();
    testkit::eventually("the folder is whole again", LIMIT, async || {
        let missing =
            ["lock", "life", "config.json", "spool/epoch"].iter().find(|file| !state.join(file).exists());
        missing.map_or(Ok(()), |file| Err(format!("{file} is missing")))
    })
    .await;
    let second = Agent::try_start(&server.url(), &state, &[]).await;
    assert!(second.is_err_and(|error| format!("{error:#}").contains("in use by another process")));
    agent.stop().await;
}
