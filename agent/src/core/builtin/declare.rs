//! Short words in which the tables declare thresholds, metrics and options of built-in checks.

use super::{About, Defaults, Kind, Opt, Side};

pub(super) const fn above(warning: f64, critical: f64) -> Defaults {
    Defaults { warning: Some(warning), critical: Some(critical), per_processor: false, side: Side::Above }
}

pub(super) const fn above_warning(warning: f64) -> Defaults {
    Defaults { warning: Some(warning), critical: None, per_processor: false, side: Side::Above }
}

pub(super) const fn above_critical(critical: f64) -> Defaults {
    Defaults { warning: None, critical: Some(critical), per_processor: false, side: Side::Above }
}

/// Lowest values that are fine.
pub(super) const fn below(warning: f64, critical: f64) -> Defaults {
    Defaults { warning: Some(warning), critical: Some(critical), per_processor: false, side: Side::Below }
}

/// A metric that the thresholds of the check judge.
pub(super) const fn judged(name: &'static str, unit: &'static str, about: &'static str) -> About {
    About { name, unit, about, judged: true }
}

pub(super) const fn shown(name: &'static str, unit: &'static str, about: &'static str) -> About {
    About { name, unit, about, judged: false }
}

/// An option that may be left out.
pub(super) const fn option(name: &'static str, kind: Kind, about: &'static str) -> Opt {
    Opt { name, kind, default: None, required: false, about }
}

pub(super) const fn required(name: &'static str, kind: Kind, about: &'static str) -> Opt {
    Opt { name, kind, default: None, required: true, about }
}

pub(super) const fn default(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Opt {
    Opt { name, kind, default: Some(default), required: false, about }
}
