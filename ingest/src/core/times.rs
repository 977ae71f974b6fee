//! Is a result's time one that its host can have measured? Judged against when the broker took it.

use super::accept::{Accepted, Refused, Why};

/// How far a result's time may lie from when the broker took it, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub max_ahead: u64,
    /// `None`: as old as it likes.
    pub max_late: Option<u64>,
}

impl Times {
    /// # Errors
    /// [`Refused`] when the result lies too far ahead, or behind.
    pub fn check(&self, accepted: Accepted, published_ms: u64) -> Result<Accepted, Refused> {
        let at_ms = accepted.result.at_ms;
        let (ahead, late) = (at_ms.saturating_sub(published_ms), published_ms.saturating_sub(at_ms));
        if ahead > self.max_ahead {
            let (ahead, limit) = (shown(ahead), shown(self.max_ahead));
            let text = format!(
                "its time is {ahead} ahead of the broker's, more than the {limit} of --max-ahead: set the host's clock"
            );
            return Err(accepted.refused(Why::Ahead, text));
        }
        match self.max_late {
            Some(limit) if late > limit => {
                let text =
                    format!("it came {} late, more than the {} of --max-late", shown(late), shown(limit));
                Err(accepted.refused(Why::Late, text))
            }
            _ => Ok(accepted),
        }
    }
}

fn shown(ms: u64) -> String {
    protocol::duration::format(std::time::Duration::from_secs(ms / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::accept::accept;

    #[test]
    fn what_lies_too_far_off_is_refused_with_how_far() {
        const NOW: u64 = 1_795_200_000_000;
        const HOUR: u64 = 3_600_000;
        let limited = Times { max_ahead: HOUR, max_late: Some(24 * HOUR) };
        let open = Times { max_ahead: HOUR, max_late: None };
        for (times, at_ms, expected) in [
            (limited, NOW, None),
            (limited, NOW + HOUR, None),
            (
                limited,
                NOW + HOUR + 1,
                Some((Why::Ahead, "its time is 1h ahead of the broker's, more than the 1h of --max-ahead")),
            ),
            (limited, u64::MAX, Some((Why::Ahead, "ahead of the broker's"))),
            (limited, NOW - 24 * HOUR, None),
            (
                limited,
                NOW - 25 * HOUR,
                Some((Why::Late, "it came 1day 1h late, more than the 1day of --max-late")),
            ),
            (limited, 0, Some((Why::Late, "late"))),
            (open, 0, None),
        ] {
            let json = format!(
                r#"{{"v":1,"agent":"a","check":"c","epoch":5,"seq":7,"at_ms":{at_ms},"status":"ok"}}"#
            );
            let accepted = accept("dogwatch.v1.result.a.c", None, json.as_bytes()).unwrap();
            let found = times.check(accepted, NOW).err();
            assert_eq!(found.as_ref().map(|refused| refused.why), expected.map(|(why, _)| why), "{at_ms}");
            if let (Some(found), Some((_, text))) = (found, expected) {
                assert!(found.reason.contains(text), "{}", found.reason);
                assert_eq!(found.number, Some((5, 7)));
            }
        }
    }
}
