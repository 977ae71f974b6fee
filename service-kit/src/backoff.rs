//! How long to wait before the next attempt: exponential, with full jitter, so that a fleet does not come back in step.

use std::time::Duration;

/// Delays drawn evenly from `0..=min(max, min·2ⁿ)` (the "full jitter" of the AWS architecture blog), but never below a
/// tenth of `min`.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), attempt: 0 }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = Self::delay(self.min, self.max, self.attempt, rand::random());
        self.attempt = self.attempt.saturating_add(1);
        delay
    }

    /// The last attempt succeeded: begin again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// `fraction` is drawn from 0..1.
    fn delay(min: Duration, max: Duration, attempt: u32, fraction: f64) -> Duration {
        let ceiling = min.saturating_mul(1 << attempt.min(20)).min(max);
        ceiling.mul_f64(fraction.clamp(0.0, 1.0)).max(min / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_are_never_nothing() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let ms = |attempt, fraction| Backoff::delay(min, max, attempt, fraction).as_millis();
        assert_eq!([ms(0, 1.0), ms(1, 1.0), ms(3, 0.5), ms(99, 1.0), ms(5, 0.0)], [100, 200, 400, 5000, 10]);
    }
}
