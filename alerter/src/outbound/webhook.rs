//! One attempt to deliver one notification by HTTP.
//!
//! A receiver's URL may hold a secret: neither logs nor reasons say more of it than the host.

use std::time::Duration;

use protocol::{alert::Notification, document::Webhook};
use reqwest::{Client, Response, header, redirect};
use serde::Serialize;
use service_kit::report;

use crate::core::attempt::Answer;

/// A receiver's timeout is kept within these.
const TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Bytes of an answer that are read, so that the connection can be used again.
const ANSWER: usize = 64 * 1024;

/// The body: the alert, and for whom it is.
#[derive(Serialize)]
struct Body<'a> {
    receiver: &'a protocol::ReceiverName,
    #[serde(flatten)]
    alert: &'a protocol::alert::Alert,
}

/// A client that goes where it is told and nowhere else.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client() -> Result<Client, reqwest::Error> {
    // Whoever was first in this process has installed the same.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("dogwatch/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
}

/// Host and port of a URL, which may be shown.
#[must_use]
pub fn host(url: &str) -> String {
    let parsed = url::Url::parse(url).ok();
    parsed
        .as_ref()
        .and_then(|url| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Some(format!("{}{port}", url.host_str()?))
        })
        .unwrap_or_else(|| "an address that is not a URL".to_owned())
}

/// POST the notification once.
pub async fn post(client: &Client, webhook: &Webhook, notification: &Notification, now_ms: u64) -> Answer {
    let body = Body { receiver: &notification.receiver, alert: &notification.alert };
    let sent = client
        .post(&webhook.url)
        .timeout(webhook.timeout.clamp(TIMEOUT.0, TIMEOUT.1))
        .header("webhook-id", notification.message_id())
        .header("webhook-timestamp", now_ms / 1_000)
        .json(&body)
        .send();
    match sent.await {
        Ok(response) => {
            let answer =
                Answer::Status { code: response.status().as_u16(), retry_after: retry_after(&response) };
            drain(response).await;
            answer
        }
        Err(error) => {
            let reason = format!("{} does not answer: {}", host(&webhook.url), report(&error.without_url()));
            Answer::Nothing { reason }
        }
    }
}

/// `Retry-After` in seconds; its form as a date is rare and not understood.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// The status counts; what follows it is read only so far that the connection can be used again.
async fn drain(mut response: Response) {
    let mut read = 0;
    while read < ANSWER {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_url_only_the_host_is_shown() {
        assert_eq!(host("https://me:pw@hooks.example.com:8443/T0/s3cret?x=y"), "hooks.example.com:8443");
        assert_eq!(host("http://[::1]/s3cret"), "[::1]");
        assert_eq!(host("s3cret"), "an address that is not a URL");
    }

    #[tokio::test]
    async fn a_secret_in_a_url_is_in_no_reason() {
        let client = client().unwrap();
        let notification: Notification = serde_json::from_value(serde_json::json!({
            "v": 1, "receiver": "ops", "alert": {
                "v": 1, "id": "x", "agent": "web-01", "rule": "full", "check": "disk", "state": "firing",
                "severity": "warning", "summary": "", "started_ms": 1, "at_ms": 1,
            },
        }))
        .unwrap();
        for url in [
            "http://127.0.0.1:1/s3cret?s3cret",
            "http://s3cret:s3cret@127.0.0.1:1/",
            "https://127.0.0.1:1/s3cret",
            "http://[s3cret",
            "s3cret",
            "ftp://127.0.0.1/s3cret",
        ] {
            let webhook = Webhook { url: url.to_owned(), timeout: Duration::from_secs(5) };
            let answer = post(&client, &webhook, &notification, 1_000).await;
            let Answer::Nothing { reason } = answer else { panic!("{url}: {answer:?}") };
            assert!(!reason.contains("s3cret"), "{reason}");
        }
    }
}
