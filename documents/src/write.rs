//! Documents as operators would write them: what is read from the text is the document again.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    ReceiverName, Threshold,
    document::{Check, Document, Variant, Webhook},
    operate::{Action, Guard},
    targeting::Override,
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
        Document::Action(action) => serde_saphyr::to_string(&ActionText::of(action)),
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
    warning: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    critical: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Override]>::is_empty")]
    overrides: &'a [Override],
    #[serde(skip_serializing_if = "<[ReceiverName]>::is_empty")]
    notify: &'a [ReceiverName],
}

impl<'a> CheckText<'a> {
    fn of(check: &'a Check) -> Self {
        // Where variables stand, the text is what was written.
        let templates = &check.templates;
        let stands_in = templates.every.is_some() || templates.cron.is_some();
        let every = (check.cron.is_none() && !stands_in).then(|| protocol::duration::format(check.every));
        let timeout = protocol::duration::format(check.timeout);
        let threshold = |template: &'a Option<String>, threshold: &'a Option<Threshold>| {
            template.as_deref().or_else(|| threshold.as_ref().map(Threshold::as_str))
        };
        Self {
            kind: "Check",
            name: check.name.as_str(),
            description: &check.description,
            hosts: check.hosts.as_deref(),
            every: templates.every.clone().or(every),
            cron: templates.cron.as_deref().or(check.cron.as_deref()),
            timezone: templates.timezone.as_deref().or(check.timezone.as_deref()),
            timeout: templates.timeout.clone().unwrap_or(timeout),
            work: &check.work,
            variants: &check.variants,
            run: (!check.run.is_default()).then(|| RunText::of(&check.run)),
            output: &check.output,
            unit: check.unit.as_deref(),
            warning: threshold(&templates.warning, &check.warning),
            critical: threshold(&templates.critical, &check.critical),
            overrides: &check.overrides,
            notify: &check.notify,
        }
    }
}

#[derive(Serialize)]
struct ActionText<'a> {
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<&'a str>,
    #[serde(flatten)]
    work: &'a Work,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunText<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<&'a Webhook>,
    timeout: String,
    guard: &'a Guard,
}

impl<'a> ActionText<'a> {
    fn of(action: &'a Action) -> Self {
        Self {
            kind: "Action",
            name: action.name.as_str(),
            description: &action.description,
            hosts: action.hosts.as_deref(),
            work: &action.work,
            run: (!action.run.is_default()).then(|| RunText::of(&action.run)),
            webhook: action.webhook.as_ref(),
            timeout: protocol::duration::format(action.timeout),
            guard: &action.guard,
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
