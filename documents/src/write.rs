//! Documents as operators would write them: what is read from the text is the document again.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    ReceiverName, Threshold,
    document::{Check, Document, Variant},
    work::{Limits, Output, RunSettings, Work},
};
use serde::Serialize;

/// A document cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("the {kind} {name} cannot be written as YAML: {reason}")]
pub struct WriteError {
    kind: protocol::document::Kind,
    name: String,
    reason: String,
}

/// # Errors
/// [`WriteError`], for what YAML has no form for.
pub fn write(document: &Document) -> Result<String, WriteError> {
    let written = match document {
        Document::Check(check) => serde_saphyr::to_string(&CheckText::of(check)),
        other => serde_saphyr::to_string(other),
    };
    written.map_err(|error| WriteError {
        kind: document.kind(),
        name: document.name().to_owned(),
        reason: error.to_string(),
    })
}

#[derive(Serialize)]
struct CheckText<'a> {
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<&'a str>,
    /// Not beside `cron`, which it is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<&'a str>,
    timeout: String,
    #[serde(flatten)]
    work: &'a Work,
    #[serde(skip_serializing_if = "<[Variant]>::is_empty")]
    variants: &'a [Variant],
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunText<'a>>,
    #[serde(flatten)]
    output: &'a Output,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a Threshold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    critical: Option<&'a Threshold>,
    #[serde(skip_serializing_if = "<[ReceiverName]>::is_empty")]
    notify: &'a [ReceiverName],
}

impl<'a> CheckText<'a> {
    fn of(check: &'a Check) -> Self {
        Self {
            kind: "Check",
            name: check.name.as_str(),
            description: &check.description,
            hosts: check.hosts.as_deref(),
            every: check.cron.is_none().then(|| protocol::duration::format(check.every)),
            cron: check.cron.as_deref(),
            timezone: check.timezone.as_deref(),
            timeout: protocol::duration::format(check.timeout),
            work: &check.work,
            variants: &check.variants,
            run: (!check.run.is_default()).then(|| RunText::of(&check.run)),
            output: &check.output,
            unit: check.unit.as_deref(),
            warning: check.warning.as_ref(),
            critical: check.critical.as_ref(),
            notify: &check.notify,
        }
    }
}

#[derive(Serialize)]
struct RunText<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nice: Option<i8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pass_environment: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<&'static str, String>,
}

impl<'a> RunText<'a> {
    fn of(run: &'a RunSettings) -> Self {
        Self {
            user: run.user.as_deref(),
            nice: run.nice,
            directory: run.directory.as_deref(),
            environment: &run.environment,
            pass_environment: &run.pass_environment,
            stdin: run.stdin.as_deref(),
            limits: limits(&run.limits),
        }
    }
}

fn limits(limits: &Limits) -> BTreeMap<&'static str, String> {
    let size = |bytes: Option<u64>| bytes.map(protocol::size::format);
    let count = |count: Option<u64>| count.map(|count| count.to_string());
    let cpu = limits.cpu_ms.map(|cpu| protocol::duration::format(Duration::from_millis(cpu)));
    [
        ("memory", size(limits.memory_bytes)),
        ("cpu", cpu),
        ("open_files", count(limits.open_files)),
        ("processes", count(limits.processes)),
        ("file_size", size(limits.file_size_bytes)),
        ("output", size(limits.output_bytes)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}
