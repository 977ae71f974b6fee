//! Commands that misbehave: each is bounded, gone afterwards, and has an outcome that says what happened.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use agent::outbound::probe::{
    Prober, Ran,
    command::{Commands, Delegated},
};
use protocol::{
    Status, limits,
    work::{Limits, RunSettings, Work},
};
use tokio_util::sync::CancellationToken;

use crate::{
    rig,
    run_settings::{exec, is_root, run, shell, text},
};

fn limited(limits: Limits) -> RunSettings {
    RunSettings { limits, ..RunSettings::default() }
}

async fn for_at_most(work: Work, timeout_ms: u64) -> Ran {
    let check = text(work, RunSettings::default(), timeout_ms);
    Prober::default().run(&check, &CancellationToken::new()).await.unwrap()
}

/// Processes whose command line holds `mark`, and that are no zombies.
fn alive(mark: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let line = |path: PathBuf| {
        fs::read(path.join("cmdline")).map(|line| String::from_utf8_lossy(&line).into_owned())
    };
    entries.filter_map(|entry| line(entry.path()).ok()).filter(|line| line.contains(mark)).collect()
}

async fn none_is_left(mark: &str) {
    testkit::eventually("nothing is left", Duration::from_secs(60), async || {
        let left = alive(mark);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// A text that no other process has in its command line.
fn mark(what: &str) -> String {
    format!("mark-{what}-{}", std::process::id())
}

/// Waits until `file` was written.
fn wait_for(file: &Path) -> String {
    format!("while ! [ -s {} ]; do sleep 0.02; done", file.display())
}

#[tokio::test]
async fn a_fork_bomb_is_bounded_and_gone() {
    if !is_root() {
        println!(
            "NOT TESTED: a fork bomb, since as a user of its own it cannot harm the others; run this as root"
        );
        return;
    }
    let mark = mark("bomb");
    // It stops by itself where the limit does not hold: this host has other work.
    let bomb = format!(
        "n=$1; b() {{ [ $n -gt 0 ] || {{ sleep 60; exit; }}; n=$((n - 1)); b & b & wait; }}; b; exec sleep 60; : {mark}"
    );
    let settings = RunSettings {
        user: Some("nobody".into()),
        ..limited(Limits { processes: Some(25), ..Limits::default() })
    };
    let check = text(exec(&["sh", "-c", &bomb, "sh", "9"]), settings, 3_000);
    let (prober, cancel) = (Prober::default(), CancellationToken::new());
    let (mut most, mut look) = (0, tokio::time::interval(Duration::from_millis(50)));
    let running = prober.run(&check, &cancel);
    tokio::pin!(running);
    let ran = loop {
        tokio::select! {
            ran = &mut running => break ran,
            _ = look.tick() => most = alive(&mark).len().max(most),
        }
    };
    let ran = ran.unwrap();
    assert_eq!(ran.finding.status, Status::Unknown);
    assert!(ran.finding.output.to_lowercase().contains("fork"), "{:?}", ran.finding);
    assert!(most <= 25, "{most}");
    none_is_left(&mark).await;
}

/// As in a container that was entered from outside: the kernel shows the number 0 for our session and our group.
#[test]
fn a_session_led_from_outside_a_container_is_no_trouble() {
    let contained = |program: &str, args: &[&str]| {
        let namespaces = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
        std::process::Command::new("unshare").args(namespaces).arg(program).args(args).output()
    };
    if !contained("true", &[]).is_ok_and(|ended| ended.status.success()) {
        println!("NOT TESTED: a container entered from outside, since unshare(1) may not make one here");
        return;
    }
    let tests = std::env::current_exe().unwrap();
    let name = "commands::a_timeout_kills_the_whole_group";
    let ended = contained(tests.to_str().unwrap(), &["--exact", name]).unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}{ended:?}");
}

#[tokio::test]
async fn without_cgroups_a_limit_of_processes_on_root_is_refused() {
    if !is_root() {
        println!("NOT TESTED: a limit of processes for root, since these tests do not run as root");
        return;
    }
    let prober = Prober::with_commands(Commands::with_cgroups(None));
    let check = text(shell("echo 1"), limited(Limits { processes: Some(5), ..Limits::default() }), 5_000);
    let finding = prober.run(&check, &CancellationToken::new()).await.unwrap().finding;
    assert_eq!(finding.status, Status::Unknown);
    assert!(finding.output.contains("give the check a run.user"), "{}", finding.output);
}

#[tokio::test]
async fn what_eats_memory_is_refused_it() {
    let settings = limited(Limits { memory_bytes: Some(64 << 20), ..Limits::default() });
    let dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"];
    let ran = run(exec(&dd), settings.clone()).await;
    assert_eq!(ran.finding.status, Status::Unknown);
    assert!(ran.finding.output.contains("memory exhausted"), "{:?}", ran.finding);
    assert!(ran.usage.unwrap().memory_bytes < 64 << 20, "{:?}", ran.usage);
    let ran = run(exec(&["dd", "if=/dev/zero", "of=/dev/null", "bs=3M", "count=1"]), settings).await;
    assert_eq!(ran.finding.status, Status::Ok, "{:?}", ran.finding);
}

#[tokio::test]
async fn what_burns_the_processor_is_stopped() {
    let settings = limited(Limits { cpu_ms: Some(1_000), ..Limits::default() });
    let ran = run(shell("while :; do :; done"), settings).await;
    assert_eq!(ran.finding.status, Status::Unknown);
    assert_eq!(ran.finding.output, "stopped by its limit: it took more processor time than 1s");
    assert!(ran.usage.unwrap().cpu_us >= 500_000, "{:?}", ran.usage);
    assert!(ran.finding.signal.is_some() && !ran.timed_out);
}

#[tokio::test]
async fn what_writes_a_large_file_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let settings = limited(Limits { file_size_bytes: Some(64 << 10), ..Limits::default() });
    let ran = run(shell(&format!("head -c 1000000 /dev/zero > {}", file.display())), settings).await;
    assert_eq!(ran.finding.status, Status::Unknown);
    let expected = "stopped by its limit: it wrote a file larger than 64 KiB";
    assert!(ran.finding.output.starts_with(expected), "{:?}", ran.finding);
    assert_eq!(fs::metadata(&file).unwrap().len(), 64 << 10);
}

#[tokio::test]
async fn g10_gigabytes_and_binaries_are_printed_in_vain() {
    let ran = for_at_most(shell("yes 0123456789 | head -c 1G"), 60_000).await;
    assert!(ran.finding.output.len() < limits::OUTPUT + 10 && ran.finding.output.ends_with("[cut]"));
    let ran = for_at_most(shell("head -c 20000 /dev/urandom"), 30_000).await;
    let odd = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!ran.finding.output.is_empty() && !ran.finding.output.contains(odd));
    protocol::encode(&ran.finding.output).unwrap();
}

#[tokio::test]
async fn g10_what_prints_on_without_end_after_the_command_does_not_hold_it_up() {
    let mark = mark("prints-on");
    // The command itself ends at once.
    let ran = for_at_most(shell(&format!("echo 42; yes {mark} &")), 60_000).await;
    assert_eq!((ran.finding.exit_code, ran.timed_out), (Some(0), false));
    assert!(ran.finding.output.starts_with("42\n") && ran.finding.output.len() < limits::OUTPUT + 10);
    none_is_left(&mark).await;
}

#[tokio::test]
async fn all_of_a_short_output_is_kept_and_more_than_a_pipe_holds_too() {
    for (size, command) in
        [(0, "true"), (5, "printf 12345"), (60_000, "head -c 60000 /dev/zero | tr '\\0' x")]
    {
        let ran = for_at_most(shell(command), 60_000).await;
        assert_eq!(ran.finding.output.len(), size, "{command}");
    }
    // The kernel's pipes hold 64 KiB: the writer waits until somebody reads.
    let mut settings = limited(Limits { output_bytes: Some(1 << 16), ..Limits::default() });
    settings.stdin = Some("x".repeat(200_000));
    let check = text(shell("cat; echo end >&2"), settings, 60_000);
    let ran = Prober::default().run(&check, &CancellationToken::new()).await.unwrap();
    assert_eq!((ran.finding.exit_code, ran.timed_out), (Some(0), false));
    assert!(ran.finding.output.ends_with("[cut]"), "{}", ran.finding.output.len());
    let ran = for_at_most(shell("head -c 300000 /dev/zero | tr '\\0' x; exit 5"), 60_000).await;
    assert_eq!(ran.finding.exit_code, Some(5));
}

#[tokio::test]
async fn what_closes_its_output_and_lives_on_is_still_timed() {
    let started = Instant::now();
    let ran = for_at_most(shell("exec >&- 2>&-; sleep 300"), 500).await;
    assert!(ran.timed_out && started.elapsed() < Duration::from_secs(20));
    assert_eq!(ran.finding.output, "timed out after 500ms");
    let ran = for_at_most(shell("exec >&- 2>&-; sleep 0.3; exit 4"), 30_000).await;
    assert_eq!(ran.finding.exit_code, Some(4));
}

#[tokio::test]
async fn a_signal_is_reported_as_such() {
    for (name, number) in [("KILL", 9), ("SEGV", 11), ("TERM", 15)] {
        let finding = for_at_most(shell(&format!("kill -{name} $$")), 30_000).await.finding;
        assert_eq!(
            (finding.status, finding.exit_code, finding.signal),
            (Status::Unknown, None, Some(number))
        );
        assert!(finding.output.contains(&format!("ended by signal {number}")), "{}", finding.output);
    }
}

#[tokio::test]
async fn what_needs_a_terminal_gets_none() {
    let finding = for_at_most(shell("read answer < /dev/tty"), 30_000).await.finding;
    assert_eq!(finding.status, Status::Unknown);
    assert!(finding.output.contains("/dev/tty"), "{}", finding.output);
    assert_eq!(for_at_most(shell("test -t 0 || echo none"), 30_000).await.finding.output, "none");
}

#[tokio::test]
async fn daemons_do_not_outlive_the_run_that_made_them() {
    let folder = tempfile::tempdir().unwrap();
    // In the order of how well it hides: a session, a second fork, no environment, a chain of such.
    for (name, start) in [
        ("session", "setsid MARKED &"),
        ("daemon", "(setsid sh -c 'MARKED & exit' &)"),
        ("bare", "(env -i setsid MARKED &)"),
        ("chain", "(setsid sh -c '(setsid sh -c \"MARKED & sleep 300\" &) ; sleep 300' &)"),
    ] {
        let (mark, file) = (mark(name), folder.path().join(name));
        let marked = format!("{}/{mark}", folder.path().display());
        fs::write(&marked, format!("echo $$ > {}; sleep 300; exit", file.display())).unwrap();
        let start = start.replace("MARKED", &format!("sh {marked} > /dev/null 2>&1 < /dev/null"));
        let quiet = "exec 3>&1 > /dev/null 2>&1";
        let ran =
            for_at_most(shell(&format!("{quiet}; {start}\n{}; echo 5 >&3", wait_for(&file))), 60_000).await;
        assert_eq!(ran.finding.output, "5", "{name}: {:?}", ran.finding);
        none_is_left(&mark).await;
    }
}

#[tokio::test]
async fn a_timeout_asks_those_that_left_the_group_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let (file, script) = (folder.path().join("asked"), folder.path().join(mark("asked")));
    let text =
        format!("trap 'echo yes > {}; exit' TERM; echo up; while :; do sleep 0.1; done", file.display());
    fs::write(&script, text).unwrap();
    // It stays until its child is gone, so that the child has the time.
    let command = format!("trap : TERM; setsid sh {} & wait; {}", script.display(), wait_for(&file));
    let ran = for_at_most(shell(&command), 3_000).await;
    assert!(ran.timed_out && ran.finding.output.contains("up"), "{:?}", ran.finding);
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), "yes");
    none_is_left(&mark("asked")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_commands_leave_no_zombie() {
    const AT_ONCE: usize = 20;
    let prober = Prober::default();
    let mut runs = tokio::task::JoinSet::new();
    for lane in 0..AT_ONCE {
        let prober = prober.clone();
        runs.spawn(async move {
            for turn in 0..1_000 / AT_ONCE {
                let command = match (lane + turn) % 4 {
                    0 => "(sleep 0.02 &) ; echo 1",
                    1 => "(setsid true &) ; echo 1",
                    _ => "echo 1",
                };
                let check = text(shell(command), RunSettings::default(), 60_000);
                let ran = prober.run(&check, &CancellationToken::new()).await.unwrap();
                assert_eq!(ran.finding.output, "1", "{:?}", ran.finding);
            }
        });
    }
    while let Some(ended) = runs.join_next().await {
        ended.unwrap();
    }
    testkit::eventually("there is no zombie", Duration::from_secs(30), async || {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        let own = format!("Z {} ", std::process::id());
        let zombies: Vec<_> =
            stats.filter(|stat| stat.rsplit(") ").next().unwrap().starts_with(&own)).collect();
        if zombies.is_empty() { Ok(()) } else { Err(format!("{zombies:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_process_that_got_the_number_of_a_command_is_left_alone() {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    for _ in 0..300 {
        let ran = for_at_most(shell("(sleep 0.05 &) ; echo $$"), 30_000).await;
        let number: u32 = ran.finding.output.parse().unwrap();
        if fs::write(LAST, (number - 1).to_string()).is_err() {
            println!("NOT TESTED: a process number used again, since {LAST} cannot be written here");
            return;
        }
        let mut other = std::process::Command::new("sleep").arg("300").process_group(0).spawn().unwrap();
        let same = other.id() == number;
        // Whatever is left to be done about the first run would be done now.
        for _ in 0..5 {
            for_at_most(shell("(setsid true &) ; echo 1"), 30_000).await;
        }
        let ended = other.try_wait().unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(ended, None);
        if same {
            return;
        }
    }
    println!("NOT TESTED: a process number used again, since others always came first");
}

#[tokio::test]
async fn a_changed_check_ends_its_run_and_nothing_of_it_stays() {
    let server = testkit::NatsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, mark) = (folder.path().join("pid"), mark("changed"));
    let client = server.client().await;
    let command =
        format!("setsid sh -c 'echo $$ > {}; sleep 300; exit' {mark} & wait; echo 1", file.display());
    let config = rig::Config::start(client.clone(), vec![rig::check("slow", 200, &command)]).await;
    let ingest = rig::Ingest::start(client).await;
    let agent = rig::Agent::start(&server.url(), &folder.path().join("state"), &[]).await;
    testkit::eventually("it runs", rig::LIMIT, async || fs::metadata(&file)).await;
    config.apply(2, vec![rig::check("slow", 200, "echo 2")]).await;
    testkit::eventually("the changed check runs", rig::LIMIT, async || {
        let results = ingest.results().await;
        let (old, new): (Vec<_>, Vec<_>) = results.iter().partition(|result| result.revision == 1);
        assert!(old.is_empty(), "{old:?}");
        if new.iter().any(|result| result.status == Status::Ok) { Ok(()) } else { Err(format!("{new:?}")) }
    })
    .await;
    none_is_left(&mark).await;
    agent.stop().await;
}

/// A cgroup of our own, if this host lets us have one.
struct OwnCgroup(PathBuf);

impl OwnCgroup {
    fn make() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mount =
            mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?.split(' ').nth(1)?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        let folder = Path::new(mount).join(own).join(mark("cgroup"));
        fs::create_dir(&folder).ok()?;
        Some(Self(folder))
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        let _gone = fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_cgroup_holds_the_whole_run() {
    let Some(own) = OwnCgroup::make() else {
        println!("NOT TESTED: cgroups, since none can be made here");
        return;
    };
    let enabled =
        |name: &str| fs::read_to_string(own.0.join("cgroup.subtree_control")).unwrap().contains(name);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("up");
    // Left over by an agent that was killed.
    fs::create_dir(own.0.join("check-old")).unwrap();
    let prober = Prober::with_commands(Commands::with_cgroups(Some(Delegated::at(own.0.clone()))));
    let limits = Limits { memory_bytes: Some(512 << 20), ..Limits::default() };
    let name = mark("cgrouped");
    let command = format!(
        "(env -i setsid sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; echo $$ > {}; sleep 300; exit' \
         {name} > /dev/null 2>&1 &)\n{}; cat /proc/self/cgroup",
        file.display(),
        wait_for(&file)
    );
    let check = text(shell(&command), limited(limits), 60_000);
    let ran = prober.run(&check, &CancellationToken::new()).await.unwrap();
    assert!(ran.finding.output.contains("/check-"), "{:?}", ran.finding);
    assert_eq!(alive(&name), Vec::<String>::new(), "they are gone when the result is there");
    // The loop ran in a process that nobody waited for: only the cgroup knows its time.
    assert!(ran.usage.unwrap().cpu_us > 10_000, "{:?}", ran.usage);
    let left = fs::read_dir(&own.0).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(left, 0);

    if enabled("memory") {
        let hungry = text(exec(&["sh", "-c", "head -c 900000000 /dev/zero | tail"]), limited(limits), 60_000);
        let ran = prober.run(&hungry, &CancellationToken::new()).await.unwrap();
        let expected = "stopped by its limit: it took more memory than 512 MiB";
        assert!(ran.finding.output.starts_with(expected), "{:?}", ran.finding);
        assert!(ran.usage.unwrap().memory_bytes > 400 << 20, "{:?}", ran.usage);
    } else {
        println!("NOT TESTED: memory limits of cgroups, since the controller cannot be enabled here");
    }
    if enabled("pids") {
        let many = "i=0; while [ $i -lt 50 ]; do sleep 5 & i=$((i + 1)); done; wait";
        let check = text(shell(many), limited(Limits { processes: Some(10), ..Limits::default() }), 60_000);
        let ran = prober.run(&check, &CancellationToken::new()).await.unwrap();
        let expected = "stopped by its limit: it wanted more than 10 processes at once";
        assert!(ran.finding.output.starts_with(expected), "{:?}", ran.finding);
    } else {
        println!("NOT TESTED: process limits of cgroups, since the controller cannot be enabled here");
    }
}
