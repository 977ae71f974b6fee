//! What is kept on disk, behind one trait. Only [`engine`] names the storage engine.
//!
//! Results lie in a hot log first, then in sealed blocks ([`block`], [`segment`]), at last only in roll-ups; `maintain`
//! moves them along, each step one atomic switch. The hot log has one row for each batch and hour of measurement ([`row`]); with it, in the same atomic write, go the
//! accounts that the batch changed and the ids that it used up. So the store never holds a result whose account does
//! not know it, nor the other way round.

pub mod block;
pub mod catalog;
pub mod engine;
mod format;
mod head;
mod latest;
mod maintain;
pub mod offline;
pub mod page;
mod read;
pub mod row;
pub mod segment;
pub mod series;
pub mod sketch;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use protocol::{AgentId, CheckName, CheckResult, Status, query::ResultPage};
use service_kit::files::DataFolderError;

use crate::core::{plan::Accounts, quota::NewSeries};
pub use engine::Fjall;
pub use page::Position;
pub use series::{Part, Point, Resolution, Sample, SeriesFilter, SeriesId, SeriesMeta, Span};
pub use sketch::Sketch;

/// Where results are kept. One writer calls [`Self::recover`] and [`Self::commit`]; any number of
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

    /// Those that fit, asked of each agent, then of its checks, then of their metrics.
    ///
    /// # Errors
    /// [`StoreError`].
    fn find_series(&self, fits: &dyn Fn(Part<'_>) -> bool) -> Result<Vec<SeriesMeta>, StoreError>;

    /// The latest result of each check, in the order of agents and checks, and whether there are more.
    ///
    /// # Errors
    /// [`StoreError`]; a page that is cut short by its deadline is none.
    fn latest(&self, scan: &LatestScan) -> Result<ResultPage, StoreError>;

    /// # Errors
    /// [`StoreError`].
    fn horizon(&self) -> Result<Horizon, StoreError>;

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

    /// Which of these results bring series that are not known yet, by their numbers. Without an answer of its own a store
    /// does not count series.
    ///
    /// # Errors
    /// [`StoreError`].
    fn new_series(
        &self,
        _results: &mut dyn Iterator<Item = (usize, &CheckResult)>,
    ) -> Result<HashMap<usize, NewSeries>, StoreError> {
        Ok(HashMap::new())
    }

    /// How the numbers of a series were distributed in each hour that begins within the span, oldest first. Hours that
    /// were rolled up before format 3 have an empty sketch.
    ///
    /// # Errors
    /// As [`Self::samples`].
    fn sketches(&self, series: SeriesId, span: &Span) -> Result<Vec<(u64, Sketch)>, StoreError>;

    /// Seal what is due, merge what is small, delete what is past its retention, and forget ids of more than two
    /// days. Commits and readers go on meanwhile; one thread at a time calls it.
    ///
    /// # Errors
    /// [`StoreError`]; what was not done is done by the next call.
    fn maintain(&self, now_ms: u64, retention: &Retention) -> Result<Maintained, StoreError>;
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

/// How long what is kept, and as what.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// In the hot log, from when it was stored; with much in it, it is sealed earlier.
    pub hot: Duration,
    /// Results as they came, from when they were measured and stored.
    pub results: Duration,
    /// Roll-ups, made of results when their day is over.
    pub five_minutes: Duration,
    pub hours: Duration,
    /// Most bytes of sealed data: with more, the oldest goes early.
    pub max_bytes: u64,
}

/// What one round of maintenance did, in results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Moved from the hot log into blocks.
    pub sealed: u64,
    /// Written again with others into one segment.
    pub merged: u64,
    /// Rolled up.
    pub rolled_up: u64,
    /// Deleted; their roll-ups stay.
    pub expired: u64,
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
    /// Only results that fit.
    pub fits: Option<Fits>,
}

/// Decides by the texts of results, and by their statuses.
#[derive(Debug, Clone)]
pub struct Fits {
    /// A part of the output.
    pub text: Option<regex::bytes::Regex>,
    /// Empty: all.
    pub statuses: Vec<Status>,
}

impl Fits {
    /// Whether a result of this output may fit.
    #[must_use]
    pub fn output(&self, output: &[u8]) -> bool {
        self.text.as_ref().is_none_or(|text| text.is_match(output))
    }

    #[must_use]
    pub fn result(&self, result: &CheckResult) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&result.status))
            && self.output(result.output.as_bytes())
    }
}

/// The latest result of each check to read, by agent and check.
#[derive(Debug, Clone)]
pub struct LatestScan {
    pub agent: Option<AgentId>,
    pub check: Option<CheckName>,
    /// After this one.
    pub after: Option<(AgentId, CheckName)>,
    /// Measured at this time or later, in milliseconds since 1970.
    pub since_ms: u64,
    /// Empty: all.
    pub statuses: Vec<Status>,
    pub limit: usize,
    /// JSON of the page, about.
    pub max_bytes: usize,
    pub deadline: Instant,
}

/// From when on a store has what; 0: from the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Horizon {
    /// Results as they came, in milliseconds since 1970.
    pub results_ms: u64,
    pub five_minutes_ms: u64,
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
