//! What is kept on disk, behind one trait. Only [`engine`] names the storage engine.
//!
//! The hot log has one row for each batch and hour of measurement ([`row`]); with it, in the same atomic write, go the
//! accounts that the batch changed and the ids that it used up. So the store never holds a result whose account does
//! not know it, nor the other way round.

pub mod catalog;
pub mod engine;
pub mod page;
pub mod row;
pub mod series;

use std::{collections::HashSet, path::PathBuf, time::Duration, time::Instant};

use protocol::{AgentId, CheckName, CheckResult, query::ResultPage};
use service_kit::files::DataFolderError;

use crate::core::plan::Accounts;
pub use engine::Fjall;
pub use page::Position;
pub use series::{Point, Resolution, Sample, SeriesFilter, SeriesId, SeriesMeta, Span};

/// Where results are kept. One writer calls [`Self::recover`], [`Self::commit`] and [`Self::expire`]; any number of
/// readers call the rest. All block.
pub trait ResultStore: Send + Sync + 'static {
    /// Open what is on disk (again) and read the accounts as of the last durable batch. After any error of a write
    /// nothing else may be written before this succeeds.
    ///
    /// # Errors
    /// [`StoreError`].
    fn recover(&self) -> Result<Accounts, StoreError>;

    /// Whether the id was committed during the last two days.
    ///
    /// # Errors
    /// [`StoreError`].
    fn knows_id(&self, id: &str, now_ms: u64) -> Result<bool, StoreError>;

    /// Make all of `batch` durable, or none of it. Returning means that it is on disk.
    ///
    /// # Errors
    /// [`StoreError`]; whether the batch is durable is then unknown until [`Self::recover`].
    fn commit(&self, batch: &Commit<'_>) -> Result<(), StoreError>;

    /// # Errors
    /// [`StoreError`].
    fn page(&self, scan: &Scan) -> Result<ResultPage, StoreError>;

    /// The series that ever were, by agent, check and metric in order of appearance.
    ///
    /// # Errors
    /// [`StoreError`].
    fn series(&self, filter: &SeriesFilter) -> Result<Vec<SeriesMeta>, StoreError>;

    /// The samples of a series, oldest first; those of the same moment in the order in which they were stored. None
    /// for a series that is not known.
    ///
    /// # Errors
    /// [`StoreError::TooMuch`] when the span's limit or deadline does not do, others as the disk has it.
    fn samples(&self, series: SeriesId, span: &Span) -> Result<Vec<Sample>, StoreError>;

    /// The roll-ups of a series that begin within the span, oldest first. They reach further back than samples, and
    /// up to the last result. The first and the last may stand for more than the span.
    ///
    /// # Errors
    /// As [`Self::samples`].
    fn points(&self, series: SeriesId, span: &Span, resolution: Resolution)
    -> Result<Vec<Point>, StoreError>;

    /// Delete results that were measured and stored longer than `keep` ago, and ids of more than
    /// two days. Returns how
    /// many results went.
    ///
    /// # Errors
    /// [`StoreError`].
    fn expire(&self, now_ms: u64, keep: Duration) -> Result<u64, StoreError>;
}

/// One batch to make durable.
#[derive(Debug)]
pub struct Commit<'a> {
    pub now_ms: u64,
    pub results: Vec<NewResult<'a>>,
    pub accounts: &'a Accounts,
    pub ids: &'a HashSet<String>,
}

/// One result, and the JSON that it came as.
#[derive(Debug, Clone, Copy)]
pub struct NewResult<'a> {
    pub result: &'a CheckResult,
    pub json: &'a [u8],
}

/// Which results to read, oldest first.
#[derive(Debug, Clone)]
pub struct Scan {
    pub agent: Option<AgentId>,
    pub check: Option<CheckName>,
    /// First of them.
    pub from: Position,
    /// Before this time, in milliseconds since 1970.
    pub until_ms: Option<u64>,
    pub limit: usize,
    /// JSON of the page, about.
    pub max_bytes: usize,
    pub deadline: Instant,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    #[error(
        "the disk of {folder} has {free} bytes left, fewer than the {keep} to keep free: make room, or lower --keep-free"
    )]
    NearlyFull { folder: PathBuf, free: u64, keep: u64 },
    #[error(
        "cannot {what} the results in {folder}: check that the disk is writable, has room and is sound; \
         if its files are damaged, restore the folder from a backup, or move it away to begin without the results in it"
    )]
    Engine { what: &'static str, folder: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "the results in {folder} are of format {found}, this version reads up to {known}: use a newer version"
    )]
    Newer { folder: PathBuf, found: u8, known: u8 },
    #[error("{what} in {folder} is damaged: {reason}")]
    Damaged { what: &'static str, folder: PathBuf, reason: String },
    #[error("the store in {folder} is not open: an earlier error has not been overcome yet")]
    Closed { folder: PathBuf },
    #[error("too much to read in time: ask for one agent or a shorter range")]
    TooMuch,
}
