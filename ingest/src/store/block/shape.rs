//! A result without its numbers and its output: what most results of a check have in common.

use protocol::{AgentId, CheckName, CheckResult, Metric, Origin, Scalar, Status, result::Usage};
use serde::{Deserialize, Serialize};

use super::BlockError;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Shape {
    v: u8,
    epoch: u64,
    #[serde(with = "status")]
    pub(super) status: Status,
    value: Value,
    unit: Option<String>,
    metrics: Vec<MetricShape>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    pub(super) usage: bool,
    skipped: u64,
    revision: u64,
    #[serde(with = "origin")]
    origin: Origin,
    replayed: bool,
    id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Value {
    None,
    Bool(bool),
    Text(String),
    /// In the column, written with a fraction or an exponent.
    Float,
    /// In the column, written as a whole number; every f64 holds it exactly.
    Whole,
    /// A whole number that an f64 may not hold exactly.
    Large(Large),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Large {
    Positive(u64),
    Negative(i64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MetricShape {
    column: u32,
    unit: Option<String>,
    warn: Option<String>,
    crit: Option<String>,
    min: Option<f64>,
    max: Option<f64>,
}

/// A result taken apart.
pub(super) struct Split {
    pub(super) shape: Shape,
    /// For the column of values.
    pub(super) value: Option<f64>,
}

/// The numbers that make a shape a result.
pub(super) struct Numbers<'a> {
    pub(super) at_ms: u64,
    pub(super) seq: u64,
    pub(super) duration_ms: u64,
    pub(super) value: Option<f64>,
    pub(super) usage: Option<(u64, u64)>,
    pub(super) metrics: &'a [f64],
}

impl Split {
    /// `column_of` gives the column of a metric's name.
    pub(super) fn of<'a>(result: &'a CheckResult, mut column_of: impl FnMut(&'a str) -> u32) -> Self {
        let (kind, value) = split_value(result.value.as_ref());
        let metrics = result.metrics.iter().map(|metric| MetricShape {
            column: column_of(&metric.name),
            unit: metric.unit.clone(),
            warn: metric.warn.clone(),
            crit: metric.crit.clone(),
            min: metric.min,
            max: metric.max,
        });
        let shape = Shape {
            v: result.v,
            epoch: result.epoch,
            status: result.status,
            value: kind,
            unit: result.unit.clone(),
            metrics: metrics.collect(),
            exit_code: result.exit_code,
            signal: result.signal,
            usage: result.usage.is_some(),
            skipped: result.skipped,
            revision: result.revision,
            origin: result.origin,
            replayed: result.replayed,
            id: result.id.clone(),
        };
        Self { shape, value }
    }
}

fn split_value(value: Option<&Scalar>) -> (Value, Option<f64>) {
    const EXACT: u64 = 1 << 53;
    match value {
        None => (Value::None, None),
        Some(Scalar::Bool(truth)) => (Value::Bool(*truth), None),
        Some(Scalar::Text(text)) => (Value::Text(text.clone()), None),
        Some(Scalar::Number(number)) => match (number.as_u64(), number.as_i64()) {
            (Some(whole), _) if whole > EXACT => (Value::Large(Large::Positive(whole)), None),
            (None, Some(whole)) if whole.unsigned_abs() > EXACT => {
                (Value::Large(Large::Negative(whole)), None)
            }
            (None, None) => (Value::Float, number.as_f64()),
            _ => (Value::Whole, number.as_f64()),
        },
    }
}

impl Shape {
    pub(super) fn metric_columns(&self) -> impl Iterator<Item = usize> {
        self.metrics.iter().map(|metric| usize::try_from(metric.column).unwrap_or(usize::MAX))
    }

    /// How many numbers a result of this shape has in the column of a metric, or in that of the values.
    pub(super) fn numbers(&self, column: Option<usize>) -> usize {
        match column {
            None => usize::from(matches!(self.value, Value::Float | Value::Whole)),
            Some(column) => self.metric_columns().filter(|own| *own == column).count(),
        }
    }

    /// The number that a value stands for that is not in the column; NaN for none.
    #[allow(clippy::cast_precision_loss)] // the nearest is meant
    pub(super) fn fixed_value(&self) -> f64 {
        match &self.value {
            Value::Bool(truth) => f64::from(u8::from(*truth)),
            Value::Large(Large::Positive(whole)) => *whole as f64,
            Value::Large(Large::Negative(whole)) => *whole as f64,
            _ => f64::NAN,
        }
    }

    pub(super) fn join(
        &self,
        (agent, check): (&AgentId, &CheckName),
        numbers: &Numbers<'_>,
        output: String,
        names: &[String],
    ) -> Result<CheckResult, BlockError> {
        let mut metrics = Vec::with_capacity(self.metrics.len());
        for (metric, value) in self.metrics.iter().zip(numbers.metrics) {
            let name = usize::try_from(metric.column).ok().and_then(|column| names.get(column));
            metrics.push(Metric {
                name: name.ok_or(BlockError::Part("metric's name"))?.clone(),
                value: *value,
                unit: metric.unit.clone(),
                warn: metric.warn.clone(),
                crit: metric.crit.clone(),
                min: metric.min,
                max: metric.max,
            });
        }
        Ok(CheckResult {
            v: self.v,
            agent: agent.clone(),
            check: check.clone(),
            epoch: self.epoch,
            seq: numbers.seq,
            at_ms: numbers.at_ms,
            status: self.status,
            value: self.value(numbers.value)?,
            unit: self.unit.clone(),
            metrics,
            output,
            exit_code: self.exit_code,
            signal: self.signal,
            usage: numbers.usage.map(|(cpu_us, memory_bytes)| Usage { cpu_us, memory_bytes }),
            duration_ms: numbers.duration_ms,
            skipped: self.skipped,
            revision: self.revision,
            origin: self.origin,
            replayed: self.replayed,
            id: self.id.clone(),
        })
    }

    fn value(&self, number: Option<f64>) -> Result<Option<Scalar>, BlockError> {
        let missing = || BlockError::Part("value");
        Ok(Some(match &self.value {
            Value::None => return Ok(None),
            Value::Bool(truth) => Scalar::Bool(*truth),
            Value::Text(text) => Scalar::Text(text.clone()),
            Value::Large(Large::Positive(whole)) => Scalar::Number((*whole).into()),
            Value::Large(Large::Negative(whole)) => Scalar::Number((*whole).into()),
            Value::Float => {
                let number = number.and_then(serde_json::Number::from_f64);
                Scalar::Number(number.ok_or_else(missing)?)
            }
            Value::Whole => {
                #[allow(clippy::cast_possible_truncation)] // whole and at most 2^53: exact
                let whole = number.ok_or_else(missing)? as i64;
                Scalar::Number(whole.into())
            }
        }))
    }
}

/// By number: in a format without names, the wire's words would cost more than the rest.
mod status {
    use protocol::Status;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const ALL: [Status; 4] = [Status::Ok, Status::Unknown, Status::Warning, Status::Critical];

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
    pub(super) fn serialize<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
        let number = ALL.iter().position(|known| known == status).unwrap_or(1);
        serializer.serialize_u8(u8::try_from(number).unwrap_or(1))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
        let number = usize::from(u8::deserialize(deserializer)?);
        ALL.get(number).copied().ok_or_else(|| D::Error::custom("not a status"))
    }
}

mod origin {
    use protocol::Origin;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
    pub(super) fn serialize<S: Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(match origin {
            Origin::Agent => 0,
            Origin::Http => 1,
            Origin::Other => 2,
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Origin, D::Error> {
        Ok(match u8::deserialize(deserializer)? {
            0 => Origin::Agent,
            1 => Origin::Http,
            _ => Origin::Other,
        })
    }
}
