//! Checks of other hosts: sockets, with what `core::builtin::net` decides.
//!
//! Each is a future that may be dropped at any moment, since a check is cancelled so. What blocks (looking up names,
//! files, large patterns) runs on a thread of its own, of which there are few: one that hangs keeps its place.

mod connect;
mod dns;
mod handshake;
mod http;
mod ping;
mod tcp;
mod tls;

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{sync::Semaphore, time::Instant};

use crate::core::builtin::{
    Measured, Net, Options,
    net::{Fault, Probe},
};

/// Blocking calls at once.
const AT_ONCE: usize = 8;
/// The largest file that is read, in bytes.
const FILE: u64 = 4 * 1024 * 1024;

/// Sends the probes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    places: Arc<Semaphore>,
    authorities: handshake::Authorities,
}

impl Default for Network {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)), authorities: handshake::Authorities::default() }
    }
}

impl Network {
    /// What was found within `timeout`, and whether that was too short. Another host that is too slow is a finding, not
    /// an error.
    ///
    /// # Errors
    /// What is wrong on this side.
    pub async fn read(
        &self,
        net: Net,
        options: &Options,
        timeout: Duration,
    ) -> (Result<Measured, String>, bool) {
        let probe = match net.plan(options) {
            Ok(probe) => probe,
            Err(reason) => return (Err(reason), false),
        };
        let run = Run { network: self, deadline: Instant::now() + timeout, doing: Mutex::default() };
        let reading = async {
            match &probe {
                Probe::Http(plan) => http::probe(&run, plan).await,
                Probe::Tcp(plan) => tcp::probe(&run, plan).await,
                Probe::Dns(plan) => dns::probe(&run, plan).await,
                Probe::Tls(plan) => tls::probe(&run, plan).await,
                Probe::Ping(plan) => ping::probe(&run, plan).await,
            }
        };
        let reading = tokio::time::timeout_at(run.deadline, reading).await;
        let timed_out = reading.is_err();
        let reading = reading.unwrap_or_else(|_| {
            let doing = run.doing.lock().unwrap_or_else(PoisonError::into_inner);
            let timeout = protocol::duration::format(timeout);
            Err(Fault::Theirs(format!("timed out after {timeout} while {doing}")))
        });
        (reading.or_else(Fault::reading), timed_out)
    }
}

/// One run of one probe.
struct Run<'a> {
    network: &'a Network,
    deadline: Instant,
    /// `connecting to …`: what to say when the time is over.
    doing: Mutex<String>,
}

impl Run<'_> {
    fn doing(&self, what: impl Into<String>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Run what blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let failed = |error: &dyn std::fmt::Display| Fault::Ours(format!("the check failed: {error}"));
        let place = Arc::clone(&self.network.places).acquire_owned().await.map_err(|error| failed(&error))?;
        let working = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        working.await.map_err(|error| failed(&error))
    }

    async fn file(&self, path: &str) -> Result<Vec<u8>, Fault> {
        let name = path.to_owned();
        let read = move || {
            let mut bytes = Vec::new();
            // A pipe would be waited for without end.
            if !std::fs::metadata(&name)?.is_file() {
                return Err(io::Error::other("it is not a file"));
            }
            std::fs::File::open(&name)?.take(FILE).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        self.blocking(read)
            .await?
            .map_err(|error| Fault::Ours(format!("cannot read {path}: {}", said(&error))))
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// An error without its number.
fn said(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
