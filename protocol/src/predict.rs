//! Questions about what comes next and who is unlike the others. Ingest answers them, since it has the history.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{AgentId, CheckName, alert::Severity};

/// The side of a number that is not to be reached: `> 95` or `< 5`. `>=` and `<=` mean the same here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Limit {
    Above(f64),
    Below(f64),
}

/// Why a text is not a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a limit: write it like \"> 95\" or \"< 5\"")]
pub struct LimitError {
    text: String,
}

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let error = || LimitError { text: text.chars().take(100).collect() };
        let trimmed = text.trim();
        let (above, number) = match (trimmed.strip_prefix('>'), trimmed.strip_prefix('<')) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            (None, None) => return Err(error()),
        };
        let number = number.strip_prefix('=').unwrap_or(number).trim();
        let number: f64 = number.parse().map_err(|_| error())?;
        if !number.is_finite() {
            return Err(error());
        }
        Ok(if above { Self::Above(number) } else { Self::Below(number) })
    }
}

impl TryFrom<String> for Limit {
    type Error = LimitError;
    fn try_from(text: String) -> Result<Self, LimitError> {
        text.parse()
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> String {
        limit.to_string()
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Above(number) => write!(f, "> {number}"),
            Self::Below(number) => write!(f, "< {number}"),
        }
    }
}

/// Request on `dogwatch.v1.query.predict`, answered by ingest with a [`Prediction`] of one number of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictQuery {
    pub agent: AgentId,
    pub check: CheckName,
    /// Empty: the result's own value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// How far to look ahead, in milliseconds, up to 14 days; 0: no forecast is asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub horizon_ms: u64,
    /// When is it reached?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Give the values of so long a time, in milliseconds up to 60 days, and what was unusual among them; 0: neither.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub history_ms: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Value>,
    /// Unusual values of that time, oldest first: those with a score of 0.5 and more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anomalies: Vec<Anomaly>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to: Option<TimeTo>,
}

/// A value, or the mean of a short time that begins at `at_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Value {
    pub at_ms: u64,
    pub value: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    pub at_ms: u64,
    pub value: f64,
    /// As `anomaly()` in rules: 0.5 comes once in a thousand usual values, 0.9 in ten thousand.
    pub score: f64,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// In order; none when there is too little to go by.
    pub steps: Vec<Step>,
    pub why: String,
}

/// The value expected, and where it is with 95 % probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub at_ms: u64,
    pub value: f64,
    pub lower: f64,
    pub upper: f64,
}

/// Hours from now to a limit. Absent: not within 14 days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimeTo {
    pub limit: Limit,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<f64>,
    /// With 95 % probability not before this, and not after the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<f64>,
    /// There is too little to go by: that no hours are given means nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    pub why: String,
}

/// Most hosts of one [`OutlierQuery`].
pub const OUTLIER_HOSTS: usize = 1_000;

/// Request on `dogwatch.v1.query.outliers`, answered by ingest with an [`OutlierList`]: which of these hosts is unlike
/// the others on one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierQuery {
    /// At most [`OUTLIER_HOSTS`]; fewer than 4 are not compared.
    pub agents: Vec<AgentId>,
    pub check: CheckName,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// The time that is compared, in milliseconds up to now; 0 stands for a day.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub over_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OutlierList {
    /// In the order of the question.
    pub hosts: Vec<Outlier>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outlier {
    pub agent: AgentId,
    /// 0 like the others, 0.5 and more unlike them, 1 at most.
    pub score: f64,
    /// `level`, `change`, `trend`, `noise`, `bursts`, `flat` or `lag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    pub why: String,
}

/// Request on `dogwatch.v1.query.suggest`, answered by ingest with [`Suggestions`]: rules for a check, from what it
/// measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestQuery {
    pub check: CheckName,
    /// The time that is looked at, in milliseconds up to 60 days; 0 stands for 14 days.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub over_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Suggestions {
    /// Hosts that were looked at, of all that measured it.
    pub hosts: u64,
    pub of: u64,
    /// Values, or means of short times, that were looked at.
    pub values: u64,
    pub suggestions: Vec<Suggestion>,
}

/// A rule that would be worth having.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suggestion {
    /// What it looks for: `high`, `low`, `other`, `unusual` or `filling`.
    pub name: String,
    /// Condition of the rule.
    pub when: String,
    pub severity: Severity,
    /// How often it would have fired, and on how many hosts.
    pub fired: u64,
    pub fired_hosts: u64,
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_are_written() {
        for (text, limit) in
            [("> 95", Limit::Above(95.0)), (">=95.5", Limit::Above(95.5)), (" < -5 ", Limit::Below(-5.0))]
        {
            assert_eq!(text.parse(), Ok(limit));
            assert_eq!(limit.to_string().parse(), Ok(limit));
        }
        for bad in ["", "95", "> x", "> inf", "> NaN", "== 5", "10:20"] {
            assert!(bad.parse::<Limit>().unwrap_err().to_string().contains("write it like"), "{bad}");
        }
    }
}
