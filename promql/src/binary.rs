//! Operators between two parts of an expression.

use std::collections::{BTreeMap, HashMap};

use promql_parser::parser::{
    BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality, VectorMatchFillValues,
    token::{self, TokenId},
};

use crate::{
    Error, Labels,
    eval::{Evaluator, distinct},
    value::{Grid, Row, Value, present},
};

pub(crate) fn eval(evaluator: &Evaluator<'_>, operation: &BinaryExpr, grid: &Grid) -> Result<Value, Error> {
    let fallback = BinModifier::default();
    let modifier = operation.modifier.as_ref().unwrap_or(&fallback);
    if modifier.fill_values != VectorMatchFillValues::default() {
        return Err(Error::unsupported("fill()"));
    }
    let operator = Operator { id: operation.op.id(), bool: modifier.return_bool };
    let left = evaluator.eval(&operation.lhs, grid)?;
    let right = evaluator.eval(&operation.rhs, grid)?;
    match (left, right) {
        (Value::Scalar(left), Value::Scalar(right)) => {
            let number = |(left, right)| operator.of_numbers(left, right);
            Ok(Value::Scalar(left.into_iter().zip(right).map(number).collect::<Result<_, _>>()?))
        }
        (Value::Vector(rows), Value::Scalar(numbers)) => {
            with_scalar(rows, &numbers, &operator, |value, number| (value, number))
        }
        (Value::Scalar(numbers), Value::Vector(rows)) => {
            with_scalar(rows, &numbers, &operator, |value, number| (number, value))
        }
        (Value::Vector(left), Value::Vector(right)) => {
            let cells = (left.len() as u64).saturating_add(right.len() as u64);
            evaluator.meter.work(cells.saturating_mul(grid.count as u64))?;
            let matching = modifier.matching.as_ref();
            match operator.id {
                token::T_LAND => Ok(Value::Vector(filtered(left, &right, matching, true))),
                token::T_LUNLESS => Ok(Value::Vector(filtered(left, &right, matching, false))),
                token::T_LOR => {
                    let more = filtered(right, &left, matching, false);
                    Ok(Value::Vector(distinct(left.into_iter().chain(more).collect())?))
                }
                _ => Join { evaluator, operator, modifier, grid }.rows(left, right).map(Value::Vector),
            }
        }
        _ => Err(Error::bad("operators take numbers, not strings")),
    }
}

struct Operator {
    id: TokenId,
    bool: bool,
}

impl Operator {
    fn compares(&self) -> bool {
        matches!(
            self.id,
            token::T_EQLC | token::T_NEQ | token::T_GTR | token::T_LSS | token::T_GTE | token::T_LTE
        )
    }

    /// Whether what comes out is another quantity, which the metric's name does not fit.
    fn drops_name(&self) -> bool {
        self.bool || !self.compares()
    }

    fn holds(&self, left: f64, right: f64) -> bool {
        match self.id {
            token::T_EQLC => left == right,
            token::T_NEQ => left != right,
            token::T_GTR => left > right,
            token::T_LSS => left < right,
            token::T_GTE => left >= right,
            token::T_LTE => left <= right,
            _ => false,
        }
    }

    fn of_numbers(&self, left: f64, right: f64) -> Result<f64, Error> {
        Ok(match self.id {
            token::T_ADD => left + right,
            token::T_SUB => left - right,
            token::T_MUL => left * right,
            token::T_DIV => left / right,
            token::T_MOD => left % right,
            token::T_POW => left.powf(right),
            token::T_ATAN2 => left.atan2(right),
            _ if self.compares() => f64::from(u8::from(self.holds(left, right))),
            _ => return Err(Error::unsupported("this operator")),
        })
    }

    /// Of an element of a vector. Without `bool` a comparison keeps `kept` or drops it.
    fn of_elements(&self, left: f64, right: f64, kept: f64) -> Result<Option<f64>, Error> {
        if self.compares() && !self.bool {
            return Ok(self.holds(left, right).then_some(kept));
        }
        self.of_numbers(left, right).map(Some)
    }
}

fn with_scalar(
    mut rows: Vec<Row>,
    numbers: &[f64],
    operator: &Operator,
    sides: impl Fn(f64, f64) -> (f64, f64),
) -> Result<Value, Error> {
    for row in &mut rows {
        for (step, number) in row.steps.iter_mut().zip(numbers) {
            let Some(value) = present(*step) else { continue };
            let (left, right) = sides(value, *number);
            *step = operator.of_elements(left, right, value)?.unwrap_or(crate::STALE);
        }
        if operator.drops_name() {
            row.labels = row.labels.without_name();
        }
    }
    Ok(Value::Vector(distinct(rows)?))
}

/// The labels by which elements of two sides find each other.
fn signature(labels: &Labels, matching: Option<&LabelModifier>) -> Labels {
    match matching {
        Some(LabelModifier::Include(names)) => labels.only(&names.labels),
        Some(LabelModifier::Exclude(names)) => labels.without(&names.labels),
        None => labels.without_name(),
    }
}

/// `and` (`wanted`) and `unless`: what of `rows` has, or has not, a counterpart in `others` at the same step.
fn filtered(mut rows: Vec<Row>, others: &[Row], matching: Option<&LabelModifier>, wanted: bool) -> Vec<Row> {
    let mut there: HashMap<Labels, Vec<bool>> = HashMap::new();
    for row in others {
        let seen =
            there.entry(signature(&row.labels, matching)).or_insert_with(|| vec![false; row.steps.len()]);
        for (seen, value) in seen.iter_mut().zip(&row.steps) {
            *seen |= present(*value).is_some();
        }
    }
    for row in &mut rows {
        let seen = there.get(&signature(&row.labels, matching));
        let has = |step: usize| seen.and_then(|seen| seen.get(step)).copied().unwrap_or(false);
        row.map(|step, value| (has(step) == wanted).then_some(value));
    }
    rows
}

/// Arithmetic and comparison between elements that have the same signature.
struct Join<'a> {
    evaluator: &'a Evaluator<'a>,
    operator: Operator,
    modifier: &'a BinModifier,
    grid: &'a Grid,
}

impl Join<'_> {
    fn rows(&self, left: Vec<Row>, right: Vec<Row>) -> Result<Vec<Row>, Error> {
        let swapped = matches!(self.modifier.card, VectorMatchCardinality::OneToMany(_));
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let matching = self.modifier.matching.as_ref();
        let mut ones: HashMap<Labels, Vec<&Row>> = HashMap::new();
        for row in &one {
            ones.entry(signature(&row.labels, matching)).or_default().push(row);
        }
        for (signature, rows) in &ones {
            self.check_unique(signature, rows, if swapped { "left" } else { "right" })?;
        }
        let one_to_one = matches!(self.modifier.card, VectorMatchCardinality::OneToOne);
        let mut taken: HashMap<Labels, Vec<bool>> = HashMap::new();
        let mut joined: BTreeMap<Labels, Row> = BTreeMap::new();
        for row in &many {
            let signature = signature(&row.labels, matching);
            let Some(partners) = ones.get(&signature) else { continue };
            let mut taken =
                one_to_one.then(|| taken.entry(signature).or_insert_with(|| vec![false; self.grid.count]));
            for partner in partners {
                self.evaluator.meter.spend(self.grid.count)?;
                let labels = self.labels(&row.labels, &partner.labels);
                let fresh = || Row::new(labels.clone(), self.grid.count);
                let target = joined.entry(labels.clone()).or_insert_with(fresh);
                for (step, (many, one)) in row.steps.iter().zip(&partner.steps).enumerate() {
                    let (Some(many), Some(one)) = (present(*many), present(*one)) else { continue };
                    let (left, right) = if swapped { (one, many) } else { (many, one) };
                    let Some(value) = self.operator.of_elements(left, right, left)? else { continue };
                    if let Some(taken) = taken.as_mut().and_then(|taken| taken.get_mut(step))
                        && std::mem::replace(taken, true)
                    {
                        return Err(Error::execution(
                            "multiple matches for labels: many-to-one matching must be explicit \
                             (group_left/group_right)",
                        ));
                    }
                    let Some(target) = target.steps.get_mut(step) else { continue };
                    if present(*target).is_some() {
                        return Err(Error::execution(
                            "multiple matches for labels: grouping labels must ensure unique matches",
                        ));
                    }
                    *target = value;
                }
            }
        }
        Ok(joined.into_values().collect())
    }

    /// On the side of the "one", no two elements of one signature at one step.
    fn check_unique(&self, signature: &Labels, rows: &[&Row], side: &str) -> Result<(), Error> {
        let mut rows = rows.iter();
        let Some(first) = rows.next() else { return Ok(()) };
        let mut holders = vec![first; self.grid.count];
        let mut seen: Vec<bool> = first.steps.iter().map(|value| present(*value).is_some()).collect();
        for row in rows {
            for ((seen, holder), value) in seen.iter_mut().zip(&mut holders).zip(&row.steps) {
                if present(*value).is_none() {
                    continue;
                }
                if std::mem::replace(seen, true) {
                    return Err(Error::execution(format!(
                        "found duplicate series for the match group {signature} on the {side} hand-side of the \
                         operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique \
                         on one side",
                        row.labels, holder.labels
                    )));
                }
                *holder = row;
            }
        }
        Ok(())
    }

    fn labels(&self, many: &Labels, one: &Labels) -> Labels {
        let labels = if self.operator.drops_name() { many.without_name() } else { many.clone() };
        match (&self.modifier.card, self.modifier.matching.as_ref()) {
            (VectorMatchCardinality::OneToOne, Some(LabelModifier::Include(names))) => {
                labels.only(&names.labels)
            }
            (VectorMatchCardinality::OneToOne, Some(LabelModifier::Exclude(names))) => {
                labels.except(&names.labels)
            }
            (VectorMatchCardinality::ManyToOne(names) | VectorMatchCardinality::OneToMany(names), _) => names
                .labels
                .iter()
                .fold(labels, |labels, name| labels.with(name, one.get(name).unwrap_or_default())),
            _ => labels,
        }
    }
}
