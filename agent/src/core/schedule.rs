//! When each check runs. Pure: it answers "what is due at `now`" and "when to look next"; the caller sleeps and runs.
//!
//! Times are milliseconds on one clock that never goes back. Each check has a fixed phase, made from the names of agent
//! and check: it runs whenever `now mod every` comes to that phase, so it does not drift and hosts do not run in step.
//! Only the first run is sooner, within `min(every, 2 s)`, so that a newcomer sees results at once.
//!
//! A check never overlaps with itself: a run that is due while the one before is under way is left out and counted.
//! After a jump of the clock (a suspended host) there is one run, not a burst.
//!
//! Checks with a cron expression stand in a [`Timetable`], by the clock on the wall.

use std::collections::{BTreeSet, HashMap, HashSet};

use protocol::{
    CheckName,
    cron::{Cron, TimeZone},
};

use super::timetable::Timetable;

/// The first run of a check comes within this time, in milliseconds.
const FIRST_WITHIN_MS: u64 = 2_000;

#[derive(Debug, Default)]
pub struct Schedule {
    entries: HashMap<CheckName, Entry>,
    /// When each entry is due, all but those whose first run waits for an overlapping one to end.
    queue: BTreeSet<(u64, CheckName)>,
    /// Apart from the entries, since a check that was removed may still be ending when it is added again.
    running: HashSet<CheckName>,
    timetable: Timetable,
    /// Runs left out since the last start.
    left_out: HashMap<CheckName, u64>,
}

#[derive(Debug)]
struct Entry {
    every: u64,
    seed: u64,
    due: u64,
    /// It has not run yet: its first run waits for an overlapping one to end instead of being left out.
    first: bool,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// To be started; each stays running until [`Schedule::finished`].
    pub run: Vec<CheckName>,
    /// Runs left out since the one before was still under way.
    pub skipped: u64,
    /// The same by check.
    pub(super) skipped_of: Vec<(CheckName, u64)>,
}

impl Due {
    pub(super) fn skip(&mut self, name: &CheckName, runs: u64) {
        self.skipped = self.skipped.saturating_add(runs);
        self.skipped_of.push((name.clone(), runs));
    }
}

impl Schedule {
    /// Add a check, or begin anew with one that changed. `every` is at least 1 ms; `seed` gives the phase.
    pub fn add(&mut self, now: u64, name: CheckName, every: u64, seed: u64) {
        let every = every.max(1);
        let due = now.saturating_add(seed % every.min(FIRST_WITHIN_MS));
        self.remove(&name);
        self.queue.insert((due, name.clone()));
        self.entries.insert(name, Entry { every, seed, due, first: true });
    }

    /// Add a check that runs by the clock, or begin anew with one that changed. `wall` is that clock; `shortest` the time
    /// between two runs, in milliseconds.
    pub fn add_cron(
        &mut self,
        wall: u64,
        name: CheckName,
        cron: Cron,
        zone: TimeZone,
        (shortest, seed): (u64, u64),
    ) {
        self.remove(&name);
        self.timetable.add(wall, name, cron, zone, (shortest, seed));
    }

    pub fn remove(&mut self, name: &CheckName) {
        self.left_out.remove(name);
        self.timetable.remove(name);
        if let Some(entry) = self.entries.remove(name) {
            self.queue.remove(&(entry.due, name.clone()));
        }
    }

    /// What is due at `now`. Ask again at [`Self::next_wake`], and after every other call.
    pub fn due(&mut self, now: u64) -> Due {
        let mut due = Due::default();
        while self.queue.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.queue.pop_first() else { break };
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            if !self.running.contains(&name) {
                entry.first = false;
                self.running.insert(name.clone());
                due.run.push(name.clone());
            } else if entry.first {
                // The end of the run under way queues it again.
                continue;
            } else {
                due.skip(&name, 1 + (now - entry.due) / entry.every);
            }
            entry.due = entry.next_after(now);
            self.queue.insert((entry.due, name));
        }
        self.remember(&due);
        due
    }

    /// Run `name` now, beside the schedule. `false` while it is running; else it is until [`Schedule::finished`].
    pub fn claim(&mut self, name: &CheckName) -> bool {
        self.running.insert(name.clone())
    }

    /// What is due by the clock on the wall, which says `wall`. Ask again after [`Self::wait_by_clock`].
    pub fn due_by_clock(&mut self, wall: u64) -> Due {
        let due = self.timetable.due(wall, &mut self.running);
        self.remember(&due);
        due
    }

    /// How long until something may be due by the clock on the wall, in milliseconds.
    #[must_use]
    pub fn wait_by_clock(&self, wall: u64) -> Option<u64> {
        self.timetable.wait(wall)
    }

    fn remember(&mut self, due: &Due) {
        for (name, runs) in &due.skipped_of {
            let left_out = self.left_out.entry(name.clone()).or_default();
            *left_out = left_out.saturating_add(*runs);
        }
    }

    /// How many runs of `name` were left out since this was asked last: to be told with its next result.
    pub fn take_skipped(&mut self, name: &CheckName) -> u64 {
        self.left_out.remove(name).unwrap_or_default()
    }

    /// The run of `name` is over.
    pub fn finished(&mut self, name: &CheckName) {
        self.running.remove(name);
        if let Some(entry) = self.entries.get(name).filter(|entry| entry.first) {
            self.queue.insert((entry.due, name.clone()));
        }
    }

    /// When something is due next; `None` when nothing is, before the schedule changes or a run ends.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        self.queue.first().map(|(at, _)| *at)
    }
}

impl Entry {
    /// The first moment after `now` at which the check's phase comes round.
    fn next_after(&self, now: u64) -> u64 {
        let phase = self.seed % self.every;
        let into = (now % self.every + self.every - phase) % self.every;
        now.saturating_add(self.every - into)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn name(index: usize) -> CheckName {
        CheckName::new(&format!("check-{index}")).unwrap()
    }

    #[test]
    fn a_check_runs_soon_and_then_on_its_phase() {
        let mut schedule = Schedule::default();
        schedule.add(1_000_000, name(0), 60_000, 12_345);
        assert_eq!(schedule.next_wake(), Some(1_000_345));
        assert_eq!(schedule.due(1_000_345).run, [name(0)]);
        schedule.finished(&name(0));
        assert_eq!(schedule.next_wake(), Some(1_032_345), "16 · 60 s + 72.345 s");
        assert_eq!(schedule.due(1_032_344), Due::default());
        assert_eq!(schedule.due(1_032_400).run, [name(0)], "late");
        schedule.finished(&name(0));
        assert_eq!(schedule.next_wake(), Some(1_092_345), "and yet no drift");
    }

    #[test]
    fn a_check_does_not_overlap_with_itself() {
        let mut schedule = Schedule::default();
        schedule.add(0, name(0), 1_000, 0);
        assert_eq!(schedule.due(0).run, [name(0)]);
        let late = schedule.due(3_500);
        assert_eq!((late.run, late.skipped), (vec![], 3));
        schedule.finished(&name(0));
        assert_eq!(schedule.due(3_900), Due::default());
        assert_eq!(schedule.due(4_000).run, [name(0)]);
        assert_eq!((schedule.take_skipped(&name(0)), schedule.take_skipped(&name(0))), (3, 0));
    }

    #[test]
    fn a_check_may_change_between_an_interval_and_the_clock() {
        let (mut schedule, wall) = (Schedule::default(), 1_795_219_200_000);
        schedule.add(0, name(0), 60_000, 0);
        assert_eq!(schedule.due(0).run, [name(0)]);
        schedule.add_cron(wall, name(0), "* * * * *".parse().unwrap(), TimeZone::UTC, (60_000, 0));
        assert_eq!((schedule.next_wake(), schedule.wait_by_clock(wall + 50_000)), (None, Some(10_000)));
        // The run from before is still under way.
        assert_eq!(schedule.due_by_clock(wall + 60_000).skipped, 1);
        schedule.finished(&name(0));
        assert_eq!(schedule.due_by_clock(wall + 120_000).run, [name(0)]);
        assert_eq!(schedule.take_skipped(&name(0)), 1);
        schedule.add(0, name(0), 60_000, 0);
        assert_eq!(schedule.wait_by_clock(wall), None);
    }

    #[test]
    fn a_changed_check_waits_for_its_old_run_and_then_runs_at_once() {
        let mut schedule = Schedule::default();
        schedule.add(0, name(0), 3_600_000, 0);
        assert_eq!(schedule.due(0).run, [name(0)]);
        schedule.remove(&name(0));
        schedule.add(10, name(0), 3_600_000, 0);
        assert_eq!((schedule.due(500), schedule.next_wake()), (Due::default(), None));
        schedule.finished(&name(0));
        assert_eq!(schedule.due(501).run, [name(0)]);
    }

    #[test]
    fn a_suspended_host_catches_up_with_one_run() {
        let mut schedule = Schedule::default();
        schedule.add(0, name(0), 1_000, 7);
        for now in [1_000, 86_400_000] {
            assert_eq!(schedule.due(now).run, [name(0)]);
            schedule.finished(&name(0));
            assert_eq!(schedule.due(now), Due::default());
        }
    }

    proptest! {
        /// Whatever the steps: no overlap, at most one run per slot, never woken for the past, first run soon.
        #[test]
        fn runs_keep_to_the_rules(
            checks in proptest::collection::vec((1_u64..100_000, any::<u64>()), 1..8),
            steps in proptest::collection::vec((0_u64..50_000, any::<bool>()), 1..200),
        ) {
            let mut schedule = Schedule::default();
            let start = 1_795_000_000_000;
            for (index, (every, seed)) in checks.iter().enumerate() {
                schedule.add(start, name(index), *every, *seed);
            }
            let first = schedule.next_wake().unwrap();
            prop_assert!(first <= start + FIRST_WITHIN_MS.min(checks.iter().map(|c| c.0).max().unwrap()));
            let mut now = start;
            let mut running = BTreeSet::new();
            let mut last_slot = BTreeMap::new();
            for (step, end) in steps {
                now += step;
                if end {
                    for name in std::mem::take(&mut running) {
                        schedule.finished(&name);
                    }
                }
                for due in schedule.due(now).run {
                    prop_assert!(running.insert(due.clone()), "{due} overlaps");
                    let index: usize = due.as_str().trim_start_matches("check-").parse().unwrap();
                    let (every, seed) = checks[index];
                    // Slots are counted from the phase; only the first run may share one with its successor.
                    let slot = (now + every - seed % every) / every;
                    let runs = last_slot.entry(due).or_insert((slot, 0));
                    if runs.0 == slot { runs.1 += 1 } else { *runs = (slot, 1) }
                    prop_assert!(runs.1 <= 2);
                }
                prop_assert!(schedule.next_wake().is_none_or(|wake| wake > now));
            }
        }

        /// The queue says what a look at every entry would say.
        #[test]
        fn the_queue_forgets_and_invents_nothing(
            steps in proptest::collection::vec((0_u64..3_000, 0_usize..6, 0_u8..5, 1_u64..9_000), 1..300),
        ) {
            let mut schedule = Schedule::default();
            let mut now = 1_795_000_000_000;
            for (step, index, act, every) in steps {
                now += step;
                match act {
                    0 => schedule.add(now, name(index), every, every * 7_919),
                    1 => schedule.remove(&name(index)),
                    2 => schedule.finished(&name(index)),
                    _ => {
                        let ready = |(name, entry): (&CheckName, &Entry)| {
                            (entry.due <= now && !schedule.running.contains(name)).then(|| name.clone())
                        };
                        let expected: BTreeSet<_> = schedule.entries.iter().filter_map(ready).collect();
                        let due = schedule.due(now);
                        prop_assert_eq!(due.run.len(), expected.len());
                        prop_assert_eq!(due.run.into_iter().collect::<BTreeSet<_>>(), expected);
                        prop_assert!(schedule.next_wake().is_none_or(|wake| wake > now));
                    }
                }
                let waits = |name: &CheckName, entry: &Entry| {
                    entry.first && entry.due <= now && schedule.running.contains(name)
                };
                let wakes = schedule.entries.iter().filter(|(name, entry)| !waits(name, entry));
                let wake = wakes.map(|(_, entry)| entry.due).min();
                // One that waits may still be queued: it is taken out when its time is looked at.
                prop_assert!(schedule.next_wake().is_none_or(|at| at <= now || Some(at) == wake), "{wake:?}");
                prop_assert!(wake.is_none() || schedule.next_wake().is_some_and(|at| Some(at) <= wake));
            }
        }
    }
}
