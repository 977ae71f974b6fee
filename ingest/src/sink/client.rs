//! One request of remote write.

use std::{fs, path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use service_kit::{report, settings::WrongSettings};
use url::Url;

use super::settings::RemoteWrite;
use crate::core::remote::Answer;

const TIMEOUT: Duration = Duration::from_secs(30);
/// As much of a refusal as is read.
const ANSWER: usize = 16 * 1024;
/// As much of it as is told, in characters.
const TOLD: usize = 300;

/// An answer, and what the receiver said.
pub(super) struct Reply {
    pub(super) answer: Answer,
    /// Status, 0 where there was none, for counting.
    pub(super) status: u16,
    pub(super) text: String,
}

pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    host: String,
}

impl Client {
    /// `None` when no receiver is set.
    ///
    /// # Errors
    /// [`WrongSettings`].
    pub(super) fn new(settings: &RemoteWrite) -> anyhow::Result<Option<Self>> {
        let Some(url) = settings.url()? else { return Ok(None) };
        // Whoever was first in this process has installed the same.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        let version = HeaderName::from_static("x-prometheus-remote-write-version");
        headers.insert(version, HeaderValue::from_static("0.1.0"));
        if let Some(tenant) = &settings.remote_write_tenant {
            let value = HeaderValue::from_str(tenant)
                .map_err(|_| WrongSettings("--remote-write-tenant cannot stand in a header".into()))?;
            headers.insert(HeaderName::from_static("x-scope-orgid"), value);
        }
        if let Some(file) = &settings.remote_write_token_file {
            headers.insert(header::AUTHORIZATION, secret(&format!("Bearer {}", word_in(file)?), file)?);
        }
        if let Some(file) = &settings.remote_write_login_file {
            let login = word_in(file)?;
            anyhow::ensure!(
                login.contains(':'),
                WrongSettings(format!("{} for remote write does not hold user:password", file.display()))
            );
            headers
                .insert(header::AUTHORIZATION, secret(&format!("Basic {}", STANDARD.encode(login)), file)?);
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("dogwatch/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .timeout(TIMEOUT)
            .build()?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", url.host_str().unwrap_or_default());
        Ok(Some(Self { http, url, host }))
    }

    /// Host and port, which may be shown; the path may hold a secret.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) async fn post(&self, body: Vec<u8>) -> Reply {
        let sent = self.http.post(self.url.clone()).body(body).send().await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                let text = report(&error.without_url());
                return Reply { answer: Answer::Later(None), status: 0, text };
            }
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let answer = Answer::of(status, retry_after);
        let mut body = Vec::new();
        while body.len() < ANSWER
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&body);
        let text = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(TOLD).collect();
        Reply { answer, status, text }
    }
}

fn word_in(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file).map_err(|error| {
        WrongSettings(format!("cannot read {} for remote write: {error}", file.display()))
    })?;
    let word = text.trim();
    anyhow::ensure!(!word.is_empty(), WrongSettings(format!("{} for remote write is empty", file.display())));
    Ok(word.to_owned())
}

fn secret(text: &str, file: &Path) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| WrongSettings(format!("what {} holds cannot stand in a header", file.display())))?;
    value.set_sensitive(true);
    Ok(value)
}
