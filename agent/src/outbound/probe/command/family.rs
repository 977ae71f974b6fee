//! Whose child is whose: every process that a run started is gone after it, those that left its process group or
//! session included, and none of them stays a zombie.
//!
//! Children belong to the process, not to an object in it, so what is known about them is kept once for the process.
//! The process is made a sub-reaper: a descendant whose parent has died becomes a child of ours, so whatever hides
//! behind others comes up as soon as those are gone. Such an orphan names its run in its environment
//! ([`MARKER`]). One that has hidden that is known by its session or its group, and goes when all runs that were under
//! way when it was first seen are over. Children that others in this process started (`dogwatch up` starts a
//! NATS server) have none of these marks and are left alone.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::process::{self, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

/// The variable that names the run in the environment of its processes.
pub(super) const MARKER: &str = "CHECK_RUN";

/// How long a run waits for orphans to be gone; after that they are followed without it.
const PATIENCE: Duration = Duration::from_millis(200);
/// A dead child that no mark tells from those of others is collected when it stayed uncollected for so long.
const NOBODYS: Duration = Duration::from_secs(60);
/// The longest wait between two looks at what a run that just ended left behind.
const LOOK: Duration = Duration::from_millis(20);
/// How soon a child of somebody else is looked at again.
const ANOTHER_LOOK: Duration = Duration::from_secs(10);
/// Most bytes of the kernel's list of children that are looked at in one sweep.
const CHILDREN: usize = 1024 * 1024;
/// How often to look for what a former life left behind, while there is some.
const FORMER_SWEEPS: usize = 50;
/// Between scans of all of `/proc`, where the kernel does not list children (no `CONFIG_PROC_CHILDREN`).
const SCAN_EVERY: Duration = Duration::from_secs(1);

static FAMILY: LazyLock<Mutex<Family>> = LazyLock::new(|| {
    let adopts = process::set_child_subreaper(Some(process::getpid()));
    if let Err(error) = adopts {
        tracing::warn!(%error, "cannot adopt what checks leave behind: what leaves its process group may stay");
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    // Not by getsid() and getpgrp(): in a container these may be led from outside, and rustix has no process 0.
    let own = Stat::of(raw(process::getpid()));
    Mutex::new(Family {
        name: format!("{}.{since}", process::getpid()),
        session: own.as_ref().map(|own| own.session),
        group: own.map_or(0, |own| own.group),
        ..Family::default()
    })
});

fn family() -> MutexGuard<'static, Family> {
    FAMILY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

#[derive(Default)]
struct Family {
    /// Tells our runs from those of another agent.
    name: String,
    session: Option<i32>,
    group: i32,
    last_run: u64,
    runs: BTreeSet<u64>,
    /// Runs that have not registered their child yet.
    starting: BTreeSet<u64>,
    /// Children of ours that a run waits for, and those that it gave up.
    children: HashMap<i32, Child>,
    strangers: HashMap<i32, Stranger>,
    followed: bool,
    /// The kernel's list of our children.
    list: Option<File>,
    scanned: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq)]
enum Child {
    Awaited,
    Abandoned,
}

/// A child that no run has registered.
struct Stranger {
    kind: Kind,
    /// Of this kind.
    since: Instant,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// It goes when this run ends.
    Of(u64),
    /// It goes when all runs up to this one have ended.
    Until(u64),
    /// Ended, and once started by a run. It is collected when no run up to this one can be about to register it.
    DeadOrphan(u64),
    /// Ended; it may be a child of somebody else in this process.
    Dead,
    Foreign,
}

/// What tells the runs of this process from those of any other, now or before: to be kept for [`end_former`].
pub fn life() -> String {
    family().name.clone()
}

/// End what the runs of a `former` life left behind, which nobody could end when it was killed. Blocks while it reads
/// all of `/proc`. Returns how many processes were found.
pub fn end_former(former: &str) -> usize {
    let is_name = !former.is_empty() && former.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    // Another agent in the same process may have run under it.
    if !is_name || former == life() {
        return 0;
    }
    let mut found = BTreeSet::new();
    for _ in 0..FORMER_SWEEPS {
        let marked = |stat: &Stat| stat.state != 'Z' && run_of(stat.pid, former).is_some();
        let left: Vec<Stat> = processes().into_iter().filter(marked).collect();
        if left.is_empty() {
            break;
        }
        for stat in left {
            // With its group, if it leads one: a run's first process does, and not all in it may show the mark.
            if stat.group == stat.pid {
                kill(stat.pid, stat.group);
            } else {
                stat.signal(Signal::KILL);
            }
            found.insert(stat.pid);
        }
        // They may have started others before they were killed.
        thread::sleep(LOOK);
    }
    found.len()
}

/// The run whose mark a process shows, if it is one of the life `name`.
fn run_of(pid: i32, name: &str) -> Option<u64> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mark = environment.split(|byte| *byte == 0).find_map(|variable| {
        variable.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"=")?.strip_prefix(name.as_bytes())
    })?;
    std::str::from_utf8(mark).ok()?.strip_prefix('-')?.parse().ok()
}

/// One run and its processes, numbered. On drop nobody waits for its child any longer, which is collected when it ends.
pub(super) struct Run {
    number: u64,
    child: Option<i32>,
}

impl Run {
    pub(super) fn begin() -> Self {
        let mut family = family();
        family.last_run += 1;
        let number = family.last_run;
        family.runs.insert(number);
        family.starting.insert(number);
        Self { number, child: None }
    }

    /// The value of [`MARKER`].
    pub(super) fn mark(&self) -> String {
        format!("{}-{}", family().name, self.number)
    }

    pub(super) fn started(&mut self, child: Pid) {
        self.child = Some(raw(child));
        let mut family = family();
        family.children.insert(raw(child), Child::Awaited);
        family.starting.remove(&self.number);
    }

    /// Its child was waited for.
    pub(super) fn collected(&mut self) {
        if let Some(child) = self.child.take() {
            family().children.remove(&child);
        }
    }

    /// Signal those descendants that left the process group. Blocks while it reads all of `/proc`.
    pub(super) fn escaped(&self) -> impl FnOnce(Signal) + Send + 'static {
        let (number, child) = (self.number, self.child);
        move |signal| signal_escaped(number, child, signal)
    }

    /// The run is over: what it left behind is killed.
    pub(super) async fn finish(self) {
        let number = self.number;
        drop(self);
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let (left, mine) = {
                let mut family = family();
                (family.sweep(), family.strangers.values().any(|stranger| stranger.kind == Kind::Of(number)))
            };
            if mine && started.elapsed() < PATIENCE {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK);
                continue;
            }
            if left {
                follow();
            }
            return;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut family = family();
        family.runs.remove(&self.number);
        family.starting.remove(&self.number);
        if let Some(child) = self.child {
            family.children.insert(child, Child::Abandoned);
            drop(family);
            follow();
        }
    }
}

fn signal_escaped(run: u64, child: Option<i32>, signal: Signal) {
    let all = processes();
    let parents: HashMap<i32, i32> = all.iter().map(|stat| (stat.pid, stat.parent)).collect();
    let mut roots: Vec<i32> = child.into_iter().collect();
    {
        let family = family();
        let of_run = |stat: &&Stat| family.is_stranger(stat) && family.kind(stat) == Kind::Of(run);
        roots.extend(all.iter().filter(of_run).map(|stat| stat.pid));
    }
    let descends = |pid: i32| {
        // A chain of parents may have no end when processes come and go while it is read.
        let chain = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
        chain.take(1_000).any(|pid| roots.contains(&pid))
    };
    for stat in all.iter().filter(|stat| Some(stat.group) != child && descends(stat.pid)) {
        stat.signal(signal);
    }
}

/// Sweep in the background until nothing is left. A thread of its own: a run may be dropped together with its runtime.
fn follow() {
    if std::mem::replace(&mut family().followed, true) {
        return;
    }
    let following = || {
        let mut pause = LOOK;
        while family().followed() {
            thread::sleep(pause);
            pause = (pause * 2).min(SCAN_EVERY);
        }
    };
    if thread::Builder::new().name("orphans".to_owned()).spawn(following).is_err() {
        // The next run tries again.
        family().followed = false;
    }
}

impl Family {
    fn followed(&mut self) -> bool {
        self.followed = self.sweep();
        self.followed
    }

    /// Kill the orphans whose runs are over and collect the dead ones; `true` when some are left to be collected.
    fn sweep(&mut self) -> bool {
        let now = Instant::now();
        let mut left = self.collect_abandoned();
        let Some(children) = self.listed(now) else { return true };
        self.strangers.retain(|pid, _| children.contains(pid));
        for pid in children {
            if self.children.contains_key(&pid) {
                continue;
            }
            let known = self.strangers.get(&pid);
            if known.is_some_and(|known| {
                known.kind == Kind::Foreign && now.duration_since(known.since) < ANOTHER_LOOK
            }) {
                continue;
            }
            let Some(stat) = Stat::of(pid) else { continue };
            let kind = self.kind(&stat);
            let since = known.filter(|known| known.kind == kind).map_or(now, |known| known.since);
            let over = match kind {
                Kind::Of(run) => !self.runs.contains(&run),
                Kind::Until(run) => self.runs.first().is_none_or(|first| *first > run),
                Kind::DeadOrphan(run) => self.starting.first().is_none_or(|first| *first > run),
                Kind::Dead => now.duration_since(since) >= NOBODYS,
                Kind::Foreign => false,
            };
            match kind {
                Kind::DeadOrphan(_) | Kind::Dead if over => {
                    collect(pid);
                    self.strangers.remove(&pid);
                    continue;
                }
                // A child cannot be mistaken for another: its number is free only when it was collected.
                Kind::Of(_) | Kind::Until(_) if over => kill(pid, stat.group),
                _ => {}
            }
            left |= over || matches!(kind, Kind::DeadOrphan(_));
            self.strangers.insert(pid, Stranger { kind, since });
        }
        left
    }

    fn collect_abandoned(&mut self) -> bool {
        self.children.retain(|pid, child| *child == Child::Awaited || !collect(*pid));
        self.children.values().any(|child| *child == Child::Abandoned)
    }

    fn kind(&self, stat: &Stat) -> Kind {
        let known = self.strangers.get(&stat.pid).map(|known| known.kind);
        // What was started here directly has our session, and leads its own group or is in ours.
        let elsewhere = Some(stat.session) != self.session;
        let of_a_run = elsewhere || (stat.group != stat.pid && stat.group != self.group);
        if stat.state == 'Z' {
            return match known {
                Some(Kind::DeadOrphan(run)) => Kind::DeadOrphan(run),
                Some(Kind::Of(_) | Kind::Until(_)) => Kind::DeadOrphan(self.last_run),
                _ if of_a_run => Kind::DeadOrphan(self.last_run),
                _ => Kind::Dead,
            };
        }
        // One that becomes another program just now shows no environment for a moment.
        match (run_of(stat.pid, &self.name), known) {
            (Some(run), _) => Kind::Of(run),
            (None, Some(known @ (Kind::Of(_) | Kind::Until(_)))) => known,
            (None, _) if of_a_run => Kind::Until(self.last_run),
            (None, _) => Kind::Foreign,
        }
    }

    fn is_stranger(&self, stat: &Stat) -> bool {
        stat.parent == raw(process::getpid()) && !self.children.contains_key(&stat.pid)
    }

    /// Our children, as far as they can be orphans; `None` when it is too soon to look.
    fn listed(&mut self, now: Instant) -> Option<Vec<i32>> {
        let own = raw(process::getpid());
        if self.list.is_none() {
            // Orphans go to the first thread of their new parent.
            self.list = File::open(format!("/proc/{own}/task/{own}/children")).ok();
        }
        if let Some(text) = self.list.as_ref().and_then(|list| read_list(list).ok()) {
            let pids = text.split(u8::is_ascii_whitespace);
            return Some(pids.filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok()).collect());
        }
        if self.scanned.is_some_and(|scanned| now.duration_since(scanned) < SCAN_EVERY) {
            return None;
        }
        self.scanned = Some(now);
        Some(processes().iter().filter(|stat| stat.parent == own).map(|stat| stat.pid).collect())
    }
}

/// From its beginning, as the kernel has it now; [`CHILDREN`] bytes at most.
fn read_list(list: &File) -> io::Result<Vec<u8>> {
    let (mut text, mut length) = (vec![0; 4 * 1024], 0);
    loop {
        let room = text.get_mut(length..).unwrap_or_default();
        // Half of it is more than the kernel leaves empty while it has more.
        let enough = room.len() / 2;
        let read = list.read_at(room, length as u64)?;
        length += read;
        if read < enough || length >= CHILDREN {
            text.truncate(length);
            return Ok(text);
        }
        text.resize(length + 4 * 1024, 0);
    }
}

fn kill(pid: i32, group: i32) {
    if let Some(process) = Pid::from_raw(pid) {
        // One that may not be killed (it changed its user) is tried again.
        let _denied = if group == pid {
            process::kill_process_group(process, Signal::KILL)
        } else {
            process::kill_process(process, Signal::KILL)
        };
    }
}

/// `true` when the child is no more.
fn collect(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return true };
    let ended = process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    !matches!(ended, Ok(None))
}

/// What `/proc/PID/stat` says.
#[derive(Debug, PartialEq)]
struct Stat {
    pid: i32,
    state: char,
    parent: i32,
    group: i32,
    session: i32,
    /// In ticks since the start of the system: with the number it names a process.
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: i32, text: &str) -> Option<Self> {
        // The name of the program stands in brackets and may hold anything.
        let mut fields = text.rsplit_once(") ")?.1.split_ascii_whitespace();
        Some(Self {
            pid,
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            session: fields.next()?.parse().ok()?,
            started: fields.nth(15)?.parse().ok()?,
        })
    }

    /// Signal this very process, and no other that got its number since.
    fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        if let Ok(held) = process::pidfd_open(pid, PidfdFlags::empty())
            && Self::of(self.pid).is_some_and(|now| now.started == self.started)
        {
            let _gone = process::pidfd_send_signal(held, signal);
        }
    }
}

/// All processes of this host that can be seen.
fn processes() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Stat::of(entry.file_name().to_str()?.parse().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_program_is_called() {
        let text = "42 (a) Z ) S 7 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9";
        let stat = Stat::parse(42, text).unwrap();
        assert_eq!(
            (stat.state, stat.parent, stat.group, stat.session, stat.started),
            ('S', 7, 40, 39, 12_345)
        );
        assert_eq!(Stat::parse(42, "42 (a) S 7"), None);
        let own = Stat::of(raw(process::getpid())).unwrap();
        assert_eq!(Some(own.parent), process::getppid().map(raw));
    }
}
