//! Things pulled out from under it: every result is counted afterwards, and none is missing or there twice.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::eventually;

use crate::{
    SOON,
    stack::{Up, kill},
};

const EVERY_SECOND: &str = "kind: Check\nname: tick\nevery: 1s\nbuiltin: uptime\n";

/// All stored results of the agent by sequence number, each counted.
fn stored(up: &Up) -> Result<BTreeMap<u64, usize>, String> {
    let mut counts = BTreeMap::new();
    for row in up.try_rows(&["results", "--since", "1h", "--limit", "100000"])? {
        *counts.entry(row["seq"].as_u64().expect("a sequence number")).or_default() += 1;
    }
    Ok(counts)
}

/// Every result from the first on is stored, each once.
fn assert_whole(counts: &BTreeMap<u64, usize>) {
    let highest = counts.keys().last().copied().unwrap_or_default();
    let missing: Vec<u64> = (1..=highest).filter(|seq| !counts.contains_key(seq)).collect();
    let twice: Vec<&u64> = counts.iter().filter(|(_, count)| **count != 1).map(|(seq, _)| seq).collect();
    assert!(missing.is_empty() && twice.is_empty(), "of {highest} missing {missing:?}, twice {twice:?}");
}

async fn reaches(up: &Up, highest: u64) -> BTreeMap<u64, usize> {
    eventually(&format!("result {highest} and all before are stored"), SOON, || async {
        let counts = stored(up)?;
        let whole = (1..=highest).all(|seq| counts.contains_key(&seq));
        if whole { Ok(counts) } else { Err(format!("{:?}", counts.keys().last())) }
    })
    .await
}

fn broker(up: &Up) -> u32 {
    up.program.broker().expect("a nats-server below up")
}

/// Wait until a process has ended. One that nobody reaps yet has.
async fn gone(pid: u32) {
    eventually("the broker is gone", SOON, || async {
        let state =
            Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().expect("run ps").stdout;
        let state = String::from_utf8_lossy(&state).into_owned();
        if state.is_empty() || state.starts_with('Z') { Ok(()) } else { Err(state) }
    })
    .await;
}

#[tokio::test]
async fn g1_g7_a_killed_broker_is_started_again_and_nothing_is_lost() {
    let up = Up::start(&["--empty"]).await;
    up.apply(EVERY_SECOND);
    reaches(&up, 3).await;
    let old = broker(&up);
    kill("-KILL", old);
    let counts = reaches(&up, 8).await;
    assert_ne!(broker(&up), old);
    assert_whole(&counts);
}

/// The agent goes on while the broker hangs, and sends what it has when it is back.
#[tokio::test]
async fn g1_g7_a_broker_that_hangs_for_a_minute_is_waited_out() {
    let up = Up::start(&["--empty"]).await;
    up.apply(EVERY_SECOND);
    let before = *reaches(&up, 2).await.keys().last().expect("results");
    let pid = broker(&up);
    kill("-STOP", pid);
    // Long enough for clients to find the connection dead: they ping every 15 s.
    let since = Instant::now();
    eventually("a minute of outage", 2 * SOON, || async {
        if since.elapsed() > Duration::from_secs(60) { Ok(()) } else { Err("not yet") }
    })
    .await;
    kill("-CONT", pid);
    assert_whole(&reaches(&up, before + 55).await);
}

#[tokio::test]
async fn g1_kill_9_of_all_of_it_again_and_again_loses_and_repeats_nothing() {
    let mut up = Up::start(&["--empty"]).await;
    up.apply(EVERY_SECOND);
    let mut highest = 0;
    for _ in 0..3 {
        highest = *reaches(&up, highest + 3).await.keys().last().expect("results");
        let broker = broker(&up);
        up.program.kill();
        kill("-KILL", broker);
        up = up.restart(&[]).await;
    }
    let counts = reaches(&up, highest + 3).await;
    assert_whole(&counts);
    let loss = up.rows(&["audit", "loss"]);
    assert_eq!((&loss[0]["missing"], &loss[0]["lost"]), (&Value::from(0), &Value::from(0)), "{loss:?}");
}

/// Only `up` is killed: its broker is left running, and the next start copes with that.
#[tokio::test]
async fn a_broker_left_behind_by_a_killed_up_is_no_obstacle() {
    let mut up = Up::start(&["--empty", "--no-agent"]).await;
    let left = broker(&up);
    up.program.kill();
    let up = up.restart(&["--no-agent"]).await;
    up.output(&["hosts"]);
    assert_ne!(broker(&up), left);
}

#[tokio::test]
async fn ctrl_c_stops_in_order_within_ten_seconds_and_a_second_one_at_once() {
    let mut up = Up::start(&["--empty"]).await;
    // A check that is running and deaf must not hold up the stop.
    up.apply("kind: Check\nname: deaf\nevery: 10s\ntimeout: 9s\ncommand: trap '' TERM INT; echo started; sleep 60\n");
    up.apply(EVERY_SECOND);
    reaches(&up, 2).await;
    let pid = broker(&up);
    let since = Instant::now();
    let (code, stderr) = up.interrupt().await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    gone(pid).await;
    let stopped: Vec<usize> = ["agent", "http-bridge", "alerter", "ingest", "config-service", "nats-server"]
        .iter()
        .map(|part| {
            stderr
                .find(&format!("stopping {part}"))
                .unwrap_or_else(|| panic!("{part} is not named in {stderr}"))
        })
        .collect();
    assert!(stopped.is_sorted(), "stopped in the wrong order:\n{stderr}");

    let mut up = up.restart(&[]).await;
    let pid = broker(&up);
    // The broker hangs, so an orderly stop cannot be quick.
    kill("-STOP", pid);
    let since = Instant::now();
    up.program.signal(2);
    up.program.wait_for("topping", SOON).await;
    up.program.signal(2);
    let status = up.program.ended(SOON).await;
    assert_eq!(status.code(), Some(1));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    gone(pid).await;
}
