//! What the kernel says of a process and of all that it started.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::Instant;

/// How often threads are looked at, since one that ended cannot be asked any more.
const LOOK: Duration = Duration::from_millis(500);
/// Kernel ticks a second (`USER_HZ`, the same on every Linux that matters).
const TICKS: f64 = 100.0;

/// A process of the benchmark, ended with all that it started when dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Its output goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let log = fs::File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let tree = tree(self.pid());
        // In order first: some clean up after themselves.
        for signal in ["-TERM", "-KILL"] {
            let pids = tree.iter().map(u32::to_string);
            let _gone = Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status();
            for _ in 0..100 {
                let gone = |pid: &u32| Stat::of(*pid).is_none_or(|stat| stat.zombie);
                if !self.alive() && tree.iter().all(gone) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Of `/proc/PID/stat`.
struct Stat {
    zombie: bool,
    parent: u32,
    /// Of its own and of its children that have ended, in ticks.
    ticks: f64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Self {
            zombie: *fields.first()? == "Z",
            parent: fields.get(1)?.parse().ok()?,
            ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        })
    }
}

/// `pid` and everything below it.
fn tree(pid: u32) -> BTreeSet<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, Stat::of(pid)?.parent))).collect();
    let mut tree = BTreeSet::from([pid]);
    loop {
        let known = tree.len();
        tree.extend(
            parents
                .iter()
                .filter(|(_, parent)| tree.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if tree.len() == known {
            return tree;
        }
    }
}

/// CPU time of a tree of processes so far in seconds, that of children who ended included; in steps of 10 ms.
pub(crate) fn cpu(pid: u32) -> f64 {
    tree(pid).into_iter().filter_map(|pid| Some(Stat::of(pid)?.ticks)).sum::<f64>() / TICKS
}

/// Proportional set size of a tree of processes in bytes: what it takes, shared pages divided by those who share them.
///
/// # Errors
/// When it cannot be read, as without root for processes of others.
pub(crate) fn memory(pid: u32) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for pid in tree(pid) {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = match fs::read_to_string(&path) {
            // It ended since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.with_context(|| format!("cannot read {path}"))?,
        };
        let pss = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<f64>().ok());
        sum += pss.with_context(|| format!("{path} names no Pss"))? * 1024.0;
    }
    Ok(sum)
}

/// CPU time that each of several trees of processes uses within `window`, in seconds, to the microsecond.
pub(crate) async fn watch(pids: &[u32], window: Duration) -> Vec<f64> {
    let end = Instant::now() + window;
    let mut known: Vec<BTreeMap<(u32, String), u64>> = pids.iter().map(|pid| threads(*pid)).collect();
    let mut used = vec![0_u64; pids.len()];
    while Instant::now() < end {
        tokio::time::sleep_until(end.min(Instant::now() + LOOK)).await;
        for ((pid, known), used) in pids.iter().zip(&mut known).zip(&mut used) {
            let now = threads(*pid);
            let grown =
                |(thread, ran): (&_, &u64)| ran.saturating_sub(known.get(thread).copied().unwrap_or(0));
            *used += now.iter().map(grown).sum::<u64>();
            *known = now;
        }
    }
    #[allow(clippy::cast_precision_loss)] // far below 2^53 ns
    used.into_iter().map(|nanoseconds| nanoseconds as f64 / 1e9).collect()
}

/// How long each thread of a tree has run, in nanoseconds.
fn threads(pid: u32) -> BTreeMap<(u32, String), u64> {
    let mut found = BTreeMap::new();
    for pid in tree(pid) {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let ran = fs::read_to_string(thread.path().join("schedstat")).ok();
            if let Some(ran) = ran.and_then(|text| text.split_whitespace().next()?.parse().ok()) {
                found.insert((pid, thread.file_name().to_string_lossy().into_owned()), ran);
            }
        }
    }
    found
}
