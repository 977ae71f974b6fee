//! What is kept of each check on each host: where its results are, when it was last heard of, its recent values.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use documents::{Call, Function, History};
use protocol::{CheckName, CheckResult, RuleName, Scalar, duration::millis};

use super::{
    alert::{Position, Tracker},
    predict::Predicted,
    window::Window,
};

/// One check on one host.
#[derive(Debug, Clone)]
pub struct Series {
    /// The newest result seen.
    pub last: Position,
    /// When a result last came, by the steady clock.
    pub heard_ms: u64,
    /// Digest of the newest value.
    value: u64,
    /// Whether the newest value differs from the one before.
    changed: bool,
    window: Window,
}

impl Series {
    #[must_use]
    pub fn new(result: &CheckResult, last: Position, heard_ms: u64) -> Self {
        Self { last, heard_ms, value: digest(result), changed: false, window: Window::default() }
    }

    /// A newer result.
    pub fn advance(&mut self, result: &CheckResult, to: Position) {
        let value = digest(result);
        self.changed = value != self.value;
        self.value = value;
        self.last = to;
    }

    /// Its number, for windows of up to `keep_ms`. `false`: older ones were forgotten too early, being too many.
    pub fn keep(&mut self, result: &CheckResult, at_ms: u64, keep_ms: u64) -> bool {
        match result.value.as_ref().and_then(Scalar::as_f64) {
            Some(value) if keep_ms > 0 => self.window.push(at_ms, value, keep_ms),
            _ => true,
        }
    }
}

fn digest(result: &CheckResult) -> u64 {
    let mut hasher = DefaultHasher::new();
    match &result.value {
        None => 0_u8.hash(&mut hasher),
        // 12 and 12.0 are the same.
        Some(value) => match value.as_f64() {
            Some(number) => (1_u8, number.to_bits()).hash(&mut hasher),
            None => (2_u8, value.to_string()).hash(&mut hasher),
        },
    }
    hasher.finish()
}

/// One host: its series, and what its rules came to.
#[derive(Debug, Default)]
pub struct HostState {
    pub series: HashMap<CheckName, Series>,
    pub trackers: BTreeMap<RuleName, Tracker>,
}

/// The past of a series as an expression asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// `None`: nothing came yet.
    pub series: Option<&'a Series>,
    /// Where its windows end.
    pub to_ms: u64,
    /// How long nothing came. 0 while a result is judged.
    pub quiet_ms: u64,
    pub predicted: Predicted<'a>,
}

impl History for Past<'_> {
    fn number(&self, call: &Call) -> Option<f64> {
        if let Function::Prediction(prediction) = &call.function {
            return self.predicted.number(prediction);
        }
        match self.series {
            Some(series) => series.window.answer(call, self.to_ms),
            None => matches!(call.function, Function::Count).then_some(0.0),
        }
    }

    fn absent(&self, over: Duration) -> bool {
        self.quiet_ms >= millis(over)
    }

    fn changed(&self) -> bool {
        // Of silence there is nothing to say.
        self.quiet_ms == 0 && self.series.is_some_and(|series| series.changed)
    }
}
