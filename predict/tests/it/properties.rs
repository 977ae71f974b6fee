//! What must hold for every input, however odd.

use predict::{
    Point,
    anomaly::{Detector, Score},
    forecast::{Bounds, MAX_HORIZON_MS, forecast, forecast_even},
    outlier::outliers,
    time_to::{Threshold, time_to},
};
use proptest::{collection::vec, prelude::*};

const MINUTE_MS: u64 = 60_000;

/// Any 64 bits, and what is likely to trouble.
fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => any::<u64>().prop_map(f64::from_bits),
        3 => -1e3..1e3,
        1 => prop_oneof![
            Just(0.0), Just(-0.0), Just(1.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY),
            Just(f64::MAX), Just(f64::MIN_POSITIVE), Just(5e-324), Just(1e100), Just(-1e100),
        ],
    ]
}

/// Steps between times: regular, repeated, far, and back.
fn any_times(n: usize) -> impl Strategy<Value = Vec<u64>> {
    let step =
        prop_oneof![5 => Just(300_000_i64), 1 => Just(0), 1 => -9_000_000_i64..9_000_000, 1 => any::<i64>()];
    vec(step, n).prop_map(|steps| {
        let mut at = 1_700_000_000_000_u64;
        steps
            .into_iter()
            .map(|step| {
                at = at.saturating_add_signed(step);
                at
            })
            .collect()
    })
}

fn any_points() -> impl Strategy<Value = Vec<Point>> {
    (0_usize..400).prop_flat_map(|n| {
        (any_times(n), vec(any_value(), n)).prop_map(|(times, values)| {
            times.into_iter().zip(values).map(|(at, v)| Point::new(at, v)).collect()
        })
    })
}

fn sane(score: &Score) -> bool {
    (0.0..=1.0).contains(&score.score) && (0.0..=1.0).contains(&score.evidence)
}

fn observe(points: &[Point]) -> Vec<Score> {
    let mut detector = Detector::new();
    points.iter().map(|point| detector.observe(point.at_ms, point.value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_score_is_between_0_and_1(points in any_points()) {
        for score in observe(&points) {
            prop_assert!(sane(&score), "{score:?}");
            prop_assert!(!score.explanation.to_string().is_empty());
        }
    }

    #[test]
    fn scores_of_a_prefix_are_a_prefix_of_the_scores(points in any_points(), share in 0.0..1.0) {
        let cut = (points.len() as f64 * share) as usize;
        let (part, all) = (observe(&points[..cut]), observe(&points));
        for (part, all) in part.iter().zip(&all) {
            prop_assert_eq!(part.score.to_bits(), all.score.to_bits());
        }
    }

    #[test]
    fn a_restored_detector_scores_on_to_the_bit(points in any_points(), share in 0.0..1.0) {
        let cut = (points.len() as f64 * share) as usize;
        let mut kept = Detector::new();
        for point in &points[..cut] {
            kept.observe(point.at_ms, point.value);
        }
        let saved = postcard::to_stdvec(&kept).unwrap();
        prop_assert!(saved.len() <= 4096);
        let mut restored: Detector = postcard::from_bytes(&saved).unwrap();
        for point in &points[cut..] {
            let (kept, restored) = (kept.observe(point.at_ms, point.value), restored.observe(point.at_ms, point.value));
            prop_assert_eq!(kept.score.to_bits(), restored.score.to_bits());
            prop_assert_eq!(kept.evidence.to_bits(), restored.evidence.to_bits());
        }
    }

    #[test]
    fn a_state_of_any_bytes_is_refused_or_works(bytes in vec(any::<u8>(), 0..6000), value in any_value()) {
        if let Ok(mut detector) = postcard::from_bytes::<Detector>(&bytes) {
            for i in 0..40_u64 {
                prop_assert!(sane(&detector.observe(i * 300_000, value + i as f64)));
            }
        }
    }

    #[test]
    fn a_forecast_is_finite_and_in_its_band(points in any_points(), horizon_ms in 0..2 * MAX_HORIZON_MS) {
        let forecast = forecast(&points, horizon_ms, Bounds::default());
        prop_assert!(forecast.steps.len() <= 336);
        for step in &forecast.steps {
            prop_assert!(step.value.is_finite() && step.lower <= step.value && step.value <= step.upper, "{step:?}");
        }
        prop_assert!(!forecast.explanation.to_string().is_empty());
    }

    #[test]
    fn a_forecast_keeps_to_its_bounds(values in vec(0.0..100.0, 3..300)) {
        let bounds = Bounds { lowest: Some(0.0), highest: Some(100.0) };
        for step in forecast_even(&values, 3_600_000, 48, bounds).steps {
            prop_assert!(0.0 <= step.lower && step.upper <= 100.0, "{step:?}");
        }
    }

    #[test]
    fn a_time_to_a_threshold_is_ordered(points in any_points(), limit in any_value(), above in any::<bool>()) {
        let threshold = if above { Threshold::Above(limit) } else { Threshold::Below(limit) };
        let answer = time_to(&points, threshold, MAX_HORIZON_MS);
        prop_assert!(!answer.explanation.to_string().is_empty());
        if let Some(hours) = answer.hours {
            prop_assert!((0.0..=14.0 * 24.0 + 1.0).contains(&hours), "{answer:?}");
            prop_assert!(answer.earliest.is_some_and(|earliest| earliest <= hours), "{answer:?}");
            prop_assert!(answer.latest.is_none_or(|latest| hours <= latest), "{answer:?}");
        }
    }

    #[test]
    fn hosts_score_between_0_and_1(hosts in vec(vec(any_value(), 0..80), 0..9)) {
        let verdicts = outliers(&hosts);
        prop_assert_eq!(verdicts.len(), hosts.len());
        for verdict in verdicts {
            prop_assert!((0.0..=1.0).contains(&verdict.score), "{verdict:?}");
            prop_assert!(!verdict.explanation.to_string().is_empty());
        }
    }
}

#[test]
fn a_detector_stays_below_4_kib() {
    assert!(size_of::<Detector>() <= 4096, "{}", size_of::<Detector>());
}

#[test]
fn series_without_news_score_0() {
    for value in [0.0, 5.0, f64::NAN, f64::INFINITY] {
        let points: Vec<Point> = (0..5000).map(|i| Point::new(i * 300_000, value)).collect();
        assert!(observe(&points).iter().all(|score| score.score == 0.0), "{value}");
    }
}

#[test]
fn a_jump_after_quiet_days_scores_high_once() {
    let value = |i: u64| if i == 3000 { 500.0 } else { 10.0 + (i * 7919 % 100) as f64 / 50.0 };
    let points: Vec<Point> = (0..4000).map(|i| Point::new(i * 300_000, value(i))).collect();
    let scores = observe(&points);
    let highest = (1000..4000).max_by(|a, b| scores[*a].score.total_cmp(&scores[*b].score)).unwrap();
    assert_eq!(highest, 3000);
    assert!(scores[3000].score > 0.6 && scores[3001..].iter().all(|score| score.score < 0.4));
    assert!(scores[3000].explanation.to_string().contains("above all"), "{}", scores[3000].explanation);
}

#[test]
fn ten_million_points_take_constant_space_and_end() {
    let mut detector = Detector::new();
    let n = if cfg!(debug_assertions) { 300_000_u64 } else { 10_000_000 };
    for i in 0..n {
        assert!(sane(&detector.observe(i * 1000, (i * 7919 % 1013) as f64)));
    }
    assert_eq!(detector.points(), n);
    let long: Vec<Point> = (0..n).map(|i| Point::new(i * 1000, (i % 3600) as f64)).collect();
    assert!(!forecast(&long, 60 * MINUTE_MS, Bounds::default()).steps.is_empty());
    assert_eq!(time_to(&long, Threshold::Above(1e9), MAX_HORIZON_MS).hours, None);
}

#[test]
fn one_and_two_points_have_an_answer() {
    for n in 0..3 {
        let points: Vec<Point> = (0..n).map(|i| Point::new(i * MINUTE_MS, 1.0)).collect();
        assert!(forecast(&points, MAX_HORIZON_MS, Bounds::default()).steps.is_empty());
        assert_eq!(time_to(&points, Threshold::Above(2.0), MAX_HORIZON_MS).hours, None);
    }
}
