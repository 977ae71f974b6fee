//! The store on fjall: one keyspace each for rows, accounts and ids.

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, Instant},
};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, config::CompressionPolicy,
};
use prometheus_client::metrics::counter::Counter;
use protocol::{AgentId, CheckName, CheckResult, duration::millis, limits, query::ResultPage};
use service_kit::files::DataFolder;

use super::{
    Commit, NewResult, Point, Position, Resolution, ResultStore, Sample, Scan, SeriesFilter, SeriesId,
    SeriesMeta, Span, StoreError,
    catalog::{self, Additions, Catalog},
    page::Collector,
    row::{self, Row, RowError, Wanted},
    series,
};
use crate::core::{account::Account, plan::Accounts};

const FORMAT: u8 = 2;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Days before today whose ids are known: as long as the stream may offer a message again.
const ID_DAYS: u64 = 2;
/// Rows deleted in one write.
const EXPIRE_STEP: usize = 512;
/// Journal kept on disk at most; each restart reads it.
const MAX_JOURNAL: u64 = 256 * 1024 * 1024;
const CACHE: u64 = 32 * 1024 * 1024;

/// Results in a folder of this process alone.
pub struct Fjall {
    folder: DataFolder,
    keep_free: u64,
    damaged: Counter,
    /// `None` before the first recovery, and after one that failed.
    open: RwLock<Option<Open>>,
}

struct Open {
    database: Database,
    /// Hour of measurement and batch number, big-endian, to a [`row`].
    rows: Keyspace,
    accounts: Keyspace,
    /// Day and id, to nothing.
    ids: Keyspace,
    /// Agent and check, with a zero byte between, to a [`catalog::Entry`].
    series: Keyspace,
    meta: Keyspace,
    catalog: RwLock<Catalog>,
    next_batch: AtomicU64,
}

impl Fjall {
    /// Take the folder. [`ResultStore::recover`] opens what is in it.
    ///
    /// # Errors
    /// [`StoreError::Folder`] when another process has it.
    pub fn new(folder: &Path, keep_free: u64, damaged: Counter) -> Result<Self, StoreError> {
        Ok(Self { folder: DataFolder::open(folder)?, keep_free, damaged, open: RwLock::new(None) })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn failed<E: Into<fjall::Error>>(&self, what: &'static str) -> impl Fn(E) -> StoreError {
        let folder = self.path();
        move |error| StoreError::Engine { what, folder: folder.clone(), source: Box::new(error.into()) }
    }

    fn with_open<T>(&self, work: impl FnOnce(&Open) -> Result<T, StoreError>) -> Result<T, StoreError> {
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
        let mut without_series = false;
        match meta.get("format").map_err(&failed)?.as_deref() {
            None => {
                let mut first = database.batch().durability(Some(PersistMode::SyncAll));
                first.insert(&meta, "format", [FORMAT]);
                first.commit().map_err(&failed)?;
            }
            Some([found]) if *found > FORMAT => {
                return Err(StoreError::Newer { folder: self.path(), found: *found, known: FORMAT });
            }
            Some([found]) => without_series = *found < 2,
            Some(_) => {
                let reason = "it has not one byte".into();
                return Err(StoreError::Damaged { what: "the format number", folder: self.path(), reason });
            }
        }
        let next_batch = match meta.get("next_batch").map_err(&failed)? {
            None => 0,
            Some(bytes) => number(&bytes, 0).ok_or_else(|| StoreError::Damaged {
                what: "the batch number",
                folder: self.path(),
                reason: "it has not 8 bytes".into(),
            })?,
        };
        let (next_batch, catalog) = (AtomicU64::new(next_batch), RwLock::default());
        let open = Open { database, rows, accounts, ids, series, meta, catalog, next_batch };
        if without_series {
            self.list_series(&open)?;
        }
        self.read_catalog(&open)?;
        Ok(open)
    }

    /// Refuse before the engine meets a full disk: it does not recover from that without being opened again.
    fn check_room(&self) -> Result<(), StoreError> {
        let Ok(disk) = rustix::fs::statvfs(self.folder.path()) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.keep_free {
            return Err(StoreError::NearlyFull { folder: self.path(), free, keep: self.keep_free });
        }
        Ok(())
    }

    fn damaged_row(&self, key: &[u8], error: &RowError) {
        self.damaged.inc();
        tracing::error!(
            folder = %self.folder.path().display(),
            hour = number(key, 0),
            batch = number(key, 8),
            %error,
            "a row of the store is damaged and was skipped"
        );
    }

    /// Offer what `row` holds of what is wanted.
    fn collect(&self, row: &Row<'_>, batch: u64, scan: &Scan, page: &mut Collector) -> Result<(), RowError> {
        let wanted = Wanted::new(scan.agent.as_ref(), scan.check.as_ref());
        let (header, until) = (&row.header, scan.until_ms.unwrap_or(u64::MAX));
        let first = Position { at_ms: header.min_at_ms, batch, index: 0 };
        if header.max_at_ms < scan.from.at_ms
            || !page.wants(first)
            || scan.until_ms.is_some_and(|until| header.min_at_ms >= until)
            || !row.may_hold(&wanted)
        {
            return Ok(());
        }
        let unpacked = row.unpack()?;
        for (index, inside) in (0..).zip(row::results(&unpacked)?) {
            let position = Position { at_ms: inside.at_ms, batch, index };
            let in_range = position >= scan.from && (scan.until_ms.is_none() || inside.at_ms < until);
            if !in_range || !wanted.may_be(&inside) || !page.wants(position) {
                continue;
            }
            let result: CheckResult =
                protocol::decode(inside.json, limits::RESULT).map_err(|_| RowError::Part("result"))?;
            if scan.agent.as_ref().is_none_or(|agent| *agent == result.agent)
                && scan.check.as_ref().is_none_or(|check| *check == result.check)
            {
                page.offer(position, inside.json.len(), result);
            }
        }
        Ok(())
    }

    fn encode<T: serde::Serialize>(&self, what: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
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

    /// Once, for a store of format 1: list the series of the results that it holds.
    fn list_series(&self, open: &Open) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let none = Catalog::default();
        let mut additions = Additions::new(&none);
        for item in open.rows.iter() {
            let (key, value) = item.into_inner().map_err(&failed)?;
            let read = Row::open(&value).and_then(|row| {
                for inside in row::results(&row.unpack()?)? {
                    let result = protocol::decode(inside.json, limits::RESULT);
                    additions.see(&result.map_err(|_| RowError::Part("result"))?);
                }
                Ok(())
            });
            if let Err(error) = read {
                self.damaged_row(&key, &error);
            }
        }
        let mut batch = open.database.batch().durability(Some(PersistMode::SyncAll));
        for (name, entry) in additions.into_changed() {
            batch.insert(&open.series, series_key(&name), self.encode("the list of series", &entry)?);
        }
        batch.insert(&open.meta, "format", [FORMAT]);
        batch.commit().map_err(self.failed("write"))
    }

    fn read_samples(&self, open: &Open, id: SeriesId, span: &Span) -> Result<Vec<Sample>, StoreError> {
        let failed = self.failed("read");
        let mut samples = Vec::new();
        let last = span.until_ms.saturating_sub(1);
        let catalog = open.catalog();
        let Some((agent, check, metric)) = catalog.metric(id) else { return Ok(samples) };
        let metric = (id.metric > 0).then_some(metric);
        let wanted = Wanted::new(Some(agent), Some(check));
        if last < span.from_ms {
            return Ok(samples);
        }
        for item in open.rows.range(key(span.from_ms / HOUR_MS, 0)..=key(last / HOUR_MS, u64::MAX)) {
            let (key, value) = item.into_inner().map_err(&failed)?;
            let read = Row::open(&value).and_then(|row| {
                if row.header.max_at_ms < span.from_ms
                    || row.header.min_at_ms > last
                    || !row.may_hold(&wanted)
                {
                    return Ok(());
                }
                for inside in row::results(&row.unpack()?)? {
                    if !(span.from_ms..=last).contains(&inside.at_ms) || !wanted.may_be(&inside) {
                        continue;
                    }
                    let result: CheckResult = protocol::decode(inside.json, limits::RESULT)
                        .map_err(|_| RowError::Part("result"))?;
                    if result.agent == *agent && result.check == *check {
                        push_samples(&result, metric, &mut samples);
                    }
                }
                Ok(())
            });
            if let Err(error) = read {
                self.damaged_row(&key, &error);
            }
            if samples.len() > span.limit || Instant::now() > span.deadline {
                return Err(StoreError::TooMuch);
            }
        }
        samples.sort_by_key(|sample| sample.at_ms);
        Ok(samples)
    }

    /// Delete the rows of these hours that were stored before `before_ms`.
    fn expire_hours(
        &self,
        open: &Open,
        hours: std::ops::RangeInclusive<u64>,
        before_ms: u64,
    ) -> Result<u64, StoreError> {
        let failed = self.failed("delete expired results of");
        let mut gone = 0;
        let mut old = Vec::new();
        for item in open.rows.range(key(*hours.start(), 0)..=key(*hours.end(), u64::MAX)) {
            let (key, value) = item.into_inner().map_err(&failed)?;
            match Row::open(&value) {
                Ok(row) if row.header.stored_ms >= before_ms => continue,
                Ok(row) => gone += u64::from(row.header.results),
                Err(error) => self.damaged_row(&key, &error),
            }
            old.push(key);
            if old.len() >= EXPIRE_STEP {
                remove(open, &open.rows, &mut old).map_err(&failed)?;
            }
        }
        remove(open, &open.rows, &mut old).map_err(&failed)?;
        Ok(gone)
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
            for (hour, results) in by_hour(&commit.results) {
                let row = row::encode(commit.now_ms, &results).map_err(|error| {
                    let reason = error.to_string();
                    StoreError::Damaged { what: "a batch", folder: self.path(), reason }
                })?;
                batch.insert(&open.rows, key(hour, number), row);
            }
            for (agent, account) in commit.accounts {
                batch.insert(&open.accounts, agent.as_str(), self.encode("an account", account)?);
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
            Ok(())
        })
    }

    fn page(&self, scan: &Scan) -> Result<ResultPage, StoreError> {
        let failed = self.failed("read");
        let mut page = Collector::new(scan.limit, scan.max_bytes);
        let last = scan.until_ms.map_or(u64::MAX, |until| until.saturating_sub(1));
        if scan.until_ms == Some(0) || last < scan.from.at_ms {
            return Ok(page.into_page());
        }
        let soft = Instant::now() + scan.deadline.saturating_duration_since(Instant::now()) / 2;
        self.with_open(|open| {
            let mut hour = scan.from.at_ms / HOUR_MS;
            for item in open.rows.range(key(hour, 0)..=key(last / HOUR_MS, u64::MAX)) {
                let (key, value) = item.into_inner().map_err(&failed)?;
                let (Some(of), Some(batch)) = (number(&key, 0), number(&key, 8)) else { continue };
                if of != hour {
                    // An hour is done: the page may end here, and does when it is full or time runs short.
                    if Instant::now() >= soft {
                        page.stop_at(Position::at(of.saturating_mul(HOUR_MS)));
                    }
                    if page.is_full() {
                        break;
                    }
                    hour = of;
                }
                if Instant::now() >= scan.deadline {
                    return Err(StoreError::TooMuch);
                }
                let read = Row::open(&value).and_then(|row| self.collect(&row, batch, scan, &mut page));
                if let Err(error) = read {
                    self.damaged_row(&key, &error);
                }
            }
            Ok(page.into_page())
        })
    }

    fn series(&self, filter: &SeriesFilter) -> Result<Vec<SeriesMeta>, StoreError> {
        self.with_open(|open| Ok(open.catalog().find(filter)))
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
        // A point's samples are limited by time, not by number.
        let whole = Span { limit: usize::MAX, ..*span };
        let points = series::points(&self.samples(series, &whole)?, resolution);
        if points.len() > span.limit { Err(StoreError::TooMuch) } else { Ok(points) }
    }

    fn expire(&self, now_ms: u64, keep: Duration) -> Result<u64, StoreError> {
        let before_ms = now_ms.saturating_sub(millis(keep));
        self.with_open(|open| {
            let mut gone = 0;
            if let Some(hour) = (before_ms / HOUR_MS).checked_sub(1) {
                gone += self.expire_hours(open, 0..=hour, before_ms)?;
            }
            // Of hosts whose clock is ahead.
            let ahead = (now_ms / HOUR_MS).saturating_add(2);
            gone += self.expire_hours(open, ahead..=u64::MAX, before_ms)?;
            let failed = self.failed("delete expired ids of");
            let mut old = Vec::new();
            for item in open.ids.range(..id_key((now_ms / DAY_MS).saturating_sub(ID_DAYS), "")) {
                old.push(item.key().map_err(&failed)?);
                if old.len() >= EXPIRE_STEP {
                    remove(open, &open.ids, &mut old).map_err(&failed)?;
                }
            }
            remove(open, &open.ids, &mut old).map_err(&failed)?;
            Ok(gone)
        })
    }
}

impl Open {
    fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend_catalog(&self, changed: impl IntoIterator<Item = (SeriesName, catalog::Entry)>) {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        for ((agent, check), entry) in changed {
            catalog.insert(agent, check, entry);
        }
    }
}

/// What the result says of one metric, or of its own value.
fn push_samples(result: &CheckResult, metric: Option<&str>, samples: &mut Vec<Sample>) {
    let (at_ms, status) = (result.at_ms, result.status);
    match metric {
        None => {
            let value = result.value.as_ref().and_then(protocol::Scalar::as_f64).unwrap_or(f64::NAN);
            samples.push(Sample { at_ms, value, status });
        }
        Some(name) => {
            let own = result.metrics.iter().filter(|metric| metric.name == name);
            samples.extend(own.map(|metric| Sample { at_ms, value: metric.value, status }));
        }
    }
}

type SeriesName = (AgentId, CheckName);

fn series_key((agent, check): &SeriesName) -> Vec<u8> {
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

fn remove(open: &Open, from: &Keyspace, keys: &mut Vec<fjall::UserKey>) -> fjall::Result<()> {
    let mut batch = open.database.batch();
    for key in keys.drain(..) {
        batch.remove(from, key);
    }
    batch.commit()
}

fn account(key: &[u8], value: &[u8]) -> Result<(AgentId, Account), String> {
    let text = std::str::from_utf8(key).map_err(|error| error.to_string())?;
    let agent = AgentId::new(text).map_err(|error| error.to_string())?;
    let account = postcard::from_bytes(value).map_err(|error| format!("{agent}: {error}"))?;
    Ok((agent, account))
}

fn key(hour: u64, batch: u64) -> [u8; 16] {
    (u128::from(hour) << 64 | u128::from(batch)).to_be_bytes()
}

fn id_key(day: u64, id: &str) -> Vec<u8> {
    let mut key = day.to_be_bytes().to_vec();
    key.extend_from_slice(id.as_bytes());
    key
}

/// The big-endian number at this place of a key.
fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}
