//! Sums that lose little, and what statistics are made of them.

/// A sum with Neumaier's compensation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, number: f64) {
        let next = self.sum + number;
        if next.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= number.abs() {
            self.lost += (self.sum - next) + number;
        } else {
            self.lost += (number - next) + self.sum;
        }
        self.sum = next;
    }

    pub(crate) fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

/// Mean that does not overflow where the numbers do not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    count: f64,
    mean: Sum,
}

impl Mean {
    pub(crate) fn add(&mut self, number: f64) {
        self.count += 1.0;
        let mean = self.mean.sum;
        if mean.is_infinite() {
            // Infinity minus infinity is no number: what does not change an infinite mean is left out.
            if number.is_infinite() && (mean > 0.0) == (number > 0.0) || number.is_finite() {
                return;
            }
        }
        self.mean.add(number / self.count - mean / self.count);
    }

    pub(crate) fn mean(self) -> f64 {
        self.mean.total()
    }
}

/// Welford's running variance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Variance {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Variance {
    pub(crate) fn add(&mut self, number: f64) {
        self.count += 1.0;
        let delta = number - self.mean.total();
        self.mean.add(delta / self.count);
        self.squares.add(delta * (number - self.mean.total()));
    }

    /// Of the whole population.
    pub(crate) fn variance(self) -> f64 {
        self.squares.total() / self.count
    }
}

/// The `q`-quantile with linear interpolation. `numbers` are sorted here, NaN first.
pub(crate) fn quantile(q: f64, numbers: &mut [f64]) -> f64 {
    if numbers.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    numbers.sort_unstable_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let last = numbers.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor() as usize).min(last);
    let weight = rank - rank.floor();
    let at = |place: usize| numbers.get(place.min(last)).copied().unwrap_or(f64::NAN);
    at(lower) * (1.0 - weight) + at(lower + 1) * weight
}

/// Slope per second and the value at `at_ms` of the line of least squares.
pub(crate) fn line(samples: &[crate::Sample], at_ms: i64) -> Option<(f64, f64)> {
    let first = samples.first()?.value;
    if samples.iter().all(|sample| sample.value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let n = samples.len() as f64;
    let (mut x, mut y, mut xy, mut xx) = (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for sample in samples {
        let seconds = sample.t_ms.saturating_sub(at_ms) as f64 / 1e3;
        x.add(seconds);
        y.add(sample.value);
        xy.add(seconds * sample.value);
        xx.add(seconds * seconds);
    }
    let (x, y, xy, xx) = (x.total(), y.total(), xy.total(), xx.total());
    let slope = (xy - x * y / n) / (xx - x * x / n);
    Some((slope, y / n - slope * x / n))
}
