//! `dogwatch query`, `graph` and `availability`: numbers over time.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use protocol::{
    attend::SilenceList,
    cron::{self, Cron, CronError},
    duration::millis,
    operate::Silence,
    series::{
        Availability, AvailabilityList, AvailabilityQuery, Excluded, SeriesHistory, SeriesPoint, StatusRun,
        Timeline, Top, TopList,
    },
};
use serde::{Deserialize, Serialize};
use service_kit::now_ms;

use super::http::Client;
use crate::{
    Usage,
    args::{AvailabilityArgs, Format, GraphArgs, QueryArgs, TimelineArgs, TopArgs},
    output::{self, Column, age, note},
};

/// An answer of Prometheus' HTTP API.
#[derive(Deserialize)]
struct Answered {
    data: Data,
    #[serde(default)]
    warnings: Vec<String>,
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
    let Answered { data, warnings } = client.get(&path, &parameters).await?;
    warnings.iter().for_each(|warning| note(&format!("dogwatch: {}", output::shown(warning))));
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
    let client = Client::open(&args.common)?;
    let (from_ms, until_ms) = range(args.range);
    let mut exclude = args.exclude.clone();
    if !args.exclude_silence.is_empty() {
        let SilenceList { silences } = client.get(&["api", "v1", "silences"], &[]).await?;
        for name in &args.exclude_silence {
            let silence = silences.iter().map(|info| &info.silence).find(|silence| silence.name == *name);
            let silence = silence.ok_or_else(|| Usage(format!("there is no silence {name}")))?;
            exclude.extend(windows(silence, (from_ms, until_ms))?);
        }
    }
    let query = AvailabilityQuery {
        agent: args.agent.clone(),
        check: args.check.clone(),
        from_ms,
        until_ms,
        exclude,
    };
    let list: AvailabilityList = client.post(&["api", "v1", "query", "availability"], &query).await?;
    output::print(&list.checks, &AVAILABILITY, args.common.output)
}

const TIMELINE: [Column<StatusRun>; 4] = [
    Column { title: "FROM", cell: |run, _| output::time(run.from_ms) },
    Column {
        title: "STATUS",
        cell: |run, _| run.status.map_or_else(|| "not measured".to_owned(), |status| status.to_string()),
    },
    Column { title: "FOR", cell: |run, _| span(run.until_ms.saturating_sub(run.from_ms)) },
    Column { title: "RESULTS", cell: |run, _| run.results.to_string() },
];

pub(crate) async fn timeline(args: &TimelineArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let (mut from_ms, until_ms) = range(args.range);
    let mut runs: Vec<StatusRun> = Vec::new();
    loop {
        let query = [
            ("agent", args.agent.to_string()),
            ("check", args.check.to_string()),
            ("from_ms", from_ms.to_string()),
            ("until_ms", until_ms.to_string()),
        ];
        let page: Timeline = client.get(&["api", "v1", "query", "timeline"], &query).await?;
        runs.extend(page.runs);
        match page.next_ms {
            Some(next) if next > from_ms => from_ms = next,
            _ => break,
        }
    }
    output::print(&runs, &TIMELINE, args.common.output)
}

const TOP: [Column<Top>; 2] = [
    Column { title: "HOST", cell: |row, _| row.agent.to_string() },
    Column {
        title: "VALUE",
        cell: |row, _| format!("{} {}", row.value, row.unit.as_deref().unwrap_or_default()),
    },
];

pub(crate) async fn top(args: &TopArgs) -> anyhow::Result<()> {
    let (from_ms, until_ms) = range(args.range);
    let mut query = vec![
        ("check", args.check.to_string()),
        ("from_ms", from_ms.to_string()),
        ("until_ms", until_ms.to_string()),
        ("by", args.by.clone()),
        ("lowest", args.lowest.to_string()),
        ("limit", args.limit.to_string()),
    ];
    query.extend(args.metric.iter().map(|metric| ("metric", metric.clone())));
    let list: TopList = Client::open(&args.common)?.get(&["api", "v1", "query", "top"], &query).await?;
    note(&format!("{} of {} hosts", list.hosts.len(), list.of));
    output::print(&list.hosts, &TOP, args.common.output)
}

/// The times within the range in which the silence mutes.
fn windows(silence: &Silence, (from_ms, until_ms): (u64, u64)) -> Result<Vec<Excluded>, Usage> {
    const MOST: usize = 1_000;
    let (starts, ends) = (silence.starts.unwrap_or(0), silence.ends.unwrap_or(u64::MAX));
    let (Some(cron), Some(length)) = (&silence.cron, silence.duration) else {
        return Ok(vec![Excluded { from_ms: starts, until_ms: ends }]);
    };
    let wrong =
        |reason: String| Usage(format!("the times of silence {} cannot be read: {reason}", silence.name));
    let cron: Cron = cron.parse().map_err(|error: CronError| wrong(error.to_string()))?;
    let zone = cron::zone(silence.timezone.as_deref().unwrap_or("UTC"));
    let zone = zone.map_err(|error| wrong(error.to_string()))?;
    let mut found = Vec::new();
    // A window that began before the range reaches into it.
    let mut after = from_ms.saturating_sub(millis(length)).max(starts);
    while let Some(begin) = cron.next_after(after, &zone).filter(|begin| *begin < until_ms.min(ends)) {
        found.push(Excluded { from_ms: begin, until_ms: begin.saturating_add(millis(length)).min(ends) });
        if found.len() > MOST {
            return Err(wrong(format!(
                "it has more than {MOST} windows in this range: choose a shorter one"
            )));
        }
        after = begin;
    }
    Ok(found)
}

/// From so long ago until now.
fn range(range: Duration) -> (u64, u64) {
    let now = now_ms();
    (now.saturating_sub(millis(range).max(1)), now)
}

/// One character for each number, at most 60: of more, the mean of neighbours.
fn sparkline(numbers: &[Option<f64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let size = numbers.len().div_ceil(60).max(1);
    let mean = |part: &[Option<f64>]| {
        let there: Vec<f64> = part.iter().flatten().copied().filter(|number| number.is_finite()).collect();
        (!there.is_empty()).then(|| there.iter().sum::<f64>() / there.len() as f64)
    };
    let parts: Vec<Option<f64>> = numbers.chunks(size).map(mean).collect();
    let there = || parts.iter().flatten().copied();
    let (least, most) = (there().fold(f64::NAN, f64::min), there().fold(f64::NAN, f64::max));
    if least.is_nan() {
        return String::new();
    }
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
    fn a_silence_excludes_the_times_in_which_it_mutes() {
        const HOUR: u64 = 3_600_000;
        let silence = |fields: &str| serde_json::from_str(&format!(r#"{{"name":"n"{fields}}}"#)).unwrap();
        let found = |fields: &str, range| -> Vec<(u64, u64)> {
            let windows = windows(&silence(fields), range).unwrap();
            windows.iter().map(|one| (one.from_ms / HOUR, one.until_ms / HOUR)).collect()
        };
        let once = r#","starts":"1970-01-01T03:00:00Z","ends":"1970-01-01T05:00:00Z""#;
        assert_eq!(found(once, (0, HOUR)), [(3, 5)]);
        let nightly = r#","cron":"0 2 * * *","duration":"2h""#;
        assert_eq!(found(nightly, (3 * HOUR, 60 * HOUR)), [(2, 4), (26, 28), (50, 52)]);
        let until = r#","cron":"0 2 * * *","duration":"2h","ends":"1970-01-02T03:00:00Z""#;
        assert_eq!(found(until, (0, 60 * HOUR)), [(2, 4), (26, 27)]);
        let often = silence(r#","cron":"* * * * *","duration":"1s""#);
        assert!(windows(&often, (0, 60 * HOUR)).is_err());
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
