//! What a check runs, under which limits, and how its output is read: the same in documents and on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What to run. Exactly one of `command`, `exec` and `builtin` is set; a check with none of them is of a newer version,
/// and the agent reports it as unknown instead of refusing the rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// For `sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Program and arguments, run without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// Name of a built-in check of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<String>,
    /// Options of the built-in check: texts, numbers, truth values, and lists of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, serde_json::Value>,
}

impl Work {
    /// How many of the ways to run something are given; one is right.
    #[must_use]
    pub fn ways(&self) -> usize {
        [self.command.is_some(), self.exec.is_some(), self.builtin.is_some()]
            .into_iter()
            .filter(|way| *way)
            .count()
    }
}

/// How a command or program is run. Built-in checks have no use for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Name of the user to run as; only an agent that runs as root can change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// -20 to 19; below 0 needs root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i8>,
    /// Working directory; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Variables to set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Variables to hand on from the agent's own environment, besides those that every check gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pass_environment: Vec<String>,
    /// Text on standard input, which is empty when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

impl RunSettings {
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of one run. What is absent is the agent's own default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of the run: of all its processes where the agent may use cgroups, else of each one's address space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processor time of one process, rounded up to whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Processes and threads at once: of the run where the agent may use cgroups, else of its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Largest file that it may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size_bytes: Option<u64>,
    /// How much of each of its outputs is kept, at most [`crate::limits::OUTPUT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

impl Limits {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How to read what a command prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    #[serde(default, rename = "output")]
    pub format: OutputFormat,
    /// `json`: RFC 6901 pointer to the value, or to an object of numbers; the whole text when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// `text`: regular expression; its first group, or the whole match, is the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Name of the metric that is the value and that the thresholds judge; the first one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
}

/// How to understand what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// The first line is one number.
    #[default]
    Number,
    /// Exit code 0 to 3, text, and performance data behind `|`.
    Nagios,
    /// One JSON value: a number, or an object of numbers.
    Json,
    /// Prometheus' text exposition format.
    Prometheus,
    /// The text itself is the value.
    Text,
}
