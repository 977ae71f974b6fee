//! Schedules as cron writes them: `*/5 8-18 * * mon-fri`. Pure: time and zone are arguments.
//!
//! Five fields: minute, hour, day of month, month, weekday (0 and 7 are Sunday); or `@hourly`, `@daily`, `@weekly`,
//! `@monthly`, `@yearly`. Where both days are given, one of them is enough, as in every cron.
//!
//! When clocks are put forward, a time inside the gap comes once, right behind it. When they are put back, a fixed time
//! such as `30 2 * * *` comes once, at the first of the two; `*/5 * * * *` goes on every five minutes.

use std::{fmt, str::FromStr, time::Duration};

use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, Zoned, tz::TimeZoneDatabase};

pub use jiff::tz::TimeZone;

/// Longest expression, in bytes.
const LENGTH: usize = 256;
const MINUTE: Duration = Duration::from_secs(60);

/// A schedule that comes round.
#[derive(Debug, Clone)]
pub struct Cron {
    text: Box<str>,
    times: croner::Cron,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error(
        "{text:?} is not a cron expression ({reason}): write minute, hour, day, month and weekday, such as \"*/5 8-18 * * mon-fri\", or @hourly, @daily, @weekly, @monthly"
    )]
    Form { text: String, reason: String },
    #[error("{text:?} never comes: no month has such a day")]
    Never { text: String },
}

/// Why a text is no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone {name:?}: give its IANA name, such as Europe/Berlin or UTC")]
pub struct ZoneError {
    name: String,
}

/// The zone of an IANA name, with the rules that are built into this program: it needs no files.
///
/// # Errors
/// [`ZoneError`] when there is none.
pub fn zone(name: &str) -> Result<TimeZone, ZoneError> {
    let error = || ZoneError { name: name.chars().take(100).collect() };
    TimeZoneDatabase::bundled().get(name).map_err(|_| error())
}

impl Cron {
    /// The first time after `after_ms` at which it comes, both in milliseconds since 1970.
    #[must_use]
    pub fn next_after(&self, after_ms: u64, zone: &TimeZone) -> Option<u64> {
        let after = Timestamp::from_millisecond(i64::try_from(after_ms).ok()?).ok()?;
        let next = self.times.find_next_occurrence(&Zoned::new(after, zone.clone()), false).ok()?;
        // A search that starts inside a second of a match must not find what lies behind it.
        u64::try_from(next.timestamp().as_millisecond()).ok().filter(|next| *next > after_ms)
    }

    /// About the shortest time between two times, without regard to changes of clocks. One minute or more.
    #[must_use]
    pub fn shortest_gap(&self) -> Duration {
        // More than a year of any schedule whose times are days apart.
        const LOOKED_AT: usize = 800;
        let mut at = START_MS;
        let mut shortest = Duration::MAX;
        for index in 0..LOOKED_AT {
            let Some(next) = self.next_after(at, &TimeZone::UTC) else { break };
            if index > 0 {
                shortest = shortest.min(Duration::from_millis(next - at));
            }
            if shortest <= MINUTE {
                break;
            }
            at = next;
        }
        shortest.clamp(MINUTE, Duration::from_secs(366 * 86_400))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// 2024-01-01, a leap year, so that its day is soon found.
const START_MS: u64 = 1_704_067_200_000;

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let shown = || text.chars().take(100).collect::<String>();
        let form = |reason: &str| CronError::Form { text: shown(), reason: reason.to_owned() };
        let text = text.trim();
        if text.len() > LENGTH || !text.is_ascii() {
            return Err(form("too long, or not plain ASCII"));
        }
        if !text.starts_with('@') && text.split_whitespace().count() != 5 {
            return Err(form("it has not five fields"));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let times = parser.parse(text).map_err(|error| form(error.to_string().trim_end_matches('.')))?;
        let cron = Self { text: text.into(), times };
        if cron.next_after(START_MS, &TimeZone::UTC).is_none() {
            return Err(CronError::Never { text: shown() });
        }
        Ok(cron)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    /// The next times, in the zone's own clock.
    fn next(cron: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
        let (cron, zone): (Cron, _) = (cron.parse().unwrap(), zone(zone_name).unwrap());
        let mut at = ms(from);
        let mut times = Vec::new();
        for _ in 0..count {
            at = cron.next_after(at, &zone).unwrap();
            let time = Timestamp::from_millisecond(at as i64).unwrap().to_zoned(zone.clone());
            times.push(time.strftime("%a %m-%d %H:%M%z").to_string());
        }
        times
    }

    #[test]
    fn expressions_mean_what_cron_means_by_them() {
        for (cron, expected) in [
            ("*/20 * * * *", ["Sun 11-01 00:20+0000", "Sun 11-01 00:40+0000", "Sun 11-01 01:00+0000"]),
            ("5,7-8 3 * * *", ["Sun 11-01 03:05+0000", "Sun 11-01 03:07+0000", "Sun 11-01 03:08+0000"]),
            ("0 9 * * mon-fri", ["Mon 11-02 09:00+0000", "Tue 11-03 09:00+0000", "Wed 11-04 09:00+0000"]),
            ("0 9 * JAN sun", ["Sun 01-03 09:00+0000", "Sun 01-10 09:00+0000", "Sun 01-17 09:00+0000"]),
            ("0 0 * * 7", ["Sun 11-08 00:00+0000", "Sun 11-15 00:00+0000", "Sun 11-22 00:00+0000"]),
            // Day of month or day of week.
            ("0 0 4 * mon", ["Mon 11-02 00:00+0000", "Wed 11-04 00:00+0000", "Mon 11-09 00:00+0000"]),
            ("30 8-18/5 * * *", ["Sun 11-01 08:30+0000", "Sun 11-01 13:30+0000", "Sun 11-01 18:30+0000"]),
            ("@hourly", ["Sun 11-01 01:00+0000", "Sun 11-01 02:00+0000", "Sun 11-01 03:00+0000"]),
            ("@daily", ["Mon 11-02 00:00+0000", "Tue 11-03 00:00+0000", "Wed 11-04 00:00+0000"]),
            ("0 0 29 2 *", ["Tue 02-29 00:00+0000", "Sun 02-29 00:00+0000", "Fri 02-29 00:00+0000"]),
        ] {
            assert_eq!(next(cron, "UTC", "2026-11-01T00:00:00Z", 3), expected, "{cron}");
        }
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_comes_once_and_one_that_it_repeats_too() {
        let berlin = |cron, from, count| next(cron, "Europe/Berlin", from, count);
        // 02:00 to 03:00 is left out.
        assert_eq!(
            berlin("30 2 * * *", "2026-03-28T12:00:00Z", 2),
            ["Sun 03-29 03:00+0200", "Mon 03-30 02:30+0200"]
        );
        // 02:00 to 03:00 comes twice.
        assert_eq!(
            berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2),
            ["Sun 10-25 02:30+0200", "Mon 10-26 02:30+0100"]
        );
        assert_eq!(
            berlin("*/30 * * * *", "2026-10-25T00:10:00Z", 4),
            ["Sun 10-25 02:30+0200", "Sun 10-25 02:00+0100", "Sun 10-25 02:30+0100", "Sun 10-25 03:00+0100"]
        );
    }

    #[test]
    fn what_is_no_schedule_says_how_to_write_one() {
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "@reboot",
            "@often",
            "every day",
            "a b c d e",
            "5-1 * * * *",
            "* * * * mun",
        ] {
            let error = bad.parse::<Cron>().expect_err(bad).to_string();
            assert!(error.contains("is not a cron expression (") && error.contains("mon-fri"), "{error}");
        }
        let error = "0 0 30 2 *".parse::<Cron>().unwrap_err().to_string();
        assert!(error.contains("never comes"), "{error}");
    }

    #[test]
    fn the_shortest_gap_is_found() {
        for (cron, seconds) in [
            ("* * * * *", 60),
            ("*/5 * * * *", 300),
            ("*/7 * * * *", 240),
            ("0 3 * * *", 86_400),
            ("0 3 1 * *", 28 * 86_400),
            ("0 0,23 * * *", 3_600),
            ("0 3 * * mon", 7 * 86_400),
        ] {
            assert_eq!(cron.parse::<Cron>().unwrap().shortest_gap().as_secs(), seconds, "{cron}");
        }
    }

    #[test]
    fn zones_are_known_by_their_names() {
        assert!(zone("Europe/Berlin").is_ok() && zone("UTC").is_ok());
        for bad in ["Europe/Berln", "", "../etc/passwd", "CEST+99"] {
            assert!(zone(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_text_panics(text in "[0-9*/,@a-zL#W?+ -]{0,20}") {
            let _either = text.parse::<Cron>();
        }

        /// Whatever the zone and the moment: the next time lies ahead, and none is passed over.
        #[test]
        fn times_only_go_forward(
            minute in 0_u8..60, step in 1_u8..12, zone_name in "(Europe/Berlin|America/New_York|Australia/Lord_Howe|UTC)",
            from in 1_767_000_000_000_u64..1_800_000_000_000, part in 0_u64..1_000,
        ) {
            let zone = zone(&zone_name).unwrap();
            let cron: Cron = format!("{minute} */{step} * * *").parse().unwrap();
            let next = cron.next_after(from, &zone).unwrap();
            prop_assert!(next > from && next.is_multiple_of(60_000));
            let between = from + (next - from - 1) * part / 1_000;
            prop_assert_eq!(cron.next_after(between, &zone), Some(next));
        }
    }
}
