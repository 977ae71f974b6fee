//! The agent guards the host against its checks and against itself. Pure: `now` is an argument, in milliseconds.

use std::{collections::BTreeMap, time::Duration};

use protocol::{CheckName, duration::millis};

/// First pause of a check; each further one is twice as long, up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: u64 = 60_000;
const LONGEST_PAUSE_MS: u64 = 3_600_000;
/// The signals with which the kernel ends a process that is over a limit.
const SIGNALS: [(i32, &str); 3] = [
    (9, "killed, as for want of memory"),
    (24, "over its limit of processor time"),
    (25, "over its limit of file size"),
];

/// How a run went over a limit; `None` when it did not.
#[must_use]
pub fn overrun(timed_out: bool, signal: Option<i32>, exit_code: Option<i32>) -> Option<&'static str> {
    if timed_out {
        return Some("timed out");
    }
    // So a shell reports the signal that ended its last command.
    let signal = signal.or_else(|| exit_code?.checked_sub(128));
    SIGNALS.iter().find(|(number, _)| Some(*number) == signal).map(|(_, how)| *how)
}

/// Checks that keep going over their limits are paused: 1 minute, 2, 4, … up to an hour. One run within the limits
/// makes good for all.
#[derive(Debug)]
pub struct Pauses {
    /// Overruns in a row after which a check is paused; 0: never.
    after: u32,
    /// Only checks whose last run went over a limit.
    offenders: BTreeMap<CheckName, Offender>,
}

#[derive(Debug, Default)]
struct Offender {
    in_a_row: u32,
    pauses: u32,
    paused: Option<Pause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub until_ms: u64,
    /// For people, with the time of the next try.
    pub reason: String,
}

impl Pauses {
    #[must_use]
    pub fn new(after: u32) -> Self {
        Self { after, offenders: BTreeMap::new() }
    }

    /// A run of `name` ended, over a limit or not. The pause that this begins, if any.
    pub fn ended(&mut self, now: u64, name: &CheckName, overrun: Option<&'static str>) -> Option<Pause> {
        let (Some(how), 1..) = (overrun, self.after) else {
            self.offenders.remove(name);
            return None;
        };
        let offender = self.offenders.entry(name.clone()).or_default();
        offender.in_a_row = offender.in_a_row.saturating_add(1);
        // After a pause one run is enough to begin the next.
        if offender.in_a_row < self.after {
            return None;
        }
        let length = FIRST_PAUSE_MS.saturating_mul(1 << offender.pauses.min(16)).min(LONGEST_PAUSE_MS);
        offender.pauses = offender.pauses.saturating_add(1);
        let until_ms = now.saturating_add(length);
        let reason = format!("paused until {}: {how} {} times in a row", time(until_ms), offender.in_a_row);
        let pause = Pause { until_ms, reason };
        offender.paused = Some(pause.clone());
        Some(pause)
    }

    /// The pause that `name` is in at `now`.
    #[must_use]
    pub fn paused(&self, now: u64, name: &CheckName) -> Option<&Pause> {
        self.offenders.get(name)?.paused.as_ref().filter(|pause| now < pause.until_ms)
    }

    /// How many checks are paused at `now`.
    #[must_use]
    pub fn count(&self, now: u64) -> usize {
        self.offenders.keys().filter(|name| self.paused(now, name).is_some()).count()
    }

    /// `name` was changed or removed.
    pub fn forget(&mut self, name: &CheckName) {
        self.offenders.remove(name);
    }
}

/// `ms` since 1970 for people, to the second; the end of time for what no calendar holds.
#[must_use]
pub fn time(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// What the agent and its checks may take of the host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Of the agent itself, in bytes; 0: any.
    pub memory_bytes: u64,
    /// Of the agent and its checks, in percent of one processor, on average over a minute; 0: any.
    pub cpu_percent: f64,
}

/// What was taken, as the kernel counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    pub memory_bytes: u64,
    /// Since the start: the agent's and that of its ended children.
    pub cpu_ms: u64,
}

/// Compares what is taken with the budget, again and again.
#[derive(Debug)]
pub struct Watch {
    budget: Budget,
    /// Readings of the last minute, oldest first.
    readings: Vec<(u64, Taken)>,
    over: bool,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub memory_bytes: u64,
    /// On average over the last minute, or what there is of it.
    pub cpu_percent: f64,
    /// Why fewer checks are to run; `None` within the budget.
    pub over: Option<String>,
}

/// Time over which the use of processors is averaged.
const WINDOW_MS: u64 = 60_000;
/// A burst right after the start says nothing yet.
const SHORTEST_MS: u64 = 30_000;
/// Back within the budget means clearly so, or the agent would swing between the two.
const CALM: f64 = 0.8;

impl Watch {
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { budget, readings: Vec::new(), over: false }
    }

    pub fn look(&mut self, now: u64, taken: Taken) -> Standing {
        // One reading of the window's age or older stays, to measure from.
        let old = |at: &u64| now.saturating_sub(*at) >= WINDOW_MS;
        while self.readings.get(1).is_some_and(|(at, _)| old(at)) {
            self.readings.remove(0);
        }
        self.readings.push((now, taken));
        let (first, before) = self.readings.first().copied().unwrap_or((now, taken));
        let elapsed = now.saturating_sub(first);
        let spent = taken.cpu_ms.saturating_sub(before.cpu_ms);
        let cpu_percent = if elapsed == 0 { 0.0 } else { 100.0 * number(spent) / number(elapsed) };
        let factor = if self.over { CALM } else { 1.0 };
        let Budget { memory_bytes, cpu_percent: most } = self.budget;
        let memory = memory_bytes > 0 && number(taken.memory_bytes) > number(memory_bytes) * factor;
        let cpu = most > 0.0 && elapsed >= SHORTEST_MS && cpu_percent > most * factor;
        self.over = memory || cpu;
        let mut reasons = Vec::new();
        if memory {
            let (mib, of) = (taken.memory_bytes >> 20, memory_bytes >> 20);
            reasons.push(format!("{mib} MiB of memory, of {of} MiB allowed"));
        }
        if cpu {
            reasons.push(format!("{cpu_percent:.0}% of a processor, of {most}% allowed"));
        }
        let over = self.over.then(|| reasons.join("; "));
        Standing { memory_bytes: taken.memory_bytes, cpu_percent, over }
    }
}

/// Exact up to 2^53.
fn number(count: u64) -> f64 {
    count as f64
}

/// From `/proc/self/stat` (with `ticks` to the second) and `/proc/self/status`; `None` when they are not as expected.
#[must_use]
pub fn taken(stat: &str, status: &str, ticks: u64) -> Option<Taken> {
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    // utime, stime, cutime, cstime: fields 14 to 17 of the manual page, of which 3 is the first here.
    let spent: Option<u64> =
        fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = memory.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Taken {
        memory_bytes: kib.saturating_mul(1024),
        cpu_ms: spent?.saturating_mul(millis(Duration::from_secs(1))) / ticks.max(1),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> CheckName {
        CheckName::new("c").unwrap()
    }

    #[test]
    fn pauses_grow_to_an_hour_and_one_good_run_ends_them() {
        let mut pauses = Pauses::new(3);
        let mut now = 1_795_228_200_000;
        let late = Some("timed out");
        assert_eq!(pauses.ended(now, &name(), late), None);
        assert_eq!(pauses.ended(now, &name(), late), None);
        let first = pauses.ended(now, &name(), late).unwrap();
        assert_eq!(first.reason, "paused until 2026-11-21T02:31:00Z: timed out 3 times in a row");
        assert_eq!(pauses.paused(now + 59_999, &name()), Some(&first));
        assert_eq!((pauses.paused(now + 60_000, &name()), pauses.count(now)), (None, 1));
        for minutes in [2, 4, 8, 16, 32, 60, 60, 60] {
            now = first.until_ms + 1_000_000_000;
            assert_eq!(pauses.ended(now, &name(), late).unwrap().until_ms, now + minutes * 60_000);
        }
        assert_eq!(pauses.ended(now, &name(), None), None);
        assert_eq!(pauses.paused(now, &name()), None);
        assert_eq!(pauses.ended(now, &name(), late), None, "from the beginning again");
        assert_eq!(Pauses::new(0).ended(now, &name(), late), None);
    }

    #[test]
    fn what_counts_as_over_a_limit() {
        for (timed_out, signal, exit_code, expected) in [
            (true, None, None, Some("timed out")),
            (true, Some(15), None, Some("timed out")),
            (false, Some(24), None, Some("over its limit of processor time")),
            (false, Some(9), None, Some("killed, as for want of memory")),
            (false, None, Some(137), Some("killed, as for want of memory")),
            (false, None, Some(153), Some("over its limit of file size")),
            (false, Some(11), None, None),
            (false, None, Some(9), None),
            (false, None, None, None),
        ] {
            assert_eq!(overrun(timed_out, signal, exit_code), expected);
        }
    }

    #[test]
    fn over_the_budget_until_clearly_below_it() {
        let mut watch = Watch::new(Budget { memory_bytes: 100 << 20, cpu_percent: 50.0 });
        let mut look = |now: u64, mib: u64, cpu_ms: u64| {
            let standing = watch.look(now * 1_000, Taken { memory_bytes: mib << 20, cpu_ms });
            (standing.cpu_percent.round(), standing.over.unwrap_or_default())
        };
        assert_eq!(look(0, 10, 0), (0.0, String::new()));
        assert_eq!(look(10, 10, 9_000), (90.0, String::new()), "a burst at the start");
        assert_eq!(look(40, 10, 30_000), (75.0, "75% of a processor, of 50% allowed".into()));
        assert_eq!(look(70, 10, 30_000), (35.0, String::new()));
        assert_eq!(look(80, 120, 30_000).1, "120 MiB of memory, of 100 MiB allowed");
        assert_eq!(look(90, 90, 30_000).1, "90 MiB of memory, of 100 MiB allowed", "not yet calm");
        assert_eq!(look(100, 79, 30_000).1, "");
        let mut any = Watch::new(Budget { memory_bytes: 0, cpu_percent: 0.0 });
        any.look(0, Taken::default());
        assert_eq!(any.look(60_000, Taken { memory_bytes: 1 << 50, cpu_ms: 600_000 }).over, None);
    }

    #[test]
    fn the_kernels_figures_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 5 6 7";
        let status = "Name:\tx\nVmPeak:\t  99 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!(taken(stat, status, 100), Some(Taken { memory_bytes: 2 << 20, cpu_ms: 2_000 }));
        for (stat, status) in [("", status), (stat, ""), ("7 (x) S 1", status), (stat, "VmRSS: many kB")] {
            assert_eq!(taken(stat, status, 100), None);
        }
    }

    proptest! {
        /// Whatever happens: no pause is longer than an hour or begins before `after` overruns in a row, a check that
        /// behaves is never paused, and a pause always ends.
        #[test]
        fn pauses_keep_to_the_rules(
            after in 1_u32..8,
            steps in proptest::collection::vec((0_u64..7_200_000, any::<bool>()), 1..200),
        ) {
            let mut pauses = Pauses::new(after);
            let (mut now, mut in_a_row) = (1_795_000_000_000_u64, 0);
            for (step, bad) in steps {
                now += step;
                if pauses.paused(now, &name()).is_some() {
                    prop_assert!(in_a_row >= after);
                    prop_assert!(pauses.paused(now + LONGEST_PAUSE_MS, &name()).is_none());
                    continue;
                }
                in_a_row = if bad { in_a_row + 1 } else { 0 };
                let pause = pauses.ended(now, &name(), bad.then_some("timed out"));
                prop_assert_eq!(pause.is_some(), in_a_row >= after);
                if let Some(pause) = pause {
                    let length = pause.until_ms - now;
                    prop_assert!((FIRST_PAUSE_MS..=LONGEST_PAUSE_MS).contains(&length));
                }
                prop_assert_eq!(pauses.offenders.len(), usize::from(bad));
            }
        }
    }
}
