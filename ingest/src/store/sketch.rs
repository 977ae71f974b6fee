//! How numbers were distributed, in little room: a DDSketch (Masson, Rim, Lee: VLDB 2019), sparse. A number falls into a
//! bin that grows with its size, so a quantile is off by at most [`ACCURACY`] of itself, however many sketches were
//! merged.

use std::collections::BTreeMap;

/// Largest relative error of a quantile.
pub const ACCURACY: f64 = 0.02;
/// With more the lowest run together, and low quantiles lose their accuracy.
const MAX_BINS: usize = 512;
/// Above the magnitude of every bin's number: the bins of positive numbers lie above it, those of negative below its
/// negative, that of zero between.
const MIDDLE: i64 = 1 << 20;

/// Numbers by size. NaN is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Keys are in the order of the numbers that they stand for.
    bins: BTreeMap<i64, u64>,
}

impl Sketch {
    pub fn add(&mut self, value: f64) {
        if !value.is_nan() {
            self.add_to(key(value), 1);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        other.bins.iter().for_each(|(key, count)| self.add_to(*key, *count));
    }

    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bins.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The number below which a part `q`, from 0 to 1, of all lies, off by at most [`ACCURACY`] of itself. `None` when
    /// there are none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q.clamp(0.0, 1.0) * self.count().saturating_sub(1) as f64;
        let mut below = 0u64;
        let reached = self.bins.iter().find(|(_, count)| {
            below = below.saturating_add(**count);
            below as f64 > rank
        });
        reached.or_else(|| self.bins.last_key_value()).map(|(key, _)| value(*key))
    }

    /// Key and count of each bin, in order.
    pub(super) fn bins(&self) -> impl Iterator<Item = (i64, u64)> {
        self.bins.iter().map(|(key, count)| (*key, *count))
    }

    pub(super) fn add_to(&mut self, key: i64, count: u64) {
        let bin = self.bins.entry(key).or_default();
        *bin = bin.saturating_add(count);
        if self.bins.len() > MAX_BINS
            && let Some((_, lowest)) = self.bins.pop_first()
            && let Some(mut next) = self.bins.first_entry()
        {
            *next.get_mut() = next.get().saturating_add(lowest);
        }
    }
}

fn log_gamma() -> f64 {
    ((1.0 + ACCURACY) / (1.0 - ACCURACY)).ln()
}

fn key(value: f64) -> i64 {
    if value == 0.0 {
        return 0;
    }
    // Casts of floats stop at the ends of the range: infinity has the last bin.
    #[allow(clippy::cast_possible_truncation)]
    let bin = (value.abs().ln() / log_gamma()).ceil() as i64;
    let key = MIDDLE.saturating_add(bin.min(MIDDLE));
    if value < 0.0 { -key } else { key }
}

#[allow(clippy::cast_precision_loss)] // far below 2^53
fn value(key: i64) -> f64 {
    if key == 0 {
        return 0.0;
    }
    let bin = key.saturating_abs().saturating_sub(MIDDLE);
    // The middle of the bin, by ratio.
    let size = (bin as f64 * log_gamma()).exp() * (1.0 - ACCURACY);
    if key < 0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn extreme_numbers_have_their_place() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.quantile(0.5), None);
        for value in [f64::NEG_INFINITY, -1e308, -5e-324, -0.0, 0.0, 5e-324, 1e308, f64::INFINITY, f64::NAN] {
            sketch.add(value);
        }
        assert_eq!(sketch.count(), 8);
        assert_eq!(sketch.quantile(0.0), Some(f64::NEG_INFINITY));
        assert_eq!(sketch.quantile(1.0), Some(f64::INFINITY));
        assert_eq!(sketch.quantile(0.5), Some(0.0));
    }

    #[test]
    fn it_stays_small() {
        let mut sketch = Sketch::default();
        (-300..300).for_each(|power| sketch.add(10f64.powi(power)));
        assert_eq!((sketch.bins.len(), sketch.count()), (MAX_BINS, 600));
        let highest = sketch.quantile(1.0).unwrap();
        assert!((highest / 1e299 - 1.0).abs() <= ACCURACY, "{highest}");
    }

    proptest! {
        #[test]
        fn quantiles_are_near_however_it_was_merged(
            values in vec(prop_oneof![-1e6f64..1e6, Just(0.0), -1.0f64..1.0], 1..300), parts in 1usize..5, q in 0.0f64..=1.0,
        ) {
            let mut merged = Sketch::default();
            for part in values.chunks(values.len().div_ceil(parts)) {
                let mut own = Sketch::default();
                part.iter().for_each(|value| own.add(*value));
                merged.merge(&own);
            }
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[(q * (sorted.len() - 1) as f64).floor() as usize];
            let near = merged.quantile(q).unwrap();
            prop_assert!((near - exact).abs() <= exact.abs() * (ACCURACY + 1e-9), "{near} {exact}");
        }
    }
}
