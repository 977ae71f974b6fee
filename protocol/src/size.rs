//! Sizes as people write them: `64KiB`, `512MiB`, `1048576`.

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size: write it like 64KiB, 512MiB or 1048576")]
pub struct NotASize {
    text: String,
}

/// Bytes: a whole number, with one of the units B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024).
///
/// # Errors
/// [`NotASize`], also for what does not fit 64 bits.
pub fn parse(text: &str) -> Result<u64, NotASize> {
    let wrong = || NotASize { text: text.chars().take(64).collect() };
    let trimmed = text.trim();
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((trimmed.strip_suffix(unit)?.trim_end(), *factor)))
        .unwrap_or((trimmed, 1));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

/// The largest unit of 1024 that loses nothing.
#[must_use]
pub fn format(bytes: u64) -> String {
    let unit = UNITS.iter().rev().filter(|(unit, _)| unit.ends_with("iB"));
    let whole = unit.into_iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    whole.map_or_else(|| bytes.to_string(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("64KiB", 65_536),
            ("2 MiB", 2 << 20),
            ("3kB", 3_000),
            ("5B", 5),
            ("1TB", 1_000_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for (bytes, text) in [(0, "0"), (17, "17"), (1 << 20, "1MiB"), (1536, "1536"), (3 << 30, "3GiB")] {
            assert_eq!((format(bytes).as_str(), parse(text)), (text, Ok(bytes)));
        }
        for bad in ["", "KiB", "-1", "1.5MiB", "1 KB", "99999999999999999999", "99999999999TiB", "1e3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
