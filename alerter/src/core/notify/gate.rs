//! When a receiver may be tried: its own limit, what it asked for, and a breaker that opens after failures in a row.
//!
//! ```text
//!            fails FAILURES times in a row            the wait is over: one attempt
//!   closed ───────────────────────────────▶ open ───────────────────────────────▶ half open
//!     ▲                                       ▲                fails, waits double     │
//!     │                                       └───────────────────────────────────────┤
//!     └───────────────────────────────────────────────────────────── answers ─────────┘
//! ```
//!
//! Times are those of a steady clock.

use std::time::Duration;

use protocol::operate::Rate;

/// Failures in a row that open the breaker.
pub const FAILURES: u32 = 5;
/// Shortest and longest time that it stays open.
const OPEN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5 * 60));
/// An attempt that nobody heard of again ends within this time.
const PROBE: Duration = Duration::from_secs(90);

/// The state of one receiver.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    failures: u32,
    /// Nobody passes before.
    shut_until: Duration,
    /// Until when an attempt is under way that decides whether the breaker closes.
    probe_until: Option<Duration>,
    /// When the limit would be free again if nobody else came.
    spent_until: Duration,
}

/// What an attempt said of the receiver itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It answered, whatever it thinks of the notification.
    Answered,
    Failed,
    /// It asks to be left alone for so long.
    Later(Duration),
}

impl Gate {
    /// Pass now, or come back after a while.
    ///
    /// # Errors
    /// How long to wait.
    pub fn pass(&mut self, limit: Option<Rate>, now: Duration) -> Result<(), Duration> {
        let shut = self.shut(now);
        if !shut.is_zero() {
            return Err(shut);
        }
        if self.is_open() {
            match self.probe_until {
                Some(until) if until > now => return Err(OPEN.0),
                _ => self.probe_until = Some(now + PROBE),
            }
        }
        if let Some(Rate { count, window }) = limit {
            let each = window / count.max(1);
            let spent = self.spent_until.max(now) + each;
            let over = spent.saturating_sub(now).saturating_sub(window);
            if !over.is_zero() {
                self.probe_until = None;
                return Err(over);
            }
            self.spent_until = spent;
        }
        Ok(())
    }

    /// For how long nobody passes.
    #[must_use]
    pub fn shut(&self, now: Duration) -> Duration {
        self.shut_until.saturating_sub(now)
    }

    /// Whether a new one would do the same.
    #[must_use]
    pub fn is_at_rest(&self, now: Duration) -> bool {
        self.failures == 0 && self.shut_until <= now && self.spent_until <= now
    }

    /// Whether it has failed so often that only one attempt at a time is made.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.failures >= FAILURES
    }

    /// `fraction` is drawn from 0..1.
    pub fn said(&mut self, said: Said, now: Duration, fraction: f64) {
        self.probe_until = None;
        match said {
            Said::Answered => self.failures = 0,
            Said::Later(wait) => {
                self.failures = 0;
                self.shut_until = self.shut_until.max(now + wait);
            }
            Said::Failed => {
                self.failures = self.failures.saturating_add(1);
                if self.is_open() {
                    let doubled = 1_u32 << (self.failures - FAILURES).min(16);
                    let wait = OPEN.0.saturating_mul(doubled).min(OPEN.1);
                    let jitter = 0.8 + 0.4 * fraction.clamp(0.0, 1.0);
                    self.shut_until = self.shut_until.max(now + wait.mul_f64(jitter));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_open_the_breaker_and_one_answer_closes_it() {
        let mut gate = Gate::default();
        for second in 0..u64::from(FAILURES) {
            assert_eq!(gate.pass(None, at(second)), Ok(()));
            gate.said(Said::Failed, at(second), 0.5);
        }
        assert!(gate.is_open());
        assert_eq!(gate.pass(None, at(4)), Err(at(2)));
        // One at a time finds out.
        assert_eq!(gate.pass(None, at(6)), Ok(()));
        assert_eq!(gate.pass(None, at(6)), Err(OPEN.0));
        gate.said(Said::Failed, at(6), 0.5);
        assert_eq!(gate.pass(None, at(6)), Err(at(4)), "the wait doubles");
        assert_eq!(gate.pass(None, at(10)), Ok(()));
        gate.said(Said::Answered, at(10), 0.5);
        assert!((0..10).all(|_| gate.pass(None, at(10)).is_ok()));
    }

    #[test]
    fn waits_have_a_limit_and_an_attempt_that_vanished_does_not_block_for_ever() {
        let mut gate = Gate::default();
        (0..100).for_each(|_| gate.said(Said::Failed, at(0), 1.0));
        assert!(gate.pass(None, at(0)).unwrap_err() <= OPEN.1.mul_f64(1.2));
        assert_eq!(gate.pass(None, at(400)), Ok(()));
        assert!(gate.pass(None, at(401)).is_err());
        assert_eq!(gate.pass(None, at(500)), Ok(()));
    }

    #[test]
    fn who_asks_for_time_gets_it() {
        let mut gate = Gate::default();
        gate.said(Said::Later(at(30)), at(10), 0.5);
        assert_eq!(gate.pass(None, at(20)), Err(at(20)));
        assert_eq!(gate.pass(None, at(40)), Ok(()));
        assert!(!gate.is_open());
    }

    #[test]
    fn a_limit_is_kept_over_any_window() {
        let mut gate = Gate::default();
        let limit = Some(Rate { count: 3, window: at(60) });
        let passed: Vec<u64> = (0..240).filter(|second| gate.pass(limit, at(*second)).is_ok()).collect();
        assert_eq!(passed[..3], [0, 1, 2]);
        // 3 at once, then one each 20 s.
        assert_eq!(passed.len(), 3 + 11, "{passed:?}");
        let wait = gate.pass(limit, at(239)).unwrap_err();
        assert_eq!(gate.pass(limit, at(239) + wait), Ok(()));
    }
}
