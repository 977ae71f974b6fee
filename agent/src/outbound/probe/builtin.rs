//! Readings for the built-in checks, without a fork.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use crate::core::builtin::{Builtin, History, Host, Measured, Options, Rates, Read, ReadHost, Usage};

/// Readings at once. One that hangs (a dead disk) keeps its place, so that those after it cannot take all threads.
const AT_ONCE: usize = 4;
/// The longest text that is read from the kernel, in bytes.
const TEXT: u64 = 4 * 1024 * 1024;
/// The first reading of counters is compared with a second one, this much later.
const SECOND_AFTER: Duration = Duration::from_millis(600);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Builtins {
    started: Instant,
    /// Counters of the readings before, by built-in.
    histories: Arc<Mutex<BTreeMap<&'static str, History>>>,
    places: Arc<Semaphore>,
}

impl Default for Builtins {
    fn default() -> Self {
        Self { started: Instant::now(), histories: Arc::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Builtins {
    /// # Errors
    /// A text that says what could not be read.
    pub async fn read(&self, builtin: &'static Builtin, options: &Options) -> Result<Measured, String> {
        let read = match builtin.read {
            Read::Host(read) => read,
            Read::Net(_) => return Err("it is read over the network".to_owned()),
        };
        let (measured, lacks_a_sample) = self.once(builtin.name, read, options).await?;
        if !lacks_a_sample {
            return Ok(measured);
        }
        tokio::time::sleep(SECOND_AFTER).await;
        Ok(self.once(builtin.name, read, options).await?.0)
    }

    async fn once(
        &self,
        name: &'static str,
        read: ReadHost,
        options: &Options,
    ) -> Result<(Measured, bool), String> {
        let failed = |error: &dyn std::fmt::Display| format!("the reading failed: {error}");
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|error| failed(&error))?;
        let (started, histories) = (self.started, Arc::clone(&self.histories));
        let options = options.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            let histories = || histories.lock().unwrap_or_else(PoisonError::into_inner);
            let now = protocol::duration::millis(started.elapsed());
            let before = histories().get(name).and_then(|history| history.before(now));
            // Not under the lock: a reading may hang.
            let mut rates = Rates::new(now, before.as_deref());
            let measured = read(&ThisHost, &options, &mut rates)?;
            let lacks_a_sample = rates.lack_a_sample();
            if let Some(sample) = rates.into_sample() {
                histories().entry(name).or_default().keep(sample);
            }
            Ok((measured, lacks_a_sample))
        });
        reading.await.map_err(|error| failed(&error))?
    }
}

/// The host that this process runs on. Blocks on small reads.
struct ThisHost;

impl Host for ThisHost {
    fn text(&self, path: &str) -> Result<String, String> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(TEXT).read_to_end(&mut bytes));
        read.map_err(|error| format!("cannot read {path}: {error}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn usage(&self, folder: &str) -> Option<Usage> {
        // A single file may be bind-mounted into a container.
        if !Path::new(folder).is_dir() {
            return None;
        }
        let stat = rustix::fs::statvfs(folder).ok().filter(|stat| stat.f_blocks > 0)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Usage {
            used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
            available: bytes(stat.f_bavail),
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::builtin::ALL;

    #[tokio::test]
    async fn this_host_can_be_read() {
        let builtins = Builtins::default();
        for builtin in ALL.iter().filter(|builtin| matches!(builtin.read, Read::Host(_))) {
            // Virtual machines have no sensors, and few hosts a firewall that tracks.
            let optional = ["temperature", "conntrack", "pressure", "diskio", "network"];
            match builtins.read(builtin, &Options::default()).await {
                Ok(measured) => {
                    assert!(!measured.numbers.is_empty() && !measured.text.is_empty(), "{}", builtin.name);
                    assert!(measured.numbers.iter().all(|number| number.value.is_finite()), "{measured:?}");
                }
                Err(reason) => assert!(optional.contains(&builtin.name), "{}: {reason}", builtin.name),
            }
        }
        let kept = builtins.histories.lock().unwrap().keys().copied().collect::<Vec<_>>();
        assert!(kept.contains(&"cpu") && !kept.contains(&"load"), "{kept:?}");
    }
}
