//! What operators write, as checked data. The `documents` crate reads it from YAML and refuses unknown keys; here they are
//! ignored, since services of different versions exchange documents.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    CheckName, ReceiverName, RuleName, Threshold,
    alert::Severity,
    operate::{Action, Silence},
    targeting::{Group, Override, Tuning, Variables},
    work::{Output, RunSettings, Work},
};

pub use crate::receiver::{Receiver, Webhook};

/// One document of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Document {
    Check(Box<Check>),
    Rule(Rule),
    Receiver(Box<Receiver>),
    Group(Group),
    Variables(Variables),
    Silence(Silence),
    Action(Box<Action>),
}

/// Kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Check,
    Receiver,
    Rule,
    Group,
    Variables,
    Silence,
    Action,
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "Check",
            Self::Receiver => "Receiver",
            Self::Rule => "Rule",
            Self::Group => "Group",
            Self::Variables => "Variables",
            Self::Silence => "Silence",
            Self::Action => "Action",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Document {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Check(_) => Kind::Check,
            Self::Rule(_) => Kind::Rule,
            Self::Receiver(_) => Kind::Receiver,
            Self::Group(_) => Kind::Group,
            Self::Variables(_) => Kind::Variables,
            Self::Silence(_) => Kind::Silence,
            Self::Action(_) => Kind::Action,
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Check(check) => check.name.as_str(),
            Self::Rule(rule) => rule.name.as_str(),
            Self::Receiver(receiver) => receiver.name.as_str(),
            Self::Group(group) => group.name.as_str(),
            Self::Variables(variables) => variables.name.as_str(),
            Self::Silence(silence) => silence.name.as_str(),
            Self::Action(action) => action.name.as_str(),
        }
    }
}

/// What to run, where, how often, and when its number is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub name: CheckName,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// CEL over `facts`, `labels` and `agent`: which hosts run the check. All of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// Time between runs. With `cron`: the shortest time between two of them.
    #[serde(with = "crate::duration::text")]
    pub every: Duration,
    /// When to run, instead of every so often: five fields, minute to weekday.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// IANA name of the time zone of `cron`; the host's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    #[serde(default = "default_timeout", with = "crate::duration::text")]
    pub timeout: Duration,
    /// What to run on every host that is selected; empty where there are `variants`.
    #[serde(flatten)]
    pub work: Work,
    /// The first whose `when` holds on a host runs there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    #[serde(default, skip_serializing_if = "RunSettings::is_default")]
    pub run: RunSettings,
    /// Form of a command's output. Built-in checks have metrics and need none.
    #[serde(flatten)]
    pub output: Output,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Threshold>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Threshold>,
    /// Whom the check's own alert tells; receivers marked as default when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<ReceiverName>,
    /// Schedule and thresholds in which variables stand. They win over the fields of these names, of which `every` and
    /// `timeout` then mean nothing.
    #[serde(default, skip_serializing_if = "Tuning::is_empty")]
    pub templates: Tuning,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
}

fn default_timeout() -> Duration {
    Duration::from_secs(30)
}

/// One way to run a check, for the hosts on which `when` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// CEL over `facts`, `labels` and `agent`. A variant without it fits every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    #[serde(flatten)]
    pub work: Work,
}

/// When to raise an alert, and whom to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub name: RuleName,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub check: CheckName,
    /// CEL over `facts`, `labels` and `agent`: on which hosts the rule holds. All of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// CEL over `value`, `status`, `metrics`, `output`, `agent`, `check`, `labels`, `facts`: is this result wrong?
    pub when: String,
    /// How long `when` must hold before the alert fires.
    #[serde(default, rename = "for", with = "crate::duration::text")]
    pub hold: Duration,
    /// How long a firing alert goes on after `when` stopped to hold.
    #[serde(default, with = "crate::duration::text")]
    pub keep_firing_for: Duration,
    /// How many results in a row must hold before the alert fires, 1 to 1,000.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub attempts: u32,
    /// CEL as `when`: what must hold before a firing alert counts as clear. `when` not holding when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_when: Option<String>,
    /// When the alert counts as flapping, and then does not end. Never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flapping: Option<Flapping>,
    /// While one of these fires on the same host, or on the one that its label `parent` names, nobody is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<RuleName>,
    #[serde(default)]
    pub severity: Severity,
    #[serde(default)]
    pub notify: Vec<ReceiverName>,
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_one(number: &u32) -> bool {
    *number == 1
}

/// Weighted changes among the last 21 results, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flapping {
    /// Flapping begins at or above this, 1 to 100.
    pub start: u8,
    /// It ends at or below this, at most `start`.
    pub stop: u8,
}
