//! What follows from one attempt to deliver a notification.

use std::time::Duration;

use super::notify::gate::Said;

/// Shortest wait before another attempt.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait before another attempt, unless the receiver asks for more.
const LONGEST: Duration = Duration::from_secs(10 * 60);
/// Longest wait that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

/// What a receiver answered, or why it could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Status {
        code: u16,
        retry_after: Option<Duration>,
    },
    /// No answer: refused, timed out, bad TLS, …
    Nothing {
        reason: String,
    },
    /// It will never take this one.
    Refused {
        reason: String,
    },
}

impl Answer {
    /// What it says of the receiver itself.
    #[must_use]
    pub fn said(&self) -> Said {
        match self {
            Self::Status { code: 429 | 503, retry_after: Some(wait) } => {
                Said::Later((*wait).min(LONGEST_ASKED))
            }
            Self::Status { code: 408 | 425 | 429 | 500..=599, .. } | Self::Nothing { .. } => Said::Failed,
            Self::Status { .. } | Self::Refused { .. } => Said::Answered,
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Delivered,
    Retry {
        after: Duration,
        reason: String,
    },
    /// `gone`: the receiver wants nothing more at all.
    GiveUp {
        reason: String,
        gone: bool,
    },
}

/// `age` is how long the notification has been under way, `fraction` is drawn from 0..1.
///
/// Waits double: the next attempt comes after about as long again as the notification has waited so far, from one
/// second up to ten minutes. That needs no memory of attempts, so a crash does not begin it anew.
#[must_use]
pub fn decide(answer: Answer, age: Duration, retry_for: Duration, fraction: f64) -> Decision {
    let (reason, asked) = match answer {
        Answer::Status { code: 200..=299, .. } => return Decision::Delivered,
        Answer::Status { code: code @ (408 | 425 | 429 | 500..=599), retry_after } => {
            (format!("the receiver answered {code}"), retry_after)
        }
        Answer::Status { code, .. } => {
            let hint = match code {
                300..=399 => "; redirects are not followed: correct its URL",
                410 => {
                    "; it is gone for good, so nothing more is sent there until its document changes or `dogwatch receiver test` succeeds"
                }
                _ => "; it does not accept the notification as it is: check its URL",
            };
            return Decision::GiveUp {
                reason: format!("the receiver answered {code}{hint}"),
                gone: code == 410,
            };
        }
        Answer::Refused { reason } => return Decision::GiveUp { reason, gone: false },
        Answer::Nothing { reason } => (reason, None),
    };
    if age >= retry_for {
        let tried = protocol::duration::format(Duration::from_secs(retry_for.as_secs()));
        return Decision::GiveUp { reason: format!("{reason}; tried for {tried}"), gone: false };
    }
    let jitter = 0.8 + 0.4 * fraction.clamp(0.0, 1.0);
    let wait = age.clamp(FIRST, LONGEST).mul_f64(jitter);
    let after = asked.map_or(wait, |asked| asked.min(LONGEST_ASKED).max(wait));
    Decision::Retry { after, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn status(code: u16) -> Answer {
        Answer::Status { code, retry_after: None }
    }

    #[test]
    fn an_answer_decides_what_follows() {
        for (code, expected) in [
            (200, "delivered"),
            (204, "delivered"),
            (301, "given up"),
            (400, "given up"),
            (404, "given up"),
            (410, "given up"),
            (408, "retry"),
            (429, "retry"),
            (500, "retry"),
            (503, "retry"),
            (999, "given up"),
        ] {
            let found = match decide(status(code), Duration::ZERO, DAY, 0.5) {
                Decision::Delivered => "delivered",
                Decision::Retry { .. } => "retry",
                Decision::GiveUp { .. } => "given up",
            };
            assert_eq!(found, expected, "{code}");
        }
    }

    #[test]
    fn an_answer_says_something_of_the_receiver_too() {
        let asked = |code, seconds| Answer::Status { code, retry_after: Some(Duration::from_secs(seconds)) };
        for (answer, said) in [
            (status(200), Said::Answered),
            (status(400), Said::Answered),
            (status(500), Said::Failed),
            (status(429), Said::Failed),
            (asked(429, 5), Said::Later(Duration::from_secs(5))),
            (asked(503, 1_000_000), Said::Later(LONGEST_ASKED)),
            (Answer::Nothing { reason: String::new() }, Said::Failed),
        ] {
            assert_eq!(answer.said(), said, "{answer:?}");
        }
    }

    #[test]
    fn waits_double_up_to_a_limit_and_end() {
        let wait = |age: u64| match decide(status(500), Duration::from_secs(age), DAY, 0.5) {
            Decision::Retry { after, .. } => after.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([wait(0), wait(1), wait(2), wait(60), wait(7200)], [1, 1, 2, 60, 600]);
        let over = decide(status(500), DAY, DAY, 0.5);
        assert_eq!(
            over,
            Decision::GiveUp { reason: "the receiver answered 500; tried for 1day".into(), gone: false }
        );
    }

    #[test]
    fn a_receiver_may_ask_for_time_but_not_for_ever() {
        for (asked, expected) in [(1, 10), (120, 120), (1_000_000, 3_600)] {
            let answer = Answer::Status { code: 429, retry_after: Some(Duration::from_secs(asked)) };
            let decision = decide(answer, Duration::from_secs(10), DAY, 0.5);
            let Decision::Retry { after, .. } = decision else { panic!("{decision:?}") };
            assert_eq!(after.as_secs(), expected);
        }
    }
}
