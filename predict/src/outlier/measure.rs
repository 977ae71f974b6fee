//! How far each host is from its group, one figure for each kind of difference.

use super::constants::{
    BEGINNINGS, BURST, BURST_SHARE, FOLLOW, FOLLOW_SPREAD, LAG_STEPS, LONGEST_LAG, MAX_VALUES, MEMORY, RECENT,
};
use crate::{
    numeric::{at, count, differences, mean, median, median_of, quantile, spread, whole},
    series::usable,
};

/// Differences of one host, each 0 for none and larger for more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    pub(crate) level: f64,
    pub(crate) change: f64,
    pub(crate) trend: f64,
    pub(crate) noise: f64,
    pub(crate) flat: f64,
    pub(crate) lag: f64,
    pub(crate) bursts: f64,
    pub(crate) lag_steps: usize,
    pub(crate) apart: f64,
    pub(crate) usual_apart: f64,
    pub(crate) noise_ratio: f64,
}

/// What one host says on its own; the group's part is taken away later.
struct Alone {
    /// Distance from the group of late.
    apart: f64,
    step_noise: f64,
    change: f64,
    trend: f64,
    lag: f64,
    lag_steps: usize,
    bursts: f64,
    still: Still,
}

/// How much a host stands still.
#[derive(Clone, Copy)]
struct Still {
    share: f64,
    longest: usize,
    at: f64,
}

pub(crate) fn measure(hosts: &[&[f64]]) -> Vec<Measured> {
    let length = hosts.iter().map(|values| values.len()).max().unwrap_or_default();
    let thin = length.div_ceil(MAX_VALUES).max(1);
    let hosts: Vec<Vec<f64>> = hosts.iter().map(|values| without_gaps(values, length, thin)).collect();
    let length = hosts.first().map_or(0, Vec::len);
    let group: Vec<f64> = (0..length)
        .map(|t| median_of(&mut hosts.iter().map(|values| at(values, t)).collect::<Vec<f64>>()))
        .collect();
    let recent = length - whole(count(length) * RECENT, 1, length);
    let rests: Vec<Vec<f64>> = hosts.iter().map(|values| rest(values, &group)).collect();
    let rough = |rest: &Vec<f64>| spread(&differences(rest));
    let usual_step = median_of(&mut rests.iter().map(rough).collect::<Vec<f64>>()).max(1e-9);
    let singles: Vec<Vec<f64>> = rests.iter().map(|rest| single(rest, recent)).collect();
    let usual_single = median_of(&mut singles.iter().map(|s| spread(s)).collect::<Vec<f64>>()).max(1e-9);

    let alone: Vec<Alone> = hosts
        .iter()
        .zip(&rests)
        .zip(&singles)
        .map(|((values, rest), single)| {
            let late = rest.get(recent..).unwrap_or_default();
            let off: Vec<f64> = values.iter().zip(&group).skip(recent).map(|(v, g)| v - g).collect();
            let (lag, lag_steps) = lag(values, &group, recent, usual_step);
            Alone {
                apart: median(&off),
                step_noise: spread(&differences(late)),
                change: change(rest, usual_step),
                trend: trend(late, usual_step),
                lag,
                lag_steps,
                bursts: bursts(single, usual_single),
                still: still(values.get(recent..).unwrap_or_default()),
            }
        })
        .collect();
    beside(&alone, usual_step)
}

/// Takes away what the group has in common.
fn beside(alone: &[Alone], usual_step: f64) -> Vec<Measured> {
    let all = |pick: &dyn Fn(&Alone) -> f64| -> Vec<f64> { alone.iter().map(pick).collect() };
    let levels = all(&|a| a.apart);
    let level = median(&levels);
    let usual_apart = spread(&levels).max(0.5 * usual_step);
    let noise = median(&all(&|a| a.step_noise)).max(1e-9);
    let change = median(&all(&|a| a.change)).max(2.0);
    let trend = median(&all(&|a| a.trend)).max(0.6);
    let lag = median(&all(&|a| a.lag));
    let still = median(&all(&|a| a.still.share));
    // Where many have bursts, as values that cannot fall below zero do, they are no news.
    let bursts = 2.0 * quantile(&mut all(&|a| a.bursts), 0.8);
    alone
        .iter()
        .enumerate()
        .map(|(i, host)| Measured {
            level: (host.apart - level).abs() / usual_apart,
            change: (host.change / change).ln().max(0.0),
            trend: (host.trend / trend).ln().max(0.0),
            noise: (host.step_noise / noise).ln().max(0.0),
            flat: if shared(alone, i) { 0.0 } else { (host.still.share - still).max(0.0) },
            lag: (host.lag - lag).max(0.0),
            bursts: (host.bursts - bursts).max(0.0),
            lag_steps: host.lag_steps,
            apart: host.apart - level,
            usual_apart,
            noise_ratio: host.step_noise / noise,
        })
        .collect()
}

/// A value at which another host stands still, too, is a bound of the metric, not a fault.
fn shared(alone: &[Alone], i: usize) -> bool {
    let Some(own) = alone.get(i) else { return false };
    alone.iter().enumerate().any(|(j, other)| {
        j != i && other.still.longest >= 2 && other.still.at.total_cmp(&own.still.at).is_eq()
    })
}

/// Every `thin`-th value, the last one again where one is missing, the median before the first.
fn without_gaps(values: &[f64], length: usize, thin: usize) -> Vec<f64> {
    let mut known: Vec<f64> = values.iter().copied().filter(|v| usable(*v)).collect();
    let mut last = median_of(&mut known);
    let all = values.iter().copied().chain(std::iter::repeat(f64::NAN)).take(length).map(|v| {
        last = if usable(v) { v } else { last };
        last
    });
    all.step_by(thin).collect()
}

/// What is left of a host when the group's movement is taken away, by as much as this host follows it. Learned from
/// changes, which a lasting fault spoils only once, with large ones weighing less.
fn rest(values: &[f64], group: &[f64]) -> Vec<f64> {
    let reach = whole(count(group.len()) * FOLLOW, 3, group.len().max(3));
    let moves =
        |line: &[f64]| -> Vec<f64> { line.iter().zip(line.iter().skip(reach)).map(|(a, b)| b - a).collect() };
    let (own, common) = (moves(values), moves(group));
    let mut follows = 1.0;
    for _ in 0..5 {
        let errors: Vec<f64> = own.iter().zip(&common).map(|(o, c)| o - follows * c).collect();
        let usual = spread(&errors).max(1e-9);
        let held = (usual / FOLLOW_SPREAD).powi(2) * count(reach);
        let (mut top, mut bottom) = (held, held);
        for ((own, common), error) in own.iter().zip(&common).zip(&errors) {
            let weight = 1.0 / (error.abs() / usual).max(1.5);
            top += weight * own * common;
            bottom += weight * common * common;
        }
        follows = top / bottom;
    }
    let follows = if follows.is_finite() { follows } else { 1.0 };
    values.iter().zip(group).map(|(v, g)| v - follows * g).collect()
}

fn error_of_mean(usual_step: f64, values: usize) -> f64 {
    usual_step * MEMORY / count(values.max(1)).sqrt()
}

/// The largest lasting change of the middle, in standard errors.
fn change(rest: &[f64], usual_step: f64) -> f64 {
    BEGINNINGS
        .map(|place| rest.len() * place / 40)
        .filter(|begin| *begin >= 6)
        .map(|begin| {
            let (before, after) = rest.split_at(begin.min(rest.len()));
            let error = error_of_mean(usual_step, before.len()).hypot(error_of_mean(usual_step, after.len()));
            (median(after) - median(before)).abs() / error
        })
        .fold(0.0, f64::max)
}

/// The slope over the medians of eight parts, in what noise alone would give.
fn trend(late: &[f64], usual_step: f64) -> f64 {
    const PARTS: usize = 8;
    let size = late.len().div_ceil(PARTS).max(1);
    let parts: Vec<f64> = late.chunks(size).map(median).collect();
    let (middle, centre) = ((count(parts.len()) - 1.0) / 2.0, mean(&parts));
    let (mut top, mut bottom) = (0.0, 0.0);
    for (i, part) in parts.iter().enumerate() {
        top += (count(i) - middle) * (part - centre);
        bottom += (count(i) - middle).powi(2);
    }
    if bottom > 0.0 {
        (top / bottom * count(PARTS)).abs() / (error_of_mean(usual_step, late.len()) * 3.5)
    } else {
        0.0
    }
}

/// How much better a late copy of the group explains the host than the group itself does, and how late it is.
fn lag(values: &[f64], group: &[f64], recent: usize, usual_step: f64) -> (f64, usize) {
    let own = values.get(recent..).unwrap_or_default();
    let left = |lag: usize| -> f64 {
        let copy: Vec<f64> = (recent..values.len()).map(|t| at(group, t.saturating_sub(lag))).collect();
        let (a, b) = (mean(own), mean(&copy));
        let (top, bottom) = own
            .iter()
            .zip(&copy)
            .fold((0.0, 1e-9), |(top, bottom), (x, y)| (top + (x - a) * (y - b), bottom + (y - b).powi(2)));
        // Not negative and not much more than the group: the same movement, only late.
        let follows = (top / bottom).clamp(0.5, 1.5);
        let rest: f64 = own.iter().zip(&copy).map(|(x, y)| ((x - a) - follows * (y - b)).powi(2)).sum();
        rest / count(own.len().max(1))
    };
    let now = left(0);
    let n = values.len();
    let longest = whole(count(n) * LONGEST_LAG, 0, recent);
    let first = (n / LAG_STEPS).max(2);
    let (best, late) = (first..=longest)
        .step_by((n / LAG_STEPS * 2 / 3).max(1))
        .map(|lag| (left(lag), lag))
        .fold((now, 0), |best, next| if next.0 < best.0 { next } else { best });
    ((now - best) / (best + 0.2 * usual_step * usual_step).max(1e-18), late)
}

/// Each late value less the median of its four neighbours.
fn single(rest: &[f64], recent: usize) -> Vec<f64> {
    let late = rest.get(recent..).unwrap_or_default();
    late.windows(5)
        .filter_map(|window| match window {
            [a, b, value, c, d] => Some(value - median(&[*a, *b, *c, *d])),
            _ => None,
        })
        .collect()
}

/// Bursts upwards beyond those downwards (which are noise), over the share that is full strength.
fn bursts(single: &[f64], usual: f64) -> f64 {
    let limit = BURST * spread(single).max(usual);
    let above = single.iter().filter(|v| **v > limit).count();
    let below = single.iter().filter(|v| **v < -limit).count();
    (count(above) - count(below) - 1.0).max(0.0) / (BURST_SHARE * count(single.len().max(1)))
}

fn still(late: &[f64]) -> Still {
    let (mut run, mut same) = (0, 0);
    let mut found = Still { share: 0.0, longest: 0, at: f64::NAN };
    for (a, b) in late.iter().zip(late.iter().skip(1)) {
        if a.total_cmp(b).is_eq() {
            (run, same) = (run + 1, same + 1);
            if run > found.longest {
                found = Still { longest: run, at: *b, ..found };
            }
        } else {
            run = 0;
        }
    }
    Still { share: count(same) / count(late.len().saturating_sub(1).max(1)), ..found }
}
