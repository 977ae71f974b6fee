//! The host's policy, pauses, budget, reload, systemd and own facts, with the agent as a real process.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use agent::{
    core::guard::Budget,
    metrics::Metrics,
    outbound::{
        budget,
        checks::{Checks, Clock},
    },
    store::{results::Results, spool::Limits},
};
use protocol::{CheckResult, Status, config::CheckSpec};
use testkit::{NatsServer, Program};
use tokio_util::sync::CancellationToken;

use crate::rig::{Agent, Config, Ingest, LIMIT, check, id, of};

/// The agent's program with settings of no other machine.
pub(crate) fn command(url: &str, state: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dogwatch-agent"));
    for (variable, _) in std::env::vars_os() {
        if ["DOGWATCH_", "NOTIFY_", "WATCHDOG_"].iter().any(|own| variable.to_string_lossy().starts_with(own))
        {
            command.env_remove(variable);
        }
    }
    command.args(["--agent-id", "web-01", "--nats-url", url]).arg("--state").arg(state).args(more);
    command
}

fn program(url: &str, state: &Path, more: &[&str]) -> Program {
    Program::spawn("dogwatch-agent", command(url, state, more))
}

pub(crate) fn builtin(name: &str, builtin: &str) -> CheckSpec {
    let mut spec = check(name, 300, "");
    (spec.work.command, spec.work.builtin) = (None, Some(builtin.into()));
    spec
}

/// A file that only its owner can write.
pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

#[tokio::test]
async fn g3_the_policy_wins_over_the_service_and_a_reload_reads_it_again() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let config =
        Config::start(server.client().await, vec![check("shell", 300, "echo 7"), builtin("load", "load")])
            .await;
    let folder = tempfile::tempdir().unwrap();
    let (policy, settings) = (folder.path().join("policy.toml"), folder.path().join("agent.toml"));
    write(&policy, "no_shell = true\n");
    write(&settings, "label = ['role=web']\n");
    let flags = ["--policy", policy.to_str().unwrap(), "--config", settings.to_str().unwrap()];
    let mut agent = program(&server.url(), &folder.path().join("state"), &flags);

    let results =
        ingest.wait("both", |all| !of(all, "shell").is_empty() && !of(all, "load").is_empty()).await;
    let refused = of(&results, "shell")[0];
    assert_eq!(refused.status, Status::Unknown);
    assert_eq!(refused.output, "refused by this host's policy: no_shell: it may not use a shell");
    assert_ne!(of(&results, "load")[0].status, Status::Unknown);
    config
        .reported("the refusal (G8)", |status| {
            status
                .error
                .as_deref()
                .is_some_and(|error| error.starts_with("shell: refused by this host's policy"))
        })
        .await;

    write(&policy, "[allow]\ncommands = ['echo 7']\n");
    write(&settings, "label = ['role=db']\n");
    agent.signal(1);
    let ran = |all: &[CheckResult]| of(all, "shell").last().is_some_and(|last| last.status == Status::Ok);
    ingest.wait("the command may run now", ran).await;
    testkit::eventually("the new label is told", LIMIT, async || {
        let labels = config.asked.lock().unwrap().last().map(|asked| asked.labels.clone());
        if labels.as_ref().is_some_and(|labels| labels.get("role").is_some_and(|role| role == "db")) {
            Ok(())
        } else {
            Err(format!("{labels:?}"))
        }
    })
    .await;
    config
        .reported("the built-in is refused now", |status| {
            status.error.as_deref().is_some_and(|error| error.contains("built-in load is not in [allow]"))
        })
        .await;

    write(&policy, "no_shel = true\n");
    agent.signal(1);
    agent.wait_for("what was read before stays", LIMIT).await;
    config
        .reported("why the new policy is not used", |status| {
            status.error.as_deref().is_some_and(|error| error.contains("unknown field `no_shel`"))
        })
        .await;
    let before = of(&ingest.results().await, "shell").len();
    ingest.wait("it goes on under the old one", |all| of(all, "shell").len() > before + 2 && ran(all)).await;
    agent.signal(15);
    assert_eq!(agent.ended(LIMIT).await.code(), Some(0));
}

#[tokio::test]
async fn g3_without_a_policy_that_can_be_read_the_agent_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let url = format!("nats://{}", testkit::free_address());
    for (text, mode, expected) in [
        (None, 0, "cannot be read"),
        (Some("no_shel = true"), 0o644, "unknown field `no_shel`"),
        (Some(""), 0o666, "others can write it (mode 666): chmod go-w it"),
    ] {
        if let Some(text) = text {
            fs::write(&policy, text).unwrap();
            fs::set_permissions(&policy, fs::Permissions::from_mode(mode)).unwrap();
        }
        for more in [&[][..], &["--once"], &["--print-config"]] {
            let flags = [&["--policy", policy.to_str().unwrap()], more].concat();
            let ended = command(&url, &folder.path().join("state"), &flags).output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), Some(2), "{said}");
            assert!(said.contains(expected) && said.contains("policy.toml"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_check_that_keeps_timing_out_is_paused_and_says_so() {
    let server = NatsServer::start().await;
    let ingest = Ingest::start(server.client().await).await;
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let slow = check("slow", 200, &format!("echo x >> {}; sleep 60", runs.display()));
    let slow = CheckSpec { timeout_ms: 300, ..slow };
    let config = Config::start(server.client().await, vec![slow.clone(), check("good", 200, "echo 1")]).await;
    let agent = Agent::start(&server.url(), &folder.path().join("state"), &["--pause-after", "3"]).await;
    let results = ingest.wait("it is paused for a while", |all| of(all, "slow").len() > 6).await;
    let slow_results = of(&results, "slow");
    for (index, result) in slow_results.iter().enumerate() {
        let (output, paused) = (&result.output, index >= 2);
        assert_eq!(output.starts_with("paused until 20"), paused, "{index}: {output}");
        assert_eq!(output.contains("timed out 3 times in a row"), paused, "{index}: {output}");
        assert_eq!(output.ends_with("timed out after 300ms"), index < 3, "{index}: {output}");
        assert_eq!(result.status, Status::Unknown);
    }
    // A busy machine may end a run before its first word.
    let count = fs::read_to_string(&runs).unwrap_or_default().lines().count();
    assert!(count <= 3, "it does not run meanwhile: {count}");
    assert_eq!(agent.metric("checks_paused"), 1);
    assert!(agent.metric("checks_left_out_paused_total") >= 4);
    assert!(of(&results, "good").iter().all(|result| result.status == Status::Ok));

    // A changed check begins anew.
    config.apply(2, vec![CheckSpec { timeout_ms: 400, ..slow }]).await;
    let again = |all: &[CheckResult]| of(all, "slow").iter().any(|r| r.output == "timed out after 400ms");
    ingest.wait("it runs again", again).await;
    agent.stop().await;
}

#[tokio::test]
async fn over_its_budget_the_agent_runs_one_check_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { max_bytes: 1 << 20, max_age: Duration::from_secs(60) };
    let results = Results::open(folder.path(), limits, 1, Metrics::default()).unwrap();
    let metrics = Metrics::default();
    let checks = Checks::new(id(), Clock::start(), results, metrics.clone(), 4);
    let (handle, stop) = (checks.handle(), CancellationToken::new());
    let running = handle.permits.acquire().await.unwrap();
    let budget = Budget { memory_bytes: 1, cpu_percent: 0.0 };
    let watch = tokio::spawn(budget::watch(budget, 4, (handle.clone(), metrics.clone()), stop.clone()));
    testkit::eventually("three places are withheld", LIMIT, async || {
        // The one that runs keeps its place.
        let free = handle.permits.available_permits();
        if free == 0 && metrics.over_budget.get() == 1 { Ok(()) } else { Err(free) }
    })
    .await;
    drop(running);
    assert_eq!(handle.permits.available_permits(), 1);
    assert!(metrics.memory_bytes.get() > 1 << 20);
    stop.cancel();
    watch.await.unwrap().unwrap();
    testkit::eventually("all places are given back", LIMIT, async || {
        let free = handle.permits.available_permits();
        if free == 4 { Ok(()) } else { Err(free) }
    })
    .await;
    // This schedule never began, so the watchdog is told nothing.
    assert!(tokio::time::timeout(Duration::from_millis(200), handle.turned()).await.is_err());
}

#[tokio::test]
async fn systemd_is_told_ready_alive_reloading_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let server = NatsServer::start().await;
    let _config = Config::start(server.client().await, vec![check("c", 60_000, "echo 1")]).await;
    let mut command = command(&server.url(), &folder.path().join("state"), &[]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let mut agent = Program::spawn("dogwatch-agent", command);
    let told = Arc::new(Mutex::new(String::new()));
    let listening = Arc::clone(&told);
    let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok(length) = socket.recv(&mut buffer).await {
            listening.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    });
    let told_of = async |wanted: &str, times: usize| {
        testkit::eventually(&format!("systemd is told {wanted}"), LIMIT, async || {
            let told = told.lock().unwrap().clone();
            if told.lines().filter(|line| *line == wanted).count() >= times { Ok(()) } else { Err(told) }
        })
        .await;
    };
    told_of("READY=1", 1).await;
    told_of("STATUS=revision 1: 1 checks, 0 that cannot run; the broker is connected", 1).await;
    told_of("WATCHDOG=1", 3).await;
    agent.signal(1);
    told_of("RELOADING=1", 1).await;
    told_of("READY=1", 2).await;
    let text = told.lock().unwrap().clone();
    let at = text.find("RELOADING=1").unwrap();
    assert!(text[at..].lines().nth(1).unwrap().starts_with("MONOTONIC_USEC="), "{text}");
    agent.signal(15);
    told_of("STOPPING=1", 1).await;
    assert_eq!(agent.ended(LIMIT).await.code(), Some(0));
}

#[tokio::test]
async fn own_facts_are_sent_when_they_change_and_bad_ones_are_told() {
    let server = NatsServer::start().await;
    let config = Config::start(server.client().await, vec![check("c", 60_000, "echo 1")]).await;
    let folder = tempfile::tempdir().unwrap();
    let facts = folder.path().join("facts.d");
    fs::create_dir(&facts).unwrap();
    write(&facts.join("rack.json"), r#"{"rack": "b7"}"#);
    write(&facts.join("bad.json"), "{");
    fs::write(
        facts.join("count"),
        format!("#!/bin/sh\nls {} | wc -l | sed 's/ *//; s/^/files=/'\n", facts.display()),
    )
    .unwrap();
    fs::set_permissions(facts.join("count"), fs::Permissions::from_mode(0o755)).unwrap();
    let flags = ["--facts-dir", facts.to_str().unwrap(), "--poll", "1s"];
    let agent = program(&server.url(), &folder.path().join("state"), &flags);
    let told = async |what: &str, fact: &str, value: &str| {
        testkit::eventually(what, LIMIT, async || {
            let asked = config.asked.lock().unwrap().clone();
            let sent: Vec<_> = asked.iter().filter_map(|asked| asked.facts.clone()).collect();
            let last = sent.last().and_then(|facts| facts.get(fact).cloned());
            if last.as_ref().is_some_and(|last| last == value) { Ok(sent) } else { Err(format!("{last:?}")) }
        })
        .await
    };
    told("the program's fact", "files", "3").await;
    let sent = told("the file's fact", "rack", "b7").await;
    assert!(sent[0].contains_key("boot_time") && sent[0].contains_key("os_family"), "{:?}", sent[0]);
    config
        .reported("the bad file", |status| {
            status
                .error
                .as_deref()
                .is_some_and(|error| error.starts_with("facts left out: bad.json: not a JSON"))
        })
        .await;
    let polls = config.asked.lock().unwrap().len();
    testkit::eventually("it polls", LIMIT, async || {
        let asked = config.asked.lock().unwrap().clone();
        if asked.len() > polls + 1 { Ok(()) } else { Err(asked.len()) }
    })
    .await;
    let sent = told("nothing new", "rack", "b7").await;
    assert_eq!(sent.len(), 1, "facts that did not change are not sent again");
    write(&facts.join("rack.json"), r#"{"rack": "c1"}"#);
    fs::remove_file(facts.join("bad.json")).unwrap();
    told("a changed file", "rack", "c1").await;
    agent.signal(1);
    told("a program after a reload", "files", "2").await;
    config.reported("all is well", |status| status.error.is_none()).await;
}

/// The unit as it is installed, with this build's program.
#[test]
fn systemd_understands_the_unit() {
    let deploy = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd"));
    let unit = fs::read_to_string(deploy.join("dogwatch-agent.service")).unwrap();
    for line in ["Type=notify", "Delegate=yes", "User=dogwatch", "KillMode=mixed", "OOMPolicy=continue"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("NOT TESTED: systemd-analyze is missing (package systemd), so the unit was not verified");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dogwatch-agent.service");
    fs::write(&path, unit.replace("/usr/bin/dogwatch-agent", env!("CARGO_BIN_EXE_dogwatch-agent"))).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // Complaints about other units of the machine are not ours.
    let ours = said.lines().any(|line| line.contains("dogwatch-agent"));
    assert!(verified.status.success() && !ours, "{said}");
    let users = deploy.join("dogwatch-agent.sysusers");
    match Command::new("systemd-sysusers").arg("--dry-run").arg(&users).output() {
        Ok(made) => assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr)),
        Err(_) => println!("NOT TESTED: systemd-sysusers is missing (package systemd)"),
    }
}

#[test]
fn the_manual_has_a_policy_that_is_read_and_every_fact_and_setting() {
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/AGENT.md")).unwrap();
    let example = manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let policy = agent::core::policy::Policy::parse(example).unwrap();
    assert!(policy.no_shell && example.starts_with("# /etc/dogwatch/policy.toml"));
    for fact in agent::outbound::probe::facts::detect().keys() {
        assert!(manual.contains(&format!("`{fact}`")), "the manual lacks the fact {fact}");
    }
    for flag in ["facts-dir", "policy", "pause-after", "max-memory", "max-cpu"] {
        let variable = format!("DOGWATCH_AGENT_{}", flag.to_uppercase().replace('-', "_"));
        assert!(manual.contains(&format!("| `--{flag}` | `{variable}` |")), "{flag}");
    }
}
