//! `dogwatch query`, `graph` and `availability`: numbers over time.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use protocol::{
    duration::millis,
    series::{Availability, AvailabilityList, AvailabilityQuery, SeriesHistory, SeriesPoint},
};
use serde::{Deserialize, Serialize};
use service_kit::now_ms;

use super::http::Client;
use crate::{
    args::{AvailabilityArgs, Format, GraphArgs, QueryArgs},
    output::{self, Column, age},
};

/// An answer of Prometheus' HTTP API.
#[derive(Deserialize)]
struct Answered {
    data: Data,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar((f64, String)),
    String((f64, String)),
    Vector(Vec<InVector>),
    Matrix(Vec<InMatrix>),
}

#[derive(Deserialize)]
struct InVector {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

#[derive(Deserialize)]
struct InMatrix {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

/// One series: its labels, and values as (seconds since 1970, number as text).
#[derive(Serialize)]
struct Row {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

const SERIES: [Column<Row>; 3] = [
    Column { title: "SERIES", cell: |row, _| labels(&row.metric) },
    Column {
        title: "VALUE",
        cell: |row, _| row.values.last().map(|last| last.1.clone()).unwrap_or_default(),
    },
    Column {
        title: "GRAPH",
        cell: |row, _| {
            let numbers: Vec<Option<f64>> = row.values.iter().map(|(_, text)| text.parse().ok()).collect();
            if numbers.len() < 2 { String::new() } else { sparkline(&numbers) }
        },
    },
];

fn labels(metric: &BTreeMap<String, String>) -> String {
    let pairs = metric.iter().filter(|(name, _)| *name != "__name__");
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{}{{{}}}", metric.get("__name__").map_or("", String::as_str), pairs.join(","))
}

/// # Errors
/// [`super::http::ClientError`], as for all of these.
pub(crate) async fn query(args: &QueryArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let mut parameters = vec![("query", args.expression.clone())];
    let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let now = now_ms();
    let endpoint = match args.range {
        None => {
            parameters.push(("time", seconds(now)));
            "query"
        }
        Some(range) => {
            let step = args.step.map_or_else(|| (millis(range) / 60).max(1000), millis);
            parameters.push(("start", seconds(now.saturating_sub(millis(range)))));
            parameters.push(("end", seconds(now)));
            parameters.push(("step", seconds(step)));
            "query_range"
        }
    };
    let path = ["prometheus", "api", "v1", endpoint];
    let Answered { data } = client.get(&path, &parameters).await?;
    let rows: Vec<Row> = match data {
        Data::Scalar(value) | Data::String(value) => {
            vec![Row { metric: BTreeMap::new(), values: vec![value] }]
        }
        Data::Vector(rows) => {
            rows.into_iter().map(|row| Row { metric: row.metric, values: vec![row.value] }).collect()
        }
        Data::Matrix(rows) => {
            rows.into_iter().map(|row| Row { metric: row.metric, values: row.values }).collect()
        }
    };
    output::print(&rows, &SERIES, args.common.output)
}

const POINTS: [Column<SeriesPoint>; 6] = [
    Column { title: "AGE", cell: |point, now| age(point.at_ms, now) },
    Column { title: "MIN", cell: |point, _| number(point.min) },
    Column { title: "MEAN", cell: |point, _| number(point.mean) },
    Column { title: "MAX", cell: |point, _| number(point.max) },
    Column { title: "RESULTS", cell: |point, _| (point.ok + not_ok(point)).to_string() },
    Column { title: "NOT OK", cell: |point, _| not_ok(point).to_string() },
];

fn number(number: Option<f64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn not_ok(point: &SeriesPoint) -> u64 {
    point.warning + point.critical + point.unknown
}

pub(crate) async fn graph(args: &GraphArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let (from_ms, until_ms) = range(args.range);
    let mut query = vec![("agent", args.agent.to_string()), ("check", args.check.to_string())];
    query.extend(args.metric.iter().map(|metric| ("metric", metric.clone())));
    query.extend([("from_ms", from_ms.to_string()), ("until_ms", until_ms.to_string())]);
    query.push(("points", args.points.to_string()));
    let history: SeriesHistory = client.get(&["api", "v1", "query", "series"], &query).await?;
    if args.common.output == Format::Table {
        let means: Vec<Option<f64>> = history.points.iter().map(|point| point.mean).collect();
        let line = sparkline(&means);
        if !line.is_empty() {
            let unit = output::shown(history.unit.as_deref().unwrap_or_default());
            let numbers = || means.iter().flatten().copied();
            let (least, most) = (numbers().fold(f64::NAN, f64::min), numbers().fold(f64::NAN, f64::max));
            writeln!(io::stdout(), "{line}  {least} to {most} {unit}\n")?;
        }
    }
    output::print(&history.points, &POINTS, args.common.output)
}

const AVAILABILITY: [Column<Availability>; 7] = [
    Column { title: "HOST", cell: |row, _| row.agent.to_string() },
    Column { title: "CHECK", cell: |row, _| row.check.to_string() },
    Column {
        title: "OK",
        cell: |row, _| row.percent.map(|percent| format!("{percent:.3} %")).unwrap_or_default(),
    },
    Column { title: "WARNING", cell: |row, _| span(row.warning_ms) },
    Column { title: "CRITICAL", cell: |row, _| span(row.critical_ms) },
    Column { title: "UNKNOWN", cell: |row, _| span(row.unknown_ms) },
    Column { title: "NOT MEASURED", cell: |row, _| span(row.unmeasured_ms) },
];

fn span(ms: u64) -> String {
    if ms == 0 { String::new() } else { protocol::duration::format(Duration::from_secs(ms.div_ceil(1000))) }
}

pub(crate) async fn availability(args: &AvailabilityArgs) -> anyhow::Result<()> {
    let (from_ms, until_ms) = range(args.range);
    let exclude = args.exclude.clone();
    let query = AvailabilityQuery {
        agent: args.agent.clone(),
        check: args.check.clone(),
        from_ms,
        until_ms,
        exclude,
    };
    let client = Client::open(&args.common)?;
    let list: AvailabilityList = client.post(&["api", "v1", "query", "availability"], &query).await?;
    output::print(&list.checks, &AVAILABILITY, args.common.output)
}

/// From so long ago until now.
fn range(range: Duration) -> (u64, u64) {
    let now = now_ms();
    (now.saturating_sub(millis(range).max(1)), now)
}

/// One character for each number, at most 60: of more, the mean of neighbours.
fn sparkline(numbers: &[Option<f64>]) -> String {
    let size = numbers.len().div_ceil(60).max(1);
    let mean = |part: &[Option<f64>]| {
        let there: Vec<f64> = part.iter().flatten().copied().filter(|number| number.is_finite()).collect();
        (!there.is_empty()).then(|| there.iter().sum::<f64>() / there.len() as f64)
    };
    let parts: Vec<Option<f64>> = numbers.chunks(size).map(mean).collect();
    let there = || parts.iter().flatten().copied();
    let (least, most) = (there().fold(f64::NAN, f64::min), there().fold(f64::NAN, f64::max));
    if least.is_nan() { String::new() } else { sparkline_between(&parts, least, most) }
}

/// One character for each number.
pub(super) fn sparkline_between(parts: &[Option<f64>], least: f64, most: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |part: &Option<f64>| {
        let Some(number) = part else { return ' ' };
        let height = if most > least { (number - least) / (most - least) * 7.0 } else { 3.0 };
        BARS.get(height.round() as usize).copied().unwrap_or(' ')
    };
    parts.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_spans_from_the_least_to_the_most() {
        assert_eq!(sparkline(&[Some(0.0), None, Some(7.0), Some(3.0)]), "▁ █▄");
        assert_eq!(sparkline(&[Some(5.0), Some(5.0)]), "▄▄");
        assert_eq!(sparkline(&[None, Some(f64::NAN), Some(f64::INFINITY)]), "");
        assert_eq!(sparkline(&[]), "");
        let many: Vec<Option<f64>> = (0..100_000).map(|n| Some(f64::from(n))).collect();
        assert!((50..=60).contains(&sparkline(&many).chars().count()));
    }

    #[test]
    fn answers_of_every_kind_are_read() {
        for text in [
            r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"2"]}}"#,
            r#"{"status":"success","data":{"resultType":"string","result":[1,"a"]}}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"NaN"]}]}}"#,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"],[2,"3"]]}]}}"#,
        ] {
            assert!(serde_json::from_str::<Answered>(text).is_ok(), "{text}");
        }
    }
}
