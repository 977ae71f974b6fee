//! `dogwatch up`: that it starts, stops, and starts again; and what it says when it cannot.

use std::{
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;
use testkit::{Program, eventually, free_address, program};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(10);

/// A folder and three addresses of its own.
struct Place {
    folder: TempDir,
    http: String,
    submit: String,
    nats: String,
}

impl Place {
    fn new() -> Self {
        let nats = free_address().port().to_string();
        let (http, submit) = (free_address().to_string(), free_address().to_string());
        Self { folder: tempfile::tempdir().unwrap(), http, submit, nats }
    }

    fn command(&self) -> Command {
        let mut command = program::command("dogwatch");
        command
            .process_group(0)
            .current_dir(self.folder.path())
            .env("DOGWATCH_NATS_SERVER", testkit::nats::binary().canonicalize().unwrap())
            .args(["up", "--http", &self.http, "--submit", &self.submit, "--nats-port", &self.nats]);
        command
    }

    async fn up(&self) -> Program {
        let mut up = Program::spawn("dogwatch up", self.command());
        up.wait_for("ready  http://", START).await;
        up
    }

    /// What the program says when it does not start.
    async fn refusal(&self, command: Command) -> String {
        let mut up = Program::spawn("dogwatch up", command);
        let status = up.ended(START).await;
        assert_eq!(status.code(), Some(1), "{}", up.stderr());
        assert!(!up.stdout().contains("ready"));
        up.stderr()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(".dogwatch").join(name)
    }

    fn nats_pid(&self) -> i32 {
        std::fs::read_to_string(self.path("nats/nats.pid")).unwrap().trim().parse().unwrap()
    }
}

/// A test that fails, or kills its `up`, leaves a nats-server behind.
impl Drop for Place {
    fn drop(&mut self) {
        let Ok(pid) = std::fs::read_to_string(self.path("nats/nats.pid")) else { return };
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        if line.contains(&*self.folder.path().to_string_lossy()) {
            let _gone = Command::new("kill").arg("-KILL").arg(pid.trim()).status();
        }
    }
}

fn alive(pid: i32) -> bool {
    // A zombie, which nobody has waited for yet, does not run.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn gone(pid: i32) {
    eventually("the nats-server ends", STOP, async || if alive(pid) { Err("it runs") } else { Ok(()) }).await;
}

#[tokio::test]
async fn it_starts_says_so_on_one_line_stops_in_order_and_starts_again() {
    let place = Place::new();
    let mut up = place.up().await;
    assert_eq!(up.stdout(), format!("ready  http://{}  admin key in .dogwatch/admin.key\n", place.http));
    for secret in ["admin.key", "nats/services.nk", "nats/nats.conf"] {
        let mode = std::fs::metadata(place.path(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    assert_eq!(std::fs::read_to_string(place.path("endpoint")).unwrap(), format!("http://{}\n", place.http));
    let key = std::fs::read_to_string(place.path("admin.key")).unwrap();
    let nats = place.nats_pid();
    // As a terminal does it: to the whole process group. The nats-server has its own and stops last.
    let group = format!("-{}", up.pid());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    assert!(up.ended(STOP).await.success(), "{}", up.stderr());
    assert!(!up.stderr().contains("the nats-server ended"), "{}", up.stderr());
    assert!(!alive(nats));
    assert!(!place.path("endpoint").exists());
    drop(up);

    let mut up = place.up().await;
    assert_eq!(std::fs::read_to_string(place.path("admin.key")).unwrap(), key);
    up.signal(15);
    assert!(up.ended(STOP).await.success(), "{}", up.stderr());
}

#[tokio::test]
async fn g9_a_script_works_against_it_and_all_is_still_there_after_a_restart() {
    let place = Place::new();
    let run = async |args: &[&str]| {
        let mut command = program::command("dogwatch");
        command.args(args).current_dir(place.folder.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    std::fs::write(
        place.folder.path().join("greeting.yaml"),
        "kind: Check\nname: answer\nevery: 1h\ncommand: echo 42\nwarning: '> 41'\n",
    )
    .unwrap();
    let mut up = place.up().await;
    assert!(run(&["checks"]).await.contains("os_updates"), "the starter documents are applied");
    eventually("this host's agent has results", START, async || {
        let rows = run(&["results", "--check", "memory", "-o", "json"]).await;
        if rows.contains("\"origin\":\"agent\"") { Ok(()) } else { Err(rows) }
    })
    .await;
    let changed = run(&["apply", "greeting.yaml", "--yes", "-o", "json"]).await;
    assert_eq!(changed, "{\"kind\":\"Check\",\"name\":\"answer\",\"change\":\"created\"}\n");
    let args = ["key", "create", "--role", "agent", "--agent", "script-01", "--fact", "os=linux"];
    let key = run(&args).await;
    std::fs::write(place.folder.path().join("key"), key).unwrap();
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/shell-agent.sh");
    let mut command = Command::new(script);
    command
        .env("DOGWATCH_SERVER", format!("http://{}", place.http))
        .env("DOGWATCH_SUBMIT_URL", format!("http://{}/api/submit", place.submit))
        .env("DOGWATCH_API_KEY_FILE", place.folder.path().join("key"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");

    let answer = async || {
        let args = ["results", "--agent", "script-01", "--check", "answer", "-o", "json"];
        let rows = run(&args).await;
        let fits = rows.lines().count() == 1 && rows.contains("\"value\":42") && rows.contains("\"warning\"");
        if fits { Ok(rows) } else { Err(rows) }
    };
    let stored = eventually("the result is stored", START, answer).await;
    assert!(run(&["hosts"]).await.contains("script-01"));
    up.signal(2);
    assert!(up.ended(STOP).await.success(), "{}", up.stderr());
    drop(up);
    let _up = place.up().await;
    assert_eq!(eventually("it is still there", START, answer).await, stored);
    assert!(run(&["checks"]).await.contains("answer"));
}

#[tokio::test]
async fn a_folder_in_use_is_said_so() {
    let place = Place::new();
    let _up = place.up().await;
    let error = place.refusal(place.command()).await;
    assert!(error.contains("the data folder .dogwatch is in use by another process"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let place = Place::new();
    for (address, flag) in [
        (place.http.clone(), "--http"),
        (place.submit.clone(), "--submit"),
        (format!("127.0.0.1:{}", place.nats), "--nats-port"),
    ] {
        let _taken = TcpListener::bind(&address).unwrap();
        let error = place.refusal(place.command()).await;
        let port = address.rsplit(':').next().unwrap();
        assert!(error.contains(&format!("port {port} is in use")), "{error}");
        assert!(error.contains(&format!("choose another with {flag}")), "{error}");
    }
}

#[tokio::test]
async fn a_missing_or_old_nats_server_is_said_with_the_remedy() {
    let place = Place::new();
    let mut none = place.command();
    none.env_remove("DOGWATCH_NATS_SERVER").env("PATH", place.folder.path());
    let error = place.refusal(none).await;
    assert!(error.contains("no nats-server on PATH: install NATS 2.11 or newer"), "{error}");
    assert!(error.contains("cargo xtask up"), "{error}");

    let old = place.folder.path().join("old-nats-server");
    std::fs::write(&old, "#!/bin/sh\necho 'nats-server: v2.9.25'\n").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = place.command();
    command.arg("--nats-server").arg(&old);
    let error = place.refusal(command).await;
    assert!(error.contains("old-nats-server is version 2.9, which is too old"), "{error}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let place = Place::new();
    let mut command = place.command();
    command.args(["--data", "/proc/dogwatch"]);
    let error = place.refusal(command).await;
    assert!(
        error.contains("cannot use the data folder /proc/dogwatch: check that it can be written"),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_killed_run_left_behind_is_taken_down_by_the_next() {
    let place = Place::new();
    let mut up = place.up().await;
    let leftover = place.nats_pid();
    up.kill();
    assert!(alive(leftover), "the nats-server outlives a kill -9");
    let up = place.up().await;
    assert!(!alive(leftover));
    assert_ne!(place.nats_pid(), leftover);
    drop(up);
}

#[tokio::test]
async fn a_nats_server_that_dies_is_started_again() {
    let place = Place::new();
    let mut up = place.up().await;
    let first = place.nats_pid();
    kill(first);
    eventually("another nats-server runs", START, async || {
        let pid = place.nats_pid();
        if pid != first && alive(pid) { Ok(()) } else { Err("not yet") }
    })
    .await;
    up.wait_for("the nats-server is started again", START).await;
    up.signal(2);
    up.ended(STOP).await;
}

#[tokio::test]
async fn a_second_ctrl_c_ends_everything_at_once() {
    let place = Place::new();
    let mut up = place.up().await;
    let nats = place.nats_pid();
    // The nats-server cannot stop: the first Ctrl-C has to wait for it.
    signal(nats, "-STOP");
    up.signal(2);
    up.wait_for("a second Ctrl-C ends it at once", STOP).await;
    up.signal(2);
    assert_eq!(up.ended(Duration::from_secs(2)).await.code(), Some(1));
    gone(nats).await;
}

#[tokio::test]
async fn g4_init_broker_gives_an_agent_its_own_subjects_and_no_others() {
    let place = Place::new();
    let folder = place.folder.path();
    let init = || {
        let mut command = program::command("dogwatch");
        let listen = format!("127.0.0.1:{}", place.nats);
        command.current_dir(folder).args([
            "init-broker",
            "--data",
            "b",
            "--store",
            "store",
            "--listen",
            &listen,
        ]);
        command.args(["--monitor", &place.http, "--agent", "web-01", "--agent", "web-02"]);
        assert!(command.status().unwrap().success());
    };
    init();
    let seed = std::fs::read_to_string(folder.join("b/agent-web-01.nk")).unwrap();
    init();
    assert_eq!(std::fs::read_to_string(folder.join("b/agent-web-01.nk")).unwrap(), seed);

    let mut server = Command::new(testkit::nats::binary().canonicalize().unwrap());
    let _server = Program::spawn("nats-server", {
        server.args(["-c", "b/nats.conf"]).current_dir(folder);
        server
    });
    let url = format!("nats://127.0.0.1:{}", place.nats);
    let connect = async |file: &str| {
        let seed = std::fs::read_to_string(folder.join("b").join(file)).unwrap();
        eventually("sign in", START, async || {
            let options = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned());
            options.custom_inbox_prefix("_INBOX_web-01").connect(&url).await
        })
        .await
    };
    use futures_util::StreamExt;
    let (services, agent) = (connect("services.nk").await, connect("agent-web-01.nk").await);
    let mut heard = services.subscribe("dogwatch.>").await.unwrap();
    services.flush().await.unwrap();
    services.request("$JS.API.INFO", "".into()).await.expect("JetStream is on, and the services may use it");
    for subject in
        ["dogwatch.v1.result.web-02.disk", "dogwatch.v1.admin.apply", "dogwatch.v1.result.web-01.disk"]
    {
        agent.publish(subject, "x".into()).await.unwrap();
    }
    agent.flush().await.unwrap();
    let first = tokio::time::timeout(START, heard.next()).await.unwrap().unwrap();
    assert_eq!(first.subject.as_str(), "dogwatch.v1.result.web-01.disk");
    let health = tokio::net::TcpStream::connect(&place.http).await;
    assert!(health.is_ok(), "the server's own health is served");
    // The broker asks about a stranger, and there is no config-service that could answer. The client may take the
    // broker's patience for a sign-in, but nothing that it sends is heard.
    let nobody = async_nats::connect(&url).await;
    if let Ok(nobody) = &nobody {
        nobody.publish("dogwatch.v1.result.web-01.intruder", "x".into()).await.unwrap();
        nobody.flush().await.unwrap();
    }
    agent.publish("dogwatch.v1.result.web-01.last", "x".into()).await.unwrap();
    let next = tokio::time::timeout(START, heard.next()).await.unwrap().unwrap();
    assert_eq!(next.subject.as_str(), "dogwatch.v1.result.web-01.last", "nobody gets in without a key");
}

fn kill(pid: i32) {
    signal(pid, "-KILL");
}

fn signal(pid: i32, signal: &str) {
    assert!(Command::new("kill").arg(signal).arg(pid.to_string()).status().unwrap().success());
}
