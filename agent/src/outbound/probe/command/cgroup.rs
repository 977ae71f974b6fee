//! A cgroup for one run: limits of all its processes together, figures of all of them, and one switch that kills them.
//!
//! Only a cgroup (version 2) that was delegated to the agent is used: systemd's `Delegate=yes` marks it. Making one
//! costs some milliseconds of the kernel, so that only runs with a limit on memory or processes get one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use protocol::result::Usage;
use rustix::process::{self, Pid};

/// Where the agent itself goes, since a cgroup with processes cannot have children with limits.
const OWN: &str = "agent";
const PREFIX: &str = "check-";

/// A folder in which the agent may make cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    folder: PathBuf,
    controllers: Controllers,
}

/// What a cgroup of a run can limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Controllers {
    pub(super) memory: bool,
    pub(super) pids: bool,
}

impl Delegated {
    /// The cgroup that systemd gave to this process, if it did.
    #[must_use]
    pub fn detect() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let folder = fields.nth(1)?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(folder))
        })?;
        let own = mount.join(own);
        // With systemd's DelegateSubgroup, or after a restart, the agent is inside already.
        let above = own.parent().filter(|_| own.ends_with(OWN));
        let folder =
            above.filter(|above| delegated(above)).or_else(|| delegated(&own).then_some(own.as_path()))?;
        if folder == own {
            let alone = fs::read_to_string(own.join("cgroup.procs")).ok()?;
            if alone.trim() != process::getpid().as_raw_nonzero().to_string() {
                tracing::info!("not alone in its cgroup: checks get none of their own");
                return None;
            }
            fs::create_dir_all(own.join(OWN)).ok()?;
            fs::write(own.join(OWN).join("cgroup.procs"), "0").ok()?;
        }
        Some(Self::at(folder.to_owned()))
    }

    /// The cgroup `folder`, which nobody else makes cgroups in.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        // One by one: the kernel takes all of a line or nothing.
        for controller in ["+memory", "+pids"] {
            // What could be had is read below.
            let _refused = fs::write(folder.join("cgroup.subtree_control"), controller);
        }
        let enabled = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
        let has = |name: &str| enabled.split_whitespace().any(|controller| controller == name);
        let controllers = Controllers { memory: has("memory"), pids: has("pids") };
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        for left in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
            // Of an agent that was killed.
            drop(Cgroup { folder: left.path(), limits: controllers });
        }
        tracing::info!(folder = %folder.display(), ?controllers, "checks with limits get cgroups");
        Self { folder, controllers }
    }

    /// A cgroup for one run, with its limits.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(super) fn make(&self, name: &str, memory: Option<u64>, pids: Option<u64>) -> io::Result<Cgroup> {
        let folder = self.folder.join(format!("{PREFIX}{name}"));
        fs::create_dir(&folder)?;
        let cgroup = Cgroup { folder, limits: self.controllers };
        if let Some(bytes) = memory.filter(|_| self.controllers.memory) {
            cgroup.set("memory.max", &bytes.to_string())?;
            // A host without swap accounting has no such file.
            let _absent = cgroup.set("memory.swap.max", "0");
            // All of it or nothing: half a check finds nothing.
            cgroup.set("memory.oom.group", "1")?;
        }
        if let Some(count) = pids.filter(|_| self.controllers.pids) {
            cgroup.set("pids.max", &count.to_string())?;
        }
        Ok(cgroup)
    }
}

fn delegated(folder: &Path) -> bool {
    let mut value = [0; 8];
    ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        rustix::fs::getxattr(folder, name, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// Killed and removed on drop.
#[derive(Debug)]
pub(super) struct Cgroup {
    folder: PathBuf,
    pub(super) limits: Controllers,
}

/// What all processes of a run took together. 0 is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) cpu_us: u64,
    pub(super) memory_bytes: u64,
    pub(super) killed_for_memory: u64,
    pub(super) refused_processes: u64,
}

impl Cost {
    /// `usage` of the first process, made that of all as far as it is known.
    pub(super) fn of_all(&self, usage: Usage) -> Usage {
        let known = |all: u64, one: u64| if all == 0 { one } else { all };
        Usage {
            cpu_us: known(self.cpu_us, usage.cpu_us),
            memory_bytes: known(self.memory_bytes, usage.memory_bytes),
        }
    }
}

impl Cgroup {
    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.folder.join(file), value)
    }

    /// # Errors
    /// When the kernel refuses it.
    pub(super) fn add(&self, pid: Pid) -> io::Result<()> {
        self.set("cgroup.procs", &pid.as_raw_nonzero().to_string())
    }

    /// `false` where the kernel cannot (before Linux 5.14).
    pub(super) fn kill(&self) -> bool {
        self.set("cgroup.kill", "1").is_ok()
    }

    pub(super) fn cost(&self) -> Cost {
        let read = |file: &str| fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let field = |file: &str, name: &str| {
            let text = read(file);
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Cost {
            cpu_us: field("cpu.stat", "usage_usec"),
            memory_bytes: read("memory.peak").trim().parse().unwrap_or(0),
            killed_for_memory: field("memory.events", "oom_kill"),
            refused_processes: field("pids.events", "max"),
        }
    }

    /// Kill what is in it and remove it, as soon as that is possible.
    pub(super) async fn end(self) {
        self.kill();
        for pause in [1, 2, 5, 10, 20, 50, 100] {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        // The next agent removes what is still in use.
        let _gone = fs::remove_dir(&self.folder);
    }
}
