//! Any bytes as a series: every question has an answer in its range, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predict::{
    Point,
    anomaly::Detector,
    forecast::{Bounds, forecast},
    outlier::outliers,
    time_to::{Threshold, time_to},
};

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fuzz_target!(|data: &[u8]| {
    // A horizon and a limit, then times and values of any bits.
    let (head, rest) = data.split_at(data.len().min(16));
    let horizon_ms = number(head.get(..8).unwrap_or_default());
    let limit = f64::from_bits(number(head.get(8..).unwrap_or_default()));
    let points: Vec<Point> = rest
        .chunks_exact(16)
        .map(|chunk| {
            let (time, value) = chunk.split_at(8);
            Point::new(number(time), f64::from_bits(number(value)))
        })
        .collect();
    let mut detector = Detector::new();
    for point in &points {
        let said = detector.observe(point.at_ms, point.value);
        assert!((0.0..=1.0).contains(&said.score) && (0.0..=1.0).contains(&said.calibrated()));
    }
    for step in forecast(&points, horizon_ms, Bounds::default()).steps {
        assert!(step.lower <= step.value && step.value <= step.upper);
    }
    for threshold in [Threshold::Above(limit), Threshold::Below(limit)] {
        let answer = time_to(&points, threshold, horizon_ms);
        assert!(answer.hours.is_none_or(|hours| hours >= 0.0));
    }
    let hosts: Vec<Vec<f64>> = points.chunks(32).map(|part| part.iter().map(|p| p.value).collect()).collect();
    assert!(outliers(&hosts).iter().all(|verdict| (0.0..=1.0).contains(&verdict.score)));
});
