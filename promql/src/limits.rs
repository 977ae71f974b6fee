use std::cell::Cell;

use crate::Error;

/// Most steps of one range query, as in Prometheus.
pub const MAX_POINTS: u64 = 11_000;

/// Why an evaluation is to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    TimedOut,
    Canceled,
}

/// What one evaluation may cost.
pub struct Limits<'a> {
    /// Numbers that it may read and hold: samples and steps, also of what is only on the way to the answer.
    pub samples: u64,
    /// Series that one selector may match.
    pub series: usize,
    /// Asked every so often.
    pub stop: &'a dyn Fn() -> Option<Stop>,
}

/// Counts what an evaluation cost and ends it when that is too much.
pub struct Meter<'a> {
    limits: Limits<'a>,
    spent: Cell<u64>,
    since_asked: Cell<u64>,
}

/// Numbers between two questions to `stop`.
const ASK_EVERY: u64 = 50_000;

impl<'a> Meter<'a> {
    #[must_use]
    pub fn new(limits: Limits<'a>) -> Self {
        Self { limits, spent: Cell::new(0), since_asked: Cell::new(ASK_EVERY) }
    }

    /// Count `samples` more numbers, before they are made.
    ///
    /// # Errors
    /// When they are too many, or time is over.
    pub fn spend(&self, samples: usize) -> Result<(), Error> {
        let samples = samples as u64;
        self.spent.set(self.spent.get().saturating_add(samples));
        if self.spent.get() > self.limits.samples {
            return Err(Error::execution(format!(
                "query processing would load too many samples into memory in query execution: the limit is {}; \
                 ask for fewer series, a shorter range or a larger step",
                self.limits.samples
            )));
        }
        self.work(samples)
    }

    /// Count `steps` of work that hold nothing.
    ///
    /// # Errors
    /// When time is over.
    pub fn work(&self, steps: u64) -> Result<(), Error> {
        let since = self.since_asked.get().saturating_add(steps);
        if since < ASK_EVERY {
            self.since_asked.set(since);
            return Ok(());
        }
        self.since_asked.set(0);
        match (self.limits.stop)() {
            None => Ok(()),
            Some(Stop::TimedOut) => Err(Error::Timeout),
            Some(Stop::Canceled) => Err(Error::Canceled),
        }
    }

    /// # Errors
    /// When a selector matches more series than may be.
    pub fn series(&self, count: usize) -> Result<(), Error> {
        if count <= self.limits.series {
            return Ok(());
        }
        Err(Error::execution(format!(
            "the selector matches more than {} series: name more labels",
            self.limits.series
        )))
    }

    /// How many numbers may still come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limits.samples.saturating_sub(self.spent.get())
    }

    /// Numbers counted so far.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent.get()
    }
}
