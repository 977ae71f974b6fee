//! Each kind of document, key by key.

use std::time::Duration;

use protocol::{
    CheckName, ReceiverName, RuleName,
    alert::Severity,
    document::{Check, Document, Kind, OutputFormat, Receiver, Rule, Variant, Webhook},
};

use crate::{
    ExpressionError, HostExpression, RuleExpression,
    fields::{self, Fields, Problems},
    yaml::{Node, Place},
};

const KINDS: [&str; 3] = ["Check", "Rule", "Receiver"];
const LATER_KINDS: [&str; 4] = ["Action", "Group", "Silence", "Variables"];
const SECOND: Duration = Duration::from_secs(1);
/// Timeout of a check that gives none, unless its `every` is too short for it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What could be read of a document.
pub(crate) struct Read {
    pub(crate) place: Place,
    /// Known as soon as kind and name are right, so that what refers to a wrong document is not reported as well.
    pub(crate) identity: Option<(Kind, String)>,
    /// Whole only if nothing is wrong with it.
    pub(crate) document: Option<Document>,
    pub(crate) references: Vec<Reference>,
}

/// A name that another document must have.
pub(crate) struct Reference {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

pub(crate) fn read(node: Node, problems: &mut Problems<'_>) -> Option<Read> {
    let before = problems.found.len();
    let mut fields = Fields::of(node, "a document", problems)?;
    let (place, kind) = fields::text("kind", fields.required("kind", problems)?, problems)?;
    let mut read = Read { place: fields.place(), identity: None, document: None, references: Vec::new() };
    let document = match kind.as_str() {
        "Check" => check(fields, &mut read, problems).map(Document::Check),
        "Rule" => rule(fields, &mut read, problems).map(Document::Rule),
        "Receiver" => receiver(fields, &mut read, problems).map(Document::Receiver),
        later if LATER_KINDS.contains(&later) => {
            problems.add(place, format!("kind {later} comes with a later version"));
            None
        }
        other => {
            let hint = crate::nearest::hint(other, &KINDS);
            let other: String = other.chars().take(64).collect();
            problems
                .add(place, format!("there is no kind {other:?}{hint}; the kinds are {}", KINDS.join(", ")));
            None
        }
    };
    read.document = document.filter(|_| problems.found.len() == before);
    Some(read)
}

fn check(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Check> {
    fields.rename("a Check");
    let place = fields.place();
    let name: Option<CheckName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Check, name.to_string()));
    let description = fields.text("description", problems).map(|(_, text)| text).unwrap_or_default();
    let hosts = expression(&mut fields, "hosts", HostExpression::compile, problems);
    let every = fields.required("every", problems).and_then(|node| fields::duration("every", node, problems));
    let timeout = fields.duration("timeout", problems);
    let command = command(&mut fields, problems);
    let builtin = builtin(&mut fields, problems);
    let given = fields.take("variants");
    let has_variants = given.is_some();
    let variants = given.map(|node| variants(node, problems)).unwrap_or_default();
    let ways = [command.is_some(), builtin.is_some(), has_variants];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        problems.add(place, "a Check has exactly one of \"command\", \"builtin\" and \"variants\"");
    }
    let output = output(&mut fields, problems);
    let unit = fields.text("unit", problems).map(|(_, text)| text);
    let warning = fields.parsed("warning", problems);
    let critical = fields.parsed("critical", problems);
    fields.later(&["exec"], problems);
    fields.finish(problems);
    let (name, (place, every)) = (name?, every?);
    if every < SECOND {
        problems.add(place, "every: a check runs at most once a second, so this is 1s or more");
    }
    let timeout = match timeout {
        Some((place, timeout)) if timeout.is_zero() || timeout >= every => {
            let every = protocol::duration::format(every);
            problems
                .add(place, format!("timeout: it is longer than 0s and shorter than \"every\" ({every})"));
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
        timeout,
        command,
        builtin,
        variants,
        output,
        unit,
        warning,
        critical,
    })
}

/// 30 s, or for a check that runs more often than that allows, four fifths of the time until it runs again.
fn default_timeout(every: Duration) -> Duration {
    let fits = protocol::duration::millis(every).saturating_mul(4) / 5;
    TIMEOUT.min(Duration::from_millis(fits))
}

fn variants(node: Node, problems: &mut Problems<'_>) -> Vec<Variant> {
    let place = node.place;
    let crate::yaml::Value::List(items) = node.value else {
        problems.add(place, format!("\"variants\" is a list, not {}", node.value.describe()));
        return Vec::new();
    };
    if items.is_empty() {
        problems.add(place, "\"variants\" is empty: give at least one, with a \"command\" or \"builtin\"");
    }
    let count = items.len();
    let mut variants = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let Some(mut fields) = Fields::of(item, "a variant", problems) else { continue };
        let place = fields.place();
        let when = expression(&mut fields, "when", HostExpression::compile, problems);
        let (command, builtin) = (command(&mut fields, problems), builtin(&mut fields, problems));
        if command.is_some() == builtin.is_some() {
            problems.add(place, "a variant has exactly one of \"command\" and \"builtin\"");
        }
        if when.is_none() && index + 1 < count {
            problems.add(
                place,
                "a variant without \"when\" fits every host, so those after it never run: put it last",
            );
        }
        fields.finish(problems);
        variants.push(Variant { when, command, builtin });
    }
    variants
}

fn command(fields: &mut Fields, problems: &mut Problems<'_>) -> Option<String> {
    let (place, command) = fields.text("command", problems)?;
    if command.trim().is_empty() || command.contains('\0') {
        problems.add(place, "command: it is empty or holds a NUL character; give what the shell is to run");
    }
    Some(command)
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

fn output(fields: &mut Fields, problems: &mut Problems<'_>) -> OutputFormat {
    let Some((place, text)) = fields.text("output", problems) else { return OutputFormat::default() };
    match text.as_str() {
        "number" => OutputFormat::Number,
        "nagios" => OutputFormat::Nagios,
        "text" => OutputFormat::Text,
        "json" | "prometheus" => {
            problems
                .add(place, format!("output: {text} is not available yet: it comes with a later version"));
            OutputFormat::default()
        }
        _ => {
            problems.add(place, "output: it is one of number, nagios and text");
            OutputFormat::default()
        }
    }
}

fn rule(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Rule> {
    fields.rename("a Rule");
    let name: Option<RuleName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Rule, name.to_string()));
    let description = fields.text("description", problems).map(|(_, text)| text).unwrap_or_default();
    let check = fields.required("check", problems).and_then(|node| {
        let place = node.place;
        let name: CheckName = fields::parse("check", node, problems)?;
        read.references.push(Reference { place, kind: Kind::Check, name: name.to_string() });
        Some(name)
    });
    let hosts = expression(&mut fields, "hosts", HostExpression::compile, problems);
    let when = fields
        .required("when", problems)
        .and_then(|node| compiled("when", node, RuleExpression::compile, problems));
    let hold = fields.duration("for", problems).map(|(_, duration)| duration).unwrap_or_default();
    let keep_firing_for =
        fields.duration("keep_firing_for", problems).map(|(_, duration)| duration).unwrap_or_default();
    let severity = severity(&mut fields, problems);
    let mut notify = Vec::new();
    for item in fields.list("notify", problems) {
        let place = item.place;
        let Some(receiver) = fields::parse::<ReceiverName>("notify", item, problems) else { continue };
        if notify.contains(&receiver) {
            problems.add(place, format!("notify: {receiver} stands here twice"));
        }
        read.references.push(Reference { place, kind: Kind::Receiver, name: receiver.to_string() });
        notify.push(receiver);
    }
    fields.later(&["action"], problems);
    fields.finish(problems);
    Some(Rule {
        name: name?,
        description,
        check: check?,
        hosts,
        when: when?,
        hold,
        keep_firing_for,
        severity,
        notify,
    })
}

fn severity(fields: &mut Fields, problems: &mut Problems<'_>) -> Severity {
    let Some((place, text)) = fields.text("severity", problems) else { return Severity::default() };
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    all.into_iter().find(|severity| severity.as_str() == text).unwrap_or_else(|| {
        problems.add(place, "severity: it is one of info, warning and critical");
        Severity::default()
    })
}

fn receiver(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Receiver> {
    fields.rename("a Receiver");
    let name: Option<ReceiverName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Receiver, name.to_string()));
    let description = fields.text("description", problems).map(|(_, text)| text).unwrap_or_default();
    let webhook = fields.required("webhook", problems).and_then(|node| webhook(node, problems));
    fields.finish(problems);
    Some(Receiver { name: name?, description, webhook: webhook? })
}

fn webhook(node: Node, problems: &mut Problems<'_>) -> Option<Webhook> {
    const LONGEST: Duration = Duration::from_secs(60);
    let mut fields = Fields::of(node, "a webhook", problems)?;
    let url = fields.required("url", problems).and_then(|node| fields::text("url", node, problems));
    let timeout = match fields.duration("timeout", problems) {
        None => Duration::from_secs(15),
        Some((_, timeout)) if (SECOND..=LONGEST).contains(&timeout) => timeout,
        Some((place, timeout)) => {
            problems.add(place, "timeout: a webhook gets 1s to 1m");
            timeout
        }
    };
    fields.finish(problems);
    let (place, url) = url?;
    if !is_http(&url) {
        // The text itself may hold a secret.
        problems.add(place, "url: write it like https://host/path, with http or https and a host");
    }
    Some(Webhook { url, timeout })
}

fn is_http(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let host = host.map(|host| host.rsplit('@').next().unwrap_or(host));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(':'))
        && url.len() <= 2048
        && !url.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn expression<T>(
    fields: &mut Fields,
    key: &'static str,
    compile: impl Fn(&str) -> Result<T, ExpressionError>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    compiled(key, fields.take(key)?, compile, problems)
}

/// The text of an expression that compiles.
fn compiled<T>(
    key: &'static str,
    node: Node,
    compile: impl Fn(&str) -> Result<T, ExpressionError>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let (place, text) = fields::text(key, node, problems)?;
    if let Err(error) = compile(&text) {
        let message = format!("{key}: {error}");
        problems.add_inside(place, &text, (error.line, error.column), &message);
    }
    Some(text)
}
