//! The life of one alert: one rule on one host.
//!
//! ```text
//!            holds, `for` > 0              holds, and `for` is over
//!   ok ───────────────────────▶ pending ───────────────────────────▶ firing ──┐ holds: the calm is over
//!   ▲ │                           │                                   ▲  │ └──┘
//!   │ └─────── holds, no `for` ───┼───────────────────────────────────┘  │
//!   │                             │ clear                                │ clear, and `keep_firing_for` is over
//!   └─────────────────────────────┴──────────────────────────────────────┘
//! ```
//!
//! The machine moves when a result comes, as a rule of Prometheus moves when it is evaluated: `for: 5m` is over at the
//! first result at least five minutes after the one that made the alert pending, if all between them held. Time is that
//! of the results. A result older than one already seen moves nothing, and one that is history ([`Seen::fresh`] is
//! false) can end an alert but never begin one (G6).

use protocol::{AgentId, ReceiverName, RuleName, alert::Alert};
use serde::{Deserialize, Serialize};

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
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    Ok,
    Pending {
        alert: Alert,
    },
    Firing {
        alert: Alert,
        /// Whoever was told of the firing, and so will be told of its end (G5).
        told: Vec<ReceiverName>,
        /// Since when the condition does not hold any more, while `keep_firing_for` runs.
        calm_since_ms: Option<u64>,
    },
}

impl State {
    #[must_use]
    pub fn alert(&self) -> Option<&Alert> {
        match self {
            Self::Ok => None,
            Self::Pending { alert } | Self::Firing { alert, .. } => Some(alert),
        }
    }
}

/// One evaluated result.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub holds: bool,
    pub at_ms: u64,
    /// News, not history.
    pub fresh: bool,
}

/// What a rule says about time.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub hold_ms: u64,
    pub keep_ms: u64,
}

/// What happens to the state. `None` from [`next`]: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Pend,
    Fire,
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
    match state {
        State::Ok if !seen.holds || !seen.fresh => None,
        State::Ok if timing.hold_ms == 0 => Some(Step::Fire),
        State::Ok => Some(Step::Pend),
        State::Pending { .. } if !seen.holds => Some(Step::Lapse),
        State::Pending { alert } => {
            let over = seen.at_ms >= alert.started_ms.saturating_add(timing.hold_ms);
            (over && seen.fresh).then_some(Step::Fire)
        }
        State::Firing { calm_since_ms, .. } if seen.holds => calm_since_ms.map(|_| Step::Stir),
        State::Firing { calm_since_ms, .. } => {
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
