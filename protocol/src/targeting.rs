//! What makes checks fit many hosts: groups, variables, and values that differ on some hosts.

use serde::{Deserialize, Serialize};

use crate::{AgentId, GroupName, VariablesName, Vars};

/// Some hosts under one name. A host is in it when `hosts` holds there, or when it is one of the `members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub name: GroupName,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// CEL over `facts`, `labels`, `agent` and `groups`, other ones. No host by it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<AgentId>,
}

/// Values for one host, for a group, or for all hosts. Where several documents give a variable, the nearest wins: host,
/// then group, then all; among equally near ones the highest `priority`, then the first by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variables {
    pub name: VariablesName,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// At most one of `group` and `host` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<AgentId>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    pub vars: Vars,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Schedule and thresholds as texts, in which `${vars.…}` may stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// `none`: no such threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<String>,
}

impl Tuning {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What differs on some of the hosts of a check. Where several hold, the first that gives a value wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// CEL over `facts`, `labels`, `agent`, `groups` and `vars`.
    pub hosts: String,
    #[serde(flatten)]
    pub tuning: Tuning,
}
