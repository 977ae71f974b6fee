//! Functions of the samples in a range.

use crate::{
    Sample, Want,
    eval::{Semantics, Window},
    sums::{Mean, Sum, Variance, line, quantile},
};

pub(crate) type OverTime = fn(&Window<'_>) -> Option<f64>;

/// The function of that name; for those with a number beside the range, [`number_at`] says where it stands.
pub(crate) fn named(name: &str) -> Option<OverTime> {
    Some(match name {
        "rate" => |window| extrapolated(window, true, true),
        "increase" => |window| extrapolated(window, true, false),
        "delta" => |window| extrapolated(window, false, false),
        "irate" => |window| last_two(window, true),
        "idelta" => |window| last_two(window, false),
        "deriv" => |window| {
            let (first, _) = two(window.samples)?;
            line(window.samples, first.t_ms).map(|(slope, _)| slope)
        },
        "predict_linear" => |window| {
            two(window.samples)?;
            line(window.samples, window.now_ms).map(|(slope, at)| slope * window.parameter + at)
        },
        "avg_over_time" => |window| {
            let mut mean = Mean::default();
            values(window).for_each(|value| mean.add(value));
            Some(mean.mean())
        },
        "sum_over_time" => sum,
        "min_over_time" => |window| {
            values(window).reduce(|least, value| if value < least || least.is_nan() { value } else { least })
        },
        "max_over_time" => |window| {
            values(window).reduce(|most, value| if value > most || most.is_nan() { value } else { most })
        },
        "count_over_time" => |window| Some(window.samples.len() as f64),
        "present_over_time" => |_| Some(1.0),
        "first_over_time" => |window| values(window).next(),
        "last_over_time" => |window| values(window).next_back(),
        "stdvar_over_time" => |window| Some(variance(window)),
        "stddev_over_time" => |window| Some(variance(window).sqrt()),
        "quantile_over_time" => |window| {
            let mut numbers: Vec<f64> = values(window).collect();
            Some(quantile(window.parameter, &mut numbers))
        },
        "mad_over_time" => |window| {
            let mut numbers: Vec<f64> = values(window).collect();
            let median = quantile(0.5, &mut numbers);
            numbers.iter_mut().for_each(|number| *number = (*number - median).abs());
            Some(quantile(0.5, &mut numbers))
        },
        "changes" => |window| {
            Some(steps(window, |before, value| value != before && !(value.is_nan() && before.is_nan())))
        },
        "resets" => |window| Some(steps(window, |before, value| value < before)),
        _ => return None,
    })
}

/// What a function reads where roll-ups stand for samples.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rolled {
    /// The same function of these numbers.
    Of(Want),
    /// The sum of how many there were.
    Counted,
    /// The sum of all by the sum of how many there were.
    Mean,
    /// It needs each sample.
    Never,
}

pub(crate) fn rolled(name: &str) -> Rolled {
    match name {
        "min_over_time" => Rolled::Of(Want::Min),
        "max_over_time" => Rolled::Of(Want::Max),
        "sum_over_time" => Rolled::Of(Want::Sum),
        "count_over_time" => Rolled::Counted,
        "avg_over_time" => Rolled::Mean,
        "stddev_over_time" | "stdvar_over_time" | "quantile_over_time" | "mad_over_time"
        | "first_over_time" => Rolled::Never,
        _ => Rolled::Of(Want::Last),
    }
}

/// Which argument is the range, and which the number that goes with it.
pub(crate) fn number_at(name: &str) -> (usize, Option<usize>) {
    match name {
        "quantile_over_time" => (1, Some(0)),
        "predict_linear" => (0, Some(1)),
        _ => (0, None),
    }
}

/// The sample is still the metric's own.
pub(crate) fn keeps_name(name: &str) -> bool {
    matches!(name, "last_over_time" | "first_over_time")
}

fn values<'a>(window: &'a Window<'_>) -> impl DoubleEndedIterator<Item = f64> + 'a {
    window.samples.iter().map(|sample| sample.value)
}

pub(crate) fn sum(window: &Window<'_>) -> Option<f64> {
    let mut sum = Sum::default();
    values(window).for_each(|value| sum.add(value));
    Some(sum.total())
}

fn variance(window: &Window<'_>) -> f64 {
    let mut variance = Variance::default();
    values(window).for_each(|value| variance.add(value));
    variance.variance()
}

/// How often `counts` holds between a value and the next.
fn steps(window: &Window<'_>, counts: impl Fn(f64, f64) -> bool) -> f64 {
    values(window).zip(values(window).skip(1)).filter(|(before, value)| counts(*before, *value)).count()
        as f64
}

/// First and last of two samples or more.
fn two(samples: &[Sample]) -> Option<(&Sample, &Sample)> {
    let (first, rest) = samples.split_first()?;
    Some((first, rest.last()?))
}

fn seconds(from_ms: i64, to_ms: i64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / 1e3
}

/// `rate`, `increase` and `delta`: the change between the first and the last sample, stretched to the whole range; but
/// not by more than half an interval where samples begin late or end early, nor to below a counter's zero.
fn extrapolated(window: &Window<'_>, counter: bool, per_second: bool) -> Option<f64> {
    let (first, last) = two(window.samples)?;
    let mut change = last.value - first.value;
    if counter {
        change += values(window)
            .zip(values(window).skip(1))
            .filter(|(before, value)| value < before)
            .fold(0.0, |resets, (before, _)| resets + before);
    }
    let sampled = seconds(first.t_ms, last.t_ms);
    let interval = sampled / (window.samples.len() - 1) as f64;
    let threshold = interval * 1.1;
    let mut to_start = seconds(window.end_ms.saturating_sub(window.range_ms), first.t_ms);
    let mut to_end = seconds(last.t_ms, window.end_ms);
    let to_zero = (counter && change > 0.0 && first.value >= 0.0).then(|| sampled * (first.value / change));
    match window.semantics {
        Semantics::Prometheus2 => {
            to_start = to_zero.map_or(to_start, |zero| to_start.min(zero));
            to_start = if to_start < threshold { to_start } else { interval / 2.0 };
        }
        Semantics::Prometheus3 => {
            to_start = if to_start >= threshold { interval / 2.0 } else { to_start };
            to_start = to_zero.map_or(to_start, |zero| to_start.min(zero));
        }
    }
    if to_end >= threshold {
        to_end = interval / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if per_second {
        factor /= window.range_ms as f64 / 1e3;
    }
    Some(change * factor)
}

/// `irate` and `idelta`.
fn last_two(window: &Window<'_>, rate: bool) -> Option<f64> {
    let (last, rest) = window.samples.split_last()?;
    let before = rest.last()?;
    let reset = rate && last.value < before.value;
    let change = if reset { last.value } else { last.value - before.value };
    let interval = seconds(before.t_ms, last.t_ms);
    if interval == 0.0 {
        return None;
    }
    Some(if rate { change / interval } else { change })
}
