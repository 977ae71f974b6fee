//! What operators say about alerts: silences, and actions with their guard rails. The alerter acts by them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ActionName, CheckName, GroupName, RuleName, SilenceName,
    document::Webhook,
    work::{RunSettings, Work},
};

/// Alerts of which nobody is told for a while. All that is given must fit; it names hosts, checks or rules, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub name: SilenceName,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whose wish it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// CEL over `facts`, `labels`, `agent`, `groups` and `vars`. Every host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// Every check when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckName>,
    /// Every rule when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleName>,
    /// From when on, in milliseconds since 1970; at once when absent. With `cron`: when the windows begin to come.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::timestamp::option")]
    pub starts: Option<u64>,
    /// Until when, in milliseconds since 1970; set where there is no `cron`. With it: when the windows cease to come.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::timestamp::option")]
    pub ends: Option<u64>,
    /// When windows begin that come again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// How long each of them is; set where `cron` is.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::duration::text_option")]
    pub duration: Option<Duration>,
    /// IANA name of the time zone of `cron`; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

/// What to do about an alert: something that the agent of its host runs, or a webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    pub name: ActionName,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// CEL over `facts`, `labels`, `agent`, `groups` and `vars`: where it may be done. Everywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// What the agent runs; empty where there is a `webhook`.
    #[serde(flatten)]
    pub work: Work,
    #[serde(default, skip_serializing_if = "RunSettings::is_default")]
    pub run: RunSettings,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    #[serde(default = "default_timeout", with = "crate::duration::text")]
    pub timeout: Duration,
    #[serde(default)]
    pub guard: Guard,
}

fn default_timeout() -> Duration {
    Duration::from_secs(60)
}

/// Within which rails an action is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Guard {
    /// Least time between two times on one host.
    #[serde(with = "crate::duration::text")]
    pub cooldown: Duration,
    /// Most times on one host.
    pub max_per_host: Rate,
    /// Most times on all hosts together.
    pub max_per_fleet: Rate,
    pub max_percent: Share,
    /// Whether it helped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// A person says yes before it is done.
    pub approval: bool,
    /// Only record what would be done.
    pub dry_run: bool,
}

impl Default for Guard {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3_600);
        Self {
            cooldown: HOUR / 4,
            max_per_host: Rate { count: 3, window: HOUR * 24 },
            max_per_fleet: Rate { count: 10, window: HOUR },
            max_percent: Share { percent: 10, group: None },
            verify: None,
            approval: false,
            dry_run: false,
        }
    }
}

/// So many times in so long; 0 times: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub count: u32,
    #[serde(with = "crate::duration::text")]
    pub window: Duration,
}

/// At how many hosts at once, of a group or of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// 1 to 100; at least one host.
    pub percent: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
}

/// What must hold soon after an action. Where it does not, the action is not done again on that host until a person says
/// so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// CEL as a rule's `when`, over the next results of the alert's check.
    pub when: String,
    #[serde(with = "crate::duration::text")]
    pub within: Duration,
}
