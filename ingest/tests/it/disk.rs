//! Disks that get full, or cannot be written at all.

use std::process::Command;

use testkit::{NatsServer, Program, eventually, program};

use crate::{fixture::*, store::SmallDisk};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_disk_past_its_watermark_stops_acknowledging_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("*** the watermark of a disk was NOT TESTED: mounting a tmpfs is not allowed here ***");
        return;
    };
    let (server, folder) = (NatsServer::start().await, disk.0.path().to_owned());
    let client = server.client().await;
    let (keep, warn) = ((8 * MIB).to_string(), (9 * MIB).to_string());
    let flags = ["--keep-free", keep.as_str(), "--warn-free", &warn];
    let running = Running::start_set(&server, &folder.join("data"), &flags).await;
    for seq in 1..=5 {
        publish(&client, "web-01", "disk", seq, seq).await;
    }
    stored_up_to(&client, "web-01", 5).await;
    eventually("all five are acknowledged", LIMIT, || async {
        let done = running.count("messages_done");
        (done == 5).then_some(()).ok_or(done)
    })
    .await;

    // Six megabytes are left: fewer than are to be kept free, and far from none.
    let free = ingest::room::free_bytes(&folder).unwrap();
    let filler = folder.join("filler");
    std::fs::write(&filler, vec![7; usize::try_from(free - 6 * MIB).unwrap()]).unwrap();
    eventually("it says so while nothing comes", LIMIT, || async {
        let (problems, full) =
            (running.ctx.ready.problems().join(" "), running.metric("dogwatch_ingest_disk_full "));
        let told = problems.contains("bytes left: results wait in the broker") && full.ends_with(" 1");
        if told { Ok(()) } else { Err(format!("{problems} {full}")) }
    })
    .await;
    for seq in 6..=10 {
        publish(&client, "web-01", "disk", seq, seq).await;
    }
    eventually("nothing is written", LIMIT, || async {
        let failed = running.count("writes_failed");
        if failed > 1 { Ok(()) } else { Err(failed) }
    })
    .await;
    assert_eq!((running.count("messages_done"), watermark(&client, "web-01").await.unwrap().seq), (5, 5));

    std::fs::remove_file(&filler).unwrap();
    stored_up_to(&client, "web-01", 10).await;
    eventually("it is ready again by itself", LIMIT, || async {
        let problems = running.ctx.ready.problems();
        if problems.is_empty() { Ok(()) } else { Err(problems.join(" ")) }
    })
    .await;
    assert_each_once(&client, &["web-01"], 10).await;
    assert!(running.metric("dogwatch_ingest_disk_full ").ends_with(" 0"));
    running.stop().await;
}

#[tokio::test]
async fn a_read_only_disk_is_refused_with_what_to_do() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("*** a read-only disk was NOT TESTED: mounting a tmpfs is not allowed here ***");
        return;
    };
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0.path()).status();
    assert!(remounted.unwrap().success());
    let server = NatsServer::start().await;
    let mut command = program::command("dogwatch-ingest");
    command.args(["--nats-url", &server.url(), "--data"]).arg(disk.0.path());
    let mut program = Program::spawn("dogwatch-ingest", command);
    assert_eq!(program.ended(LIMIT).await.code(), Some(1));
    let said = program.stderr();
    assert!(
        said.contains("check that it can be written") && said.contains("Read-only file system"),
        "{said}"
    );
}
