//! Wrong input and a wrong world: one clear message that says what to do, the right exit code, nothing half-done.

use std::{net::TcpListener, os::unix::fs::PermissionsExt, process::Command};

use testkit::{free_address, program};

use crate::{
    SOON,
    stack::{Up, spawn},
};

/// The exit code and everything said by a `dogwatch up` that cannot start.
async fn up_fails(
    folder: &std::path::Path,
    addresses: [std::net::SocketAddr; 3],
    args: &[&str],
) -> (Option<i32>, String) {
    let mut up = spawn(folder, addresses, args);
    let status = up.ended(SOON).await;
    assert!(!up.stdout().contains("ready"), "it must not say that it is ready");
    (status.code(), up.stderr())
}

fn says(text: &str, parts: &[&str]) {
    // A help text is broken into lines as it comes.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(text.contains(part) || words.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    for (index, flag) in ["--http", "--submit", "--nats-port"].into_iter().enumerate() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut addresses = [free_address(), free_address(), free_address()];
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        addresses[index] = taken.local_addr().expect("its address");
        let (code, said) = up_fails(folder.path(), addresses, &["--empty"]).await;
        assert_eq!(code, Some(1), "{said}");
        says(&said, &[&addresses[index].port().to_string(), flag]);
    }
}

#[tokio::test]
async fn no_nats_server_says_how_to_get_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = program::command("dogwatch");
    command.arg("up").arg("--data").arg(folder.path()).env("PATH", "/nowhere");
    let output = command.output().expect("run dogwatch");
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stderr), &["nats-server", "2.11", "cargo xtask up"]);
}

#[tokio::test]
async fn an_old_nats_server_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("nats-server");
    std::fs::write(&old, "#!/bin/sh\necho 'nats-server: v2.9.25'\n").expect("write");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut command = program::command("dogwatch");
    command.arg("up").arg("--data").arg(folder.path().join("data")).arg("--nats-server").arg(&old);
    let output = command.output().expect("run dogwatch");
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stderr), &["version 2.9", "2.11"]);
}

#[tokio::test]
async fn a_folder_has_one_up() {
    let up = Up::start(&["--empty", "--no-agent"]).await;
    let addresses = [free_address(), free_address(), free_address()];
    let (code, said) = up_fails(up.folder.path(), addresses, &[]).await;
    assert_eq!(code, Some(1));
    says(&said, &["in use by another process", &up.folder.path().to_string_lossy()]);
    up.output(&["hosts"]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_says_so() {
    // A file where a folder should be: refused for root as well, unlike missing permissions.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("write");
    let addresses = [free_address(), free_address(), free_address()];
    let (code, said) = up_fails(&file.join("data"), addresses, &[]).await;
    assert_eq!(code, Some(1));
    says(&said, &["cannot use the data folder", &file.to_string_lossy()]);
}

#[tokio::test]
async fn a_read_only_disk_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(_mounted) = Mounted::tmpfs(folder.path(), "ro,size=1m") else { return };
    let addresses = [free_address(), free_address(), free_address()];
    let (code, said) = up_fails(&folder.path().join("data"), addresses, &[]).await;
    assert_eq!(code, Some(1));
    says(&said, &["cannot use the data folder", "can be written", "Read-only file system"]);
}

#[tokio::test]
async fn wrong_flags_and_settings_are_usage_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("dogwatch.toml");
    std::fs::write(&settings, "grace = \"8s\"\nnats_urll = \"x\"\n").expect("write");
    let settings = settings.to_string_lossy().into_owned();
    let programs = [
        "dogwatch-agent",
        "dogwatch-config-service",
        "dogwatch-ingest",
        "dogwatch-alerter",
        "dogwatch-http-bridge",
    ];
    for name in programs {
        for (args, parts) in [
            (vec!["--nonsense"], vec!["--nonsense"]),
            (vec!["--grace", "soon"], vec!["--grace", "is not a duration: write it like 30s"]),
            (vec!["--config", &settings], vec!["unknown key \"nats_urll\"", &settings]),
            (vec!["--log", "loud=="], vec!["--log", "not a filter such as warn or info,ingest=debug"]),
            (
                vec!["--nats-url", "http://x:1:2"],
                vec!["is not a NATS address: write it like nats://host:4222"],
            ),
            (vec!["--nats-nkey-file", "/no/such/file"], vec!["cannot read the NKey seed from /no/such/file"]),
            (vec!["--config", "/no/such/file"], vec!["cannot read the settings file /no/such/file"]),
        ] {
            let output = program::command(name).args(&args).output().expect("run it");
            assert_eq!(output.status.code(), Some(2), "{name} {args:?}");
            says(&String::from_utf8_lossy(&output.stderr), &parts);
        }
        let help = program::command(name).arg("--help").output().expect("run it");
        says(
            &String::from_utf8_lossy(&help.stdout),
            &["DOGWATCH_NATS_URL", "[default: nats://127.0.0.1:4222]"],
        );
    }
    for args in
        [vec!["up", "--nonsense"], vec!["key", "create", "--role", "king"], vec!["results", "--since", "x"]]
    {
        let output = program::command("dogwatch").args(&args).output().expect("run it");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn bad_documents_are_all_reported_with_their_place_and_nothing_is_applied() {
    let up = Up::start(&["--empty", "--no-agent"]).await;
    let file = up.folder.path().join("bad.yaml");
    let documents = "kind: Check\nname: good\nevery: 1m\ncommand: echo 1\n---\n\
                     kind: Check\nname: bad\nevry: 1m\nevery: 1m\ncommand: echo 1\n---\n\
                     kind: Rule\nname: r\ncheck: nowhere\nwhen: value >\n---\n\
                     kind: Group\nname: g\n";
    std::fs::write(&file, documents).expect("write");
    let output = up.run(&["apply", &file.to_string_lossy(), "--yes"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    says(&said, &["bad.yaml:8:", "evry", "bad.yaml:14:", "nowhere", "bad.yaml:15:", "bad.yaml:17:", "Group"]);
    assert!(up.rows(&["checks"]).is_empty(), "nothing is half applied");
}

#[tokio::test]
async fn a_client_without_a_server_or_a_right_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut alone = program::command("dogwatch");
    alone.args(["hosts", "--server", "http://127.0.0.1:1"]).current_dir(folder.path());
    let output = alone.output().expect("run dogwatch");
    assert_ne!(output.status.code(), Some(0));
    says(&String::from_utf8_lossy(&output.stderr), &["key"]);

    let up = Up::start(&["--empty", "--no-agent"]).await;
    let viewer = up.folder.path().join("viewer.key");
    std::fs::write(&viewer, up.output(&["key", "create", "--role", "viewer"])).expect("write the key");
    let viewer = viewer.to_string_lossy().into_owned();
    up.output(&["hosts", "--key-file", &viewer]);
    let output = up.run(&["key", "list", "--key-file", &viewer]);
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stderr), &["admin"]);

    let key = up.key_file();
    let output = up.run(&["hosts", "--server", "http://127.0.0.1:1", "--key-file", &key]);
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stderr), &["http://127.0.0.1:1", "dogwatch up"]);
}

#[tokio::test]
async fn a_full_disk_stops_nothing_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path();
    let Some(_mounted) = Mounted::tmpfs(disk, "size=400m") else { return };
    let addresses = [free_address(), free_address(), free_address()];
    let data = disk.join("data");
    let mut program = spawn(&data, addresses, &[]);
    program.wait_for("ready  http", SOON).await;
    let key = data.join("admin.key").to_string_lossy().into_owned();
    let url = format!("http://{}", addresses[0]);
    let run = |args: &[&str]| {
        let mut command = program::command("dogwatch");
        command.args(args).args(["-o", "json", "--server", &url, "--key-file", &key]);
        command.output().expect("run dogwatch")
    };
    let results = || {
        let output = run(&["results", "--check", "load"]);
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    testkit::eventually("results before", SOON, || async {
        if results() > 0 { Ok(()) } else { Err("none") }
    })
    .await;

    // Fill it to the last byte, then give the room back.
    let filler = disk.join("filler");
    let _full = Command::new("dd").arg("if=/dev/zero").arg(format!("of={}", filler.display())).output();
    program.wait_for("No space left on device", SOON).await;
    // The broker has met the full disk as well: it then refuses all writes until it is started again.
    program.wait_for("the broker did not confirm", SOON).await;
    std::fs::remove_file(&filler).expect("remove the filler");
    let before = results();
    testkit::eventually("results again", SOON, || async {
        let after = results();
        if after > before { Ok(()) } else { Err(format!("{after}")) }
    })
    .await;
    let documents = folder.path().join("documents.yaml");
    std::fs::write(&documents, "kind: Check\nname: new\nevery: 5s\nbuiltin: uptime\n").expect("write");
    // Results may have come from what the broker held, with its restart still ahead.
    testkit::eventually("a change is taken", SOON, || async {
        let applied = run(&["apply", &documents.to_string_lossy(), "--yes"]);
        if applied.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&applied.stderr).into_owned())
        }
    })
    .await;
    testkit::eventually("G1: nothing is missing", SOON, || async {
        let account = String::from_utf8(run(&["audit", "loss"]).stdout).expect("UTF-8");
        let whole = account.contains("\"missing\":0") && account.contains("\"lost\":0");
        if whole { Ok(()) } else { Err(account) }
    })
    .await;
    program.signal(2);
    assert_eq!(program.ended(SOON).await.code(), Some(0), "{}", program.stderr());
}

/// A disk of a test's own. Only root can make one: elsewhere the test says that it did not run.
struct Mounted<'a>(&'a std::path::Path);

impl<'a> Mounted<'a> {
    fn tmpfs(folder: &'a std::path::Path, options: &str) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("NOT TESTED: only root can mount a disk for this test");
        None
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
