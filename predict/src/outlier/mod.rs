//! Which host of a group is unlike the others on the same metric, and in what way.

mod constants;
mod measure;

use std::fmt;

use constants::{BURSTS, CHANGE, FLAT, LAG, LEVEL, LEVEL_FEW, NOISE, STEEP, TOGETHER, TREND};
pub use constants::{LEAST_HOSTS, LEAST_VALUES, MAX_HOSTS, MAX_VALUES};
use measure::{Measured, measure};
use serde::Serialize;

use crate::{numeric::count, series::usable};

/// In what way a host differs from its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Higher or lower than the others all the time.
    Level,
    /// Went away from the others at some moment.
    Change,
    /// Goes away from the others steadily.
    Trend,
    /// Rougher than the others.
    Noise,
    /// Short bursts that the others do not have.
    Bursts,
    /// Does not move while the others do.
    Flat,
    /// Does what the others do, but later.
    Lag,
}

impl Way {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Change => "change",
            Self::Trend => "trend",
            Self::Noise => "noise",
            Self::Bursts => "bursts",
            Self::Flat => "flat",
            Self::Lag => "lag",
        }
    }
}

/// One host beside its group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Verdict {
    /// 0 like the others, 0.5 and more unlike them, 1 at most.
    pub score: f64,
    /// What stands out most, when anything does.
    pub way: Option<Way>,
    pub explanation: Explanation,
}

/// The figures behind a verdict, in the unit of the metric where nothing else is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Explanation {
    pub way: Option<Way>,
    /// Mean distance of the host from the group's median of late.
    pub apart: f64,
    /// How far hosts of the group usually are from it.
    pub usual_apart: f64,
    /// The size of its noise over the group's, 1 for the same.
    pub noise_ratio: f64,
    /// By how many values it is late, where it is.
    pub lag: usize,
    /// Hosts that it was compared with.
    pub hosts: usize,
}

/// Judges every host of a group. `hosts[h][t]` is the value of host `h` at the time `t` that all share, not finite
/// where there is none. A host with fewer than [`LEAST_VALUES`] values, and every host of a group with fewer than
/// [`LEAST_HOSTS`], gets 0 without a way.
#[must_use]
pub fn outliers(hosts: &[Vec<f64>]) -> Vec<Verdict> {
    let judged: Vec<usize> = hosts
        .iter()
        .enumerate()
        .filter(|(_, values)| values.iter().filter(|v| usable(**v)).count() >= LEAST_VALUES)
        .map(|(i, _)| i)
        .take(MAX_HOSTS)
        .collect();
    let silent = Verdict { score: 0.0, way: None, explanation: Explanation::default() };
    let mut verdicts = vec![silent; hosts.len()];
    if judged.len() < LEAST_HOSTS {
        return verdicts;
    }
    let series: Vec<&[f64]> = judged.iter().filter_map(|i| hosts.get(*i)).map(Vec::as_slice).collect();
    for (i, measured) in judged.iter().zip(measure(&series)) {
        if let Some(verdict) = verdicts.get_mut(*i) {
            *verdict = judge(&measured, judged.len());
        }
    }
    verdicts
}

fn judge(measured: &Measured, hosts: usize) -> Verdict {
    let parts = [
        (Way::Flat, measured.flat / FLAT),
        (Way::Lag, measured.lag / LAG),
        (Way::Noise, measured.noise / NOISE),
        (Way::Bursts, measured.bursts / BURSTS),
        (Way::Trend, measured.trend / TREND),
        (Way::Change, measured.change / CHANGE),
        (Way::Level, measured.level / (LEVEL * (1.0 + LEVEL_FEW / count(hosts)))),
    ];
    // What cannot be computed says nothing.
    let parts = parts.map(|(way, part)| (way, if part.is_finite() { part.clamp(0.0, 1e6) } else { 0.0 }));
    let strength =
        parts.iter().map(|(_, part)| part.powi(TOGETHER)).sum::<f64>().powf(1.0 / f64::from(TOGETHER));
    let score = strength.powf(STEEP) / (1.0 + strength.powf(STEEP));
    let strongest =
        parts.iter().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, part)| *part >= 0.5).map(|(way, _)| *way);
    // A change that still goes on is a trend.
    let way = match strongest {
        Some(Way::Change) if measured.trend > 2.0 * measured.change.max(0.5) => Some(Way::Trend),
        other => other,
    };
    let score = if score.is_finite() { score } else { 1.0 };
    Verdict {
        score,
        way,
        explanation: Explanation {
            way,
            apart: measured.apart,
            usual_apart: measured.usual_apart,
            noise_ratio: measured.noise_ratio,
            lag: measured.lag_steps,
            hosts,
        },
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { apart, usual_apart, noise_ratio, lag, hosts, .. } = self;
        let side = if *apart < 0.0 { "below" } else { "above" };
        let distance = apart.abs();
        match self.way {
            None if *hosts == 0 => write!(f, "too few hosts or values to compare"),
            None => write!(f, "like the {hosts} hosts of its group"),
            Some(Way::Level) => write!(f, "{distance:.4} {side} the group, usual is {usual_apart:.4}"),
            Some(Way::Change) => {
                write!(f, "went away from the group, now {distance:.4} {side} it, usual is {usual_apart:.4}")
            }
            Some(Way::Trend) => {
                write!(f, "goes away from the group, now {distance:.4} {side} it, usual is {usual_apart:.4}")
            }
            Some(Way::Noise) => write!(f, "{noise_ratio:.1} times as rough as the group"),
            Some(Way::Bursts) => write!(f, "short bursts that the {hosts} hosts of its group do not have"),
            Some(Way::Flat) => write!(f, "does not move while its group does"),
            Some(Way::Lag) => write!(f, "follows its group {lag} values late"),
        }
    }
}
