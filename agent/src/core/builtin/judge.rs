//! From what was measured to a finding, in the manner of the standard plugins.

use protocol::{Metric, Scalar, Status, Threshold, limits};

use super::{Builtin, Defaults, Judged, Measured, Number, Side, highest};
use crate::core::{
    check::Check,
    output::{Finding, status_of},
};

/// The two thresholds of a number.
#[derive(Debug, Clone, Default)]
struct Pair {
    warning: Option<Threshold>,
    critical: Option<Threshold>,
}

impl Pair {
    fn beyond(side: Side, warning: Option<f64>, critical: Option<f64>) -> Self {
        let beyond = |bound: Option<f64>| side.beyond(bound?).parse().ok();
        Self { warning: beyond(warning), critical: beyond(critical) }
    }

    /// Those of the check, or the defaults when it has neither.
    fn of(check: &Check, defaults: &Defaults, processors: u32) -> Self {
        if check.warning.is_some() || check.critical.is_some() {
            return Self { warning: check.warning.clone(), critical: check.critical.clone() };
        }
        let factor = if defaults.per_processor { f64::from(processors.max(1)) } else { 1.0 };
        let scaled = |bound: Option<f64>| bound.map(|bound| bound * factor);
        Self::beyond(defaults.side, scaled(defaults.warning), scaled(defaults.critical))
    }
}

/// Judge a reading by the check's thresholds, or by the defaults of the built-in when it has neither.
#[must_use]
pub fn judge(builtin: &Builtin, check: &Check, measured: Result<Measured, String>) -> Finding {
    let title = builtin.title();
    let measured = match measured {
        Ok(measured) => measured,
        Err(reason) => return Finding::unknown(format!("{title} UNKNOWN - {reason}")),
    };
    let of_check = Pair::of(check, &builtin.defaults, measured.processors);
    let mut status = measured.at_least.unwrap_or(Status::Ok);
    let mut metrics = Vec::new();
    for number in &measured.numbers {
        let own = match number.judged {
            Judged::No | Judged::ByCheck | Judged::Beside => Pair::default(),
            Judged::Above { warning, critical } => Pair::beyond(Side::Above, warning, critical),
            Judged::Below { warning, critical } => Pair::beyond(Side::Below, warning, critical),
        };
        let by_check = matches!(number.judged, Judged::ByCheck | Judged::Beside);
        let pair = if by_check { &of_check } else { &own };
        let value = rounded(number.value);
        status = status.max(status_of(pair.warning.as_ref(), pair.critical.as_ref(), value));
        // Each is judged, even where a result can hold no more of them.
        if metrics.len() < limits::METRICS {
            metrics.push(metric(number, value, pair));
        }
    }
    let worst = highest(measured.numbers.iter().filter(|number| number.judged == Judged::ByCheck));
    let unit = worst.map(|number| number.unit).filter(|unit| !unit.is_empty());
    Finding {
        status,
        value: worst.and_then(|number| Scalar::number(rounded(number.value))),
        unit: check.unit.clone().or_else(|| unit.map(str::to_owned)),
        metrics,
        output: format!("{title} {} - {}", status.as_str().to_ascii_uppercase(), measured.text),
        exit_code: None,
        signal: None,
    }
}

fn metric(number: &Number, value: f64, pair: &Pair) -> Metric {
    let text = |threshold: &Option<Threshold>| threshold.as_ref().map(|t| t.as_str().to_owned());
    Metric {
        name: number.name.clone(),
        value,
        unit: (!number.unit.is_empty()).then(|| number.unit.to_owned()),
        warn: text(&pair.warning),
        crit: text(&pair.critical),
        min: number.min,
        max: number.max,
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
