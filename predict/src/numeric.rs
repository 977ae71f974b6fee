//! The little linear algebra and statistics that the methods share. Nothing here panics on any input.

/// Makes a spread of a normal sample out of its median absolute deviation.
const MAD_TO_SD: f64 = 1.4826;

/// The value at `i`, 0 outside.
pub(crate) fn at(values: &[f64], i: usize) -> f64 {
    values.get(i).copied().unwrap_or_default()
}

pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

/// A whole number out of `x`, held between `low` and `high`. NaN becomes `low`.
pub(crate) fn whole(x: f64, low: usize, high: usize) -> usize {
    if x.is_nan() { low } else { (x.clamp(0.0, 1e15) as usize).clamp(low, high.max(low)) }
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / count(values.len()) }
}

pub(crate) fn min_max(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
}

/// The `share`-quantile (0..=1) of the values, the lower of two; 0 of none.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let last = values.len() - 1;
    let place = whole(count(last) * share, 0, last);
    *values.select_nth_unstable_by(place, f64::total_cmp).1
}

/// The median; 0 of no values. Reorders them.
pub(crate) fn median_of(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let (half, odd) = (values.len() / 2, values.len() % 2 == 1);
    let (below, upper, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let upper = *upper;
    if odd {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    f64::midpoint(lower, upper)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    median_of(&mut values.to_vec())
}

/// Robust standard deviation. Where more than half of the values are equal, it goes by the mean deviation.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let middle = median(values);
    let mut off: Vec<f64> = values.iter().map(|v| (v - middle).abs()).collect();
    let mean = mean(&off);
    (MAD_TO_SD * median_of(&mut off)).max(0.5 * mean)
}

pub(crate) fn differences(values: &[f64]) -> Vec<f64> {
    values.iter().zip(values.iter().skip(1)).map(|(a, b)| b - a).collect()
}

/// Normal equations of a weighted least-squares fit, filled row by row.
#[derive(Debug, Clone)]
pub(crate) struct Normal {
    /// Lower triangle, row by row.
    gram: Vec<Vec<f64>>,
    moment: Vec<f64>,
}

impl Normal {
    pub(crate) fn new(columns: usize) -> Self {
        Self { gram: (1..=columns).map(|n| vec![0.0; n]).collect(), moment: vec![0.0; columns] }
    }

    pub(crate) fn add(&mut self, row: &[f64], y: f64, weight: f64) {
        for ((sums, moment), x) in self.gram.iter_mut().zip(&mut self.moment).zip(row) {
            let x = x * weight;
            *moment += x * y;
            for (sum, other) in sums.iter_mut().zip(row) {
                *sum += x * other;
            }
        }
    }

    /// Pulls every coefficient but the first towards 0, by `share` of its own column's weight.
    pub(crate) fn shrink(&mut self, share: f64) {
        for (j, row) in self.gram.iter_mut().enumerate() {
            if let Some(own) = row.get_mut(j) {
                *own += if j == 0 { 1e-9 } else { share * (*own + 1e-12) };
            }
        }
    }

    /// The factor that `solve` needs. `None` when the columns say the same twice.
    pub(crate) fn factor(mut self) -> Option<Factor> {
        for j in 0..self.gram.len() {
            let (done, rest) = self.gram.split_at_mut(j);
            let row = rest.first_mut()?;
            for (k, above) in done.iter().enumerate() {
                let known = dot(row.get(..k)?, above);
                let pivot = *above.get(k)?;
                let cell = row.get_mut(k)?;
                *cell = (*cell - known) / pivot;
            }
            let known: f64 = row.iter().take(j).map(|x| x * x).sum();
            let own = row.get_mut(j)?;
            let left = *own - known;
            // Less than this share of the column is new: rounding, not information.
            if !left.is_finite() || left <= 1e-13 * own.abs() || left <= 0.0 {
                return None;
            }
            *own = left.sqrt();
        }
        Some(Factor { lower: self.gram, moment: self.moment })
    }
}

pub(crate) struct Factor {
    lower: Vec<Vec<f64>>,
    moment: Vec<f64>,
}

impl Factor {
    pub(crate) fn coefficients(&self) -> Vec<f64> {
        self.solve(self.moment.clone())
    }

    /// The diagonal of the inverse at `i`: variance of a coefficient over the variance of the errors.
    pub(crate) fn variance(&self, i: usize) -> f64 {
        let unit = (0..self.lower.len()).map(|j| if j == i { 1.0 } else { 0.0 }).collect();
        at(&self.solve(unit), i)
    }

    fn solve(&self, mut b: Vec<f64>) -> Vec<f64> {
        for (j, row) in self.lower.iter().enumerate() {
            let known = dot(row.get(..j).unwrap_or_default(), &b);
            if let (Some(x), Some(pivot)) = (b.get_mut(j), row.get(j)) {
                *x = (*x - known) / pivot;
            }
        }
        for (j, row) in self.lower.iter().enumerate().rev() {
            let below: f64 = self.lower.iter().zip(&b).skip(j + 1).map(|(row, x)| at(row, j) * x).sum();
            if let (Some(x), Some(pivot)) = (b.get_mut(j), row.get(j)) {
                *x = (*x - below) / pivot;
            }
        }
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(spread(&[5.0; 9]), 0.0);
        assert_eq!(quantile(&mut [5.0, 1.0, 3.0], 1.0), 5.0);
    }

    #[test]
    fn a_line_is_found_again() {
        let mut normal = Normal::new(2);
        for i in 0..20 {
            normal.add(&[1.0, f64::from(i)], 3.0 + 0.5 * f64::from(i), 1.0);
        }
        let found = normal.factor().unwrap().coefficients();
        assert!((found[0] - 3.0).abs() < 1e-9 && (found[1] - 0.5).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn equal_columns_have_no_answer() {
        let mut normal = Normal::new(2);
        for i in 0..9 {
            normal.add(&[1.0, 1.0], f64::from(i), 1.0);
        }
        assert!(normal.factor().is_none());
    }
}
