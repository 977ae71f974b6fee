//! Checks that run at times of the clock on the wall: cron expressions. Pure, as the schedule that holds it.
//!
//! Times are milliseconds since 1970 by the host's clock, which may jump. Whatever it does, a time that was passed is
//! one run, not a burst: after a suspend, after the clock was put forward. A clock that goes back by up to
//! [`TRUSTED_BACK_MS`] repeats nothing: what ran is over, and the next run waits until its time comes. One that goes back
//! further was wrong before, and the times count anew from where it is now (as in Vixie's cron).
//!
//! Hosts do not start in step: each check has a fixed delay of its own, within a tenth of the shortest time between two
//! runs and within a minute.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use protocol::{
    CheckName,
    cron::{Cron, TimeZone},
};

use super::schedule::Due;

const TRUSTED_BACK_MS: u64 = 3 * 3_600_000;
/// Longest delay after the time that the expression names.
const DELAY_MS: u64 = 60_000;
/// How often to look at the clock on the wall, since nobody tells when it was set.
const LOOK_MS: u64 = 30_000;

#[derive(Debug, Default)]
pub struct Timetable {
    entries: BTreeMap<CheckName, Entry>,
    queue: BTreeSet<(u64, CheckName)>,
    /// The latest time seen.
    latest: u64,
}

#[derive(Debug)]
struct Entry {
    cron: Cron,
    zone: TimeZone,
    delay: u64,
    due: u64,
}

impl Timetable {
    /// Add a check, or begin anew with one that changed. `shortest` is the time between two runs, `seed` gives the delay.
    pub fn add(
        &mut self,
        wall: u64,
        name: CheckName,
        cron: Cron,
        zone: TimeZone,
        (shortest, seed): (u64, u64),
    ) {
        self.remove(&name);
        self.see(wall);
        let delay = seed % (shortest / 10).clamp(1, DELAY_MS);
        let mut entry = Entry { cron, zone, delay, due: 0 };
        if entry.advance(self.latest) {
            self.queue.insert((entry.due, name.clone()));
        }
        self.entries.insert(name, entry);
    }

    pub fn remove(&mut self, name: &CheckName) {
        if let Some(entry) = self.entries.remove(name) {
            self.queue.remove(&(entry.due, name.clone()));
        }
    }

    /// What is due at `wall`, but for what is `running`; that counts as left out. What is to run is added to `running`.
    pub fn due(&mut self, wall: u64, running: &mut HashSet<CheckName>) -> Due {
        self.see(wall);
        let mut due = Due::default();
        while self.queue.first().is_some_and(|(at, _)| *at <= wall) {
            let Some((_, name)) = self.queue.pop_first() else { break };
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            if running.insert(name.clone()) {
                due.run.push(name.clone());
            } else {
                due.skip(&name, 1);
            }
            if entry.advance(wall) {
                self.queue.insert((entry.due, name));
            }
        }
        due
    }

    /// How long until something may be due, in milliseconds; `None` when nothing ever is.
    #[must_use]
    pub fn wait(&self, wall: u64) -> Option<u64> {
        self.queue.first().map(|(at, _)| at.saturating_sub(wall).min(LOOK_MS))
    }

    fn see(&mut self, wall: u64) {
        if wall.saturating_add(TRUSTED_BACK_MS) >= self.latest {
            self.latest = self.latest.max(wall);
            return;
        }
        self.latest = wall;
        self.queue.clear();
        for (name, entry) in &mut self.entries {
            if entry.advance(wall) {
                self.queue.insert((entry.due, name.clone()));
            }
        }
    }
}

impl Entry {
    /// Go to the first time after `now`; `false` when there is none.
    fn advance(&mut self, now: u64) -> bool {
        // From before the delay: a time whose delay is not over yet still counts.
        let next = self.cron.next_after(now.saturating_sub(self.delay), &self.zone);
        self.due = next.map_or(u64::MAX, |next| next.saturating_add(self.delay));
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::cron::zone;

    use super::*;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    /// 2026-11-21 00:00 UTC.
    const MIDNIGHT: u64 = 1_795_219_200_000;

    fn name() -> CheckName {
        CheckName::new("c").unwrap()
    }

    /// A table with one check, and the delay that its seed gives.
    fn table(wall: u64, cron: &str, zone_name: &str, seed: u64) -> Timetable {
        let mut table = Timetable::default();
        let cron: Cron = cron.parse().unwrap();
        let shortest = u64::try_from(cron.shortest_gap().as_millis()).unwrap();
        table.add(wall, name(), cron, zone(zone_name).unwrap(), (shortest, seed));
        table
    }

    /// Ask at each of `times`; the runs, each over at once.
    fn runs(table: &mut Timetable, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        times
            .into_iter()
            .filter(|&at| {
                let due = table.due(at, &mut HashSet::new());
                assert_eq!(due.skipped, 0);
                !due.run.is_empty()
            })
            .collect()
    }

    fn minutes(from: u64, count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |minute| from + minute * MINUTE)
    }

    #[test]
    fn a_check_runs_at_its_time_and_not_at_once() {
        let mut table = table(MIDNIGHT, "0 3 * * *", "UTC", 7_000);
        assert_eq!(table.wait(MIDNIGHT), Some(LOOK_MS), "the clock may be set meanwhile");
        let due = MIDNIGHT + 3 * HOUR + 7_000;
        assert_eq!(table.wait(due - 10), Some(10));
        assert_eq!(
            runs(&mut table, [due - 1, due, due + 1, due + 24 * HOUR - 1, due + 24 * HOUR]),
            [due, due + 24 * HOUR]
        );
    }

    #[test]
    fn the_delay_is_small_beside_the_gap() {
        for (cron, most) in [("* * * * *", 6_000), ("*/5 * * * *", 30_000), ("0 3 * * *", MINUTE)] {
            for seed in [0, 1, 12_345, u64::MAX] {
                let mut table = table(MIDNIGHT - 1, cron, "UTC", seed);
                let cron: Cron = cron.parse().unwrap();
                let (at, _) = table.queue.first().cloned().unwrap();
                let named = cron.next_after(MIDNIGHT - 1, &TimeZone::UTC).unwrap();
                assert!((named..named + most).contains(&at), "{cron}: {at}");
                assert_eq!(runs(&mut table, [at]), [at]);
            }
        }
    }

    #[test]
    fn an_agent_that_starts_within_the_delay_still_runs() {
        let due = MIDNIGHT + 3 * HOUR + 40_000;
        let mut table = table(due - 10_000, "0 3 * * *", "UTC", 40_000);
        assert_eq!(runs(&mut table, [due]), [due]);
    }

    #[test]
    fn times_that_passed_during_a_suspend_or_a_jump_are_one_run() {
        let mut table = table(MIDNIGHT, "*/5 * * * *", "UTC", 0);
        let late = MIDNIGHT + 5 * HOUR + 2 * MINUTE;
        assert_eq!(runs(&mut table, [late, late, late + 1]), [late]);
        assert_eq!(runs(&mut table, minutes(late, 7)), [late + 3 * MINUTE]);
    }

    #[test]
    fn a_clock_that_goes_back_an_hour_repeats_nothing() {
        let mut table = table(MIDNIGHT, "0 * * * *", "UTC", 0);
        let two = MIDNIGHT + 2 * HOUR;
        assert_eq!(runs(&mut table, [two]), [two]);
        // 02:00 again at the end of it, and then 03:00.
        assert_eq!(runs(&mut table, minutes(MIDNIGHT + HOUR, 121)), [MIDNIGHT + 3 * HOUR]);
    }

    #[test]
    fn a_clock_that_was_far_ahead_does_not_stop_the_check() {
        let mut table = table(MIDNIGHT, "0 * * * *", "UTC", 0);
        let wrong = MIDNIGHT + 365 * 24 * HOUR;
        assert_eq!(runs(&mut table, [wrong]), [wrong]);
        assert_eq!(runs(&mut table, minutes(MIDNIGHT + MINUTE, 60)), [MIDNIGHT + HOUR]);
    }

    #[test]
    fn a_change_of_clocks_is_one_run() {
        // The night to 2026-03-29, when 02:00 to 03:00 is left out, and that to 2026-10-25, when it comes twice.
        for start in [1_774_738_800_000, 1_792_879_200_000] {
            let mut table = table(start, "30 2 * * *", "Europe/Berlin", 0);
            assert_eq!(runs(&mut table, minutes(start, 12 * 60)).len(), 1);
        }
    }

    #[test]
    fn a_run_that_is_due_while_one_is_under_way_is_left_out_and_counted() {
        let mut table = table(MIDNIGHT, "* * * * *", "UTC", 0);
        let mut running = HashSet::new();
        assert_eq!(table.due(MIDNIGHT + MINUTE, &mut running).run, [name()]);
        let due = table.due(MIDNIGHT + 2 * MINUTE, &mut running);
        assert_eq!((due.run, due.skipped), (vec![], 1));
        running.clear();
        assert_eq!(table.due(MIDNIGHT + 3 * MINUTE, &mut running).run, [name()]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// However the clock jumps: never two runs of one named time unless the clock went back far, and never woken for
        /// what is over.
        #[test]
        fn jumps_repeat_nothing(
            step in 1_u64..30, seed in any::<u64>(),
            jumps in proptest::collection::vec(-100_i64 * 60_000..200 * 60_000, 1..200),
        ) {
            let mut table = table(MIDNIGHT, &format!("*/{step} * * * *"), "Europe/Berlin", seed);
            let (mut wall, mut last) = (MIDNIGHT, 0);
            for jump in jumps {
                // Never further back than the latest time less what is trusted.
                wall = wall.saturating_add_signed(jump).max(table.latest.saturating_sub(TRUSTED_BACK_MS));
                let mut running = HashSet::new();
                if !table.due(wall, &mut running).run.is_empty() {
                    prop_assert!(wall > last, "the clock was here before");
                    last = wall;
                }
                prop_assert!(table.due(wall, &mut HashSet::new()).run.is_empty(), "one run, not a burst");
                prop_assert!(table.queue.first().unwrap().0 > wall);
            }
        }
    }
}
