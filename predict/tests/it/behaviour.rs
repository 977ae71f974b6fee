//! What the predictions are for, on small made-up series.

use std::f64::consts::TAU;

use predict::{
    Point,
    forecast::{Basis, Bounds, forecast},
    outlier::{Way, outliers},
    time_to::{Course, MAX_HORIZON_MS, Threshold, TimeTo, time_to},
};

const HOUR_MS: u64 = 3_600_000;
const FIVE_MINUTES_MS: u64 = 300_000;

/// Noise between -1 and 1 that is the same in every run.
fn noise(i: u64) -> f64 {
    let mixed = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

fn hourly(hours: u64, value: impl Fn(f64) -> f64) -> Vec<Point> {
    (0..hours).map(|i| Point::new(i * HOUR_MS, value(i as f64))).collect()
}

fn disk(days: u64, value: impl Fn(f64) -> f64) -> TimeTo {
    let points: Vec<Point> = (0..=days * 288)
        .map(|i| Point::new(i * FIVE_MINUTES_MS, value(i as f64 / 288.0) + 0.02 * noise(i)))
        .collect();
    time_to(&points, Threshold::Above(100.0), MAX_HORIZON_MS)
}

#[test]
fn a_forecast_finds_day_and_week() {
    let load = |hour: f64| {
        let weekend = if (hour / 24.0).floor() as u64 % 7 >= 5 { 0.5 } else { 1.0 };
        100.0 + weekend * 40.0 * (TAU * hour / 24.0).sin()
    };
    let known: Vec<Point> = hourly(24 * 35, |hour| load(hour) + noise(hour as u64));
    let forecast = forecast(&known, 7 * 24 * HOUR_MS, Bounds::default());
    let Basis::Seasonal { short, long, .. } = forecast.explanation.basis else { panic!("{forecast:?}") };
    assert_eq!((short, long), (Some(24), Some(168)));
    let off = |step: &predict::forecast::Step| (step.value - load((step.at_ms / HOUR_MS) as f64)).abs();
    let mean = forecast.steps.iter().map(off).sum::<f64>() / forecast.steps.len() as f64;
    assert!(mean < 3.0, "{mean}");
    let inside = forecast
        .steps
        .iter()
        .filter(|step| (step.lower..=step.upper).contains(&load((step.at_ms / HOUR_MS) as f64)));
    assert!(inside.count() * 10 >= forecast.steps.len() * 9);
}

#[test]
fn gaps_and_single_faults_do_not_change_a_forecast_much() {
    let load = |hour: f64| 100.0 + 40.0 * (TAU * hour / 24.0).sin() + 2.0 * noise(hour as u64);
    let clean = hourly(24 * 28, load);
    let mut spoilt = clean.clone();
    spoilt[500].value = 1e6;
    spoilt[600].value = f64::NAN;
    spoilt.drain(300..320);
    let ahead = |points: &[Point]| forecast(points, 24 * HOUR_MS, Bounds::default()).steps;
    for (a, b) in ahead(&clean).iter().zip(ahead(&spoilt)) {
        assert!((a.value - b.value).abs() < 10.0, "{a:?} {b:?}");
    }
}

#[test]
fn a_filling_disk_has_its_hour() {
    let answer = disk(7, |day| 50.0 + 5.0 * day);
    let hours = answer.hours.unwrap();
    assert!(
        (hours - 72.0).abs() < 4.0 && answer.earliest.unwrap() <= hours && hours <= answer.latest.unwrap(),
        "{answer:?}"
    );
    assert_eq!(answer.explanation.course, Course::Steady);
}

#[test]
fn a_saw_tooth_never_fills() {
    let answer = disk(10, |day| 80.0 + 6.0 * day.fract());
    assert_eq!(answer.hours, None, "{answer:?}");
}

#[test]
fn what_was_cleaned_up_fills_at_its_own_rate() {
    let answer = disk(8, |day| 60.0 + 4.0 * day - if day > 6.0 { 20.0 } else { 0.0 });
    let hours = answer.hours.unwrap();
    let truth = (100.0 - 72.0) / 4.0 * 24.0;
    assert!((hours / truth).ln().abs() < 1.25_f64.ln() && answer.explanation.resets == 1, "{answer:?}");
}

#[test]
fn a_threshold_may_be_below_and_reached() {
    let points: Vec<Point> =
        (0..=288 * 4).map(|i| Point::new(i * FIVE_MINUTES_MS, 30.0 - i as f64 / 288.0)).collect();
    let days = |limit: f64| {
        time_to(&points, Threshold::Below(limit), MAX_HORIZON_MS).hours.map(|hours| hours / 24.0)
    };
    assert!((days(20.0).unwrap() - 6.0).abs() < 0.1);
    assert_eq!(days(26.0), Some(0.0));
    assert_eq!(days(5.0), None);
}

/// What a host shows at a time instead of its own value.
type Fault<'a> = &'a dyn Fn(usize, f64) -> f64;

#[test]
fn the_odd_host_is_named_with_its_way() {
    let common = |t: usize| 50.0 + 15.0 * (TAU * t as f64 / 144.0).sin();
    let group = |fault: Fault<'_>| -> (Option<Way>, f64, f64) {
        let host = |h: usize| -> Vec<f64> {
            (0..288)
                .map(|t| common(t) + 0.3 * h as f64 + noise((h * 1000 + t) as u64))
                .enumerate()
                .map(|(t, v)| if h == 3 { fault(t, v) } else { v })
                .collect()
        };
        let verdicts = outliers(&(0..12).map(host).collect::<Vec<_>>());
        let others =
            verdicts.iter().enumerate().filter(|(h, _)| *h != 3).map(|(_, v)| v.score).fold(0.0, f64::max);
        (verdicts[3].way, verdicts[3].score, others)
    };
    let faults: [(Fault<'_>, &[Way]); 5] = [
        (&|_, v| v + 40.0, &[Way::Level]),
        (&|t, v| if t > 150 { v + 15.0 } else { v }, &[Way::Change, Way::Level]),
        (&|t, v| if t > 100 { v + 8.0 * noise(t as u64 * 31) } else { v }, &[Way::Noise]),
        (&|t, v| if t > 120 { 47.0 } else { v }, &[Way::Flat]),
        (&|t, v| v - common(t) + common(t.saturating_sub(30)), &[Way::Lag]),
    ];
    for (i, (fault, ways)) in faults.iter().enumerate() {
        let (way, score, others) = group(fault);
        assert!(score >= 0.5 && others < 0.5, "fault {i}: {way:?} {score} {others}");
        assert!(ways.contains(&way.unwrap()), "fault {i}: {way:?}");
    }
    let (_, score, others) = group(&|_, v| v);
    assert!(score.max(others) < 0.5);
}

/// A sensor that errs once says nothing of the course: neither a turn nor a reset.
#[test]
fn a_single_wild_value_does_not_fill_a_disk() {
    let course = |i: u64| 85.0 - 5.0 * (288 - i) as f64 / 96.0 + 0.05 * noise(i);
    let points = |wild: Option<u64>| -> Vec<Point> {
        let value = |i: u64| course(i) + if Some(i) == wild { 14.0 } else { 0.0 };
        (0..=288).map(|i| Point::new(i * 900_000, value(i))).collect()
    };
    let hours = |wild| time_to(&points(wild), Threshold::Above(95.0), MAX_HORIZON_MS).hours.unwrap();
    for wild in [None, Some(268), Some(280), Some(287), Some(100)] {
        let hours = hours(wild);
        assert!((48.0 / 1.25..48.0 * 1.25).contains(&hours), "wild at {wild:?}: {hours}");
    }
}
