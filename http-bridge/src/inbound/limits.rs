//! How often: requests for each key, and failed sign-ins for each peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

/// Unknown keys that one peer may try at once, and then each second.
const GUESSES: (u32, u32) = (50, 5);
/// Peers that are barred at once, at most.
const BARRED: usize = 10_000;

pub(crate) struct Limits {
    clock: DefaultClock,
    keys: DefaultKeyedRateLimiter<String>,
    guesses: DefaultKeyedRateLimiter<IpAddr>,
    barred: Mutex<HashMap<IpAddr, Instant>>,
}

impl Limits {
    pub(crate) fn new(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        let one = NonZeroU32::MIN;
        let (guesses, guess_rate) = GUESSES;
        let guess_quota = Quota::per_second(NonZeroU32::new(guess_rate).unwrap_or(one))
            .allow_burst(NonZeroU32::new(guesses).unwrap_or(one));
        Self {
            clock: DefaultClock::default(),
            keys: RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst)),
            guesses: RateLimiter::keyed(guess_quota),
            barred: Mutex::default(),
        }
    }

    /// One more request by this key.
    ///
    /// # Errors
    /// How long to wait, when it is one too many.
    pub(crate) fn request(&self, key_id: &String) -> Result<(), Duration> {
        self.keys.check_key(key_id).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// One more unknown key from this peer. After too many the peer may try no other key for a while; keys that were
    /// found good a moment ago still work.
    pub(crate) fn guessed(&self, peer: IpAddr) {
        let Err(not_until) = self.guesses.check_key(&network(peer)) else { return };
        let wait = not_until.wait_time_from(self.clock.now()).max(Duration::from_secs(1));
        let mut barred = self.barred();
        if barred.len() < BARRED {
            barred.insert(network(peer), Instant::now() + wait);
        }
    }

    /// # Errors
    /// How long to wait, when this peer tried too many unknown keys.
    pub(crate) fn may_guess(&self, peer: IpAddr) -> Result<(), Duration> {
        let until = self.barred().get(&network(peer)).copied();
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// Forget whoever has been quiet.
    pub(crate) fn sweep(&self) {
        self.keys.retain_recent();
        self.guesses.retain_recent();
        let now = Instant::now();
        self.barred().retain(|_, until| *until > now);
    }

    fn barred(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A peer that has one IPv6 address has 2⁶⁴ of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => std::net::Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        },
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_a_key_has_its_rate_and_a_peer_its_guesses() {
        let limits = Limits::new(NonZeroU32::MIN, NonZeroU32::new(2).unwrap());
        let (key, other) = ("a".to_owned(), "b".to_owned());
        assert!(limits.request(&key).is_ok() && limits.request(&key).is_ok());
        assert!(limits.request(&key).unwrap_err() > Duration::ZERO);
        assert!(limits.request(&other).is_ok());

        let (bad, good): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        for _ in 0..60 {
            limits.guessed(bad);
        }
        assert!(limits.may_guess("2001:db8::2".parse().unwrap()).is_err());
        assert!(limits.may_guess(good).is_ok());
        limits.sweep();
        assert!(limits.may_guess(bad).is_err());
    }
}
