use std::{
    path::Path,
    time::{Duration, Instant},
};

use testkit::{NatsServer, Program, eventually, program};

use crate::fixture::*;

fn ingest(server: &NatsServer, data: &Path, failpoint: Option<&str>) -> Program {
    let mut command = program::command("dogwatch-ingest");
    // It seals at each start, so that crashes meet that too.
    command.args(["--nats-url", &server.url(), "--seal-after", "0s"]);
    command.args(["--batch-messages", "100", "--keep-free", "0", "--data"]);
    command.arg(data);
    if let Some(failpoint) = failpoint {
        command.env("DOGWATCH_FAILPOINT", failpoint);
    }
    Program::spawn("dogwatch-ingest", command)
}

/// SIGKILL at random moments under load, and death exactly between the durable write and the acknowledgement.
#[tokio::test(flavor = "multi_thread")]
async fn g1_g2_kill_between_write_and_ack_stores_each_result_once() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    results_stream(&client).await;
    let agents = ["a-1", "a-2", "a-3", "a-4", "a-5"];
    const LAST: u64 = 4_000;
    let sending = agents.map(|name| {
        let client = client.clone();
        tokio::spawn(async move {
            let check = "load";
            for seq in 1..=LAST {
                publish(&client, name, check, seq, seq).await;
            }
        })
    });
    let mut died_after_write = 0;
    for round in 0..15u64 {
        let failpoint = (round % 3 == 0).then_some("ingest_after_write");
        let mut program = ingest(&server, data.path(), failpoint);
        if failpoint.is_some() {
            let status = program.ended(LIMIT).await;
            assert!(!status.success() && status.code().is_none(), "it ends by SIGABRT: {status}");
            died_after_write += 1;
        } else {
            program.wait_for("started", LIMIT).await;
            let moment = Instant::now() + Duration::from_micros(rand(round) % 150_000);
            eventually("a random moment has come", LIMIT, || async move {
                if Instant::now() >= moment { Ok(()) } else { Err("not yet") }
            })
            .await;
            program.kill();
        }
    }
    for sent in sending {
        tokio::time::timeout(LIMIT, sent).await.unwrap().unwrap();
    }
    let _program = ingest(&server, data.path(), None);
    for name in agents {
        stored_up_to(&client, name, LAST).await;
    }
    assert_each_once(&client, &agents, LAST).await;
    let losses = losses(&client).await;
    assert!(losses.iter().all(|loss| loss.missing == 0 && loss.lost == 0), "{losses:?}");
    let duplicates: u64 = losses.iter().map(|loss| loss.duplicates).sum();
    assert!(duplicates > 0, "{died_after_write} deaths between write and ack must make repeats: {losses:?}");
}

/// Death with the new files on disk that do not count yet, and with the old rows gone that did.
#[tokio::test(flavor = "multi_thread")]
async fn g2_death_in_the_middle_of_sealing_loses_and_repeats_nothing() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    results_stream(&client).await;
    let agents = ["a-1", "a-2"];
    const LAST: u64 = 300;
    for name in agents {
        for seq in 1..=LAST {
            publish(&client, name, "load", seq, seq * 1_000_000).await;
        }
    }
    let mut first = ingest(&server, data.path(), None);
    for name in agents {
        stored_up_to(&client, name, LAST).await;
    }
    first.kill();
    for failpoint in ["ingest_seal_before_switch", "ingest_seal_before_switch", "ingest_seal_after_switch"] {
        let status = ingest(&server, data.path(), Some(failpoint)).ended(LIMIT).await;
        assert!(!status.success() && status.code().is_none(), "{failpoint} ends it by SIGABRT: {status}");
    }
    let mut last = ingest(&server, data.path(), None);
    last.wait_for("started", LIMIT).await;
    assert_each_once(&client, &agents, LAST).await;
    let files = std::fs::read_dir(data.path().join("blocks")).unwrap().count();
    // All are strays of one day; on a busy machine the first process may have sealed some of them.
    assert!((1..=2).contains(&files), "what the crashes left behind is gone: {files} files are there");
}

/// Spread over a range without a dependency; the seed is the clock.
fn rand(round: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    (u64::from(now) ^ round).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_folder_says_so_and_harms_nothing() {
    let (server, data) = (NatsServer::start().await, tempfile::tempdir().unwrap());
    let client = server.client().await;
    let mut first = ingest(&server, data.path(), None);
    first.wait_for("started", LIMIT).await;
    let mut second = ingest(&server, data.path(), None);
    assert_eq!(second.ended(LIMIT).await.code(), Some(1));
    eventually("it says why", LIMIT, || async {
        let said = second.stderr();
        if said.contains("is in use by another process") { Ok(()) } else { Err(said) }
    })
    .await;
    publish(&client, "web-01", "disk", 1, 1).await;
    stored_up_to(&client, "web-01", 1).await;
    first.signal(15);
    assert_eq!(first.ended(LIMIT).await.code(), Some(0));
}
