//! A change that reaches hosts in stages, and stops by itself where it makes checks fail.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{AgentId, CheckName};

/// Most stages of one rollout.
pub const STAGES: usize = 20;
/// Longest time that a stage is watched, in milliseconds: a week.
pub const BAKE_MS: u64 = 7 * 86_400_000;

/// Some of a number of hosts: `25%`, or `3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// At most 100.
    Percent(u8),
    Hosts(u32),
}

impl Share {
    pub const ALL: Self = Self::Percent(100);

    /// So many of `count`, rounded down, and never more than there are.
    #[must_use]
    pub fn of(self, count: u64) -> u64 {
        match self {
            // In two parts, so that no count overflows.
            Self::Percent(percent) => {
                let percent = u64::from(percent.min(100));
                count / 100 * percent + count % 100 * percent / 100
            }
            Self::Hosts(hosts) => u64::from(hosts).min(count),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Hosts(hosts) => write!(f, "{hosts}"),
        }
    }
}

impl std::str::FromStr for Share {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let share = match text.trim().strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent),
            None => text.trim().parse().ok().map(Self::Hosts),
        };
        share.ok_or_else(|| {
            let text: String = text.chars().take(40).collect();
            format!("{text:?} is no share of hosts: write it like 10% (at most 100%), or 3")
        })
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// How a change is to reach the hosts that it concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Hosts that each stage reaches, those of the stages before it included: 1 to [`STAGES`], the last is all of them.
    pub stages: Vec<Share>,
    /// How long a stage is watched before the next one, in milliseconds, at most [`BAKE_MS`].
    pub bake_ms: u64,
    /// Hosts of those reached that may fail to run a changed check; one more, and all of them go back.
    #[serde(default = "none")]
    pub max_failures: Share,
}

impl Canary {
    /// Hosts that each stage reaches of so many that the change concerns; a stage that would reach no further host is
    /// passed over.
    #[must_use]
    pub fn sizes(&self, concerned: u64) -> Vec<u64> {
        let mut sizes: Vec<u64> = self.stages.iter().map(|share| share.of(concerned).max(1)).collect();
        let mut reached = 0;
        sizes.retain(|size| {
            let further = *size > reached;
            reached = reached.max(*size);
            further
        });
        sizes
    }
}

fn none() -> Share {
    Share::Hosts(0)
}

/// One rollout, whole. It is named by the revision that it brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub revision: u64,
    pub canary: Canary,
    pub actor: String,
    #[serde(default)]
    pub message: String,
    pub started_ms: u64,
    pub state: RolloutState,
    /// Why it is in this state, where that needs a reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it came into this state or stage, in milliseconds since 1970.
    pub since_ms: u64,
    /// Hosts that the change concerned when it began. A replica that knows fewer of them does not judge.
    #[serde(default)]
    pub concerned: u64,
    /// Stages that were reached, in order. Passed over is one that would have reached no further host.
    #[serde(default)]
    pub reached: Vec<Stage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    Running,
    /// Stays at its stage until it is resumed.
    Paused,
    /// Reached every host.
    Finished,
    /// The documents are what they were before it.
    RolledBack,
}

impl RolloutState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::RolledBack => "rolled_back",
        }
    }

    /// Whether some hosts still run what they ran before.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// A stage that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its index in [`Canary::stages`].
    pub stage: usize,
    /// Hosts that it concerns and that it was decided to reach, those of the stages before included.
    pub hosts: u64,
    /// A host is reached when its place in this rollout is at most this ([`place`]).
    pub limit: u64,
    /// Revision with which the stage began: a host's results from then on count.
    pub revision: u64,
    pub at_ms: u64,
}

/// Places are below this: what every JSON reader holds exactly.
pub const PLACES: u64 = 1 << 53;

/// Where an agent stands in the line of a rollout: the same everywhere and always, another in each rollout.
#[must_use]
pub fn place(rollout: u64, agent: &AgentId) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{rollout}/{agent}"));
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    number >> 11
}

impl Rollout {
    /// The revision with which this agent was reached.
    #[must_use]
    pub fn reached_at(&self, agent: &AgentId) -> Option<u64> {
        let place = place(self.revision, agent);
        self.reached.iter().find(|stage| place <= stage.limit).map(|stage| stage.revision)
    }

    /// Whether this agent still runs what it ran before the rollout.
    #[must_use]
    pub fn holds_back(&self, agent: &AgentId) -> bool {
        self.state.is_open() && self.reached_at(agent).is_none()
    }
}

/// Request on `dogwatch.v1.admin.rollout.list`; the reply is a [`RolloutList`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutQuery {
    /// Only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// Newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutList {
    pub rollouts: Vec<RolloutStatus>,
}

/// A rollout, and how its hosts fare now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    #[serde(flatten)]
    pub rollout: Rollout,
    /// Hosts of the stages so far that say that they run it. This and the failures only while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// Hosts that failed, the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<RolloutFailure>,
}

/// Why a host counts as failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutFailure {
    pub agent: AgentId,
    /// Absent: the configuration as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckName>,
    pub reason: String,
}

/// Request on `dogwatch.v1.admin.rollout.change`; the reply is the [`Rollout`] as it is then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutChange {
    pub revision: u64,
    pub order: RolloutOrder,
    #[serde(default)]
    pub actor: String,
    /// Why.
    #[serde(default)]
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutOrder {
    Pause,
    Resume,
    /// Back to what was before it, on every host.
    Abort,
    /// To every host now, whatever is left of the stages.
    Promote,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_text_and_never_more_than_there_are() {
        for (text, count, expected) in [
            ("1%", 40_000, 400),
            ("1%", 99, 0),
            ("50%", 7, 3),
            ("100%", u64::MAX, u64::MAX),
            ("3", 2, 2),
            ("0", 9, 0),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!((share.to_string().as_str(), share.of(count)), (text, expected));
        }
        for wrong in ["", "101%", "-1", "1.5%", "ten", "%"] {
            assert!(wrong.parse::<Share>().unwrap_err().contains("is no share of hosts"), "{wrong}");
        }
    }

    #[test]
    fn places_are_stable_spread_and_differ_between_rollouts() {
        let agent = |n: u32| AgentId::new(&format!("web-{n}")).unwrap();
        assert_eq!(place(7, &agent(1)), place(7, &agent(1)));
        assert_ne!(place(7, &agent(1)), place(8, &agent(1)));
        let below = (0..10_000).filter(|n| place(7, &agent(*n)) < 1 << 52).count();
        assert!((4_500..5_500).contains(&below), "{below}");
        assert!((0..1_000).all(|n| place(n, &agent(1)) < PLACES));
    }

    #[test]
    fn stages_that_reach_nobody_are_passed_over() {
        let stages = ["1%", "10%", "50%", "100%"].map(|share| share.parse().unwrap()).to_vec();
        let canary = Canary { stages, bake_ms: 0, max_failures: none() };
        assert_eq!(canary.sizes(1_000), [10, 100, 500, 1_000]);
        assert_eq!(canary.sizes(3), [1, 3]);
    }
}
