//! How wrong the clocks of hosts are, from when the broker took their results and when the hosts say that they made them.
//!
//! A result arrives some time after it was made. The shortest of these delays within a minute is nearly only the host's
//! error; the median over the last such minutes leaves out a minute of outage, and one odd result. Replays are no measure.

use std::collections::{HashMap, VecDeque};

use protocol::{
    AgentId, CheckResult, Origin,
    query::{ClockList, ClockQuery, HostClock},
};

const MINUTE_MS: u64 = 60_000;
/// Minutes in which results came that are remembered of a host.
const MINUTES: usize = 9;
/// Most hosts that are measured; further ones are not.
const MAX_HOSTS: usize = 100_000;
/// Hosts in one answer.
const PAGE: usize = 10_000;

/// The clock of one host.
#[derive(Debug, Default)]
pub struct Clock {
    /// Each minute with its shortest delay; negative: the result is from the future.
    minutes: VecDeque<(u64, i64)>,
    measured_ms: u64,
}

impl Clock {
    /// A result that was made at `made_ms` by the host's clock came at `published_ms` by the broker's.
    pub fn note(&mut self, made_ms: u64, published_ms: u64) {
        let delay = difference(published_ms, made_ms);
        let minute = published_ms / MINUTE_MS;
        self.measured_ms = self.measured_ms.max(published_ms);
        match self.minutes.back_mut() {
            // Also of a broker whose clock was set back.
            Some((last, shortest)) if *last >= minute => *shortest = delay.min(*shortest),
            _ => {
                self.minutes.push_back((minute, delay));
                if self.minutes.len() > MINUTES {
                    self.minutes.pop_front();
                }
            }
        }
    }

    /// How far the host is ahead of the broker; below 0: behind.
    #[must_use]
    pub fn ahead_ms(&self) -> i64 {
        let mut delays: Vec<i64> = self.minutes.iter().map(|(_, delay)| *delay).collect();
        delays.sort_unstable();
        delays.get(delays.len() / 2).map_or(0, |median| median.saturating_neg())
    }
}

fn difference(a: u64, b: u64) -> i64 {
    let size = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a >= b { size } else { -size }
}

/// Whether a host's clock went wrong, or right again, with the last result.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn {
    pub ahead_ms: i64,
    pub wrong: bool,
}

/// The clocks of all hosts that sent something since the start.
#[derive(Debug)]
pub struct Clocks {
    limit_ms: u64,
    hosts: HashMap<AgentId, (Clock, bool)>,
}

impl Clocks {
    /// A clock that is off by more than `limit_ms` is wrong.
    #[must_use]
    pub fn new(limit_ms: u64) -> Self {
        Self { limit_ms, hosts: HashMap::new() }
    }

    /// Measure by a result, if it is a fresh one of an agent.
    pub fn note(&mut self, result: &CheckResult, published_ms: u64) -> Option<Turn> {
        if result.replayed || result.seq == 0 || result.origin != Origin::Agent {
            return None;
        }
        if !self.hosts.contains_key(&result.agent) {
            if self.hosts.len() >= MAX_HOSTS {
                return None;
            }
            self.hosts.insert(result.agent.clone(), (Clock::default(), false));
        }
        let (clock, wrong) = self.hosts.get_mut(&result.agent)?;
        clock.note(result.at_ms.saturating_add(result.duration_ms), published_ms);
        let ahead_ms = clock.ahead_ms();
        let now = ahead_ms.unsigned_abs() > self.limit_ms;
        (now != *wrong).then(|| {
            *wrong = now;
            Turn { ahead_ms, wrong: now }
        })
    }

    /// How many are wrong.
    #[must_use]
    pub fn wrong(&self) -> usize {
        self.hosts.values().filter(|(_, wrong)| *wrong).count()
    }

    #[must_use]
    pub fn list(&self, query: &ClockQuery) -> ClockList {
        let shown = |(agent, (clock, wrong)): (&AgentId, &(Clock, bool))| HostClock {
            agent: agent.clone(),
            ahead_ms: clock.ahead_ms(),
            measured_ms: clock.measured_ms,
            wrong: *wrong,
        };
        if !query.agents.is_empty() {
            let found = query.agents.iter().filter_map(|agent| self.hosts.get_key_value(agent));
            return ClockList { clocks: found.map(shown).collect(), next: None };
        }
        let mut hosts: Vec<_> =
            self.hosts.iter().filter(|(agent, _)| query.after.as_ref() < Some(agent)).collect();
        hosts.sort_unstable_by_key(|(agent, _)| *agent);
        let more = hosts.len() > PAGE;
        let clocks: Vec<HostClock> = hosts.into_iter().take(PAGE).map(shown).collect();
        let next = clocks.last().filter(|_| more).map(|last| last.agent.clone());
        ClockList { clocks, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_795_200_000_000;

    /// The clock of a host that is so far ahead, with a result every second and these delays on the way.
    fn clock(ahead_ms: i64, seconds: u64, delay: impl Fn(u64) -> u64) -> Clock {
        let mut clock = Clock::default();
        for second in 0..seconds {
            let made = START + second * 1000;
            clock.note(made.saturating_add_signed(ahead_ms), made + delay(second));
        }
        clock
    }

    #[test]
    fn delays_and_odd_results_do_not_count() {
        for ahead in [0, 7_000, -7_000, 86_400_000] {
            let usual = |second: u64| 3 + second % 40;
            assert_eq!(clock(ahead, 600, usual).ahead_ms(), ahead - 3);
            // Three minutes of outage, sent afterwards and not marked.
            let outage = |second: u64| {
                if (100..280).contains(&second) { 280_000 - second * 1000 } else { usual(second) }
            };
            assert!((clock(ahead, 600, outage).ahead_ms() - ahead).abs() <= 43);
        }
        let mut odd = clock(0, 600, |_| 5);
        odd.note(START + 10_000_000, START + 599_000);
        assert_eq!(odd.ahead_ms(), -5);
        assert_eq!(Clock::default().ahead_ms(), 0);
        let mut far = Clock::default();
        far.note(u64::MAX, 0);
        far.note(0, u64::MAX);
        assert_eq!(far.ahead_ms().unsigned_abs(), i64::MAX.unsigned_abs());
    }

    #[test]
    fn a_clock_that_goes_wrong_and_right_again_is_told_once_each() {
        let mut clocks = Clocks::new(10_000);
        let mut turns = Vec::new();
        for minute in 0..40_u64 {
            let ahead = if (10..20).contains(&minute) { 30_000 } else { 0 };
            let made = START + minute * MINUTE_MS;
            let result = |extra: &str| {
                let json = format!(
                    r#"{{"v":1,"agent":"a","check":"c","epoch":1,"seq":1,"at_ms":{},"duration_ms":100,"status":"ok"{extra}}}"#,
                    made - 100 + ahead
                );
                protocol::decode::<CheckResult>(json.as_bytes(), 1000).unwrap()
            };
            turns.extend(clocks.note(&result(""), made).map(|turn| (minute, turn.wrong)));
            for not_counted in [r#","replayed":true"#, r#","origin":"http""#] {
                assert_eq!(clocks.note(&result(not_counted), made + 10_000_000), None);
            }
        }
        assert_eq!(turns, [(14, true), (24, false)]);
        let list = clocks.list(&ClockQuery::default());
        assert_eq!((list.clocks.len(), list.clocks[0].ahead_ms, clocks.wrong()), (1, 0, 0));
    }

    #[test]
    fn pages_hold_every_host_once() {
        let mut clocks = Clocks::new(1);
        for n in 0..PAGE + 5 {
            let json =
                format!(r#"{{"v":1,"agent":"a{n}","check":"c","epoch":1,"seq":1,"at_ms":1,"status":"ok"}}"#);
            clocks.note(&protocol::decode(json.as_bytes(), 1000).unwrap(), 1);
        }
        let first = clocks.list(&ClockQuery::default());
        let rest = clocks.list(&ClockQuery { after: first.next.clone(), ..ClockQuery::default() });
        assert_eq!((first.clocks.len(), rest.clocks.len(), rest.next), (PAGE, 5, None));
        assert!(first.clocks.last().unwrap().agent < rest.clocks[0].agent);
        let one =
            ClockQuery { agents: ["a7", "none"].map(|name| AgentId::new(name).unwrap()).into(), after: None };
        assert_eq!(clocks.list(&one).clocks.len(), 1);
    }
}
