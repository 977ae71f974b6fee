//! Version 4 of Alertmanager's webhooks, so that what understands Alertmanager understands dogwatch.

use std::collections::BTreeMap;

use protocol::{
    alert::{Alert, AlertState, Notification},
    timestamp,
};
use serde_json::{Value, json};

/// What Alertmanager says where a time is not known.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn body(notification: &Notification) -> Value {
    let alert = &notification.alert;
    let labels = labels(alert);
    let annotations = annotations(alert);
    let resolved = alert.state == AlertState::Resolved;
    let status = if resolved { "resolved" } else { "firing" };
    let group = json!({"alertname": alert.rule, "instance": alert.agent});
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alertname=\"{}\", instance=\"{}\"}}", alert.rule, alert.agent),
        "truncatedAlerts": 0,
        "status": status,
        "receiver": notification.receiver,
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [{
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": timestamp::format(alert.started_ms),
            "endsAt": if resolved { timestamp::format(alert.at_ms) } else { NEVER.to_owned() },
            "generatorURL": "",
            "fingerprint": format!("{:016x}", fingerprint(&labels)),
        }],
    })
}

/// The host's labels, under names that Prometheus allows, and what the alert is.
pub(super) fn labels(alert: &Alert) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> =
        alert.labels.iter().map(|(name, value)| (label_name(name), value.clone())).collect();
    for (name, value) in [
        ("alertname", alert.rule.as_str()),
        ("instance", alert.agent.as_str()),
        ("check", alert.check.as_str()),
        ("severity", alert.severity.as_str()),
    ] {
        labels.insert(name.to_owned(), value.to_owned());
    }
    labels
}

fn annotations(alert: &Alert) -> BTreeMap<&'static str, String> {
    let mut annotations = BTreeMap::from([("summary", alert.summary.clone())]);
    if let Some(value) = &alert.value {
        annotations.insert("value", value.to_string());
    }
    annotations
}

fn label_name(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = name.chars().map(fits).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// FNV-1a over names and values in order, each with a byte 0xff behind it, as Prometheus does.
fn fingerprint(labels: &BTreeMap<String, String>) -> u64 {
    let bytes = labels.iter().flat_map(|(name, value)| [name.as_bytes(), &[0xff], value.as_bytes(), &[0xff]]);
    bytes.flatten().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
