//! One measured figure, for programs and for people.

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

/// Instead of a peer, for figures that are held to a limit of their own.
pub(crate) const NOBODY: &str = "";

#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) bench: &'static str,
    pub(crate) case: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) peer_value: f64,
    pub(crate) ratio: f64,
    pub(crate) target: &'static str,
    pub(crate) ok: bool,
    /// Lowest and highest of the rounds.
    pub(crate) range: Range,
    pub(crate) peer_range: Range,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Range {
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Range {
    /// Whole numbers, for figures whose fractions say nothing.
    pub(crate) fn rounded(self) -> Self {
        Self { min: self.min.round(), max: self.max.round() }
    }
}

impl Figure {
    /// Without a target. A peer that is missing (`None`) has no numbers: `null` in JSON.
    pub(crate) fn beside(
        bench: &'static str,
        case: &'static str,
        (metric, unit): (&'static str, &'static str),
        ours: &Rounds,
        peer: &'static str,
        theirs: Option<&Rounds>,
    ) -> Self {
        let peer_value = theirs.map_or(f64::NAN, |theirs| theirs.median);
        let nothing = Range { min: f64::NAN, max: f64::NAN };
        Self {
            bench,
            case,
            metric,
            value: ours.median,
            unit,
            peer,
            peer_value,
            ratio: ours.median / peer_value,
            target: "",
            ok: true,
            range: ours.range,
            peer_range: theirs.map_or(nothing, |theirs| theirs.range),
        }
    }

    pub(crate) fn held_to(self, target: &'static str, met: impl Fn(&Self) -> bool) -> Self {
        let ok = met(&self);
        Self { target, ok, ..self }
    }
}

/// Median and range of the rounds.
pub(crate) struct Rounds {
    pub(crate) median: f64,
    pub(crate) range: Range,
}

impl Rounds {
    /// `None` without rounds.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Self { median: f64::midpoint(*low, *high), range: Range { min, max } })
    }
}

pub(crate) fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["bench", "case", "metric", "dogwatch", "beside", "it", "ratio", "target", ""]);
    for figure in figures {
        table.add_row([
            figure.bench.to_owned(),
            figure.case.to_owned(),
            figure.metric.to_owned(),
            shown(figure.value, figure.range, figure.unit),
            figure.peer.to_owned(),
            match figure.peer {
                NOBODY => String::new(),
                _ => shown(figure.peer_value, figure.peer_range, figure.unit),
            },
            ratio(figure.ratio),
            figure.target.to_owned(),
            verdict(figure).to_owned(),
        ]);
    }
    table
}

fn ratio(ratio: f64) -> String {
    match ratio {
        none if !none.is_finite() => String::new(),
        small if small < 0.1 => format!("1/{:.0}", 1.0 / small),
        ratio => format!("{ratio:.2}"),
    }
}

fn verdict(figure: &Figure) -> &'static str {
    match figure {
        Figure { target: "", .. } => "",
        // Held to a limit of its own, or beside a peer that is there.
        figure if figure.value.is_nan() || (figure.peer != NOBODY && figure.ratio.is_nan()) => "NOT MEASURED",
        Figure { ok: true, .. } => "met",
        _ => "MISSED",
    }
}

fn shown(value: f64, range: Range, unit: &str) -> String {
    if value.is_nan() {
        "missing".to_owned()
    } else if value >= 10_000.0 {
        format!("{:.0} k [{:.0}..{:.0}] {unit}", value / 1e3, range.min / 1e3, range.max / 1e3)
    } else {
        format!("{value:.2} [{:.2}..{:.2}] {unit}", range.min, range.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_rounds() {
        let median = |values: &[f64]| Rounds::of(values).map(|rounds| rounds.median);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
