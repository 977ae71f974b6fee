//! Processes: all of them, or those of a name, a command line or a user.

use protocol::pattern::Pattern;

use super::{Host, Judged, Measured, Number, Options, Rates, bytes, float, pattern};

/// The kernel keeps this much of a program's name, in bytes.
const COMM: usize = 15;
/// Ticks of the times in `/proc/<pid>/stat`: 100 on every platform that Linux runs on today.
const TICKS: f64 = 100.0;

/// Which processes are meant.
struct Wanted<'a> {
    names: &'a [String],
    line: Option<Pattern>,
    /// Number of the user.
    user: Option<String>,
}

impl<'a> Wanted<'a> {
    fn of(host: &dyn Host, options: &'a Options) -> Result<Self, String> {
        let user = options.text("user").map(|user| user_number(host, user)).transpose()?;
        Ok(Self { names: options.texts("name"), line: pattern::regex(options, "match")?, user })
    }

    fn all(&self) -> bool {
        self.names.is_empty() && self.line.is_none() && self.user.is_none()
    }

    fn is_meant(&self, host: &dyn Host, process: &Process, own: u32) -> bool {
        let pid = process.pid;
        let named =
            |name: &String| process.name.as_bytes() == name.as_bytes().get(..COMM).unwrap_or(name.as_bytes());
        if !self.names.is_empty() && !self.names.iter().any(named) {
            return false;
        }
        if let Some(line) = &self.line {
            // The text of the expression stands in our own command line, when a person asks.
            let text = host.text(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = text.trim_end_matches('\0').replace('\0', " ");
            if pid == own || !line.is_match(&text) {
                return false;
            }
        }
        if let Some(user) = &self.user {
            let status = host.text(&format!("/proc/{pid}/status")).unwrap_or_default();
            // Real, effective, saved.
            let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
            return uid == Some(user.as_str());
        }
        true
    }
}

/// # Errors
/// When it is neither a number nor a name of `/etc/passwd`.
fn user_number(host: &dyn Host, user: &str) -> Result<String, String> {
    if user.parse::<u32>().is_ok() {
        return Ok(user.to_owned());
    }
    let passwd = host.text("/etc/passwd")?;
    let number = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == user).then(|| fields.nth(1).map(str::to_owned))?
    });
    number
        .ok_or_else(|| format!("/etc/passwd has no user {user:?}; users from elsewhere are given by number"))
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// The first 15 bytes of it, but for threads of the kernel.
    pub name: Box<str>,
    /// The kernel's letter: R, S, D, Z, …
    pub state: char,
    pub threads: u64,
    /// Processor time, user and system, in ticks.
    pub ticks: u64,
    /// In ticks since the start of the system: a number is given anew, but not with the same start.
    pub started: u64,
}

impl Process {
    /// From the text of `/proc/<pid>/stat`. `None` when it is none.
    #[must_use]
    pub fn read(pid: &str, text: &str) -> Option<Self> {
        // The program's name stands in parentheses and may hold any character.
        let (before, rest) = text.rsplit_once(')')?;
        let mut words = rest.split_ascii_whitespace();
        let state = words.next()?.chars().next()?;
        let mut number = |skipped| words.nth(skipped).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let ticks = number(10).saturating_add(number(0));
        let (threads, started) = (number(4), number(1));
        let name = before.split_once('(')?.1.into();
        Some(Self { pid: pid.parse().ok()?, name, state, threads, ticks, started })
    }
}

#[derive(Default)]
struct Sums {
    count: u32,
    zombies: u32,
    blocked: u32,
    threads: u64,
    /// In ticks.
    cpu: u64,
    memory: u64,
}

pub(super) fn processes(
    host: &dyn Host,
    options: &Options,
    rates: &mut Rates<'_>,
) -> Result<Measured, String> {
    let wanted = Wanted::of(host, options)?;
    let own = host.text("/proc/self/stat").ok().and_then(|text| text.split_once(' ')?.0.parse().ok());
    let (all, mut sums) = (host.processes(), Sums::default());
    for process in all.iter() {
        if !wanted.all() && !wanted.is_meant(host, process, own.unwrap_or(0)) {
            continue;
        }
        sums.count += 1;
        match process.state {
            'Z' => sums.zombies += 1,
            'D' => sums.blocked += 1,
            _ => {}
        }
        sums.threads = sums.threads.saturating_add(process.threads);
        if !wanted.all() {
            let grown = rates.increase(format!("{} {}", process.pid, process.started), process.ticks);
            sums.cpu = sums.cpu.saturating_add(grown.unwrap_or(0));
            let status = host.text(&format!("/proc/{}/status", process.pid)).unwrap_or_default();
            let resident = super::entry(&status, "VmRSS").unwrap_or(0);
            sums.memory = sums.memory.saturating_add(resident.saturating_mul(1024));
        }
    }
    if all.is_empty() {
        return Err("no process can be seen in /proc".to_owned());
    }
    Ok(measured(&sums, wanted.all(), rates.seconds()))
}

fn measured(sums: &Sums, all: bool, seconds: Option<f64>) -> Measured {
    let zombie_limits = Judged::Above { warning: Some(10.0), critical: None };
    let mut numbers = vec![
        Number::new("processes", f64::from(sums.count), "").judged(),
        Number { judged: zombie_limits, ..Number::new("zombies", f64::from(sums.zombies), "") },
        Number::new("blocked", f64::from(sums.blocked), ""),
        Number::new("threads", float(sums.threads), ""),
    ];
    let mut text = format!(
        "{} processes, {} zombies, {} blocked, {} threads",
        sums.count, sums.zombies, sums.blocked, sums.threads
    );
    if !all {
        let memory = float(sums.memory);
        numbers.push(Number::new("memory", memory, "B"));
        text = format!("{text}, {} of memory", bytes(memory));
        if let Some(seconds) = seconds {
            let cpu = float(sums.cpu) / TICKS / seconds * 100.0;
            numbers.push(Number::new("cpu", cpu, "%"));
            text = format!("{text}, {cpu:.1}% of a processor");
        }
    }
    Measured { numbers, text, ..Measured::default() }
}
