//! Moments in documents: `2026-11-21T22:00:00Z` or with an offset, kept as milliseconds since 1970.

use jiff::Timestamp;

/// Why a text is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a moment: write date, time and offset, such as 2026-11-21T22:00:00Z or 2026-11-21T23:00:00+01:00"
)]
pub struct TimestampError {
    text: String,
}

/// # Errors
/// [`TimestampError`] for another form, and for times before 1970.
pub fn parse(text: &str) -> Result<u64, TimestampError> {
    let error = || TimestampError { text: text.chars().take(100).collect() };
    let moment: Timestamp = text.trim().parse().map_err(|_| error())?;
    u64::try_from(moment.as_millisecond()).map_err(|_| error())
}

/// The moment in UTC; the number itself behind the year 9999.
#[must_use]
pub fn format(at_ms: u64) -> String {
    let moment = i64::try_from(at_ms).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    moment.map_or_else(|| at_ms.to_string(), |moment| moment.to_string())
}

/// For `#[serde(with = …)]`: an optional moment as text.
pub mod option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(at_ms: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        at_ms.map(super::format).serialize(serializer)
    }

    /// # Errors
    /// The deserializer's own, and [`super::TimestampError`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_their_offset_and_written_in_utc() {
        for (text, written) in [
            ("2026-11-21T22:00:00Z", "2026-11-21T22:00:00Z"),
            ("2026-11-21T23:00:00+01:00", "2026-11-21T22:00:00Z"),
            ("2026-11-21 22:00:00.5Z", "2026-11-21T22:00:00.5Z"),
        ] {
            assert_eq!(format(parse(text).unwrap()), written);
        }
        for bad in ["", "tomorrow", "2026-11-21", "2026-11-21T22:00:00", "1969-12-31T23:59:59Z"] {
            assert!(parse(bad).unwrap_err().to_string().contains("is not a moment: write"), "{bad}");
        }
    }
}
