//! From a configuration as it comes over the wire to checks that can run.
//!
//! Each check is read by itself: one that this version does not understand (a new output format, an unknown built-in)
//! becomes a check that reports why it cannot run, and the others are not disturbed.

use std::{collections::BTreeMap, sync::Arc};

use protocol::{
    AgentId, CheckName, Threshold,
    config::CheckSpec,
    cron::{self, Cron},
    limits,
    work::{Output, RunSettings},
};
use serde::{Deserialize, Serialize};

use super::{
    builtin::{Builtin, Options},
    output,
};

/// Shortest and longest time between runs, in milliseconds: a configuration cannot make the agent spin.
const EVERY_MS: (u64, u64) = (100, 366 * 86_400_000);
/// Shortest and longest timeout, in milliseconds.
const TIMEOUT_MS: (u64, u64) = (100, 86_400_000);
/// How often a check that cannot even be read reports so.
const UNREADABLE_EVERY_MS: u64 = 60_000;

/// [`protocol::config::AgentConfig`] with its checks not yet looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireConfig {
    pub revision: u64,
    pub etag: String,
    pub checks: Vec<serde_json::Value>,
    /// What proves the checks: [`protocol::signed::SignedDocument`]s.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<serde_json::Value>,
}

/// [`protocol::config::ConfigReply`] with its checks not yet looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum WireReply {
    Unchanged { revision: u64 },
    Full { config: WireConfig },
    Refused { reason: String },
}

/// All that this agent runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub revision: u64,
    pub etag: String,
    pub checks: BTreeMap<CheckName, Arc<Check>>,
    /// Checks that cannot run, and why. They are in `checks` too where they have a name.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub name: CheckName,
    pub work: Work,
    pub run: RunSettings,
    /// With `at`: the shortest time between two runs.
    pub every_ms: u64,
    /// When to run, instead of every so often.
    pub at: Option<At>,
    pub timeout_ms: u64,
    pub output: Output,
    pub unit: Option<String>,
    pub warning: Option<Threshold>,
    pub critical: Option<Threshold>,
}

/// Times of the clock on the wall.
#[derive(Debug, Clone, PartialEq)]
pub struct At {
    pub cron: Cron,
    /// IANA name; the host's own zone when absent.
    pub timezone: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// For `sh -c`.
    Command(String),
    /// Program and arguments.
    Exec(Vec<String>),
    Builtin(&'static Builtin, Options),
    /// Nothing can be run, for this reason.
    Impossible(String),
}

impl Plan {
    /// # Errors
    /// Why nothing of the configuration can be run; the one before stays.
    pub fn read(config: &WireConfig) -> Result<Self, String> {
        if config.checks.len() > limits::CHECKS {
            return Err(format!(
                "{} checks are more than the {} allowed",
                config.checks.len(),
                limits::CHECKS
            ));
        }
        let mut plan = Self { revision: config.revision, etag: config.etag.clone(), ..Self::default() };
        for (index, value) in config.checks.iter().enumerate() {
            let check = match CheckSpec::deserialize(value) {
                Ok(spec) => Check::from(spec),
                Err(error) => {
                    let name = value.get("name").and_then(|name| CheckName::new(name.as_str()?).ok());
                    let Some(name) = name else {
                        plan.problems.push(format!("check {} of the list: {error}", index + 1));
                        continue;
                    };
                    let every = value.get("every_ms").and_then(serde_json::Value::as_u64);
                    Check::impossible(name, every, format!("this agent cannot read the check: {error}"))
                }
            };
            if let Work::Impossible(reason) = &check.work {
                plan.problems.push(format!("{}: {reason}", check.name));
            }
            if let Some(twice) = plan.checks.insert(check.name.clone(), Arc::new(check)) {
                plan.problems.push(format!("{}: configured twice, the last one runs", twice.name));
            }
        }
        Ok(plan)
    }

    /// What to report as the error of this configuration; `None` when all of it runs.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        const SHOWN: usize = 5;
        if self.problems.is_empty() {
            return None;
        }
        let shown: Vec<_> = self.problems.iter().take(SHOWN).map(|problem| cut(problem, 300)).collect();
        let more = self.problems.len().saturating_sub(SHOWN);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        Some(format!("{}{more}", shown.join("; ")))
    }
}

impl Check {
    fn impossible(name: CheckName, every: Option<u64>, reason: String) -> Self {
        Self {
            name,
            work: Work::Impossible(reason),
            every_ms: every.unwrap_or(UNREADABLE_EVERY_MS).clamp(EVERY_MS.0, EVERY_MS.1),
            at: None,
            timeout_ms: TIMEOUT_MS.1,
            run: RunSettings::default(),
            output: Output::default(),
            unit: None,
            warning: None,
            critical: None,
        }
    }
}

impl From<CheckSpec> for Check {
    fn from(spec: CheckSpec) -> Self {
        let (at, work) = match At::read(spec.cron, spec.timezone) {
            Ok(at) => (at, Work::from(spec.work)),
            // It reports so every so often.
            Err(reason) => (None, Work::Impossible(reason)),
        };
        let work = match output::possible(&spec.output) {
            Err(reason) if !matches!(work, Work::Impossible(_)) => Work::Impossible(reason),
            _ => work,
        };
        Self {
            name: spec.name,
            work,
            at,
            every_ms: spec.every_ms.clamp(EVERY_MS.0, EVERY_MS.1),
            timeout_ms: spec.timeout_ms.clamp(TIMEOUT_MS.0, TIMEOUT_MS.1),
            run: spec.run,
            output: spec.output,
            unit: spec.unit,
            warning: spec.warning,
            critical: spec.critical,
        }
    }
}

impl At {
    fn read(cron: Option<String>, timezone: Option<String>) -> Result<Option<Self>, String> {
        let Some(cron) = cron else { return Ok(None) };
        let cron = cron.parse().map_err(|error| format!("cron: {error}"))?;
        if let Some(name) = &timezone {
            cron::zone(name).map_err(|error| format!("timezone: {error}"))?;
        }
        Ok(Some(Self { cron, timezone }))
    }
}

impl From<protocol::work::Work> for Work {
    fn from(given: protocol::work::Work) -> Self {
        let nul = |text: &String| text.contains('\0');
        match given {
            more if more.ways() > 1 => {
                Self::Impossible("it has more than one of a command, a program and a built-in".into())
            }
            protocol::work::Work { command: Some(command), .. } if nul(&command) => {
                Self::Impossible("its command holds a NUL byte".into())
            }
            protocol::work::Work { command: Some(command), .. } => Self::Command(command),
            protocol::work::Work { exec: Some(words), .. } => {
                if words.first().is_none_or(String::is_empty) || words.iter().any(nul) {
                    Self::Impossible("its program is empty, or a word of it holds a NUL byte".into())
                } else {
                    Self::Exec(words)
                }
            }
            protocol::work::Work { builtin: Some(name), with, .. } => match Builtin::named(&name) {
                Some(builtin) => match builtin.options(&with) {
                    Ok(options) => Self::Builtin(builtin, options),
                    Err(reason) => Self::Impossible(format!("built-in {name}: {reason}")),
                },
                None => {
                    let known = Builtin::names();
                    Self::Impossible(format!("this agent has no built-in check {name:?}; it has {known}"))
                }
            },
            _ => Self::Impossible(
                "it has neither a command, a program nor a built-in that this agent knows: a newer agent may be needed"
                    .into(),
            ),
        }
    }
}

/// A number that is the same on each start for this check of this agent, and spread evenly over checks and agents.
#[must_use]
pub fn phase_seed(agent: &AgentId, check: &CheckName) -> u64 {
    // FNV-1a: std's hasher may change with the compiler, and this must not.
    let bytes = agent.as_str().bytes().chain([0]).chain(check.as_str().bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // Its high bits vary the most.
    hash ^ (hash >> 32)
}

/// The first `limit` bytes of `text` at most, cut between characters.
#[must_use]
pub fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(checks: serde_json::Value) -> Result<Plan, String> {
        Plan::read(&WireConfig {
            revision: 3,
            etag: "e".into(),
            checks: checks.as_array().unwrap().clone(),
            documents: vec![],
        })
    }

    #[test]
    fn what_one_check_lacks_does_not_disturb_the_others() {
        let plan = plan(json!([
            {"name": "good", "command": "true", "every_ms": 1000, "timeout_ms": 1000},
            {"name": "disk", "builtin": "disk", "every_ms": 0, "timeout_ms": 0},
            {"name": "nothing", "every_ms": 1000, "timeout_ms": 1000},
            {"name": "future", "builtin": "quantum", "every_ms": 1000, "timeout_ms": 1000},
            {"name": "format", "command": "x", "every_ms": 5000, "timeout_ms": 1000, "output": "hologram"},
            {"name": "pattern", "command": "x", "every_ms": 5000, "timeout_ms": 1000, "output": "text", "pattern": "("},
            {"name": "pointer", "command": "x", "every_ms": 5000, "timeout_ms": 1000, "output": "json", "pointer": "a"},
            {"name": "cron", "command": "x", "every_ms": 5000, "timeout_ms": 1000, "cron": "* * *"},
            {"name": "zone", "command": "x", "every_ms": 5000, "timeout_ms": 1000, "cron": "@daily", "timezone": "X/Y"},
            {"name": "two words", "command": "x", "every_ms": 1000, "timeout_ms": 1000},
            {"name": "nul", "command": "a\u{0}b", "every_ms": 1000, "timeout_ms": 1000},
            17
        ]))
        .unwrap();
        let work =
            |name: &str| plan.checks.get(&CheckName::new(name).unwrap()).map(|check| check.work.clone());
        assert_eq!(work("good"), Some(Work::Command("true".into())));
        assert_eq!(work("disk"), Builtin::named("disk").map(|disk| Work::Builtin(disk, Options::default())));
        for (name, expected) in [
            ("nothing", "neither a command, a program nor a built-in"),
            ("future", "no built-in check \"quantum\""),
            ("format", "unknown variant `hologram`"),
            ("nul", "NUL"),
            ("pattern", "pattern: this is not a regular expression"),
            ("pointer", "pointer: write it like /queue/depth"),
            ("cron", "cron: \"* * *\" is not a cron expression"),
            ("zone", "timezone: there is no time zone \"X/Y\""),
        ] {
            let Some(Work::Impossible(reason)) = work(name) else { panic!("{name}: {:?}", work(name)) };
            assert!(reason.contains(expected), "{reason}");
        }
        let disk = plan.checks.get(&CheckName::new("disk").unwrap()).unwrap();
        assert_eq!((disk.every_ms, disk.timeout_ms), (EVERY_MS.0, TIMEOUT_MS.0));
        assert_eq!((plan.checks.len(), plan.problems.len()), (10, 10));
        assert!(plan.problem().unwrap().ends_with("and 5 more"));
    }

    #[test]
    fn a_configuration_that_is_too_large_is_refused_whole() {
        assert!(
            plan(json!(vec![1; limits::CHECKS + 1])).unwrap_err().contains("more than the 10000 allowed")
        );
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!((cut("aä", 2), cut("aä", 3), cut("", 5), cut("abc", 0)), ("a", "aä", "", ""));
    }
}
