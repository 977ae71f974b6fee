//! How fine a series is shown, and for how long a check was in which status.

use protocol::{
    Status,
    series::{Availability, Excluded, SeriesPoint},
};

use crate::store::{Point, Resolution, Sample, SeriesMeta};

/// What to read for so many points over so long a time; `None`: the samples themselves.
#[must_use]
pub fn resolution(range_ms: u64, points: usize) -> Option<Resolution> {
    let width = width(range_ms, points);
    [Resolution::Hour, Resolution::FiveMinutes].into_iter().find(|resolution| resolution.millis() <= width)
}

/// Time that one of so many points stands for.
#[must_use]
pub fn width(range_ms: u64, points: usize) -> u64 {
    range_ms.div_ceil(u64::try_from(points.max(1)).unwrap_or(u64::MAX)).max(1)
}

/// Points merged to one for each `width_ms` from `from_ms` on.
#[must_use]
pub fn thinned(points: Vec<Point>, from_ms: u64, width_ms: u64) -> Vec<Point> {
    let mut thin: Vec<Point> = Vec::new();
    for point in points {
        let after = point.at_ms.saturating_sub(from_ms);
        let start = from_ms.saturating_add(after - after % width_ms.max(1));
        match thin.last_mut() {
            Some(last) if last.at_ms == start => last.merge(&point),
            _ => thin.push(Point { at_ms: start, ..point }),
        }
    }
    thin
}

#[must_use]
pub fn point(point: &Point) -> SeriesPoint {
    let number = |value: f64| (!value.is_nan()).then_some(value);
    let [ok, unknown, warning, critical] = point.statuses;
    SeriesPoint {
        at_ms: point.at_ms,
        min: number(point.min),
        mean: point.mean(),
        max: number(point.max),
        last: number(point.last),
        ok,
        warning,
        critical,
        unknown,
    }
}

/// For how long the check was in which status. `samples` are in order and may begin before the range.
#[must_use]
pub fn availability(
    meta: &SeriesMeta,
    samples: &[Sample],
    (from_ms, until_ms): (u64, u64),
    exclude: &[Excluded],
) -> Availability {
    let exclude = merged(exclude, from_ms, until_ms);
    let hold = hold(samples);
    let mut times = [0_u64; 4];
    let ends = samples.iter().skip(1).map(|sample| sample.at_ms).chain([until_ms]);
    for (sample, next) in samples.iter().zip(ends) {
        let end = next.min(sample.at_ms.saturating_add(hold)).min(until_ms);
        let counted = counted(sample.at_ms.max(from_ms), end, &exclude);
        if let Some(time) = times.get_mut(index(sample.status)) {
            *time = time.saturating_add(counted);
        }
    }
    let [ok_ms, warning_ms, critical_ms, unknown_ms] = times;
    let measured: u64 = times.iter().sum();
    let excluded_ms: u64 = exclude.iter().map(|part| part.until_ms - part.from_ms).sum();
    let all = until_ms.saturating_sub(from_ms).saturating_sub(excluded_ms);
    Availability {
        agent: meta.agent.clone(),
        check: meta.check.clone(),
        // Below 2^53 for 285,000 years.
        percent: (measured > 0).then(|| ok_ms as f64 / measured as f64 * 100.0),
        ok_ms,
        warning_ms,
        critical_ms,
        unknown_ms,
        unmeasured_ms: all.saturating_sub(measured),
        excluded_ms,
    }
}

fn index(status: Status) -> usize {
    match status {
        Status::Ok => 0,
        Status::Warning => 1,
        Status::Critical => 2,
        Status::Unknown => 3,
    }
}

/// Three times the median time between results: two that were left out are no gap.
pub(crate) fn hold(samples: &[Sample]) -> u64 {
    let pairs = samples.iter().zip(samples.iter().skip(1));
    let mut gaps: Vec<u64> = pairs.map(|(a, b)| b.at_ms.saturating_sub(a.at_ms)).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).map_or(u64::MAX, |median| median.saturating_mul(3))
}

/// The excluded times within the range, apart from one another and in order.
fn merged(exclude: &[Excluded], from_ms: u64, until_ms: u64) -> Vec<Excluded> {
    let within = |part: &Excluded| Excluded {
        from_ms: part.from_ms.clamp(from_ms, until_ms.max(from_ms)),
        until_ms: part.until_ms.clamp(from_ms, until_ms.max(from_ms)),
    };
    let mut parts: Vec<Excluded> =
        exclude.iter().map(within).filter(|part| part.from_ms < part.until_ms).collect();
    parts.sort_by_key(|part| part.from_ms);
    let mut merged: Vec<Excluded> = Vec::with_capacity(parts.len());
    for part in parts {
        match merged.last_mut() {
            Some(last) if part.from_ms <= last.until_ms => last.until_ms = last.until_ms.max(part.until_ms),
            _ => merged.push(part),
        }
    }
    merged
}

/// Time from `from` to `until` that is not excluded.
fn counted(from: u64, until: u64, exclude: &[Excluded]) -> u64 {
    let overlap = |part: &Excluded| part.until_ms.min(until).saturating_sub(part.from_ms.max(from));
    until.saturating_sub(from).saturating_sub(exclude.iter().map(overlap).sum())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::{AgentId, CheckName};

    use super::*;
    use crate::{
        core::timeline,
        store::{SeriesId, series::points},
    };

    fn meta() -> SeriesMeta {
        SeriesMeta {
            id: SeriesId { results: 0, metric: 0 },
            agent: AgentId::new("a").unwrap(),
            check: CheckName::new("b").unwrap(),
            metric: String::new(),
            unit: None,
        }
    }

    fn samples(of: &[(u64, Status)]) -> Vec<Sample> {
        of.iter().map(|(at_ms, status)| Sample { at_ms: *at_ms, value: 1.0, status: *status }).collect()
    }

    #[test]
    fn the_range_and_the_points_decide_what_is_read() {
        const HOUR: u64 = 3_600_000;
        for (range, points, expected) in [
            (HOUR, 500, None),
            (41 * HOUR, 500, None),
            (42 * HOUR, 500, Some(Resolution::FiveMinutes)),
            (400 * HOUR, 500, Some(Resolution::FiveMinutes)),
            (365 * 24 * HOUR, 500, Some(Resolution::Hour)),
            (0, 0, None),
            (u64::MAX, 1, Some(Resolution::Hour)),
        ] {
            assert_eq!(resolution(range, points), expected, "{range} {points}");
        }
    }

    #[test]
    fn a_verdict_holds_until_the_next_but_not_for_ever() {
        use Status::{Critical, Ok, Warning};
        let results = samples(&[
            (0, Ok),
            (10, Critical),
            (20, Ok),
            (30, Warning),
            (40, Ok),
            (50, Ok),
            (200, Ok),
            (210, Ok),
        ]);
        let found = availability(&meta(), &results, (5, 220), &[]);
        // 50 holds three times ten, to 80; nothing is known from there to 200.
        assert_eq!(
            (found.ok_ms, found.critical_ms, found.warning_ms, found.unmeasured_ms),
            (5 + 10 + 10 + 30 + 20, 10, 10, 120)
        );
        assert!((found.percent.unwrap() - 75.0 / 95.0 * 100.0).abs() < 1e-9);
        let out = |from_ms, until_ms| Excluded { from_ms, until_ms };
        let found =
            availability(&meta(), &results, (5, 220), &[out(8, 15), out(12, 21), out(500, 600), out(3, 1)]);
        assert_eq!((found.ok_ms, found.critical_ms, found.excluded_ms), (3 + 9 + 40 + 20 - 10 + 10, 0, 13));
        let nothing = availability(&meta(), &[], (0, 100), &[]);
        assert_eq!((nothing.percent, nothing.unmeasured_ms), (None, 100));
    }

    proptest! {
        #[test]
        fn all_time_is_accounted_for(
            gaps in prop::collection::vec((0u64..100, 0usize..4), 0..40), range in (0u64..500, 0u64..3000),
            exclude in prop::collection::vec((0u64..3000, 0u64..3000), 0..6), width in 1u64..500,
        ) {
            let statuses = [Status::Ok, Status::Warning, Status::Critical, Status::Unknown];
            let mut at = 0;
            let of: Vec<_> = gaps.iter().map(|(gap, status)| { at += gap; (at, statuses[*status]) }).collect();
            let results = samples(&of);
            let exclude: Vec<_> = exclude.iter().map(|(from_ms, until_ms)| Excluded { from_ms: *from_ms, until_ms: *until_ms }).collect();
            let (from, until) = (range.0, range.0 + range.1);
            let found = availability(&meta(), &results, (from, until), &exclude);
            let sum = found.ok_ms + found.warning_ms + found.critical_ms + found.unknown_ms + found.unmeasured_ms + found.excluded_ms;
            prop_assert_eq!(sum, until - from);
            if exclude.is_empty() {
                let runs = timeline::runs(&results, (from, until));
                let of = |status| {
                    let own = runs.iter().filter(|run| run.status == status);
                    own.map(|run| run.until_ms - run.from_ms).sum::<u64>()
                };
                prop_assert_eq!(
                    (of(Some(Status::Ok)), of(Some(Status::Critical)), of(None)),
                    (found.ok_ms, found.critical_ms, found.unmeasured_ms)
                );
                prop_assert!(runs.windows(2).all(|pair| pair[0].until_ms == pair[1].from_ms
                    && pair[0].status != pair[1].status && pair[0].from_ms < pair[0].until_ms));
            }
            let thin = thinned(points(&results, Resolution::FiveMinutes), 0, width * 1000);
            let count: u64 = thin.iter().map(|point| point.statuses.iter().sum::<u64>()).sum();
            prop_assert_eq!(count, results.len() as u64);
        }
    }
}
