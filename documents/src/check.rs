//! Checks: what to run, how, how often, and how its output is read.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    CheckName,
    cron::{self, Cron},
    document::{Check, Kind, Variant},
    limits,
    pattern::Pattern,
    pointer,
    targeting::Tuning,
    work::{Limits, Output, OutputFormat, RunSettings, Work},
};

use crate::{
    HostExpression,
    fields::{self, Fields, Problems},
    kinds::{Read, Texts},
    template, tuning,
    yaml::{Node, Value},
};

const SECOND: Duration = Duration::from_secs(1);
/// Timeout of a check that gives none, unless its `every` is too short for it.
const TIMEOUT: Duration = Duration::from_secs(30);
/// `every` of a check whose schedule holds variables.
const STAND_IN: Duration = Duration::from_secs(60);
/// Most words of an `exec`, options of a built-in, and variables of an environment.
const ITEMS: usize = 256;
/// Longest `stdin`, in bytes.
const STDIN: usize = 64 * 1024;

pub(crate) fn read(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Check> {
    fields.rename("a Check");
    let place = fields.place();
    let name: Option<CheckName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Check, name.to_string()));
    let description = fields.text("description", problems).map(|(_, text)| text).unwrap_or_default();
    let hosts = read.expression(&mut fields, "hosts", HostExpression::compile, problems);
    let mut texts = Texts::default();
    let templates = tuning::templates(&mut fields, &mut texts);
    let schedule = schedule(&mut fields, &templates, problems);
    let timeout = fields.duration("timeout", problems);
    let work = work(&mut fields, &mut texts, problems);
    let given = fields.take("variants");
    let has_variants = given.is_some();
    let variants = given.map(|node| variants(node, read, &mut texts, problems)).unwrap_or_default();
    if work.ways() + usize::from(has_variants) != 1 {
        problems.add(place, "a Check has exactly one of \"command\", \"exec\", \"builtin\" and \"variants\"");
    }
    let run = fields
        .map("run", "run", problems)
        .map(|fields| run(fields, &mut texts, problems))
        .unwrap_or_default();
    let output = output(&mut fields, &mut texts, problems);
    let has_number = work.builtin.is_some()
        || variants.iter().any(|variant| variant.work.builtin.is_some())
        || output.format != OutputFormat::Text
        || output.pattern.is_some();
    let unit = fields.text("unit", problems).map(|(_, text)| text);
    let mut threshold = |key: &'static str| {
        let (place, text) = fields.text(key, problems)?;
        if !has_number {
            problems.add(
                place,
                format!("{key}: output: text has no number to judge; a \"pattern\" can find one in it"),
            );
        }
        text.parse().map_err(|error| problems.add(place, format!("{key}: {error}"))).ok()
    };
    let (warning, critical) = (threshold("warning"), threshold("critical"));
    if !has_number && (templates.warning.is_some() || templates.critical.is_some()) {
        problems.add(
            place,
            "warning, critical: output: text has no number to judge; a \"pattern\" can find one in it",
        );
    }
    let overrides = fields.take("overrides");
    let overrides = overrides
        .map(|node| tuning::overrides(node, has_number, read, &mut texts, problems))
        .unwrap_or_default();
    read.texts(texts, problems);
    let notify = crate::kinds::notify(&mut fields, read, problems);
    fields.finish(problems);
    let (name, Schedule { every, cron, timezone }) = (name?, schedule?);
    let varies = templates.every.is_some() || templates.cron.is_some();
    let timeout = match timeout {
        // How long the time between two runs is, each host knows.
        Some((_, timeout)) if varies && !timeout.is_zero() => timeout,
        Some((place, timeout)) if timeout.is_zero() || timeout >= every => {
            let least = protocol::duration::format(every);
            let what = if cron.is_some() { "the time between two runs" } else { "\"every\"" };
            problems.add(place, format!("timeout: it is longer than 0s and shorter than {what} ({least})"));
            timeout
        }
        Some((_, timeout)) => timeout,
        None => default_timeout(every),
    };
    Some(Check {
        name,
        description,
        hosts,
        every,
        cron,
        timezone,
        timeout,
        work,
        variants,
        run,
        output,
        unit,
        warning,
        critical,
        notify,
        templates,
        overrides,
    })
}

/// When a check runs.
struct Schedule {
    /// With `cron`: the shortest time between two runs.
    every: Duration,
    cron: Option<String>,
    timezone: Option<String>,
}

/// `every`, or `cron` with or without `timezone`.
fn schedule(fields: &mut Fields, templates: &Tuning, problems: &mut Problems<'_>) -> Option<Schedule> {
    let place = fields.place();
    let (every, cron, timezone) = (fields.take("every"), fields.take("cron"), fields.take("timezone"));
    let (has_every, has_cron) =
        (every.is_some() || templates.every.is_some(), cron.is_some() || templates.cron.is_some());
    if has_every == has_cron {
        problems.add(place, "a Check has exactly one of \"every\" and \"cron\": say how often, or when");
    }
    if let (Some(node), false) = (&timezone, has_cron) {
        problems.add(node.place, "timezone: it goes with \"cron\"");
    }
    let timezone = timezone.and_then(|node| {
        let (place, name) = fields::text("timezone", node, problems)?;
        if let Err(error) = cron::zone(&name) {
            problems.add(place, format!("timezone: {error}"));
        }
        Some(name)
    });
    // Both are read, so that what is wrong with either is said.
    let cron = cron.map(|node| fields::parse::<Cron>("cron", node, problems));
    let every = every.and_then(|node| fields::duration("every", node, problems));
    if let Some((place, every)) = every
        && every < SECOND
    {
        problems.add(place, "every: a check runs at most once a second, so this is 1s or more");
    }
    if templates.every.is_some() || templates.cron.is_some() {
        return Some(Schedule { every: STAND_IN, cron: None, timezone });
    }
    match cron {
        Some(cron) => {
            let cron = cron?;
            Some(Schedule { every: cron.shortest_gap(), cron: Some(cron.to_string()), timezone })
        }
        None => Some(Schedule { every: every?.1, cron: None, timezone }),
    }
}

/// 30 s, or for a check that runs more often than that allows, four fifths of the time until it runs again.
fn default_timeout(every: Duration) -> Duration {
    let fits = protocol::duration::millis(every).saturating_mul(4) / 5;
    TIMEOUT.min(Duration::from_millis(fits))
}

fn variants(node: Node, read: &mut Read, texts: &mut Texts, problems: &mut Problems<'_>) -> Vec<Variant> {
    let place = node.place;
    let Value::List(items) = node.value else {
        problems.add(place, format!("\"variants\" is a list, not {}", node.value.describe()));
        return Vec::new();
    };
    if items.is_empty() {
        problems.add(
            place,
            "\"variants\" is empty: give at least one, with a \"command\", \"exec\" or \"builtin\"",
        );
    }
    let count = items.len();
    let mut variants = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let Some(mut fields) = Fields::of(item, "a variant", problems) else { continue };
        let place = fields.place();
        let when = read.expression(&mut fields, "when", HostExpression::compile, problems);
        let work = work(&mut fields, texts, problems);
        if work.ways() != 1 {
            problems.add(place, "a variant has exactly one of \"command\", \"exec\" and \"builtin\"");
        }
        if when.is_none() && index + 1 < count {
            problems.add(
                place,
                "a variant without \"when\" fits every host, so those after it never run: put it last",
            );
        }
        fields.finish(problems);
        variants.push(Variant { when, work });
    }
    variants
}

pub(crate) fn work(fields: &mut Fields, texts: &mut Texts, problems: &mut Problems<'_>) -> Work {
    let (command, exec) = (command(fields, texts, problems), exec(fields, texts, problems));
    let (builtin, with) = (builtin(fields, problems), with(fields, texts, problems));
    Work { command, exec, builtin, with }
}

fn command(fields: &mut Fields, texts: &mut Texts, problems: &mut Problems<'_>) -> Option<String> {
    let (place, command) = fields.text("command", problems)?;
    if command.trim().is_empty() || command.contains('\0') {
        problems.add(place, "command: it is empty or holds a NUL character; give what the shell is to run");
    }
    if template::is_quoted(&command) {
        problems.add(
            place,
            "command: a ${vars…} stands in single quotes, where the shell fills nothing in: end them around it, as in '…'\"${vars.name}\"'…'",
        );
    }
    texts.add(place, &command);
    Some(command)
}

fn exec(fields: &mut Fields, texts: &mut Texts, problems: &mut Problems<'_>) -> Option<Vec<String>> {
    let (place, words) = fields.texts("exec", problems)?;
    if words.first().is_none_or(String::is_empty) {
        problems
            .add(place, "exec: give the program and its arguments, such as [/usr/bin/test, -e, /run/x.pid]");
    }
    if words.len() > ITEMS || words.iter().any(|word| word.contains('\0')) {
        problems
            .add(place, format!("exec: it has more than {ITEMS} words, or one that holds a NUL character"));
    }
    words.iter().for_each(|word| texts.add(place, word));
    Some(words)
}

fn builtin(fields: &mut Fields, problems: &mut Problems<'_>) -> Option<String> {
    let (place, builtin) = fields.text("builtin", problems)?;
    // Which there are is the agent's to know: it may be newer than this.
    if CheckName::new(&builtin).is_err() {
        problems.add(
            place,
            "builtin: give the name of a built-in check, such as disk, memory, load, cpu or uptime",
        );
    }
    Some(builtin)
}

/// Options of a built-in. Which there are is the agent's to know as well.
fn with(
    fields: &mut Fields,
    texts: &mut Texts,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, serde_json::Value> {
    let Some(mut options) = fields.map("with", "with", problems) else { return BTreeMap::new() };
    let place = options.place();
    let entries = options.rest();
    if entries.len() > ITEMS {
        problems.add(place, format!("with: it has more than {ITEMS} options"));
    }
    let mut with = BTreeMap::new();
    for entry in entries {
        let place = entry.value.place;
        match option(entry.value.value) {
            Some(value) => {
                let items = value.as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
                items.iter().filter_map(|item| item.as_str()).for_each(|text| texts.add(place, text));
                with.insert(entry.key, value);
            }
            None => {
                problems.add(place, "with: an option is a text, a number, true, false, or a list of them")
            }
        }
    }
    with
}

fn option(value: Value) -> Option<serde_json::Value> {
    match value {
        Value::Bool(value) => Some(value.into()),
        Value::Text(text) => Some(text.into()),
        // A number that JSON does not know stays the text that it is.
        Value::Number(text) => Some(match text.parse::<serde_json::Number>() {
            Ok(number) => number.into(),
            Err(_) => text.into(),
        }),
        Value::List(items) if items.len() <= ITEMS => {
            let items = items.into_iter().map(|item| match item.value {
                Value::List(_) => None,
                other => option(other),
            });
            items.collect::<Option<Vec<_>>>().map(Into::into)
        }
        Value::List(_) | Value::Null | Value::Map(_) => None,
    }
}

pub(crate) fn run(mut fields: Fields, texts: &mut Texts, problems: &mut Problems<'_>) -> RunSettings {
    let user = fields.text("user", problems).map(|(place, user)| {
        let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        if user.is_empty() || user.len() > 64 || !user.chars().all(right) || user.starts_with('-') {
            problems.add(place, "user: give the name of a user, such as nagios");
        }
        user
    });
    let nice = fields.text("nice", problems).and_then(|(place, text)| {
        let nice = text.parse().ok().filter(|nice| (-20..=19).contains(nice));
        if nice.is_none() {
            problems.add(place, "nice: it is a whole number from -20 to 19");
        }
        nice
    });
    let directory = fields.text("directory", problems).map(|(place, directory)| {
        let whole = directory.starts_with('/') || template::is_template(&directory);
        if !whole || directory.contains('\0') {
            problems.add(place, "directory: give a whole path, such as /var/lib/app");
        }
        texts.add(place, &directory);
        directory
    });
    let mut environment = BTreeMap::new();
    if let Some(mut variables) = fields.map("environment", "environment", problems) {
        for entry in variables.rest() {
            let place = entry.place;
            if !is_variable(&entry.key) {
                problems.add(place, "environment: a variable's name has letters, digits and _ only");
            }
            let Some((place, value)) = fields::text("environment", entry.value, problems) else { continue };
            if value.contains('\0') || environment.len() >= ITEMS {
                problems.add(
                    place,
                    format!("environment: a value holds a NUL character, or there are more than {ITEMS}"),
                );
            }
            texts.add(place, &value);
            environment.insert(entry.key, value);
        }
    }
    let pass_environment = match fields.texts("pass_environment", problems) {
        Some((place, names)) => {
            if names.len() > ITEMS || !names.iter().all(|name| is_variable(name)) {
                problems
                    .add(place, "pass_environment: it is a list of variables' names, such as [PATH, LANG]");
            }
            names
        }
        None => Vec::new(),
    };
    let stdin = fields.text("stdin", problems).map(|(place, text)| {
        if text.len() > STDIN {
            problems.add(place, format!("stdin: it is longer than {STDIN} bytes"));
        }
        texts.add(place, &text);
        text
    });
    let limits = fields
        .map("limits", "limits", problems)
        .map(|fields| run_limits(fields, problems))
        .unwrap_or_default();
    fields.finish(problems);
    RunSettings { user, nice, directory, environment, pass_environment, stdin, limits }
}

fn is_variable(name: &str) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty()
        && name.len() <= 256
        && name.chars().all(right)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn run_limits(mut fields: Fields, problems: &mut Problems<'_>) -> Limits {
    const SMALLEST_MEMORY: u64 = 4 << 20;
    let memory_bytes = size(&mut fields, "memory", SMALLEST_MEMORY, u64::MAX, problems);
    let cpu_ms = fields.duration("cpu", problems).map(|(place, cpu)| {
        if cpu < SECOND {
            problems.add(place, "cpu: it is 1s or more");
        }
        protocol::duration::millis(cpu)
    });
    let open_files = count(&mut fields, "open_files", problems);
    let processes = count(&mut fields, "processes", problems);
    let file_size_bytes = size(&mut fields, "file_size", 0, u64::MAX, problems);
    let most = u64::try_from(limits::OUTPUT).unwrap_or(u64::MAX);
    let output_bytes = size(&mut fields, "output", 1, most, problems);
    fields.finish(problems);
    Limits { memory_bytes, cpu_ms, open_files, processes, file_size_bytes, output_bytes }
}

fn size(
    fields: &mut Fields,
    key: &'static str,
    least: u64,
    most: u64,
    problems: &mut Problems<'_>,
) -> Option<u64> {
    let (place, text) = fields.text(key, problems)?;
    match protocol::size::parse(&text) {
        Ok(bytes) if (least..=most).contains(&bytes) => Some(bytes),
        Ok(bytes) if bytes < least => {
            problems.add(place, format!("{key}: it is {least} bytes or more"));
            None
        }
        Ok(_) => {
            problems.add(place, format!("{key}: it is {most} bytes or less"));
            None
        }
        Err(error) => {
            problems.add(place, format!("{key}: {error}"));
            None
        }
    }
}

fn count(fields: &mut Fields, key: &'static str, problems: &mut Problems<'_>) -> Option<u64> {
    let (place, text) = fields.text(key, problems)?;
    let count = text.parse().ok().filter(|count| (1..=1_000_000_u64).contains(count));
    if count.is_none() {
        problems.add(place, format!("{key}: it is a whole number from 1 to 1000000"));
    }
    count
}

fn output(fields: &mut Fields, texts: &mut Texts, problems: &mut Problems<'_>) -> Output {
    const ALL: [(&str, OutputFormat); 5] = [
        ("number", OutputFormat::Number),
        ("nagios", OutputFormat::Nagios),
        ("json", OutputFormat::Json),
        ("prometheus", OutputFormat::Prometheus),
        ("text", OutputFormat::Text),
    ];
    let format = fields.text("output", problems).and_then(|(place, text)| {
        let format = ALL.iter().find(|(name, _)| *name == text).map(|(_, format)| *format);
        if format.is_none() {
            problems.add(place, "output: it is one of number, nagios, json, prometheus and text");
        }
        format
    });
    let format = format.unwrap_or_default();
    let mut only = |key: &'static str, of: &[OutputFormat], what: &str| {
        let (place, text) = fields.text(key, problems)?;
        if !of.contains(&format) {
            problems.add(place, format!("{key}: it goes with output: {what}"));
        }
        Some((place, text))
    };
    let with_metrics = [OutputFormat::Nagios, OutputFormat::Json, OutputFormat::Prometheus];
    let pointer = only("pointer", &[OutputFormat::Json], "json");
    let pattern = only("pattern", &[OutputFormat::Text], "text");
    let metric = only("metric", &with_metrics, "nagios, json and prometheus").map(|(place, metric)| {
        texts.add(place, &metric);
        metric
    });
    if let Some((place, pointer)) = &pointer
        && let Err(error) = pointer::check(pointer)
    {
        problems.add(*place, format!("pointer: {error}"));
    }
    if let Some((place, pattern)) = &pattern
        && let Err(error) = Pattern::new(pattern)
    {
        problems.add(*place, format!("pattern: {error}"));
    }
    Output {
        format,
        pointer: pointer.map(|(_, pointer)| pointer),
        pattern: pattern.map(|(_, pattern)| pattern),
        metric,
    }
}
