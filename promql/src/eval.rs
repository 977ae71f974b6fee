//! The tree, part by part.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use promql_parser::parser::{
    AtModifier, Expr, MatrixSelector, Offset, SubqueryExpr, VectorSelector, value::ValueType,
};

use crate::{
    Answer, Error, Expression, Labels, Matcher, Meter, Point, Sample, Selection, Series, Source, Want,
    aggregate, binary, call, is_stale,
    limits::MAX_POINTS,
    parse,
    value::{Grid, Row, Value, present},
};

/// Where the Prometheus versions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Semantics {
    /// A range holds its first moment. Until Prometheus 2.
    Prometheus2,
    /// A range begins after its first moment, and `rate` goes half an interval at most towards a counter's zero.
    #[default]
    Prometheus3,
}

/// When to evaluate, and how.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// Milliseconds since 1970.
    pub start_ms: i64,
    /// Not before `start_ms`.
    pub end_ms: i64,
    /// `None` for one moment, `start_ms`.
    pub step_ms: Option<i64>,
    /// How old a sample may be to count as current, in milliseconds.
    pub lookback_ms: i64,
    pub semantics: Semantics,
}

/// Step of a subquery that gives none, as in Prometheus.
const SUBQUERY_STEP_MS: i64 = 60_000;

/// # Errors
/// [`Error`].
pub fn evaluate(
    expression: &Expression,
    query: &Query,
    source: &dyn Source,
    meter: &Meter<'_>,
) -> Result<Answer, Error> {
    let grid = grid(query)?;
    let evaluator =
        Evaluator { source, meter, query, start_ms: grid.start_ms, end_ms: grid.last().max(query.end_ms) };
    let expr = &expression.0;
    if query.step_ms.is_some() { evaluator.range(expr, &grid) } else { evaluator.instant(expr, &grid) }
}

fn grid(query: &Query) -> Result<Grid, Error> {
    let Some(step_ms) = query.step_ms else {
        return Ok(Grid { start_ms: query.start_ms, step_ms: 0, count: 1 });
    };
    if step_ms <= 0 {
        return Err(Error::bad(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. \
             Try a positive integer",
        ));
    }
    let range = query.end_ms.checked_sub(query.start_ms).and_then(|range| u64::try_from(range).ok());
    let Some(range) = range else {
        return Err(Error::bad("invalid parameter \"end\": end timestamp must not be before start time"));
    };
    let steps = range / step_ms.unsigned_abs();
    if steps > MAX_POINTS {
        return Err(Error::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
             (?step=XX)",
        ));
    }
    Ok(Grid { start_ms: query.start_ms, step_ms, count: usize::try_from(steps).unwrap_or(0) + 1 })
}

pub(crate) struct Evaluator<'a> {
    source: &'a dyn Source,
    pub(crate) meter: &'a Meter<'a>,
    pub(crate) query: &'a Query,
    /// Of the whole query, for `@ start()` and `@ end()`.
    start_ms: i64,
    end_ms: i64,
}

/// Samples of one series within one range that ends at one step.
pub(crate) struct Window<'a> {
    pub(crate) samples: &'a [Sample],
    /// The step's time.
    pub(crate) now_ms: i64,
    /// End of the range: `now_ms` unless shifted by `offset` or `@`.
    pub(crate) end_ms: i64,
    pub(crate) range_ms: i64,
    pub(crate) semantics: Semantics,
    /// The function's number, where it takes one.
    pub(crate) parameter: f64,
}

/// Series with what is to be cut out of them at each step.
pub(crate) struct Ranges {
    pub(crate) series: Vec<Series>,
    range_ms: i64,
    shift: Shift,
}

#[derive(Clone, Copy)]
struct Shift {
    at_ms: Option<i64>,
    offset_ms: i64,
}

impl Shift {
    fn end(&self, now_ms: i64) -> i64 {
        self.at_ms.unwrap_or(now_ms).saturating_sub(self.offset_ms)
    }
}

impl Evaluator<'_> {
    fn instant(&self, expr: &Expr, grid: &Grid) -> Result<Answer, Error> {
        let now = grid.start_ms;
        if expr.value_type() == ValueType::Matrix {
            let ranges = self.ranges(expr, grid)?;
            let (first, last) = self.bounds(&ranges, now);
            let mut series = ranges.series;
            for one in &mut series {
                one.samples.retain(|sample| (first..=last).contains(&sample.t_ms));
            }
            series.retain(|one| !one.samples.is_empty());
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            return Ok(Answer::Matrix(series));
        }
        let sample = |value| Sample { t_ms: now, value };
        Ok(match self.eval(expr, grid)? {
            Value::Scalar(steps) => Answer::Scalar(sample(steps.first().copied().unwrap_or(f64::NAN))),
            Value::Text(text) => Answer::Text(now, text),
            Value::Vector(rows) => {
                let rows = distinct(rows)?;
                let point = |row: Row| {
                    let value = present(*row.steps.first()?)?;
                    Some(Point { labels: row.labels, sample: sample(value) })
                };
                Answer::Vector(rows.into_iter().filter_map(point).collect())
            }
        })
    }

    fn range(&self, expr: &Expr, grid: &Grid) -> Result<Answer, Error> {
        let rows = match expr.value_type() {
            ValueType::Matrix => return Err(not_for_ranges("range vector")),
            ValueType::String => return Err(not_for_ranges("string")),
            ValueType::Scalar | ValueType::Vector => match self.eval(expr, grid)? {
                Value::Scalar(steps) => vec![Row { labels: Labels::default(), steps }],
                Value::Vector(rows) => distinct(rows)?,
                Value::Text(_) => return Err(not_for_ranges("string")),
            },
        };
        let mut matrix: Vec<Series> = rows.into_iter().map(|row| samples(row, grid)).collect();
        matrix.retain(|series| !series.samples.is_empty());
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Answer::Matrix(matrix))
    }

    pub(crate) fn eval(&self, expr: &Expr, grid: &Grid) -> Result<Value, Error> {
        match expr {
            Expr::NumberLiteral(number) => Ok(Value::Scalar(vec![number.val; grid.count])),
            Expr::StringLiteral(text) => Ok(Value::Text(text.val.clone())),
            Expr::Paren(paren) => self.eval(&paren.expr, grid),
            Expr::VectorSelector(selector) => {
                Ok(Value::Vector(self.current(selector, grid, |sample| sample.value)?))
            }
            Expr::Unary(unary) => match self.eval(&unary.expr, grid)? {
                Value::Scalar(steps) => Ok(Value::Scalar(steps.into_iter().map(|value| -value).collect())),
                Value::Vector(rows) => renamed(rows, |_, value| Some(-value)),
                Value::Text(_) => Err(Error::bad("a text has no sign")),
            },
            Expr::Binary(operation) => binary::eval(self, operation, grid),
            Expr::Aggregate(aggregation) => aggregate::eval(self, aggregation, grid),
            Expr::Call(call) => call::eval(self, call, grid),
            Expr::MatrixSelector(_) | Expr::Subquery(_) => {
                Err(Error::bad("a range vector stands where numbers are expected"))
            }
            Expr::Extension(_) => Err(Error::unsupported("this expression")),
        }
    }

    /// Each series' latest sample at each step.
    pub(crate) fn current(
        &self,
        selector: &VectorSelector,
        grid: &Grid,
        number: impl Fn(&Sample) -> f64,
    ) -> Result<Vec<Row>, Error> {
        let shift = self.shift(selector.offset.as_ref(), selector.at.as_ref());
        // A roll-up is current for as long as it stands for, at least.
        let width = self.width(selector, &shift, self.query.lookback_ms, grid)?;
        let lookback = self.query.lookback_ms.max(width.unwrap_or(0));
        let series = self.read(selector, &shift, lookback, grid, Want::Last)?;
        let mut rows = Vec::with_capacity(series.len());
        for Series { labels, samples } in series {
            self.meter.spend(grid.count)?;
            let mut row = Row::new(labels, grid.count);
            let mut rest = samples.iter().peekable();
            let mut latest = None;
            for (step, now) in row.steps.iter_mut().zip(grid.times()) {
                let end = shift.end(now);
                while let Some(sample) = rest.next_if(|sample| sample.t_ms <= end) {
                    latest = Some(sample);
                }
                let first = self.first_moment(end, lookback);
                if let Some(sample) = latest.filter(|sample| sample.t_ms >= first && !is_stale(sample.value))
                {
                    *step = number(sample);
                }
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// First moment of a range that ends at `end`.
    fn first_moment(&self, end: i64, range: i64) -> i64 {
        let first = end.saturating_sub(range);
        match self.query.semantics {
            Semantics::Prometheus2 => first,
            Semantics::Prometheus3 => first.saturating_add(1),
        }
    }

    fn bounds(&self, ranges: &Ranges, now: i64) -> (i64, i64) {
        let end = ranges.shift.end(now);
        (self.first_moment(end, ranges.range_ms), end)
    }

    fn shift(&self, offset: Option<&Offset>, at: Option<&AtModifier>) -> Shift {
        let offset_ms = match offset {
            None => 0,
            Some(Offset::Pos(duration)) => millis(*duration),
            Some(Offset::Neg(duration)) => -millis(*duration),
        };
        let at_ms = at.map(|at| match at {
            AtModifier::Start => self.start_ms,
            AtModifier::End => self.end_ms,
            AtModifier::At(time) => since_1970(*time),
        });
        Shift { at_ms, offset_ms }
    }

    fn read(
        &self,
        selector: &VectorSelector,
        shift: &Shift,
        range_ms: i64,
        grid: &Grid,
        want: Want,
    ) -> Result<Vec<Series>, Error> {
        let matchers = parse::matchers(selector)?;
        let selection = self.selection(&matchers, shift, range_ms, grid, want);
        let series = self.source.select(&selection, self.meter)?;
        self.meter.series(series.len())?;
        Ok(series)
    }

    fn width(
        &self,
        selector: &VectorSelector,
        shift: &Shift,
        range_ms: i64,
        grid: &Grid,
    ) -> Result<Option<i64>, Error> {
        let matchers = parse::matchers(selector)?;
        self.source.width(&self.selection(&matchers, shift, range_ms, grid, Want::Last))
    }

    fn selection<'m>(
        &self,
        matchers: &'m [Matcher],
        shift: &Shift,
        range_ms: i64,
        grid: &Grid,
        want: Want,
    ) -> Selection<'m> {
        Selection {
            matchers,
            from_ms: self.first_moment(shift.end(grid.start_ms), range_ms),
            until_ms: shift.end(grid.last()),
            step_ms: grid.step_ms,
            want,
        }
    }

    /// Whether roll-ups stand for the samples of this range vector.
    pub(crate) fn is_rolled(&self, expr: &Expr, grid: &Grid) -> Result<bool, Error> {
        match expr {
            Expr::Paren(paren) => self.is_rolled(&paren.expr, grid),
            Expr::MatrixSelector(MatrixSelector { vs, range }) => {
                let shift = self.shift(vs.offset.as_ref(), vs.at.as_ref());
                Ok(self.width(vs, &shift, millis(*range), grid)?.is_some())
            }
            _ => Ok(false),
        }
    }

    /// The series of a range vector: a selector with a range, or a subquery.
    pub(crate) fn ranges(&self, expr: &Expr, grid: &Grid) -> Result<Ranges, Error> {
        self.ranges_of(expr, grid, Want::Last)
    }

    /// Those, of the number that is wanted where there are only roll-ups.
    pub(crate) fn ranges_of(&self, expr: &Expr, grid: &Grid, want: Want) -> Result<Ranges, Error> {
        match expr {
            Expr::Paren(paren) => self.ranges_of(&paren.expr, grid, want),
            Expr::MatrixSelector(MatrixSelector { vs, range }) => {
                let shift = self.shift(vs.offset.as_ref(), vs.at.as_ref());
                let range_ms = millis(*range);
                let mut series = self.read(vs, &shift, range_ms, grid, want)?;
                for one in &mut series {
                    one.samples.retain(|sample| !is_stale(sample.value));
                }
                Ok(Ranges { series, range_ms, shift })
            }
            Expr::Subquery(subquery) => self.subquery(subquery, grid),
            _ => Err(Error::bad("a range vector is expected, such as NAME[5m]")),
        }
    }

    fn subquery(&self, subquery: &SubqueryExpr, grid: &Grid) -> Result<Ranges, Error> {
        let shift = self.shift(subquery.offset.as_ref(), subquery.at.as_ref());
        let range_ms = millis(subquery.range);
        let step_ms = subquery.step.map_or(SUBQUERY_STEP_MS, millis);
        if step_ms <= 0 {
            return Err(Error::bad("the step of a subquery must be positive"));
        }
        // Steps of a subquery stand at multiples of its step, whatever the query's own.
        let first = self.first_moment(shift.end(grid.start_ms), range_ms);
        let start_ms = first.div_euclid(step_ms).saturating_mul(step_ms);
        let start_ms = if start_ms < first { start_ms.saturating_add(step_ms) } else { start_ms };
        let last = shift.end(grid.last());
        let count = match last.checked_sub(start_ms) {
            Some(length) if length >= 0 => usize::try_from(length / step_ms + 1).unwrap_or(usize::MAX),
            _ => 0,
        };
        self.meter.spend(count)?;
        let inner = Grid { start_ms, step_ms, count };
        let series = match self.eval(&subquery.expr, &inner)? {
            Value::Vector(rows) => distinct(rows)?.into_iter().map(|row| samples(row, &inner)).collect(),
            Value::Scalar(steps) => vec![samples(Row { labels: Labels::default(), steps }, &inner)],
            Value::Text(_) => return Err(Error::bad("subquery is only allowed on instant vector")),
        };
        Ok(Ranges { series, range_ms, shift })
    }

    /// One row for each series of `ranges`: `function` of what lies in the range at each step.
    pub(crate) fn over(
        &self,
        ranges: Ranges,
        grid: &Grid,
        parameter: Option<&[f64]>,
        function: impl Fn(&Window<'_>) -> Option<f64>,
    ) -> Result<Vec<Row>, Error> {
        let Ranges { series, range_ms, shift } = ranges;
        let mut rows = Vec::with_capacity(series.len());
        for Series { labels, samples } in series {
            self.meter.spend(grid.count)?;
            let mut row = Row::new(labels, grid.count);
            let (mut from, mut to) = (0, 0);
            for (place, step) in row.steps.iter_mut().enumerate() {
                let now_ms = grid.time(place);
                let end_ms = shift.end(now_ms);
                let first = self.first_moment(end_ms, range_ms);
                from += samples.iter().skip(from).take_while(|sample| sample.t_ms < first).count();
                to = to.max(from);
                to += samples.iter().skip(to).take_while(|sample| sample.t_ms <= end_ms).count();
                let samples = samples.get(from..to).unwrap_or_default();
                if samples.is_empty() {
                    continue;
                }
                self.meter.work(samples.len() as u64)?;
                let parameter = parameter.and_then(|steps| steps.get(place)).copied().unwrap_or(f64::NAN);
                let semantics = self.query.semantics;
                let window = Window { samples, now_ms, end_ms, range_ms, semantics, parameter };
                if let Some(number) = function(&window) {
                    *step = number;
                }
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

fn not_for_ranges(kind: &str) -> Error {
    Error::bad(format!(
        "invalid parameter \"query\": invalid expression type \"{kind}\" for range query, must be Scalar or \
         instant Vector"
    ))
}

fn samples(row: Row, grid: &Grid) -> Series {
    let pairs = row.steps.into_iter().zip(grid.times());
    let samples = pairs.filter(|(value, _)| !is_stale(*value)).map(|(value, t_ms)| Sample { t_ms, value });
    Series { labels: row.labels, samples: samples.collect() }
}

/// Rows without their metric's name, each number changed; `None` drops it.
pub(crate) fn renamed(
    mut rows: Vec<Row>,
    mut change: impl FnMut(usize, f64) -> Option<f64>,
) -> Result<Value, Error> {
    for row in &mut rows {
        row.labels = row.labels.without_name();
        row.map(&mut change);
    }
    Ok(Value::Vector(distinct(rows)?))
}

/// One row for each set of labels. Two numbers of one set at one step are an error.
pub(crate) fn distinct(rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    if rows.len() < 2 {
        return Ok(rows);
    }
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match places.entry(row.labels.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(kept.len());
                kept.push(row);
            }
            Entry::Occupied(entry) => {
                let Some(same) = kept.get_mut(*entry.get()) else { continue };
                for (value, other) in same.steps.iter_mut().zip(row.steps) {
                    match (present(*value), present(other)) {
                        (Some(_), Some(_)) => return Err(Error::same_labels()),
                        (None, Some(other)) => *value = other,
                        _ => {}
                    }
                }
            }
        }
    }
    Ok(kept)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn since_1970(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    }
}
