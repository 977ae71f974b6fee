use crate::{Error, Matcher, Meter, Series};

/// What one selector needs.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// All of them hold.
    pub matchers: &'a [Matcher],
    /// First time of interest, in milliseconds since 1970.
    pub from_ms: i64,
    /// Last time of interest, inclusive.
    pub until_ms: i64,
    /// Time between two steps, 0 for one moment.
    pub step_ms: i64,
    pub want: Want,
}

/// Which number of a roll-up is asked for, where [`Source::width`] says that roll-ups stand for samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Want {
    #[default]
    Last,
    Min,
    Max,
    Sum,
    Count,
}

/// Where samples come from.
pub trait Source {
    /// The series that match, each with its samples of that time, in order. It tells `meter` how many numbers and
    /// series it reads, before it holds them.
    ///
    /// # Errors
    /// What `meter` says, or [`Error::Internal`].
    fn select(&self, selection: &Selection<'_>, meter: &Meter<'_>) -> Result<Vec<Series>, Error>;

    /// Time that one number stands for in what would be selected, in milliseconds; `None` for samples as they were
    /// measured.
    ///
    /// # Errors
    /// [`Error::Internal`].
    fn width(&self, _selection: &Selection<'_>) -> Result<Option<i64>, Error> {
        Ok(None)
    }
}
