//! Functions over predictions: `anomaly()`, `forecast("4h")`, `time_to("> 95")`, `outlier("web")`. Each is over the
//! result's value, or over the metric that is named last.

use std::{fmt, sync::Arc, time::Duration};

use cel::common::ast::{CallExpr, Expr, LiteralValue};
use protocol::{GroupName, duration, predict::Limit};

use super::compile::Fault;

/// Nearest and farthest moment of a forecast.
const NEAREST: Duration = Duration::from_secs(60);
const FARTHEST: Duration = Duration::from_secs(14 * 86_400);
/// Longest name of a metric, in bytes.
const METRIC: usize = 256;

/// Which line of a forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The value that is expected.
    Expected,
    /// Below and above it the value is with a probability of 2.5 % each.
    Low,
    High,
}

/// What is asked of predictions. An empty metric is the result's own value.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction {
    /// How unusual the value is, 0 to 1.
    Anomaly { metric: Arc<str> },
    /// The value after so long a time, 1 min to 14 days.
    Forecast { after: Duration, edge: Edge, metric: Arc<str> },
    /// Hours until the limit is reached; infinity: not within 14 days.
    TimeTo { limit: Limit, metric: Arc<str> },
    /// How unlike the others of the group the host is, 0 to 1.
    Outlier { group: GroupName, metric: Arc<str> },
}

impl Prediction {
    #[must_use]
    pub fn metric(&self) -> &Arc<str> {
        let (Self::Anomaly { metric }
        | Self::Forecast { metric, .. }
        | Self::TimeTo { metric, .. }
        | Self::Outlier { metric, .. }) = self;
        metric
    }
}

/// As it stands in a rule.
impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, argument) = match self {
            Self::Anomaly { .. } => ("anomaly", String::new()),
            Self::Forecast { after, edge, .. } => {
                let name = match edge {
                    Edge::Expected => "forecast",
                    Edge::Low => "forecast_low",
                    Edge::High => "forecast_high",
                };
                (name, format!("\"{}\"", duration::format(*after)))
            }
            Self::TimeTo { limit, .. } => ("time_to", format!("\"{limit}\"")),
            Self::Outlier { group, .. } => ("outlier", format!("\"{group}\"")),
        };
        let metric = self.metric();
        match (argument.is_empty(), metric.is_empty()) {
            (_, true) => write!(f, "{name}({argument})"),
            (true, false) => write!(f, "{name}({metric:?})"),
            (false, false) => write!(f, "{name}({argument}, {metric:?})"),
        }
    }
}

/// The prediction that `call` asks for. `None`: it asks for none.
pub(super) fn prediction(id: u64, call: &CallExpr) -> Result<Option<Prediction>, Fault> {
    let name = call.func_name.as_str();
    let example = match name {
        "anomaly" => "anomaly() or anomaly(\"/var\")",
        "forecast" | "forecast_low" | "forecast_high" => "forecast(\"4h\") or forecast(\"4h\", \"/var\")",
        "time_to" => "time_to(\"> 95\") or time_to(\"> 95\", \"/var\")",
        "outlier" => "outlier(\"web\") or outlier(\"web\", \"/var\")",
        _ => return Ok(None),
    };
    let fault = || (id, format!("{name}(): write it like {example}"));
    let texts: Option<Vec<&str>> = call
        .args
        .iter()
        .map(|arg| match &arg.expr {
            Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
            _ => None,
        })
        .collect();
    let texts = texts.ok_or_else(fault)?;
    let (argument, metric) = match (name, texts.as_slice()) {
        ("anomaly", []) => ("", ""),
        ("anomaly", [metric]) => ("", *metric),
        ("anomaly", _) => return Err(fault()),
        (_, [argument]) => (*argument, ""),
        (_, [argument, metric]) => (*argument, *metric),
        _ => return Err(fault()),
    };
    if metric.len() > METRIC {
        return Err((id, format!("{name}(): the name of a metric has at most {METRIC} bytes")));
    }
    let metric: Arc<str> = metric.into();
    let failed = |error: &dyn fmt::Display| (id, format!("{name}(): {error}"));
    Ok(Some(match name {
        "anomaly" => Prediction::Anomaly { metric },
        "time_to" => {
            let limit = argument.parse().map_err(|error| failed(&error))?;
            Prediction::TimeTo { limit, metric }
        }
        "outlier" => {
            let group = argument.parse().map_err(|error| failed(&error))?;
            Prediction::Outlier { group, metric }
        }
        _ => {
            let after = duration::parse(argument).map_err(|error| failed(&error))?;
            if !(NEAREST..=FARTHEST).contains(&after) {
                return Err(failed(&"a forecast is for 1m to 14days ahead"));
            }
            let edge = match name {
                "forecast_low" => Edge::Low,
                "forecast_high" => Edge::High,
                _ => Edge::Expected,
            };
            Prediction::Forecast { after, edge, metric }
        }
    }))
}
