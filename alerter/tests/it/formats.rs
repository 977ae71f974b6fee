//! What each format sends, held against frozen examples. A new form of an example is written with
//! `DOGWATCH_WRITE_EXAMPLES=1` and read by a person before it is committed.

use std::{collections::BTreeMap, path::Path};

use alerter::core::notify::{Attempt, Request, Secrets, render};
use protocol::{
    alert::Notification,
    receiver::{FORMATS, Format, Secret, Webhook},
};
use serde_json::{Value, json};

fn notification(state: &str) -> Notification {
    serde_json::from_value(json!({"v": 1, "receiver": "ops", "alert": {
        "v": 1, "id": "0123456789abcdef", "agent": "web-01", "rule": "disk_full", "check": "disk", "state": state,
        "severity": "critical", "summary": "disk on web-01 is 93.5 %: disk_full (value > 90 && \"<b>@all\")",
        "value": 93.5, "unit": "%", "labels": {"role": "web", "team-name": "a b"},
        "started_ms": 1_795_200_000_123_u64, "at_ms": if state == "resolved" { 1_795_200_900_000_u64 } else { 1_795_200_000_123_u64 },
    }}))
    .unwrap()
}

fn webhook(format: Format) -> Webhook {
    let info = format.info();
    let to = info.to.map(|_| match format {
        Format::GitHub => "acme/fleet",
        Format::GitLab => "acme/ops/fleet",
        Format::Telegram => "-100123",
        _ => "dogwatch",
    });
    Webhook {
        url: if info.url.is_none() { "https://example.com/hook/T0K3N".to_owned() } else { String::new() },
        format,
        to: to.map(str::to_owned),
        token: info.token.map(|_| Secret::File("token".into())),
        body: (format == Format::Template).then(|| {
            "{% if alert.state == \"firing\" %}{{ title }}: {{ alert.value }}{{ alert.unit }}{% else %}over{% endif %} {{ alert|tojson }}"
                .to_owned()
        }),
        ..Webhook::default()
    }
}

/// The request as a person reads it.
fn text(request: &Request) -> String {
    let mut text = format!("{:?} {}\n", request.method, request.url).replacen(
        &format!("{:?}", request.method),
        &format!("{:?}", request.method).to_uppercase(),
        1,
    );
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\n"));
    }
    let body = serde_json::from_str::<Value>(&request.body);
    let body =
        body.map_or_else(|_| request.body.clone(), |json| serde_json::to_string_pretty(&json).unwrap());
    text.push_str(&format!("\n{body}\n"));
    text
}

#[test]
fn every_format_sends_what_its_example_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("test-data/receivers");
    let secrets = Secrets::new(BTreeMap::from([(Secret::File("token".into()), Ok("123:s3cret".to_owned()))]));
    let write = std::env::var_os("DOGWATCH_WRITE_EXAMPLES").is_some();
    for info in FORMATS {
        for state in ["firing", "resolved"] {
            let notification = notification(state);
            let opened = (state == "resolved").then_some("42");
            let request = render(
                &webhook(info.format),
                Attempt { notification: &notification, now_ms: 1_795_200_001_999, opened },
                &secrets,
            )
            .unwrap();
            let path = folder.join(format!("{}-{state}.txt", info.name));
            if write {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, text(&request)).unwrap();
            }
            let expected = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(text(&request), expected, "{}", path.display());
        }
    }
}
