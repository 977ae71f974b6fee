//! Scorers, by the published rules of each benchmark.

use std::collections::{BTreeMap, BTreeSet};

use predict::{anomaly::calibrated, forecast::Step};

/// Weights of a hit, a false detection and a miss, by the name of the profile.
pub const PROFILES: [(&str, [f64; 3]); 3] =
    [("standard", [1.0, 0.11, 1.0]), ("low_FP", [1.0, 0.22, 1.0]), ("low_FN", [1.0, 0.11, 2.0])];

/// One row of a labelled series that counts.
struct Detection {
    score: f64,
    /// Which window it lies in, of all series.
    window: Option<usize>,
    /// What a detection here is worth, before weights.
    worth: f64,
}

/// NAB's rows of all series, and how many windows they have.
#[derive(Default)]
pub struct Nab {
    rows: Vec<Detection>,
    windows: usize,
}

fn sigmoid(y: f64) -> f64 {
    2.0 / (1.0 + (5.0 * y).exp()) - 1.0
}

impl Nab {
    /// Adds a series: its scores, and its windows as first and last row.
    pub fn add(&mut self, scores: &[f64], windows: &[(usize, usize)]) {
        let mut windows = windows.to_vec();
        windows.sort_unstable();
        let probation = (scores.len() * 15 / 100).min(750);
        for (i, score) in scores.iter().enumerate().skip(probation) {
            let at = windows.iter().rposition(|(first, _)| *first <= i);
            let window = at.and_then(|at| windows.get(at));
            let (inside, worth) = match window {
                None => (false, -1.0),
                Some((first, last)) if i <= *last => {
                    let y = -((last - i + 1) as f64) / ((last - first + 1) as f64);
                    (true, sigmoid(y) / sigmoid(-1.0))
                }
                Some((first, last)) => {
                    let y = (i - last) as f64 / (last - first) as f64;
                    (false, if y <= 3.0 { sigmoid(y) } else { -1.0 })
                }
            };
            let window = at.filter(|_| inside).map(|at| self.windows + at);
            self.rows.push(Detection { score: if score.is_nan() { 0.0 } else { *score }, window, worth });
        }
        self.windows += windows.len();
    }

    /// One in how many rows outside of all windows has a score above this, on the scale of `anomaly()` in rules. NaN: none.
    #[must_use]
    pub fn usual_per_alarm(&self, above: f64) -> f64 {
        let usual = || self.rows.iter().filter(|row| row.window.is_none());
        let alarms = usual().filter(|row| calibrated(row.score) > above).count();
        if alarms == 0 { f64::NAN } else { usual().count() as f64 / alarms as f64 }
    }

    /// The result of a profile at the best threshold for it, 0 for no detection and 100 for the perfect one.
    #[must_use]
    pub fn best(&self, [hit, wrong, miss]: [f64; 3]) -> f64 {
        let mut rows: Vec<&Detection> = self.rows.iter().collect();
        rows.sort_by(|a, b| b.score.total_cmp(&a.score));
        let (null, perfect) = (-miss * self.windows as f64, hit * self.windows as f64);
        let mut found: BTreeMap<usize, f64> = BTreeMap::new();
        let (mut sum, mut best) = (null, null);
        for (row, next) in rows.iter().zip(rows.iter().skip(1).map(Some).chain([None])) {
            match row.window {
                None => sum += wrong * row.worth,
                Some(window) => {
                    let known = found.get(&window).copied().unwrap_or(-miss);
                    if hit * row.worth > known {
                        sum += hit * row.worth - known;
                        found.insert(window, hit * row.worth);
                    }
                }
            }
            if next.is_none_or(|next| next.score < row.score) {
                best = best.max(sum);
            }
        }
        if perfect > null { 100.0 * (best - null) / (perfect - null) } else { f64::NAN }
    }
}

/// M4's measures over hourly series.
#[derive(Debug, Default, Clone, Copy)]
pub struct M4 {
    pub owa: f64,
    pub msis: f64,
    pub coverage: f64,
}

const DAY: usize = 24;

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0_usize), |(sum, n), value| (sum + value, n + 1));
    if n > 0 { sum / n as f64 } else { f64::NAN }
}

fn at(values: &[f64], i: usize) -> f64 {
    values.get(i).copied().unwrap_or(f64::NAN)
}

/// One entry for each series: history, what came, and the forecast.
#[must_use]
pub fn m4(series: &[(&[f64], &[f64], &[Step])]) -> M4 {
    let (mut own, mut peer) = ((0.0, 0.0), (0.0, 0.0));
    let (mut interval, mut inside, mut steps, mut counted) = (0.0, 0.0, 0.0, 0.0);
    for (history, actual, forecast) in series {
        let scale = mean(history.iter().zip(history.iter().skip(DAY)).map(|(a, b)| (b - a).abs()));
        let values: Vec<f64> = forecast.iter().map(|step| step.value).collect();
        let simple = naive2(history, actual.len());
        if scale.is_nan() || scale <= 0.0 {
            continue;
        }
        for (sums, forecast) in [(&mut own, &values), (&mut peer, &simple)] {
            let pairs = || actual.iter().zip(forecast);
            sums.0 += mean(pairs().map(|(a, f)| {
                let size = a.abs() + f.abs();
                if size > 0.0 { 200.0 * (a - f).abs() / size } else { 0.0 }
            }));
            sums.1 += mean(pairs().map(|(a, f)| (a - f).abs())) / scale;
        }
        interval += mean(actual.iter().zip(*forecast).map(|(a, step)| {
            step.upper - step.lower + 40.0 * (step.lower - a).max(0.0) + 40.0 * (a - step.upper).max(0.0)
        })) / scale;
        counted += 1.0;
        for (a, step) in actual.iter().zip(*forecast) {
            inside += if (step.lower..=step.upper).contains(a) { 1.0 } else { 0.0 };
            steps += 1.0;
        }
    }
    M4 {
        owa: f64::midpoint(own.0 / peer.0, own.1 / peer.1),
        msis: interval / counted,
        coverage: inside / steps,
    }
}

/// M4's reference: the last value, of the seasonally adjusted series where a day stands out.
fn naive2(history: &[f64], steps: usize) -> Vec<f64> {
    let n = history.len();
    let last = at(history, n.saturating_sub(1));
    if !seasonal(history) {
        return vec![last; steps];
    }
    let mut ratios = vec![Vec::new(); DAY];
    for centre in DAY / 2..n - DAY / 2 {
        let ends = f64::midpoint(at(history, centre - DAY / 2), at(history, centre + DAY / 2));
        let level = (ends + history.iter().skip(centre - DAY / 2 + 1).take(DAY - 1).sum::<f64>()) / 24.0;
        if let Some(ratios) = ratios.get_mut(centre % DAY).filter(|_| level != 0.0) {
            ratios.push(at(history, centre) / level);
        }
    }
    let index: Vec<f64> =
        ratios.into_iter().map(|r| if r.is_empty() { 1.0 } else { mean(r.into_iter()) }).collect();
    let level = last / at(&index, (n - 1) % DAY);
    (0..steps).map(|i| level * at(&index, (n + i) % DAY)).collect()
}

fn seasonal(history: &[f64]) -> bool {
    if history.len() < 3 * DAY {
        return false;
    }
    let centre = mean(history.iter().copied());
    let off: Vec<f64> = history.iter().map(|v| v - centre).collect();
    let whole: f64 = off.iter().map(|v| v * v).sum();
    let at_lag = |lag: usize| off.iter().zip(off.iter().skip(lag)).map(|(a, b)| a * b).sum::<f64>() / whole;
    let shorter: f64 = (1..DAY).map(|lag| at_lag(lag).powi(2)).sum();
    at_lag(DAY).abs() > 1.645 * ((1.0 + 2.0 * shorter) / history.len() as f64).sqrt()
}

/// F1 of scores of 0.5 and more, and average precision, over `(score, is one)`.
#[must_use]
pub fn hosts(rows: &[(f64, bool)]) -> (f64, f64) {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let ones = rows.iter().filter(|row| row.1).count() as f64;
    let said = rows.iter().filter(|row| row.0 >= 0.5).count() as f64;
    let right = rows.iter().filter(|row| row.0 >= 0.5 && row.1).count() as f64;
    let (mut hits, mut precision) = (0.0, 0.0);
    // Equal scores are one step.
    let (mut seen, levels) = (0_usize, rows.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()));
    for level in levels {
        let here = level.iter().filter(|row| row.1).count() as f64;
        hits += here;
        seen += level.len();
        precision += here / ones * hits / seen as f64;
    }
    (2.0 * right / (ones + said), precision)
}

/// Share of filling disks whose time was right within a factor of 1.25, and of others said to fill within a week,
/// over `(hours said, hours true)`.
#[must_use]
pub fn disk(rows: &[(Option<f64>, Option<f64>)]) -> (f64, f64) {
    let right = rows.iter().filter_map(|(said, truth)| {
        let truth = (*truth)?;
        let close = said.is_some_and(|said| (said.max(1e-3) / truth).ln().abs() <= 1.25_f64.ln());
        Some(if close { 1.0 } else { 0.0 })
    });
    let calm = rows.iter().filter(|(_, truth)| truth.is_none());
    let alarms = calm.map(|(said, _)| if said.is_some_and(|said| said <= 168.0) { 1.0 } else { 0.0 });
    (mean(right), mean(alarms))
}

/// Keys of a table of labels that none of the given names has: files that are missing.
#[must_use]
pub fn missing<'a, V>(labels: &'a BTreeMap<String, V>, names: &BTreeSet<&str>) -> Vec<&'a str> {
    labels.keys().map(String::as_str).filter(|key| !names.contains(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nab(hits: &[usize]) -> [f64; 3] {
        let scores: Vec<f64> = (0..1000).map(|i| if hits.contains(&i) { 1.0 } else { 0.0 }).collect();
        let mut nab = Nab::default();
        nab.add(&scores, &[(500, 599)]);
        PROFILES.map(|(_, weights)| nab.best(weights))
    }

    #[test]
    fn nab_rewards_the_earliest_and_charges_the_wrong() {
        assert!(nab(&[500]).iter().all(|score| (score - 100.0).abs() < 1e-9));
        assert!(nab(&[10, 500]).iter().all(|score| (score - 100.0).abs() < 1e-9), "probation is free");
        assert!(nab(&[]).iter().all(|score| score.abs() < 1e-9));
        let far = nab(&[200, 500]);
        assert!(
            (far[0] - (100.0 - 5.5)).abs() < 1e-9 && (far[2] - (100.0 - 11.0 / 3.0)).abs() < 1e-9,
            "{far:?}"
        );
    }

    #[test]
    fn hosts_and_disks() {
        let (f1, precision) = hosts(&[(0.9, true), (0.8, false), (0.2, true), (0.1, false)]);
        assert!((f1 - 0.5).abs() < 1e-9 && (precision - (0.5 + 1.0 / 3.0)).abs() < 1e-9, "{f1} {precision}");
        let (right, wrong) =
            disk(&[(Some(10.0), Some(11.0)), (None, Some(5.0)), (Some(100.0), None), (None, None)]);
        assert_eq!((right, wrong), (0.5, 0.5));
    }
}
