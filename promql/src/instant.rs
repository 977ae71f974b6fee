//! Functions of one number.

use jiff::{Timestamp, civil::Weekday, tz::TimeZone};

/// The function of that name, where it takes a number and nothing else.
pub(crate) fn named(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sgn" => |value| {
            if value > 0.0 {
                1.0
            } else if value < 0.0 {
                -1.0
            } else {
                value
            }
        },
        "deg" => f64::to_degrees,
        "rad" => f64::to_radians,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        _ => return None,
    })
}

/// The function of that name, where its number is seconds since 1970 and defaults to the step's time. All in UTC.
pub(crate) fn of_date(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "year" => |value| date(value, |zoned| zoned.year()),
        "month" => |value| date(value, |zoned| zoned.month().into()),
        "day_of_month" => |value| date(value, |zoned| zoned.day().into()),
        "day_of_week" => |value| date(value, |zoned| i16::from(zoned.weekday().since(Weekday::Sunday))),
        "day_of_year" => |value| date(value, |zoned| zoned.day_of_year()),
        "days_in_month" => |value| date(value, |zoned| zoned.days_in_month().into()),
        "hour" => |value| date(value, |zoned| zoned.hour().into()),
        "minute" => |value| date(value, |zoned| zoned.minute().into()),
        _ => return None,
    })
}

fn date(seconds: f64, part: fn(&jiff::Zoned) -> i16) -> f64 {
    // A NaN would count as 0.
    if seconds.is_nan() {
        return f64::NAN;
    }
    Timestamp::from_second(seconds as i64)
        .map_or(f64::NAN, |time| f64::from(part(&time.to_zoned(TimeZone::UTC))))
}

/// `value` to the nearest multiple of `to`, halves up.
pub(crate) fn round(value: f64, to: f64) -> f64 {
    // As Prometheus does it, to the same bit.
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

/// The greater; infinity is greater than NaN, else NaN wins.
pub(crate) fn greater(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        return f64::INFINITY;
    }
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The lesser; minus infinity is less than NaN, else NaN wins.
pub(crate) fn lesser(a: f64, b: f64) -> f64 {
    -greater(-a, -b)
}
