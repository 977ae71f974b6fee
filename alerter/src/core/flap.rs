//! Flapping by the method of Nagios: the last 21 results make 20 possible changes, weighted from 0.80 for the oldest to
//! 1.18 for the newest, and their sum divided by 20 is a percentage.

use protocol::document::Flapping;
use serde::{Deserialize, Serialize};

/// Results that count.
const RESULTS: u32 = 21;
const MASK: u32 = (1 << RESULTS) - 1;

/// Whether each of the last 21 results held, the newest in the lowest bit. Those before the first count as clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flaps(u32);

impl Flaps {
    #[must_use]
    pub fn with(self, holds: bool) -> Self {
        Self((self.0 << 1 | u32::from(holds)) & MASK)
    }

    /// None of the last results held.
    #[must_use]
    pub fn is_calm(self) -> bool {
        self.0 == 0
    }

    /// As [`Flaps::is_calm`], in serde's form.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn none(&self) -> bool {
        self.is_calm()
    }

    /// 0 to 99.
    #[must_use]
    pub fn percent(self) -> f64 {
        let changes = (self.0 ^ self.0 >> 1) & (MASK >> 1);
        let weights =
            (0..RESULTS - 1).filter(|age| changes >> age & 1 == 1).map(|age| 1.18 - 0.02 * f64::from(age));
        weights.sum::<f64>() / f64::from(RESULTS - 1) * 100.0
    }

    /// Whether it flaps now, given whether it did.
    #[must_use]
    pub fn flaps(self, did: bool, limits: Flapping) -> bool {
        if did { self.percent() > f64::from(limits.stop) } else { self.percent() >= f64::from(limits.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From where changes are, 0 the oldest and 19 the newest.
    fn changes(at: &[u32]) -> Flaps {
        let mut holds = false;
        (0..20).fold(Flaps::default().with(holds), |flaps, place| {
            holds ^= at.contains(&place);
            flaps.with(holds)
        })
    }

    #[test]
    fn the_percentage_is_that_of_the_published_examples() {
        // 0.84 + 0.86 + 0.88 + 0.9 + 0.98 + 1.06 + 1.12 + 1.18 = 7.82: the example of Icinga's manual.
        let example = changes(&[2, 3, 4, 5, 9, 13, 16, 19]);
        assert!((example.percent() - 39.1).abs() < 1e-9, "{}", example.percent());
        let limits = Flapping { start: 30, stop: 25 };
        assert!(example.flaps(false, limits));
        // Seven results without a change later it is over, as that manual says.
        let calm = (0..7).fold(example, |flaps, _| flaps.with(false));
        assert!(calm.percent() < 25.0 && !calm.flaps(true, limits));
        for (at, percent) in [(&[][..], 0.0), (&[0], 4.0), (&[19], 5.9), (&[0, 19], 9.9)] {
            assert!((changes(at).percent() - percent).abs() < 1e-9, "{at:?}: {}", changes(at).percent());
        }
        let every: Vec<u32> = (0..20).collect();
        assert!((changes(&every).percent() - 99.0).abs() < 1e-9);
    }

    #[test]
    fn between_both_limits_it_stays_as_it_was() {
        let flaps = changes(&[15, 16, 17, 18, 19]);
        assert!((25.0..30.0).contains(&flaps.percent()), "{}", flaps.percent());
        let limits = Flapping { start: 30, stop: 25 };
        assert_eq!((flaps.flaps(true, limits), flaps.flaps(false, limits)), (true, false));
    }
}
