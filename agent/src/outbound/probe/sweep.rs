//! All processes of this host. To read them costs something for each, so that readings that come close after one
//! another share what was read.

use std::{
    mem::MaybeUninit,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags, RawDir, open, openat};

use crate::core::builtin::{NAMES, Process};

/// How old what is shared may be: a tenth of the shortest time between two runs.
const SHARED: Duration = Duration::from_millis(100);
/// Where readings are further apart, nothing is kept in memory for the next one.
const OFTEN: Duration = Duration::from_secs(1);
/// So many processes are read in a few milliseconds.
const FEW: usize = 1_000;
/// Longer than any `/proc/<pid>/stat`.
const STAT: usize = 2 * 1024;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Sweeps(Arc<Mutex<Last>>);

#[derive(Debug, Default)]
struct Last {
    begun: Option<Instant>,
    count: usize,
    found: Option<Arc<[Process]>>,
}

impl Sweeps {
    /// As they are, or were a moment ago.
    pub(super) fn processes(&self) -> Arc<[Process]> {
        // Whoever comes meanwhile waits for what is read now; these files of the kernel do not hang.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, before) = (Instant::now(), last.begun);
        let since = |limit: Duration| before.is_some_and(|before| now.duration_since(before) < limit);
        if let Some(found) = last.found.as_ref().filter(|_| since(SHARED)) {
            return Arc::clone(found);
        }
        let found: Arc<[Process]> = sweep().unwrap_or_default().into();
        let kept = since(OFTEN).then(|| Arc::clone(&found));
        *last = Last { begun: Some(now), count: found.len(), found: kept };
        found
    }

    /// Whether the next one will hold up nobody, as far as can be told by the last one.
    pub(super) fn are_short(&self) -> bool {
        self.0.try_lock().is_ok_and(|last| last.begun.is_some() && last.count <= FEW)
    }
}

/// Below one open folder, and each with a single read: whole paths cost more.
fn sweep() -> rustix::io::Result<Vec<Process>> {
    let folder = open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let (mut buffer, mut found) = ([MaybeUninit::uninit(); 8 * 1024], Vec::new());
    let mut entries = RawDir::new(&folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let pid =
            entry.file_name().to_str().ok().filter(|name| name.starts_with(|c: char| c.is_ascii_digit()));
        let Some(pid) = pid.filter(|_| found.len() < NAMES) else { continue };
        // One that ended since the folder was listed is no process any more.
        found.extend(read(&folder, pid));
    }
    Ok(found)
}

fn read(folder: &OwnedFd, pid: &str) -> Option<Process> {
    let file = openat(folder, format!("{pid}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut buffer = [0; STAT];
    let length = rustix::io::read(&file, &mut buffer).ok()?;
    Process::read(pid, &String::from_utf8_lossy(buffer.get(..length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_what_was_found_is_shared_for_a_moment() {
        let sweeps = Sweeps::default();
        assert!(!sweeps.are_short(), "nobody knows yet");
        let first = sweeps.processes();
        assert_eq!(sweeps.are_short(), first.len() <= FEW);
        let own = first.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert!(own.threads > 0 && own.state != 'Z', "{own:?}");
        // Once readings come often; how often this thread has its turn is not up to it.
        while !Arc::ptr_eq(&sweeps.processes(), &sweeps.processes()) {}
        let shared = sweeps.processes();
        let begun = Instant::now();
        while begun.elapsed() < SHARED {
            std::thread::yield_now();
        }
        assert!(!Arc::ptr_eq(&shared, &sweeps.processes()), "it is read anew");
    }
}
