//! Faults of measuring: single values that are far from all around them.

use crate::numeric::{differences, median_of, spread};

/// A value farther than this many spreads from its neighbours in time and season is replaced before fitting.
/// Wide, so that only faults of measuring are: 6 already costs accuracy on M4
/// (OWA 0.377), 12 none.
pub(crate) const HAMPEL: f64 = 12.0;

/// The values with single ones replaced that are far from their neighbours in time and from those a season away.
pub(crate) fn without_faults(values: &[f64], season: Option<usize>) -> Vec<f64> {
    let moves = differences(values);
    let usual = spread(&moves);
    if usual <= 0.0 {
        return values.to_vec();
    }
    let near = |i: usize, distance: usize| {
        [i.checked_sub(distance), i.checked_add(distance)]
            .into_iter()
            .flatten()
            .filter_map(|j| values.get(j).copied())
    };
    values
        .iter()
        .enumerate()
        .map(|(i, value)| {
            let mut around: Vec<f64> = near(i, 1).collect();
            if around.iter().any(|v| (v - value).abs() < HAMPEL * usual) {
                return *value;
            }
            around.extend(near(i, 2));
            around.extend(season.into_iter().flat_map(|season| near(i, season)));
            let expected = median_of(&mut around);
            if (value - expected).abs() > HAMPEL * usual { expected } else { *value }
        })
        .collect()
}
