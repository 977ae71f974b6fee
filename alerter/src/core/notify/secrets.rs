//! The secrets that a receiver names, read; or stars in their place, to show a request.

use std::collections::{BTreeMap, BTreeSet};

use protocol::receiver::{ClientTls, Email, HeaderText, Secret, Webhook};

use super::RenderError;

/// What stands for a secret where people see it.
pub const STARS: &str = "***";

/// Values by their names.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<Secret, Result<String, String>>,
    stars: bool,
}

impl Secrets {
    /// `values`: each value, or why it cannot be read.
    #[must_use]
    pub fn new(values: BTreeMap<Secret, Result<String, String>>) -> Self {
        Self { values, stars: false }
    }

    #[must_use]
    pub fn stars() -> Self {
        Self { values: BTreeMap::new(), stars: true }
    }

    #[must_use]
    pub fn are_stars(&self) -> bool {
        self.stars
    }

    /// # Errors
    /// [`RenderError::Secret`] with the reason.
    pub fn get(&self, secret: &Secret) -> Result<&str, RenderError> {
        match self.values.get(secret) {
            _ if self.stars => Ok(STARS),
            Some(Ok(value)) => Ok(value),
            Some(Err(reason)) => Err(RenderError::Secret(reason.clone())),
            None => Err(RenderError::Secret("a secret was not read".to_owned())),
        }
    }

    /// `text` without any of the values: what others say of a request may repeat them.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        let mut hidden = text.to_owned();
        for value in self.values.values().flatten() {
            // Of certificates and the like each line; what is short is no secret and would hide too much.
            for part in value.lines().map(str::trim).filter(|part| part.len() >= 6) {
                hidden = hidden.replace(part, STARS);
            }
        }
        hidden
    }
}

/// All that a webhook names.
#[must_use]
pub fn of_webhook(webhook: &Webhook) -> BTreeSet<Secret> {
    let headers = webhook.headers.values().filter_map(|text| match text {
        HeaderText::From(secret) => Some(secret),
        HeaderText::Text(_) => None,
    });
    let basic = webhook.basic.as_ref().map(|basic| &basic.password);
    let own = [&webhook.url_from, &webhook.token, &webhook.bearer].into_iter().flatten();
    let all = own.chain(basic).chain(&webhook.sign).chain(headers);
    all.chain(webhook.tls.iter().flat_map(of_tls)).cloned().collect()
}

/// All that a mail names.
#[must_use]
pub fn of_email(email: &Email) -> BTreeSet<Secret> {
    let login = email.login.as_ref().map(|login| &login.password);
    login.into_iter().chain(&email.ca).cloned().collect()
}

fn of_tls(tls: &ClientTls) -> impl Iterator<Item = &Secret> {
    [&tls.ca, &tls.certificate, &tls.key].into_iter().flatten()
}
