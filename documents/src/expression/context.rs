//! The variables of an expression, converted to CEL values when it asks for them.

use std::{collections::HashMap, sync::Arc};

use cel::{
    Value,
    objects::{Key, Map},
};
use protocol::{Facts, Labels, Scalar};

use super::{HostView, RuleView};

pub(super) const HOST_VARIABLES: [&str; 5] = ["agent", "facts", "labels", "groups", "vars"];
pub(super) const GROUP_VARIABLES: [&str; 4] = ["agent", "facts", "labels", "groups"];
pub(super) const RULE_VARIABLES: [&str; 10] =
    ["value", "status", "metrics", "output", "agent", "check", "labels", "facts", "groups", "vars"];

pub(super) fn of_host(host: &HostView<'_>, name: &str) -> Value {
    match name {
        "agent" => text(host.agent.as_str()),
        "facts" => host.kept.facts(|| facts(host.facts)),
        "labels" => host.kept.labels(|| labels(host.labels)),
        "groups" => Value::List(Arc::new(host.groups.iter().map(|group| text(group.as_str())).collect())),
        "vars" => host.kept.vars(|| facts(host.vars)),
        _ => Value::Null,
    }
}

pub(super) fn of_result(view: &RuleView<'_>, name: &str) -> Value {
    let result = view.result;
    match name {
        "value" => result.value.as_ref().map_or(Value::Null, scalar),
        "status" => text(result.status.as_str()),
        "metrics" => map(result.metrics.iter().map(|m| (m.name.as_str(), Value::Float(m.value)))),
        "output" => text(&result.output),
        "check" => text(result.check.as_str()),
        _ => of_host(&view.host, name),
    }
}

fn scalar(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Bool(b) => Value::Bool(*b),
        Scalar::Number(n) => n.as_f64().map_or(Value::Null, Value::Float),
        Scalar::Text(t) => text(t),
    }
}

fn facts(facts: &Facts) -> Value {
    map(facts.iter().map(|(name, value)| (name.as_str(), json(value))))
}

fn labels(labels: &Labels) -> Value {
    map(labels.iter().map(|(name, value)| (name.as_str(), text(value))))
}

fn json(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => n.as_f64().map_or(Value::Null, Value::Float),
        Json::String(s) => text(s),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(json).collect())),
        Json::Object(entries) => map(entries.iter().map(|(name, value)| (name.as_str(), json(value)))),
    }
}

fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn map<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    let map: HashMap<Key, Value> =
        entries.map(|(name, value)| (Key::String(Arc::new(name.to_owned())), value)).collect();
    Value::Map(Map { map: Arc::new(map) })
}
