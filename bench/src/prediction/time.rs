//! Times as tables write them.

/// Milliseconds since 1970 out of `2014-02-14 14:30:00`, with `T`, a fraction, `Z` or an offset where there is one,
/// or out of a plain number of seconds. `None` for anything else.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && (0.0..1e13).contains(&seconds)).then_some((seconds * 1000.0) as u64);
    }
    let (date, time) = text.split_at_checked(10)?;
    let mut date = date.split(['-', '/']).map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let time = time.trim_start_matches(['T', ' ']);
    let (clock, offset) = match time.rfind(['+', '-']) {
        Some(at) => (time.get(..at)?, time.get(at..)?),
        None => (time.trim_end_matches(['Z', 'z']), ""),
    };
    let mut parts = clock.split(':');
    let mut part = || {
        parts.next().filter(|part| !part.is_empty()).map_or(Some(0.0), |part| part.trim().parse::<f64>().ok())
    };
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    let sign = if offset.starts_with('-') { -1.0 } else { 1.0 };
    let mut parts = offset.trim_start_matches(['+', '-']).split(':');
    let mut part = || parts.next().and_then(|part| part.parse::<f64>().ok()).unwrap_or_default();
    let shift = sign * (part() * 3600.0 + part() * 60.0);
    let of_day = hours * 3600.0 + minutes * 60.0 + seconds - shift;
    if !of_day.is_finite() || of_day.abs() > 200_000.0 {
        return None;
    }
    let ms = days(year, month, day) * 86_400_000 + (of_day * 1000.0).round() as i64;
    u64::try_from(ms).ok()
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_kinds() {
        let at = Some(1_392_388_200_000);
        for text in [
            "2014-02-14 14:30:00",
            "2014-02-14T14:30:00Z",
            "2014-02-14 14:30:00.000000",
            "2014-02-14T16:30:00+02:00",
            "1392388200",
        ] {
            assert_eq!(parse(text), at, "{text}");
        }
        for text in ["", "x", "2014-13-01 00:00:00", "2014-02-14 aa:00:00", "nan", "-5"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
