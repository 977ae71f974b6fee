//! The life of one alert: one rule on one host.
//!
//! ```text
//!          holds, `for` or `attempts`      holds, for so long and so often
//!   ok ───────────────────────▶ pending ───────────────────────────▶ firing ──┐ holds: the calm is over, or it is worse
//!   ▲ │                           │                                   ▲  │ └──┘
//!   │ └─────── holds, neither ────┼───────────────────────────────────┘  │
//!   │                             │ clear                                │ clear, and `keep_firing_for` is over
//!   └─────────────────────────────┴──────────────────────────────────────┘
//! ```
//!
//! The machine moves when a result comes, as a rule of Prometheus moves when it is evaluated: `for: 5m` is over at the
//! first result at least five minutes after the one that made the alert pending, if all between them held. Time is that
//! of the results. A result older than one already seen moves nothing, and one that is history ([`Seen::fresh`] is
//! false) can end an alert but never begin one (G6). A result that says nothing ([`Verdict::Nothing`]: a check that could
//! not measure) moves nothing either. Silence is a result too: the clock's ([`super::quiet`]).

use protocol::{
    AgentId, ReceiverName, RuleName,
    alert::{Acknowledgement, Alert, JournalEntry, Severity},
};
use serde::{Deserialize, Serialize};

use super::flap::Flaps;

/// Which alert: there is at most one at a time of a rule on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertKey {
    pub agent: AgentId,
    pub rule: RuleName,
}

/// Where a result stands among those of its check on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When it was measured, but not later than the broker had it: a host's clock may be ahead.
    pub at_ms: u64,
    pub epoch: u64,
    pub seq: u64,
    /// Sequence number in the stream.
    pub stream: u64,
}

impl Position {
    /// By sequence number inside an epoch of an agent, else by time.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        if self.seq > 0 && other.seq > 0 && self.epoch == other.epoch {
            self.seq > other.seq
        } else {
            (self.at_ms, self.stream) > (other.at_ms, other.stream)
        }
    }
}

/// What is kept of one alert. Ended ones are kept for a while, so that a result that comes again opens nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tracker {
    /// The newest result seen.
    pub last: Position,
    pub state: State,
    /// Of a rule that detects flapping.
    #[serde(default, skip_serializing_if = "Flaps::none")]
    pub flaps: Flaps,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
    /// It fires because nothing came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
    /// What was decided and why, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<JournalEntry>,
}

/// Most entries of one journal: the first and the last ones are kept.
const JOURNAL: usize = 40;

impl Tracker {
    #[must_use]
    pub fn new(last: Position) -> Self {
        Self {
            last,
            state: State::Ok,
            flaps: Flaps::default(),
            flapping: false,
            quiet: false,
            acknowledged: None,
            journal: Vec::new(),
        }
    }

    pub fn note(&mut self, at_ms: u64, text: String) {
        if self.journal.len() >= JOURNAL {
            self.journal.remove(JOURNAL / 2);
        }
        self.journal.push(JournalEntry { at_ms, text });
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    Ok,
    Pending {
        alert: Alert,
        /// Results in a row that held, up to the number that the rule asks for.
        #[serde(default = "one")]
        held: u32,
    },
    Firing {
        alert: Alert,
        /// Whoever was told of the firing, and so will be told of its end (G5).
        told: Vec<ReceiverName>,
        /// Since when the condition does not hold any more, while `keep_firing_for` runs.
        calm_since_ms: Option<u64>,
        /// Why nobody was told yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        muted: Option<String>,
    },
}

fn one() -> u32 {
    1
}

impl State {
    #[must_use]
    pub fn alert(&self) -> Option<&Alert> {
        match self {
            Self::Ok => None,
            Self::Pending { alert, .. } | Self::Firing { alert, .. } => Some(alert),
        }
    }

    #[must_use]
    pub fn is_firing(&self) -> bool {
        matches!(self, Self::Firing { .. })
    }
}

/// What one result says of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Holds(Severity),
    Clear,
    /// There was nothing to judge.
    Nothing,
}

/// One evaluated result.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub verdict: Verdict,
    pub at_ms: u64,
    /// News, not history.
    pub fresh: bool,
}

/// What a rule says about time.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub hold_ms: u64,
    pub keep_ms: u64,
    /// Results in a row that must hold, 1 or more.
    pub attempts: u32,
}

/// What happens to the state. `None` from [`next`]: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Pend,
    /// One more result in a row held.
    Count,
    Fire,
    /// It is worse than when it was told.
    Raise(Severity),
    /// The condition stopped to hold; the alert goes on for `keep_firing_for`.
    Calm,
    /// It holds again.
    Stir,
    /// A pending alert ends: nobody was told, nobody is.
    Lapse,
    Resolve,
}

#[must_use]
pub fn next(state: &State, seen: Seen, timing: Timing) -> Option<Step> {
    let severity = match seen.verdict {
        Verdict::Nothing => return None,
        Verdict::Holds(severity) => Some(severity),
        Verdict::Clear => None,
    };
    match (state, severity) {
        (State::Ok, None) => None,
        (State::Ok, Some(_)) if !seen.fresh => None,
        (State::Ok, Some(_)) if timing.hold_ms == 0 && timing.attempts <= 1 => Some(Step::Fire),
        (State::Ok, Some(_)) => Some(Step::Pend),
        (State::Pending { .. }, None) => Some(Step::Lapse),
        (State::Pending { alert, held }, Some(_)) => {
            let over = seen.at_ms >= alert.started_ms.saturating_add(timing.hold_ms);
            let often = held.saturating_add(1) >= timing.attempts;
            if over && often && seen.fresh {
                Some(Step::Fire)
            } else {
                (*held < timing.attempts).then_some(Step::Count)
            }
        }
        (State::Firing { alert, .. }, Some(severity)) if severity > alert.severity && seen.fresh => {
            Some(Step::Raise(severity))
        }
        (State::Firing { calm_since_ms, .. }, Some(_)) => calm_since_ms.map(|_| Step::Stir),
        (State::Firing { calm_since_ms, .. }, None) => {
            let since = calm_since_ms.unwrap_or(seen.at_ms);
            if seen.at_ms >= since.saturating_add(timing.keep_ms) {
                Some(Step::Resolve)
            } else {
                calm_since_ms.is_none().then_some(Step::Calm)
            }
        }
    }
}

/// Its rule is gone, or does not concern its host any more.
#[must_use]
pub fn withdraw(state: &State) -> Option<Step> {
    match state {
        State::Ok => None,
        State::Pending { .. } => Some(Step::Lapse),
        State::Firing { .. } => Some(Step::Resolve),
    }
}
