//! When a number is too high or too low: a comparison (`> 90`) or a Nagios range (`10:20`, `@5:6`).

use std::{fmt, str::FromStr};

use nagios_range::NagiosRange;
use serde::{Deserialize, Serialize};

/// A `warning` or `critical` of a check. It keeps the text that it was written as.
///
/// Ranges follow the Monitoring Plugins guidelines: `10` alerts outside 0..10, `10:` below 10, `~:10` above 10,
/// `10:20` outside, `@10:20` inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold {
    text: Box<str>,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Compare(Comparison, f64),
    Range(NagiosRange),
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

/// Why a text is not a threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a threshold: write a comparison such as \"> 90\", \"<= 5\" or \"!= 0\", or a Nagios range such as \"10:20\""
)]
pub struct ThresholdError {
    text: String,
}

impl Threshold {
    /// Whether `value` is on the wrong side.
    #[must_use]
    #[allow(clippy::float_cmp)] // an operator who writes == means it
    pub fn violated_by(&self, value: f64) -> bool {
        match &self.test {
            Test::Compare(comparison, bound) => match comparison {
                Comparison::Greater => value > *bound,
                Comparison::GreaterOrEqual => value >= *bound,
                Comparison::Less => value < *bound,
                Comparison::LessOrEqual => value <= *bound,
                Comparison::Equal => value == *bound,
                Comparison::NotEqual => value != *bound,
            },
            Test::Range(range) => range.check(value),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        // Two-character operators first: "> " is a prefix of ">=".
        const COMPARISONS: [(&str, Comparison); 6] = [
            (">=", Comparison::GreaterOrEqual),
            ("<=", Comparison::LessOrEqual),
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            (">", Comparison::Greater),
            ("<", Comparison::Less),
        ];
        let error = || ThresholdError { text: text.chars().take(100).collect() };
        let trimmed = text.trim();
        let comparison = COMPARISONS
            .into_iter()
            .find_map(|(operator, comparison)| Some((comparison, trimmed.strip_prefix(operator)?)));
        let test = match comparison {
            Some((comparison, bound)) => {
                let bound: f64 = bound.trim().parse().map_err(|_| error())?;
                if !bound.is_finite() {
                    return Err(error());
                }
                Test::Compare(comparison, bound)
            }
            None if trimmed.len() <= 100 && trimmed.is_ascii() => {
                let range = NagiosRange::from(trimmed).map_err(|_| error())?;
                if range.start().is_nan() || range.end().is_nan() {
                    return Err(error());
                }
                Test::Range(range)
            }
            None => return Err(error()),
        };
        Ok(Self { text: trimmed.into(), test })
    }
}

impl TryFrom<String> for Threshold {
    type Error = ThresholdError;
    fn try_from(text: String) -> Result<Self, ThresholdError> {
        text.parse()
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> String {
        threshold.text.into()
    }
}

impl PartialEq for Threshold {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn thresholds_alert_on_the_side_they_name() {
        for (text, fine, wrong) in [
            ("> 90", 90.0, 90.1),
            (">=90", 89.9, 90.0),
            ("< 5", 5.0, 4.0),
            ("<= 5", 5.1, 5.0),
            ("== 0", 1.0, 0.0),
            ("!= 0", 0.0, 1.0),
            ("10", 10.0, 10.5),
            ("10", 0.0, -1.0),
            ("10:", 10.0, 9.0),
            ("~:10", -1e9, 11.0),
            ("10:20", 15.0, 21.0),
            ("@10:20", 21.0, 10.0),
        ] {
            let threshold: Threshold = text.parse().unwrap();
            assert!(!threshold.violated_by(fine), "{text} at {fine}");
            assert!(threshold.violated_by(wrong), "{text} at {wrong}");
        }
    }

    #[test]
    fn what_is_not_a_threshold_says_how_to_write_one() {
        for bad in ["", ">", "> x", "> NaN", "> inf", "abc", "20:10", "1:2:3", "@", "nan"] {
            let error = bad.parse::<Threshold>().expect_err(bad).to_string();
            assert!(error.contains("is not a threshold: write"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}", value in any::<f64>()) {
            if let Ok(threshold) = text.parse::<Threshold>() {
                let _either = threshold.violated_by(value);
                prop_assert_eq!(threshold.as_str().parse::<Threshold>().unwrap(), threshold);
            }
        }
    }
}
