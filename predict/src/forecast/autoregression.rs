//! One model: a value out of a few earlier ones, fitted robustly, run ahead on its own forecasts.

use super::constants::{CORE, HALF_LIFE, ROUNDS, ROWS_PER_COEFFICIENT};
use crate::numeric::{Factor, Normal, at, count, dot, mean, median_of};

#[derive(Debug, Clone)]
pub(crate) struct Autoregression {
    lags: Vec<usize>,
    /// The constant, then one for each lag.
    coefficients: Vec<f64>,
}

impl Autoregression {
    /// `None` when the series is too short for these lags, or says nothing.
    pub(crate) fn fit(values: &[f64], lags: &[usize], forgets: bool, ridge: f64) -> Option<Self> {
        let longest = *lags.iter().max()?;
        let columns = lags.len() + 1;
        let rows = values.len().checked_sub(longest)?;
        if rows < ROWS_PER_COEFFICIENT * columns.max(8) {
            return None;
        }
        let middle = mean(values);
        let centred: Vec<f64> = values.iter().map(|v| v - middle).collect();
        let mut matrix = Vec::with_capacity(rows * columns);
        for t in longest..centred.len() {
            matrix.push(1.0);
            matrix.extend(lags.iter().map(|lag| at(&centred, t - lag)));
        }
        let targets = centred.get(longest..)?;
        let age: Vec<f64> = (0..rows)
            .map(|i| if forgets { 0.5_f64.powf(count(rows - 1 - i) / HALF_LIFE) } else { 1.0 })
            .collect();
        let mut weights = age.clone();
        let mut coefficients = solve(&matrix, columns, targets, &weights, ridge)?;
        for _ in 0..ROUNDS {
            let errors: Vec<f64> = matrix
                .chunks_exact(columns)
                .zip(targets)
                .map(|(row, y)| (y - dot(row, &coefficients)).abs())
                .collect();
            let usual = 1.4826 * median_of(&mut errors.clone()) + 1e-12 * (1.0 + middle.abs());
            for ((weight, age), error) in weights.iter_mut().zip(&age).zip(&errors) {
                *weight = age / (error / usual).max(CORE);
            }
            coefficients = solve(&matrix, columns, targets, &weights, ridge)?;
        }
        let sum: f64 = coefficients.iter().skip(1).sum();
        let constant = coefficients.first_mut()?;
        *constant += middle * (1.0 - sum);
        coefficients.iter().all(|c| c.is_finite()).then(|| Self { lags: lags.to_vec(), coefficients })
    }

    /// The steps after `history`, each out of what is known or was forecast before it.
    pub(crate) fn run(&self, history: &[f64], steps: usize) -> Vec<f64> {
        let longest = self.lags.iter().max().copied().unwrap_or_default();
        let mut line = history.get(history.len().saturating_sub(longest)..).unwrap_or_default().to_vec();
        let known = line.len();
        for _ in 0..steps {
            let value = |lag: &usize| line.len().checked_sub(*lag).map_or(0.0, |i| at(&line, i));
            let past: f64 =
                self.lags.iter().zip(self.coefficients.iter().skip(1)).map(|(lag, c)| c * value(lag)).sum();
            line.push(at(&self.coefficients, 0) + past);
        }
        line.split_off(known)
    }
}

fn solve(matrix: &[f64], columns: usize, targets: &[f64], weights: &[f64], ridge: f64) -> Option<Vec<f64>> {
    let mut normal = Normal::new(columns);
    for ((row, y), weight) in matrix.chunks_exact(columns).zip(targets).zip(weights) {
        normal.add(row, *y, *weight);
    }
    normal.shrink(ridge);
    normal.factor().as_ref().map(Factor::coefficients)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_goes_on() {
        let wave: Vec<f64> =
            (0..200).map(|i| 10.0 + (f64::from(i) * std::f64::consts::TAU / 24.0).sin()).collect();
        let model = Autoregression::fit(&wave, &[24, 48], false, 1e-6).unwrap();
        let ahead = model.run(&wave, 24);
        let worst = ahead.iter().zip(&wave[8..]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 0.01, "{worst}");
    }

    #[test]
    fn too_short_a_series_has_no_model() {
        assert!(Autoregression::fit(&[1.0; 30], &[24], false, 1e-6).is_none());
    }
}
