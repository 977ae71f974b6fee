//! The body that each format asks for, and what else differs: path, sign-in, type of content.

use documents::BodyTemplate;
use protocol::{
    alert::{Alert, AlertState, Notification, Severity},
    receiver::{Format, Method, Webhook},
    timestamp,
};
use serde::Serialize;
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use super::{Attempt, RenderError, Secrets, alertmanager};

const JSON: &str = "application/json";

/// What a format makes of a notification.
pub(super) struct Content {
    /// Behind the address; `None` where the address is the whole.
    pub(super) path: Option<String>,
    pub(super) method: Method,
    pub(super) content_type: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Content {
    fn json(body: &impl Serialize) -> Self {
        Self {
            path: None,
            method: Method::Post,
            content_type: JSON.to_owned(),
            headers: Vec::new(),
            // Of plain structs nothing fails to be JSON.
            body: serde_json::to_string(body).unwrap_or_default(),
        }
    }

    fn at(self, path: String) -> Self {
        Self { path: Some(path), ..self }
    }

    fn header(mut self, name: &str, value: String) -> Self {
        self.headers.push((name.to_owned(), value));
        self
    }
}

/// The body `dogwatch`, and what a template sees: the alert, and for whom it is.
#[derive(Serialize)]
struct Own<'a> {
    receiver: &'a protocol::ReceiverName,
    #[serde(flatten)]
    alert: &'a Alert,
}

#[derive(Serialize)]
struct Seen<'a> {
    receiver: &'a protocol::ReceiverName,
    alert: &'a Alert,
    title: &'a str,
}

pub(super) fn content(
    webhook: &Webhook,
    attempt: Attempt<'_>,
    secrets: &Secrets,
) -> Result<Content, RenderError> {
    let Notification { receiver, alert, .. } = attempt.notification;
    let words = Words::of(alert);
    let to = webhook.to.as_deref().unwrap_or_default();
    let token = || webhook.token.as_ref().map(|token| secrets.get(token)).transpose();
    let needed = || Ok::<_, RenderError>(token()?.unwrap_or_default());
    Ok(match webhook.format {
        Format::Dogwatch => Content::json(&Own { receiver, alert }),
        Format::Alertmanager => Content::json(&alertmanager::body(attempt.notification)),
        Format::Slack => Content::json(&slack(&words)),
        Format::Discord => Content::json(&discord(&words, alert)),
        Format::Teams => Content::json(&teams(&words)),
        Format::GoogleChat => Content::json(&google_chat(&words, alert)),
        Format::Mattermost => Content::json(&mattermost(&words)),
        Format::PagerDuty => {
            Content::json(&pager_duty(&words, alert, needed()?)).at("/v2/enqueue".to_owned())
        }
        Format::Ntfy => {
            let content = Content::json(&ntfy(&words, to)).at("/".to_owned());
            match token()? {
                Some(token) => content.header("authorization", format!("Bearer {token}")),
                None => content,
            }
        }
        Format::Telegram => {
            // A bot's token is digits, a colon and letters; anything else must not become another path.
            let path = format!("/bot{}/sendMessage", segment(needed()?).replace("%3A", ":"));
            let text = cut(&format!("{}\n{}", words.title, words.text), 4_096);
            Content::json(
                &json!({"chat_id": to, "text": text, "link_preview_options": {"is_disabled": true}}),
            )
            .at(path)
        }
        Format::Pushover => pushover(&words, alert, to, needed()?),
        Format::GitHub => {
            let issues =
                format!("/repos/{}/issues", to.split('/').map(segment).collect::<Vec<_>>().join("/"));
            let content = match follow(alert, attempt.opened)? {
                Follow::Open => {
                    Content::json(&json!({"title": words.title, "body": words.markdown()})).at(issues)
                }
                Follow::Add(issue) => Content::json(&json!({"body": words.markdown()}))
                    .at(format!("{issues}/{}/comments", segment(issue))),
                Follow::Close(issue) => Content {
                    method: Method::Patch,
                    ..Content::json(&json!({"state": "closed", "state_reason": "completed"}))
                }
                .at(format!("{issues}/{}", segment(issue))),
            };
            content
                .header("authorization", format!("Bearer {}", needed()?))
                .header("accept", "application/vnd.github+json".to_owned())
                .header("x-github-api-version", "2022-11-28".to_owned())
        }
        Format::GitLab => {
            let issues = format!("/api/v4/projects/{}/issues", segment(to));
            let content = match follow(alert, attempt.opened)? {
                Follow::Open => {
                    Content::json(&json!({"title": words.title, "description": words.markdown()})).at(issues)
                }
                Follow::Add(issue) => Content::json(&json!({"body": words.markdown()}))
                    .at(format!("{issues}/{}/notes", segment(issue))),
                Follow::Close(issue) => {
                    Content { method: Method::Put, ..Content::json(&json!({"state_event": "close"})) }
                        .at(format!("{issues}/{}", segment(issue)))
                }
            };
            content.header("private-token", needed()?.to_owned())
        }
        Format::Template => {
            let template = BodyTemplate::compile(webhook.body.as_deref().unwrap_or_default())?;
            let body = template.render(&Seen { receiver, alert, title: &words.title })?;
            let content_type = webhook.content_type.clone().unwrap_or_else(|| JSON.to_owned());
            Content { body, content_type, ..Content::json(&Value::Null) }
        }
    })
}

/// What the answer to a firing says of what was opened, for formats that close it again.
#[must_use]
pub fn opened(format: Format, answer: &str) -> Option<String> {
    let field = match format {
        Format::GitHub => "number",
        Format::GitLab => "iid",
        _ => return None,
    };
    let answer: Value = serde_json::from_str(answer).ok()?;
    answer.get(field)?.as_u64().map(|number| number.to_string())
}

/// What to do with the issue of an alert.
enum Follow<'a> {
    Open,
    Add(&'a str),
    Close(&'a str),
}

fn follow<'a>(alert: &Alert, opened: Option<&'a str>) -> Result<Follow<'a>, RenderError> {
    match (alert.state, opened) {
        (AlertState::Resolved, Some(issue)) => Ok(Follow::Close(issue)),
        (AlertState::Resolved, None) => Err(RenderError::NoIssue),
        (_, Some(issue)) => Ok(Follow::Add(issue)),
        (_, None) => Ok(Follow::Open),
    }
}

/// An alert in the words that all formats share.
pub(super) struct Words {
    /// `FIRING: full on web-01`
    pub(super) title: String,
    pub(super) text: String,
    pub(super) facts: Vec<(&'static str, String)>,
    color: u32,
    /// As adaptive cards call it.
    style: &'static str,
}

impl Words {
    pub(super) fn of(alert: &Alert) -> Self {
        let resolved = alert.state == AlertState::Resolved;
        let (color, style) = match alert.severity {
            _ if resolved => (0x2e_7d32, "Good"),
            Severity::Critical => (0xd3_2f2f, "Attention"),
            Severity::Warning => (0xf9_a825, "Warning"),
            Severity::Info => (0x19_76d2, "Accent"),
        };
        let state = alert.state.as_str().to_uppercase();
        let mut facts = vec![
            ("Host", alert.agent.to_string()),
            ("Check", alert.check.to_string()),
            ("Severity", alert.severity.to_string()),
        ];
        if let Some(value) = &alert.value {
            let unit = alert.unit.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
            facts.push(("Value", cut(&format!("{value}{unit}"), 200)));
        }
        facts.push(("Since", timestamp::format(alert.started_ms)));
        Self {
            title: format!("{state}: {} on {}", alert.rule, alert.agent),
            text: cut(&alert.summary, 2_000),
            facts,
            color,
            style,
        }
    }

    fn hex(&self) -> String {
        format!("#{:06x}", self.color)
    }

    fn markdown(&self) -> String {
        let facts: Vec<String> = self
            .facts
            .iter()
            .map(|(name, value)| format!("- {name}: `{}`", value.replace('`', "'")))
            .collect();
        // What a check printed must neither call people nor make links.
        format!("{}\n\n{}\n", self.text.replace('@', "@\u{200b}").replace('<', "&lt;"), facts.join("\n"))
    }
}

/// At most so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// One segment of a path.
fn segment(text: &str) -> String {
    let segment = byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
    // A path must not climb.
    if segment == "." || segment == ".." { "_".to_owned() } else { segment }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn slack(words: &Words) -> Value {
    let field = |(name, value): &(&str, String)| json!({"type": "mrkdwn", "text": format!("*{name}*\n{}", escaped(value))});
    let fields: Vec<Value> = words.facts.iter().map(field).collect();
    let text = format!("*{}*\n{}", escaped(&words.title), escaped(&words.text));
    json!({
        "text": escaped(&words.title),
        "attachments": [{
            "color": words.hex(),
            "blocks": [
                {"type": "section", "text": {"type": "mrkdwn", "text": text}},
                {"type": "section", "fields": fields},
            ],
        }],
    })
}

fn mattermost(words: &Words) -> Value {
    let field = |(name, value): &(&str, String)| json!({"short": true, "title": name, "value": value});
    json!({
        "attachments": [{
            "fallback": words.title,
            "color": words.hex(),
            "title": words.title,
            // `@all` in what a check printed calls nobody.
            "text": words.text.replace('@', "@\u{200b}"),
            "fields": words.facts.iter().map(field).collect::<Vec<_>>(),
        }],
    })
}

fn discord(words: &Words, alert: &Alert) -> Value {
    let field = |(name, value): &(&str, String)| json!({"name": name, "value": value, "inline": true});
    json!({
        "embeds": [{
            "title": cut(&words.title, 256),
            "description": words.text,
            "color": words.color,
            "fields": words.facts.iter().map(field).collect::<Vec<_>>(),
            "timestamp": timestamp::format(alert.at_ms),
        }],
        "allowed_mentions": {"parse": []},
    })
}

fn teams(words: &Words) -> Value {
    let fact = |(name, value): &(&str, String)| json!({"title": name, "value": value});
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    {"type": "TextBlock", "size": "Medium", "weight": "Bolder", "color": words.style, "text": words.title, "wrap": true},
                    {"type": "TextBlock", "text": words.text, "wrap": true},
                    {"type": "FactSet", "facts": words.facts.iter().map(fact).collect::<Vec<_>>()},
                ],
            },
        }],
    })
}

fn google_chat(words: &Words, alert: &Alert) -> Value {
    let widget =
        |(name, value): &(&str, String)| json!({"decoratedText": {"topLabel": name, "text": escaped(value)}});
    let mut widgets = vec![json!({"textParagraph": {"text": escaped(&words.text)}})];
    widgets.extend(words.facts.iter().map(widget));
    json!({
        "text": words.title,
        "cardsV2": [{
            "cardId": alert.message_id(),
            "card": {"header": {"title": words.title}, "sections": [{"widgets": widgets}]},
        }],
    })
}

fn pager_duty(words: &Words, alert: &Alert, routing_key: &str) -> Value {
    let action = if alert.state == AlertState::Resolved { "resolve" } else { "trigger" };
    json!({
        "routing_key": routing_key,
        "event_action": action,
        // The same from the first firing to the end.
        "dedup_key": alert.id,
        "client": "dogwatch",
        "payload": {
            "summary": cut(&words.text, 1_024),
            "source": alert.agent,
            "severity": alert.severity,
            "timestamp": timestamp::format(alert.at_ms),
            "component": alert.check,
            "class": alert.rule,
            "custom_details": {"value": alert.value, "unit": alert.unit, "labels": alert.labels},
        },
    })
}

fn ntfy(words: &Words, topic: &str) -> Value {
    let (priority, tag) = match words.style {
        "Good" => (3, "white_check_mark"),
        "Attention" => (5, "rotating_light"),
        "Warning" => (4, "warning"),
        _ => (3, "information_source"),
    };
    json!({"topic": topic, "title": words.title, "message": words.text, "priority": priority, "tags": [tag]})
}

fn pushover(words: &Words, alert: &Alert, user: &str, token: &str) -> Content {
    let priority = match (alert.state, alert.severity) {
        (AlertState::Resolved, _) | (_, Severity::Warning) => "0",
        (_, Severity::Critical) => "1",
        (_, Severity::Info) => "-1",
    };
    let at = (alert.at_ms / 1_000).to_string();
    let (title, message) = (cut(&words.title, 250), cut(&words.text, 1_024));
    let fields = [
        ("token", token),
        ("user", user),
        ("title", &title),
        ("message", &message),
        ("priority", priority),
        ("timestamp", &at),
    ];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let content_type = "application/x-www-form-urlencoded".to_owned();
    Content { body, content_type, ..Content::json(&Value::Null) }.at("/1/messages.json".to_owned())
}
