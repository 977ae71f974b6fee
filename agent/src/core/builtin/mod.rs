//! Built-in checks: what they measure on a host, and how that is judged.
//!
//! [`table`] declares each of them once: name, help, thresholds and reader. A reader is pure: it asks a [`Host`] for
//! texts, so that tests give it those of other machines.

mod clock;
mod containers;
mod dbus;
mod declare;
mod disks;
mod examples;
mod files;
mod gpu;
mod judge;
mod kernel;
mod log;
pub mod net;
mod options;
mod pattern;
mod processes;
mod rates;
mod sensors;
mod services;
mod table;
mod updates;
mod uptime;

#[cfg(test)]
mod host_tests;
#[cfg(test)]
mod tests;

pub use judge::judge;
pub use kernel::memory_total;
pub use net::Net;
pub use options::{Kind, Opt, Options};
pub use processes::Process;
pub use rates::{History, Rates, Sample};
pub use table::ALL;

use std::{collections::BTreeMap, sync::Arc};

use protocol::Status;

/// Most names of one folder that are looked at.
pub const NAMES: usize = 100_000;

/// What the readers ask of a host.
pub trait Host {
    /// A small text file.
    ///
    /// # Errors
    /// Names the file and says why it cannot be read.
    fn text(&self, path: &str) -> Result<String, String>;

    /// Names in a folder, [`NAMES`] at most; none when it cannot be listed.
    fn names(&self, folder: &str) -> Vec<String>;

    /// All processes that can be seen, [`NAMES`] at most, as they were a moment ago.
    fn processes(&self) -> Arc<[Process]> {
        let names =
            self.names("/proc").into_iter().filter(|name| name.starts_with(|c: char| c.is_ascii_digit()));
        // One that ended since the folder was listed is no process any more.
        let read = |pid: String| Process::read(&pid, &self.text(&format!("/proc/{pid}/stat")).ok()?);
        names.filter_map(read).collect()
    }

    /// How full the file system at `folder` is; `None` for one without blocks, and for what cannot be asked.
    fn usage(&self, folder: &str) -> Option<Usage>;

    /// What is known of a path, links followed; `None` when it cannot be reached.
    fn meta(&self, path: &str) -> Option<Meta>;

    /// At most `most` bytes of a regular file, from the byte `from` on, and which file it is.
    ///
    /// # Errors
    /// Names the file and says why it cannot be read.
    fn part(&self, path: &str, from: u64, most: u64) -> Result<Part, String>;

    /// Seconds since 1970, by the clock of the host.
    fn now(&self) -> u64;

    /// Run a program, found on the usual paths, to its end. It gets `LC_ALL=C`, no input, and the time of the reading.
    ///
    /// # Errors
    /// When it cannot be started or takes too long.
    fn run(&self, program: &str, args: &[&str]) -> Result<Ran, String>;

    /// Send `request` to a unix socket and read what comes until it is `complete` or the other side closes.
    ///
    /// # Errors
    /// When it cannot be reached, takes too long or says too much.
    fn socket(&self, path: &str, request: &[u8], complete: &dyn Fn(&[u8]) -> bool)
    -> Result<Vec<u8>, String>;

    /// What the last reading of this check said to [remember](Measured::remember).
    fn recall(&self) -> Memory;
}

/// What is known of a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meta {
    pub id: FileId,
    pub bytes: u64,
    /// Seconds since 1970.
    pub modified: u64,
    /// A regular file.
    pub is_file: bool,
}

/// Which file it is, whatever its name is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

/// A part of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    pub id: FileId,
    pub bytes: Vec<u8>,
}

/// What a program printed, and its exit code; none when a signal ended it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// There is nowhere to keep anything.
    None,
    /// Nothing was kept yet.
    Empty,
    Kept(String),
}

/// How full a file system is: bytes, and places for files (0 of 0 where it does not count them).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    /// What an ordinary user can still write.
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// One built-in check.
#[derive(Debug)]
pub struct Builtin {
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// What one should know besides, in whole sentences; may be empty.
    pub more: &'static str,
    pub options: &'static [Opt],
    pub metrics: &'static [About],
    /// In force where a check gives no threshold at all.
    pub defaults: Defaults,
    pub read: Read,
}

/// A reader of this host. Takes the counters that it needs at the time of the reading before from [`Rates`].
pub type ReadHost = fn(&dyn Host, &Options, &mut Rates<'_>) -> Result<Measured, String>;

/// How a built-in is read.
#[derive(Debug, Clone, Copy)]
pub enum Read {
    Host(ReadHost),
    /// Over the network.
    Net(Net),
}

/// What a reading of this host may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The kernel has the figures at hand.
    Nothing,
    /// It has them too, but where there are many it takes its time.
    Processes,
    /// Programs, sockets and the disks of this host.
    Host,
    /// Paths that somebody named. They may lie on a file system of a network, and one that is dead never answers.
    Paths,
}

impl PartialEq for Builtin {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Builtin {}

impl Builtin {
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|builtin| builtin.name == name)
    }

    /// # Errors
    /// Names the option that is unknown, missing or unusable.
    pub fn options(&self, with: &BTreeMap<String, serde_json::Value>) -> Result<Options, String> {
        let options = Options::read(self.options, with)?;
        self.accepts(&options)?;
        Ok(options)
    }

    /// # Errors
    /// Names the option with which it can never work.
    pub fn accepts(&self, options: &Options) -> Result<(), String> {
        match self.read {
            Read::Host(_) => Ok(()),
            Read::Net(net) => net.plan(options).map(drop),
        }
    }

    #[must_use]
    pub fn waits(&self, options: &Options) -> Waits {
        match self.name {
            "cpu" | "memory" | "swap" | "load" | "diskio" | "network" | "pressure" | "open_files"
            | "conntrack" => Waits::Nothing,
            // A command line lies in the memory of the process, which may be locked for long.
            "processes" if options.text("match").is_none() => Waits::Processes,
            "file" | "log" => Waits::Paths,
            "disk" if !options.texts("mounts").is_empty() => Waits::Paths,
            _ => Waits::Host,
        }
    }

    /// Its reading depends on what the one before remembered.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.name == "log"
    }

    /// What one usually gives it besides, as lines of a document; may be empty.
    #[must_use]
    pub fn example(&self) -> &'static str {
        examples::of(self.name)
    }

    /// All names, for people.
    #[must_use]
    pub fn names() -> String {
        ALL.iter().map(|builtin| builtin.name).collect::<Vec<_>>().join(", ")
    }

    /// What its output begins with: `OPEN FILES`.
    #[must_use]
    pub fn title(&self) -> String {
        self.name.to_ascii_uppercase().replace('_', " ")
    }
}

/// Documents one metric.
#[derive(Debug)]
pub struct About {
    /// A word in `<…>` stands for a name of the host, such as that of a disk.
    pub name: &'static str,
    pub unit: &'static str,
    pub about: &'static str,
    pub judged: bool,
}

/// Values beyond which it is not fine any more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    pub warning: Option<f64>,
    pub critical: Option<f64>,
    /// They count for each processor.
    pub per_processor: bool,
    pub side: Side,
}

/// On which side of a bound lies what is not fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Above,
    Below,
}

impl Side {
    /// The comparison that alerts there, as in a document.
    #[must_use]
    pub fn beyond(self, bound: f64) -> String {
        match self {
            Self::Above => format!("> {bound}"),
            Self::Below => format!("< {bound}"),
        }
    }
}

/// What a reader found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    pub numbers: Vec<Number>,
    /// For people, without the status.
    pub text: String,
    /// For default thresholds that count for each processor.
    pub processors: u32,
    /// Something is wrong that no threshold says.
    pub at_least: Option<Status>,
    /// For the next reading of the same check, once the result of this one is safe.
    pub remember: Option<String>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub judged: Judged,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judged {
    No,
    /// By the thresholds of the check. The highest of these is the value of the result.
    ByCheck,
    /// By the thresholds of the check, but never the value: it is of another kind than those that are.
    Beside,
    /// Above these, whatever the thresholds of the check are.
    Above {
        warning: Option<f64>,
        critical: Option<f64>,
    },
    /// Below these, likewise.
    Below {
        warning: Option<f64>,
        critical: Option<f64>,
    },
}

impl Measured {
    /// What was to be looked at is not there or does not work: critical, without a number.
    fn failed(text: String) -> Self {
        Self { text, at_least: Some(Status::Critical), ..Self::default() }
    }
}

impl Number {
    /// At least 0, and only shown.
    fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, min: Some(0.0), max: None, judged: Judged::No }
    }

    fn percent(name: impl Into<String>, value: f64) -> Self {
        Self { max: Some(100.0), ..Self::new(name, value.clamp(0.0, 100.0), "%") }
    }

    fn judged(self) -> Self {
        Self { judged: Judged::ByCheck, ..self }
    }
}

/// The `index`-th word of `line` as a number.
fn word(line: &str, index: usize) -> Option<u64> {
    line.split_ascii_whitespace().nth(index)?.parse().ok()
}

/// The number behind `key`, as in `MemTotal:  16384 kB` or `pswpin 7`.
fn entry(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        let rest = rest.strip_prefix(':').or_else(|| rest.starts_with(' ').then_some(rest))?;
        word(rest, 0)
    })
}

/// A number with a fraction; words such as `inf` and `nan` are none.
fn decimal(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[allow(clippy::cast_precision_loss)] // exact below 2^53
fn float(count: u64) -> f64 {
    count as f64
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) * 100.0 }
}

fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

/// The number with the highest value.
fn highest<'a>(numbers: impl IntoIterator<Item = &'a Number>) -> Option<&'a Number> {
    numbers.into_iter().max_by(|a, b| a.value.total_cmp(&b.value))
}
