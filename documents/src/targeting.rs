//! Groups and variables.

use protocol::{
    AgentId, GroupName, VariablesName, Vars,
    document::Kind,
    targeting::{Group, Variables},
};

use crate::{
    HostExpression,
    fields::{self, Fields, Problems},
    kinds::{Read, Reference},
    template,
    yaml::{Node, Value},
};

/// Most members of a group, and variables of a document.
const ITEMS: usize = 10_000;
/// Longest text of a variable, in bytes.
const TEXT: usize = 4_096;
/// Longest list of a variable.
const LIST: usize = 256;

pub(crate) fn group(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Group> {
    fields.rename("a Group");
    let place = fields.place();
    let name: Option<GroupName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Group, name.to_string()));
    let description = fields.text("description", problems).map(|(_, text)| text).unwrap_or_default();
    let hosts = read.expression(&mut fields, "hosts", HostExpression::compile_for_group, problems);
    let mut members: Vec<AgentId> = Vec::new();
    for item in fields.list("members", problems) {
        members.extend(fields::parse::<AgentId>("members", item, problems));
    }
    if hosts.is_none() && members.is_empty() {
        problems
            .add(place, "a Group has \"hosts\" (an expression), \"members\" (hosts by their ids), or both");
    }
    if members.len() > ITEMS {
        problems.add(
            place,
            format!("members: there are more than {ITEMS}; select them by \"hosts\" and a label"),
        );
    }
    members.sort();
    members.dedup();
    fields.finish(problems);
    Some(Group { name: name?, description, hosts, members })
}

pub(crate) fn variables(
    mut fields: Fields,
    read: &mut Read,
    problems: &mut Problems<'_>,
) -> Option<Variables> {
    fields.rename("a Variables document");
    let place = fields.place();
    let name: Option<VariablesName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Variables, name.to_string()));
    let description = fields.text("description", problems).map(|(_, text)| text).unwrap_or_default();
    let group = fields.take("group").and_then(|node| {
        let place = node.place;
        let group: GroupName = fields::parse("group", node, problems)?;
        read.references.push(Reference { place, kind: Kind::Group, name: group.to_string() });
        Some(group)
    });
    let host = fields.take("host").and_then(|node| fields::parse::<AgentId>("host", node, problems));
    if group.is_some() && host.is_some() {
        problems.add(place, "variables are for one \"group\" or for one \"host\": write two documents");
    }
    let priority = fields
        .take("priority")
        .and_then(|node| {
            let (place, text) = fields::text("priority", node, problems)?;
            let priority = text.parse().ok().filter(|priority| (-1_000..=1_000).contains(priority));
            if priority.is_none() {
                problems.add(place, "priority: it is a whole number from -1000 to 1000; 0 without it");
            }
            priority
        })
        .unwrap_or_default();
    let mut vars = Vars::new();
    let given = fields.required("vars", problems).and_then(|node| Fields::of(node, "vars", problems));
    for entry in given.map(|mut given| given.rest()).unwrap_or_default() {
        if !template::is_name(&entry.key) {
            problems.add(
                entry.place,
                "vars: a variable's name has letters, digits and _ only, and begins with no digit",
            );
            continue;
        }
        if vars.len() >= ITEMS {
            problems.add(entry.place, format!("vars: there are more than {ITEMS}"));
            break;
        }
        let place = entry.value.place;
        match value(entry.value, problems) {
            Some(value) => {
                read.defined.push((entry.key.clone(), place));
                vars.insert(entry.key, value);
            }
            None => problems.add(
                place,
                format!(
                    "vars: a value is a text of at most {TEXT} bytes, a number, true, false, or a list of at most {LIST} of them"
                ),
            ),
        }
    }
    fields.finish(problems);
    Some(Variables { name: name?, description, group, host, priority, vars })
}

fn value(node: Node, problems: &mut Problems<'_>) -> Option<serde_json::Value> {
    match node.value {
        Value::Bool(value) => Some(value.into()),
        Value::Text(text) => (text.len() <= TEXT && !text.contains('\0')).then(|| text.into()),
        Value::Number(_) => {
            let (_, text) = fields::text("vars", node, problems)?;
            // A number that JSON does not know stays the text that it is.
            Some(text.parse::<serde_json::Number>().map_or_else(|_| text.into(), Into::into))
        }
        Value::List(items) if items.len() <= LIST => {
            let items = items.into_iter().map(|item| match item.value {
                Value::List(_) => None,
                _ => value(item, problems),
            });
            items.collect::<Option<Vec<_>>>().map(Into::into)
        }
        Value::List(_) | Value::Null | Value::Map(_) => None,
    }
}
