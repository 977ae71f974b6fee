//! Schedule and thresholds that differ from host to host: variables in them, and overrides.

use std::time::Duration;

use protocol::{
    Threshold,
    cron::{self, Cron},
    document::Check,
    duration,
    targeting::{Override, Tuning},
};

use crate::{
    HostExpression,
    fields::{self, Fields, Problems},
    kinds::{Read, Texts},
    template,
    yaml::{Node, Value},
};

const SECOND: Duration = Duration::from_secs(1);
/// Most overrides of one check.
const OVERRIDES: usize = 1_000;
/// A threshold that there is not.
const NONE: &str = "none";

const KEYS: [&str; 6] = ["every", "cron", "timezone", "timeout", "warning", "critical"];

fn get<'t>(tuning: &'t Tuning, key: &str) -> Option<&'t String> {
    match key {
        "every" => tuning.every.as_ref(),
        "cron" => tuning.cron.as_ref(),
        "timezone" => tuning.timezone.as_ref(),
        "timeout" => tuning.timeout.as_ref(),
        "warning" => tuning.warning.as_ref(),
        _ => tuning.critical.as_ref(),
    }
}

fn set(tuning: &mut Tuning, key: &str, text: String) {
    let field = match key {
        "every" => &mut tuning.every,
        "cron" => &mut tuning.cron,
        "timezone" => &mut tuning.timezone,
        "timeout" => &mut tuning.timeout,
        "warning" => &mut tuning.warning,
        _ => &mut tuning.critical,
    };
    *field = Some(text);
}

/// The text that stands for a value, if one does.
pub(crate) fn written<'t>(tuning: &'t Tuning, key: &str) -> Option<&'t String> {
    get(tuning, key)
}

/// All texts of a tuning.
pub(crate) fn texts(tuning: &Tuning) -> impl Iterator<Item = &String> {
    KEYS.into_iter().filter_map(|key| get(tuning, key))
}

/// What is wrong with a text that holds no variables any more.
///
/// # Errors
/// In words that begin with the key.
pub(crate) fn check(key: &str, text: &str) -> Result<(), String> {
    let said = |error: String| format!("{key}: {error}");
    match key {
        "every" | "timeout" => {
            let duration = duration::parse(text).map_err(|error| said(error.to_string()))?;
            let least = if key == "every" { SECOND } else { Duration::from_millis(1) };
            if duration < least {
                return Err(said(format!("it is {} or more", duration::format(least))));
            }
        }
        "cron" => drop(text.parse::<Cron>().map_err(|error| said(error.to_string()))?),
        "timezone" => drop(cron::zone(text).map_err(|error| said(error.to_string()))?),
        _ if text == NONE => {}
        _ => drop(text.parse::<Threshold>().map_err(|error| said(error.to_string()))?),
    }
    Ok(())
}

/// Takes out of a check the values in which variables stand.
pub(crate) fn templates(fields: &mut Fields, texts: &mut Texts) -> Tuning {
    let mut tuning = Tuning::default();
    for key in KEYS {
        if let Some((place, text)) = fields.take_template(key) {
            texts.tuned(key, place, &text);
            set(&mut tuning, key, text);
        }
    }
    tuning
}

pub(crate) fn overrides(
    node: Node,
    has_number: bool,
    read: &mut Read,
    texts: &mut Texts,
    problems: &mut Problems<'_>,
) -> Vec<Override> {
    let place = node.place;
    let Value::List(items) = node.value else {
        problems.add(place, format!("\"overrides\" is a list, not {}", node.value.describe()));
        return Vec::new();
    };
    if items.len() > OVERRIDES {
        problems.add(place, format!("overrides: there are more than {OVERRIDES}"));
    }
    let mut overrides = Vec::new();
    for item in items {
        let Some(mut fields) = Fields::of(item, "an override", problems) else { continue };
        let place = fields.place();
        let hosts = read.required_expression(&mut fields, "hosts", HostExpression::compile, problems);
        let mut tuning = Tuning::default();
        for key in KEYS {
            let Some(node) = fields.take(key) else { continue };
            let Some((place, text)) = fields::text(key, node, problems) else { continue };
            if template::is_template(&text) {
                texts.tuned(key, place, &text);
            } else if let Err(error) = check(key, &text) {
                problems.add(place, error);
            }
            if !has_number && matches!(key, "warning" | "critical") {
                problems.add(place, format!("{key}: the check has no number to judge"));
            }
            set(&mut tuning, key, text);
        }
        if tuning.every.is_some() && tuning.cron.is_some() {
            problems.add(place, "an override has one of \"every\" and \"cron\": say how often, or when");
        }
        if tuning.is_empty() {
            problems.add(place, format!("an override changes something: {}", KEYS.join(", ")));
        }
        fields.finish(problems);
        overrides.extend(hosts.map(|hosts| Override { hosts, tuning }));
    }
    overrides
}

/// Schedule and thresholds as one host has them.
#[derive(Debug, Clone)]
pub(crate) struct Tuned {
    pub(crate) every: Duration,
    pub(crate) cron: Option<String>,
    pub(crate) timezone: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) warning: Option<Threshold>,
    pub(crate) critical: Option<Threshold>,
}

/// Which of `overrides` gives `key`, by its place among them. Schedules come whole: `every` hides a `cron` behind it.
pub(crate) fn giver(overrides: &[(usize, &Override)], key: &str) -> Option<usize> {
    let gives = |tuning: &Tuning| match key {
        "every" | "cron" => tuning.every.is_some() || tuning.cron.is_some(),
        key => get(tuning, key).is_some(),
    };
    overrides.iter().position(|(_, one)| gives(&one.tuning))
}

/// `overrides` are those that hold on the host, in order; `fill` puts the host's variables into a text.
///
/// # Errors
/// A value that is no value once its variables are filled in.
pub(crate) fn tuned(
    document: &Check,
    overrides: &[(usize, &Override)],
    fill: impl Fn(&str) -> Result<String, String>,
) -> Result<Tuned, String> {
    let from = |key: &str| {
        let giver = giver(overrides, key).and_then(|index| overrides.get(index));
        giver.map_or(&document.templates, |(_, one)| &one.tuning)
    };
    let text = |key: &'static str| -> Result<Option<String>, String> {
        let Some(text) = get(from(key), key) else { return Ok(None) };
        let text = fill(text).map_err(|error| format!("{key}: {error}"))?;
        check(key, &text).map(|()| Some(text))
    };
    let mut tuned = Tuned {
        every: document.every,
        cron: document.cron.clone(),
        timezone: document.timezone.clone(),
        timeout: document.timeout,
        warning: document.warning.clone(),
        critical: document.critical.clone(),
    };
    // What was checked just now reads.
    if let Some(every) = text("every")?.and_then(|text| duration::parse(&text).ok()) {
        (tuned.every, tuned.cron) = (every, None);
    } else if let Some(cron) = text("cron")?.and_then(|text| text.parse::<Cron>().ok()) {
        (tuned.every, tuned.cron) = (cron.shortest_gap(), Some(cron.to_string()));
    }
    if let Some(timezone) = text("timezone")? {
        tuned.timezone = Some(timezone);
    }
    if tuned.cron.is_none() {
        tuned.timezone = None;
    }
    if let Some(timeout) = text("timeout")?.and_then(|text| duration::parse(&text).ok()) {
        tuned.timeout = timeout;
    }
    // A timeout that was right for another schedule.
    if tuned.timeout >= tuned.every {
        tuned.timeout = tuned.every * 4 / 5;
    }
    if let Some(warning) = text("warning")? {
        tuned.warning = warning.parse().ok();
    }
    if let Some(critical) = text("critical")? {
        tuned.critical = critical.parse().ok();
    }
    Ok(tuned)
}
