//! What an agent costs its host: at rest, for each check that it runs, and beside others of its kind.
//!
//! The agent is the real program, in a process of its own; the parts that it talks to run in this one. What is
//! compared by rate is held to one core, and all else to the others.

pub(crate) mod bare;
mod nagios;
mod peers;
pub(crate) mod proc;
pub(crate) mod stack;

use std::{
    fmt::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    figure::{Figure, Rounds},
    progress,
};
use bare::{How, Measured};
use stack::Stack;

const MIB: f64 = 1024.0 * 1024.0;
const LIMIT: Duration = Duration::from_secs(60);
/// What the shell checks run: it prints a number and needs no other program.
const COMMAND: &str = "echo 42";
const SHELL_CHECKS: u32 = 2_000;
/// Built-in checks that answer on every Linux.
const BUILTINS: [&str; 10] =
    ["cpu", "memory", "swap", "load", "disk", "diskio", "network", "processes", "uptime", "open_files"];
const IDLE_CHECKS: usize = 20;

/// How much of it.
struct Extent {
    idle_windows: usize,
    idle_window: Duration,
    warm_up: Duration,
    rounds: usize,
    window: Duration,
    shell_checks: u32,
    scripts: u32,
    nagios: bool,
}

const FULL: Extent = Extent {
    idle_windows: 3,
    idle_window: Duration::from_secs(60),
    warm_up: Duration::from_secs(65),
    rounds: 5,
    window: Duration::from_secs(10),
    shell_checks: SHELL_CHECKS,
    scripts: 40,
    nagios: true,
};

const QUICK: Extent = Extent {
    idle_windows: 1,
    idle_window: Duration::from_secs(1),
    warm_up: Duration::ZERO,
    rounds: 1,
    window: Duration::from_secs(1),
    shell_checks: 50,
    scripts: 2,
    nagios: false,
};

/// What of it to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    /// Not what an agent costs at rest, which takes its time.
    Work,
}

pub(crate) async fn run(quick: bool, part: Part) -> anyhow::Result<Vec<Figure>> {
    let (extent, program) = (if quick { QUICK } else { FULL }, program()?);
    let mut stack = Stack::start().await?;
    let mut figures = match part {
        Part::All => idle(&mut stack, &program, &extent).await?,
        Part::Work => Vec::new(),
    };
    let cores = bare::cores();
    if let Some(cores) = &cores {
        stack.hold(&cores.others)?;
    } else {
        progress("agent: one core, or no taskset: what is measured shares it with what serves it");
    }
    figures.extend(work(&mut stack, &program, cores.as_ref().map(|cores| cores.one), &extent).await?);
    if let Some(cores) = &cores {
        stack.hold(&cores.all)?;
    }
    stack.stop().await?;
    Ok(figures)
}

/// The agent's program: the one that is shipped where `cargo xtask bench` built it, else the one beside this program.
fn program() -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os("DOGWATCH_BENCH_AGENT") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name("dogwatch-agent"),
    };
    ensure!(path.is_file(), "{} is missing: run `cargo xtask bench`, which builds it", path.display());
    Ok(path)
}

/// Another agent to measure in turn with it, as the one from before a change.
fn before() -> Option<PathBuf> {
    std::env::var_os("DOGWATCH_BENCH_AGENT_BEFORE").map(PathBuf::from)
}

/// Memory and CPU with 20 built-in checks a minute.
async fn idle(stack: &mut Stack, program: &Path, extent: &Extent) -> anyhow::Result<Vec<Figure>> {
    let builtins = BUILTINS.iter().cycle().take(IDLE_CHECKS).enumerate();
    stack
        .apply(documents(builtins.map(|(n, name)| (format!("idle_{n}"), "1m", format!("builtin: {name}")))))
        .await?;
    let agent = stack.agent(program, None, &[])?;
    let ours = &agent.running;
    let (peers, missing) = peers::start(stack.folder.path()).await?;
    stack.reach(&agent.id, IDLE_CHECKS as u64, LIMIT).await?;
    for (name, reason) in &missing {
        progress(&format!("agent: NOT MEASURED: {name}: {reason}"));
    }
    let asked = async {
        for turn in 0.. {
            for peer in &peers {
                if let Err(error) = peer.ask(turn).await {
                    progress(&format!("agent: {} was asked in vain: {error:#}", peer.name));
                }
            }
            tokio::time::sleep(Duration::from_secs(60) / 20).await;
        }
    };
    let pids: Vec<u32> =
        std::iter::once(ours.pid()).chain(peers.iter().map(|peer| peer.program.pid())).collect();
    let windows = async {
        tokio::time::sleep(extent.warm_up).await;
        let mut windows = Vec::new();
        for window in 1..=extent.idle_windows {
            let cpu = proc::watch(&pids, extent.idle_window).await;
            let ours = proc::memory(ours.pid())?;
            // A peer that ended or cannot be looked at is as good as missing.
            let theirs = peers.iter().map(|peer| proc::memory(peer.program.pid()).unwrap_or(f64::NAN));
            let memory: Vec<f64> = std::iter::once(ours).chain(theirs).collect();
            let (cpu, memory) = (
                cpu.iter().map(|used| used / extent.idle_window.as_secs_f64() * 100.0).collect::<Vec<_>>(),
                memory.iter().map(|bytes| bytes / MIB).collect::<Vec<_>>(),
            );
            progress(&format!("agent: idle, window {window}: {memory:.2?} MiB, {cpu:.4?} % of a core"));
            windows.push((memory, cpu));
        }
        anyhow::Ok(windows)
    };
    let windows = tokio::select! {
        windows = windows => windows?,
        () = asked => Vec::new(),
    };
    let column = |index: usize, cpu: bool| -> Vec<f64> {
        let pick = |(memory, used): &(Vec<f64>, Vec<f64>)| {
            if cpu { used.get(index).copied() } else { memory.get(index).copied() }
        };
        windows.iter().filter_map(pick).collect()
    };
    let mut figures = Vec::new();
    for (metric, unit, cpu, limit, target) in
        [("memory", "MiB", false, 6.0, "<= 6 MiB"), ("cpu", "% of a core", true, 0.05, "<= 0.05 %")]
    {
        let ours = column(0, cpu);
        let new = |peer, values: &[f64]| figure("idle", (metric, unit), &ours, peer, values);
        figures.push(new("limit", &[limit])?.held_to(target, |figure| figure.value <= limit));
        for (index, peer) in peers.iter().enumerate() {
            figures.push(new(peer.name, &column(index + 1, cpu))?);
        }
        for (name, _) in &missing {
            figures.push(new(name, &[])?);
        }
    }
    Ok(figures)
}

/// Rate and CPU of checks under load.
async fn work(
    stack: &mut Stack,
    program: &Path,
    core: Option<usize>,
    extent: &Extent,
) -> anyhow::Result<Vec<Figure>> {
    // As many as the core can do, and more: an agent that is not busy would be compared with one that is.
    let most = bare::run(How::Tokio, core, COMMAND, extent.window).await?.rate;
    let mut checks = extent.shell_checks;
    while f64::from(checks) < most * 1.1 && extent.nagios {
        checks += 500;
    }
    stack
        .apply(documents((0..checks).map(|n| (format!("shell_{n}"), "1s", format!("command: {COMMAND}")))))
        .await?;
    let before = before();
    let (mut bare, mut alone) = (Vec::new(), Vec::new());
    let (mut shell, mut shell_before) = (Vec::new(), Vec::new());
    for round in 1..=extent.rounds {
        bare.push(bare::run(How::Tokio, core, COMMAND, extent.window).await?);
        alone.push(bare::run(How::Alone, core, COMMAND, extent.window / 2).await?);
        shell.push(load(stack, program, core, extent).await?);
        if let Some(before) = &before {
            shell_before.push(load(stack, before, core, extent).await?);
        }
        if let (Some(bare), Some(ours)) = (bare.last(), shell.last()) {
            progress(&format!(
                "agent: shell, round {round}/{}, {checks} checks: bare {:.0}/s and {:.3} ms, agent {:.0}/s and {:.3} ms",
                extent.rounds, bare.rate, bare.cpu_ms, ours.rate, ours.cpu_ms
            ));
        }
    }
    let nagios = match extent.nagios {
        true => nagios::run(stack.folder.path(), core, checks, COMMAND).await,
        false => Err(anyhow::anyhow!("left out by --quick")),
    };
    let nagios: Vec<Measured> = match nagios {
        Ok(measured) => vec![measured],
        Err(error) => {
            progress(&format!("agent: NOT MEASURED: nagios4: {error:#}"));
            Vec::new()
        }
    };
    let script = match scripts(stack, extent).await {
        Ok(cpu) => cpu,
        Err(error) => {
            progress(&format!("agent: NOT MEASURED: bash agent: {error:#}"));
            Vec::new()
        }
    };

    let each = documents(
        (0..checks)
            .zip(BUILTINS.iter().cycle())
            .map(|(n, name)| (format!("builtin_{n}"), "1s", format!("builtin: {name}"))),
    );
    stack.apply(each).await?;
    let (mut builtin, mut builtin_before) = (Vec::new(), Vec::new());
    for round in 1..=extent.rounds {
        builtin.push(load(stack, program, core, extent).await?);
        if let Some(before) = &before {
            builtin_before.push(load(stack, before, core, extent).await?);
        }
        if let Some(ours) = builtin.last() {
            let (rate, cpu) = (ours.rate, ours.cpu_ms * 1e3);
            progress(&format!(
                "agent: built-ins, round {round}/{}: {rate:.0}/s, {cpu:.0} µs each",
                extent.rounds
            ));
        }
    }

    let rate = |measured: &[Measured]| measured.iter().map(|one| one.rate.round()).collect::<Vec<_>>();
    let cpu = |measured: &[Measured]| measured.iter().map(|one| one.cpu_ms * 1e3).collect::<Vec<_>>();
    let new = |case, metric, ours: &[f64], peer, theirs: &[f64]| {
        let unit = if metric == "rate" { "checks/s" } else { "µs of CPU" };
        figure(case, (metric, unit), ours, peer, theirs)
    };
    let loops = "bare tokio loop";
    let mut figures = Vec::new();
    if before.is_some() {
        let (shell, builtin) = (cpu(&shell), cpu(&builtin));
        figures.push(new("shell", "cpu", &shell, "agent before", &cpu(&shell_before))?);
        figures.push(new("builtin", "cpu", &builtin, "agent before", &cpu(&builtin_before))?);
    }
    figures.extend([
        new("shell", "rate", &rate(&shell), loops, &rate(&bare))?
            .held_to("ratio >= 0.9", |it| it.ratio >= 0.9),
        new("shell", "rate", &rate(&shell), "nagios4", &rate(&nagios))?,
        new("shell", "cpu", &cpu(&shell), loops, &cpu(&bare))?,
        new("shell", "cpu", &cpu(&shell), "nagios4", &cpu(&nagios))?,
        new("shell", "cpu", &cpu(&shell), "bash agent", &script)?
            .held_to("ratio <= 1/80", |it| it.ratio <= 1.0 / 80.0),
        new("shell_alone", "cpu", &cpu(&alone), "bash agent", &script)?,
        new("builtin", "cpu", &cpu(&builtin), "bash agent", &script)?
            .held_to("ratio <= 1/1000", |it| it.ratio <= 1.0 / 1000.0),
    ]);
    Ok(figures)
}

/// A new agent with what is configured: results a second, and CPU time of one with its way to the spool and the broker.
async fn load(
    stack: &mut Stack,
    program: &Path,
    core: Option<usize>,
    extent: &Extent,
) -> anyhow::Result<Measured> {
    let monitor = testkit::free_address();
    // As a host that is meant to run thousands of checks a second would be set.
    let no_budget = ["--max-cpu", "0", "--monitor", &monitor.to_string()];
    let agent = stack.agent(program, core, &no_budget)?;
    let pid = agent.running.pid();
    stack.reach(&agent.id, 1, LIMIT).await?;
    // The first runs come within 2 s.
    tokio::time::sleep(Duration::from_secs(3).min(extent.window)).await;
    let (made, used, begun) = (results(monitor).await?, proc::cpu(pid), Instant::now());
    tokio::time::sleep(extent.window).await;
    let (made, used) = (results(monitor).await? - made, proc::cpu(pid) - used);
    let window = begun.elapsed().as_secs_f64();
    ensure!(made > 0.0, "no result of {} in {window:.0} s", agent.id);
    Ok(Measured { rate: made / window, cpu_ms: used * 1e3 / made })
}

/// What the agent itself says that it has measured.
async fn results(monitor: SocketAddr) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(monitor).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut text)).await.context("its metrics")??;
    let count =
        text.lines().find_map(|line| line.strip_prefix("dogwatch_agent_results_total ")?.parse().ok());
    count.with_context(|| format!("the agent does not count its results: {text}"))
}

/// CPU time of a check by bash, curl and jq, in microseconds, in a few rounds.
async fn scripts(stack: &Stack, extent: &Extent) -> anyhow::Result<Vec<f64>> {
    let (url, key) = stack.script_key().await?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bash-agent.sh");
    // The shell waits for each, so that its account at the end is that of all.
    let all = "server=$1 key=$2 count=$3; for ((n = 0; n < count; n++)); do \"$0\" \"$server\" \"$key\" shell_$n || exit; done; \
               cat /proc/$$/stat";
    let mut rounds = Vec::new();
    for _ in 0..extent.rounds.min(3) {
        let mut bash = tokio::process::Command::new("bash");
        bash.args(["-c", all, script, &url]).arg(&key).arg(extent.scripts.to_string());
        let output =
            tokio::time::timeout(LIMIT, bash.kill_on_drop(true).output()).await.context("too slow")??;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "it failed: {}", String::from_utf8_lossy(&output.stderr));
        let ticks = text.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().skip(11).take(4));
        let ticks: f64 =
            ticks.context("no account of it")?.filter_map(|field| field.parse::<f64>().ok()).sum();
        rounds.push(ticks * 1e4 / f64::from(extent.scripts));
    }
    Ok(rounds)
}

/// Name, interval and work of each.
fn documents(checks: impl Iterator<Item = (String, &'static str, String)>) -> String {
    let mut text = String::new();
    for (name, every, work) in checks {
        let _infallible = write!(text, "---\nkind: Check\nname: {name}\nevery: {every}\n{work}\n");
    }
    text
}

/// `theirs` is empty for a peer that is missing.
fn figure(
    case: &'static str,
    (metric, unit): (&'static str, &'static str),
    ours: &[f64],
    peer: &'static str,
    theirs: &[f64],
) -> anyhow::Result<Figure> {
    let ours = Rounds::of(ours).context("no rounds")?;
    Ok(Figure::beside("agent", case, (metric, unit), &ours, peer, Rounds::of(theirs).as_ref()))
}
