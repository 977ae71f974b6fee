//! What a receiver is sent: one pure function from a notification to a request. Formats differ in [`preset`]; addresses,
//! headers, sign-in and signatures are the same for all of them.

mod alertmanager;
pub mod gate;
pub mod mail;
mod preset;
pub mod secrets;
pub mod sign;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use documents::TemplateError;
use protocol::{
    alert::Notification,
    receiver::{HeaderText, Method, Webhook},
};

pub use preset::opened;
pub use secrets::Secrets;
use sign::KeyError;

/// One HTTP request, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub url: String,
    /// In order; no name stands twice.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// What only this attempt knows.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    pub notification: &'a Notification,
    pub now_ms: u64,
    /// What [`opened`] found in the answer to the firing, where that was told.
    pub opened: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("{0}")]
    Secret(String),
    #[error("a key of \"sign\" cannot be used: {0}")]
    Key(#[from] KeyError),
    #[error("its template fails: {0}")]
    Template(#[from] TemplateError),
    #[error("the issue that was opened for this alert is not known: close it by hand")]
    NoIssue,
}

impl RenderError {
    /// Whether it may succeed later, without a change of the document.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::Key(_))
    }
}

/// # Errors
/// [`RenderError`]: a secret is missing or no key, or the template fails.
pub fn render(webhook: &Webhook, attempt: Attempt<'_>, secrets: &Secrets) -> Result<Request, RenderError> {
    let base = match &webhook.url_from {
        Some(secret) => secrets.get(secret)?,
        None if webhook.url.is_empty() => webhook.format.info().url.unwrap_or_default(),
        None => &webhook.url,
    };
    let content = preset::content(webhook, attempt, secrets)?;
    let url = match &content.path {
        Some(path) => format!("{}{path}", base.trim_end_matches('/')),
        None => base.to_owned(),
    };
    let id = attempt.notification.message_id();
    let timestamp = (attempt.now_ms / 1_000).to_string();
    let mut headers = vec![("content-type".to_owned(), content.content_type)];
    headers.extend(content.headers);
    if !webhook.sign.is_empty() {
        let keys = webhook.sign.iter().map(|key| secrets.get(key)).collect::<Result<Vec<_>, _>>()?;
        let signature = sign::signatures(&keys, &id, &timestamp, &content.body)?;
        headers.push(("webhook-signature".to_owned(), signature));
    }
    headers.push(("webhook-id".to_owned(), id));
    headers.push(("webhook-timestamp".to_owned(), timestamp));
    if let Some(bearer) = &webhook.bearer {
        headers.push(("authorization".to_owned(), format!("Bearer {}", secrets.get(bearer)?)));
    }
    if let Some(basic) = &webhook.basic {
        let pair = format!("{}:{}", basic.username, secrets.get(&basic.password)?);
        // What stands for a secret is shown as it is.
        let pair = if secrets.are_stars() { secrets::STARS.to_owned() } else { STANDARD.encode(pair) };
        headers.push(("authorization".to_owned(), format!("Basic {pair}")));
    }
    for (name, text) in &webhook.headers {
        let text = match text {
            HeaderText::Text(text) => text.clone(),
            HeaderText::From(secret) => secrets.get(secret)?.to_owned(),
        };
        let name = name.to_ascii_lowercase();
        // What the document says wins over what the format says.
        headers.retain(|(there, _)| *there != name);
        headers.push((name, text));
    }
    let method = webhook.method.unwrap_or(content.method);
    Ok(Request { method, url, headers, body: content.body })
}

#[cfg(test)]
mod tests;
