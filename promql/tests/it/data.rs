//! Samples to ask about, and a source that has them in memory.

use promql::{Error, Labels, Limits, Meter, NAME, Query, Sample, Selection, Semantics, Series, Source};

/// When the samples of [`fleet`] begin, in milliseconds since 1970: a full hour.
pub(crate) const START: i64 = 1_794_002_400_000;
pub(crate) const HOUR: i64 = 3_600_000;

pub(crate) struct Memory(pub(crate) Vec<Series>);

impl Source for Memory {
    fn select(&self, selection: &Selection<'_>, meter: &Meter<'_>) -> Result<Vec<Series>, Error> {
        let mut found = Vec::new();
        for series in &self.0 {
            let fits = |matcher: &promql::Matcher| {
                matcher.matches(series.labels.get(matcher.name()).unwrap_or_default())
            };
            if !selection.matchers.iter().all(fits) {
                continue;
            }
            let wanted = selection.from_ms..=selection.until_ms;
            let samples: Vec<Sample> =
                series.samples.iter().filter(|sample| wanted.contains(&sample.t_ms)).copied().collect();
            meter.spend(samples.len())?;
            found.push(Series { labels: series.labels.clone(), samples });
        }
        Ok(found)
    }
}

pub(crate) fn series(
    name: &str,
    labels: &[(&str, &str)],
    samples: impl IntoIterator<Item = (i64, f64)>,
) -> Series {
    let labels: Labels = labels.iter().copied().chain([(NAME, name)]).collect();
    Series { labels, samples: samples.into_iter().map(|(t_ms, value)| Sample { t_ms, value }).collect() }
}

/// Numbers that look random and are the same in each run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0 to 1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Three hours of a small fleet: counters with resets, gauges with gaps, odd numbers, series that come and go.
pub(crate) fn fleet() -> Vec<Series> {
    let mut all = Vec::new();
    let mut numbers = Numbers::new(7);
    let jittered = |every: i64, numbers: &mut Numbers| -> Vec<i64> {
        (0..3 * HOUR / every).map(|n| START + n * every + (numbers.next() * 900.0) as i64).collect()
    };
    for host in ["a", "b", "c"] {
        for path in ["/x", "/y"] {
            let mut count = 0.0;
            let samples = jittered(15_000, &mut numbers).into_iter().map(|t| {
                count = if numbers.next() < 0.01 { 0.0 } else { count + (numbers.next() * 40.0).floor() };
                (t, count)
            });
            all.push(series(
                "requests_total",
                &[("host", host), ("path", path)],
                samples.collect::<Vec<_>>(),
            ));
        }
        for zone in ["north", "south"] {
            let mut level = numbers.next() * 100.0 - 50.0;
            let times = jittered(30_000, &mut numbers);
            let samples =
                times.into_iter().enumerate().filter(|(n, _)| !(100..130).contains(n)).map(|(_, t)| {
                    level += numbers.next() * 4.0 - 2.0;
                    (t, (level * 10.0).round() / 10.0)
                });
            all.push(series("temperature", &[("host", host), ("zone", zone)], samples.collect::<Vec<_>>()));
        }
        let weight = f64::from(host.as_bytes()[0]) - 90.5;
        let every_minute = (0..180).map(|n| START + n * 60_000);
        all.push(series(
            "aligned",
            &[("host", host)],
            every_minute.clone().map(|t| (t, weight * ((t / 60_000) % 7) as f64)),
        ));
        all.push(series(
            "info",
            &[("host", host), ("role", if host == "a" { "db" } else { "web" })],
            every_minute.map(|t| (t, 1.0)),
        ));
    }
    let every_minute = || (0..180).map(|n| START + n * 60_000);
    for (zone, weight) in [("north", 2.5), ("south", -4.0)] {
        all.push(series("weight", &[("zone", zone)], every_minute().map(move |t| (t, weight))));
    }
    let odd = [
        f64::NAN,
        1.0,
        f64::INFINITY,
        0.0,
        f64::NEG_INFINITY,
        -0.0,
        1e308,
        -1e308,
        1e-300,
        9_007_199_254_740_993.0,
    ];
    for (place, first) in odd.iter().enumerate() {
        let place_text = place.to_string();
        all.push(series("odd", &[("n", &place_text)], every_minute().map(|t| (t, *first))));
        // Without what overflows: Prometheus 2 makes NaN of that, Prometheus 3 infinity.
        let tame: Vec<f64> = odd.iter().copied().filter(|number| number.abs() != 1e308).collect();
        let turning = every_minute().enumerate().map(move |(n, t)| (t, tame[(n + place) % tame.len()]));
        all.push(series("turning", &[("n", &place_text)], turning));
    }
    all.push(series("constant", &[], every_minute().map(|t| (t, 5.0))));
    all.push(series("late", &[("host", "a")], every_minute().skip(90).map(|t| (t, 3.0))));
    all.push(series("early", &[("host", "a")], every_minute().take(60).map(|t| (t, 4.0))));
    all.push(series("single", &[], [(START + HOUR, 42.0)]));
    all.push(series("moment", &[], every_minute().map(|t| (t, (t / 1000) as f64 * 1.01 - 3e7))));
    all.push(series(
        "slow_total",
        &[],
        (0..18).map(|n| (START + n * 600_000 + 1234, f64::from(n as i32) * 3.0 + 1.0)),
    ));
    all
}

pub(crate) fn meter() -> Meter<'static> {
    Meter::new(Limits { samples: 10_000_000, series: 10_000, stop: &|| None })
}

pub(crate) fn at(t_ms: i64) -> Query {
    Query {
        start_ms: t_ms,
        end_ms: t_ms,
        step_ms: None,
        lookback_ms: 300_000,
        semantics: Semantics::Prometheus3,
    }
}

pub(crate) fn over(start_ms: i64, end_ms: i64, step_ms: i64) -> Query {
    Query { end_ms, step_ms: Some(step_ms), ..at(start_ms) }
}
