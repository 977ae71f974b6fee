//! One measured value: a number, a text or a truth value.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The `value` of a result. A number keeps the form in which it was sent (`12` stays `12`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
}

impl Scalar {
    /// The value as a number: a truth value counts as 0 or 1, a text has none.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            Self::Number(n) => n.as_f64(),
            Self::Text(_) => None,
        }
    }

    /// A finite number; whole numbers up to 2^53 are written without a fraction. `None` for NaN and infinities.
    #[must_use]
    pub fn number(value: f64) -> Option<Self> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let number = if value.fract() == 0.0 && value.abs() <= EXACT {
            #[allow(clippy::cast_possible_truncation)] // whole and below 2^53: exact
            let whole = value as i64;
            whole.into()
        } else {
            serde_json::Number::from_f64(value)?
        };
        Some(Self::Number(number))
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => b.fmt(f),
            Self::Number(n) => n.fmt(f),
            Self::Text(t) => f.pad(t),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_form() {
        for json in ["12", "12.5", "-0.1", "18446744073709551615", "true", "\"dnf\""] {
            let scalar: Scalar = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&scalar).unwrap(), json);
        }
        assert!(serde_json::from_str::<Scalar>("[1]").is_err());
    }

    #[test]
    fn only_finite_numbers_are_values() {
        assert_eq!(Scalar::number(3.0).unwrap().to_string(), "3");
        assert_eq!(Scalar::number(3.5).unwrap().to_string(), "3.5");
        assert_eq!(Scalar::number(f64::NAN), None);
        assert_eq!(Scalar::number(f64::INFINITY), None);
    }
}
