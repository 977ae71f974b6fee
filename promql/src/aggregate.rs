//! Aggregations: many series to one for each group.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use promql_parser::parser::{AggregateExpr, LabelModifier, token};

use crate::{
    Error, Labels,
    eval::{Evaluator, distinct},
    json,
    sums::{Mean, Sum, Variance, quantile},
    value::{Grid, Row, Value, present},
};

pub(crate) fn eval(
    evaluator: &Evaluator<'_>,
    aggregation: &AggregateExpr,
    grid: &Grid,
) -> Result<Value, Error> {
    let AggregateExpr { op, expr, param, modifier } = aggregation;
    let parameter = param.as_ref().map(|param| evaluator.eval(param, grid)).transpose()?;
    let Value::Vector(rows) = evaluator.eval(expr, grid)? else {
        return Err(Error::bad("an aggregation takes an instant vector"));
    };
    evaluator.meter.work((rows.len() as u64).saturating_mul(grid.count as u64))?;
    let groups = groups(rows, modifier.as_ref());
    let numbers = || match &parameter {
        Some(Value::Scalar(steps)) => Ok(steps.as_slice()),
        _ => Err(Error::bad(format!("{op} takes a number first"))),
    };
    let fold: fn(&mut Vec<f64>, f64) -> f64 = match op.id() {
        token::T_SUM => |values, _| {
            let mut sum = Sum::default();
            values.iter().for_each(|value| sum.add(*value));
            sum.total()
        },
        token::T_AVG => |values, _| {
            let mut mean = Mean::default();
            values.iter().for_each(|value| mean.add(*value));
            mean.mean()
        },
        token::T_MIN => |values, _| extreme(values, |least, value| value < least),
        token::T_MAX => |values, _| extreme(values, |most, value| value > most),
        token::T_COUNT => |values, _| values.len() as f64,
        token::T_GROUP => |_, _| 1.0,
        token::T_STDVAR => |values, _| variance(values),
        token::T_STDDEV => |values, _| variance(values).sqrt(),
        token::T_QUANTILE => |values, q| quantile(q, values),
        token::T_TOPK => return best(groups, numbers()?, true),
        token::T_BOTTOMK => return best(groups, numbers()?, false),
        token::T_COUNT_VALUES => {
            let Some(Value::Text(label)) = &parameter else {
                return Err(Error::bad("count_values takes the name of a label first"));
            };
            return count_values(evaluator, groups, label, grid);
        }
        _ => return Err(Error::unsupported(format_args!("aggregation \"{op}\""))),
    };
    let parameter = if op.id() == token::T_QUANTILE { numbers()? } else { &[] };
    let mut reduced = Vec::with_capacity(groups.len());
    let mut values = Vec::new();
    for (labels, rows) in groups {
        evaluator.meter.spend(grid.count)?;
        let mut row = Row::new(labels, grid.count);
        for (place, step) in row.steps.iter_mut().enumerate() {
            values.clear();
            values.extend(rows.iter().filter_map(|row| present(*row.steps.get(place)?)));
            if !values.is_empty() {
                *step = fold(&mut values, parameter.get(place).copied().unwrap_or(f64::NAN));
            }
        }
        reduced.push(row);
    }
    Ok(Value::Vector(reduced))
}

/// The extreme of `values`: NaN only where all are. `beats` says whether its second number is the better one.
fn extreme(values: &[f64], beats: fn(f64, f64) -> bool) -> f64 {
    let pick = |best: f64, value: f64| if best.is_nan() || beats(best, value) { value } else { best };
    values.iter().copied().reduce(pick).unwrap_or(f64::NAN)
}

fn variance(values: &[f64]) -> f64 {
    let mut variance = Variance::default();
    values.iter().for_each(|value| variance.add(*value));
    variance.variance()
}

/// Rows by what they have in common, in the order of their first row.
fn groups(rows: Vec<Row>, modifier: Option<&LabelModifier>) -> Vec<(Labels, Vec<Row>)> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<(Labels, Vec<Row>)> = Vec::new();
    for row in rows {
        let key = match modifier {
            None => Labels::default(),
            Some(LabelModifier::Include(names)) => row.labels.only(&names.labels),
            Some(LabelModifier::Exclude(names)) => row.labels.without(&names.labels),
        };
        match places.entry(key) {
            Entry::Occupied(entry) => {
                if let Some((_, rows)) = groups.get_mut(*entry.get()) {
                    rows.push(row);
                }
            }
            Entry::Vacant(entry) => {
                groups.push((entry.key().clone(), vec![row]));
                entry.insert(groups.len() - 1);
            }
        }
    }
    groups
}

/// `topk` and `bottomk`: of each group the rows that are best at a step, as they are.
fn best(groups: Vec<(Labels, Vec<Row>)>, counts: &[f64], top: bool) -> Result<Value, Error> {
    let mut kept = Vec::new();
    for (_, mut rows) in groups {
        let mut order = Vec::new();
        for (place, count) in counts.iter().enumerate() {
            if !(-9.2e18..=9.2e18).contains(count) {
                return Err(Error::execution(format!(
                    "Scalar value {} overflows int64",
                    json::number(*count)
                )));
            }
            order.clear();
            order.extend(
                rows.iter()
                    .enumerate()
                    .filter_map(|(row, one)| Some((present(*one.steps.get(place)?)?, row))),
            );
            order.sort_by(|(a, _), (b, _)| {
                let better = if top { b.total_cmp(a) } else { a.total_cmp(b) };
                a.is_nan().cmp(&b.is_nan()).then(better)
            });
            for (_, row) in order.iter().skip(count.max(0.0) as usize) {
                if let Some(step) = rows.get_mut(*row).and_then(|row| row.steps.get_mut(place)) {
                    *step = crate::STALE;
                }
            }
        }
        // Best first, which shows in the answer for one moment.
        let rank: HashMap<usize, usize> =
            order.iter().enumerate().map(|(rank, (_, row))| (*row, rank)).collect();
        let mut ranked: Vec<(usize, Row)> = rows.into_iter().enumerate().collect();
        ranked.sort_by_key(|(row, _)| rank.get(row).copied().unwrap_or(usize::MAX));
        kept.extend(ranked.into_iter().map(|(_, row)| row));
    }
    Ok(Value::Vector(kept))
}

fn count_values(
    evaluator: &Evaluator<'_>,
    groups: Vec<(Labels, Vec<Row>)>,
    label: &str,
    grid: &Grid,
) -> Result<Value, Error> {
    let mut counted = Vec::new();
    for (labels, rows) in groups {
        let mut by_value: BTreeMap<String, Row> = BTreeMap::new();
        for row in rows {
            for (place, value) in row.steps.iter().enumerate() {
                let Some(value) = present(*value) else { continue };
                let text = json::decimal(value);
                if !by_value.contains_key(&text) {
                    evaluator.meter.spend(grid.count)?;
                    by_value.insert(text.clone(), Row::new(labels.with(label, &text), grid.count));
                }
                if let Some(step) = by_value.get_mut(&text).and_then(|row| row.steps.get_mut(place)) {
                    *step = present(*step).unwrap_or(0.0) + 1.0;
                }
            }
        }
        counted.extend(by_value.into_values());
    }
    Ok(Value::Vector(distinct(counted)?))
}
