//! Functions over the past of a series: `avg("5m")`, `changed()`, `consecutive(3)`, …
//!
//! A call becomes a variable of the compiled expression, and whoever evaluates gives its value: [`History`]. So windows
//! are asked for by name and length, and an expression tells beforehand which ones it needs.

use std::time::Duration;

use cel::{
    Value,
    common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators},
};
use protocol::duration;

use super::{
    compile::Fault,
    predictions::{self, Prediction},
};

/// Longest window.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Most calls in one expression: each keeps a window for each series.
const CALLS: usize = 16;
/// Most results in a row that `consecutive` may ask for.
const IN_A_ROW: i64 = 1_000;

pub(super) const WINDOWS: [&str; 18] = [
    "absent",
    "anomaly",
    "avg",
    "changed",
    "consecutive",
    "count",
    "delta",
    "forecast",
    "forecast_high",
    "forecast_low",
    "max",
    "min",
    "outlier",
    "percentile",
    "rate",
    "stddev",
    "sum",
    "time_to",
];

/// What is asked of a window.
#[derive(Debug, Clone, PartialEq)]
pub enum Function {
    Avg,
    Min,
    Max,
    Sum,
    /// Rise per second; a fall counts as a counter that began again at 0.
    Rate,
    /// Last value less the first.
    Delta,
    Count,
    /// Of the population.
    Stddev,
    /// 0 to 100, interpolated between neighbours.
    Percentile(f64),
    /// Whether no result came.
    Absent,
    /// Whether the value differs from that of the result before.
    Changed,
    /// What is unusual, what comes next, who is unlike the others.
    Prediction(Prediction),
}

/// One function over one window. `changed` and predictions have none: `over` is zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub function: Function,
    pub over: Duration,
}

/// The past of the series that an expression judges, up to and with the result in hand.
pub trait History {
    /// `None`: there are too few values for an answer, and the expression has none either.
    fn number(&self, call: &Call) -> Option<f64>;
    /// Whether no result came for this long.
    fn absent(&self, over: Duration) -> bool;
    fn changed(&self) -> bool;
}

/// No past: windows have no values.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHistory;

impl History for NoHistory {
    fn number(&self, call: &Call) -> Option<f64> {
        matches!(call.function, Function::Count).then_some(0.0)
    }

    fn absent(&self, _: Duration) -> bool {
        false
    }

    fn changed(&self) -> bool {
        false
    }
}

pub(super) fn value(call: &Call, history: &dyn History) -> Option<Value> {
    match call.function {
        Function::Absent => Some(Value::Bool(history.absent(call.over))),
        Function::Changed => Some(Value::Bool(history.changed())),
        // Not within the horizon is farther than every number.
        Function::Prediction(Prediction::TimeTo { .. }) => {
            history.number(call).filter(|number| !number.is_nan()).map(Value::Float)
        }
        _ => history.number(call).filter(|number| number.is_finite()).map(Value::Float),
    }
}

/// What a call turns into.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Special {
    Window(Call),
    /// True wherever the expression is evaluated: whoever does so counts the results in a row.
    Consecutive(u32),
}

/// The special call that `call` is. `None`: it is an ordinary one.
pub(super) fn special(id: u64, call: &CallExpr) -> Result<Option<Special>, Fault> {
    let name = call.func_name.as_str();
    // A method of that name on something is not ours.
    if !WINDOWS.contains(&name) || call.target.is_some() {
        return Ok(None);
    }
    if let Some(prediction) = predictions::prediction(id, call)? {
        let function = Function::Prediction(prediction);
        return Ok(Some(Special::Window(Call { function, over: Duration::ZERO })));
    }
    let fault = |example: &str| (id, format!("{name}(): write it like {example}"));
    let over = |example: &str| match call.args.first().map(|first| &first.expr) {
        Some(Expr::Literal(LiteralValue::String(text))) => {
            let over = duration::parse(text.inner()).map_err(|error| (id, format!("{name}(): {error}")))?;
            if over < Duration::from_secs(1) || over > LONGEST {
                return Err((id, format!("{name}(): a window is 1s to 1day")));
            }
            Ok(over)
        }
        _ => Err(fault(example)),
    };
    let simple = |function: Function| {
        let example = format!("{name}(\"5m\")");
        if call.args.len() != 1 {
            return Err(fault(&example));
        }
        Ok(Some(Special::Window(Call { function, over: over(&example)? })))
    };
    match name {
        "avg" => simple(Function::Avg),
        "min" => simple(Function::Min),
        "max" => simple(Function::Max),
        "sum" => simple(Function::Sum),
        "rate" => simple(Function::Rate),
        "delta" => simple(Function::Delta),
        "count" => simple(Function::Count),
        "stddev" => simple(Function::Stddev),
        "absent" => simple(Function::Absent),
        "percentile" => {
            const EXAMPLE: &str = "percentile(\"5m\", 95)";
            let [_, rank] = call.args.as_slice() else { return Err(fault(EXAMPLE)) };
            let rank = number(rank).ok_or_else(|| fault(EXAMPLE))?;
            if !(0.0..=100.0).contains(&rank) {
                return Err((id, "percentile(): it is between 0 and 100".to_owned()));
            }
            Ok(Some(Special::Window(Call { function: Function::Percentile(rank), over: over(EXAMPLE)? })))
        }
        "changed" if call.args.is_empty() => {
            Ok(Some(Special::Window(Call { function: Function::Changed, over: Duration::ZERO })))
        }
        "changed" => Err(fault("changed()")),
        _ => match call.args.as_slice() {
            [IdedExpr { expr: Expr::Literal(LiteralValue::Int(count)), .. }] => {
                let count = u32::try_from(*count.inner())
                    .ok()
                    .filter(|count| (1..=IN_A_ROW).contains(&i64::from(*count)));
                let count = count.ok_or_else(|| (id, format!("consecutive(): it is 1 to {IN_A_ROW}")))?;
                Ok(Some(Special::Consecutive(count)))
            }
            _ => Err(fault("consecutive(3)")),
        },
    }
}

/// At most [`CALLS`] of them.
pub(super) fn check_count(id: u64, calls: usize) -> Result<(), Fault> {
    if calls > CALLS {
        return Err((id, format!("more than {CALLS} windows in one expression: use fewer")));
    }
    Ok(())
}

fn number(node: &IdedExpr) -> Option<f64> {
    match &node.expr {
        Expr::Literal(LiteralValue::Int(int)) => i32::try_from(*int.inner()).ok().map(f64::from),
        Expr::Literal(LiteralValue::Double(double)) => Some(*double.inner()),
        _ => None,
    }
}

/// The nodes that all must be true for the whole to be true: only there `consecutive` has a meaning.
pub(super) fn conjuncts(node: &IdedExpr, found: &mut Vec<u64>) {
    match &node.expr {
        Expr::Call(call) if call.func_name == operators::LOGICAL_AND => {
            call.args.iter().for_each(|part| conjuncts(part, found));
        }
        _ => found.push(node.id),
    }
}
