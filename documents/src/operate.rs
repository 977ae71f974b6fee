//! Silences, and actions with their guard rails.

use std::time::Duration;

use protocol::{
    ActionName, CheckName, GroupName, RuleName, SilenceName,
    cron::{self, Cron},
    document::Kind,
    operate::{Action, Guard, Rate, Share, Silence, Verify},
    timestamp,
};

use crate::{
    HostExpression, RuleExpression,
    check::{run, work},
    fields::{self, Fields, Problems},
    kinds::{Read, Reference, Texts},
    receiver::webhook,
    yaml::Place,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// Longest run of an action.
const LONGEST: Duration = HOUR;

pub(crate) fn silence(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Silence> {
    fields.rename("a Silence");
    let place = fields.place();
    let name: Option<SilenceName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Silence, name.to_string()));
    let comment = fields.text("comment", problems).map(|(_, text)| text).unwrap_or_default();
    let author = fields.text("author", problems).map(|(_, text)| text).unwrap_or_default();
    let hosts = read.expression(&mut fields, "hosts", HostExpression::compile, problems);
    let checks: Vec<CheckName> = names(&mut fields, "checks", Kind::Check, read, problems);
    let rules: Vec<RuleName> = names(&mut fields, "rules", Kind::Rule, read, problems);
    if hosts.is_none() && checks.is_empty() && rules.is_empty() {
        problems.add(
            place,
            "a Silence has \"hosts\", \"checks\" or \"rules\"; hosts: \"true\" silences everything",
        );
    }
    let starts = moment(&mut fields, "starts", problems);
    let ends = moment(&mut fields, "ends", problems);
    if let (Some((_, starts)), Some((place, ends))) = (starts, ends)
        && ends <= starts
    {
        problems.add(place, "ends: it is behind \"starts\"");
    }
    let timezone = fields.text("timezone", problems).map(|(place, name)| {
        if let Err(error) = cron::zone(&name) {
            problems.add(place, format!("timezone: {error}"));
        }
        name
    });
    let (cron, duration) = (fields.take("cron"), fields.duration("duration", problems));
    match (&cron, &duration) {
        (Some(_), None) => {
            problems.add(place, "a Silence with \"cron\" needs \"duration\": how long each time")
        }
        (None, Some((place, _))) => problems.add(*place, "duration: it goes with \"cron\""),
        (None, None) if ends.is_none() => {
            problems
                .add(place, "a Silence needs \"ends\", or \"cron\" and \"duration\": none lasts for ever");
        }
        _ => {}
    }
    if timezone.is_some() && cron.is_none() {
        problems.add(place, "timezone: it goes with \"cron\"");
    }
    if let Some((place, duration)) = duration
        && !(SECOND..=HOUR * 24 * 31).contains(&duration)
    {
        problems.add(place, "duration: it is 1s to 31days");
    }
    let cron = cron.and_then(|node| fields::parse::<Cron>("cron", node, problems));
    fields.finish(problems);
    Some(Silence {
        name: name?,
        comment,
        author,
        hosts,
        checks,
        rules,
        starts: starts.map(|(_, at)| at),
        ends: ends.map(|(_, at)| at),
        cron: cron.map(|cron| cron.to_string()),
        duration: duration.map(|(_, duration)| duration),
        timezone,
    })
}

/// A list of names of documents that there are.
fn names<T: std::str::FromStr<Err: std::fmt::Display> + std::fmt::Display>(
    fields: &mut Fields,
    key: &'static str,
    kind: Kind,
    read: &mut Read,
    problems: &mut Problems<'_>,
) -> Vec<T> {
    let mut names = Vec::new();
    for item in fields.list(key, problems) {
        let place = item.place;
        let Some(name) = fields::parse::<T>(key, item, problems) else { continue };
        read.references.push(Reference { place, kind, name: name.to_string() });
        names.push(name);
    }
    names
}

fn moment(fields: &mut Fields, key: &'static str, problems: &mut Problems<'_>) -> Option<(Place, u64)> {
    let (place, text) = fields.text(key, problems)?;
    match timestamp::parse(&text) {
        Ok(at) => Some((place, at)),
        Err(error) => {
            problems.add(place, format!("{key}: {error}"));
            None
        }
    }
}

pub(crate) fn action(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Action> {
    fields.rename("an Action");
    let place = fields.place();
    let name: Option<ActionName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Action, name.to_string()));
    let description = fields.text("description", problems).map(|(_, text)| text).unwrap_or_default();
    let hosts = read.expression(&mut fields, "hosts", HostExpression::compile, problems);
    let mut texts = Texts::default();
    let work = work(&mut fields, &mut texts, problems);
    let webhook = fields.take("webhook").map(|node| webhook(node, problems));
    if work.ways() + usize::from(webhook.is_some()) != 1 {
        problems
            .add(place, "an Action has exactly one of \"command\", \"exec\", \"builtin\" and \"webhook\"");
    }
    let run = fields
        .map("run", "run", problems)
        .map(|fields| run(fields, &mut texts, problems))
        .unwrap_or_default();
    for (place, _) in texts.found {
        problems.add(place, "variables stand in checks only: an Action is the same on every host");
    }
    let timeout = fields.duration("timeout", problems);
    if let Some((place, timeout)) = timeout
        && !(SECOND..=LONGEST).contains(&timeout)
    {
        problems.add(place, "timeout: an action gets 1s to 1h");
    }
    let guard = fields
        .map("guard", "guard", problems)
        .map(|fields| guard(fields, read, problems))
        .unwrap_or_default();
    fields.finish(problems);
    Some(Action {
        name: name?,
        description,
        hosts,
        work,
        run,
        webhook: webhook.flatten(),
        timeout: timeout.map_or(SECOND * 60, |(_, timeout)| timeout),
        guard,
    })
}

fn guard(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Guard {
    let default = Guard::default();
    let cooldown = fields.duration("cooldown", problems).map_or(default.cooldown, |(_, cooldown)| cooldown);
    let max_per_host = rate(&mut fields, "max_per_host", problems).unwrap_or(default.max_per_host);
    let max_per_fleet = rate(&mut fields, "max_per_fleet", problems).unwrap_or(default.max_per_fleet);
    let max_percent = share(&mut fields, read, problems).unwrap_or(default.max_percent);
    let verify = fields.map("verify", "verify", problems).and_then(|mut fields| {
        let when = read.required_expression(&mut fields, "when", RuleExpression::compile, problems);
        let within = fields.duration("within", problems);
        fields.finish(problems);
        Some(Verify { when: when?, within: within.map_or(HOUR / 6, |(_, within)| within) })
    });
    let approval = truth(&mut fields, "approval", problems);
    let dry_run = truth(&mut fields, "dry_run", problems);
    fields.finish(problems);
    Guard { cooldown, max_per_host, max_per_fleet, max_percent, verify, approval, dry_run }
}

fn rate(fields: &mut Fields, key: &'static str, problems: &mut Problems<'_>) -> Option<Rate> {
    let mut fields = fields.map(key, key, problems)?;
    let place = fields.place();
    let count = fields.required("count", problems).and_then(|node| {
        let (place, text) = fields::text("count", node, problems)?;
        let count = text.parse().ok().filter(|count| *count <= 1_000_000);
        if count.is_none() {
            problems.add(place, "count: it is a whole number from 0 to 1000000");
        }
        count
    });
    let window = fields.duration("window", problems);
    fields.finish(problems);
    let Some((place, window)) = window else {
        problems.add(place, format!("{key} needs \"count\" and \"window\", as in {{count: 3, window: 1d}}"));
        return None;
    };
    if !(SECOND..=HOUR * 24 * 31).contains(&window) {
        problems.add(place, "window: it is 1s to 31days");
    }
    Some(Rate { count: count?, window })
}

fn share(fields: &mut Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Share> {
    let mut fields = fields.map("max_percent", "max_percent", problems)?;
    let percent = fields.required("percent", problems).and_then(|node| {
        let (place, text) = fields::text("percent", node, problems)?;
        let percent = text.parse().ok().filter(|percent| (1..=100).contains(percent));
        if percent.is_none() {
            problems.add(place, "percent: it is a whole number from 1 to 100");
        }
        percent
    });
    let group = fields.take("group").and_then(|node| {
        let place = node.place;
        let group: GroupName = fields::parse("group", node, problems)?;
        read.references.push(Reference { place, kind: Kind::Group, name: group.to_string() });
        Some(group)
    });
    fields.finish(problems);
    Some(Share { percent: percent?, group })
}

fn truth(fields: &mut Fields, key: &'static str, problems: &mut Problems<'_>) -> bool {
    let Some((place, text)) = fields.text(key, problems) else { return false };
    if !matches!(text.as_str(), "true" | "false") {
        problems.add(place, format!("{key}: it is true or false"));
    }
    text == "true"
}
