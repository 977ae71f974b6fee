//! How fast a backlog may go out: so many results a second, and no more than a moment's worth at once.

/// Saved up at most, in milliseconds' worth of results.
const BURST_MS: u64 = 100;

/// Times are milliseconds on a clock that never goes back.
#[derive(Debug)]
pub struct Pace {
    /// Results a second.
    rate: u64,
    /// Thousandths of a result that may go now.
    saved: u64,
    at: u64,
}

impl Pace {
    /// `rate` results a second, at least 1.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.clamp(1, u64::from(u32::MAX)), saved: 0, at: 0 }
    }

    /// How many may go now.
    pub fn allows(&mut self, now: u64) -> usize {
        let most = (self.rate * BURST_MS).max(1_000);
        // The rate is at most u32::MAX and the time is bounded by what fills the rest, so nothing overflows.
        let elapsed = now.saturating_sub(self.at).min(1_000_000);
        self.saved = (self.saved + elapsed * self.rate).min(most);
        self.at = self.at.max(now);
        usize::try_from(self.saved / 1_000).unwrap_or(usize::MAX)
    }

    /// So many went.
    pub fn took(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.saved = self.saved.saturating_sub(count.saturating_mul(1_000));
    }

    /// Milliseconds until one more, or a good part of the burst, may go: asking sooner would cost more than it gives.
    #[must_use]
    pub fn wait(&self) -> u64 {
        let worth = (self.rate * BURST_MS / 4).max(1_000);
        worth.saturating_sub(self.saved).div_ceil(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over any span no more goes than the rate allows, and with steady asking close to it.
        #[test]
        fn g10_the_rate_is_kept(rate in 1_u64..200_000, jumps in proptest::collection::vec(0_u64..50, 1..400)) {
            let mut pace = Pace::new(rate);
            let (mut now, mut went) = (1_000_000, 0_u64);
            let begun = now;
            let burst = (rate * BURST_MS).max(1_000);
            pace.allows(now);
            for jump in jumps {
                now += jump;
                let allowed = pace.allows(now);
                pace.took(allowed);
                went += allowed as u64;
                // In thousandths.
                prop_assert!(went * 1_000 <= rate * (now - begun) + burst, "{went}");
                prop_assert!(pace.wait() <= 1_000);
            }
        }
    }

    #[test]
    fn waiting_as_told_gives_the_rate() {
        for rate in [1, 7, 1_000, 100_000] {
            let mut pace = Pace::new(rate);
            let (begun, mut now, mut went) = (5_000, 5_000, 0);
            pace.allows(now);
            pace.took(usize::MAX);
            while now < begun + 60_000 {
                now += pace.wait().max(1);
                let allowed = pace.allows(now);
                pace.took(allowed);
                went += allowed as u64;
            }
            assert!(went.abs_diff(rate * (now - begun) / 1_000) <= rate / 10 + 1, "{rate}: {went}");
        }
    }
}
