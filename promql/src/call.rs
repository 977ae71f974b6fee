//! Functions.

use std::collections::HashMap;

use promql_parser::parser::{Call, Expr, VectorSelector};
use regex::{Regex, RegexBuilder};

use crate::{
    Error, Labels, Matcher, NAME, Want,
    eval::{Evaluator, distinct, renamed},
    instant,
    over_time::{self, Rolled},
    parse,
    value::{Grid, Row, Value, present},
};

/// Memory of one regular expression, in bytes.
const REGEX_SIZE: usize = 1 << 20;

pub(crate) fn eval(evaluator: &Evaluator<'_>, call: &Call, grid: &Grid) -> Result<Value, Error> {
    let arguments = Arguments { evaluator, call, grid };
    let name = call.func.name;
    if let Some(function) = over_time::named(name) {
        return over(&arguments, function);
    }
    if let Some(function) = instant::named(name) {
        return renamed(arguments.vector(0)?, |_, value| Some(function(value)));
    }
    if let Some(function) = instant::of_date(name) {
        let rows = if call.args.is_empty() { vec![arguments.now()] } else { arguments.vector(0)? };
        return renamed(rows, |_, value| Some(function(value)));
    }
    match name {
        "time" => Ok(Value::Scalar(arguments.now().steps)),
        "pi" => Ok(Value::Scalar(vec![std::f64::consts::PI; grid.count])),
        "vector" => {
            let row = Row { labels: Labels::default(), steps: arguments.scalar(0)? };
            Ok(Value::Vector(vec![row]))
        }
        "scalar" => Ok(Value::Scalar(scalar(&arguments.vector(0)?, grid))),
        "timestamp" => timestamp(&arguments),
        "absent" => Ok(absent(&arguments.vector(0)?, arguments.get(0)?, grid)),
        "absent_over_time" => {
            let ranges = evaluator.ranges(arguments.get(0)?, grid)?;
            let rows = evaluator.over(ranges, grid, None, |_| Some(1.0))?;
            Ok(absent(&rows, arguments.get(0)?, grid))
        }
        "round" => {
            let to = if call.args.len() > 1 { arguments.scalar(1)? } else { vec![1.0; grid.count] };
            renamed(arguments.vector(0)?, |step, value| Some(instant::round(value, at(&to, step))))
        }
        "clamp" => {
            let (least, most) = (arguments.scalar(1)?, arguments.scalar(2)?);
            renamed(arguments.vector(0)?, |step, value| {
                let (least, most) = (at(&least, step), at(&most, step));
                (most >= least || least.is_nan() || most.is_nan())
                    .then(|| instant::greater(least, instant::lesser(most, value)))
            })
        }
        "clamp_min" => {
            let least = arguments.scalar(1)?;
            renamed(arguments.vector(0)?, |step, value| Some(instant::greater(at(&least, step), value)))
        }
        "clamp_max" => {
            let most = arguments.scalar(1)?;
            renamed(arguments.vector(0)?, |step, value| Some(instant::lesser(at(&most, step), value)))
        }
        "sort" => Ok(Value::Vector(sorted(arguments.vector(0)?, false))),
        "sort_desc" => Ok(Value::Vector(sorted(arguments.vector(0)?, true))),
        "label_replace" => label_replace(&arguments),
        "label_join" => label_join(&arguments),
        _ => Err(Error::unsupported(format_args!("function \"{name}\""))),
    }
}

struct Arguments<'a> {
    evaluator: &'a Evaluator<'a>,
    call: &'a Call,
    grid: &'a Grid,
}

impl Arguments<'_> {
    fn get(&self, place: usize) -> Result<&Expr, Error> {
        let missing = || Error::bad(format!("{} misses an argument", self.call.func.name));
        self.call.args.args.get(place).map(AsRef::as_ref).ok_or_else(missing)
    }

    fn wrong(&self, place: usize, expected: &str) -> Error {
        let name = self.call.func.name;
        Error::bad(format!("argument {} of {name} must be {expected}", place.saturating_add(1)))
    }

    fn vector(&self, place: usize) -> Result<Vec<Row>, Error> {
        match self.evaluator.eval(self.get(place)?, self.grid)? {
            Value::Vector(rows) => Ok(rows),
            _ => Err(self.wrong(place, "an instant vector")),
        }
    }

    fn scalar(&self, place: usize) -> Result<Vec<f64>, Error> {
        match self.evaluator.eval(self.get(place)?, self.grid)? {
            Value::Scalar(steps) => Ok(steps),
            _ => Err(self.wrong(place, "a scalar")),
        }
    }

    fn text(&self, place: usize) -> Result<String, Error> {
        match self.evaluator.eval(self.get(place)?, self.grid)? {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong(place, "a string")),
        }
    }

    /// Seconds since 1970 at each step.
    fn now(&self) -> Row {
        Row { labels: Labels::default(), steps: self.grid.times().map(|t_ms| t_ms as f64 / 1e3).collect() }
    }
}

fn at(steps: &[f64], step: usize) -> f64 {
    steps.get(step).copied().unwrap_or(f64::NAN)
}

fn over(arguments: &Arguments<'_>, function: over_time::OverTime) -> Result<Value, Error> {
    let Arguments { evaluator, call, grid } = arguments;
    let (range, number) = over_time::number_at(call.func.name);
    let number = number.map(|place| arguments.scalar(place)).transpose()?;
    let of = arguments.get(range)?;
    let rolled = match evaluator.is_rolled(of, grid)? {
        true => over_time::rolled(call.func.name),
        false => Rolled::Of(Want::Last),
    };
    let read = |want, function| {
        evaluator.over(evaluator.ranges_of(of, grid, want)?, grid, number.as_deref(), function)
    };
    let mut rows = match rolled {
        Rolled::Of(want) => read(want, function)?,
        Rolled::Counted => read(Want::Count, over_time::sum)?,
        Rolled::Mean => {
            let mut rows = read(Want::Sum, over_time::sum)?;
            let counts = read(Want::Count, over_time::sum)?;
            let counts: HashMap<&Labels, &Row> = counts.iter().map(|row| (&row.labels, row)).collect();
            for row in &mut rows {
                let count = counts.get(&row.labels);
                row.map(|step, sum| Some(sum / present(at(&count?.steps, step))?));
            }
            rows
        }
        Rolled::Never => {
            return Err(Error::execution(format!(
                "{} needs single results, and some of this range are kept as roll-ups only: ask for a later time, \
                 or for avg_over_time, min_over_time or max_over_time",
                call.func.name
            )));
        }
    };
    if !over_time::keeps_name(call.func.name) {
        rows.iter_mut().for_each(|row| row.labels = row.labels.without_name());
    }
    Ok(Value::Vector(distinct(rows)?))
}

/// The number of the only series, NaN where there is none or more than one.
fn scalar(rows: &[Row], grid: &Grid) -> Vec<f64> {
    (0..grid.count)
        .map(|step| {
            let mut there = rows.iter().filter_map(|row| present(at(&row.steps, step)));
            match (there.next(), there.next()) {
                (Some(only), None) => only,
                _ => f64::NAN,
            }
        })
        .collect()
}

fn timestamp(arguments: &Arguments<'_>) -> Result<Value, Error> {
    let mut argument = arguments.get(0)?;
    while let Expr::Paren(paren) = argument {
        argument = &paren.expr;
    }
    let (evaluator, grid) = (arguments.evaluator, arguments.grid);
    if let Expr::VectorSelector(selector) = argument {
        let rows = evaluator.current(selector, grid, |sample| sample.t_ms as f64 / 1e3)?;
        return renamed(rows, |_, value| Some(value));
    }
    renamed(arguments.vector(0)?, |step, _| Some(grid.time(step) as f64 / 1e3))
}

/// 1 where none of `rows` has a number, with the labels that `of` asks for by equality.
fn absent(rows: &[Row], of: &Expr, grid: &Grid) -> Value {
    let mut row = Row::new(absent_labels(of), grid.count);
    for (place, step) in row.steps.iter_mut().enumerate() {
        if rows.iter().all(|row| present(at(&row.steps, place)).is_none()) {
            *step = 1.0;
        }
    }
    Value::Vector(vec![row])
}

fn absent_labels(of: &Expr) -> Labels {
    let selector: &VectorSelector = match of {
        Expr::VectorSelector(selector) => selector,
        Expr::MatrixSelector(range) => &range.vs,
        _ => return Labels::default(),
    };
    let matchers = parse::matchers(selector).unwrap_or_default();
    let only = |matcher: &&Matcher| {
        matcher.name() != NAME && matchers.iter().filter(|other| other.name() == matcher.name()).count() == 1
    };
    let label = |matcher: &Matcher| Some((matcher.name().to_owned(), matcher.only_value()?.to_owned()));
    matchers.iter().filter(only).filter_map(label).collect()
}

/// By the first step: over a range, the order of series is that of their labels.
fn sorted(mut rows: Vec<Row>, descending: bool) -> Vec<Row> {
    let key = |row: &Row| at(&row.steps, 0);
    rows.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        let order = if descending { b.total_cmp(&a) } else { a.total_cmp(&b) };
        a.is_nan().cmp(&b.is_nan()).then(order)
    });
    rows
}

fn valid_label(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(good) && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
}

fn label_replace(arguments: &Arguments<'_>) -> Result<Value, Error> {
    let (target, template) = (arguments.text(1)?, arguments.text(2)?);
    let (source, pattern) = (arguments.text(3)?, arguments.text(4)?);
    let regex = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(REGEX_SIZE).build();
    let regex: Regex = regex
        .map_err(|_| Error::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
    if !valid_label(&target) {
        return Err(Error::execution(format!("invalid destination label name in label_replace(): {target}")));
    }
    let mut rows = arguments.vector(0)?;
    for row in &mut rows {
        let found = row.labels.get(&source).unwrap_or_default();
        if let Some(captures) = regex.captures(found) {
            let mut value = String::new();
            captures.expand(&template, &mut value);
            row.labels = row.labels.with(&target, &value);
        }
    }
    Ok(Value::Vector(distinct(rows)?))
}

fn label_join(arguments: &Arguments<'_>) -> Result<Value, Error> {
    let (target, separator) = (arguments.text(1)?, arguments.text(2)?);
    let sources: Result<Vec<String>, Error> =
        (3..arguments.call.args.len()).map(|place| arguments.text(place)).collect();
    let sources = sources?;
    if let Some(bad) = sources.iter().find(|name| !valid_label(name)) {
        return Err(Error::execution(format!("invalid source label name in label_join(): {bad}")));
    }
    if !valid_label(&target) {
        return Err(Error::execution(format!("invalid destination label name in label_join(): {target}")));
    }
    let mut rows = arguments.vector(0)?;
    for row in &mut rows {
        let values: Vec<&str> = sources.iter().map(|name| row.labels.get(name).unwrap_or_default()).collect();
        row.labels = row.labels.with(&target, &values.join(&separator));
    }
    Ok(Value::Vector(distinct(rows)?))
}
