//! What differs from the Prometheus that the answers are compared with: ranges of Prometheus 3, and limits.

use promql::{Answer, Error, Limits, Meter, STALE, Semantics, Stop, evaluate, parse};

use crate::data::{Memory, at, fleet, meter, over, series};

/// A counter of 10 a minute, and a gauge that ends with a stale marker.
fn source() -> Memory {
    Memory(vec![
        series("c", &[], (0..10).map(|n| (n * 60_000, n as f64 * 10.0))),
        series("g", &[], [(0, 1.0), (60_000, 2.0), (120_000, STALE)]),
    ])
}

fn value(text: &str, t_ms: i64, semantics: Semantics) -> Option<f64> {
    let query = promql::Query { semantics, ..at(t_ms) };
    match evaluate(&parse(text).unwrap(), &query, &source(), &meter()).unwrap() {
        Answer::Vector(points) => {
            assert!(points.len() <= 1, "{points:?}");
            points.first().map(|point| point.sample.value)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_range_begins_behind_its_first_moment_since_prometheus_3() {
    use Semantics::{Prometheus2, Prometheus3};
    for (text, t_ms, semantics, expected) in [
        ("count_over_time(c[5m])", 540_000, Prometheus2, Some(6.0)),
        ("count_over_time(c[5m])", 540_000, Prometheus3, Some(5.0)),
        ("increase(c[5m])", 540_000, Prometheus2, Some(50.0)),
        ("increase(c[5m])", 540_000, Prometheus3, Some(50.0)),
        ("c", 840_000, Prometheus2, Some(90.0)),
        ("c", 840_000, Prometheus3, None),
        ("c", 839_999, Prometheus3, Some(90.0)),
        ("c offset 5m", 840_000, Prometheus3, Some(90.0)),
        // Towards a counter's zero half an interval is the most.
        ("increase(c[9m30s])", 600_000, Prometheus2, Some(80.0 * (480.0 + 30.0 + 60.0) / 480.0)),
        ("increase(c[9m30s])", 600_000, Prometheus3, Some(80.0 * (480.0 + 30.0 + 60.0) / 480.0)),
    ] {
        let found = value(text, t_ms, semantics);
        let same = match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(same, "{text} at {t_ms} with {semantics:?}: {found:?}, expected {expected:?}");
    }
}

#[test]
fn a_series_that_ended_has_no_value() {
    for (text, t_ms, expected) in [
        ("g", 119_999, Some(2.0)),
        ("g", 120_000, None),
        ("last_over_time(g[5m])", 120_000, Some(2.0)),
        ("count_over_time(g[5m])", 120_000, Some(2.0)),
        ("absent(g)", 120_000, Some(1.0)),
    ] {
        assert_eq!(value(text, t_ms, Semantics::Prometheus3), expected, "{text} at {t_ms}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    for (text, name) in [
        ("histogram_quantile(0.9, c)", "histogram_quantile"),
        ("info(c)", "info"),
        ("limitk(1, c)", "limitk"),
        ("double_exponential_smoothing(c[5m], 0.5, 0.5)", "double_exponential_smoothing"),
        ("sort_by_label(c, \"a\")", "sort_by_label"),
        ("{a=\"b\" or c=\"d\"}", "or"),
    ] {
        let error = parse(text).and_then(|expr| evaluate(&expr, &at(0), &source(), &meter())).unwrap_err();
        assert!(
            matches!(error, Error::Execution(_)) && error.to_string().contains(name),
            "{text}: {error:?}"
        );
        assert_eq!((error.kind(), error.status()), ("execution", 422));
    }
}

#[test]
fn g10_limits_end_an_evaluation() {
    let source = Memory(fleet());
    let start = crate::data::START;
    let run = |text: &str, limits: Limits<'_>| {
        let query = over(start, start + 10_000_000, 1_000);
        evaluate(&parse(text).unwrap(), &query, &source, &Meter::new(limits)).unwrap_err()
    };
    let never = || None;
    let error = run("temperature", Limits { samples: 1_000, series: 100, stop: &never });
    assert!(error.to_string().contains("too many samples"), "{error}");
    let error = run("temperature", Limits { samples: 10_000_000, series: 5, stop: &never });
    assert!(error.to_string().contains("more than 5 series"), "{error}");
    let error = run("temperature + temperature", Limits { samples: 100_000, series: 100, stop: &never });
    assert!(error.to_string().contains("too many samples"), "{error}");
    let timed_out =
        run("1 + temperature", Limits { samples: 1 << 30, series: 100, stop: &|| Some(Stop::TimedOut) });
    assert_eq!(timed_out, Error::Timeout);
    let canceled =
        run("temperature", Limits { samples: 1 << 30, series: 100, stop: &|| Some(Stop::Canceled) });
    assert_eq!(canceled, Error::Canceled);
}

#[test]
fn g10_a_series_has_no_more_points_than_prometheus_gives() {
    let run = |end, step| evaluate(&parse("c").unwrap(), &over(0, end, step), &source(), &meter());
    assert!(run(11_000_000, 1_000).is_ok());
    for (end, step) in [(11_001_000, 1_000), (3_000_000_000_000, 1), (i64::MAX, 1), (-1, 1), (1, 0), (1, -5)]
    {
        assert!(matches!(run(end, step), Err(Error::BadData(_))), "{end} {step}");
    }
    assert!(evaluate(&parse("c").unwrap(), &over(i64::MIN, i64::MAX, 1), &source(), &meter()).is_err());
}
