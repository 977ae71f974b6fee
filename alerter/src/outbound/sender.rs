//! One attempt to deliver one notification to one receiver, whatever kind it is of.

use std::{path::PathBuf, sync::Arc};

use protocol::{
    alert::Notification,
    receiver::{Method, Receiver},
};

use super::{
    http::{Clients, host},
    mailer,
    secret_store::SecretStore,
};
use crate::core::{
    attempt::Answer,
    guard::Policy,
    notify::{self, Attempt, Request, Secrets, mail, secrets},
};

/// What came of an attempt.
#[derive(Debug)]
pub struct Sent {
    pub answer: Answer,
    /// The beginning of what the receiver said.
    pub text: String,
    /// What it opened, for formats that close it again.
    pub opened: Option<String>,
}

/// Sends to receivers within the policy.
pub struct Sender {
    policy: Arc<Policy>,
    clients: Clients,
    secrets: SecretStore,
}

impl Sender {
    #[must_use]
    pub fn new(policy: Policy, secrets: PathBuf) -> Self {
        let policy = Arc::new(policy);
        Self { clients: Clients::new(Arc::clone(&policy)), policy, secrets: SecretStore::new(secrets) }
    }

    pub async fn send(&self, receiver: &Receiver, attempt: Attempt<'_>) -> Sent {
        let nothing = |answer| Sent { answer, text: String::new(), opened: None };
        if let Some(webhook) = &receiver.webhook {
            let secrets = self.secrets.read(secrets::of_webhook(webhook)).await;
            let request = match notify::render(webhook, attempt, &secrets) {
                Ok(request) => request,
                Err(error) if error.may_pass() => {
                    return nothing(Answer::Nothing { reason: error.to_string() });
                }
                Err(error) => return nothing(Answer::Refused { reason: error.to_string() }),
            };
            let came = self.clients.send(webhook, &request, &secrets).await;
            let opened = match came.answer {
                Answer::Status { code: 200..=299, .. } => notify::opened(webhook.format, &came.text),
                _ => None,
            };
            return Sent { answer: came.answer, text: came.text, opened };
        }
        let Some(email) = &receiver.email else {
            let reason = "this version knows no way to tell it".to_owned();
            return nothing(Answer::Refused { reason });
        };
        let secrets = self.secrets.read(secrets::of_email(email)).await;
        let came = mailer::send(&self.policy, email, attempt.notification, &secrets).await;
        Sent { answer: came.answer, text: came.text, opened: None }
    }

    /// The request that [`Self::send`] makes, with stars for secrets, and of a URL the host.
    #[must_use]
    pub fn shown(receiver: &Receiver, attempt: Attempt<'_>) -> Request {
        let shown =
            |url: String, body: String| Request { method: Method::Post, url, headers: Vec::new(), body };
        match (&receiver.webhook, &receiver.email) {
            (Some(webhook), _) => match notify::render(webhook, attempt, &Secrets::stars()) {
                // The address may hold a secret, wherever it came from; the format's own path does not.
                Ok(request) if webhook.url.is_empty() => request,
                Ok(request) => Request { url: masked(&request.url), ..request },
                Err(error) => shown(String::new(), error.to_string()),
            },
            (None, Some(email)) => {
                let letter = mail::letter(attempt.notification);
                let text = format!(
                    "From: {}\nTo: {}\nSubject: {}\nMessage-ID: {}\n\n{}",
                    email.from,
                    email.to.join(", "),
                    letter.subject,
                    letter.message_id,
                    letter.text
                );
                shown(format!("smtp://{}", email.server), text)
            }
            (None, None) => shown(String::new(), String::new()),
        }
    }
}

fn masked(url: &str) -> String {
    let scheme = url.split("://").next().filter(|scheme| *scheme == "https").unwrap_or("http");
    format!("{scheme}://{}/…", host(url))
}

/// What a receiver is sent to see whether it works: nothing is wrong.
#[must_use]
pub fn test_notification(receiver: &Receiver, now_ms: u64) -> Option<Notification> {
    let alert = serde_json::from_value(serde_json::json!({
        "v": protocol::VERSION,
        "id": format!("test-{now_ms}"),
        "agent": "dogwatch",
        "rule": "receiver_test",
        "check": "receiver_test",
        "state": "firing",
        "severity": "info",
        "summary": "This is a test of a receiver: nothing is wrong.",
        "value": 1,
        "started_ms": now_ms,
        "at_ms": now_ms,
    }));
    Some(Notification { v: protocol::VERSION, receiver: receiver.name.clone(), alert: alert.ok()? })
}
