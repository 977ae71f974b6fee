use crate::Labels;

/// The number that says "this series ended": Prometheus' stale marker, a NaN of these very bits. As a step of a row it
/// says that there is no value.
pub const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE.to_bits()
}

/// One measured number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub t_ms: i64,
    pub value: f64,
}

/// Samples in the order of time, no two of one time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    pub labels: Labels,
    pub samples: Vec<Sample>,
}

/// One series at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub labels: Labels,
    pub sample: Sample,
}

/// What a query found.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Scalar(Sample),
    Text(i64, String),
    Vector(Vec<Point>),
    Matrix(Vec<Series>),
}

/// One series with one number for each step; [`STALE`] where it has none.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    pub(crate) steps: Vec<f64>,
}

impl Row {
    pub(crate) fn new(labels: Labels, count: usize) -> Self {
        Self { labels, steps: vec![STALE; count] }
    }

    /// Replace each number that is there; `None` removes it.
    pub(crate) fn map(&mut self, mut change: impl FnMut(usize, f64) -> Option<f64>) {
        for (step, value) in self.steps.iter_mut().enumerate() {
            if let Some(number) = present(*value) {
                *value = change(step, number).unwrap_or(STALE);
            }
        }
    }
}

pub(crate) fn present(value: f64) -> Option<f64> {
    (!is_stale(value)).then_some(value)
}

/// A part of an expression, evaluated at every step.
pub(crate) enum Value {
    Scalar(Vec<f64>),
    Vector(Vec<Row>),
    Text(String),
}

/// The steps at which an expression is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) count: usize,
}

impl Grid {
    pub(crate) fn time(&self, step: usize) -> i64 {
        let steps = i64::try_from(step).unwrap_or(i64::MAX);
        self.start_ms.saturating_add(self.step_ms.saturating_mul(steps))
    }

    pub(crate) fn last(&self) -> i64 {
        self.time(self.count.saturating_sub(1))
    }

    pub(crate) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |step| self.time(step))
    }
}
