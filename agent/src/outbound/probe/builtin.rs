//! Readings for the built-in checks.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::{CheckName, limits};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{host::ThisHost, sweep::Sweeps};
use crate::core::{
    builtin::{Builtin, History, Measured, Memory, Options, Rates, Read, ReadHost, Waits},
    check::Check,
};

/// Readings at once on threads. One that hangs keeps its place, so that those after it cannot take all threads.
const AT_ONCE: usize = 4;
/// Likewise of those that look at paths of others' choosing, apart from all others: these may hang for ever.
const PATHS_AT_ONCE: usize = 8;
/// The first reading of counters is compared with a second one, this much later.
const SECOND_AFTER: Duration = Duration::from_millis(600);
/// The longest text that is remembered, in bytes.
const REMEMBERED: u64 = 4 * 1024 * 1024;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Builtins {
    started: Instant,
    /// By check, since two checks of one built-in may look at different things.
    known: Arc<Mutex<HashMap<CheckName, Arc<Mutex<Known>>>>>,
    places: Arc<Semaphore>,
    path_places: Arc<Semaphore>,
    sweeps: Sweeps,
    /// Where readings are remembered over restarts; nowhere when there is none.
    folder: Option<Arc<PathBuf>>,
}

/// What is known of one check from its readings before.
#[derive(Debug)]
struct Known {
    builtin: &'static Builtin,
    options: Options,
    history: History,
    /// What was remembered last, on disk or not.
    remembered: Option<String>,
    /// A reading of it is under way.
    busy: bool,
}

impl Default for Builtins {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            known: Arc::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            path_places: Arc::new(Semaphore::new(PATHS_AT_ONCE)),
            sweeps: Sweeps::default(),
            folder: None,
        }
    }
}

impl Builtins {
    /// Remember readings in `folder`, which is made when it is needed.
    #[must_use]
    pub fn remembering_in(folder: PathBuf) -> Self {
        Self { folder: Some(Arc::new(folder)), ..Self::default() }
    }

    /// A first reading of counters is two of them. It needs its `place` no longer than for the first: an agent that
    /// starts with many checks would wait for most of its time.
    ///
    /// # Errors
    /// A text that says what could not be read.
    pub async fn read(
        &self,
        check: &Check,
        builtin: &'static Builtin,
        options: &Options,
        place: &mut Option<SemaphorePermit<'_>>,
    ) -> Result<Measured, String> {
        let until = Instant::now() + Duration::from_millis(check.timeout_ms);
        let (measured, lacks_a_sample) = self.once(&check.name, builtin, options, until).await?;
        if !lacks_a_sample {
            return Ok(measured);
        }
        *place = None;
        tokio::time::sleep(SECOND_AFTER).await;
        Ok(self.once(&check.name, builtin, options, until).await?.0)
    }

    /// Remember `text` for the next reading of `check`: its result is safe now.
    ///
    /// # Errors
    /// When it is kept in memory only, and why.
    pub async fn remember(&self, check: &CheckName, text: String) -> Result<(), String> {
        if let Some(known) = self.known().get(check) {
            lock(known).remembered = Some(text.clone());
        }
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let path = folder.join(format!("{check}.json"));
        let written = tokio::task::spawn_blocking(move || {
            fs::create_dir_all(folder.as_path())?;
            service_kit::files::write_private(&path, text.as_bytes())
        });
        let written = written.await.map_err(std::io::Error::other).flatten();
        written.map_err(|error| format!("the position of {check} is not kept on disk: {error}"))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<CheckName, Arc<Mutex<Known>>>> {
        lock(&self.known)
    }

    async fn once(
        &self,
        check: &CheckName,
        builtin: &'static Builtin,
        options: &Options,
        until: Instant,
    ) -> Result<(Measured, bool), String> {
        let read = match builtin.read {
            Read::Host(read) => read,
            Read::Net(_) => return Err("it is read over the network".to_owned()),
        };
        let waits = builtin.waits(options);
        if waits == Waits::Nothing || (waits == Waits::Processes && self.sweeps.are_short()) {
            let busy = self.begin(check, builtin, options)?;
            return self.take(&busy, check, builtin, read, (options, until));
        }
        let places = if waits == Waits::Paths { &self.path_places } else { &self.places };
        let failed = |error: &dyn std::fmt::Display| format!("the reading failed: {error}");
        let place = Arc::clone(places).acquire_owned().await.map_err(|error| failed(&error))?;
        let busy = self.begin(check, builtin, options)?;
        let (this, check, options) = (self.clone(), check.clone(), options.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            this.take(&busy, &check, builtin, read, (&options, until))
        });
        reading.await.map_err(|error| failed(&error))?
    }

    /// May block, as long as `builtin` says that it waits.
    fn take(
        &self,
        busy: &Busy,
        check: &CheckName,
        builtin: &'static Builtin,
        read: ReadHost,
        (options, until): (&Options, Instant),
    ) -> Result<(Measured, bool), String> {
        let now = protocol::duration::millis(self.started.elapsed());
        let before = lock(&busy.known).history.before(now);
        let host = ThisHost { memory: self.recall(busy, check, builtin), until, sweeps: self.sweeps.clone() };
        // Not under the lock: a reading may hang.
        let mut rates = Rates::new(now, before.as_deref());
        let measured = read(&host, options, &mut rates)?;
        let lacks_a_sample = rates.lack_a_sample();
        let sample = rates.into_sample();
        if let Some(sample) = sample {
            lock(&busy.known).history.keep(sample);
        }
        Ok((measured, lacks_a_sample))
    }

    /// # Errors
    /// When the reading before still hangs.
    fn begin(&self, check: &CheckName, builtin: &'static Builtin, options: &Options) -> Result<Busy, String> {
        let new = || Known {
            builtin,
            options: options.clone(),
            history: History::default(),
            remembered: None,
            busy: false,
        };
        let known = {
            let mut all = self.known();
            if all.len() > limits::CHECKS {
                // Of checks that are gone, most of them.
                all.retain(|_, known| lock(known).busy);
            }
            match all.get(check) {
                Some(known) => Arc::clone(known),
                None => Arc::clone(all.entry(check.clone()).or_insert_with(|| Arc::new(Mutex::new(new())))),
            }
        };
        {
            let mut known = lock(&known);
            if known.busy {
                return Err("the reading before has not come to an end yet".to_owned());
            }
            if known.builtin != builtin || known.options != *options {
                *known = new();
            }
            known.busy = true;
        }
        Ok(Busy { known })
    }

    fn recall(&self, busy: &Busy, check: &CheckName, builtin: &Builtin) -> Memory {
        let Some(folder) = self.folder.as_ref().filter(|_| builtin.remembers()) else { return Memory::None };
        if let Some(text) = lock(&busy.known).remembered.clone() {
            return Memory::Kept(text);
        }
        let path = folder.join(format!("{check}.json"));
        let small = fs::metadata(&path).is_ok_and(|meta| meta.len() <= REMEMBERED);
        let text = small.then(|| fs::read_to_string(&path).ok()).flatten();
        text.map_or(Memory::Empty, Memory::Kept)
    }
}

/// Marks a check as being read, until it is dropped.
struct Busy {
    known: Arc<Mutex<Known>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        lock(&self.known).busy = false;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use protocol::work::{Output, RunSettings};

    use super::*;
    use crate::core::{
        builtin::{ALL, Defaults, Kind, Opt, Side},
        check::Work,
    };

    fn check(name: &str, builtin: &'static Builtin, with: &serde_json::Value) -> (Check, Options) {
        let with = with.as_object().unwrap().clone().into_iter().collect();
        let options = Options::read(builtin.options, &with).unwrap();
        let check = Check {
            name: CheckName::new(name).unwrap(),
            work: Work::Builtin(builtin, options.clone()),
            run: RunSettings::default(),
            every_ms: 1_000,
            at: None,
            timeout_ms: 60_000,
            output: Output::default(),
            unit: None,
            warning: None,
            critical: None,
        };
        (check, options)
    }

    #[tokio::test]
    async fn this_host_can_be_read() {
        let builtins = Builtins::default();
        for builtin in &ALL {
            if builtin.options.iter().any(|option| option.required) {
                continue;
            }
            // Virtual machines have no sensors, and few hosts all that can be watched.
            let optional = [
                "temperature",
                "conntrack",
                "pressure",
                "diskio",
                "network",
                "systemd",
                "time",
                "containers",
                "gpu",
                "updates",
            ];
            let (check, options) = check(builtin.name, builtin, &serde_json::json!({}));
            match builtins.read(&check, builtin, &options, &mut None).await {
                Ok(measured) => {
                    assert!(!measured.numbers.is_empty() && !measured.text.is_empty(), "{}", builtin.name);
                    assert!(measured.numbers.iter().all(|number| number.value.is_finite()), "{measured:?}");
                }
                Err(reason) => assert!(optional.contains(&builtin.name), "{}: {reason}", builtin.name),
            }
        }
    }

    #[tokio::test]
    async fn checks_of_one_builtin_do_not_share_counters() {
        let builtins = Builtins::default();
        let cpu = Builtin::named("cpu").unwrap();
        let (one, options) = check("one", cpu, &serde_json::json!({}));
        let (two, _) = check("two", cpu, &serde_json::json!({}));
        builtins.read(&one, cpu, &options, &mut None).await.unwrap();
        let known = |name: &str| builtins.known().contains_key(&CheckName::new(name).unwrap());
        assert!(known("one") && !known("two"));
        // It has no counters of its own yet, and takes two readings.
        let (_, lacks) = builtins.once(&two.name, cpu, &options, Instant::now()).await.unwrap();
        assert!(lacks);
        let _busy = builtins.begin(&two.name, cpu, &options).unwrap();
        let error = builtins.read(&two, cpu, &options, &mut None).await.unwrap_err();
        assert!(error.contains("not come to an end"), "{error}");
    }

    /// Named as one that looks at paths. It waits until somebody writes to the named pipe, as for a dead file system.
    static DEAD: Builtin = Builtin {
        name: "file",
        about: "",
        more: "",
        options: &[Opt { name: "path", kind: Kind::Texts, default: None, required: true, about: "" }],
        metrics: &[],
        defaults: Defaults { warning: None, critical: None, per_processor: false, side: Side::Above },
        read: Read::Host(|_, options, _| {
            let opened = fs::File::open(options.texts("path").first().unwrap());
            opened.map(|_| Measured::default()).map_err(|error| error.to_string())
        }),
    };

    #[tokio::test]
    async fn g10_dead_file_systems_hold_up_only_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let builtins = Builtins::default();
        let mut hanging = tokio::task::JoinSet::new();
        for n in 0..=PATHS_AT_ONCE {
            let with = serde_json::json!({"path": [pipe.to_str().unwrap()]});
            let (check, options) = check(&format!("dead_{n}"), &DEAD, &with);
            let builtins = builtins.clone();
            hanging.spawn(async move { builtins.read(&check, &DEAD, &options, &mut None).await.map(drop) });
        }
        while builtins.path_places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        for name in ["load", "memory", "uptime", "processes"] {
            let builtin = Builtin::named(name).unwrap();
            let (check, options) = check(name, builtin, &serde_json::json!({}));
            builtins.read(&check, builtin, &options, &mut None).await.unwrap();
        }
        assert_eq!(builtins.path_places.available_permits(), 0);
        // Opened for both it waits for nobody.
        let _alive = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        while let Some(ended) = hanging.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_reading_remembers_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = || folder.path().join("checks");
        let log = folder.path().join("app.log");
        fs::write(&log, "error before the first run\n").unwrap();
        let builtin = Builtin::named("log").unwrap();
        let (check, options) =
            check("errors", builtin, &serde_json::json!({"path": log.to_str().unwrap(), "pattern": "error"}));
        let counted =
            |measured: &Measured| measured.numbers.iter().find(|n| n.name == "matches").unwrap().value;

        let builtins = Builtins::remembering_in(state());
        let first = builtins.read(&check, builtin, &options, &mut None).await.unwrap();
        assert!(counted(&first).abs() < 0.1, "{first:?}");
        builtins.remember(&check.name, first.remember.unwrap()).await.unwrap();
        fs::write(&log, "error before the first run\nerror 1\nfine\nerror 2\n").unwrap();
        // Whose result is not safe yet is read again (kill -9 in between).
        for _ in 0..2 {
            let again = Builtins::remembering_in(state());
            let second = again.read(&check, builtin, &options, &mut None).await.unwrap();
            assert!((counted(&second) - 2.0).abs() < 0.1, "{second:?}");
        }
        let again = Builtins::remembering_in(state());
        let second = again.read(&check, builtin, &options, &mut None).await.unwrap();
        again.remember(&check.name, second.remember.unwrap()).await.unwrap();
        let third =
            Builtins::remembering_in(state()).read(&check, builtin, &options, &mut None).await.unwrap();
        assert!(counted(&third).abs() < 0.1, "{third:?}");
        // A full disk is said, and the running agent goes on all the same.
        fs::remove_dir_all(state()).unwrap();
        fs::write(state(), "in the way").unwrap();
        let error = again.remember(&check.name, third.remember.unwrap()).await.unwrap_err();
        assert!(error.contains("not kept on disk"), "{error}");
        let fourth = again.read(&check, builtin, &options, &mut None).await.unwrap();
        assert!(counted(&fourth).abs() < 0.1, "{fourth:?}");
    }
}
