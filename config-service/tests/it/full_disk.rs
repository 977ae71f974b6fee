//! A disk that has no room any more, and then has some again. A small one can only be mounted by root.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use protocol::{ErrorCode, config::ConfigReply, config::ConfigRequest, log::LogRecord, subject};
use testkit::{NatsServer, Program, eventually};

use crate::harness::*;

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(folder.path());
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        let said =
            "NOT TESTED: how a full disk is survived. Only root can mount the small disk that it takes\n";
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// To the last byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while file.write_all(&[1; 512]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn check(name: &str) -> String {
    format!("kind: Check\nname: {name}\nbuiltin: cpu\nevery: 10s\n")
}

async fn problems(replica: &Replica) -> String {
    replica.ctx.ready.problems().join("; ")
}

async fn ready_again(replica: &Replica) {
    eventually("ready again", LIMIT, || async {
        let problems = problems(replica).await;
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_hosts_are_served_and_changes_refused_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let nats = NatsServer::start().await;
    let data = disk.path().join("data");
    let replica = Replica::start(&nats.url(), &data).await;
    let client = nats.client().await;
    apply(&client, CPU).await.unwrap();
    let config = full(&client, "a", &request()).await;
    for round in 1..=3 {
        disk.fill();
        let error = apply(&client, &check("refused")).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.starts_with("no change is possible now: the disk is full"), "{error}");
        assert!(error.message.contains("No space left on device"), "{error}");
        eventually("not ready", LIMIT, || async {
            let problems = problems(&replica).await;
            if problems.contains("config-service store: the disk is full") { Ok(()) } else { Err(problems) }
        })
        .await;
        // Who is known is served; what a new host says could not be kept.
        assert_eq!(names(&full(&client, "a", &request()).await).len(), round);
        let same = ConfigRequest { etag: Some(config.etag.clone()), facts: None, ..request() };
        let reply = get(&client, "a", &same).await;
        assert_eq!(matches!(reply, ConfigReply::Unchanged { .. }), round == 1, "{reply:?}");
        let new = subject::config_get(&agent(&format!("new{round}")));
        let error = ask::<_, ConfigReply>(&client, &new, &request()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("the disk is full"), "{error}");
        // Not even in the stream.
        assert_eq!(documents(&client).await.documents.len(), round);

        disk.make_room();
        ready_again(&replica).await;
        let applied = apply(&client, &check(&format!("c{round}"))).await.unwrap();
        assert_eq!(applied.revision, round as u64 + 1, "nothing was half applied");
        full(&client, &format!("new{round}"), &request()).await;
    }
    let before = (documents(&client).await, hosts(&client).await.len());
    assert_eq!((before.0.documents.len(), before.1), (4, 4));
    replica.stop().await;
    let _replica = Replica::start(&nats.url(), &data).await;
    assert_eq!((documents(&client).await, hosts(&client).await.len()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_came_into_the_stream_while_the_disk_was_full_is_folded_later() {
    let Some(disk) = SmallDisk::mount() else { return };
    let nats = NatsServer::start().await;
    let (data, other) = (disk.path().join("data"), tempfile::tempdir().unwrap());
    let replica = Replica::start(&nats.url(), &data).await;
    let client = nats.client().await;
    apply(&client, CPU).await.unwrap();
    disk.fill();
    // Another replica, with room, accepts it.
    let stream = async_nats::jetstream::new(client.clone()).get_stream("CONFIG").await.unwrap();
    let first = stream.get_raw_message(1).await.unwrap();
    let mut record: LogRecord = serde_json::from_slice(&first.payload).unwrap();
    (record.revision, record.id) = (2, "other".to_owned());
    let protocol::log::LogChange::DocumentPut {
        document: protocol::document::Document::Check(check), ..
    } = &mut record.changes[0]
    else {
        panic!("{record:?}")
    };
    // More than the last block of a file may have room for.
    check.description = "x".repeat(100_000);
    let body = serde_json::to_vec(&record).unwrap();
    async_nats::jetstream::new(client.clone())
        .publish(subject::CONFIG_LOG, body.into())
        .await
        .unwrap()
        .await
        .unwrap();
    eventually("not in step", LIMIT, || async {
        let problems = problems(&replica).await;
        if problems.contains("stream CONFIG: the disk is full") { Ok(()) } else { Err(problems) }
    })
    .await;
    assert_eq!(documents(&client).await.revision, 1);
    disk.make_room();
    ready_again(&replica).await;
    let list = documents(&client).await;
    assert_eq!((list.revision, list.documents.len()), (2, 1));
    assert!(protocol::encode(&list).unwrap().len() > 100_000);
    replica.stop().await;
    let _replica = Replica::start(&nats.url(), other.path()).await;
    assert_eq!(documents(&client).await, list);
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_kill_9_on_a_full_disk_loses_nothing_that_was_answered() {
    let Some(disk) = SmallDisk::mount() else { return };
    let nats = NatsServer::start().await;
    let data = disk.path().join("data");
    let (url, path) = (nats.url(), data.to_str().unwrap().to_owned());
    let args = ["--nats-url", &url, "--data", &path];
    let client = nats.client().await;
    for round in 0..3 {
        let mut program = Program::start("dogwatch-config-service", &args);
        program.wait_for("started", LIMIT).await;
        assert_eq!(documents(&client).await.documents.len(), round);
        apply(&client, &check(&format!("c{round}"))).await.unwrap();
        full(&client, &format!("h{round}"), &request()).await;
        disk.fill();
        apply(&client, &check("refused")).await.unwrap_err();
        program.kill();
        // sled cannot be opened without writing.
        let mut program = Program::start("dogwatch-config-service", &args);
        program.wait_for("the disk is full", LIMIT).await;
        assert!(!program.ended(LIMIT).await.success());
        disk.make_room();
    }
    let _replica = Replica::start(&url, &data).await;
    assert_eq!((documents(&client).await.documents.len(), hosts(&client).await.len()), (3, 3));
}
