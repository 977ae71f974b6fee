//! The little of an X.509 certificate that people want to know: until when it is valid, whose it is and from whom.

use super::tame;

const DAY: i64 = 86_400;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Common name of the issuer, or its organisation.
    pub issuer: String,
    /// Common name of its owner; many certificates have none.
    pub subject: String,
}

impl Certificate {
    /// `None` for what is no certificate.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (certificate, _) = take(der, SEQUENCE)?;
        let (mut body, _) = take(certificate, SEQUENCE)?;
        if let Some((_version, rest)) = take(body, VERSION) {
            body = rest;
        }
        let (_serial, body) = take(body, INTEGER)?;
        let (_algorithm, body) = take(body, SEQUENCE)?;
        let (issuer, body) = take(body, SEQUENCE)?;
        let (validity, body) = take(body, SEQUENCE)?;
        let (subject, _) = take(body, SEQUENCE)?;
        let (not_before, validity) = moment(validity)?;
        let (not_after, _) = moment(validity)?;
        let name = |of: &[u8]| name(of, COMMON_NAME).or_else(|| name(of, ORGANISATION)).unwrap_or_default();
        Some(Self { not_before, not_after, issuer: name(issuer), subject: name(subject) })
    }

    /// Days until it expires at `now`, in seconds since 1970; below 0 afterwards.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // seconds of some thousand years
    pub fn days_left(&self, now: i64) -> f64 {
        (self.not_after.saturating_sub(now) as f64) / (DAY as f64)
    }

    /// For people: `expires on 2027-02-01, in 72 days`.
    #[must_use]
    pub fn expiry(&self, now: i64) -> String {
        let days = self.not_after.saturating_sub(now).div_euclid(DAY);
        let date = date(self.not_after);
        match days {
            ..0 => format!("expired on {date}"),
            0 => format!("expires on {date}, in less than a day"),
            1 => format!("expires on {date}, in 1 day"),
            days => format!("expires on {date}, in {days} days"),
        }
    }
}

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

/// Tag, content and what follows of the first element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(count)?;
        length = bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Content and what follows, where the first element has this tag.
fn take(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(der)?;
    (tag == wanted).then_some((content, rest))
}

/// The first attribute of this kind in a distinguished name.
fn name(mut names: &[u8], wanted: &[u8]) -> Option<String> {
    while let Some((set, rest)) = take(names, SET) {
        names = rest;
        let Some((attribute, _)) = take(set, SEQUENCE) else { continue };
        let Some((kind, value)) = take(attribute, OBJECT_ID) else { continue };
        if kind == wanted {
            let (_string, text, _) = element(value)?;
            return Some(tame(text, 100));
        }
    }
    None
}

fn moment(der: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, text, rest) = element(der)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        UTC_TIME => {
            let (year, text) = text.split_at_checked(2)?;
            let year: i64 = digits(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        GENERALIZED_TIME => {
            let (year, text) = text.split_at_checked(4)?;
            (digits(year)?, text)
        }
        _ => return None,
    };
    let part = |from: usize| digits(text.get(from..from + 2)?);
    let (month, day, hour, minute) = (part(0)?, part(2)?, part(4)?, part(6)?);
    let second = if text.len() > 8 { part(8)? } else { 0 };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((days(year, month, day) * DAY + hour * 3600 + minute * 60 + second, rest))
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Days from 1970-01-01 to this day of the Gregorian calendar. The year counts from March here, so that the leap day
/// is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// `2027-02-01`
fn date(seconds: i64) -> String {
    let day = seconds.div_euclid(DAY) + 719_468;
    let era = day.div_euclid(146_097);
    let day = day.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day_of_month:02}", era * 400 + year + later)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_of_both_kinds_are_read() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (UTC_TIME, "500101000000Z", -631_152_000),
            (GENERALIZED_TIME, "20240229120000Z", 1_709_208_000),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
            der.extend_from_slice(text.as_bytes());
            assert_eq!(moment(&der).map(|(moment, _)| moment), Some(seconds), "{text}");
        }
        for text in ["x", "20241301000000Z", "20240101", "2024ä101000000Z", "+02401010000000Z"] {
            let mut der = vec![GENERALIZED_TIME, u8::try_from(text.len()).unwrap()];
            der.extend_from_slice(text.as_bytes());
            assert_eq!(moment(&der), None, "{text}");
        }
    }

    #[test]
    fn expiry_is_told_in_days() {
        let certificate = Certificate { not_after: 1_709_208_000, ..Certificate::default() };
        for (now, text) in [
            (1_709_208_000 - 86_400 * 72, "expires on 2024-02-29, in 72 days"),
            (1_709_208_000 - 86_401, "expires on 2024-02-29, in 1 day"),
            (1_709_208_000 - 1, "expires on 2024-02-29, in less than a day"),
            (1_709_208_000 + 1, "expired on 2024-02-29"),
        ] {
            assert_eq!(certificate.expiry(now), text);
        }
        assert!((certificate.days_left(1_709_208_000 + 43_200) + 0.5).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn dates_and_days_agree(seconds in -62_000_000_000_i64..253_402_300_799) {
            let text = date(seconds);
            let mut parts = text.rsplitn(3, '-').map(|part| part.parse::<i64>().unwrap());
            let (day, month, year) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            prop_assert_eq!(days(year, month, day), seconds.div_euclid(DAY));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _either = Certificate::read(&bytes);
        }

        #[test]
        fn no_damaged_certificate_panics(at in 0_usize..400, byte in any::<u8>(), length in 0_usize..400) {
            let key = rcgen::KeyPair::generate().unwrap();
            let whole = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
            let mut der = whole.der().to_vec();
            der.truncate(length.max(1));
            let at = at % der.len();
            der[at] = byte;
            let _either = Certificate::read(&der);
        }
    }
}
