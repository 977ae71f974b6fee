//! The parameters of Prometheus' HTTP API.

use promql::{Error, Matcher};

/// Longest time span that a parameter may name: far beyond all samples, far below what overflows.
const FURTHEST_MS: f64 = 1e15;

/// What came with one request, in order.
pub struct Parameters<'a>(pub &'a [(String, String)]);

impl Parameters<'_> {
    /// The first of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// [`Error::BadData`] when it is missing or empty.
    pub fn text(&self, name: &str) -> Result<&str, Error> {
        match self.get(name) {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(invalid(name, "it is missing")),
        }
    }

    /// A time as seconds since 1970 or RFC 3339, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`Error::BadData`].
    pub fn time(&self, name: &str) -> Result<Option<i64>, Error> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let seconds = text.parse::<f64>().ok().and_then(millis);
        let stamp = || text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
        let cannot = || invalid(name, &format!("cannot parse {} to a valid timestamp", quoted(text)));
        seconds.or_else(stamp).map(Some).ok_or_else(cannot)
    }

    /// A duration as seconds or as `5m`, in milliseconds.
    ///
    /// # Errors
    /// [`Error::BadData`].
    pub fn duration(&self, name: &str) -> Result<Option<i64>, Error> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let seconds = text.parse::<f64>().ok().and_then(millis);
        let words = || {
            let duration = protocol::duration::parse(text).ok()?;
            i64::try_from(protocol::duration::millis(duration)).ok()
        };
        let cannot = || invalid(name, &format!("cannot parse {} to a valid duration", quoted(text)));
        seconds.or_else(words).map(Some).ok_or_else(cannot)
    }

    /// The selectors of `match[]`.
    ///
    /// # Errors
    /// [`Error::BadData`].
    pub fn selectors(&self) -> Result<Vec<Vec<Matcher>>, Error> {
        let texts = self.0.iter().filter(|(name, _)| name == "match[]");
        texts.map(|(_, text)| promql::parse_selector(text)).collect()
    }
}

fn millis(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1e3).round();
    // Within what an i64 holds.
    (ms.abs() <= FURTHEST_MS).then_some(ms as i64)
}

fn invalid(name: &str, reason: &str) -> Error {
    Error::BadData(format!("invalid parameter \"{name}\": {reason}"))
}

fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_are_read_in_both_forms() {
        let of = |text: &str| vec![("p".to_owned(), text.to_owned())];
        for (text, expected) in [
            ("1795200000", Some(1_795_200_000_000)),
            ("1795200000.123", Some(1_795_200_000_123)),
            ("-1.5", Some(-1_500)),
            ("2026-11-20T18:40:00Z", Some(1_795_200_000_000)),
            ("2026-11-20T19:40:00.5+01:00", Some(1_795_200_000_500)),
            ("yesterday", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
        ] {
            assert_eq!(Parameters(&of(text)).time("p").ok().flatten(), expected, "{text}");
        }
        for (text, expected) in [
            ("15", Some(15_000)),
            ("0.001", Some(1)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("x", None),
        ] {
            assert_eq!(Parameters(&of(text)).duration("p").ok().flatten(), expected, "{text}");
        }
        assert!(Parameters(&of("")).text("p").is_err());
        assert_eq!(Parameters(&[]).time("p"), Ok(None));
    }
}
