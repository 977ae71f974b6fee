//! A result as rows: one for its own value, and one for each of its metrics.

use protocol::{CheckResult, Origin, Scalar};

/// One row of a table; what a result says once stands in each of its rows, its output in the first.
#[derive(Debug, PartialEq)]
pub(super) struct Row<'a> {
    pub(super) result: &'a CheckResult,
    /// `None` in the row of the result's own value.
    pub(super) metric: Option<&'a str>,
    pub(super) value: Option<f64>,
    /// A value that is a text.
    pub(super) text: Option<&'a str>,
    pub(super) unit: Option<&'a str>,
    pub(super) output: Option<&'a str>,
}

pub(super) fn rows(result: &CheckResult) -> impl Iterator<Item = Row<'_>> {
    let text = match &result.value {
        Some(Scalar::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let own = Row {
        result,
        metric: None,
        value: result.value.as_ref().and_then(Scalar::as_f64),
        text,
        unit: result.unit.as_deref(),
        output: Some(result.output.as_str()).filter(|output| !output.is_empty()),
    };
    let metrics = result.metrics.iter().map(move |metric| Row {
        result,
        metric: Some(&metric.name),
        value: Some(metric.value),
        text: None,
        unit: metric.unit.as_deref(),
        output: None,
    });
    std::iter::once(own).chain(metrics)
}

pub(super) fn origin(result: &CheckResult) -> &'static str {
    match result.origin {
        Origin::Agent => "agent",
        Origin::Http => "http",
        Origin::Other => "other",
    }
}
