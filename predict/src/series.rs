//! What came in, made even: sorted, cleaned of what is no number, and laid on a grid of equal steps.

use crate::numeric::{count, mean, median_of, whole};

/// One measured value. Times are milliseconds since 1970, in any order; what is not finite counts as missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub at_ms: u64,
    pub value: f64,
}

impl Point {
    #[must_use]
    pub fn new(at_ms: u64, value: f64) -> Self {
        Self { at_ms, value }
    }
}

/// Larger numbers count as missing: their squares would not be numbers any more.
pub(crate) const MAX_VALUE: f64 = 1e100;

/// Steps that people and machines keep, in seconds. A grid takes one of them.
const STEPS: &[u64] = &[
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400,
    604_800,
];

/// Values at equal steps; every cell has a number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grid {
    /// Time of the first cell.
    pub(crate) start_ms: u64,
    pub(crate) step_ms: u64,
    pub(crate) values: Vec<f64>,
}

pub(crate) fn usable(value: f64) -> bool {
    value.is_finite() && value.abs() <= MAX_VALUE
}

impl Grid {
    /// Lays the points on a grid of at most `cells` cells whose step is at least `least_ms` and at least that of the
    /// series. Several values in a cell become their mean, an empty cell a line between its neighbours; what is older
    /// than the grid reaches is left out. `None` without a usable point.
    pub(crate) fn of(points: &[Point], least_ms: u64, cells: usize) -> Option<Self> {
        let mut points: Vec<Point> = points.iter().copied().filter(|point| usable(point.value)).collect();
        points.sort_by_key(|point| point.at_ms);
        let (first, last) = (points.first()?.at_ms, points.last()?.at_ms);
        let mut gaps: Vec<f64> = points
            .iter()
            .zip(points.iter().skip(1))
            .map(|(a, b)| b.at_ms - a.at_ms)
            .filter(|gap| *gap > 0)
            .map(ms)
            .collect();
        let usual = median_of(&mut gaps).max(1.0);
        // A gap of years between two clusters must not make one cell of all that is recent.
        let reach = ms(last - first).min(usual * count(points.len()) * 2.0);
        let least = ms(least_ms).max(reach / count(cells.max(1)));
        let step_ms = if least <= usual {
            usual.round()
        } else {
            STEPS.iter().map(|s| ms(s * 1000)).find(|step| *step >= least).unwrap_or(least.ceil())
        };
        let step_ms = whole(step_ms, 1, usize::MAX) as u64;
        let n = whole(ms((last - first) / step_ms) + 1.0, 1, cells.max(1));
        let start_ms = last - (n as u64 - 1) * step_ms;
        let mut sums = vec![(0.0, 0.0); n];
        for point in &points {
            let Some(ago) = point.at_ms.checked_sub(start_ms.saturating_sub(step_ms / 2)) else { continue };
            if let Some((sum, seen)) = sums.get_mut(whole(ms(ago / step_ms), 0, n - 1)) {
                *sum += point.value;
                *seen += 1.0;
            }
        }
        Some(Self { start_ms, step_ms, values: filled(&sums) })
    }

    pub(crate) fn last_ms(&self) -> u64 {
        self.start_ms + self.step_ms * (self.values.len() as u64).saturating_sub(1)
    }

    /// How many steps `period_ms` has, when it has a whole number of them.
    pub(crate) fn steps(&self, period_ms: u64) -> Option<usize> {
        period_ms.is_multiple_of(self.step_ms).then(|| whole(ms(period_ms / self.step_ms), 0, usize::MAX))
    }
}

pub(crate) fn ms(ms: u64) -> f64 {
    ms as f64
}

/// Cell means, with lines over empty cells.
fn filled(sums: &[(f64, f64)]) -> Vec<f64> {
    let mut values: Vec<f64> = Vec::with_capacity(sums.len());
    let mut open = 0;
    for (sum, seen) in sums {
        if *seen == 0.0 {
            open += 1;
            continue;
        }
        let here = sum / seen;
        let before = values.last().copied().unwrap_or(here);
        values.extend((1..=open).map(|i| before + (here - before) * count(i) / count(open + 1)));
        values.push(here);
        open = 0;
    }
    let last = values.last().copied().unwrap_or_else(|| mean(&[]));
    values.extend(std::iter::repeat_n(last, open));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(list: &[(u64, f64)]) -> Vec<Point> {
        list.iter().map(|(at, value)| Point::new(*at, *value)).collect()
    }

    #[test]
    fn gaps_are_bridged_and_repeats_averaged() {
        let minute = 60_000;
        let list = points(&[
            (4 * minute, 9.0),
            (0, 1.0),
            (minute, 2.0),
            (minute, 4.0),
            (2 * minute, f64::NAN),
            (3 * minute, 7.0),
        ]);
        let grid = Grid::of(&list, 0, 100).unwrap();
        assert_eq!((grid.step_ms, grid.values), (minute, vec![1.0, 3.0, 5.0, 7.0, 9.0]));
    }

    #[test]
    fn nothing_usable_is_no_grid() {
        assert_eq!(Grid::of(&points(&[(5, f64::NAN), (6, f64::INFINITY), (7, 1e200)]), 0, 10), None);
        assert_eq!(Grid::of(&[], 0, 10), None);
    }

    #[test]
    fn a_long_series_gets_a_wider_step() {
        let list: Vec<Point> = (0..10_000).map(|i| Point::new(i * 60_000, 1.0)).collect();
        let grid = Grid::of(&list, 0, 1000).unwrap();
        assert!(
            grid.values.len() <= 1000 && grid.step_ms == 600_000,
            "{} {}",
            grid.values.len(),
            grid.step_ms
        );
    }
}
