//! What requests hold, and what they must not. What each format sends to the byte is held against frozen examples in
//! `tests/it/formats.rs`.

use std::collections::BTreeMap;

use protocol::{
    alert::Notification,
    receiver::{FORMATS, Format, Secret, Webhook},
};
use serde_json::json;

use super::*;

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

fn secrets() -> Secrets {
    let values =
        [("token", "123:s3cret"), ("key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), ("pw", "pa ss")];
    let values = values.map(|(name, value)| (Secret::File(name.into()), Ok(value.to_owned())));
    Secrets::new(BTreeMap::from(values))
}

fn attempt<'a>(notification: &'a Notification, opened: Option<&'a str>) -> Attempt<'a> {
    Attempt { notification, now_ms: 1_795_200_001_999, opened }
}

/// All of a request.
fn text(request: &Request) -> String {
    format!("{} {:?} {}", request.url, request.headers, request.body)
}

#[test]
fn what_is_shown_of_a_request_holds_no_secret() {
    let notification = notification("firing");
    for info in FORMATS {
        let webhook = Webhook {
            bearer: Some(Secret::File("token".into())),
            sign: vec![Secret::File("key".into())],
            headers: BTreeMap::from([("X-Key".to_owned(), HeaderText::From(Secret::File("pw".into())))]),
            ..webhook(info.format)
        };
        let shown = text(&render(&webhook, attempt(&notification, None), &Secrets::stars()).unwrap());
        assert!(
            !shown.contains("s3cret") && !shown.contains("pa ss") && shown.contains("(\"x-key\", \"***\")"),
            "{shown}"
        );
    }
}

#[test]
fn sign_in_and_headers_come_from_the_document() {
    let notification = notification("firing");
    let basic = serde_json::from_value(json!({"username": "me", "password": {"file": "pw"}})).unwrap();
    let webhook = Webhook {
        url: String::new(),
        url_from: Some(Secret::File("token".into())),
        basic: Some(basic),
        method: Some(Method::Put),
        sign: vec![Secret::File("key".into())],
        headers: BTreeMap::from([("Content-Type".to_owned(), HeaderText::Text("text/x".into()))]),
        ..webhook(Format::Dogwatch)
    };
    let request = render(&webhook, attempt(&notification, None), &secrets()).unwrap();
    let header = |name: &str| {
        let found: Vec<&str> = request
            .headers
            .iter()
            .filter(|(there, _)| there == name)
            .map(|(_, value)| value.as_str())
            .collect();
        found.join("|")
    };
    assert_eq!((request.method, request.url.as_str()), (Method::Put, "123:s3cret"));
    assert_eq!(header("authorization"), "Basic bWU6cGEgc3M=");
    assert_eq!(header("content-type"), "text/x");
    assert_eq!(header("webhook-id"), "0123456789abcdef:firing:ops");
    assert_eq!(header("webhook-timestamp"), "1795200001");
    assert!(header("webhook-signature").starts_with("v1,"));
}

#[test]
fn a_token_does_not_become_another_path() {
    let notification = notification("firing");
    let values = BTreeMap::from([(Secret::File("token".into()), Ok("1:a/../../x?y#z".to_owned()))]);
    let request =
        render(&webhook(Format::Telegram), attempt(&notification, None), &Secrets::new(values)).unwrap();
    assert_eq!(request.url, "https://api.telegram.org/bot1:a%2F..%2F..%2Fx%3Fy%23z/sendMessage");
    let up = Webhook { to: Some("../..".into()), ..webhook(Format::GitHub) };
    let request = render(&up, attempt(&notification, None), &secrets()).unwrap();
    assert_eq!(request.url, "https://api.github.com/repos/_/_/issues");
}

#[test]
fn an_issue_is_opened_added_to_and_closed() {
    assert_eq!(opened(Format::GitHub, "{\"number\": 42, \"id\": 7}"), Some("42".into()));
    assert_eq!(opened(Format::GitLab, "{\"iid\": 5, \"id\": 7}"), Some("5".into()));
    for (format, answer) in
        [(Format::Slack, "{\"number\": 42}"), (Format::GitHub, "ok"), (Format::GitHub, "[]")]
    {
        assert_eq!(opened(format, answer), None);
    }
    let (firing, end) = (notification("firing"), notification("resolved"));
    for (format, add, close) in [
        (Format::GitHub, "/issues/42/comments", "/issues/42"),
        (Format::GitLab, "/issues/42/notes", "/issues/42"),
    ] {
        let added = render(&webhook(format), attempt(&firing, Some("42")), &secrets()).unwrap();
        let closed = render(&webhook(format), attempt(&end, Some("42")), &secrets()).unwrap();
        assert!(added.url.ends_with(add) && closed.url.ends_with(close), "{} {}", added.url, closed.url);
        assert_eq!(render(&webhook(format), attempt(&end, None), &secrets()), Err(RenderError::NoIssue));
    }
}

#[test]
fn what_is_missing_may_come_and_what_is_wrong_stays_wrong() {
    let notification = notification("firing");
    let missing = Secrets::new(BTreeMap::from([(Secret::File("token".into()), Err("not there".to_owned()))]));
    let error = render(&webhook(Format::PagerDuty), attempt(&notification, None), &missing).unwrap_err();
    assert!(error.may_pass() && error.to_string() == "not there");
    let wrong = Webhook { body: Some("{{ alert.nothing.x }}".into()), ..webhook(Format::Template) };
    let error = render(&wrong, attempt(&notification, None), &secrets()).unwrap_err();
    assert!(!error.may_pass() && error.to_string().contains("line 1"), "{error}");
}

/// What checks print and people name has any form.
#[test]
fn long_and_odd_texts_stay_within_what_receivers_take() {
    let mut notification = notification("firing");
    notification.alert.summary = "ä\u{0}\n\"<>&`*@".repeat(20_000);
    for info in FORMATS
        .iter()
        .filter(|info| !matches!(info.format, Format::Dogwatch | Format::Alertmanager | Format::Template))
    {
        let request = render(&webhook(info.format), attempt(&notification, None), &secrets()).unwrap();
        assert!(request.body.len() < 32 * 1024, "{}: {}", info.name, request.body.len());
    }
    let letter = mail::letter(&notification);
    assert!(!letter.subject.contains('\n') && letter.message_id == "<0123456789abcdef.firing.ops@dogwatch>");
    assert_eq!(letter.reply_to, None);
    assert_eq!(mail::letter(&self::notification("resolved")).reply_to, Some(letter.message_id));
}
