//! `dogwatch predict`: what was, what comes, and where it will be with 95 % probability.

use std::io::{self, Write};

use protocol::{
    duration::millis,
    predict::{Anomaly, Prediction, Step, TimeTo},
    timestamp,
};
use service_kit::now_ms;

use super::{http::Client, query::sparkline_between};
use crate::{
    args::{Format, PredictArgs},
    output::{self, Column},
};

/// Characters of the drawing: as many as `graph` has.
const WIDTH: usize = 60;
/// Lines of the table of a forecast.
const ROWS: usize = 12;

const STEPS: [Column<Step>; 4] = [
    Column { title: "WHEN", cell: |step, _| timestamp::format(step.at_ms) },
    Column { title: "EXPECTED", cell: |step, _| short(step.value) },
    Column { title: "LOW", cell: |step, _| short(step.lower) },
    Column { title: "HIGH", cell: |step, _| short(step.upper) },
];

const ANOMALIES: [Column<Anomaly>; 4] = [
    Column { title: "WHEN", cell: |anomaly, _| timestamp::format(anomaly.at_ms) },
    Column { title: "SCORE", cell: |anomaly, _| format!("{:.2}", anomaly.score) },
    Column { title: "VALUE", cell: |anomaly, _| short(anomaly.value) },
    Column { title: "WHY", cell: |anomaly, _| anomaly.why.clone() },
];

/// # Errors
/// [`super::http::ClientError`].
pub(crate) async fn predict(args: &PredictArgs) -> anyhow::Result<()> {
    let client = Client::open(&args.common)?;
    let mut query = vec![("agent", args.agent.to_string()), ("check", args.check.to_string())];
    query.extend(args.metric.iter().map(|metric| ("metric", metric.clone())));
    query.push(("horizon_ms", millis(args.horizon).to_string()));
    let history = args.history.unwrap_or(args.horizon);
    query.push(("history_ms", millis(history).to_string()));
    query.extend(args.limit.iter().map(|limit| ("limit", limit.to_string())));
    let prediction: Prediction = client.get(&["api", "v1", "query", "predict"], &query).await?;
    if args.common.output != Format::Table {
        return output::print(&[prediction], &[], args.common.output);
    }
    let mut out = io::stdout();
    out.write_all(drawn(&prediction, now_ms()).as_bytes())?;
    if let Some(forecast) = &prediction.forecast {
        writeln!(out, "forecast: {}\n", output::shown(&forecast.why))?;
        let each = forecast.steps.len().div_ceil(ROWS).max(1);
        let mut rows: Vec<Step> =
            forecast.steps.chunks(each).filter_map(|part| part.last().copied()).collect();
        rows.truncate(ROWS);
        if !rows.is_empty() {
            output::print(&rows, &STEPS, Format::Table)?;
        }
    }
    if let Some(time_to) = &prediction.time_to {
        writeln!(out, "\n{}", reached(time_to))?;
    }
    if !prediction.anomalies.is_empty() {
        writeln!(out, "\nunusual:")?;
        output::print(&prediction.anomalies, &ANOMALIES, Format::Table)?;
    }
    Ok(())
}

fn reached(time_to: &TimeTo) -> String {
    let TimeTo { limit, hours, earliest, latest, unknown, why } = time_to;
    let far = |hours: &Option<f64>| hours.map_or("never soon".to_owned(), |hours| format!("{hours:.1} h"));
    let when = match hours {
        _ if *unknown => "nobody knows when".to_owned(),
        Some(hours) => format!("in {hours:.1} h (between {} and {})", far(earliest), far(latest)),
        None => "not within 14 days".to_owned(),
    };
    output::shown(&format!("{limit}: {when}: {why}"))
}

/// History and forecast in one line, between the same least and most; above and below it the band.
fn drawn(prediction: &Prediction, now_ms: u64) -> String {
    let steps = prediction.forecast.as_ref().map(|forecast| forecast.steps.as_slice()).unwrap_or_default();
    let from_ms = prediction.history.first().map_or(now_ms, |value| value.at_ms);
    let until_ms = steps.last().map_or(now_ms, |step| step.at_ms).max(now_ms);
    let cells = |points: &mut dyn Iterator<Item = (u64, f64)>| spread(points, from_ms, until_ms);
    let history = cells(&mut prediction.history.iter().map(|value| (value.at_ms, value.value)));
    let expected = cells(&mut steps.iter().map(|step| (step.at_ms, step.value)));
    let low = cells(&mut steps.iter().map(|step| (step.at_ms, step.lower)));
    let high = cells(&mut steps.iter().map(|step| (step.at_ms, step.upper)));
    let middle: Vec<Option<f64>> = history.iter().zip(&expected).map(|(was, comes)| was.or(*comes)).collect();
    let all = || middle.iter().chain(&low).chain(&high).flatten().copied();
    let (least, most) = (all().fold(f64::NAN, f64::min), all().fold(f64::NAN, f64::max));
    if least.is_nan() {
        return "nothing was measured in this time\n".to_owned();
    }
    let unit = prediction.unit.as_deref().map(output::shown).unwrap_or_default();
    let line = |name: &str, cells: &[Option<f64>]| {
        format!("{name:<9} {}\n", sparkline_between(cells, least, most).trim_end())
    };
    let mut text = String::new();
    if !steps.is_empty() {
        text.push_str(&line("high", &high));
    }
    text.push_str(&line("value", &middle));
    if !steps.is_empty() {
        text.push_str(&line("low", &low));
    }
    let now = place(now_ms, from_ms, until_ms);
    text.push_str(&format!(
        "{:<9} {}^ now\n{} to {} {unit}\n\n",
        "",
        " ".repeat(now),
        short(least),
        short(most)
    ));
    text
}

fn place(at_ms: u64, from_ms: u64, until_ms: u64) -> usize {
    let whole = u128::from(until_ms.saturating_sub(from_ms)).max(1);
    let part = u128::from(at_ms.saturating_sub(from_ms)) * (WIDTH as u128 - 1);
    usize::try_from(part / whole).unwrap_or(WIDTH).min(WIDTH - 1)
}

/// Means in cells of equal time; a cell without one takes its neighbour's, between the first and the last.
fn spread(points: &mut dyn Iterator<Item = (u64, f64)>, from_ms: u64, until_ms: u64) -> Vec<Option<f64>> {
    let mut cells = vec![(0.0, 0_u32); WIDTH];
    for (at_ms, value) in points.filter(|(_, value)| value.is_finite()) {
        if let Some((sum, count)) = cells.get_mut(place(at_ms, from_ms, until_ms)) {
            *sum += value;
            *count += 1;
        }
    }
    let last = cells.iter().rposition(|(_, count)| *count > 0).unwrap_or_default();
    let mut before = None;
    let means = cells.into_iter().enumerate().map(|(index, (sum, count))| {
        if count > 0 {
            before = Some(sum / f64::from(count));
        }
        before.filter(|_| index <= last)
    });
    means.collect()
}

/// Four significant figures are enough to read.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use protocol::predict::{Forecast, Limit, Value};

    use super::*;

    #[test]
    fn history_and_forecast_are_drawn_on_one_scale() {
        let history = (0..60).map(|n| Value { at_ms: n * 1_000, value: n as f64 }).collect();
        let steps = (60..120).map(|n| {
            let value = n as f64;
            Step { at_ms: n * 1_000, value, lower: value - 10.0, upper: value + 10.0 }
        });
        let forecast = Some(Forecast { steps: steps.collect(), why: "a line".to_owned() });
        let prediction = Prediction { history, forecast, ..Prediction::default() };
        let text = drawn(&prediction, 59_000);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("high")
                && lines[1].starts_with("value     ▁")
                && lines[2].starts_with("low")
        );
        assert!(lines[0].ends_with('█') && !lines[2].ends_with('█'), "{text}");
        assert_eq!(lines[3].find('^'), Some(10 + 29));
        assert!(text.contains("1 to 129"), "{text}");
        assert!(drawn(&Prediction::default(), 5).contains("nothing was measured"));
    }

    #[test]
    fn a_time_is_said_in_words() {
        let time_to = |hours, unknown| TimeTo {
            limit: Limit::Above(95.0),
            hours,
            earliest: hours,
            latest: None,
            unknown,
            why: "at 90".to_owned(),
        };
        assert_eq!(
            reached(&time_to(Some(5.25), false)),
            "> 95: in 5.2 h (between 5.2 h and never soon): at 90"
        );
        assert_eq!(reached(&time_to(None, false)), "> 95: not within 14 days: at 90");
        assert_eq!(reached(&time_to(None, true)), "> 95: nobody knows when: at 90");
    }
}
