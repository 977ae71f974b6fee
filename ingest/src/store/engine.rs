//! The store on fjall: one keyspace each for rows, accounts and ids.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Snapshot,
    config::CompressionPolicy,
};
use prometheus_client::metrics::counter::Counter;
use protocol::{AgentId, CheckName, CheckResult, query::ResultPage};
use service_kit::files::DataFolder;

use super::{
    Commit, Horizon, LatestScan, Maintained, NewResult, Part, Point, Resolution, ResultStore, Retention,
    Sample, Scan, SeriesFilter, SeriesId, SeriesMeta, Sketch, Span, StoreError,
    catalog::{self, Additions, Catalog},
    head::Head,
    row::{self, Row, RowError},
    segment::Segment,
};
use crate::core::{account::Account, plan::Accounts, quota::NewSeries};

pub(super) const HOUR_MS: u64 = 3_600_000;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;
/// Days before today whose ids are known: as long as the stream may offer a message again.
pub(super) const ID_DAYS: u64 = 2;
/// Journal kept on disk at most; each restart reads it.
const MAX_JOURNAL: u64 = 256 * 1024 * 1024;
const CACHE: u64 = 32 * 1024 * 1024;

/// Results in a folder of this process alone.
pub struct Fjall {
    folder: DataFolder,
    keep_free: u64,
    pub(super) damaged: Counter,
    /// `None` before the first recovery, and after one that failed.
    open: RwLock<Option<Open>>,
    /// Steps of maintenance until it ends as if the process had died.
    #[cfg(test)]
    pub(super) dies_after: AtomicU64,
    /// Most memory of decoded blocks that a merge had in hand, and of the block that it made of them.
    #[cfg(test)]
    pub(super) most_in_hand: AtomicU64,
}

pub(super) struct Open {
    pub(super) database: Database,
    /// Hour of measurement and batch number, big-endian, to a [`row`].
    pub(super) rows: Keyspace,
    accounts: Keyspace,
    /// Day and id, to nothing.
    pub(super) ids: Keyspace,
    /// Agent and check, with a zero byte between, to a [`catalog::Entry`].
    pub(super) series: Keyspace,
    /// Number, big-endian, to a [`SegmentMeta`]: the files that count.
    pub(super) segments: Keyspace,
    /// Rows that could not be read, set aside under their keys.
    pub(super) set_aside: Keyspace,
    pub(super) meta: Keyspace,
    catalog: RwLock<Catalog>,
    next_batch: AtomicU64,
    pub(super) next_segment: AtomicU64,
    /// By number.
    pub(super) sealed: RwLock<Vec<Arc<Segment>>>,
    pub(super) hot: Mutex<Hot>,
    pub(super) head: Mutex<Head>,
}

/// How much lies in rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hot {
    pub(super) results: u64,
    pub(super) bytes: u64,
    /// When the first of them was stored.
    pub(super) oldest_ms: u64,
}

/// Rows and segments as they were at one moment: a reader sees no result twice and misses none while they are sealed.
pub(super) struct View {
    pub(super) snapshot: Snapshot,
    pub(super) segments: Vec<Arc<Segment>>,
}

impl Fjall {
    /// Take the folder. [`ResultStore::recover`] opens what is in it.
    ///
    /// # Errors
    /// [`StoreError::Folder`] when another process has it.
    pub fn new(folder: &Path, keep_free: u64, damaged: Counter) -> Result<Self, StoreError> {
        Ok(Self {
            folder: DataFolder::open(folder)?,
            keep_free,
            damaged,
            open: RwLock::new(None),
            #[cfg(test)]
            dies_after: AtomicU64::new(u64::MAX),
            #[cfg(test)]
            most_in_hand: AtomicU64::default(),
        })
    }

    /// The folder of segments.
    pub(super) fn blocks(&self) -> PathBuf {
        self.folder.path().join("blocks")
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(super) fn failed<E: Into<fjall::Error>>(&self, what: &'static str) -> impl Fn(E) -> StoreError {
        let folder = self.path();
        move |error| StoreError::Engine { what, folder: folder.clone(), source: Box::new(error.into()) }
    }

    pub(super) fn with_open<T>(
        &self,
        work: impl FnOnce(&Open) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let open: RwLockReadGuard<'_, _> = self.open.read().unwrap_or_else(PoisonError::into_inner);
        match open.as_ref() {
            Some(open) => work(open),
            None => Err(StoreError::Closed { folder: self.path() }),
        }
    }

    fn open(&self) -> Result<Open, StoreError> {
        let failed = self.failed("open");
        let database = Database::builder(self.folder.path().join("db"))
            .max_journaling_size(MAX_JOURNAL)
            .cache_size(CACHE)
            .journal_compression(CompressionType::None)
            .worker_threads(1)
            .open()
            .map_err(&failed)?;
        let keyspace = |name: &str, compression| {
            database
                .keyspace(name, || {
                    KeyspaceCreateOptions::default()
                        .data_block_compression_policy(CompressionPolicy::all(compression))
                })
                .map_err(&failed)
        };
        let meta = keyspace("meta", CompressionType::None)?;
        // Rows are compressed already.
        let rows = keyspace("rows", CompressionType::None)?;
        let accounts = keyspace("accounts", CompressionType::Lz4)?;
        let ids = keyspace("ids", CompressionType::Lz4)?;
        let series = keyspace("series", CompressionType::Lz4)?;
        let segments = keyspace("segments", CompressionType::None)?;
        let set_aside = keyspace("set_aside", CompressionType::None)?;
        let next_batch = match meta.get("next_batch").map_err(&failed)? {
            None => 0,
            Some(bytes) => number(&bytes, 0).ok_or_else(|| StoreError::Damaged {
                what: "the batch number",
                folder: self.path(),
                reason: "it has not 8 bytes".into(),
            })?,
        };
        let open = Open {
            database,
            rows,
            accounts,
            ids,
            series,
            segments,
            set_aside,
            meta,
            catalog: RwLock::default(),
            next_batch: AtomicU64::new(next_batch),
            next_segment: AtomicU64::default(),
            sealed: RwLock::default(),
            hot: Mutex::default(),
            head: Mutex::default(),
        };
        self.upgrade(&open)?;
        self.read_catalog(&open)?;
        self.open_segments(&open)?;
        self.measure_hot(&open)?;
        Ok(open)
    }

    /// Refuse before the engine meets a full disk: it does not recover from that without being opened again.
    fn check_room(&self) -> Result<(), StoreError> {
        let Ok(free) = crate::room::free_bytes(self.folder.path()) else { return Ok(()) };
        if free < self.keep_free {
            return Err(StoreError::NearlyFull { folder: self.path(), free, keep: self.keep_free });
        }
        Ok(())
    }

    pub(super) fn damaged_row(&self, key: &[u8], error: &RowError) {
        self.damaged.inc();
        tracing::error!(
            folder = %self.folder.path().display(),
            hour = number(key, 0),
            batch = number(key, 8),
            %error,
            "a row of the store is damaged and was skipped"
        );
    }

    pub(super) fn encode<T: serde::Serialize>(
        &self,
        what: &'static str,
        value: &T,
    ) -> Result<Vec<u8>, StoreError> {
        postcard::to_stdvec(value).map_err(|error| {
            let reason = error.to_string();
            StoreError::Damaged { what, folder: self.path(), reason }
        })
    }

    fn read_catalog(&self, open: &Open) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let mut known = Vec::new();
        for item in open.series.iter() {
            let (key, value) = item.into_inner().map_err(&failed)?;
            known.push(entry(&key, &value).map_err(|reason| StoreError::Damaged {
                what: "the list of series",
                folder: self.path(),
                reason,
            })?);
        }
        open.extend_catalog(known);
        Ok(())
    }

    /// Rows may be many after a crash; their sizes tell when to seal.
    fn measure_hot(&self, open: &Open) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let mut hot = Hot::default();
        for item in open.rows.iter() {
            let (key, value) = item.into_inner().map_err(&failed)?;
            if let Ok(row) = Row::open(&value) {
                let results = usize::try_from(row.header.results).unwrap_or(usize::MAX);
                hot.add(row.header.stored_ms, results, value.len());
            }
            let (mut head, catalog) = (open.head(), open.catalog());
            match (Row::open(&value).and_then(|row| row.decoded()), number(&key, 0), number(&key, 8)) {
                (Ok(results), Some(hour), Some(batch)) => head.add((hour, batch), results.iter(), &catalog),
                // Whoever reads it says that it is damaged.
                _ => head.miss(),
            }
        }
        *open.hot() = hot;
        open.head().next(open.next_batch.load(Ordering::Relaxed));
        Ok(())
    }
}

impl ResultStore for Fjall {
    fn recover(&self) -> Result<Accounts, StoreError> {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // The engine lets go of its files only when it is dropped.
        *slot = None;
        let open = self.open()?;
        let failed = self.failed("read");
        let mut accounts = Accounts::new();
        for item in open.accounts.iter() {
            let (key, value) = item.into_inner().map_err(&failed)?;
            let (agent, account) = account(&key, &value).map_err(|reason| StoreError::Damaged {
                what: "an agent's account",
                folder: self.path(),
                reason,
            })?;
            accounts.insert(agent, account);
        }
        *slot = Some(open);
        Ok(accounts)
    }

    fn knows_id(&self, id: &str, now_ms: u64) -> Result<bool, StoreError> {
        let failed = self.failed("read");
        self.with_open(|open| {
            let today = now_ms / DAY_MS;
            // Tomorrow's, should the clock have been set back.
            for day in today.saturating_sub(ID_DAYS)..=today.saturating_add(1) {
                if open.ids.contains_key(id_key(day, id)).map_err(&failed)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    fn commit(&self, commit: &Commit<'_>) -> Result<(), StoreError> {
        self.check_room()?;
        let failed = self.failed("write");
        self.with_open(|open| {
            let number = open.next_batch.load(Ordering::Relaxed);
            let mut batch = open.database.batch().durability(Some(PersistMode::SyncData));
            let mut added = Vec::new();
            for (hour, results) in by_hour(&commit.results) {
                let row = row::encode(commit.now_ms, &results).map_err(|error| {
                    let reason = error.to_string();
                    StoreError::Damaged { what: "a batch", folder: self.path(), reason }
                })?;
                added.push((results.len(), row.len()));
                batch.insert(&open.rows, key(hour, number), row);
            }
            for (agent, account) in commit.accounts {
                let bytes = account.to_bytes().map_err(|error| StoreError::Damaged {
                    what: "an account",
                    folder: self.path(),
                    reason: error.to_string(),
                })?;
                batch.insert(&open.accounts, agent.as_str(), bytes);
            }
            for id in commit.ids {
                batch.insert(&open.ids, id_key(commit.now_ms / DAY_MS, id), []);
            }
            let changed = {
                let catalog = open.catalog();
                let mut additions = Additions::new(&catalog);
                commit.results.iter().for_each(|new| additions.see(new.result));
                additions.into_changed()
            };
            for (name, entry) in &changed {
                batch.insert(&open.series, series_key(name), self.encode("the list of series", entry)?);
            }
            let next = number.saturating_add(1);
            batch.insert(&open.meta, "next_batch", next.to_be_bytes());
            batch.commit().map_err(&failed)?;
            open.next_batch.store(next, Ordering::Relaxed);
            open.extend_catalog(changed);
            {
                let (mut head, catalog) = (open.head(), open.catalog());
                for (hour, results) in by_hour(&commit.results) {
                    head.add((hour, number), results.iter().map(|new| new.result), &catalog);
                }
            }
            let mut hot = open.hot();
            added.into_iter().for_each(|(results, bytes)| hot.add(commit.now_ms, results, bytes));
            Ok(())
        })
    }

    fn page(&self, scan: &Scan) -> Result<ResultPage, StoreError> {
        self.with_open(|open| self.read_page(open, scan))
    }

    fn series(&self, filter: &SeriesFilter) -> Result<Vec<SeriesMeta>, StoreError> {
        self.with_open(|open| Ok(open.catalog().find(filter)))
    }

    fn find_series(&self, fits: &dyn Fn(Part<'_>) -> bool) -> Result<Vec<SeriesMeta>, StoreError> {
        self.with_open(|open| Ok(open.catalog().find_where(fits)))
    }

    fn latest(&self, scan: &LatestScan) -> Result<ResultPage, StoreError> {
        self.with_open(|open| self.read_latest(open, scan))
    }

    fn horizon(&self) -> Result<Horizon, StoreError> {
        self.with_open(|open| Ok(open.horizon()))
    }

    fn samples(&self, series: SeriesId, span: &Span) -> Result<Vec<Sample>, StoreError> {
        self.with_open(|open| self.read_samples(open, series, span))
    }

    fn points(
        &self,
        series: SeriesId,
        span: &Span,
        resolution: Resolution,
    ) -> Result<Vec<Point>, StoreError> {
        self.with_open(|open| self.read_points(open, series, span, resolution))
    }

    fn new_series(
        &self,
        results: &mut dyn Iterator<Item = (usize, &CheckResult)>,
    ) -> Result<HashMap<usize, NewSeries>, StoreError> {
        self.with_open(|open| {
            let catalog = open.catalog();
            Ok(results.filter_map(|(index, result)| Some((index, catalog.new_series(result)?))).collect())
        })
    }

    fn sketches(&self, series: SeriesId, span: &Span) -> Result<Vec<(u64, Sketch)>, StoreError> {
        self.with_open(|open| self.read_sketches(open, series, span))
    }

    fn maintain(&self, now_ms: u64, retention: &Retention) -> Result<Maintained, StoreError> {
        self.with_open(|open| {
            let sealed = self.seal(open, now_ms, retention)?;
            let merged = self.merge(open, now_ms)?;
            let rolled_up = self.roll_up(open, now_ms)?;
            let expired = self.expire(open, now_ms, retention)?;
            self.expire_ids(open, now_ms)?;
            Ok(Maintained { sealed, merged, rolled_up, expired })
        })
    }
}

impl Hot {
    fn add(&mut self, stored_ms: u64, results: usize, bytes: usize) {
        self.oldest_ms = if self.results == 0 { stored_ms } else { self.oldest_ms.min(stored_ms) };
        self.results = self.results.saturating_add(results as u64);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

impl Open {
    pub(super) fn view(&self) -> View {
        self.view_with(|_| ()).0
    }

    /// A view, and what `look` finds in the head at the same moment.
    pub(super) fn view_with<T>(&self, look: impl FnOnce(&Head) -> T) -> (View, T) {
        let sealed = self.sealed.read().unwrap_or_else(PoisonError::into_inner);
        let found = look(&self.head());
        (View { snapshot: self.database.snapshot(), segments: sealed.clone() }, found)
    }

    /// All but that of rows.
    pub(super) fn keyspaces(&self) -> [&Keyspace; 6] {
        [&self.accounts, &self.ids, &self.series, &self.segments, &self.set_aside, &self.meta]
    }

    pub(super) fn hot(&self) -> MutexGuard<'_, Hot> {
        self.hot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend_catalog(&self, changed: impl IntoIterator<Item = (SeriesName, catalog::Entry)>) {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        for ((agent, check), entry) in changed {
            catalog.insert(agent, check, entry);
        }
    }
}

pub(super) type SeriesName = (AgentId, CheckName);

pub(super) fn series_key((agent, check): &SeriesName) -> Vec<u8> {
    [agent.as_str(), check.as_str()].join("\0").into_bytes()
}

fn entry(key: &[u8], value: &[u8]) -> Result<(SeriesName, catalog::Entry), String> {
    let text = std::str::from_utf8(key).map_err(|error| error.to_string())?;
    let (agent, check) = text.split_once('\0').ok_or("a name has no check")?;
    let agent = AgentId::new(agent).map_err(|error| error.to_string())?;
    let check = CheckName::new(check).map_err(|error| error.to_string())?;
    let entry = postcard::from_bytes(value).map_err(|error| format!("{agent}.{check}: {error}"))?;
    Ok(((agent, check), entry))
}

/// The results by hour of measurement: nearly always one hour, two at its turn.
fn by_hour<'a, 'b>(results: &'b [NewResult<'a>]) -> Vec<(u64, Vec<&'b NewResult<'a>>)> {
    let mut hours: std::collections::BTreeMap<u64, Vec<&NewResult<'a>>> = std::collections::BTreeMap::new();
    for result in results {
        hours.entry(result.result.at_ms / HOUR_MS).or_default().push(result);
    }
    hours.into_iter().collect()
}

fn account(key: &[u8], value: &[u8]) -> Result<(AgentId, Account), String> {
    let text = std::str::from_utf8(key).map_err(|error| error.to_string())?;
    let agent = AgentId::new(text).map_err(|error| error.to_string())?;
    let account = Account::from_bytes(value).map_err(|error| format!("{agent}: {error}"))?;
    Ok((agent, account))
}

pub(super) fn key(hour: u64, batch: u64) -> [u8; 16] {
    (u128::from(hour) << 64 | u128::from(batch)).to_be_bytes()
}

pub(super) fn id_key(day: u64, id: &str) -> Vec<u8> {
    let mut key = day.to_be_bytes().to_vec();
    key.extend_from_slice(id.as_bytes());
    key
}

/// The big-endian number at this place of a key.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}
