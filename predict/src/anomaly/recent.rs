//! The last values, and those of a day ago, in a small fixed space.

use serde::{Deserialize, Serialize};

use super::constants::{DAY_SLOTS, LONG_DELAY, OLDEST_DAY};
use crate::{
    numeric::{count, whole},
    series::ms,
};

const DAY_MS: u64 = 86_400_000;
/// Longer arrays cannot be saved, so long ones stand in rows of this length.
const ROW: usize = 32;
/// One more than the longest delay.
const ROWS: usize = LONG_DELAY / ROW + 1;
const DAY_ROWS: usize = DAY_SLOTS / ROW;

/// The last values. Kept as single-precision distances from the first one, so that large counters lose nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Recent {
    origin: f64,
    pushed: u64,
    ring: [[f32; ROW]; ROWS],
}

impl Recent {
    pub(super) fn push(&mut self, value: f64) {
        if self.pushed == 0 {
            self.origin = value;
        }
        let slot = place(self.pushed);
        if let Some(slot) = self.ring.as_flattened_mut().get_mut(slot) {
            *slot = single(value - self.origin);
        }
        self.pushed = self.pushed.saturating_add(1);
    }

    /// The value so many points before the last one.
    pub(super) fn ago(&self, points: usize) -> Option<f64> {
        let then = self.pushed.checked_sub(points as u64)?.checked_sub(1)?;
        self.ring.as_flattened().get(place(then)).map(|slot| self.origin + f64::from(*slot))
    }

    /// Lowest and mean of the last `points` values, when there are so many.
    pub(super) fn run(&self, points: usize) -> Option<(f64, f64)> {
        let first = self.pushed.checked_sub(points as u64)?;
        let ring = self.ring.as_flattened();
        let (mut floor, mut sum) = (f32::INFINITY, 0.0);
        for then in first..self.pushed {
            let value = ring.get(place(then)).copied().unwrap_or_default();
            floor = floor.min(value);
            sum += f64::from(value);
        }
        Some((self.origin + f64::from(floor), self.origin + sum / count(points.max(1))))
    }
}

fn place(pushed: u64) -> usize {
    whole(ms(pushed % (ROW * ROWS) as u64), 0, ROW * ROWS - 1)
}

fn single(value: f64) -> f32 {
    value as f32
}

/// The last value of each five minutes of the day, and the day it is from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Yesterday {
    any: bool,
    origin: f64,
    values: [[f32; ROW]; DAY_ROWS],
    /// Days since 1970, modulo 255, plus 1; 0 for none.
    days: [[u8; ROW]; DAY_ROWS],
}

impl Yesterday {
    /// The value of this time of an earlier day of the last week, which `value` replaces.
    pub(super) fn swap(&mut self, at_ms: u64, value: f64) -> Option<f64> {
        if !self.any {
            (self.any, self.origin) = (true, value);
        }
        let slot = whole(ms(at_ms % DAY_MS / (DAY_MS / DAY_SLOTS as u64)), 0, DAY_SLOTS - 1);
        let today = (at_ms / DAY_MS % 255) as u8;
        let day = self.days.as_flattened_mut().get_mut(slot)?;
        let (then, known) = (day.wrapping_sub(1), *day > 0);
        *day = today + 1;
        let before =
            std::mem::replace(self.values.as_flattened_mut().get_mut(slot)?, single(value - self.origin));
        let age = (255 + u16::from(today) - u16::from(then).min(255)) % 255;
        (known && (1..=u16::from(OLDEST_DAY)).contains(&age)).then(|| self.origin + f64::from(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_remembers_its_length() {
        let mut recent = Recent::default();
        for i in 0..300 {
            recent.push(1e12 + f64::from(i));
        }
        assert_eq!((recent.ago(0), recent.ago(96)), (Some(1e12 + 299.0), Some(1e12 + 203.0)));
        assert_eq!(recent.run(6), Some((1e12 + 294.0, 1e12 + 296.5)));
        assert_eq!(Recent::default().run(6), None);
    }

    #[test]
    fn yesterday_is_not_today_nor_last_month() {
        let mut days = Yesterday::default();
        assert_eq!(days.swap(1_000, 5.0), None);
        assert_eq!(days.swap(2_000, 6.0), None);
        assert_eq!(days.swap(DAY_MS + 1_000, 7.0), Some(6.0));
        assert_eq!(days.swap(DAY_MS * 30, 8.0), None);
        assert_eq!(days.swap(DAY_MS * 300, 9.0), None);
        assert_eq!(days.swap(DAY_MS * 301, 9.0), Some(9.0));
    }
}
